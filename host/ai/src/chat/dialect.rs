//! The four APIs for asking models, one file each.
//!
//! A dialect has two halves: it converts a [`Request`] into its API's body, and it parses the API's
//! stream into [`Delta`]s. Nothing above this module knows which API answers. What they share is
//! here, above all the reporting of errors.

pub(super) mod anthropic;
pub(super) mod completions;
pub(super) mod gemini;
pub(super) mod openai;

use serde_json::Value;
use url::Url;

use super::assembly::Delta;
use super::conversation::{Content, Request, Source};
use super::event::Failure;
use crate::providers::{Api, Provider};

/// The deltas of one event.
pub type Deltas = Vec<Delta>;

/// Ends most streams. Some servers send it even if their API has no such event.
const DONE: &str = "[DONE]";

/// Parses the stream of one answer.
pub trait Reader: Send {
    /// Parses one event, which is a JSON object. Unknown events and fields are skipped. Fails only
    /// on data that is not JSON or does not have the API's shape at all.
    fn read(&mut self, data: &str, deltas: &mut Deltas) -> serde_json::Result<()>;

    /// The server has announced the end of the stream.
    fn done(&mut self, _deltas: &mut Deltas) {}

    /// The stream has ended. An answer that is still incomplete was cut off.
    fn end(&mut self, _deltas: &mut Deltas) {}

    /// Parses the data of one event of any kind. Keep-alives have none.
    fn hear(&mut self, data: &str, deltas: &mut Deltas) -> serde_json::Result<()> {
        match data.trim() {
            "" => Ok(()),
            DONE => {
                self.done(deltas);
                Ok(())
            }
            data => self.read(data, deltas),
        }
    }
}

/// Creates a parser for an API's stream.
pub fn reader(api: Api) -> Box<dyn Reader> {
    match api {
        Api::Responses => Box::<openai::Responses>::default(),
        Api::Messages => Box::<anthropic::Messages>::default(),
        Api::GenerateContent => Box::<gemini::GenerateContent>::default(),
        Api::ChatCompletions => Box::<completions::ChatCompletions>::default(),
    }
}

/// The URL and body of a request.
pub fn call(provider: &Provider, request: &Request) -> Result<(Url, Value), Failure> {
    Ok(match provider.api() {
        Api::Responses => (provider.endpoint("responses"), openai::body(request)?),
        Api::Messages => (provider.endpoint("messages"), anthropic::body(request)?),
        Api::GenerateContent => {
            let mut url = provider.endpoint(&gemini::path(&request.model)?);
            url.set_query(Some("alt=sse"));
            (url, gemini::body(request)?)
        }
        Api::ChatCompletions => {
            (provider.endpoint("chat/completions"), completions::body(request, provider.name())?)
        }
    })
}

/// The failure to report for an error response, with the text that each provider's own client
/// shows.
pub fn failure(api: Api, status: u16, body: &str) -> Failure {
    let json: Option<Value> = serde_json::from_str(body).ok();
    let error = json.as_ref().and_then(|body| body.get("error"));
    let coded = |message| Failure::new(status.to_string(), message);
    match (api, error) {
        _ if body.trim().is_empty() => coded(format!("{status} status code (no body)")),
        (Api::GenerateContent, _) => coded(body.to_owned()),
        (Api::Responses | Api::ChatCompletions, Some(error)) => {
            let failure = problem(error);
            let code = failure.code.unwrap_or_else(|| status.to_string());
            Failure::new(code, format!("{status} {}", failure.message))
        }
        _ => coded(format!("{status} {body}")),
    }
}

/// Parses an `error` in OpenAI's format or others': an object with a message, or just text.
pub fn problem(error: &Value) -> Failure {
    let message = match error.get("message") {
        Some(Value::String(message)) => message.clone(),
        _ => error.to_string(),
    };
    Failure { message, code: error.get("code").and_then(code) }
}

/// A token count at a JSON pointer in a provider's usage. Servers that do not count send `null`,
/// and some send fractions.
pub fn count(usage: &Value, pointer: &str) -> Option<u64> {
    let count = usage.pointer(pointer)?;
    let fraction = || count.as_f64().filter(|count| *count >= 0.0).map(|count| count as u64);
    count.as_u64().or_else(fraction)
}

/// A code is text, but some servers send a number.
pub fn code(value: &Value) -> Option<String> {
    match value {
        Value::String(code) if !code.is_empty() => Some(code.clone()),
        Value::Number(code) => Some(code.to_string()),
        _ => None,
    }
}

/// The failure for an answer that exceeds its limit.
pub fn cut_off() -> Failure {
    let message = "The response was cut off because the maximum token limit was reached.";
    Failure::new("max_tokens", message)
}

/// The failure for content that a provider does not accept.
pub fn unsupported(provider: &str, content: &Content) -> Failure {
    let kind = match content {
        Content::Text(_) => "text",
        Content::Media { kind, .. } => kind.name(),
        Content::Unknown(kind) => kind,
    };
    let message = format!("{provider} does not take content of type {kind}");
    Failure::new("unsupported_content", message)
}

/// The source as one URL.
pub fn url(source: &Source) -> String {
    match source {
        Source::Url { url, .. } => url.clone(),
        Source::Data { media_type, data } => format!("data:{media_type};base64,{data}"),
    }
}
