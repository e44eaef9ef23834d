//! The places where SDKs put their key, which is where we find the session's token.

use axum::http::header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue};

use crate::providers::{Api, KeyStyle, Provider, X_API_KEY, X_GOOG_API_KEY};

/// Query parameters that hold a key: Google's, and that of its short-lived tokens.
const PARAMETERS: [&str; 2] = ["key", "access_token"];

/// The subprotocol prefix of a key. WebSocket clients of OpenAI and xAI use it in browsers, which
/// cannot set headers.
const SUBPROTOCOLS: [&str; 2] = ["openai-insecure-api-key.", "xai-client-secret."];

/// The credentials taken from a request.
pub(super) struct Credentials {
    /// The first token, in the order of [`Credentials::take`].
    pub token: Option<String>,
    /// Where it was found.
    style: Option<KeyStyle>,
    /// The query without key parameters, otherwise unchanged.
    pub query: Option<String>,
}

impl Credentials {
    /// Takes the token from a request: from `Authorization: Bearer`, `x-api-key`, `x-goog-api-key`,
    /// `?key=`, or the subprotocols of a WebSocket. All five are cleared; the other contents of
    /// these headers are handled in `headers`.
    pub fn take(request: &mut Parts) -> Self {
        let header =
            |name| request.headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        let (in_query, query) = split_query(request.uri.query());
        let (in_protocols, protocols) = split_protocols(&request.headers);
        let text = |name| header(name).map(str::trim).filter(|token| !token.is_empty());
        let found = host_http::bearer(&request.headers)
            .map(|token| (token, KeyStyle::Bearer))
            .or_else(|| text(X_API_KEY).map(|token| (token.to_owned(), KeyStyle::ApiKey)))
            .or_else(|| text(X_GOOG_API_KEY).map(|token| (token.to_owned(), KeyStyle::GoogApiKey)))
            .or_else(|| in_query.map(|token| (token, KeyStyle::GoogApiKey)))
            .or_else(|| in_protocols.map(|token| (token, KeyStyle::Bearer)));
        for name in [AUTHORIZATION, X_API_KEY, X_GOOG_API_KEY, SEC_WEBSOCKET_PROTOCOL] {
            request.headers.remove(name);
        }
        if let Some(protocols) = protocols {
            request.headers.insert(SEC_WEBSOCKET_PROTOCOL, protocols);
        }
        let (token, style) = found.unzip();
        Self { token, style, query }
    }

    /// Where to put the provider's key: in the token's place, if the provider accepts it there.
    pub fn key_style(&self, provider: &Provider, path: &str) -> KeyStyle {
        let bearer = self.style == Some(KeyStyle::Bearer);
        match provider.api() {
            // The older SDK sends `x-api-key`, the newer one `Authorization`.
            Api::Messages if bearer => KeyStyle::Bearer,
            // Google accepts a key as a bearer token only on its OpenAI-compatible API.
            Api::GenerateContent if bearer && path.split('/').any(|part| part == "openai") => {
                KeyStyle::Bearer
            }
            _ => provider.key_style(),
        }
    }
}

/// The first key in a query, and the query without keys.
pub(super) fn split_query(query: Option<&str>) -> (Option<String>, Option<String>) {
    let Some(query) = query else { return (None, None) };
    let mut token = None;
    let kept: Vec<&str> = query
        .split('&')
        .filter(|pair| {
            // Compare the decoded name: `k%65y` is a key too.
            let Some((name, value)) = url::form_urlencoded::parse(pair.as_bytes()).next() else {
                return true;
            };
            let is_key = PARAMETERS.contains(&&*name);
            if is_key && token.is_none() && !value.is_empty() {
                token = Some(value.into_owned());
            }
            !is_key
        })
        .collect();
    (token, (!kept.is_empty()).then(|| kept.join("&")))
}

/// The first key among the subprotocols, and the list without keys.
fn split_protocols(headers: &HeaderMap) -> (Option<String>, Option<HeaderValue>) {
    let lines = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter();
    let offered = lines.filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(','));
    let mut token = None;
    let kept: Vec<&str> = offered
        .map(str::trim)
        .filter(|protocol| {
            let found = SUBPROTOCOLS.iter().find_map(|prefix| protocol.strip_prefix(prefix));
            if let Some(found) = found.filter(|found| !found.is_empty() && token.is_none()) {
                token = Some(found.to_owned());
            }
            found.is_none() && !protocol.is_empty()
        })
        .collect();
    (token, HeaderValue::try_from(kept.join(", ")).ok().filter(|list| !list.is_empty()))
}
