//! Puts what a provider says in order.
//!
//! Providers differ in what they announce: some say where a text begins and ends, others just send
//! pieces of whatever comes next. A reader of one provider's stream hands on what it hears as
//! [`Delta`]s; this makes [`Event`]s of them that keep the promises of [`Event`].

use std::collections::VecDeque;

use serde_json::{Map, Value};

use super::event::{Event, Failure, FinishReason};
use crate::tokens::Tokens;

/// Calls of one answer. A model that makes more has lost its way.
const CALLS: usize = 1024;

/// Something that a provider said.
#[derive(Debug, Clone, PartialEq)]
pub enum Delta {
    /// Which model answers.
    Model(String),
    /// A piece of its thoughts.
    Thinking(String),
    /// Proof of the thoughts before.
    Signature(String),
    /// A piece of text.
    Text(String),
    /// A call begins.
    Call {
        /// By which the provider tells this call from others in this stream.
        key: String,
        /// By which the result is matched.
        id: String,
        /// The tool.
        name: String,
        /// Proof of the thought behind it.
        signature: Option<String>,
    },
    /// A piece of a call's arguments.
    Arguments {
        /// Which call.
        key: String,
        /// The piece.
        delta: String,
    },
    /// All of a call's arguments, for a provider that repeats them.
    AllArguments {
        /// Which call.
        key: String,
        /// All of them.
        arguments: String,
    },
    /// A call, text or thought is complete; the providers that say so say it of all.
    CallEnd {
        /// Which call.
        key: String,
    },
    /// The text or the thought is complete.
    BlockEnd,
    /// What it took so far.
    Tokens(Tokens),
    /// The answer is complete.
    Done(FinishReason),
    /// There is no more.
    Failed(Failure),
}

/// The answer as far as it has come.
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
    /// What it took so far.
    pub fn tokens(&self) -> Tokens {
        self.tokens
    }

    /// Whether nothing more is to come.
    pub fn ended(&self) -> bool {
        self.ended
    }

    /// Takes what the provider said, and adds what has happened to `events`.
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
                // A thought that is withheld has no words, but its signature has to go back.
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
                // Not all providers say that they stopped for a call.
                let called = reason == FinishReason::Stop && !self.calls.is_empty();
                let reason = if called { FinishReason::ToolCalls } else { reason };
                self.ended = true;
                events.push_back(Event::Finished { reason, tokens: self.tokens });
            }
            Delta::Failed(failure) => self.fail(failure, events),
        }
    }

    /// Ends the answer. What it was about to say is closed; calls that are not complete stay so,
    /// because someone might run them.
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
        // The last one first: a provider without keys of its own may use one again.
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
