//! Chat completions: `POST /v1/chat/completions`, which grok, Ollama, llama.cpp, vLLM, OpenRouter
//! and many others speak, each with an accent.
//!
//! Source: <https://platform.openai.com/docs/api-reference/chat-streaming>

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Deltas, Reader, problem, unsupported, url};
use crate::chat::assembly::Delta;
use crate::chat::conversation::{Content, MediaKind, Message, Request};
use crate::chat::event::{Failure, FinishReason};
use crate::tokens::Tokens;

/// The body of a request.
pub fn body(request: &Request, provider: &str) -> Result<Value, Failure> {
    let mut body = request.options.clone();
    body.insert("model".to_owned(), json!(request.model));
    body.insert("messages".to_owned(), Value::Array(messages(request, provider)?));
    body.remove("tools");
    if !request.tools.is_empty() {
        let tools = request.tools.iter().map(|tool| {
            let function = json!({
                "name": tool.name,
                "description": tool.description,
                "parameters": tool.parameters,
            });
            json!({ "type": "function", "function": function })
        });
        body.insert("tools".to_owned(), tools.collect());
    }
    body.insert("stream".to_owned(), json!(true));
    body.insert("stream_options".to_owned(), json!({ "include_usage": true }));
    Ok(Value::Object(body))
}

fn messages(request: &Request, provider: &str) -> Result<Vec<Value>, Failure> {
    let mut messages = Vec::new();
    if !request.system.is_empty() {
        messages.push(json!({ "role": "system", "content": request.system }));
    }
    for message in &request.messages {
        match message {
            Message::User(content) => {
                let content = match content.as_slice() {
                    [Content::Text(text)] => json!(text),
                    parts => {
                        let parts = parts.iter().map(|content| part(content, provider));
                        Value::Array(parts.collect::<Result<_, _>>()?)
                    }
                };
                messages.push(json!({ "role": "user", "content": content }));
            }
            Message::Assistant { text, calls, .. } => {
                let mut message = json!({ "role": "assistant", "content": text });
                if !calls.is_empty() {
                    let calls = calls.iter().map(|call| {
                        let function = json!({ "name": call.name, "arguments": call.arguments });
                        json!({ "id": call.id, "type": "function", "function": function })
                    });
                    message["tool_calls"] = calls.collect();
                }
                messages.push(message);
            }
            Message::Results(results) => messages.extend(results.iter().map(|result| {
                let (call, content) = (&result.call, &result.content);
                json!({ "role": "tool", "tool_call_id": call, "content": content })
            })),
        }
    }
    Ok(messages)
}

fn part(content: &Content, provider: &str) -> Result<Value, Failure> {
    match content {
        Content::Text(text) => Ok(json!({ "type": "text", "text": text })),
        Content::Media { kind: MediaKind::Image, source } => {
            let image = json!({ "url": url(source), "detail": "auto" });
            Ok(json!({ "type": "image_url", "image_url": image }))
        }
        _ => Err(unsupported(provider, content)),
    }
}

/// Reads a stream of chat completions.
#[derive(Debug, Default)]
pub struct ChatCompletions {
    /// The keys of the calls that have begun.
    calls: Vec<String>,
    reason: Option<String>,
}

#[derive(Deserialize)]
struct Heard {
    model: Option<String>,
    choices: Option<Vec<Choice>>,
    usage: Option<Usage>,
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Choice {
    delta: Option<Piece>,
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Piece {
    content: Option<String>,
    /// What grok, vLLM, llama.cpp and DeepSeek call it.
    reasoning_content: Option<String>,
    /// What OpenRouter and Ollama call it.
    reasoning: Option<String>,
    refusal: Option<String>,
    tool_calls: Option<Vec<Call>>,
}

#[derive(Deserialize)]
struct Call {
    index: Option<u64>,
    id: Option<String>,
    #[serde(default)]
    function: Function,
}

#[derive(Deserialize, Default)]
struct Function {
    name: Option<String>,
    arguments: Option<Arguments>,
}

/// Text in pieces, by the letter; some send an object at once.
#[derive(Deserialize)]
#[serde(untagged)]
enum Arguments {
    Text(String),
    Object(Map<String, Value>),
}

#[derive(Deserialize)]
struct Usage {
    #[serde(default)]
    prompt_tokens: u64,
    #[serde(default)]
    completion_tokens: u64,
    total_tokens: Option<u64>,
    prompt_tokens_details: Option<Map<String, Value>>,
    completion_tokens_details: Option<Map<String, Value>>,
}

impl Reader for ChatCompletions {
    fn read(&mut self, data: &str, deltas: &mut Deltas) -> serde_json::Result<()> {
        if data == "[DONE]" {
            self.reason.get_or_insert_with(|| "stop".to_owned());
            self.end(deltas);
            return Ok(());
        }
        let heard: Heard = serde_json::from_str(data)?;
        if let Some(error) = heard.error.filter(|error| !error.is_null()) {
            deltas.push(Delta::Failed(problem(&error)));
            return Ok(());
        }
        deltas.extend(heard.model.filter(|model| !model.is_empty()).map(Delta::Model));
        if let Some(usage) = heard.usage {
            deltas.push(Delta::Tokens(usage.tokens()));
        }
        // Others would be other answers to the same question.
        let Some(choice) = heard.choices.unwrap_or_default().into_iter().next() else {
            return Ok(());
        };
        if let Some(piece) = choice.delta {
            let thoughts = piece.reasoning_content.or(piece.reasoning);
            deltas.extend(thoughts.map(Delta::Thinking));
            deltas.extend(piece.content.map(Delta::Text));
            deltas.extend(piece.refusal.map(Delta::Text));
            for call in piece.tool_calls.unwrap_or_default() {
                self.call(call, deltas);
            }
        }
        self.reason = choice.finish_reason.or(self.reason.take());
        Ok(())
    }

    /// The reason is followed by counts, and then by `[DONE]`, which not all send.
    fn end(&mut self, deltas: &mut Deltas) {
        let Some(reason) = self.reason.take() else { return };
        deltas.push(Delta::Done(match reason.as_str() {
            "length" => FinishReason::Length,
            "content_filter" => FinishReason::ContentFilter,
            "tool_calls" | "function_call" => FinishReason::ToolCalls,
            _ => FinishReason::Stop,
        }));
    }
}

impl ChatCompletions {
    fn call(&mut self, call: Call, deltas: &mut Deltas) {
        // One without an index belongs to the last call, unless it has an id of its own.
        let key = match (call.index, &call.id) {
            (Some(index), _) => index.to_string(),
            (None, Some(id)) => id.clone(),
            (None, None) => self.calls.last().cloned().unwrap_or_default(),
        };
        if !self.calls.contains(&key) {
            let name = call.function.name.unwrap_or_default();
            let id = call.id.filter(|id| !id.is_empty());
            let id = id.unwrap_or_else(|| format!("call_{:016x}", rand::random::<u64>()));
            self.calls.push(key.clone());
            deltas.push(Delta::Call { key: key.clone(), id, name, signature: None });
        }
        match call.function.arguments {
            Some(Arguments::Text(delta)) => deltas.push(Delta::Arguments { key, delta }),
            Some(Arguments::Object(object)) => {
                let arguments = Value::Object(object).to_string();
                deltas.push(Delta::AllArguments { key, arguments });
            }
            None => {}
        }
    }
}

impl Usage {
    fn tokens(&self) -> Tokens {
        let detail = |details: &Option<Map<String, Value>>, field: &str| {
            details.as_ref().and_then(|details| details.get(field)?.as_u64())
        };
        let sum = self.prompt_tokens.saturating_add(self.completion_tokens);
        Tokens {
            input: self.prompt_tokens,
            output: self.completion_tokens,
            total: self.total_tokens.unwrap_or(sum),
            cached_input: detail(&self.prompt_tokens_details, "cached_tokens"),
            reasoning: detail(&self.completion_tokens_details, "reasoning_tokens"),
        }
    }
}
