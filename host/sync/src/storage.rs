//! Where documents are kept.

use async_trait::async_trait;
use bytes::Bytes;

/// A durable log of updates for each room, and a snapshot that stands for its beginning.
///
/// A room calls `append` again only after the call before has returned, so a room's updates are
/// in the order in which they came. What `append` has returned `Ok` for survives a crash.
#[async_trait]
pub trait Storage: Send + Sync + 'static {
    /// Reads what is kept of a room; none when nothing ever was.
    async fn load(&self, room: &str) -> Result<Option<Stored>, StorageError>;

    /// Appends updates to a room's log, all or none of them. Returns their position once they are
    /// durable.
    async fn append(&self, room: &str, updates: Vec<Bytes>) -> Result<u64, StorageError>;

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

/// What is kept of a room.
#[derive(Debug, Clone, Default)]
pub struct Stored {
    /// Updates, the snapshot first.
    pub updates: Vec<Bytes>,
    /// Bytes of the log behind the snapshot.
    pub log_bytes: usize,
    /// Position of the last one.
    pub position: u64,
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
