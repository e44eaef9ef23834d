//! Which web pages may use the server.
//!
//! Browsers keep a page from reading answers of other origins unless CORS allows it, but they let
//! it open WebSockets and send simple requests anywhere. So in addition to the CORS headers, a
//! request with a page's origin may open a socket or change anything only if that origin is
//! allowed. Programs other than browsers send no origin.
//!
//! The same holds for query actions, even though they are GETs: a plugin may call other servers or
//! a model while it answers one. Browsers omit the origin from many GETs, but say in
//! `Sec-Fetch-Site` how the page relates to the server.

use std::sync::Arc;

use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::Response;
use host_auth::{Credential, NotAnOrigin, TrustedOrigins, has_session_cookie};
use host_http::error;
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};

use crate::hosts::Hosts;

/// The allowed origins, for each name that the server answers to.
#[derive(Clone)]
pub struct Origins {
    trusted: Arc<TrustedOrigins>,
    hosts: Hosts,
}

impl Origins {
    /// Allows these origins, and those of pages that the server itself serves.
    pub fn new(origins: &[String], hosts: Hosts) -> Result<Self, NotAnOrigin> {
        Ok(Self { trusted: Arc::new(TrustedOrigins::new(origins)?), hosts })
    }

    /// The CORS layer, which tells browsers which pages may read answers.
    pub fn cors(&self) -> CorsLayer {
        let allowed = self.clone();
        CorsLayer::new()
            .allow_origin(AllowOrigin::predicate(move |origin, _| allowed.trusts(origin)))
            .allow_credentials(true)
            // The SDKs of AI providers send a dozen headers of their own. The origin is what we
            // check.
            .allow_headers(AllowHeaders::mirror_request())
            .expose_headers([
                header::ETAG,
                header::RETRY_AFTER,
                // Better Auth's clients that keep no cookies read their token from it.
                HeaderName::from_static("set-auth-token"),
                // SDKs use these to resume uploads and to name requests in errors.
                HeaderName::from_static("x-goog-upload-url"),
                HeaderName::from_static("x-goog-upload-status"),
                HeaderName::from_static("x-request-id"),
                HeaderName::from_static("request-id"),
            ])
            .allow_methods([Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
    }

    fn trusts(&self, origin: &HeaderValue) -> bool {
        origin.to_str().is_ok_and(|origin| self.trusted.trusts(origin))
    }

    /// Whether a page may open sockets and make changes: its origin is allowed, or is our own.
    fn allows(&self, origin: &HeaderValue, host: Option<&HeaderValue>) -> bool {
        let own = |origin: &str, host: &str| {
            origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://")) == Some(host)
        };
        self.trusts(origin)
            || matches!(
                (origin.to_str(), host.map(HeaderValue::to_str)),
                (Ok(origin), Some(Ok(host))) if own(origin, host)
            )
    }

    /// The answer to a request that a page may not make; `None` if the request is allowed.
    pub fn refusal(&self, request: &Parts) -> Option<Response> {
        let headers = &request.headers;
        let host = headers.get(header::HOST);
        if let Err(name) = self.hosts.check(host) {
            let message =
                format!("this server is not called {name:?}; if it is, start it with --allow-host");
            return Some(error(StatusCode::MISDIRECTED_REQUEST, message));
        }
        let reads = matches!(request.method, Method::GET | Method::HEAD | Method::OPTIONS);
        let acts = is_action(request.uri.path());
        let harmless = reads && !acts && !headers.contains_key(header::UPGRADE);
        // The routes of accounts check origins themselves, as Better Auth does.
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
            // `none` means that the user typed the address.
            None if acts && reads && is_of_another_page(headers) => {
                let message = "pages of other origins may not run actions; one that is allowed by \
                               --allow-origin has to ask with CORS";
                Some(error(StatusCode::FORBIDDEN, message))
            }
            None if reads && acts => None,
            // A browser sends cookies by itself, but also the page's origin whenever it matters.
            None if Credential::stated(request).is_none() && has_session_cookie(headers) => {
                let message = "a session cookie counts only together with an Origin; programs send \
                               their token as a bearer";
                Some(error(StatusCode::FORBIDDEN, message))
            }
            _ => None,
        }
    }
}

/// Whether a path is an action's: `/workspaces/blog/actions/posts/popular`.
fn is_action(path: &str) -> bool {
    let rest = path.strip_prefix("/workspaces/").and_then(|rest| rest.split_once('/'));
    rest.is_some_and(|(_, rest)| rest.starts_with("actions/"))
}

/// Whether the browser says that a page of another origin caused the request.
fn is_of_another_page(headers: &HeaderMap) -> bool {
    let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
    site.is_some_and(|site| site != b"same-origin" && site != b"none")
}

/// Adds headers that keep a browser from guessing the type of an answer, framing it, letting pages
/// of other origins load it as an image or script, and leaking its URL, which may contain a token.
pub fn guard(mut response: Response) -> Response {
    const GUARDS: [(HeaderName, &str); 5] = [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::CONTENT_SECURITY_POLICY, "frame-ancestors 'none'"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ];
    for (name, value) in GUARDS {
        // A route may have set its own.
        response.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    fn status(path: &str, headers: &[(&str, &str)]) -> Option<StatusCode> {
        let hosts = Hosts::any();
        let origins = Origins::new(&["https://app.example".into()], hosts).expect("an origin");
        let mut request = Request::get(path).header("host", "localhost:8787");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).expect("a request").into_parts();
        origins.refusal(&parts).map(|answer| answer.status())
    }

    #[test]
    fn a_page_of_another_origin_cannot_run_a_query() {
        let query = "/workspaces/blog/actions/posts/popular?limit=1";
        for headers in [
            [("sec-fetch-site", "cross-site")],
            [("sec-fetch-site", "same-site")],
            [("origin", "https://evil.example")],
            [("origin", "null")],
        ] {
            assert_eq!(status(query, &headers), Some(StatusCode::FORBIDDEN), "{headers:?}");
            for read in ["/workspaces/blog/tables/posts", "/workspaces/actions/tables/actions"] {
                assert_eq!(status(read, &headers), None, "{headers:?}");
            }
        }
    }

    #[test]
    fn programs_own_pages_and_allowed_pages_run_queries() {
        let query = "/workspaces/blog/actions/posts/popular";
        let allowed = [("origin", "https://app.example"), ("sec-fetch-site", "cross-site")];
        let cookie =
            [("cookie", "better-auth.session_token=a.b"), ("sec-fetch-site", "same-origin")];
        let cases: [&[(&str, &str)]; 6] = [
            &[],
            &[("sec-fetch-site", "none")],
            &[("sec-fetch-site", "same-origin")],
            &[("origin", "http://localhost:8787")],
            &allowed,
            &cookie,
        ];
        for headers in cases {
            assert_eq!(status(query, headers), None, "{headers:?}");
        }
    }
}
