//! Sends a request to a provider and streams its answer.
//!
//! A failure before the answer starts is retried a few times, with pauses. Once an answer has
//! started it is not retried, because the client has seen part of it. Every wait has a limit, and
//! nothing runs in the background: dropping the future or the answer closes the connection, which
//! tells the provider that nobody listens.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use bytes::Bytes;
use tokio::time::{sleep, timeout};
use url::Url;

use super::dialect;
use super::event::Failure;
use super::sse::Decoder;
use crate::limits::Limits;
use crate::providers::{Api, Key, Provider};

/// The version of Anthropic's API that this server speaks.
const ANTHROPIC_VERSION: HeaderValue = HeaderValue::from_static("2023-06-01");

/// A request that is ready to send.
pub struct Question {
    /// The provider.
    pub provider: Arc<Provider>,
    /// The HTTP client that all requests share.
    pub client: reqwest::Client,
    /// The URL.
    pub url: Url,
    /// The body.
    pub body: Bytes,
    /// The key.
    pub key: Option<Key>,
    /// The limits.
    pub limits: Arc<Limits>,
}

/// An answer that has started.
pub struct Reply {
    response: reqwest::Response,
    decoder: Decoder,
    events: VecDeque<String>,
    bytes: usize,
    limits: Arc<Limits>,
    provider: Arc<Provider>,
}

/// Why an attempt failed.
struct FailedAttempt {
    failure: Failure,
    /// `None` if a retry is pointless; otherwise the pause that the provider asked for, if any.
    again: Option<Option<Duration>>,
}

impl Question {
    /// Sends the request until there is an answer or retrying is pointless.
    pub async fn ask(&self) -> Result<Reply, Failure> {
        let mut attempt = 1;
        loop {
            let refusal = match self.attempt().await {
                Ok(response) => return Ok(self.answer(response)),
                Err(refusal) => refusal,
            };
            let provider = self.provider.name();
            let Some(asked_for) = refusal.again.filter(|_| attempt < self.limits.attempts) else {
                return Err(refusal.failure);
            };
            let delay = asked_for.unwrap_or_else(|| self.backoff(attempt));
            if delay > self.limits.retry_after {
                return Err(refusal.failure);
            }
            tracing::debug!(provider, attempt, ?delay, "asking the provider again");
            sleep(delay).await;
            attempt += 1;
        }
    }

    /// Exponential backoff with jitter, so that requests that failed together do not retry
    /// together.
    fn backoff(&self, attempt: u32) -> Duration {
        let delay = self.limits.retry_delay.saturating_mul(1 << (attempt - 1).min(16));
        delay.mul_f64(rand::random_range(0.75..1.25)).min(self.limits.retry_after)
    }

    async fn attempt(&self) -> Result<reqwest::Response, FailedAttempt> {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::ACCEPT, HeaderValue::from_static("text/event-stream"));
        // Compressed data could not be searched for the key.
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if self.provider.api() == Api::Messages {
            headers.insert("anthropic-version", ANTHROPIC_VERSION);
        }
        if let Some(key) = &self.key {
            self.provider.authorize(&mut headers, key);
        }
        let request = self.client.post(self.url.clone()).headers(headers).body(self.body.clone());
        let response = match timeout(self.limits.first_byte_timeout, request.send()).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => {
                return Err(FailedAttempt { failure: self.unreachable(error), again: Some(None) });
            }
            Err(_) => return Err(FailedAttempt { failure: self.silent(), again: None }),
        };
        let status = response.status();
        if status.is_success() && is_stream(response.headers()) {
            return Ok(response);
        }
        let retriable = status.is_server_error()
            || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT);
        let again = retriable.then(|| retry_after(response.headers()));
        let body = self.error_body(response).await;
        let failure = if status.is_success() {
            let message = format!("{} does not answer with a stream: {body}", self.provider.name());
            Failure::new("invalid_response", message)
        } else {
            tracing::info!(provider = self.provider.name(), %status, "the provider refused");
            dialect::failure(self.provider.api(), status.as_u16(), &body)
        };
        Err(FailedAttempt { failure, again })
    }

    /// The start of an error's body.
    async fn error_body(&self, mut response: reqwest::Response) -> String {
        if response.headers().contains_key(header::CONTENT_ENCODING) {
            return String::new();
        }
        let bound = self.limits.error_bytes;
        let mut body = Vec::new();
        let read = async {
            while let Ok(Some(chunk)) = response.chunk().await {
                body.extend_from_slice(&chunk);
                if body.len() >= bound {
                    body.truncate(bound);
                    break;
                }
            }
        };
        // Whatever has arrived by then must do.
        let _ = timeout(Duration::from_secs(10).min(self.limits.idle_timeout), read).await;
        String::from_utf8_lossy(&body).into_owned()
    }

    fn answer(&self, response: reqwest::Response) -> Reply {
        Reply {
            response,
            decoder: Decoder::new(self.limits.event_bytes),
            events: VecDeque::new(),
            bytes: 0,
            limits: self.limits.clone(),
            provider: self.provider.clone(),
        }
    }

    /// The address is only logged: it may belong to an internal network.
    fn unreachable(&self, error: reqwest::Error) -> Failure {
        let name = self.provider.name();
        let mut cause: &dyn std::error::Error = &error;
        while let Some(source) = cause.source() {
            cause = source;
        }
        let base = self.provider.base();
        tracing::warn!(provider = name, %base, %cause, "the provider cannot be reached");
        Failure::new("connection_error", format!("Connection error. {name}: {cause}"))
    }

    fn silent(&self) -> Failure {
        silent(&self.provider, self.limits.first_byte_timeout)
    }
}

impl Reply {
    /// The data of the next event; `None` at the end of the stream.
    pub async fn next(&mut self) -> Result<Option<String>, Failure> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(Some(event));
            }
            let begun = self.bytes > 0;
            let limits = &self.limits;
            let patience = if begun { limits.idle_timeout } else { limits.first_byte_timeout };
            let chunk = match timeout(patience, self.response.chunk()).await {
                Ok(Ok(Some(chunk))) => chunk,
                Ok(Ok(None)) => return Ok(None),
                Ok(Err(error)) => {
                    let name = self.provider.name();
                    tracing::warn!(provider = name, error = %error.without_url(), "the provider closed the connection before its answer was complete");
                    return Err(cut(name));
                }
                Err(_) => return Err(silent(&self.provider, patience)),
            };
            self.bytes += chunk.len();
            if self.bytes > self.limits.stream_bytes {
                let bound = self.limits.stream_bytes;
                return Err(self.oversized(format!("the answer is longer than {bound} bytes")));
            }
            if self.decoder.push(&chunk, &mut self.events).is_err() {
                let bound = self.limits.event_bytes;
                return Err(self.oversized(format!("one event is longer than {bound} bytes")));
            }
        }
    }

    /// Waits briefly for the provider to end its stream, so that the connection can be reused: a
    /// new one would cost the next user a handshake.
    pub async fn drain(&mut self) {
        let end = async { while let Ok(Some(_)) = self.response.chunk().await {} };
        let _ = timeout(Duration::from_millis(100), end).await;
    }

    fn oversized(&self, what: String) -> Failure {
        let message = format!("{} sends more than this server takes: {what}", self.provider.name());
        Failure::new("response_too_large", message)
    }
}

/// The failure for a stream that ends before the answer does.
pub fn cut(provider: &str) -> Failure {
    let message =
        format!("Connection error. {provider} ended the stream before the answer was complete");
    Failure::new("connection_error", message)
}

fn silent(provider: &Provider, patience: Duration) -> Failure {
    let name = provider.name();
    let message = format!("{name} was silent for {} seconds", patience.as_secs_f64());
    Failure::new("timeout", message)
}

/// Some servers stream without declaring it; HTML or a JSON object is not a stream.
fn is_stream(headers: &HeaderMap) -> bool {
    let media_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media_type = media_type.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    !matches!(media_type, "application/json" | "text/html")
}

/// The pause that the provider asks for. It may also give a date, which is useless if clocks
/// differ.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let number = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse::<f64>().ok();
    let milliseconds = number("retry-after-ms").map(|value| value / 1000.0);
    let seconds = milliseconds.or_else(|| number("retry-after"))?;
    Duration::try_from_secs_f64(seconds).ok()
}
