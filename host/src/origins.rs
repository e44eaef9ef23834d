//! Which web pages may use the server.
//!
//! Browsers keep a page from reading the answers of other origins unless CORS allows it, but they
//! let it open WebSockets and send simple requests anywhere. So besides the CORS headers, a
//! request that carries the origin of a page must be from one that is allowed before it may open a
//! socket or change anything. Programs that are not browsers send no origin.

use std::collections::HashSet;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tower_http::cors::{AllowOrigin, CorsLayer};

use crate::serve::StartError;

/// The origins that are allowed.
#[derive(Clone)]
pub(crate) struct Origins(Arc<HashSet<HeaderValue>>);

impl Origins {
    pub fn new(origins: &[String]) -> Result<Self, StartError> {
        let parse = |origin: &String| {
            let wrong = || StartError::Origin(origin.clone());
            let (scheme, rest) = origin.split_once("://").ok_or_else(wrong)?;
            if scheme.is_empty() || rest.is_empty() || rest.contains('/') {
                return Err(wrong());
            }
            HeaderValue::from_str(origin).map_err(|_| wrong())
        };
        Ok(Self(Arc::new(origins.iter().map(parse).collect::<Result<_, _>>()?)))
    }

    /// The headers by which browsers learn of it.
    pub fn cors(&self) -> CorsLayer {
        let allowed = self.clone();
        CorsLayer::new()
            .allow_origin(AllowOrigin::predicate(move |origin, _| allowed.0.contains(origin)))
            .allow_credentials(true)
            .allow_headers([
                header::CONTENT_TYPE,
                header::AUTHORIZATION,
                header::IF_MATCH,
                header::IF_NONE_MATCH,
                HeaderName::from_static("last-event-id"),
            ])
            .expose_headers([header::ETAG])
            .allow_methods([Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
    }

    /// Whether a page may open sockets and change things: it is on the list, or is our own.
    fn allows(&self, origin: &HeaderValue, host: Option<&HeaderValue>) -> bool {
        let own = |origin: &str, host: &str| {
            origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://")) == Some(host)
        };
        self.0.contains(origin)
            || matches!(
                (origin.to_str(), host.map(HeaderValue::to_str)),
                (Ok(origin), Some(Ok(host))) if own(origin, host)
            )
    }
}

/// Refuses sockets and changes that a page of another origin asks for.
pub(crate) async fn check(
    State(origins): State<Origins>,
    request: Request,
    next: Next,
) -> Response {
    let headers = request.headers();
    let reads = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    let harmless = reads && !headers.contains_key(header::UPGRADE);
    if let Some(origin) = headers.get(header::ORIGIN)
        && !harmless
        && !origins.allows(origin, headers.get(header::HOST))
    {
        let origin = String::from_utf8_lossy(origin.as_bytes());
        let message = format!(
            "pages from {origin} may not use this server; start it with --allow-origin {origin}"
        );
        let body = Json(json!({ "error": { "message": message } }));
        return (StatusCode::FORBIDDEN, body).into_response();
    }
    next.run(request).await
}
