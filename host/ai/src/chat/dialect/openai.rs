//! OpenAI's responses: `POST /v1/responses`.
//!
//! Source: <https://platform.openai.com/docs/api-reference/responses-streaming>

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Deltas, Reader, code, unsupported, url};
use crate::chat::assembly::Delta;
use crate::chat::conversation::{Content, MediaKind, Message, Request, Source};
use crate::chat::event::{Failure, FinishReason};
use crate::tokens::Tokens;

/// The body of a request.
pub fn body(request: &Request) -> Result<Value, Failure> {
    let mut body = request.options.clone();
    body.insert("model".to_owned(), json!(request.model));
    if !body.contains_key("instructions") {
        body.insert("instructions".to_owned(), json!(request.system));
    }
    body.insert("input".to_owned(), Value::Array(input(&request.messages)?));
    body.remove("tools");
    if !request.tools.is_empty() {
        let tools = request.tools.iter().map(|tool| {
            json!({
                "type": "function",
                "name": tool.name,
                "description": tool.description,
                "parameters": tool.parameters,
                // What the schema says is for the caller to check; strict wants schemas of its own.
                "strict": false,
            })
        });
        body.insert("tools".to_owned(), tools.collect());
    }
    body.insert("stream".to_owned(), json!(true));
    Ok(Value::Object(body))
}

fn input(messages: &[Message]) -> Result<Vec<Value>, Failure> {
    let mut input = Vec::new();
    for message in messages {
        match message {
            Message::User(content) => {
                let content = content.iter().map(part).collect::<Result<Vec<_>, _>>()?;
                input.push(json!({ "type": "message", "role": "user", "content": content }));
            }
            Message::Assistant { text, calls, .. } => {
                if !text.is_empty() {
                    input.push(json!({ "type": "message", "role": "assistant", "content": text }));
                }
                input.extend(calls.iter().map(|call| {
                    json!({
                        "type": "function_call",
                        "call_id": call.id,
                        "name": call.name,
                        "arguments": call.arguments,
                    })
                }));
            }
            Message::Results(results) => input.extend(results.iter().map(|result| {
                json!({
                    "type": "function_call_output",
                    "call_id": result.call,
                    "output": result.content,
                })
            })),
        }
    }
    Ok(input)
}

fn part(content: &Content) -> Result<Value, Failure> {
    Ok(match content {
        Content::Text(text) => json!({ "type": "input_text", "text": text }),
        Content::Media { kind: MediaKind::Image, source } => {
            json!({ "type": "input_image", "image_url": url(source), "detail": "auto" })
        }
        Content::Media { kind: MediaKind::Document, source: Source::Url { url, .. } } => {
            json!({ "type": "input_file", "file_url": url })
        }
        Content::Media { kind: MediaKind::Document, source } => {
            let data = url(source);
            json!({ "type": "input_file", "filename": "document.pdf", "file_data": data })
        }
        Content::Media { .. } | Content::Unknown(_) => {
            return Err(unsupported("openai", content));
        }
    })
}

/// Reads a stream of responses.
#[derive(Debug, Default)]
pub struct Responses {
    /// What has been heard of a refusal.
    refusal: String,
}

/// The events that matter, by `type`; of others nothing is read.
#[derive(Deserialize)]
#[serde(tag = "type")]
enum Heard {
    #[serde(rename = "response.created")]
    Created { response: Response },
    #[serde(rename = "response.output_item.added")]
    ItemAdded { item: Item },
    #[serde(rename = "response.output_item.done")]
    ItemDone { item: Item },
    #[serde(
        rename = "response.reasoning_summary_text.delta",
        alias = "response.reasoning_text.delta"
    )]
    Reasoning { delta: String },
    #[serde(rename = "response.reasoning_summary_part.added")]
    ReasoningPart {
        #[serde(default)]
        summary_index: u64,
    },
    #[serde(rename = "response.output_text.delta")]
    Text { delta: String },
    #[serde(rename = "response.output_text.done")]
    TextDone {},
    #[serde(rename = "response.refusal.delta")]
    Refusal { delta: String },
    #[serde(rename = "response.refusal.done")]
    RefusalDone {
        #[serde(default)]
        refusal: String,
    },
    #[serde(rename = "response.function_call_arguments.delta")]
    Arguments { item_id: String, delta: String },
    #[serde(rename = "response.function_call_arguments.done")]
    ArgumentsDone { item_id: String, arguments: String },
    #[serde(rename = "response.completed")]
    Completed { response: Response },
    #[serde(rename = "response.incomplete")]
    Incomplete { response: Response },
    #[serde(rename = "response.failed")]
    Failed { response: Response },
    #[serde(rename = "error")]
    Error(Problem),
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
struct Response {
    #[serde(default)]
    model: String,
    usage: Option<Usage>,
    error: Option<Problem>,
    incomplete_details: Option<Incomplete>,
}

#[derive(Deserialize)]
struct Incomplete {
    #[serde(default)]
    reason: String,
}

#[derive(Deserialize)]
struct Problem {
    code: Option<Value>,
    message: Option<String>,
    /// Some report an error within the error.
    error: Option<Box<Problem>>,
}

#[derive(Deserialize)]
#[serde(tag = "type")]
enum Item {
    #[serde(rename = "function_call")]
    Call {
        #[serde(default)]
        id: String,
        #[serde(default)]
        call_id: String,
        #[serde(default)]
        name: String,
        #[serde(default)]
        arguments: String,
    },
    #[serde(rename = "reasoning")]
    Reasoning {},
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
struct Usage {
    #[serde(default)]
    input_tokens: u64,
    #[serde(default)]
    output_tokens: u64,
    #[serde(default)]
    total_tokens: u64,
    input_tokens_details: Option<Map<String, Value>>,
    output_tokens_details: Option<Map<String, Value>>,
}

impl Reader for Responses {
    fn read(&mut self, data: &str, deltas: &mut Deltas) -> serde_json::Result<()> {
        match serde_json::from_str(data)? {
            Heard::Created { response } => {
                deltas.extend((!response.model.is_empty()).then_some(Delta::Model(response.model)));
            }
            Heard::ItemAdded { item: Item::Call { id, call_id, name, .. } } => {
                deltas.push(Delta::Call { key: id, id: call_id, name, signature: None });
            }
            Heard::ItemDone { item: Item::Call { id, arguments, .. } } => {
                deltas.push(Delta::AllArguments { key: id.clone(), arguments });
                deltas.push(Delta::CallEnd { key: id });
            }
            Heard::ItemDone { item: Item::Reasoning {} } => deltas.push(Delta::BlockEnd),
            Heard::ReasoningPart { summary_index } if summary_index > 0 => {
                deltas.push(Delta::Thinking("\n\n".to_owned()));
            }
            Heard::Reasoning { delta } => deltas.push(Delta::Thinking(delta)),
            Heard::Text { delta } => deltas.push(Delta::Text(delta)),
            Heard::TextDone {} => deltas.push(Delta::BlockEnd),
            Heard::Refusal { delta } => self.refusal += &delta,
            Heard::RefusalDone { refusal } => {
                let heard = std::mem::take(&mut self.refusal);
                let refusal = if refusal.is_empty() { heard } else { refusal };
                let silent = "Refused without explanation".to_owned();
                let message = if refusal.is_empty() { silent } else { refusal };
                deltas.push(Delta::Failed(Failure::new("refusal", message)));
            }
            Heard::Arguments { item_id, delta } => {
                deltas.push(Delta::Arguments { key: item_id, delta });
            }
            Heard::ArgumentsDone { item_id, arguments } => {
                deltas.push(Delta::AllArguments { key: item_id.clone(), arguments });
                deltas.push(Delta::CallEnd { key: item_id });
            }
            Heard::Completed { response } => {
                response.count(deltas);
                deltas.push(Delta::Done(FinishReason::Stop));
            }
            Heard::Incomplete { response } => {
                response.count(deltas);
                let reason = response.incomplete_details.map(|details| details.reason);
                let reason = reason.filter(|reason| !reason.is_empty());
                let message = reason.unwrap_or_else(|| "the answer is incomplete".to_owned());
                deltas.push(Delta::Failed(Failure::new("incomplete", message)));
            }
            Heard::Failed { response } => {
                response.count(deltas);
                let failure = response.error.map(Problem::failure);
                let unknown = || Failure::new("failed", "the provider failed and does not say why");
                deltas.push(Delta::Failed(failure.unwrap_or_else(unknown)));
            }
            Heard::Error(problem) => deltas.push(Delta::Failed(problem.failure())),
            Heard::ItemAdded { .. }
            | Heard::ItemDone { .. }
            | Heard::ReasoningPart { .. }
            | Heard::Other => {}
        }
        Ok(())
    }
}

impl Response {
    fn count(&self, deltas: &mut Deltas) {
        let Some(usage) = &self.usage else { return };
        let detail = |details: &Option<Map<String, Value>>, field: &str| {
            details.as_ref().and_then(|details| details.get(field)?.as_u64())
        };
        deltas.push(Delta::Tokens(Tokens {
            input: usage.input_tokens,
            output: usage.output_tokens,
            total: usage.total_tokens,
            cached_input: detail(&usage.input_tokens_details, "cached_tokens"),
            reasoning: detail(&usage.output_tokens_details, "reasoning_tokens"),
        }));
    }
}

impl Problem {
    fn failure(self) -> Failure {
        if let Some(inner) = self.error {
            return inner.failure();
        }
        let message = self.message.filter(|message| !message.is_empty());
        let code = self.code.as_ref().and_then(code);
        Failure { message: message.unwrap_or_else(|| "the provider failed".to_owned()), code }
    }
}
