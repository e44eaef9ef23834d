//! Which web pages may use the server.
//!
//! Browsers keep a page from reading the answers of other origins unless CORS allows it, but they
//! let it open WebSockets and send simple requests anywhere. So besides the CORS headers, a
//! request that carries the origin of a page must be from one that is allowed before it may open a
//! socket or change anything. Programs that are not browsers send no origin.

use std::collections::HashSet;
use std::sync::Arc;

use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::Response;
use host_auth::Token;
use host_auth::verifier::Place;
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};

use crate::hosts::Hosts;
use crate::serve::StartError;
use crate::session::error;

/// The origins that are allowed, at the names that the server answers to.
#[derive(Clone)]
pub(crate) struct Origins(Arc<HashSet<HeaderValue>>, Hosts);

impl Origins {
    pub fn new(origins: &[String], hosts: Hosts) -> Result<Self, StartError> {
        let parse = |origin: &String| {
            let wrong = || StartError::Origin(origin.clone());
            let (scheme, rest) = origin.split_once("://").ok_or_else(wrong)?;
            if scheme.is_empty() || rest.is_empty() || rest.contains('/') {
                return Err(wrong());
            }
            HeaderValue::from_str(origin).map_err(|_| wrong())
        };
        Ok(Self(Arc::new(origins.iter().map(parse).collect::<Result<_, _>>()?), hosts))
    }

    /// The headers by which browsers learn of it.
    pub fn cors(&self) -> CorsLayer {
        let allowed = self.clone();
        CorsLayer::new()
            .allow_origin(AllowOrigin::predicate(move |origin, _| allowed.0.contains(origin)))
            .allow_credentials(true)
            // SDKs of AI providers send a dozen of their own. The origin is what is checked.
            .allow_headers(AllowHeaders::mirror_request())
            .expose_headers([
                header::ETAG,
                header::RETRY_AFTER,
                // Better Auth's clients that keep no cookies find their token in it.
                HeaderName::from_static("set-auth-token"),
                // By these SDKs continue uploads, and name requests in their errors.
                HeaderName::from_static("x-goog-upload-url"),
                HeaderName::from_static("x-goog-upload-status"),
                HeaderName::from_static("x-request-id"),
                HeaderName::from_static("request-id"),
            ])
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

    /// The answer to sockets and changes that a page of another origin asks for; none to what may pass.
    pub fn refusal(&self, request: &Parts) -> Option<Response> {
        let headers = &request.headers;
        let host = headers.get(header::HOST);
        if let Err(name) = self.1.check(host) {
            let message =
                format!("this server is not called {name:?}; if it is, start it with --allow-host");
            return Some(error(StatusCode::MISDIRECTED_REQUEST, message));
        }
        let reads = matches!(request.method, Method::GET | Method::HEAD | Method::OPTIONS);
        let harmless = reads && !headers.contains_key(header::UPGRADE);
        // Accounts check origins themselves, as Better Auth does: a bearer is from nobody's page.
        if harmless || request.uri.path().starts_with("/auth/") {
            return None;
        }
        match headers.get(header::ORIGIN) {
            Some(origin) if !self.allows(origin, host) => {
                let origin = String::from_utf8_lossy(origin.as_bytes());
                let message = format!(
                    "pages from {origin} may not use this server; start it with --allow-origin \
                     {origin}"
                );
                Some(error(StatusCode::FORBIDDEN, message))
            }
            // A browser sends a cookie by itself, and says for which page whenever it matters.
            None if Token::of(request).is_some_and(|t| t.place == Place::Cookie) => {
                let message = "a session cookie counts only together with an Origin; programs send \
                               their token as a bearer";
                Some(error(StatusCode::FORBIDDEN, message))
            }
            _ => None,
        }
    }
}

/// Headers that keep browsers from making more of an answer than it is: from guessing its type,
/// from showing it within another page, from handing it to pages of other origins that load it as
/// an image or a script, and from telling its URL, which may carry a token, to others.
pub(crate) fn guard(mut response: Response) -> Response {
    const GUARDS: [(HeaderName, &str); 5] = [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::CONTENT_SECURITY_POLICY, "frame-ancestors 'none'"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ];
    for (name, value) in GUARDS {
        // A route may know better.
        response.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}
