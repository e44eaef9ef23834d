//! Reads the usage from an answer as it passes.
//!
//! All providers report usage in the answer itself, as an object named `usage` or `usageMetadata`,
//! and the model as a string named `model` or `modelVersion`; in a stream, some of the events do.
//! So it is enough to search the bytes for these names. Inside a JSON string a quote follows a
//! backslash, so text about usage is not mistaken for it. Nothing of the answer is kept except the
//! start of such a value that has not arrived as a whole.
//!
//! Answers that cannot be read this way (binary, WebSockets) count as requests without tokens.

use memchr::memmem;
use serde_json::Value;

use crate::tokens::Tokens;
use crate::usage::Tally;

/// Longest value that is parsed, in bytes. The largest usage has a few dozen numbers.
const VALUE: usize = 4096;
/// Bytes of a model's name.
const NAME: usize = 256;

const USAGE: &[u8] = b"\"usage";
const MODEL: &[u8] = b"\"model";
/// The names end with one of these before the quote.
const SUFFIXES: [&[u8]; 3] = [b"\"", b"Metadata\"", b"Version\""];

/// Meters one answer.
pub(super) struct Meter {
    tally: Tally,
    tokens: Tokens,
    /// Whether the model is known.
    named: bool,
    /// The unprocessed end of the data, from where a value may start.
    held: Vec<u8>,
}

/// What was found at a possible name.
enum Found {
    Value(Value),
    Nothing,
    /// Undecided until more data arrives.
    More,
}

impl Meter {
    /// `named` says that the tally already knows the model.
    pub fn new(tally: Tally, named: bool) -> Self {
        Self { tally, tokens: Tokens::default(), named, held: Vec::new() }
    }

    /// Processes the next piece.
    pub fn read(&mut self, piece: &[u8]) {
        if self.held.is_empty() {
            self.held = self.scan(piece);
        } else {
            let mut all = std::mem::take(&mut self.held);
            all.extend_from_slice(piece);
            self.held = self.scan(&all);
        }
    }

    /// Records what is found, and returns the end that must be examined again.
    fn scan(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut from = 0;
        loop {
            let rest = &bytes[from..];
            let usage = memmem::find(rest, USAGE);
            let model = if self.named { None } else { memmem::find(rest, MODEL) };
            let Some(at) = usage.into_iter().chain(model).min() else { break };
            let is_usage = usage == Some(at);
            match value(&rest[at + USAGE.len()..]) {
                Found::Value(value) if is_usage => self.count(&value),
                Found::Value(Value::String(name)) if name.len() <= NAME => {
                    self.named = true;
                    self.tally.name(name);
                }
                Found::Value(_) | Found::Nothing => {}
                Found::More if rest.len() - at <= VALUE => return rest[at..].to_vec(),
                Found::More => {}
            }
            from += at + USAGE.len();
        }
        let end = &bytes[from..];
        let longest = end.len().min(USAGE.len() - 1);
        let begins = |length: &usize| {
            let tail = &end[end.len() - length..];
            USAGE.starts_with(tail) || MODEL.starts_with(tail)
        };
        let keep = (1..=longest).rev().find(begins).unwrap_or(0);
        end[end.len() - keep..].to_vec()
    }

    fn count(&mut self, usage: &Value) {
        let number = |names: &[&str]| names.iter().find_map(|name| usage.pointer(name)?.as_u64());
        let Tokens { input, output, .. } = &mut self.tokens;
        if let Some(asked) = number(&["/input_tokens", "/prompt_tokens", "/promptTokenCount"]) {
            // Anthropic counts cached tokens separately.
            let cached = ["/cache_creation_input_tokens", "/cache_read_input_tokens"];
            let cached = cached.iter().filter_map(|name| number(&[name]));
            *input = asked.saturating_add(cached.fold(0, u64::saturating_add));
        }
        let answered = number(&["/output_tokens", "/completion_tokens", "/candidatesTokenCount"]);
        *output = answered.unwrap_or(*output);
        self.tokens.total = input.saturating_add(*output);
        let cached = number(&[
            "/input_tokens_details/cached_tokens",
            "/prompt_tokens_details/cached_tokens",
            "/cache_read_input_tokens",
            "/cachedContentTokenCount",
        ]);
        self.tokens.cached_input = cached.or(self.tokens.cached_input);
        let reasoning = number(&[
            "/output_tokens_details/reasoning_tokens",
            "/completion_tokens_details/reasoning_tokens",
            "/thoughtsTokenCount",
        ]);
        self.tokens.reasoning = reasoning.or(self.tokens.reasoning);
        self.tally.note(self.tokens);
    }
}

/// Parses the value that follows the start of a name.
fn value(bytes: &[u8]) -> Found {
    let Some(after) = SUFFIXES.iter().find_map(|suffix| bytes.strip_prefix(*suffix)) else {
        let may = SUFFIXES.iter().any(|suffix| suffix.starts_with(bytes));
        return if may { Found::More } else { Found::Nothing };
    };
    let after = after.trim_ascii_start();
    if after.is_empty() {
        return Found::More;
    }
    let Some(text) = after.strip_prefix(b":") else { return Found::Nothing };
    let text = &text[..text.len().min(VALUE)];
    match serde_json::Deserializer::from_slice(text).into_iter().next() {
        Some(Ok(value)) => Found::Value(value),
        Some(Err(error)) if !error.is_eof() => Found::Nothing,
        _ => Found::More,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::usage::{Days, Usage};

    /// The tokens counted for an answer that arrives in these pieces.
    async fn counted(pieces: &[&[u8]]) -> (String, i64, i64, i64) {
        let folder = tempfile::tempdir().expect("a folder");
        let usage = Usage::open(&folder.path().join("ai.db")).expect("a database");
        let mut tally = usage.tally("ada", "openai", "");
        tally.begin();
        let mut meter = Meter::new(tally, false);
        for piece in pieces {
            meter.read(piece);
            assert!(meter.held.len() <= VALUE);
        }
        drop(meter);
        let report = loop {
            let report = usage.report("ada", Days::default()).await.expect("a report");
            if !report.is_empty() {
                break report;
            }
            tokio::task::yield_now().await;
        };
        let spent = &report[0];
        (spent.model.clone(), spent.input_tokens, spent.output_tokens, spent.cached_input_tokens)
    }

    #[tokio::test]
    async fn what_an_answer_took_is_found_wherever_it_is_cut() {
        type Counted<'a> = (&'a str, i64, i64, i64);
        let answers: [(&str, Counted); 6] = [
            (
                r#"data: {"usage":null,"model":"m-1"} data: {"model":"x","usage": {"input_tokens":11,"output_tokens":7,"input_tokens_details":{"cached_tokens":2}}}"#,
                ("m-1", 11, 7, 2),
            ),
            (
                r#"{"model" : "m","usage":{"prompt_tokens":3,"completion_tokens":4}}"#,
                ("m", 3, 4, 0),
            ),
            (
                r#"{"model":"c","usage":{"input_tokens":5,"cache_read_input_tokens":6,"output_tokens":1}} {"usage":{"output_tokens":9}}"#,
                ("c", 11, 9, 6),
            ),
            (
                r#"{"usageMetadata":{"promptTokenCount":8,"candidatesTokenCount":2},"modelVersion":"g"}"#,
                ("g", 8, 2, 0),
            ),
            (
                r#"{"text":"the \"usage\":{\"input_tokens\":99}","usages":{"input_tokens":1}}"#,
                ("", 0, 0, 0),
            ),
            (r#"{"usage":[1],"usage":"x","usage" 1,"model":{"a":1},"#, ("", 0, 0, 0)),
        ];
        for (answer, (model, input, output, cached)) in answers {
            let bytes = answer.as_bytes();
            let expected = (model.to_owned(), input, output, cached);
            for size in [1, 2, 5, 7, bytes.len()] {
                let pieces: Vec<_> = bytes.chunks(size).collect();
                assert_eq!(counted(&pieces).await, expected, "{answer} by {size}");
            }
        }
    }

    #[tokio::test]
    async fn a_value_without_an_end_is_not_kept() {
        let open = format!("{{\"usage\":{{\"a\":\"{}", "x".repeat(3 * VALUE));
        let pieces: Vec<_> = open.as_bytes().chunks(100).collect();
        assert_eq!(counted(&pieces).await.1, 0);
    }
}
