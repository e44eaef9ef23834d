//! A whole answer.

use super::conversation::{Message, Thinking, ToolCall};
use super::event::{Event, Failure, FinishReason};
use super::run::Run;
use crate::tokens::Tokens;

/// Everything that a model answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The model that answered, by its own name.
    pub model: Option<String>,
    /// Its thoughts, if the provider reveals them. The signature is empty if there is none.
    pub thinking: Vec<Thinking>,
    /// Its text.
    pub text: String,
    /// Its tool calls.
    pub calls: Vec<ToolCall>,
    /// Why it ended.
    pub reason: FinishReason,
    /// The tokens used.
    pub tokens: Tokens,
}

impl Default for Answer {
    fn default() -> Self {
        Self {
            model: None,
            thinking: Vec::new(),
            text: String::new(),
            calls: Vec::new(),
            reason: FinishReason::Stop,
            tokens: Tokens::default(),
        }
    }
}

impl Answer {
    /// Collects a run to its end.
    pub async fn of(mut run: Run) -> Result<Self, Failure> {
        let mut answer = Self::default();
        while let Some(event) = run.next().await {
            answer.hear(&event);
            match event {
                Event::Finished { .. } => return Ok(answer),
                Event::Failed(failure) => return Err(failure),
                _ => {}
            }
        }
        Err(Failure::new("ended", "the run ended without an answer"))
    }

    /// Adds an event.
    pub fn hear(&mut self, event: &Event) {
        match event {
            Event::Model(model) => self.model = Some(model.clone()),
            Event::ThinkingStarted => {
                self.thinking.push(Thinking { text: String::new(), signature: String::new() });
            }
            Event::Thinking(piece) => {
                if let Some(thought) = self.thinking.last_mut() {
                    thought.text += piece;
                }
            }
            Event::ThinkingEnded { signature: Some(signature) } => {
                if let Some(thought) = self.thinking.last_mut() {
                    thought.signature.clone_from(signature);
                }
            }
            Event::Text(piece) => self.text += piece,
            Event::CallStarted { id, name, signature } => self.calls.push(ToolCall {
                id: id.clone(),
                name: name.clone(),
                arguments: String::new(),
                signature: signature.clone(),
            }),
            Event::CallArguments { id, delta } => {
                if let Some(call) = self.calls.iter_mut().rfind(|call| call.id == *id) {
                    call.arguments += delta;
                }
            }
            Event::Finished { reason, tokens } => {
                self.reason = *reason;
                self.tokens = *tokens;
            }
            _ => {}
        }
    }

    /// Converts it to a message of the conversation. Thoughts without a signature are dropped,
    /// because providers reject them.
    pub fn message(self) -> Message {
        let Self { mut thinking, text, calls, .. } = self;
        thinking.retain(|thought| !thought.signature.is_empty());
        Message::Assistant { thinking, text, calls }
    }
}
