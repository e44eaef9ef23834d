//! What both servers share: the listener, and the order of starting and stopping.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use host_ai::Ai;
use host_plugins::Plugins;
use host_sync::{Rooms, StorageError};
use host_workspace::RequestId;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use parking_lot::Mutex;
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::{Layer, Service};
use tower_http::catch_panic::{CatchPanic, CatchPanicLayer};
use tower_http::cors::Cors;
use tower_http::timeout::{RequestBodyTimeout, RequestBodyTimeoutLayer};

use crate::data_folder::DataFolder;
use crate::origins::Origins;

/// How long requests that are under way may take when the server stops.
const DRAIN: Duration = Duration::from_secs(5);
/// How long a connection may take to send the head of a request, and may stay silent between two.
/// Browsers keep idle connections for minutes, but open a new one without asking.
const HEAD: Duration = Duration::from_secs(60);
/// Bytes of the head of a request; of that, cookies and tokens take a few KiB.
const HEAD_BYTES: usize = 64 * 1024;
/// How long a body may pause. What it takes as a whole depends on its size.
const BODY: Duration = Duration::from_secs(30);
/// Bytes that wait in the system for a reader on this machine. Over a network the system finds out by
/// itself how many pay; here it lets megabytes pile up, which then leave the processor's cache before
/// they are read. With 128 KiB a large answer costs two thirds, and with 32 it stalls.
const LOOPBACK_BUFFER: usize = 128 * 1024;
/// Before the next try when no connection can be accepted: no file descriptor is free, say.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// Names a request, in its answer and in the log.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Letters of the name that a client gives its request; a UUID has 36.
const REQUEST_ID_BYTES: usize = 64;

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Something else listens there, or it may not be listened on.
    #[error("cannot listen on {address}: {error}; choose another port with --port")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the system says. Not called `source`: the message has it already, and what prints all
        /// causes would say it twice.
        error: io::Error,
    },
    /// The data folder cannot be used.
    #[error("the data folder {}: {error}", folder.display())]
    Data {
        /// The folder.
        folder: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// Another process uses the data folder: a server, or a command.
    #[error("another process uses the data folder {}; stop it, or choose another with --data-dir", folder.display())]
    InUse {
        /// The folder.
        folder: PathBuf,
    },
    /// The storage cannot be opened.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The plugins cannot be loaded at all.
    #[error(transparent)]
    Plugins(#[from] host_plugins::OpenError),
    /// The database of accounts cannot be opened.
    #[error("the database of accounts: {0}; choose another with --auth-database")]
    AuthDatabase(host_auth::database::DatabaseError),
    /// Nothing can be signed.
    #[error(transparent)]
    Secret(#[from] host_auth::SecretError),
    /// Accounts cannot be configured so.
    #[error(transparent)]
    Accounts(#[from] host_auth::ConfigError),
    /// Mails cannot be sent.
    #[error("mails cannot be sent: {0}")]
    Mails(String),
    /// There is no AI as it is configured.
    #[error(transparent)]
    Ai(#[from] host_ai::OpenError),
    /// What is kept of people's rooms cannot be opened.
    #[error("the rooms of accounts: {0:#}")]
    People(anyhow::Error),
    /// The URL of the hub is none.
    #[error(transparent)]
    Hub(#[from] host_auth::HubError),
    /// Nobody said that everybody may use it.
    #[error(
        "{address} can be reached from other machines: say whose sessions a local server wants with --hub-url, or that anybody may use it with --auth open"
    )]
    Unprotected {
        /// Where it was to listen.
        address: SocketAddr,
    },
    /// There are no sessions to want.
    #[error("a local server knows sessions from its hub only: say which with --hub-url")]
    NoHub,
    /// An origin is none.
    #[error("{0:?} is not an origin; write it like https://example.com")]
    Origin(String),
}

impl From<host_auth::database::DatabaseError> for StartError {
    fn from(error: host_auth::database::DatabaseError) -> Self {
        Self::AuthDatabase(error)
    }
}

/// A server that is running. Dropping it does not stop it: call [`Running::stop`].
pub struct Running {
    address: SocketAddr,
    stopping: CancellationToken,
    connections: TaskTracker,
    rooms: Rooms,
    plugins: Option<Plugins>,
    ai: Option<Ai>,
    _data: DataFolder,
}

impl Running {
    /// Starts to listen. Everything that requests need is there already.
    pub(crate) async fn start(
        address: SocketAddr,
        routes: Router,
        origins: Origins,
        rooms: Rooms,
        plugins: Option<Plugins>,
        data: DataFolder,
    ) -> Result<Self, StartError> {
        let failed = |error| StartError::Listen { address, error };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        data.announce(address)
            .map_err(|error| StartError::Data { folder: data.path().to_owned(), error })?;
        let app =
            CatchPanicLayer::custom(panicked as Panicked).layer(routes.fallback(nothing_here));
        let app = origins.cors().layer(RequestBodyTimeoutLayer::new(BODY).layer(app));
        let app = App { app, origins };
        let (stopping, connections) = (CancellationToken::new(), TaskTracker::new());
        connections.spawn(accept(listener, app, stopping.clone(), connections.clone()));
        Ok(Self { address, stopping, connections, rooms, plugins, ai: None, _data: data })
    }

    /// The same, with AI that is closed when it stops.
    pub(crate) fn with_ai(self, ai: Ai) -> Self {
        Self { ai: Some(ai), ..self }
    }

    /// Its AI, if it has any.
    pub(crate) fn ai(&self) -> Option<&Ai> {
        self.ai.as_ref()
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops: no new connections, sockets closed with 1001, rooms saved, plugins ended.
    pub async fn stop(self) {
        self.stopping.cancel();
        self.connections.close();
        self.rooms.shutdown().await;
        if tokio::time::timeout(DRAIN, self.connections.wait()).await.is_err() {
            tracing::warn!("requests that take longer than {DRAIN:?} are cut off");
        }
        if let Some(plugins) = self.plugins {
            plugins.shutdown().await;
        }
        if let Some(ai) = self.ai {
            ai.close().await;
        }
    }
}

type Panicked = fn(Box<dyn std::any::Any + Send>) -> Response;

/// The routes and what goes for all of them. Layers of a router are cloned for each request, which
/// costs more than a read of a row does; this is cloned for each connection.
#[derive(Clone)]
struct App {
    app: Cors<RequestBodyTimeout<CatchPanic<Router, Panicked>>>,
    origins: Origins,
}

impl App {
    fn answer(
        &mut self,
        request: Request<Incoming>,
    ) -> impl Future<Output = Result<Response, Infallible>> + use<> {
        let (mut parts, body) = request.into_parts();
        let id = name_of(&parts.headers);
        parts.extensions.insert(RequestId(id.clone()));
        let answer = match self.origins.refusal(&parts) {
            Some(refusal) => Err(refusal),
            None => Ok(self.app.call(Request::from_parts(parts, body))),
        };
        async move {
            let mut answer = match answer {
                Ok(answer) => answer.await?.map(Body::new),
                Err(refusal) => refusal,
            };
            if answer.status() == StatusCode::PAYLOAD_TOO_LARGE {
                // What is left of the body is not read, so the connection ends; who does not know
                // that would send the next request on it.
                let close = HeaderValue::from_static("close");
                answer.headers_mut().insert(header::CONNECTION, close);
            }
            if let Ok(id) = HeaderValue::from_str(&id) {
                // What a provider answers through the proxy has a name already, which its SDK tells.
                answer.headers_mut().entry(REQUEST_ID).or_insert(id);
            }
            Ok(crate::origins::guard(answer))
        }
    }
}

/// The name that the client gave its request, where it can stand in a log as it is; else a new one.
fn name_of(headers: &HeaderMap) -> Arc<str> {
    let given = headers.get(REQUEST_ID).and_then(|id| id.to_str().ok());
    let is_plain = |id: &&str| {
        (1..=REQUEST_ID_BYTES).contains(&id.len())
            && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
    };
    given.filter(is_plain).map_or_else(|| host_workspace::new_id().into(), Arc::from)
}

/// Accepts connections until the server stops. Those that are under way then finish their request.
async fn accept(
    listener: TcpListener,
    app: App,
    stopping: CancellationToken,
    connections: TaskTracker,
) {
    let mut http = Builder::new(TokioExecutor::new()).http1_only();
    http.http1().timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(HEAD_BYTES);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stopping.cancelled() => return,
        };
        let (socket, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // It may be about the one connection, or about all that come.
                tracing::warn!(%error, "a connection was not accepted");
                tokio::time::sleep(ACCEPT_AGAIN).await;
                continue;
            }
        };
        // A frame is a whole message: it should leave at once.
        let _ = socket.set_nodelay(true);
        if peer.ip().is_loopback() {
            let _ = socket2::SockRef::from(&socket).set_send_buffer_size(LOOPBACK_BUFFER);
        }
        let (app, http, stopping) = (app.clone(), http.clone(), stopping.clone());
        connections.spawn(async move {
            let app = Mutex::new(app);
            let service = hyper::service::service_fn(move |mut request: Request<_>| {
                request.extensions_mut().insert(ConnectInfo(peer));
                app.lock().answer(request)
            });
            let mut connection =
                std::pin::pin!(http.serve_connection_with_upgrades(TokioIo::new(socket), service));
            tokio::select! {
                _ = &mut connection => return,
                () = stopping.cancelled() => connection.as_mut().graceful_shutdown(),
            }
            // A peer that breaks off is nothing to be said.
            let _ = connection.await;
        });
    }
}

async fn nothing_here(method: Method, uri: Uri) -> Response {
    let message =
        format!("{method} {}: there is nothing here; GET / says what there is", uri.path());
    (StatusCode::NOT_FOUND, Json(json!({ "error": { "message": message } }))).into_response()
}

fn panicked(_: Box<dyn std::any::Any + Send>) -> Response {
    let message = "the server made a mistake; its log says more";
    (StatusCode::INTERNAL_SERVER_ERROR, Json(json!({ "error": { "message": message } })))
        .into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_keeps_the_name_that_it_came_with_if_a_log_can_have_it() {
        let named = |id: &str| {
            let id = HeaderValue::from_bytes(id.as_bytes()).expect("a header");
            name_of(&[(REQUEST_ID, id)].into_iter().collect())
        };
        let longest = "x".repeat(REQUEST_ID_BYTES);
        for id in ["a", "7f3c-11_Z", longest.as_str()] {
            assert_eq!(&*named(id), id);
        }
        for id in ["", "a b", "a=1", "\u{fc}", &format!("{longest}x")] {
            let new = named(id);
            assert!(&*new != id && new.len() == 21, "{id}: {new}");
        }
        assert_ne!(name_of(&HeaderMap::new()), name_of(&HeaderMap::new()));
    }
}
