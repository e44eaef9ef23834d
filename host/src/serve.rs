//! What both servers share: the data folder, the listener, and the order of starting and stopping.

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::serve::ListenerExt;
use axum::{Json, Router};
use host_plugins::Plugins;
use host_sync::{Hooks, Limits, Rooms, Sqlite, StorageError};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tower_http::catch_panic::CatchPanicLayer;

use crate::origins::Origins;

/// How long requests that are under way may take when the server stops.
const DRAIN: Duration = Duration::from_secs(5);

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Something else listens there, or it may not be listened on.
    #[error("cannot listen on {address}: {source}; choose another port with --port")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The data folder cannot be used.
    #[error("the data folder {}: {source}", folder.display())]
    Data {
        /// The folder.
        folder: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Another server uses the data folder.
    #[error("another server uses the data folder {}; stop it, or choose another with --data-dir", folder.display())]
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
    /// An origin is none.
    #[error("{0:?} is not an origin; write it like https://example.com")]
    Origin(String),
}

/// The data folder, held against other servers while this exists.
pub(crate) struct DataFolder {
    path: PathBuf,
    _lock: File,
}

impl DataFolder {
    pub fn open(path: &Path) -> Result<Self, StartError> {
        let failed = |source| StartError::Data { folder: path.to_owned(), source };
        std::fs::create_dir_all(path).map_err(failed)?;
        let lock = File::create(path.join("lock")).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: lock }),
            Err(std::fs::TryLockError::WouldBlock) => {
                Err(StartError::InUse { folder: path.to_owned() })
            }
            Err(std::fs::TryLockError::Error(source)) => Err(failed(source)),
        }
    }

    /// The rooms that are kept in it.
    pub fn rooms(&self, limits: Limits) -> Result<Rooms, StartError> {
        let storage = Sqlite::open(&self.path.join("rooms.db"))?;
        Ok(Rooms::new(Arc::new(storage), limits, Arc::new(LogRooms)))
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Log lines for rooms that come and go.
struct LogRooms;

impl Hooks for LogRooms {
    fn created(&self, room: &str) {
        tracing::debug!(room, "room opened");
    }

    fn evicted(&self, room: &str) {
        tracing::debug!(room, "room evicted");
    }
}

/// A server that is running. Dropping it does not stop it: call [`Running::stop`].
pub struct Running {
    address: SocketAddr,
    stop: tokio::sync::oneshot::Sender<()>,
    server: JoinHandle<()>,
    rooms: Rooms,
    plugins: Option<Plugins>,
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
        let failed = |source| StartError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        // A frame is a whole message: it should leave at once.
        let listener = listener.tap_io(|socket| drop(socket.set_nodelay(true)));
        let app = routes
            .fallback(nothing_here)
            .layer(CatchPanicLayer::custom(panicked))
            .layer(origins.cors())
            .layer(axum::middleware::from_fn_with_state(origins, crate::origins::check))
            .into_make_service_with_connect_info::<SocketAddr>();
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let server = tokio::spawn(async move {
            let serve = axum::serve(listener, app).with_graceful_shutdown(async {
                let _ = stopped.await;
            });
            if let Err(error) = serve.await {
                tracing::error!(%error, "the listener failed");
            }
        });
        Ok(Self { address, stop, server, rooms, plugins, _data: data })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops: no new connections, sockets closed with 1001, rooms saved, plugins ended.
    pub async fn stop(self) {
        let _ = self.stop.send(());
        self.rooms.shutdown().await;
        let abort = self.server.abort_handle();
        if tokio::time::timeout(DRAIN, self.server).await.is_err() {
            abort.abort();
        }
        if let Some(plugins) = self.plugins {
            plugins.shutdown().await;
        }
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
