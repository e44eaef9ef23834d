//! One answer, from the request to its end.

use std::collections::VecDeque;

use futures_util::Stream;
use futures_util::stream;

use super::assembly::{Assembly, Delta};
use super::dialect::{Deltas, Reader};
use super::event::{Event, Failure};
use super::upstream::{self, Question, Reply};
use crate::admission::Permit;
use crate::providers::Key;
use crate::usage::Tally;

/// An answer in progress. It works only while it is polled, and dropping it ends the provider's
/// request.
pub struct Run {
    stage: Stage,
    reader: Box<dyn Reader>,
    assembly: Assembly,
    deltas: Deltas,
    events: VecDeque<Event>,
    tally: Tally,
    provider: String,
    /// The key to mask in errors: a provider may repeat a key that it rejects.
    key: Option<Key>,
    /// The slot of this run within its caller's limit.
    _admitted: Permit,
}

enum Stage {
    Asking(Question),
    Answering(Reply),
    Ended(Option<Reply>),
}

impl Run {
    /// Creates a run. A request that cannot be sent at all fails like one that was sent.
    pub fn new(
        question: Result<Question, Failure>,
        provider: String,
        key: Option<Key>,
        reader: Box<dyn Reader>,
        tally: Tally,
        admitted: Permit,
    ) -> Self {
        let mut events = VecDeque::from([Event::Started]);
        let mut assembly = Assembly::default();
        let stage = match question {
            Ok(question) => Stage::Asking(question),
            Err(failure) => {
                assembly.push(Delta::Failed(failure), &mut events);
                Stage::Ended(None)
            }
        };
        let deltas = Deltas::new();
        Self { stage, reader, assembly, deltas, events, tally, provider, key, _admitted: admitted }
    }

    /// The events, as they happen.
    pub fn events(self) -> impl Stream<Item = Event> + Send {
        stream::unfold(self, |mut run| async move { Some((run.next().await?, run)) })
    }

    /// The next event; `None` after the end.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(mut event) = self.events.pop_front() {
                if let (Event::Failed(failure), Some(key)) = (&mut event, &self.key) {
                    failure.message = failure.message.replace(key.text(), "…");
                }
                if matches!(event, Event::Finished { .. } | Event::Failed(_)) {
                    // Usage is stored first, so that a client that sees the end also finds the
                    // usage.
                    self.tally.count(self.assembly.tokens()).await;
                }
                return Some(event);
            }
            match &mut self.stage {
                Stage::Ended(None) => return None,
                Stage::Ended(Some(answer)) => {
                    answer.drain().await;
                    return None;
                }
                Stage::Asking(question) => match question.ask().await {
                    Ok(answer) => {
                        self.tally.begin();
                        self.stage = Stage::Answering(answer);
                    }
                    Err(failure) => self.say(Delta::Failed(failure)),
                },
                Stage::Answering(answer) => match answer.next().await {
                    Ok(Some(data)) => self.hear(&data),
                    Ok(None) => {
                        self.reader.end(&mut self.deltas);
                        self.deltas.push(Delta::Failed(upstream::cut(&self.provider)));
                        self.say_all();
                    }
                    Err(failure) => self.say(Delta::Failed(failure)),
                },
            }
            self.tally.note(self.assembly.tokens());
            if self.assembly.ended() {
                // The answer has ended, so an unfinished request for it is dropped.
                self.stage = match std::mem::replace(&mut self.stage, Stage::Ended(None)) {
                    Stage::Answering(answer) => Stage::Ended(Some(answer)),
                    _ => Stage::Ended(None),
                };
            }
        }
    }

    fn hear(&mut self, data: &str) {
        if let Err(error) = self.reader.hear(data, &mut self.deltas) {
            let message = format!("{} sent an event that cannot be read: {error}", self.provider);
            self.deltas.push(Delta::Failed(Failure::new("invalid_response", message)));
        }
        self.say_all();
    }

    fn say_all(&mut self) {
        let mut deltas = std::mem::take(&mut self.deltas);
        for delta in deltas.drain(..) {
            self.assembly.push(delta, &mut self.events);
        }
        self.deltas = deltas;
    }

    fn say(&mut self, delta: Delta) {
        self.assembly.push(delta, &mut self.events);
    }
}
