//! Chat completions: `POST /v1/chat/completions`, which grok, Ollama, llama.cpp, vLLM, OpenRouter
//! and many others implement, each with its own deviations.
//!
//! Source: <https://platform.openai.com/docs/api-reference/chat-streaming>

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Deltas, Reader, count, problem, unsupported, url};
use crate::chat::assembly::Delta;
use crate::chat::conversation::{Content, MediaKind, Message, Request};
use crate::chat::event::{Failure, FinishReason};
use crate::tokens::Tokens;

/// Builds the body of a request.
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
                        let function = json!({ "name": call.name, "arguments": call.input_text() });
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
///
/// The documented format is only the baseline. The deviations that this parser accepts, and who
/// sends them, are listed next to the streams in `tests/recordings/ai/accents`.
#[derive(Debug, Default)]
pub struct ChatCompletions {
    calls: Vec<BegunCall>,
    reason: Option<String>,
    /// Whether any content has been streamed. If not, a whole message is used.
    in_pieces: bool,
}

/// A call that has begun.
#[derive(Debug)]
struct BegunCall {
    key: String,
    index: Option<u64>,
    id: Option<String>,
    /// Whether it has been emitted, which requires its name.
    named: bool,
    arguments: String,
}

#[derive(Deserialize)]
struct Chunk {
    model: Option<String>,
    choices: Option<Vec<Choice>>,
    usage: Option<Value>,
    /// Where Groq reports the usage.
    x_groq: Option<Value>,
    error: Option<Value>,
    /// vLLM sets this to `error` and puts the error's fields next to it.
    object: Option<Value>,
}

#[derive(Deserialize)]
struct Choice {
    delta: Option<Piece>,
    message: Option<Piece>,
    finish_reason: Option<String>,
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Piece {
    /// Text, or a list of parts.
    content: Option<Value>,
    /// The name used by DeepSeek, grok, llama.cpp and vLLM.
    reasoning_content: Option<Value>,
    /// The name used by Groq, Ollama, OpenRouter and newer versions of vLLM.
    reasoning: Option<Value>,
    /// Sent next to `reasoning`, or instead of it.
    reasoning_details: Option<Value>,
    refusal: Option<String>,
    tool_calls: Option<Vec<CallPiece>>,
}

#[derive(Deserialize)]
struct CallPiece {
    index: Option<u64>,
    id: Option<String>,
    function: Option<Function>,
}

#[derive(Deserialize, Default)]
struct Function {
    name: Option<String>,
    /// Pieces of JSON text, or a whole object.
    arguments: Option<Value>,
}

impl Reader for ChatCompletions {
    fn read(&mut self, data: &str, deltas: &mut Deltas) -> serde_json::Result<()> {
        let chunk: Chunk = serde_json::from_str(data)?;
        let is_error = chunk.object.is_some_and(|object| object == "error");
        let error = match chunk.error {
            None | Some(Value::Null) if is_error => Some(serde_json::from_str(data)?),
            error => error,
        };
        if let Some(error) = error.filter(|error| !error.is_null()) {
            deltas.push(Delta::Failed(problem(&error)));
            return Ok(());
        }
        deltas.extend(chunk.model.filter(|model| !model.is_empty()).map(Delta::Model));
        let of_groq = chunk.x_groq.and_then(|mut groq| groq.get_mut("usage").map(Value::take));
        if let Some(usage) = chunk.usage.filter(Value::is_object).or(of_groq) {
            deltas.push(Delta::Tokens(tokens(&usage)));
        }
        // Further choices would be alternative answers.
        let Some(choice) = chunk.choices.unwrap_or_default().into_iter().next() else {
            return Ok(());
        };
        self.in_pieces |= choice.delta.is_some();
        if let Some(piece) = choice.delta.or(choice.message.filter(|_| !self.in_pieces)) {
            self.piece(piece, deltas);
        }
        let reason = choice.finish_reason.filter(|reason| !reason.is_empty());
        if reason.as_deref() == Some("error") {
            let unknown = || Failure::new("failed", "the provider failed and does not say why");
            let failure = choice.error.as_ref().map_or_else(unknown, problem);
            deltas.push(Delta::Failed(failure));
        }
        self.reason = reason.or(self.reason.take());
        Ok(())
    }

    fn done(&mut self, deltas: &mut Deltas) {
        self.reason.get_or_insert_with(|| "stop".to_owned());
        self.end(deltas);
    }

    /// The finish reason is followed by the usage and then by `[DONE]`, which not all servers send.
    fn end(&mut self, deltas: &mut Deltas) {
        let Some(reason) = self.reason.take() else { return };
        for call in &mut self.calls {
            call.name(String::new(), deltas);
        }
        deltas.push(Delta::Done(match reason.as_str() {
            "length" | "max_tokens" | "model_length" => FinishReason::Length,
            "content_filter" => FinishReason::ContentFilter,
            "tool_calls" | "function_call" => FinishReason::ToolCalls,
            _ => FinishReason::Stop,
        }));
    }
}

impl ChatCompletions {
    fn piece(&mut self, piece: Piece, deltas: &mut Deltas) {
        let thoughts = [piece.reasoning_content, piece.reasoning, piece.reasoning_details];
        let mut thoughts = thoughts.iter().flatten().map(words);
        deltas.extend(thoughts.find(|thought| !thought.is_empty()).map(Delta::Thinking));
        if let Some(content) = piece.content {
            say(content, deltas);
        }
        deltas.extend(piece.refusal.map(Delta::Text));
        for call in piece.tool_calls.unwrap_or_default() {
            self.call(call, deltas);
        }
    }

    fn call(&mut self, piece: CallPiece, deltas: &mut Deltas) {
        let id = piece.id.filter(|id| !id.is_empty());
        let Function { name, arguments } = piece.function.unwrap_or_default();
        let name = name.filter(|name| !name.is_empty());
        let at = self.find(piece.index, id.as_deref(), name.is_some());
        let at = at.unwrap_or_else(|| {
            let key = self.calls.len().to_string();
            let (index, arguments) = (piece.index, String::new());
            self.calls.push(BegunCall { key, index, id: None, named: false, arguments });
            self.calls.len() - 1
        });
        let Some(call) = self.calls.get_mut(at) else { return };
        call.id = call.id.take().or(id);
        if let Some(name) = name {
            call.name(name, deltas);
        }
        match arguments {
            Some(Value::String(piece)) => call.argue(piece, deltas),
            None | Some(Value::Null) => {}
            Some(whole) if call.arguments.is_empty() => call.argue(whole.to_string(), deltas),
            Some(_) => {}
        }
    }

    /// The call that a piece belongs to; `None` if it starts a new one.
    ///
    /// Neither index nor id is reliable. Ollama and others number all calls of an answer 0, and
    /// some versions of vLLM give each piece of a call a new id. Either only the first piece of a
    /// call has a name, or all of them do, so the name settles it.
    fn find(&self, index: Option<u64>, id: Option<&str>, named: bool) -> Option<usize> {
        let same_id = |call: &BegunCall| id.is_some() && call.id.as_deref() == id;
        if let Some(at) = self.calls.iter().rposition(same_id) {
            return Some(at);
        }
        if index.is_none() && (named || id.is_some()) {
            return None;
        }
        let at = match index {
            Some(_) => self.calls.iter().rposition(|call| call.index == index)?,
            None => self.calls.len().checked_sub(1)?,
        };
        let call = self.calls.get(at)?;
        let another_id = id.is_some() && call.id.is_some();
        let another = named && call.named && (another_id || call.is_complete());
        (!another).then_some(at)
    }
}

impl BegunCall {
    /// Emits the call once its name is known. An id may come before the name.
    fn name(&mut self, name: String, deltas: &mut Deltas) {
        if std::mem::replace(&mut self.named, true) {
            return;
        }
        let id = self.id.clone();
        let id = id.unwrap_or_else(|| format!("call_{:016x}", rand::random::<u64>()));
        let key = self.key.clone();
        deltas.push(Delta::Call { key: key.clone(), id, name, signature: None });
        deltas.push(Delta::Arguments { key, delta: self.arguments.clone() });
    }

    fn argue(&mut self, delta: String, deltas: &mut Deltas) {
        self.arguments.push_str(&delta);
        if self.named {
            deltas.push(Delta::Arguments { key: self.key.clone(), delta });
        }
    }

    fn is_complete(&self) -> bool {
        self.arguments.ends_with('}')
            && serde_json::from_str::<serde::de::IgnoredAny>(&self.arguments).is_ok()
    }
}

/// Content is text or a list of typed parts. Mistral puts thoughts among the parts.
fn say(content: Value, deltas: &mut Deltas) {
    match content {
        Value::String(text) => deltas.push(Delta::Text(text)),
        Value::Array(parts) => parts.into_iter().for_each(|part| say(part, deltas)),
        Value::Object(ref part) => match part.get("type").and_then(Value::as_str) {
            Some("thinking" | "reasoning") => deltas.push(Delta::Thinking(words(&content))),
            None | Some("text" | "output_text") => deltas.push(Delta::Text(words(&content))),
            Some(_) => {}
        },
        _ => {}
    }
}

/// All text in a string, a part or a list of parts, whichever a server sends.
fn words(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().map(words).collect(),
        Value::Object(part) => {
            let mut fields = ["text", "thinking", "summary", "content"].iter();
            fields.find_map(|field| part.get(*field)).map(words).unwrap_or_default()
        }
        _ => String::new(),
    }
}

fn tokens(usage: &Value) -> Tokens {
    let input = count(usage, "/prompt_tokens").unwrap_or(0);
    let output = count(usage, "/completion_tokens").unwrap_or(0);
    Tokens {
        input,
        output,
        total: count(usage, "/total_tokens").unwrap_or(input.saturating_add(output)),
        cached_input: count(usage, "/prompt_tokens_details/cached_tokens"),
        reasoning: count(usage, "/completion_tokens_details/reasoning_tokens"),
    }
}
