//! One document and those who share it: the handle through which a room is used, and the commands
//! that its task ([`task`]) carries out.

mod saving;
mod task;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use bytes::Bytes;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Notify, mpsc, oneshot, watch};

use crate::arrays::{ArrayChange, Arrays};
use crate::author::Author;
use crate::awareness::States;
use crate::edit::Edit;
use crate::lib0::Malformed;
use crate::limits::MAILBOX;
use crate::outbox::Outbox;
use crate::storage::{Note, Notes, StorageError};
use crate::store::OverLimit;
use crate::update::{Id, StateVector, Update};
use crate::websocket::Close;

pub(crate) use task::RoomTask;

/// Names a connection within the process.
pub type ConnectionId = u64;

/// Follows the arrays of a document. It runs on the room's task and must not block.
pub trait Model: Send + 'static {
    /// Called for each change in the arrays; after it was attached, for each element in them.
    fn change(&mut self, change: ArrayChange);

    /// Called after the last change of an update, with who made it; after the model was attached, with
    /// the server. The edit that it returns is applied at once, and its changes are reported like any
    /// others.
    fn settle(&mut self, arrays: &Arrays, author: &Arc<Author>) -> Edit;

    /// The notes of the room, before the first change is reported.
    fn recall(&mut self, _notes: &Notes) {}

    /// The notes that have changed since the last time. They are written with the updates that made them
    /// change.
    fn notes(&mut self) -> Vec<Note> {
        Vec::new()
    }
}

/// The key of a note. While a room has it, changes are taken only as long as a model follows the document: what
/// came in the meantime could not be held against rules.
pub const FOLLOWED: &[u8] = b"followed";

/// A whole document at one moment.
#[derive(Debug, Clone)]
pub struct Document {
    /// The document as one update.
    pub bytes: Bytes,
    /// Grows with each change for as long as the room stays in memory.
    pub version: u64,
}

/// Why a room did not do what it was asked to do.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RoomError {
    /// The document could not be read from storage; or storage has been failing for a while, so that a write was
    /// refused, and nothing was changed.
    #[error("room {room}: {source}")]
    Storage {
        /// The room.
        room: String,
        /// The storage's error.
        source: StorageError,
    },
    /// The change was made, but storage did not take it in time.
    #[error(
        "room {room}: the change is not on disk yet, and will be as soon as storage works again: {source}"
    )]
    Unsaved {
        /// The room.
        room: String,
        /// The storage's error.
        source: StorageError,
    },
    /// The update does not fit the document.
    #[error("room {room}: {source}")]
    Refused {
        /// The room.
        room: String,
        /// Why.
        source: OverLimit,
    },
    /// An edit cannot be written as an update.
    #[error("room {room}: the edit cannot be written: {source}")]
    Edit {
        /// The room.
        room: String,
        /// Why.
        source: Malformed,
    },
    /// The document may be changed only while its workspace is served, and that is not the case.
    #[error("room {room}: {UNFOLLOWED}")]
    Unfollowed {
        /// The room.
        room: String,
    },
    /// The server is stopping.
    #[error("room {room} is closed")]
    Closed {
        /// The room.
        room: String,
    },
}

/// Why nobody may change a document that has to be followed.
pub(crate) const UNFOLLOWED: &str =
    "its workspace has rules to keep, and is not being served; try again once its plugin is loaded";

pub(crate) enum Command {
    Join {
        connection: ConnectionId,
        outbox: Arc<Outbox>,
    },
    Leave {
        connection: ConnectionId,
    },
    Step1 {
        connection: ConnectionId,
        vector: Bytes,
    },
    Update {
        connection: ConnectionId,
        update: Update,
        author: Arc<Author>,
    },
    Awareness {
        connection: ConnectionId,
        states: States,
    },
    QueryAwareness {
        connection: ConnectionId,
    },
    SyncStatus {
        connection: ConnectionId,
        frame: Bytes,
    },
    CatchUp {
        connection: ConnectionId,
        knows: Arc<StateVector>,
    },
    Apply {
        update: Update,
        author: Arc<Author>,
        done: Reply<()>,
    },
    Snapshot {
        done: Reply<Document>,
    },
    Attach {
        model: Box<dyn Model>,
        done: Reply<()>,
    },
    Detach,
    Edit {
        edit: EditFn,
        author: Arc<Author>,
        done: Reply<()>,
    },
    EditAt {
        version: u64,
        edit: Edit,
        author: Arc<Author>,
        made: oneshot::Sender<bool>,
        done: Reply<()>,
    },
    Note {
        notes: Vec<Note>,
        done: Reply<()>,
    },
    Disconnect {
        close: Close,
    },
    WantsRefusals {
        connection: ConnectionId,
        author: Arc<Author>,
    },
    TellRefusal {
        author: Arc<Author>,
        json: String,
    },
    Presence {
        done: Reply<Vec<(u64, String)>>,
    },
}

impl Command {
    /// Answers a command that will not be carried out, where its sender waits for an answer.
    pub fn fail(self, error: impl FnOnce() -> RoomError) {
        match self {
            Self::Apply { done, .. }
            | Self::Attach { done, .. }
            | Self::Edit { done, .. }
            | Self::EditAt { done, .. }
            | Self::Note { done, .. } => {
                drop(done.send(Err(error())));
            }
            Self::Snapshot { done } => drop(done.send(Err(error()))),
            Self::Presence { done } => drop(done.send(Err(error()))),
            Self::Join { outbox, .. } => outbox.close(Close::new(1011, error().to_string())),
            _ => {}
        }
    }
}

pub(crate) type Reply<T> = oneshot::Sender<Result<T, RoomError>>;
/// Decides on the room's task what to change, after all earlier commands have been applied. It is
/// told the id that the first value it pushes will have.
pub(crate) type EditFn = Box<dyn FnOnce(Id) -> Edit + Send>;

/// What the registry and the users of a room share with its task.
pub(crate) struct Shared {
    pub id: Arc<str>,
    pub commands: mpsc::Sender<Command>,
    /// Guards that hold the room in memory. Grows only while the registry is locked, so that a room
    /// in use is never let go.
    pub users: AtomicUsize,
    pub connections: AtomicUsize,
    /// Bytes of the document, about.
    pub size: AtomicUsize,
    /// Notified when the last user leaves.
    pub unused: Notify,
    /// Its place among the rooms that could give way, by which the registry finds it; 0 when it is not among them.
    pub resting: AtomicU64,
    /// Notified when the registry has let the room go, because another needed its place.
    pub give_way: Notify,
    /// Whether so much is unsaved that sockets have to keep their updates.
    pub full: watch::Sender<bool>,
}

/// Knows the rooms in memory, and decides which of them may end.
pub(crate) trait Registry {
    /// Lets a room go if nobody uses it.
    fn release(&self, room: &Arc<Shared>) -> bool;

    /// Notes that a room may be let go whenever its place is needed: it is saved, nobody uses it, and it has no
    /// commands to carry out. Says whether that is still so.
    fn rest(&self, room: &Arc<Shared>, mailbox: &mpsc::Receiver<Command>) -> bool;
}

/// A room in use. It stays in memory for as long as this is held.
pub struct Room {
    pub(crate) shared: Arc<Shared>,
}

impl Drop for Room {
    fn drop(&mut self) {
        if self.shared.users.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.shared.unused.notify_one();
        }
    }
}

impl Room {
    /// The room's id.
    pub fn id(&self) -> &Arc<str> {
        &self.shared.id
    }

    /// Bytes of the document, about: at most what telling a peer what it missed takes.
    pub(crate) fn size(&self) -> usize {
        self.shared.size.load(Ordering::Relaxed)
    }

    /// Applies an update; returns once it is durable.
    pub async fn apply(&self, update: Update, author: Arc<Author>) -> Result<(), RoomError> {
        self.ask(|done| Command::Apply { update, author, done }).await
    }

    /// The whole document as one update.
    pub async fn snapshot(&self) -> Result<Bytes, RoomError> {
        Ok(self.document().await?.bytes)
    }

    /// The whole document and its version.
    pub async fn document(&self) -> Result<Document, RoomError> {
        self.ask(|done| Command::Snapshot { done }).await
    }

    /// Changes the document if it is still at this version. Returns true once the edit is durable,
    /// and false if the document has changed, in which case nothing was done.
    pub async fn edit_at(
        &self,
        version: u64,
        edit: Edit,
        author: Arc<Author>,
    ) -> Result<bool, RoomError> {
        let (made, result) = oneshot::channel();
        self.ask(|done| Command::EditAt { version, edit, author, made, done }).await?;
        result.await.map_err(|_| self.closed())
    }

    /// Attaches a model to the document's arrays, in place of the one before.
    pub async fn attach(&self, model: Box<dyn Model>) -> Result<(), RoomError> {
        self.ask(|done| Command::Attach { model, done }).await
    }

    /// Detaches the model.
    pub async fn detach(&self) {
        let _ = self.shared.commands.send(Command::Detach).await;
    }

    /// Changes the document. The closure runs on the room's task, after all earlier commands, and is
    /// told the id that the first value it pushes will have. What it returns beside the edit comes
    /// back once the edit is durable.
    pub async fn edit<T: Send + 'static>(
        &self,
        author: Arc<Author>,
        edit: impl FnOnce(Id) -> (Edit, T) + Send + 'static,
    ) -> Result<T, RoomError> {
        let (send, result) = oneshot::channel();
        let edit: EditFn = Box::new(move |first| {
            let (edit, result) = edit(first);
            let _ = send.send(result);
            edit
        });
        self.ask(|done| Command::Edit { edit, author, done }).await?;
        result.await.map_err(|_| self.closed())
    }

    /// Changes notes; returns once that is durable.
    pub async fn note(&self, notes: Vec<Note>) -> Result<(), RoomError> {
        self.ask(|done| Command::Note { notes, done }).await
    }

    /// Tells the socket of an author that one of its writes was refused, if it wants to know.
    pub async fn tell_refusal(&self, author: Arc<Author>, json: String) -> Result<(), RoomError> {
        let command = Command::TellRefusal { author, json };
        self.shared.commands.send(command).await.map_err(|_| self.closed())
    }

    /// The presence states as JSON text, by client.
    pub async fn presence(&self) -> Result<Vec<(u64, String)>, RoomError> {
        self.ask(|done| Command::Presence { done }).await
    }

    async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, RoomError> {
        let (done, result) = oneshot::channel();
        self.shared.commands.send(command(done)).await.map_err(|_| self.closed())?;
        result.await.map_err(|_| self.closed())?
    }

    /// Sends a command if that takes no waiting; otherwise gives it back.
    pub(crate) fn offer(&self, command: Command) -> Result<(), Command> {
        if matches!(command, Command::Update { .. }) && *self.shared.full.borrow() {
            return Err(command);
        }
        self.shared.commands.try_send(command).map_err(TrySendError::into_inner)
    }

    /// Sends a command. An update waits while too much is unsaved.
    pub(crate) async fn send(&self, command: Command) -> Result<(), RoomError> {
        if matches!(command, Command::Update { .. }) && *self.shared.full.borrow() {
            // The sender is in what we hold, so there is one.
            let _ = self.shared.full.subscribe().wait_for(|full| !full).await;
        }
        self.shared.commands.send(command).await.map_err(|_| self.closed())
    }

    fn closed(&self) -> RoomError {
        RoomError::Closed { room: self.id().to_string() }
    }
}

/// Notified when rooms come and go.
pub trait Hooks: Send + Sync + 'static {
    /// A room was loaded or created.
    fn created(&self, _room: &str) {}
    /// A room left memory after everything in it was saved.
    fn evicted(&self, _room: &str) {}
}

/// No hooks.
impl Hooks for () {}

pub(crate) fn channel(id: Arc<str>) -> (Arc<Shared>, mpsc::Receiver<Command>) {
    let (commands, mailbox) = mpsc::channel(MAILBOX);
    let shared = Shared {
        id,
        commands,
        users: AtomicUsize::new(0),
        connections: AtomicUsize::new(0),
        size: AtomicUsize::new(0),
        unused: Notify::new(),
        resting: AtomicU64::new(0),
        give_way: Notify::new(),
        full: watch::Sender::new(false),
    };
    (Arc::new(shared), mailbox)
}
