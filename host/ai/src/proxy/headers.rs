//! Which headers pass, in either direction.

use axum::http::header::{self, HeaderMap, HeaderName, HeaderValue};

use super::secret::Finder;

/// Headers of an answer that are a URL of the provider, to continue at.
pub(super) const URLS: [HeaderName; 4] = [
    header::LOCATION,
    header::CONTENT_LOCATION,
    HeaderName::from_static("x-goog-upload-url"),
    HeaderName::from_static("x-goog-upload-control-url"),
];

/// What is between two neighbours and no further (RFC 9110, 7.6.1).
const HOP_BY_HOP: &[&str] = &[
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// What says who the caller is, where it comes from, or what it was told by others.
const CALLER: &[&str] = &[
    "api-key",
    "authorization",
    "cdn-loop",
    "client-ip",
    "cookie",
    "cookie2",
    "expect",
    "fly-client-ip",
    "forwarded",
    "host",
    "origin",
    "referer",
    "true-client-ip",
    "via",
    "x-api-key",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-goog-api-key",
    "x-original-url",
    "x-provider-api-key",
    "x-real-ip",
    "x-rewrite-url",
];

/// The same, by the beginning of their names.
const CALLER_PREFIXES: &[&str] = &["cf-", "sec-ch-", "sec-fetch-", "x-forwarded-", "x-original-"];

/// What a provider says of its own origin, and a client would apply to ours.
const PROVIDER: &[&str] = &[
    "alt-svc",
    "clear-site-data",
    "content-security-policy",
    "content-security-policy-report-only",
    "nel",
    "public-key-pins",
    "refresh",
    "report-to",
    "reporting-endpoints",
    "service-worker-allowed",
    "set-cookie",
    "set-cookie2",
    "strict-transport-security",
];

/// The same, by the beginning of their names.
const PROVIDER_PREFIXES: &[&str] = &["access-control-"];

/// What goes to the provider of a request's headers. A key is not among them.
pub(super) fn to_provider(headers: &HeaderMap, websocket: bool) -> HeaderMap {
    let mut kept = passing(headers, CALLER, CALLER_PREFIXES);
    // What is compressed can be searched neither for the key nor for what it took.
    kept.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    if websocket {
        kept.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        kept.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    }
    kept
}

/// What goes to the caller of an answer's headers.
pub(super) fn to_caller(headers: &HeaderMap) -> HeaderMap {
    let mut kept = passing(headers, PROVIDER, PROVIDER_PREFIXES);
    // A file at a provider can be a page. Opened in a browser, by a link that somebody sends, it
    // would run with the rights of our origin; in a sandbox it has none.
    kept.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox"));
    kept.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // The answer is for the one who holds the token, which caches do not know to be one.
    kept.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    kept
}

/// Whether a body can be read as it is.
pub(super) fn is_plain(headers: &HeaderMap) -> bool {
    let mut encodings = headers.get_all(header::CONTENT_ENCODING).iter();
    encodings.all(|value| value.as_bytes().eq_ignore_ascii_case(b"identity"))
}

/// Whether a body is JSON, or a stream of it.
pub(super) fn is_json(headers: &HeaderMap) -> bool {
    let media_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media_type = media_type.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    matches!(media_type, "application/json" | "text/event-stream")
}

/// Leaves out headers that have the key in them.
pub(super) fn hide(headers: &mut HeaderMap, key: &Finder) {
    let telling: Vec<HeaderName> = headers
        .iter()
        .filter(|(_, value)| key.finds(value.as_bytes()))
        .map(|(name, _)| name.clone())
        .collect();
    for name in telling {
        headers.remove(name);
    }
}

fn passing(headers: &HeaderMap, names: &[&str], prefixes: &[&str]) -> HeaderMap {
    let named_by_connection: Vec<String> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .collect();
    let stays = |name: &str| {
        HOP_BY_HOP.contains(&name)
            || names.contains(&name)
            || prefixes.iter().any(|prefix| name.starts_with(prefix))
            || named_by_connection.iter().any(|hop| hop == name)
    };
    let mut kept = HeaderMap::with_capacity(headers.len());
    for (name, value) in headers {
        if !stays(name.as_str()) {
            kept.append(name, value.clone());
        }
    }
    kept
}
