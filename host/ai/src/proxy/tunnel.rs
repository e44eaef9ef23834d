//! WebSockets: after the upgrade, bytes pass in both directions.

use std::io;

use axum::extract::Request;
use axum::http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::body::Activity;

/// Buffer of a tunnel in each direction, in bytes. An audio event has a few thousand.
const BUFFER: usize = 16 * 1024;

/// The caller's side of a tunnel, if the request asks for a WebSocket. Other protocols are not
/// offered to providers, so a `101` always means a WebSocket.
pub(super) fn requested(request: &mut Request) -> Option<OnUpgrade> {
    let headers = request.headers();
    let asks = request.method() == Method::GET
        && names(headers, CONNECTION, "upgrade")
        && names(headers, UPGRADE, "websocket")
        && headers.contains_key(SEC_WEBSOCKET_KEY);
    asks.then(|| request.extensions_mut().remove::<OnUpgrade>()).flatten()
}

/// Whether the provider has accepted the WebSocket.
pub(super) fn agreed(headers: &HeaderMap) -> bool {
    names(headers, UPGRADE, "websocket") && headers.contains_key(SEC_WEBSOCKET_ACCEPT)
}

/// Marks our response as the upgrade to a WebSocket.
pub(super) fn announce(headers: &mut HeaderMap) {
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
}

fn names(headers: &HeaderMap, name: HeaderName, wanted: &str) -> bool {
    let lines = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    lines.flat_map(|line| line.split(',')).any(|part| part.trim().eq_ignore_ascii_case(wanted))
}

/// Forwards bytes until both sides have ended, one of them fails, or both are idle for too long.
pub(super) async fn join(client: OnUpgrade, answer: reqwest::Response, activity: Activity) {
    let both = async {
        let (client, provider) = tokio::join!(client, answer.upgrade());
        let (from_client, to_client) =
            tokio::io::split(TokioIo::new(client.map_err(io::Error::other)?));
        let (from_provider, to_provider) = tokio::io::split(provider.map_err(io::Error::other)?);
        tokio::try_join!(
            copy(from_client, to_provider, &activity),
            copy(from_provider, to_client, &activity),
        )
    };
    tokio::select! {
        ended = both => {
            if let Err(error) = ended {
                tracing::debug!(%error, "a tunnel broke off");
            }
        }
        () = activity.silence() => tracing::debug!("a tunnel was silent for too long"),
    }
}

async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    activity: &Activity,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let count = from.read(&mut buffer).await?;
        activity.touch();
        if count == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..count]).await?;
        to.flush().await?;
    }
}
