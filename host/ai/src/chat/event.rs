//! The events of an answer, in one form for all providers.

use serde_json::Value;

use crate::tokens::Tokens;

/// The events of an answer, in order: [`Event::Started`] first, then pieces, then
/// [`Event::Finished`] or [`Event::Failed`], which is the last.
///
/// Only one thought or text is open at a time, and no text while a tool is being called; calls may
/// overlap each other. A run that finishes has ended everything that it started.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The run starts. The provider has not been asked yet.
    Started,
    /// The provider has responded with this model: its own name for the requested one.
    Model(String),
    /// A thought starts.
    ThinkingStarted,
    /// A piece of the thought.
    Thinking(String),
    /// The thought is complete.
    ThinkingEnded {
        /// The signature to send back with the conversation, in this server's format.
        signature: Option<String>,
    },
    /// A text starts.
    TextStarted,
    /// A piece of the text.
    Text(String),
    /// The text is complete.
    TextEnded,
    /// A tool call starts.
    CallStarted {
        /// The id that the result refers to.
        id: String,
        /// The tool's name.
        name: String,
        /// The signature to send back with the conversation.
        signature: Option<String>,
    },
    /// A piece of the call's arguments, JSON text.
    CallArguments {
        /// The id of the call.
        id: String,
        /// The piece.
        delta: String,
    },
    /// The call is complete.
    CallEnded {
        /// The id of the call.
        id: String,
        /// The tool's name.
        name: String,
        /// Its arguments.
        input: Value,
    },
    /// The server has run one of its own actions.
    CallResult {
        /// The id of the call.
        id: String,
        /// The result as JSON text.
        content: String,
        /// Whether the action was refused or failed; the content says why.
        failed: bool,
    },
    /// The answer is complete.
    Finished {
        /// Why it ended.
        reason: FinishReason,
        /// The tokens used.
        tokens: Tokens,
    },
    /// The answer failed or was cut off.
    Failed(Failure),
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinishReason {
    /// The model has finished.
    Stop,
    /// The model waits for the results of its calls.
    ToolCalls,
    /// The answer reached its maximum length.
    Length,
    /// The provider's content filter stopped it.
    ContentFilter,
}

impl FinishReason {
    /// The name of the reason on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::ToolCalls => "tool_calls",
            Self::Length => "length",
            Self::ContentFilter => "content_filter",
        }
    }
}

/// Why an answer failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// A message for the user.
    pub message: String,
    /// The provider's error code, for programs.
    pub code: Option<String>,
}

impl Failure {
    /// A failure with a code.
    pub fn new(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { message: message.into(), code: Some(code.into()) }
    }
}
