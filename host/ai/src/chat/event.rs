//! What a model answers: one form for all providers.

use serde_json::Value;

use crate::tokens::Tokens;

/// What happens while a model answers, in order: [`Event::Started`] first, then pieces, then
/// [`Event::Finished`] or [`Event::Failed`], after which nothing comes.
///
/// Of thinking and text only one is open at a time, and no text while a tool is called; calls may
/// overlap each other. All that was begun is ended before the end of a run that finishes.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The run begins. The provider has not been asked yet.
    Started,
    /// The provider answers, with this model: its own name for what was asked for.
    Model(String),
    /// The model begins to think aloud.
    ThinkingStarted,
    /// A piece of its thoughts.
    Thinking(String),
    /// It has thought.
    ThinkingEnded {
        /// Proof to be sent back with the conversation, in the form that this server wants it.
        signature: Option<String>,
    },
    /// The model begins to speak.
    TextStarted,
    /// A piece of what it says.
    Text(String),
    /// It has spoken.
    TextEnded,
    /// The model begins a call.
    CallStarted {
        /// By which the result is matched.
        id: String,
        /// The tool.
        name: String,
        /// Proof to be sent back with the conversation.
        signature: Option<String>,
    },
    /// A piece of the call's arguments, JSON text.
    CallArguments {
        /// Which call.
        id: String,
        /// The piece.
        delta: String,
    },
    /// The call is complete.
    CallEnded {
        /// Which call.
        id: String,
        /// The tool.
        name: String,
        /// Its arguments.
        input: Value,
    },
    /// The server has run a call of one of its own actions.
    CallResult {
        /// Which call.
        id: String,
        /// What came of it, JSON text.
        content: String,
        /// Whether it was refused or failed; the content says why.
        failed: bool,
    },
    /// The answer is complete.
    Finished {
        /// Why it ended.
        reason: FinishReason,
        /// What it took.
        tokens: Tokens,
    },
    /// There is no answer, or no more of it.
    Failed(Failure),
}

/// Why an answer is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinishReason {
    /// The model has said all.
    Stop,
    /// The model waits for what it called.
    ToolCalls,
    /// The answer is as long as it may be.
    Length,
    /// The provider did not like the rest.
    ContentFilter,
}

impl FinishReason {
    /// What clients call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::ToolCalls => "tool_calls",
            Self::Length => "length",
            Self::ContentFilter => "content_filter",
        }
    }
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// For the person to read.
    pub message: String,
    /// For a program to tell failures apart, in the provider's words.
    pub code: Option<String>,
}

impl Failure {
    /// A failure with a code.
    pub fn new(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { message: message.into(), code: Some(code.into()) }
    }
}
