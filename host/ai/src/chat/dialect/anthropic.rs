//! Anthropic's messages: `POST /v1/messages`.
//!
//! Source: <https://docs.anthropic.com/en/docs/build-with-claude/streaming>

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Deltas, Reader, code, count, cut_off, unsupported};
use crate::chat::assembly::Delta;
use crate::chat::conversation::{Content, MediaKind, Message, Request, Source, Thinking};
use crate::chat::event::{Failure, FinishReason};
use crate::tokens::Tokens;

/// The maximum length of an answer if the caller does not set one; the API requires a number.
const MAX_TOKENS: u64 = 64_000;

/// The smallest thinking budget that the API accepts.
const MIN_BUDGET: u64 = 1024;

/// The options that a caller may set: all except those that this server controls.
const OPTIONS: [&str; 13] = [
    "container",
    "context_management",
    "effort",
    "max_tokens",
    "mcp_servers",
    "metadata",
    "output_config",
    "service_tier",
    "stop_sequences",
    "temperature",
    "thinking",
    "top_k",
    "top_p",
];

/// Prefix for the signature of a thought. It tells signatures of different providers apart when a
/// user changes providers within a conversation.
const SIGNATURE: &str = "anthropic:";

/// Prefix for the data of a redacted thought.
const REDACTED: &str = "anthropic-redacted:";

/// Builds the body of a request.
pub fn body(request: &Request) -> Result<Value, Failure> {
    let options = &request.options;
    let mut body = Map::new();
    body.insert("model".to_owned(), json!(request.model));
    body.insert("max_tokens".to_owned(), json!(MAX_TOKENS));
    let thinking = options.get("thinking").is_some_and(|thinking| {
        thinking.get("type").and_then(Value::as_str).is_some_and(|kind| kind != "disabled")
    });
    body.insert("messages".to_owned(), Value::Array(messages(&request.messages, thinking)?));
    let system = options.get("system").cloned().unwrap_or_else(|| json!(request.system));
    if system != json!("") {
        body.insert("system".to_owned(), system);
    }
    for name in OPTIONS {
        if let Some(value) = options.get(name).filter(|value| !value.is_null()) {
            body.insert(name.to_owned(), value.clone());
        }
    }
    if let Some(budget) = options.get("thinking").and_then(|thinking| thinking.get("budget_tokens"))
    {
        let budget = budget.as_u64().filter(|budget| *budget >= MIN_BUDGET).ok_or_else(|| {
            let message = format!("thinking.budget_tokens must be at least {MIN_BUDGET}.");
            Failure::new("invalid_request_error", message)
        })?;
        // The limit includes the thinking tokens, so it must exceed the budget.
        let enough = options.get("max_tokens").and_then(Value::as_u64).filter(|max| *max > budget);
        body.insert("max_tokens".to_owned(), json!(enough.unwrap_or(budget.saturating_add(1))));
    }
    if !request.tools.is_empty() {
        let tools = request.tools.iter().map(|tool| {
            let schema = &tool.parameters;
            json!({ "name": tool.name, "description": tool.description, "input_schema": schema })
        });
        body.insert("tools".to_owned(), tools.collect());
    }
    match options.get("tool_choice") {
        Some(Value::String(choice)) => {
            body.insert("tool_choice".to_owned(), json!({ "type": choice }));
        }
        Some(choice @ Value::Object(_)) => {
            body.insert("tool_choice".to_owned(), choice.clone());
        }
        _ => {}
    }
    body.insert("stream".to_owned(), json!(true));
    Ok(Value::Object(body))
}

/// The API requires alternating roles, so consecutive messages of one role are merged.
fn messages(messages: &[Message], thinking: bool) -> Result<Vec<Value>, Failure> {
    let mut turns: Vec<(&str, Vec<Value>)> = Vec::new();
    for message in messages {
        let (role, blocks) = match message {
            Message::User(content) => {
                ("user", content.iter().map(block).collect::<Result<Vec<_>, _>>()?)
            }
            Message::Assistant { thinking: thoughts, text, calls } => {
                let thoughts = thoughts.iter().filter(|_| thinking).filter_map(thought_block);
                let mut blocks: Vec<_> = thoughts.collect();
                if !text.is_empty() {
                    blocks.push(json!({ "type": "text", "text": text }));
                }
                blocks.extend(calls.iter().map(|call| {
                    let (id, name, input) = (&call.id, &call.name, call.input());
                    json!({ "type": "tool_use", "id": id, "name": name, "input": input })
                }));
                ("assistant", blocks)
            }
            Message::Results(results) => {
                let results = results.iter().map(|result| {
                    let (call, content) = (&result.call, &result.content);
                    json!({ "type": "tool_result", "tool_use_id": call, "content": content })
                });
                ("user", results.collect())
            }
        };
        match turns.last_mut() {
            Some((last, turn)) if *last == role => turn.extend(blocks),
            _ => turns.push((role, blocks)),
        }
    }
    let turns = turns.into_iter().filter(|(_, blocks)| !blocks.is_empty());
    Ok(turns.map(|(role, blocks)| json!({ "role": role, "content": plain(blocks) })).collect())
}

/// A thought as Anthropic sent it, if it is one of Anthropic's. The API rejects a call whose
/// thoughts are missing or changed.
fn thought_block(thought: &Thinking) -> Option<Value> {
    if let Some(data) = thought.signature.strip_prefix(REDACTED) {
        return Some(json!({ "type": "redacted_thinking", "data": data }));
    }
    let signature = thought.signature.strip_prefix(SIGNATURE)?;
    Some(json!({ "type": "thinking", "thinking": thought.text, "signature": signature }))
}

/// Text alone needs no blocks.
fn plain(blocks: Vec<Value>) -> Value {
    match blocks.as_slice() {
        [block] if block.get("type") == Some(&json!("text")) => block["text"].clone(),
        _ => Value::Array(blocks),
    }
}

fn block(content: &Content) -> Result<Value, Failure> {
    let (kind, source) = match content {
        Content::Text(text) => return Ok(json!({ "type": "text", "text": text })),
        Content::Media { kind: MediaKind::Image, source } => ("image", source),
        Content::Media { kind: MediaKind::Document, source } => ("document", source),
        Content::Media { .. } | Content::Unknown(_) => {
            return Err(unsupported("anthropic", content));
        }
    };
    let source = match source {
        Source::Url { url, .. } => json!({ "type": "url", "url": url }),
        Source::Data { media_type, data } => {
            json!({ "type": "base64", "media_type": media_type, "data": data })
        }
    };
    Ok(json!({ "type": kind, "source": source }))
}

/// Parses a stream of messages.
#[derive(Debug, Default)]
pub struct Messages {
    tokens: Tokens,
    reason: Option<String>,
    /// Inputs that came with the start of their block, by its index. Some servers send the whole
    /// input there; pieces that follow replace it.
    inputs: HashMap<u64, String>,
}

/// The known events, by `type`. Others are skipped.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Streamed {
    MessageStart {
        message: Option<Start>,
    },
    ContentBlockStart {
        #[serde(default)]
        index: u64,
        content_block: Block,
    },
    ContentBlockDelta {
        #[serde(default)]
        index: u64,
        delta: Piece,
    },
    ContentBlockStop {
        #[serde(default)]
        index: u64,
    },
    MessageDelta {
        delta: Option<Stop>,
        usage: Option<Value>,
    },
    MessageStop {},
    Error {
        error: Option<Value>,
    },
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
struct Start {
    model: Option<String>,
    usage: Option<Value>,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Block {
    Text {
        text: Option<String>,
    },
    Thinking {
        thinking: Option<String>,
        signature: Option<String>,
    },
    /// A redacted thought that only Anthropic can read. It must be sent back unchanged.
    RedactedThinking {
        data: String,
    },
    ToolUse {
        id: String,
        name: String,
        input: Option<Value>,
    },
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Piece {
    TextDelta {
        text: Option<String>,
    },
    ThinkingDelta {
        thinking: Option<String>,
    },
    SignatureDelta {
        signature: Option<String>,
    },
    InputJsonDelta {
        partial_json: Option<String>,
    },
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
struct Stop {
    stop_reason: Option<String>,
}

impl Reader for Messages {
    fn read(&mut self, data: &str, deltas: &mut Deltas) -> serde_json::Result<()> {
        match serde_json::from_str(data)? {
            Streamed::MessageStart { message } => {
                let Some(Start { model, usage }) = message else { return Ok(()) };
                deltas.extend(model.filter(|model| !model.is_empty()).map(Delta::Model));
                self.count(usage, deltas);
            }
            Streamed::ContentBlockStart { index, content_block } => {
                self.start(index, content_block, deltas);
            }
            Streamed::ContentBlockDelta { index, delta } => match delta {
                Piece::TextDelta { text } => deltas.extend(text.map(Delta::Text)),
                Piece::ThinkingDelta { thinking } => deltas.extend(thinking.map(Delta::Thinking)),
                Piece::SignatureDelta { signature } => sign(signature, deltas),
                Piece::InputJsonDelta { partial_json } => {
                    if let Some(delta) = partial_json.filter(|piece| !piece.is_empty()) {
                        self.inputs.remove(&index);
                        deltas.push(Delta::Arguments { key: index.to_string(), delta });
                    }
                }
                Piece::Other => {}
            },
            Streamed::ContentBlockStop { index } => {
                let key = index.to_string();
                if let Some(arguments) = self.inputs.remove(&index) {
                    deltas.push(Delta::AllArguments { key: key.clone(), arguments });
                }
                deltas.extend([Delta::BlockEnd, Delta::CallEnd { key }]);
            }
            Streamed::MessageDelta { delta, usage } => {
                let reason = delta.and_then(|delta| delta.stop_reason);
                self.reason = reason.or(self.reason.take());
                self.count(usage, deltas);
            }
            Streamed::MessageStop {} => deltas.push(match self.reason.as_deref() {
                Some("max_tokens" | "model_context_window_exceeded") => Delta::Failed(cut_off()),
                Some("tool_use") => Delta::Done(FinishReason::ToolCalls),
                _ => Delta::Done(FinishReason::Stop),
            }),
            Streamed::Error { error } => {
                let code = error.as_ref().and_then(|error| code(error.get("type")?));
                deltas.push(Delta::Failed(Failure { message: data.to_owned(), code }));
            }
            Streamed::Other => {}
        }
        Ok(())
    }
}

impl Messages {
    fn start(&mut self, index: u64, block: Block, deltas: &mut Deltas) {
        match block {
            Block::Text { text } => deltas.extend(text.map(Delta::Text)),
            Block::Thinking { thinking, signature } => {
                deltas.extend(thinking.map(Delta::Thinking));
                sign(signature, deltas);
            }
            Block::RedactedThinking { data } => deltas.extend([
                Delta::BlockEnd,
                Delta::Signature(format!("{REDACTED}{data}")),
                Delta::BlockEnd,
            ]),
            Block::ToolUse { id, name, input } => {
                let key = index.to_string();
                deltas.push(Delta::Call { key, id, name, signature: None });
                let whole = |input: &Value| input.as_object().is_some_and(|it| !it.is_empty());
                if let Some(input) = input.filter(whole) {
                    self.inputs.insert(index, input.to_string());
                }
            }
            Block::Other => {}
        }
    }

    /// Counts are running totals. The last event may repeat those of the first or omit them.
    fn count(&mut self, usage: Option<Value>, deltas: &mut Deltas) {
        let Some(usage) = usage.filter(Value::is_object) else { return };
        let cached = count(&usage, "/cache_read_input_tokens");
        if let Some(input) = count(&usage, "/input_tokens") {
            let created = count(&usage, "/cache_creation_input_tokens").unwrap_or(0);
            let input = input.saturating_add(created).saturating_add(cached.unwrap_or(0));
            self.tokens.input = self.tokens.input.max(input);
        }
        self.tokens.output = count(&usage, "/output_tokens").unwrap_or(self.tokens.output);
        self.tokens.cached_input = cached.or(self.tokens.cached_input);
        self.tokens.total = self.tokens.input.saturating_add(self.tokens.output);
        deltas.push(Delta::Tokens(self.tokens));
    }
}

/// The start of a block has an empty signature, which is ignored.
fn sign(signature: Option<String>, deltas: &mut Deltas) {
    let signature = signature.filter(|signature| !signature.is_empty());
    deltas.extend(signature.map(|signature| Delta::Signature(format!("{SIGNATURE}{signature}"))));
}
