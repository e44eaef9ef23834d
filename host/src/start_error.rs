//! Why a server did not start.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use host_sync::StorageError;

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address is in use or not permitted.
    #[error("cannot listen on {address}: {error}; choose another port with --port")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The system's error. It is not called `source`, because the message contains it and a
        /// chain of causes would repeat it.
        error: io::Error,
    },
    /// The data folder cannot be used.
    #[error("the data folder {}: {error}", folder.display())]
    Data {
        /// The folder.
        folder: PathBuf,
        /// The system's error.
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
    /// The accounts cannot be opened.
    #[error(transparent)]
    Accounts(#[from] host_people::AccountsError),
    /// The configuration of AI is invalid.
    #[error(transparent)]
    Ai(#[from] host_ai::OpenError),
    /// The databases of shared rooms cannot be opened.
    #[error("the rooms of accounts: {0:#}")]
    People(anyhow::Error),
    /// Not the URL of a hub.
    #[error(transparent)]
    Hub(#[from] host_auth::HubError),
    /// Other machines could reach a server that requires no session, and the operator did not ask
    /// for that.
    #[error(
        "{address} can be reached from other machines: name the hub whose sessions are required with --hub-url, or let everybody in with --auth open"
    )]
    Unprotected {
        /// The address to listen on.
        address: SocketAddr,
    },
    /// A local server without a hub has no sessions.
    #[error("a local server can only require the sessions of a hub: name it with --hub-url")]
    NoHub,
    /// Not an origin.
    #[error(transparent)]
    Origin(#[from] host_auth::NotAnOrigin),
}
