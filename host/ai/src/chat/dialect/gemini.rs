//! Gemini's content API: `POST /v1beta/models/{model}:streamGenerateContent?alt=sse`.
//!
//! Source: <https://ai.google.dev/api/generate-content>

use std::time::{SystemTime, UNIX_EPOCH};

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Deltas, Reader, count, cut_off, unsupported};
use crate::chat::assembly::Delta;
use crate::chat::conversation::{Content, MediaKind, Message, Request, Source, ToolCall};
use crate::chat::event::{Failure, FinishReason};
use crate::tokens::Tokens;

/// The options that belong next to `generationConfig` rather than inside it.
const BESIDE: [&str; 4] = ["safetySettings", "toolConfig", "cachedContent", "labels"];

/// Options that this server controls, and those meant only for a client library.
const OURS: [&str; 6] =
    ["systemInstruction", "tools", "contents", "model", "httpOptions", "abortSignal"];

/// Prefix for the signature of a thought, to tell it from another provider's.
const SIGNATURE: &str = "gemini:";

/// The documented placeholder for a call whose signature is unknown: Gemini 3 rejects a call
/// without any, and older clients do not keep it. Source:
/// <https://ai.google.dev/gemini-api/docs/thought-signatures>
const UNKNOWN_SIGNATURE: &str = "skip_thought_signature_validator";

/// The path of a request below the version. Rejects model names that would lead elsewhere.
pub fn path(model: &str) -> Result<String, Failure> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
    if !model.chars().all(fits)
        || model.split('/').any(|segment| segment.trim_matches('.').is_empty())
    {
        let message = format!("gemini has no model {model:?}: such a name cannot be");
        return Err(Failure::new("invalid_model", message));
    }
    // The name of a tuned model includes its collection.
    let model = if model.contains('/') { model.to_owned() } else { format!("models/{model}") };
    Ok(format!("{model}:streamGenerateContent"))
}

/// Builds the body of a request.
pub fn body(request: &Request) -> Result<Value, Failure> {
    let options = &request.options;
    let mut body = Map::new();
    body.insert("contents".to_owned(), Value::Array(contents(request)?));
    let system = match options.get("systemInstruction") {
        Some(Value::String(text)) => text,
        _ => &request.system,
    };
    if let Some(system @ Value::Object(_)) = options.get("systemInstruction") {
        body.insert("systemInstruction".to_owned(), system.clone());
    } else if !system.is_empty() {
        let system = json!({ "parts": [{ "text": system }], "role": "user" });
        body.insert("systemInstruction".to_owned(), system);
    }
    let mut config = Map::new();
    for (name, value) in options {
        if BESIDE.contains(&name.as_str()) {
            body.insert(name.clone(), value.clone());
        } else if !OURS.contains(&name.as_str()) {
            config.insert(name.clone(), value.clone());
        }
    }
    if !request.tools.is_empty() {
        let tools = request.tools.iter().map(|tool| {
            let schema = &tool.parameters;
            json!({
                "name": tool.name,
                "description": tool.description,
                // Standard JSON Schema, unlike `parameters`, which has its own dialect.
                "parametersJsonSchema": schema,
            })
        });
        let tools = json!([{ "functionDeclarations": tools.collect::<Vec<_>>() }]);
        body.insert("tools".to_owned(), tools);
    }
    body.insert("generationConfig".to_owned(), Value::Object(config));
    Ok(Value::Object(body))
}

/// The API requires alternating roles, so consecutive messages of one role are merged.
fn contents(request: &Request) -> Result<Vec<Value>, Failure> {
    let mut turns: Vec<(&str, Vec<Value>)> = Vec::new();
    for message in &request.messages {
        let (role, parts) = match message {
            Message::User(content) => {
                ("user", content.iter().map(part).collect::<Result<Vec<_>, _>>()?)
            }
            Message::Assistant { text, calls, .. } => {
                let text = (!text.is_empty()).then(|| json!({ "text": text }));
                let calls = calls.iter().enumerate();
                let calls = calls.map(|(index, call)| call_part(call, index, &request.model));
                ("model", text.into_iter().chain(calls).collect())
            }
            Message::Results(results) => {
                let results = results.iter().map(|result| {
                    let response = json!({ "content": result.content });
                    json!({ "functionResponse": { "name": result.name, "response": response } })
                });
                ("user", results.collect())
            }
        };
        match turns.last_mut() {
            Some((last, turn)) if *last == role => turn.extend(parts),
            _ => turns.push((role, parts)),
        }
    }
    let turns = turns.into_iter().filter(|(_, parts)| !parts.is_empty());
    Ok(turns.map(|(role, parts)| json!({ "parts": parts, "role": role })).collect())
}

fn call_part(call: &ToolCall, index: usize, model: &str) -> Value {
    let mut part = json!({ "functionCall": { "name": call.name, "args": call.input() } });
    let known = call.signature.as_deref().and_then(|proof| proof.strip_prefix(SIGNATURE));
    // Of parallel calls, only the first has a signature.
    let unknown = (index == 0 && model.contains("gemini-3")).then_some(UNKNOWN_SIGNATURE);
    if let Some(signature) = known.or(unknown) {
        part["thoughtSignature"] = json!(signature);
    }
    part
}

fn part(content: &Content) -> Result<Value, Failure> {
    Ok(match content {
        Content::Text(text) => json!({ "text": text }),
        Content::Media { source: Source::Data { media_type, data }, .. } => {
            json!({ "inlineData": { "data": data, "mimeType": media_type } })
        }
        Content::Media { kind, source: Source::Url { url, media_type } } => {
            let usual = match kind {
                MediaKind::Image => "image/jpeg",
                MediaKind::Audio => "audio/mp3",
                MediaKind::Video => "video/mp4",
                MediaKind::Document => "application/pdf",
            };
            let media_type = media_type.as_deref().unwrap_or(usual);
            json!({ "fileData": { "fileUri": url, "mimeType": media_type } })
        }
        Content::Unknown(_) => return Err(unsupported("gemini", content)),
    })
}

/// Parses a stream of content.
#[derive(Debug, Default)]
pub struct GenerateContent {
    calls: usize,
    reason: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Chunk {
    candidates: Option<Vec<Candidate>>,
    usage_metadata: Option<Value>,
    model_version: Option<String>,
    prompt_feedback: Option<Feedback>,
    error: Option<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Candidate {
    content: Option<Parts>,
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Parts {
    parts: Option<Vec<Part>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Part {
    text: Option<String>,
    thought: Option<bool>,
    function_call: Option<FunctionCall>,
    thought_signature: Option<String>,
}

#[derive(Deserialize)]
struct FunctionCall {
    id: Option<String>,
    name: Option<String>,
    args: Option<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Feedback {
    block_reason: Option<String>,
}

impl Reader for GenerateContent {
    fn read(&mut self, data: &str, deltas: &mut Deltas) -> serde_json::Result<()> {
        let chunk: Chunk = serde_json::from_str(data)?;
        deltas.extend(chunk.model_version.filter(|model| !model.is_empty()).map(Delta::Model));
        if let Some(problem) = chunk.error.filter(|error| !error.is_null()) {
            let status = problem.get("status").and_then(Value::as_str).unwrap_or("UNKNOWN");
            let message = format!("got status: {status}. {data}");
            deltas.push(Delta::Failed(Failure::new(status, message)));
        }
        let feedback = chunk.prompt_feedback.and_then(|feedback| feedback.block_reason);
        if let Some(reason) = feedback.filter(|reason| reason != "BLOCK_REASON_UNSPECIFIED") {
            let message = format!("gemini does not answer this: {reason}");
            deltas.push(Delta::Failed(Failure::new("content_filter", message)));
        }
        if let Some(usage) = chunk.usage_metadata.filter(Value::is_object) {
            deltas.push(Delta::Tokens(tokens(&usage)));
        }
        // Further candidates would be alternative answers.
        let candidate = chunk.candidates.unwrap_or_default().into_iter().next();
        let Some(candidate) = candidate else { return Ok(()) };
        let parts = candidate.content.and_then(|content| content.parts);
        for part in parts.unwrap_or_default() {
            self.part(part, deltas);
        }
        let reason = candidate.finish_reason.filter(|reason| !reason.is_empty());
        self.reason = reason.or(self.reason.take());
        Ok(())
    }

    /// The finish reason comes with the last content and may be followed by counts.
    fn end(&mut self, deltas: &mut Deltas) {
        let Some(reason) = self.reason.take() else { return };
        deltas.push(match reason.as_str() {
            "STOP" | "FINISH_REASON_UNSPECIFIED" => Delta::Done(FinishReason::Stop),
            "MAX_TOKENS" => Delta::Failed(cut_off()),
            "MALFORMED_FUNCTION_CALL" | "UNEXPECTED_TOOL_CALL" | "TOO_MANY_TOOL_CALLS" => {
                let message = format!("gemini made a call that cannot be read: {reason}");
                Delta::Failed(Failure::new("invalid_arguments", message))
            }
            _ => {
                let message = format!("gemini stopped its answer: {reason}");
                Delta::Failed(Failure::new("content_filter", message))
            }
        });
    }
}

impl GenerateContent {
    fn part(&mut self, part: Part, deltas: &mut Deltas) {
        if let Some(text) = part.text {
            let thought = part.thought == Some(true);
            deltas.push(if thought { Delta::Thinking(text) } else { Delta::Text(text) });
        }
        let Some(call) = part.function_call else { return };
        let key = self.calls.to_string();
        let name = call.name.unwrap_or_default();
        let id = call.id.filter(|id| !id.is_empty()).unwrap_or_else(|| {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            format!("{name}_{}_{}", now.as_millis(), self.calls)
        });
        self.calls += 1;
        let signature = part.thought_signature.map(|proof| format!("{SIGNATURE}{proof}"));
        deltas.push(Delta::Call { key: key.clone(), id, name, signature });
        let arguments = call.args.unwrap_or_else(|| json!({})).to_string();
        deltas.push(Delta::Arguments { key: key.clone(), delta: arguments });
        deltas.push(Delta::CallEnd { key });
    }
}

fn tokens(usage: &Value) -> Tokens {
    let input = count(usage, "/promptTokenCount").unwrap_or(0);
    let output = count(usage, "/candidatesTokenCount").unwrap_or(0);
    Tokens {
        input,
        output,
        total: count(usage, "/totalTokenCount").unwrap_or(input.saturating_add(output)),
        cached_input: count(usage, "/cachedContentTokenCount"),
        reasoning: count(usage, "/thoughtsTokenCount"),
    }
}
