//! An answer as a whole.

use serde_json::Value;

use super::event::{Event, Failure, FinishReason, Tokens};
use super::run::Run;

/// All that a model said.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The model that answered, by its own name.
    pub model: Option<String>,
    /// Its thoughts, as far as the provider tells them.
    pub thinking: String,
    /// Its words.
    pub text: String,
    /// What it called: id, tool and arguments.
    pub calls: Vec<(String, String, Value)>,
    /// Why it ended.
    pub reason: FinishReason,
    /// What it took.
    pub tokens: Tokens,
}

impl Answer {
    /// Waits for the end of a run.
    pub async fn of(mut run: Run) -> Result<Self, Failure> {
        let mut answer = Self {
            model: None,
            thinking: String::new(),
            text: String::new(),
            calls: Vec::new(),
            reason: FinishReason::Stop,
            tokens: Tokens::default(),
        };
        while let Some(event) = run.next().await {
            match event {
                Event::Model(model) => answer.model = Some(model),
                Event::Thinking(piece) => answer.thinking += &piece,
                Event::Text(piece) => answer.text += &piece,
                Event::CallEnded { id, name, input } => answer.calls.push((id, name, input)),
                Event::Finished { reason, tokens } => {
                    answer.reason = reason;
                    answer.tokens = tokens;
                    return Ok(answer);
                }
                Event::Failed(failure) => return Err(failure),
                _ => {}
            }
        }
        Err(Failure::new("ended", "the run ended without an answer"))
    }
}
