//! What both servers share: the listener, and the order of startup and shutdown.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, header};
use axum::response::Response;
use host_ai::Ai;
use host_connections::{Listener, Paced};
use host_http::error;
use host_people::Origins;
use host_plugins::Plugins;
use host_sync::Rooms;
use host_workspace::RequestId;
use hyper::body::Incoming;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::{Layer, Service};
use tower_http::catch_panic::{CatchPanic, CatchPanicLayer};
use tower_http::cors::Cors;

use crate::data_folder::DataFolder;
use crate::start_error::StartError;

/// How long requests in flight may take at shutdown.
const DRAIN: Duration = Duration::from_secs(5);

/// The header with a request's id, which the log also has.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Longest request id accepted from a client; a UUID has 36 characters.
const REQUEST_ID_BYTES: usize = 64;

/// Where to listen, and the limits of connections.
pub(crate) struct Listen<'a> {
    pub address: SocketAddr,
    pub limits: &'a host_connections::Limits,
    /// Proxies that are trusted to name the client of a request.
    pub proxies: &'a [IpAddr],
}

/// A running server. Dropping it does not stop it: call [`Running::stop`].
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
    /// Starts listening. Everything that requests need must be ready.
    pub(crate) async fn start(
        listen: Listen<'_>,
        routes: Router,
        origins: Origins,
        rooms: Rooms,
        plugins: Option<Plugins>,
        data: DataFolder,
    ) -> Result<Self, StartError> {
        let Listen { address, limits, proxies } = listen;
        let failed = |error| StartError::Listen { address, error };
        let files = host_connections::open_files();
        let maximum = limits.maximum(files);
        let listener = Listener::bind(address, limits.clone(), maximum, proxies).await;
        let listener = listener.map_err(failed)?;
        let address = listener.address().map_err(failed)?;
        tracing::info!(
            "up to {} connections at once, {} of them from one address; {files} files may be open",
            maximum.connections,
            maximum.per_address
        );
        data.announce(address)
            .map_err(|error| StartError::Data { folder: data.path().to_owned(), error })?;
        let app =
            CatchPanicLayer::custom(panicked as Panicked).layer(routes.fallback(nothing_here));
        let app = App { app: origins.cors().layer(app), origins };
        let (stopping, connections) = (CancellationToken::new(), TaskTracker::new());
        connections.spawn(listener.serve(app, stopping.clone(), connections.clone()));
        Ok(Self { address, stopping, connections, rooms, plugins, ai: None, _data: data })
    }

    /// Adds AI that is closed at shutdown.
    pub(crate) fn with_ai(self, ai: Ai) -> Self {
        Self { ai: Some(ai), ..self }
    }

    /// Its AI, if it has any.
    pub(crate) fn ai(&self) -> Option<&Ai> {
        self.ai.as_ref()
    }

    /// The address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops: accepts no new connections, closes sockets with 1001, saves rooms, ends plugins.
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
        if let Some(ai) = self.ai
            && tokio::time::timeout(DRAIN, ai.close()).await.is_err()
        {
            tracing::error!("what AI took is not all on disk: storage does not answer");
        }
    }
}

type Panicked = fn(Box<dyn std::any::Any + Send>) -> Response;

/// The routes and the layers that apply to all of them. A router clones its layers for each
/// request, which costs more than reading a row; this is cloned once for each connection.
#[derive(Clone)]
struct App {
    app: Cors<CatchPanic<Router, Panicked>>,
    origins: Origins,
}

impl host_connections::App for App {
    fn answer(
        &mut self,
        request: Request<Paced<Incoming>>,
    ) -> impl Future<Output = Response> + Send + 'static + use<> {
        let (mut parts, body) = request.into_parts();
        let id = name_of(&parts.headers);
        parts.extensions.insert(RequestId(id.clone()));
        let refusal = host_people::settle_host(&mut parts).err();
        let answer = match refusal.or_else(|| self.origins.refusal(&parts)) {
            Some(refusal) => Err(refusal),
            None => Ok(self.app.call(Request::from_parts(parts, body))),
        };
        async move {
            let mut answer = match answer {
                Ok(answer) => match answer.await {
                    Ok(answer) => answer.map(Body::new),
                    Err(never) => match never {},
                },
                Err(refusal) => refusal,
            };
            if answer.status() == StatusCode::PAYLOAD_TOO_LARGE {
                // The rest of the body is not read, so the connection ends. A client that does not
                // know would send its next request on it.
                let close = HeaderValue::from_static("close");
                answer.headers_mut().insert(header::CONNECTION, close);
            }
            if let Ok(id) = HeaderValue::from_str(&id) {
                // An answer from a provider through the proxy already has an id, which its SDK
                // reports.
                answer.headers_mut().entry(REQUEST_ID).or_insert(id);
            }
            host_people::guard(answer)
        }
    }
}

/// The client's request id if it is safe to log, otherwise a new one.
fn name_of(headers: &HeaderMap) -> Arc<str> {
    let given = headers.get(REQUEST_ID).and_then(|id| id.to_str().ok());
    let is_plain = |id: &&str| {
        (1..=REQUEST_ID_BYTES).contains(&id.len())
            && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
    };
    given.filter(is_plain).map_or_else(|| host_workspace::new_id().into(), Arc::from)
}

async fn nothing_here(method: Method, uri: Uri) -> Response {
    let message =
        format!("{method} {}: there is nothing here; GET / says what there is", uri.path());
    error(StatusCode::NOT_FOUND, message)
}

fn panicked(_: Box<dyn std::any::Any + Send>) -> Response {
    error(StatusCode::INTERNAL_SERVER_ERROR, "the server made a mistake; its log says more")
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
