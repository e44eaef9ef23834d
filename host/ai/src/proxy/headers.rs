//! The headers that are forwarded, in each direction.

use axum::http::header::{self, HeaderMap, HeaderName, HeaderValue};

use super::secret::Finder;

/// Response headers that hold a URL of the provider.
pub(super) const URLS: [HeaderName; 4] = [
    header::LOCATION,
    header::CONTENT_LOCATION,
    HeaderName::from_static("x-goog-upload-url"),
    HeaderName::from_static("x-goog-upload-control-url"),
];

/// Hop-by-hop headers (RFC 9110, 7.6.1).
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

/// Headers that identify the caller, its origin, or what other servers told it.
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

/// The same, by prefix.
const CALLER_PREFIXES: &[&str] = &["cf-", "sec-ch-", "sec-fetch-", "x-forwarded-", "x-original-"];

/// Headers that a provider sets for its own origin, which a client would apply to ours.
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

/// The same, by prefix.
const PROVIDER_PREFIXES: &[&str] = &["access-control-"];

/// The request headers that are forwarded to the provider. Keys are not among them.
pub(super) fn to_provider(headers: &HeaderMap, websocket: bool) -> HeaderMap {
    let mut kept = passing(headers, CALLER, CALLER_PREFIXES);
    // Compressed data can be searched neither for the key nor for the usage.
    kept.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    if websocket {
        kept.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        kept.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    }
    kept
}

/// The response headers that are returned to the caller.
pub(super) fn to_caller(headers: &HeaderMap) -> HeaderMap {
    let mut kept = passing(headers, PROVIDER, PROVIDER_PREFIXES);
    // A file at a provider may be a web page. Opened in a browser through a link that somebody
    // sends, it would run with the rights of our origin; the sandbox takes them away.
    kept.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox"));
    kept.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // The answer is private to the holder of the token, which caches do not recognise as a
    // credential.
    kept.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    kept
}

/// Whether a body is uncompressed.
pub(super) fn is_plain(headers: &HeaderMap) -> bool {
    let mut encodings = headers.get_all(header::CONTENT_ENCODING).iter();
    encodings.all(|value| value.as_bytes().eq_ignore_ascii_case(b"identity"))
}

/// Whether a body is JSON or a stream of JSON.
pub(super) fn is_json(headers: &HeaderMap) -> bool {
    let media_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media_type = media_type.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    matches!(media_type, "application/json" | "text/event-stream")
}

/// Removes headers that contain the key.
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
