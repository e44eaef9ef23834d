//! An answer in which the model may call the server's actions.
//!
//! To the client it is one run: rounds of the model's answers, with the results of its calls in
//! between. Calls run one at a time and in order after the model's answer is complete, so that a
//! model that writes and then reads sees what it wrote. Input errors go back to the model, which
//! may correct them. Calls of other tools are the client's to run: if there are any, the run ends
//! with them, after our own.
//!
//! Rounds are limited in number and time, and each counts as a chat of its caller.

use std::collections::VecDeque;

use axum::http::Extensions;
use futures_util::{Stream, stream};
use host_caller::Caller;
use serde_json::json;
use tokio::time::{Instant, timeout_at};

use super::actions::{self, Offer};
use super::answer::Answer;
use super::conversation::{Message, Request, ToolCall, ToolResult};
use super::event::{Event, Failure, FinishReason};
use super::run::Run;
use super::{Chat, NotStarted};
use crate::tokens::Tokens;

/// A run of several rounds.
pub struct Agent {
    chat: Chat,
    caller: Option<Caller>,
    /// The extensions of the caller's request, which identify the caller to actions.
    by: Extensions,
    /// The request of the next round.
    request: Request,
    offers: Vec<Offer>,
    stage: Stage,
    /// The model's answer in this round so far.
    answer: Answer,
    tokens: Tokens,
    round: u32,
    deadline: Instant,
}

enum Stage {
    Answering(Box<Run>),
    Calling { calls: VecDeque<ToolCall>, results: Vec<ToolResult> },
    Ended,
}

impl Agent {
    /// Starts the first round.
    pub fn new(
        chat: Chat,
        caller: Option<Caller>,
        by: Extensions,
        mut request: Request,
    ) -> Result<Self, NotStarted> {
        let names = std::mem::take(&mut request.actions);
        let offers = actions::offer(chat.actions.as_deref(), &names, &mut request.tools)?;
        let run = chat.run(caller.as_ref(), request.clone())?;
        let deadline = Instant::now() + chat.limits.action_time;
        Ok(Self {
            chat,
            caller,
            by,
            request,
            offers,
            stage: Stage::Answering(Box::new(run)),
            answer: Answer::default(),
            tokens: Tokens::default(),
            round: 1,
            deadline,
        })
    }

    /// The events, as they happen.
    pub fn events(self) -> impl Stream<Item = Event> + Send {
        stream::unfold(self, |mut agent| async move { Some((agent.next().await?, agent)) })
    }

    async fn next(&mut self) -> Option<Event> {
        loop {
            let event = match &mut self.stage {
                Stage::Ended => return None,
                Stage::Answering(run) => {
                    let event = run.next().await?;
                    self.answer.hear(&event);
                    match event {
                        Event::Started if self.round > 1 => None,
                        Event::Finished { reason, tokens } => {
                            // Reads the end of the body, so that the connection can be reused.
                            run.next().await;
                            self.tokens += tokens;
                            self.answered(reason)
                        }
                        Event::Failed(failure) => Some(self.end(Event::Failed(failure))),
                        event => Some(event),
                    }
                }
                Stage::Calling { calls, .. } => match calls.pop_front() {
                    Some(call) => Some(self.call(call).await),
                    None => self.called(),
                },
            };
            if event.is_some() {
                return event;
            }
        }
    }

    /// The model's answer is complete: runs its calls of our actions, or ends.
    fn answered(&mut self, reason: FinishReason) -> Option<Event> {
        let ours = |call: &&ToolCall| self.offers.iter().any(|offer| offer.tool == call.name);
        let complete = matches!(reason, FinishReason::Stop | FinishReason::ToolCalls);
        let calls = self.answer.calls.iter().filter(ours).filter(|_| complete);
        let calls: VecDeque<_> = calls.cloned().collect();
        if calls.is_empty() {
            return Some(self.end(Event::Finished { reason, tokens: self.tokens }));
        }
        self.stage = Stage::Calling { calls, results: Vec::new() };
        None
    }

    async fn call(&mut self, call: ToolCall) -> Event {
        let came = match timeout_at(self.deadline, self.run(call.clone())).await {
            Ok(came) => came,
            Err(_) => return self.too_long(),
        };
        let failed = came.is_err();
        let (Ok(content) | Err(content)) = came;
        if let Stage::Calling { results, .. } = &mut self.stage {
            let (call, name) = (call.id.clone(), call.name);
            results.push(ToolResult { call, name, content: content.clone() });
        }
        Event::CallResult { id: call.id, content, failed }
    }

    /// Runs one action. Borrows nothing from the agent, which is not `Sync` and must not be held
    /// across the await.
    fn run(&self, call: ToolCall) -> impl Future<Output = Result<String, String>> + Send + use<> {
        let offer = self.offers.iter().find(|offer| offer.tool == call.name).cloned();
        let (actions, by) = (self.chat.actions.clone(), self.by.clone());
        let limit = self.chat.limits.action_result_bytes;
        async move {
            let error = |message: String| json!({ "error": message }).to_string();
            let (Some(offer), Some(actions)) = (offer, actions) else {
                return Err(error(format!("there is no tool {}", call.name)));
            };
            let input = offer.input(&call.arguments).map_err(error)?;
            let result = actions.run(&by, &offer.action, input).await?;
            match result.len() {
                bytes if bytes > limit => {
                    Err(error(format!("the result has {bytes} bytes; {limit} is the most")))
                }
                _ => Ok(result),
            }
        }
    }

    /// All our calls have run: starts the next round, unless the client has calls to run.
    fn called(&mut self) -> Option<Event> {
        let Stage::Calling { results, .. } = std::mem::replace(&mut self.stage, Stage::Ended)
        else {
            return None;
        };
        let answer = std::mem::take(&mut self.answer);
        if results.len() < answer.calls.len() {
            let (reason, tokens) = (FinishReason::ToolCalls, self.tokens);
            return Some(self.end(Event::Finished { reason, tokens }));
        }
        if self.round > self.chat.limits.action_rounds {
            let message =
                format!("the model called actions in {} rounds, without an end", self.round);
            return Some(self.end(Event::Failed(Failure::new("too_many_rounds", message))));
        }
        if Instant::now() >= self.deadline {
            return Some(self.too_long());
        }
        self.request.messages.extend([answer.message(), Message::Results(results)]);
        self.round += 1;
        match self.chat.run(self.caller.as_ref(), self.request.clone()) {
            Ok(run) => {
                self.stage = Stage::Answering(Box::new(run));
                None
            }
            Err(refused) => {
                let failure = Failure::new("refused", refused.to_string());
                Some(self.end(Event::Failed(failure)))
            }
        }
    }

    fn too_long(&mut self) -> Event {
        let seconds = self.chat.limits.action_time.as_secs();
        let message = format!("the model and the actions that it called took {seconds} seconds");
        self.end(Event::Failed(Failure::new("timeout", message)))
    }

    fn end(&mut self, event: Event) -> Event {
        self.stage = Stage::Ended;
        event
    }
}
