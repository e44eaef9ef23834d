//! The wire format: server-sent events that both generations of TanStack AI's clients read.
//!
//! New clients use AG-UI, old ones its predecessor. Each ignores what it does not know, so one
//! stream serves both as a superset: old names next to new ones (`toolName`, `toolCallName`),
//! thoughts both as steps and as reasoning, errors in both places. The formats differ only where a
//! client cannot have it both ways, or where only the old one repeats something: counts are an
//! object for new clients and a list for old ones, and old ones get all preceding text with each
//! piece, up to a limit.
//!
//! Clients that run tools learn of a call (`tool-input-available`) only when the whole answer is
//! complete, so that nothing runs for an answer that fails.
//!
//! Source: AG-UI, <https://docs.ag-ui.com/concepts/events>, and recordings of both clients.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use rand::RngExt;
use rand::distr::Alphanumeric;
use serde::Serialize;
use serde_json::{Value, json};

use super::body::Generation;
use super::conversation::Request;
use super::event::{Event, Failure, FinishReason};
use crate::tokens::Tokens;

/// The end of every stream.
pub const DONE: &[u8] = b"data: [DONE]\n\n";

/// Writes the events of one run.
pub struct Writer {
    generation: Generation,
    provider: String,
    run: String,
    thread: String,
    message: String,
    step: String,
    model: String,
    /// The text to repeat of the open text or thought; `None` once the limit is reached.
    so_far: Option<String>,
    /// How many more bytes may be repeated.
    repeat: usize,
    calls: Vec<OpenCall>,
    frames: Frames,
}

struct OpenCall {
    id: String,
    so_far: Option<String>,
    /// Set once the call is complete.
    ready: Option<(String, Value)>,
}

impl Writer {
    /// Creates a writer for the run of `request` that repeats up to `repeat` bytes.
    pub fn new(request: &Request, generation: Generation, repeat: usize) -> Self {
        let provider = request.provider.clone();
        let run = request.run.clone().unwrap_or_else(|| id(&provider));
        let thread = request.thread.clone().unwrap_or_else(|| id("thread"));
        Self {
            generation,
            message: id(&provider),
            step: String::new(),
            run,
            thread,
            provider,
            model: request.model.clone(),
            so_far: None,
            repeat: if generation == Generation::Old { repeat } else { 0 },
            calls: Vec::new(),
            frames: Frames::default(),
        }
    }

    /// The frames for an event; empty for some events.
    pub fn write(&mut self, event: Event) -> Bytes {
        match event {
            Event::Model(model) => self.model = model,
            Event::Started => {
                let (run, thread) = (&self.run, &self.thread);
                let frame = self.frames.begin("RUN_STARTED");
                frame.field("runId", run).field("threadId", thread);
                frame.stamp(&self.model).metadata(json!({ "model": self.model })).end();
            }
            Event::ThinkingStarted => self.thinking_started(),
            Event::Thinking(delta) => self.thinking(&delta),
            Event::ThinkingEnded { signature } => self.thinking_ended(signature.as_deref()),
            Event::TextStarted => {
                self.so_far = Some(String::new());
                let frame = self.frames.begin("TEXT_MESSAGE_START");
                frame.field("messageId", &self.message).stamp(&self.model);
                frame.field("role", "assistant").metadata(json!({ "model": self.model })).end();
            }
            Event::Text(delta) => {
                let so_far = repeated(&mut self.so_far, &mut self.repeat, &delta);
                let frame = self.frames.begin("TEXT_MESSAGE_CONTENT");
                frame.field("messageId", &self.message).stamp(&self.model);
                frame.field("delta", &delta).optional("content", so_far).end();
            }
            Event::TextEnded => {
                let frame = self.frames.begin("TEXT_MESSAGE_END");
                frame.field("messageId", &self.message).stamp(&self.model).end();
            }
            Event::CallStarted { id, name, signature } => {
                self.call_started(id, &name, signature.as_deref());
            }
            Event::CallArguments { id, delta } => {
                let call = self.calls.iter_mut().rev().find(|call| call.id == id);
                let so_far =
                    call.and_then(|call| repeated(&mut call.so_far, &mut self.repeat, &delta));
                let frame = self.frames.begin("TOOL_CALL_ARGS");
                frame.field("toolCallId", &id).stamp(&self.model);
                frame.field("delta", &delta).optional("args", so_far).end();
            }
            Event::CallEnded { id, name, input } => {
                let frame = self.frames.begin("TOOL_CALL_END");
                frame.field("toolCallId", &id).field("toolName", &name);
                frame.field("toolCallName", &name).stamp(&self.model).field("input", &input).end();
                if let Some(call) = self.calls.iter_mut().rev().find(|call| call.id == id) {
                    call.ready = Some((name, input));
                }
            }
            Event::CallResult { id, content, failed } => self.call_result(&id, &content, failed),
            Event::Finished { reason, tokens } => self.finished(reason, tokens),
            Event::Failed(failure) => self.failed(&failure),
        }
        self.frames.take()
    }

    fn thinking_started(&mut self) {
        self.step = id(&self.provider);
        self.so_far = Some(String::new());
        let (step, model) = (&self.step, &self.model);
        self.frames.begin("REASONING_START").field("messageId", step).stamp(model).end();
        let frame = self.frames.begin("REASONING_MESSAGE_START").field("messageId", step);
        frame.stamp(model).field("role", "reasoning").end();
        let frame = self.frames.begin("STEP_STARTED").field("stepId", step);
        frame.field("stepName", step).stamp(model).field("stepType", "thinking").end();
    }

    fn thinking(&mut self, delta: &str) {
        let (step, model) = (&self.step, &self.model);
        let so_far = repeated(&mut self.so_far, &mut self.repeat, delta);
        let frame = self.frames.begin("REASONING_MESSAGE_CONTENT").field("messageId", step);
        frame.stamp(model).field("delta", delta).end();
        let frame = self.frames.begin("STEP_FINISHED").field("stepId", step);
        let frame = frame.field("stepName", step).stamp(model).field("delta", delta);
        frame.optional("content", so_far).end();
    }

    fn thinking_ended(&mut self, signature: Option<&str>) {
        let (step, model) = (&self.step, &self.model);
        if let Some(signature) = signature {
            // Old clients append the delta, so there must be one.
            let so_far = repeated(&mut self.so_far, &mut self.repeat, "");
            let frame = self.frames.begin("STEP_FINISHED").field("stepId", step);
            let frame = frame.field("stepName", step).stamp(model).field("delta", "");
            frame.optional("content", so_far).field("signature", signature).end();
            let frame = self.frames.begin("REASONING_ENCRYPTED_VALUE").field("subtype", "message");
            frame.field("entityId", step).field("encryptedValue", signature).stamp(model).end();
        }
        self.frames.begin("REASONING_MESSAGE_END").field("messageId", step).stamp(model).end();
        self.frames.begin("REASONING_END").field("messageId", step).stamp(model).end();
    }

    fn call_started(&mut self, id: String, name: &str, signature: Option<&str>) {
        let frame = self.frames.begin("TOOL_CALL_START").field("toolCallId", &id);
        let frame = frame.field("toolName", name).field("toolCallName", name);
        let frame = frame.field("parentMessageId", &self.message).stamp(&self.model);
        let metadata = signature.map(|signature| json!({ "thoughtSignature": signature }));
        frame.field("index", &self.calls.len()).optional("metadata", metadata.as_ref()).end();
        if let Some(signature) = signature {
            let frame =
                self.frames.begin("REASONING_ENCRYPTED_VALUE").field("subtype", "tool-call");
            let frame = frame.field("entityId", &id).field("encryptedValue", signature);
            frame.stamp(&self.model).end();
        }
        self.calls.push(OpenCall { id, so_far: Some(String::new()), ready: None });
    }

    /// New clients have an event for the result; old ones read it from a second end of the call.
    fn call_result(&mut self, id: &str, content: &str, failed: bool) {
        let call = self.calls.iter().position(|call| call.id == id);
        let ready = call.and_then(|at| self.calls.remove(at).ready);
        if let (Generation::Old, Some((name, input))) = (self.generation, ready) {
            let frame = self.frames.begin("TOOL_CALL_END").field("toolCallId", id);
            let frame = frame.field("toolName", &name).field("toolCallName", &name);
            frame.stamp(&self.model).field("input", &input).field("result", content).end();
        }
        let frame = self.frames.begin("TOOL_CALL_RESULT").field("messageId", &self.message);
        let frame = frame.field("toolCallId", id).field("content", content);
        let state = if failed { "output-error" } else { "output-available" };
        frame.field("role", "tool").stamp(&self.model).metadata(json!({ "state": state })).end();
    }

    fn finished(&mut self, reason: FinishReason, tokens: Tokens) {
        for call in self.calls.drain(..) {
            let Some((name, input)) = call.ready else { continue };
            let value = json!({ "toolCallId": call.id, "toolName": name, "input": input });
            let frame = self.frames.begin("CUSTOM").field("name", "tool-input-available");
            frame.stamp(&self.model).field("data", &value).field("value", &value).end();
        }
        let usage = usage(tokens, self.generation);
        let metadata = json!({ "model": self.model, "finishReason": reason.name() });
        let frame = self.frames.begin("RUN_FINISHED").field("runId", &self.run);
        let frame = frame.field("threadId", &self.thread).stamp(&self.model);
        frame.field("usage", &usage).field("finishReason", reason.name()).metadata(metadata).end();
    }

    fn failed(&mut self, failure: &Failure) {
        let Failure { message, code } = failure;
        let error = match code {
            Some(code) => json!({ "message": message, "code": code }),
            None => json!({ "message": message }),
        };
        let frame = self.frames.begin("RUN_ERROR").field("runId", &self.run);
        let frame = frame.field("threadId", &self.thread).stamp(&self.model);
        let frame = frame.field("message", message).optional("code", code.as_ref());
        frame.field("error", &error).metadata(json!({ "model": self.model })).end();
    }
}

/// The piece together with all text before it. Once the limit is reached, just the piece.
fn repeated<'a>(
    so_far: &'a mut Option<String>,
    bound: &mut usize,
    piece: &str,
) -> Option<&'a String> {
    let text = so_far.as_mut()?;
    let Some(left) = bound.checked_sub(text.len() + piece.len()) else {
        *so_far = None;
        return None;
    };
    *bound = left;
    text.push_str(piece);
    so_far.as_ref()
}

fn usage(tokens: Tokens, generation: Generation) -> Value {
    let Tokens { input, output, total, cached_input, reasoning } = tokens;
    let mut usage = match generation {
        Generation::Latest => {
            json!({ "inputTokens": input, "outputTokens": output, "totalTokens": total })
        }
        Generation::Old => {
            json!({ "promptTokens": input, "completionTokens": output, "totalTokens": total })
        }
    };
    if let Some(cached) = cached_input {
        usage["cachedInputTokens"] = json!(cached);
    }
    if let Some(reasoning) = reasoning {
        usage["reasoningTokens"] = json!(reasoning);
    }
    match generation {
        Generation::Latest => json!([usage]),
        Generation::Old => usage,
    }
}

/// A unique id: a prefix, the time and a random part.
fn id(prefix: &str) -> String {
    let chance: String = rand::rng().sample_iter(Alphanumeric).take(11).map(char::from).collect();
    format!("{prefix}-{}-{chance}", now())
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Frames, serialised by hand: building a tree of values for each word of an answer would cost more
/// than all other work on it.
#[derive(Default)]
struct Frames(Vec<u8>);

impl Frames {
    fn begin(&mut self, kind: &str) -> &mut Self {
        self.0.extend_from_slice(b"data: {\"type\":\"");
        self.0.extend_from_slice(kind.as_bytes());
        self.0.push(b'"');
        self
    }

    fn field<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) -> &mut Self {
        self.0.extend_from_slice(b",\"");
        self.0.extend_from_slice(name.as_bytes());
        self.0.extend_from_slice(b"\":");
        serde_json::to_writer(&mut self.0, value).expect("text, numbers and JSON can be written");
        self
    }

    fn optional<T: Serialize + ?Sized>(&mut self, name: &str, value: Option<&T>) -> &mut Self {
        match value {
            Some(value) => self.field(name, value),
            None => self,
        }
    }

    fn stamp(&mut self, model: &str) -> &mut Self {
        self.field("model", model).field("timestamp", &now())
    }

    fn metadata(&mut self, tanstack: Value) -> &mut Self {
        self.field("metadata", &json!({ "tanstack": tanstack }))
    }

    fn end(&mut self) {
        self.0.extend_from_slice(b"}\n\n");
    }

    fn take(&mut self) -> Bytes {
        std::mem::take(&mut self.0).into()
    }
}
