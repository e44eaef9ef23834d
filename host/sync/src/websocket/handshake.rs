use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use hyper::upgrade::OnUpgrade;
use sha1::{Digest, Sha1};

/// Agrees to speak WebSocket, or says what is missing (RFC 6455, section 4.2).
pub(crate) fn handshake(parts: &mut Parts) -> Result<(OnUpgrade, Response), &'static str> {
    let has =
        |name: header::HeaderName, wanted: &str| {
            parts.headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).any(
                |value| value.split(',').any(|token| token.trim().eq_ignore_ascii_case(wanted)),
            )
        };
    if !has(header::UPGRADE, "websocket") || !has(header::CONNECTION, "upgrade") {
        return Err("the only upgrade here is to websocket");
    }
    if !has(header::SEC_WEBSOCKET_VERSION, "13") {
        return Err("Sec-WebSocket-Version must be 13");
    }
    let key = parts.headers.get(header::SEC_WEBSOCKET_KEY).ok_or("Sec-WebSocket-Key is missing")?;
    let mut hash = Sha1::new();
    hash.update(key.as_bytes());
    hash.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let accept = base64::engine::general_purpose::STANDARD.encode(hash.finalize());
    let upgrade =
        parts.extensions.remove::<OnUpgrade>().ok_or("this connection cannot be upgraded")?;
    let headers = [
        (header::CONNECTION, "upgrade"),
        (header::UPGRADE, "websocket"),
        (header::SEC_WEBSOCKET_ACCEPT, &accept),
    ];
    Ok((upgrade, (StatusCode::SWITCHING_PROTOCOLS, headers).into_response()))
}
