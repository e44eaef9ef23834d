//! `POST /ai/chat`: a thin layer over [`Chat`].

use axum::body::{Body, Bytes};
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, Extension, State};
use axum::http::{Extensions, HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures_util::{StreamExt, stream};
use host_caller::Caller;
use host_http::error;
use serde_json::{Value, json};

use super::agent::Agent;
use super::body::{self, Generation, Invalid};
use super::conversation::Request;
use super::wire::{DONE, Writer};
use super::{Chat, NotStarted};
use crate::admission::NotAdmitted;
use crate::providers::Key;

/// The header for a caller's own key.
const PROVIDER_API_KEY: &str = "x-provider-api-key";

/// `POST /ai/chat` and `GET /ai/providers`.
pub fn router(chat: Chat) -> Router {
    let body = DefaultBodyLimit::max(chat.limits().chat_body_bytes);
    Router::new()
        .route("/ai/chat", post(answer).layer(body))
        .route("/ai/providers", get(providers))
        .with_state(chat)
}

async fn answer(
    State(chat): State<Chat>,
    caller: Option<Extension<Caller>>,
    extensions: Extensions,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Response> {
    let (request, generation) = read(&headers, body)?;
    let caller = caller.map(|Extension(caller)| caller);
    let mut writer = Writer::new(&request, generation, chat.limits().repeated_bytes);
    let events = if request.actions.is_empty() {
        chat.run(caller.as_ref(), request)
            .map_err(NotStarted::into_response)?
            .events()
            .left_stream()
    } else {
        let agent = Agent::new(chat, caller, extensions, request);
        agent.map_err(NotStarted::into_response)?.events().right_stream()
    };
    // Some events are not sent to clients. They must not become an empty frame, which would end the
    // body.
    let frames = events.map(move |event| writer.write(event));
    let frames = frames.filter(|frame| std::future::ready(!frame.is_empty()));
    let done = stream::once(std::future::ready(Bytes::from_static(DONE)));
    let body = Body::from_stream(frames.chain(done).map(Ok::<_, std::convert::Infallible>));
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        // A proxy in front must not buffer either.
        (header::HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
    ];
    Ok((headers, body).into_response())
}

#[expect(clippy::result_large_err, reason = "made once for each request, and given on as it is")]
fn read(
    headers: &HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<(Request, Generation), Response> {
    let body = body.map_err(|rejection| error(rejection.status(), rejection.body_text()))?;
    let media_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = media_type.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("application/json") {
        let found = media_type.map_or("nothing".to_owned(), |found| format!("{found:?}"));
        let message = format!("content-type: expected \"application/json\", found {found}");
        return Err(error(StatusCode::UNPROCESSABLE_ENTITY, message));
    }
    let body: Value = serde_json::from_slice(&body).map_err(|reason| {
        error(StatusCode::BAD_REQUEST, format!("the body is not JSON: {reason}"))
    })?;
    let (mut request, generation) = body::read(&body).map_err(invalid)?;
    let key = headers.get(PROVIDER_API_KEY).filter(|key| !key.is_empty());
    request.key = match key.map(|key| key.to_str().ok().and_then(Key::new)) {
        Some(None) => {
            let message = format!("{PROVIDER_API_KEY}: a key has only visible ASCII characters");
            return Err(error(StatusCode::BAD_REQUEST, message));
        }
        Some(key) => key,
        None => None,
    };
    Ok((request, generation))
}

/// The providers, and whether each works without a key of the caller's own.
async fn providers(State(chat): State<Chat>, caller: Option<Extension<Caller>>) -> Json<Value> {
    let hub = caller.is_some() && chat.providers().has_hub();
    let providers = chat
        .providers()
        .iter()
        .map(|provider| json!({ "name": provider.name(), "ready": hub || provider.is_ready() }));
    Json(json!({ "data": providers.collect::<Vec<_>>() }))
}

fn invalid(error: Invalid) -> Response {
    let body = json!({
        "error": {
            "message": error.to_string(),
            "property": error.at,
            "expected": error.expected,
            "found": error.found,
        }
    });
    (StatusCode::UNPROCESSABLE_ENTITY, Json(body)).into_response()
}

impl IntoResponse for NotStarted {
    /// The first two codes are those of the original server, which its clients know.
    fn into_response(self) -> Response {
        match self {
            Self::UnknownAction(_) => error(StatusCode::BAD_REQUEST, self.to_string()),
            Self::UnknownProvider(_) => (StatusCode::BAD_REQUEST, self.to_string()).into_response(),
            Self::MissingKey(_) => (StatusCode::UNAUTHORIZED, self.to_string()).into_response(),
            Self::NotAdmitted(NotAdmitted::Full) => {
                error(StatusCode::SERVICE_UNAVAILABLE, self.to_string())
            }
            Self::NotAdmitted(ref reason) => {
                let mut response = error(StatusCode::TOO_MANY_REQUESTS, reason.to_string());
                if let NotAdmitted::TooOften { after, .. } = reason {
                    let after = HeaderValue::from(after.as_secs() + 1);
                    response.headers_mut().insert(header::RETRY_AFTER, after);
                }
                response
            }
        }
    }
}
