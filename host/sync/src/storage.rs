//! Where documents are kept.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use crate::author::Author;

/// A durable log of updates for each room, and a snapshot that stands for its beginning. With each
/// update it keeps when it came, by the storage's clock, who made it, and by what.
///
/// Beside the log a room has *notes*, small values under keys, which are written together with updates: what
/// must be known of a document whenever it is read, and is not in it.
///
/// A room calls `append` again only after the call before has returned, so a room's updates are
/// in the order in which they came. What `append` has returned `Ok` for survives a crash.
#[async_trait]
pub trait Storage: Send + Sync + 'static {
    /// Reads what is kept of a room; none when nothing ever was.
    async fn load(&self, room: &str) -> Result<Option<Stored>, StorageError>;

    /// Appends updates to a room's log and writes its notes, all or nothing. Returns the position of the
    /// last update once that is durable.
    async fn append(&self, room: &str, batch: Batch) -> Result<u64, StorageError>;

    /// Replaces a room's log up to a position by one update that says the same.
    async fn compact(&self, room: &str, document: Bytes, upto: u64) -> Result<(), StorageError>;

    /// Whether anything is kept of a room.
    async fn exists(&self, room: &str) -> Result<bool, StorageError>;

    /// Notes whose rooms are, unless they are another's already; a room that is named as the owner is
    /// always the owner's. Says of each, in their order, whether it is now; that is durable. A room
    /// has an owner without anything being kept of it.
    async fn claim(&self, rooms: Vec<String>, owner: &str) -> Result<Vec<bool>, StorageError>;

    /// Closes what is open, after all that was asked for is done. Nothing works afterwards.
    async fn close(&self) {}
}

/// What is written of a room at once.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// Updates, in their order.
    pub updates: Vec<Logged>,
    /// Notes that change. A key is in it once.
    pub notes: Vec<Note>,
}

/// An update on its way to the log.
#[derive(Debug, Clone)]
pub struct Logged {
    /// The update.
    pub bytes: Bytes,
    /// Who made it.
    pub author: Arc<Author>,
}

/// A note's key, and its value; `None` when it is to be forgotten.
pub type Note = (Bytes, Option<Bytes>);

/// The notes of a room.
pub type Notes = BTreeMap<Bytes, Bytes>;

impl From<Vec<Bytes>> for Batch {
    /// Updates of the server itself.
    fn from(updates: Vec<Bytes>) -> Self {
        let logged = |bytes| Logged { bytes, author: Author::server() };
        Self { updates: updates.into_iter().map(logged).collect(), notes: Vec::new() }
    }
}

/// What is kept of a room.
#[derive(Debug, Clone, Default)]
pub struct Stored {
    /// Updates, the snapshot first.
    pub updates: Vec<Bytes>,
    /// Bytes of the log behind the snapshot.
    pub log_bytes: usize,
    /// Position of the last one.
    pub position: u64,
    /// Its notes.
    pub notes: Notes,
}

/// Why storage did not do what it was asked to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StorageError {
    /// There is no space left.
    #[error("storage is full: {0}")]
    Full(String),
    /// What is stored is not what was written.
    #[error("what is stored is damaged: {0}")]
    Damaged(String),
    /// The files cannot be used as they are. The text says what to do.
    #[error("{0}")]
    Unusable(String),
    /// Anything else.
    #[error("storage: {0}")]
    Failed(String),
}
