//! Puts a provider's output in order.
//!
//! Providers differ in what they announce: some mark where a text begins and ends, others just send
//! pieces of whatever comes next. The reader of a provider's stream emits [`Delta`]s, and this
//! module turns them into [`Event`]s that keep the promises of [`Event`].

use std::collections::VecDeque;

use serde_json::{Map, Value};

use super::event::{Event, Failure, FinishReason};
use crate::tokens::Tokens;

/// Maximum calls in one answer. A model that makes more has gone astray.
const CALLS: usize = 1024;

/// One piece of a provider's output.
#[derive(Debug, Clone, PartialEq)]
pub enum Delta {
    /// The name of the model that answers.
    Model(String),
    /// A piece of a thought.
    Thinking(String),
    /// The signature of the preceding thought.
    Signature(String),
    /// A piece of text.
    Text(String),
    /// Start of a call.
    Call {
        /// The provider's key for this call within the stream.
        key: String,
        /// The id that the result refers to.
        id: String,
        /// The tool's name.
        name: String,
        /// The signature of the thought behind it.
        signature: Option<String>,
    },
    /// A piece of a call's arguments.
    Arguments {
        /// The key of the call.
        key: String,
        /// The piece.
        delta: String,
    },
    /// The complete arguments of a call, for a provider that repeats them.
    AllArguments {
        /// The key of the call.
        key: String,
        /// The complete arguments.
        arguments: String,
    },
    /// A call is complete. Providers either send this for every call or for none.
    CallEnd {
        /// The key of the call.
        key: String,
    },
    /// The current text or thought is complete.
    BlockEnd,
    /// The usage so far.
    Tokens(Tokens),
    /// The answer is complete.
    Done(FinishReason),
    /// There is no more.
    Failed(Failure),
}

/// The state of an answer in progress.
#[derive(Debug, Default)]
pub struct Assembly {
    open: Open,
    signature: Option<String>,
    calls: Vec<PendingCall>,
    model: String,
    tokens: Tokens,
    ended: bool,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Open {
    #[default]
    Nothing,
    Thinking,
    Text,
}

#[derive(Debug)]
struct PendingCall {
    key: String,
    id: String,
    name: String,
    arguments: String,
    open: bool,
}

impl Assembly {
    /// The usage so far.
    pub fn tokens(&self) -> Tokens {
        self.tokens
    }

    /// Whether the answer has ended.
    pub fn ended(&self) -> bool {
        self.ended
    }

    /// Applies a delta and appends the resulting events to `events`.
    pub fn push(&mut self, delta: Delta, events: &mut VecDeque<Event>) {
        if self.ended {
            return;
        }
        match delta {
            Delta::Model(model) => {
                if self.model != model {
                    self.model.clone_from(&model);
                    events.push_back(Event::Model(model));
                }
            }
            Delta::Thinking(piece) if piece.is_empty() => {}
            Delta::Thinking(piece) => {
                self.think(events);
                events.push_back(Event::Thinking(piece));
            }
            Delta::Signature(signature) => {
                // A redacted thought has no text, but its signature must be sent back.
                self.think(events);
                self.signature = Some(signature);
            }
            Delta::Text(piece) if piece.is_empty() => {}
            Delta::Text(piece) => {
                if self.open != Open::Text {
                    self.close(events);
                    self.open = Open::Text;
                    events.push_back(Event::TextStarted);
                }
                events.push_back(Event::Text(piece));
            }
            Delta::Call { key, id, name, signature } => {
                self.close(events);
                if self.calls.len() == CALLS {
                    let message = format!("the model called more than {CALLS} tools at once");
                    return self.fail(Failure::new("too_many_calls", message), events);
                }
                let call = PendingCall {
                    key,
                    id: id.clone(),
                    name: name.clone(),
                    arguments: String::new(),
                    open: true,
                };
                self.calls.push(call);
                events.push_back(Event::CallStarted { id, name, signature });
            }
            Delta::Arguments { key, delta } => {
                if let Some(call) = self.call(&key) {
                    call.argue(&delta, events);
                }
            }
            Delta::AllArguments { key, arguments } => {
                if let Some(call) = self.call(&key) {
                    let rest = arguments.strip_prefix(&call.arguments).unwrap_or_default();
                    call.argue(rest, events);
                }
            }
            Delta::CallEnd { key } => {
                if let Some(Err(failure)) = self.call(&key).map(|call| call.end(events)) {
                    self.fail(failure, events);
                }
            }
            Delta::BlockEnd => self.close(events),
            Delta::Tokens(tokens) => self.tokens = tokens,
            Delta::Done(reason) => {
                self.close(events);
                if let Err(failure) = self.end_calls(events) {
                    return self.fail(failure, events);
                }
                // Not all providers report that they stopped for a call.
                let called = reason == FinishReason::Stop && !self.calls.is_empty();
                let reason = if called { FinishReason::ToolCalls } else { reason };
                self.ended = true;
                events.push_back(Event::Finished { reason, tokens: self.tokens });
            }
            Delta::Failed(failure) => self.fail(failure, events),
        }
    }

    /// Ends the answer. Open text is closed; incomplete calls are not, because a client might run
    /// them.
    fn fail(&mut self, failure: Failure, events: &mut VecDeque<Event>) {
        self.close(events);
        self.ended = true;
        events.push_back(Event::Failed(failure));
    }

    fn think(&mut self, events: &mut VecDeque<Event>) {
        if self.open != Open::Thinking {
            self.close(events);
            self.open = Open::Thinking;
            events.push_back(Event::ThinkingStarted);
        }
    }

    fn close(&mut self, events: &mut VecDeque<Event>) {
        match std::mem::take(&mut self.open) {
            Open::Nothing => {}
            Open::Thinking => {
                events.push_back(Event::ThinkingEnded { signature: self.signature.take() })
            }
            Open::Text => events.push_back(Event::TextEnded),
        }
    }

    fn call(&mut self, key: &str) -> Option<&mut PendingCall> {
        // Searches from the end: a provider without keys of its own may reuse one.
        self.calls.iter_mut().rev().find(|call| call.open && call.key == key)
    }

    fn end_calls(&mut self, events: &mut VecDeque<Event>) -> Result<(), Failure> {
        self.calls.iter_mut().filter(|call| call.open).try_for_each(|call| call.end(events))
    }
}

impl PendingCall {
    fn argue(&mut self, delta: &str, events: &mut VecDeque<Event>) {
        if !delta.is_empty() {
            self.arguments.push_str(delta);
            events.push_back(Event::CallArguments { id: self.id.clone(), delta: delta.to_owned() });
        }
    }

    fn end(&mut self, events: &mut VecDeque<Event>) -> Result<(), Failure> {
        self.open = false;
        let input = match self.arguments.trim() {
            "" | "null" => Value::Object(Map::new()),
            arguments => serde_json::from_str(arguments).map_err(|error| {
                let name = &self.name;
                let message =
                    format!("the model called {name} with arguments that are not JSON: {error}");
                Failure::new("invalid_arguments", message)
            })?,
        };
        let (id, name) = (self.id.clone(), self.name.clone());
        events.push_back(Event::CallEnded { id, name, input });
        Ok(())
    }
}
