//! OpenAI's Responses API: `POST /v1/responses`.
//!
//! Source: <https://platform.openai.com/docs/api-reference/responses-streaming>

use std::collections::HashSet;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Deltas, Reader, code, count, unsupported, url};
use crate::chat::assembly::Delta;
use crate::chat::conversation::{Content, MediaKind, Message, Request, Source};
use crate::chat::event::{Failure, FinishReason};
use crate::tokens::Tokens;

/// Builds the body of a request.
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
                // The caller validates against the schema; strict mode only accepts a subset of
                // JSON Schema.
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
                        "arguments": call.input_text(),
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

/// Parses a stream of responses.
///
/// OpenAI announces each item, sends it in pieces, and then repeats it in its own final event and
/// in the one that ends the answer. Other servers of this API omit some of these, so content is
/// taken from whichever event has it first.
#[derive(Debug, Default)]
pub struct Responses {
    /// The refusal so far.
    refusal: String,
    calls: Vec<BegunCall>,
    /// The items whose text has been received, by id or index.
    spoken: HashSet<String>,
}

/// A call in progress.
#[derive(Debug)]
struct BegunCall {
    key: String,
    call_id: Option<String>,
    item: Option<String>,
    place: Option<u64>,
}

/// The known events, by `type`. Others are skipped.
#[derive(Deserialize)]
#[serde(tag = "type")]
enum Streamed {
    #[serde(rename = "response.created")]
    Created { response: Response },
    #[serde(rename = "response.output_item.added")]
    ItemAdded { output_index: Option<u64>, item: Item },
    #[serde(rename = "response.output_item.done")]
    ItemDone { output_index: Option<u64>, item: Item },
    #[serde(
        rename = "response.reasoning_summary_text.delta",
        alias = "response.reasoning_text.delta"
    )]
    Reasoning {
        #[serde(flatten)]
        of: Place,
        delta: Option<String>,
    },
    #[serde(rename = "response.reasoning_summary_part.added")]
    ReasoningPart { summary_index: Option<u64> },
    #[serde(rename = "response.output_text.delta")]
    Text {
        #[serde(flatten)]
        of: Place,
        delta: Option<String>,
    },
    #[serde(rename = "response.output_text.done")]
    TextDone {
        #[serde(flatten)]
        of: Place,
        text: Option<String>,
    },
    #[serde(rename = "response.refusal.delta")]
    Refusal { delta: String },
    #[serde(rename = "response.refusal.done")]
    RefusalDone { refusal: Option<String> },
    #[serde(rename = "response.function_call_arguments.delta")]
    Arguments {
        #[serde(flatten)]
        of: Place,
        delta: Option<String>,
    },
    #[serde(rename = "response.function_call_arguments.done")]
    ArgumentsDone {
        #[serde(flatten)]
        of: Place,
        arguments: Option<String>,
    },
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

/// The item that an event refers to. Some servers omit the id or the index, or give an item a new
/// id in each event.
#[derive(Deserialize)]
struct Place {
    item_id: Option<String>,
    output_index: Option<u64>,
}

#[derive(Deserialize)]
struct Response {
    model: Option<String>,
    output: Option<Vec<Item>>,
    usage: Option<Value>,
    error: Option<Problem>,
    incomplete_details: Option<Incomplete>,
}

#[derive(Deserialize)]
struct Incomplete {
    reason: Option<String>,
}

#[derive(Deserialize)]
struct Problem {
    code: Option<Value>,
    message: Option<String>,
    /// Some servers nest the error inside `error`.
    error: Option<Box<Problem>>,
}

#[derive(Deserialize)]
#[serde(tag = "type")]
enum Item {
    #[serde(rename = "function_call")]
    Call {
        id: Option<String>,
        call_id: Option<String>,
        name: Option<String>,
        arguments: Option<Value>,
    },
    #[serde(rename = "message")]
    Message { id: Option<String>, content: Option<Vec<Words>> },
    #[serde(rename = "reasoning")]
    Reasoning { id: Option<String>, summary: Option<Vec<Words>>, content: Option<Vec<Words>> },
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
struct Words {
    text: Option<String>,
}

impl Reader for Responses {
    fn read(&mut self, data: &str, deltas: &mut Deltas) -> serde_json::Result<()> {
        let event = match serde_json::from_str(data) {
            Ok(event) => event,
            // Gateways report their errors in their usual format.
            Err(error) => match serde_json::from_str(data) {
                Ok(Problem { error: Some(problem), .. }) => Streamed::Error(*problem),
                _ => return Err(error),
            },
        };
        match event {
            Streamed::Created { response } => {
                deltas.extend(response.model.filter(|model| !model.is_empty()).map(Delta::Model));
            }
            Streamed::ItemAdded { output_index, item } => {
                if let Item::Call { id, call_id, name, .. } = item {
                    let place = Place { item_id: id, output_index };
                    self.begin(&place, call_id, name, deltas);
                }
            }
            Streamed::ItemDone { output_index, item } => self.item(output_index, item, deltas),
            Streamed::ReasoningPart { summary_index } if summary_index > Some(0) => {
                deltas.push(Delta::Thinking("\n\n".to_owned()));
            }
            Streamed::Reasoning { of, delta } => {
                self.speaks(&of);
                deltas.extend(delta.map(Delta::Thinking));
            }
            Streamed::Text { of, delta } => {
                self.speaks(&of);
                deltas.extend(delta.map(Delta::Text));
            }
            Streamed::TextDone { of, text } => {
                if self.speaks(&of) {
                    deltas.extend(text.map(Delta::Text));
                }
                deltas.push(Delta::BlockEnd);
            }
            Streamed::Refusal { delta } => self.refusal += &delta,
            Streamed::RefusalDone { refusal } => {
                let heard = std::mem::take(&mut self.refusal);
                let refusal = refusal.filter(|refusal| !refusal.is_empty()).unwrap_or(heard);
                let silent = "Refused without explanation".to_owned();
                let message = if refusal.is_empty() { silent } else { refusal };
                deltas.push(Delta::Failed(Failure::new("refusal", message)));
            }
            Streamed::Arguments { of, delta } => {
                if let (Some(key), Some(delta)) = (self.key(&of), delta) {
                    deltas.push(Delta::Arguments { key, delta });
                }
            }
            Streamed::ArgumentsDone { of, arguments } => {
                let arguments = arguments.filter(|arguments| !arguments.is_empty());
                if let (Some(key), Some(arguments)) = (self.key(&of), arguments) {
                    deltas.push(Delta::AllArguments { key: key.clone(), arguments });
                    deltas.push(Delta::CallEnd { key });
                }
            }
            Streamed::Completed { mut response } => {
                // Indexes may differ from those of the stream if items were omitted.
                let silent = self.spoken.is_empty();
                for item in response.output.take().unwrap_or_default() {
                    if silent || matches!(item, Item::Call { .. }) {
                        self.item(None, item, deltas);
                    }
                }
                response.count(deltas);
                deltas.push(Delta::Done(FinishReason::Stop));
            }
            Streamed::Incomplete { response } => {
                response.count(deltas);
                let reason = response.incomplete_details.and_then(|details| details.reason);
                let reason = reason.filter(|reason| !reason.is_empty());
                let message = reason.unwrap_or_else(|| "the answer is incomplete".to_owned());
                deltas.push(Delta::Failed(Failure::new("incomplete", message)));
            }
            Streamed::Failed { response } => {
                response.count(deltas);
                let failure = response.error.map(Problem::failure);
                let unknown = || Failure::new("failed", "the provider failed and does not say why");
                deltas.push(Delta::Failed(failure.unwrap_or_else(unknown)));
            }
            Streamed::Error(problem) => deltas.push(Delta::Failed(problem.failure())),
            Streamed::ReasoningPart { .. } | Streamed::Other => {}
        }
        Ok(())
    }
}

impl Responses {
    /// Processes a complete item, skipping what was already received in pieces.
    fn item(&mut self, output_index: Option<u64>, item: Item, deltas: &mut Deltas) {
        match item {
            Item::Call { id, call_id, name, arguments } => {
                let place = Place { item_id: id, output_index };
                let key = self.begin(&place, call_id, name, deltas);
                let arguments = match arguments {
                    Some(Value::String(text)) => Some(text),
                    None | Some(Value::Null) => None,
                    Some(whole) => Some(whole.to_string()),
                };
                if let Some(arguments) = arguments {
                    deltas.push(Delta::AllArguments { key: key.clone(), arguments });
                }
                deltas.push(Delta::CallEnd { key });
            }
            Item::Message { id, content } => {
                if self.speaks(&Place { item_id: id, output_index }) {
                    let texts = content.unwrap_or_default().into_iter();
                    deltas.extend(texts.filter_map(|words| words.text).map(Delta::Text));
                }
                deltas.push(Delta::BlockEnd);
            }
            Item::Reasoning { id, summary, content } => {
                if self.speaks(&Place { item_id: id, output_index }) {
                    let some = |words: &Vec<Words>| !words.is_empty();
                    let thoughts = summary.filter(some).or(content).unwrap_or_default();
                    let thoughts: Vec<_> = thoughts.into_iter().filter_map(|it| it.text).collect();
                    deltas.push(Delta::Thinking(thoughts.join("\n\n")));
                }
                deltas.push(Delta::BlockEnd);
            }
            Item::Other => {}
        }
    }

    /// The key of a call, which is started if it is new.
    fn begin(
        &mut self,
        place: &Place,
        call_id: Option<String>,
        name: Option<String>,
        deltas: &mut Deltas,
    ) -> String {
        let call_id = call_id.filter(|id| !id.is_empty());
        let same = |call: &&BegunCall| call_id.is_some() && call.call_id == call_id;
        let begun = self.calls.iter().rfind(same).or_else(|| {
            let differs = |call: &&BegunCall| call.call_id.is_some() && call_id.is_some();
            self.find(place).filter(|call| !differs(call))
        });
        if let Some(call) = begun {
            return call.key.clone();
        }
        let key = self.calls.len().to_string();
        let (item, place) = (place.item_id.clone(), place.output_index);
        let id = call_id.clone().or_else(|| item.clone()).filter(|id| !id.is_empty());
        let id = id.unwrap_or_else(|| format!("call_{:016x}", rand::random::<u64>()));
        let name = name.unwrap_or_default();
        deltas.push(Delta::Call { key: key.clone(), id, name, signature: None });
        self.calls.push(BegunCall { key: key.clone(), call_id, item, place });
        key
    }

    fn key(&self, of: &Place) -> Option<String> {
        self.find(of).map(|call| call.key.clone())
    }

    /// The call at an index. An event with neither item nor index refers to the last call.
    fn find(&self, of: &Place) -> Option<&BegunCall> {
        let calls = self.calls.iter();
        match (&of.item_id, of.output_index) {
            (None, None) => self.calls.last(),
            (item, place) => {
                let by_item = calls.clone().rfind(|call| item.is_some() && call.item == *item);
                let at_place = |call: &&BegunCall| place.is_some() && call.place == place;
                by_item.or_else(|| calls.clone().rfind(at_place))
            }
        }
    }

    /// Records that an item's text has started. Returns whether this is its first piece.
    fn speaks(&mut self, of: &Place) -> bool {
        let place = of.output_index.map(|index| index.to_string());
        let names = place.into_iter().chain(of.item_id.clone());
        // An item with neither id nor index is the only one.
        let mut names: Vec<String> = names.collect();
        if names.is_empty() {
            names.push(String::new());
        }
        let heard = names.iter().any(|name| self.spoken.contains(name));
        self.spoken.extend(names);
        !heard
    }
}

impl Response {
    fn count(&self, deltas: &mut Deltas) {
        let Some(usage) = self.usage.as_ref().filter(|usage| usage.is_object()) else { return };
        let input = count(usage, "/input_tokens").unwrap_or(0);
        let output = count(usage, "/output_tokens").unwrap_or(0);
        deltas.push(Delta::Tokens(Tokens {
            input,
            output,
            total: count(usage, "/total_tokens").unwrap_or(input.saturating_add(output)),
            cached_input: count(usage, "/input_tokens_details/cached_tokens"),
            reasoning: count(usage, "/output_tokens_details/reasoning_tokens"),
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
