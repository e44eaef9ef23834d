//! One document and those who share it.
//!
//! Each room is a task that owns its document; sockets, HTTP and the server's own code send it
//! commands. It works in *turns*: it takes all commands that have queued, applies them in order,
//! and then deals with the outcome once for all of them: one batch to storage, one frame for
//! everything that changed, the same bytes for every socket.
//!
//! **Saved means on disk.** While a batch is being written, the next one collects; there is one
//! write in flight for a room. Acknowledgements (the echo of a sync status, the answer to an edit)
//! wait for the write that covers all that came before them. When storage fails, the write is
//! tried again until it succeeds: nobody gets an acknowledgement meanwhile, and the room stops
//! reading its mailbox once too much is unsaved, which holds its writers back.
//!
//! **Eviction.** When nobody has used the room for `idle_timeout`, it saves, compacts and ends.
//! The registry (`rooms`) lets it go only if nobody came meanwhile; who opens it later gets a new
//! task that loads it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::Instant;

use crate::arrays::{ArrayChange, Arrays};
use crate::awareness::Awareness;
use crate::lib0::{write_any, write_bytes, write_var};
use crate::limits::Limits;
use crate::outbox::{Close, Outbox};
use crate::protocol;
use crate::socket;
use crate::storage::{Storage, StorageError};
use crate::store::{Refused, Store, merge};
use crate::update::{ANY, Id, StateVector, Update, write_id, write_state_vector, write_string};

/// Names a connection within the process.
pub type ConnectionId = u64;

/// Commands that may wait for a room; more make their senders wait.
const MAILBOX: usize = 256;
/// Bytes of updates that may be unsaved before the room stops taking in more.
const UNSAVED_BYTES: usize = 16 * 1024 * 1024;
/// Updates for whose durability nobody waits are written at the next beat, and all rooms keep the
/// same beat, so that they share one flush of the disk; a flush costs as much CPU as forty
/// deliveries. Whoever waits (a sync status, an HTTP write) is not made to wait for the beat.
const BEAT: Duration = Duration::from_millis(250);
/// Bytes of unsaved updates that are written without waiting for the beat.
const BEAT_BYTES: usize = 256 * 1024;
/// Between two tries when storage fails.
const RETRY: Duration = Duration::from_secs(1);
/// A log is compacted when it has outgrown its snapshot, but not before it has this many bytes:
/// rewriting a small document often would cost more than reading a small log.
const COMPACT_BYTES: usize = 256 * 1024;

/// Follows the arrays of a document, on the room's own task: it must not block.
pub trait Model: Send + 'static {
    /// Something that happened in the arrays; at first, everything that is there.
    fn change(&mut self, change: ArrayChange);

    /// Called when all that an update brought has been told. The edit that is returned is applied
    /// at once, and told like any other.
    fn settle(&mut self, arrays: &Arrays) -> Edit;
}

/// Changes to a document that the server makes itself.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Edit {
    /// Values to push to the end of an array, by the array's name.
    pub pushes: Vec<(String, serde_json::Value)>,
    /// Text to insert.
    pub insertions: Vec<Insertion>,
    /// Elements to delete: the first, and how many.
    pub deletes: Vec<(Id, u32)>,
}

/// Text that goes between two elements of a text at the top of the document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Insertion {
    /// The text's name in the document.
    pub root: String,
    /// The element left of it; none at the start.
    pub origin: Option<Id>,
    /// The element right of it; none at the end.
    pub right_origin: Option<Id>,
    /// What goes there; not empty.
    pub text: String,
}

/// A whole document, as it was at one moment.
#[derive(Debug, Clone)]
pub struct Document {
    /// It as one update.
    pub bytes: Bytes,
    /// Grows with each change, while the room is in memory.
    pub version: u64,
}

impl Edit {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.pushes.is_empty() && self.insertions.is_empty() && self.deletes.is_empty()
    }
}

/// Why a room did not do what was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RoomError {
    /// The document could not be read from storage.
    #[error("room {room}: {source}")]
    Storage {
        /// The room.
        room: String,
        /// What storage said.
        source: StorageError,
    },
    /// The update does not fit the document.
    #[error("room {room}: {source}")]
    Refused {
        /// The room.
        room: String,
        /// Why.
        source: Refused,
    },
    /// An edit cannot be written as an update.
    #[error("room {room}: the edit cannot be written: {reason}")]
    Edit {
        /// The room.
        room: String,
        /// Why.
        reason: String,
    },
    /// The server is stopping.
    #[error("room {room} is closed")]
    Closed {
        /// The room.
        room: String,
    },
}

pub(crate) enum Command {
    Join { connection: ConnectionId, outbox: Arc<Outbox> },
    Leave { connection: ConnectionId },
    Step1 { connection: ConnectionId, peer: StateVector },
    Update { connection: ConnectionId, update: Update, may_write: bool },
    Awareness { connection: ConnectionId, states: Bytes },
    QueryAwareness { connection: ConnectionId },
    SyncStatus { connection: ConnectionId, frame: Bytes },
    CatchUp { connection: ConnectionId, knows: StateVector },
    Apply { update: Update, done: Reply<()> },
    Snapshot { done: Reply<Document> },
    Attach { model: Box<dyn Model>, done: Reply<()> },
    Detach,
    Edit { edit: EditFn, done: Reply<()> },
    EditAt { version: u64, edit: Edit, made: oneshot::Sender<bool>, done: Reply<()> },
    Disconnect { close: Close },
    Presence { done: Reply<Vec<(u64, String)>> },
}

impl Command {
    /// Answers a command that will not be carried out.
    pub fn fail(self, error: impl FnOnce() -> RoomError) {
        match self {
            Self::Apply { done, .. }
            | Self::Attach { done, .. }
            | Self::Edit { done, .. }
            | Self::EditAt { done, .. } => {
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
/// Decides on the room's task what to change, with everything before it applied.
pub(crate) type EditFn = Box<dyn FnOnce(&Arrays) -> Edit + Send>;

/// What the registry and the users of a room share with its task.
pub(crate) struct Shared {
    pub id: Arc<str>,
    pub commands: mpsc::Sender<Command>,
    /// Guards that hold the room in memory. Changed only while the registry is locked, when it
    /// grows, so that a room in use is never let go.
    pub users: AtomicUsize,
    pub connections: AtomicUsize,
    /// Told when the last user left.
    pub unused: Notify,
}

/// A room that is in use. It stays in memory while this is held.
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

    /// Applies an update; returns once it is durable.
    pub async fn apply(&self, update: Update) -> Result<(), RoomError> {
        self.ask(|done| Command::Apply { update, done }).await
    }

    /// The whole document as one update.
    pub async fn snapshot(&self) -> Result<Bytes, RoomError> {
        Ok(self.document().await?.bytes)
    }

    /// The whole document and its version.
    pub async fn document(&self) -> Result<Document, RoomError> {
        self.ask(|done| Command::Snapshot { done }).await
    }

    /// Changes the document if it still is at a version. False when it is not, and nothing was
    /// done; true once the edit is durable.
    pub async fn edit_at(&self, version: u64, edit: Edit) -> Result<bool, RoomError> {
        let (made, result) = oneshot::channel();
        self.ask(|done| Command::EditAt { version, edit, made, done }).await?;
        result.await.map_err(|_| self.closed())
    }

    /// Lets a model follow the document's arrays, from here on; it replaces the one before.
    pub async fn attach(&self, model: Box<dyn Model>) -> Result<(), RoomError> {
        self.ask(|done| Command::Attach { model, done }).await
    }

    /// Ends the model.
    pub async fn detach(&self) {
        let _ = self.shared.commands.send(Command::Detach).await;
    }

    /// Changes the document. The closure runs on the room's task, after all that was sent before;
    /// what it returns beside the edit comes back once the edit is durable.
    pub async fn edit<T: Send + 'static>(
        &self,
        edit: impl FnOnce(&Arrays) -> (Edit, T) + Send + 'static,
    ) -> Result<T, RoomError> {
        let (send, result) = oneshot::channel();
        let edit: EditFn = Box::new(move |arrays| {
            let (edit, result) = edit(arrays);
            let _ = send.send(result);
            edit
        });
        self.ask(|done| Command::Edit { edit, done }).await?;
        result.await.map_err(|_| self.closed())
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

    pub(crate) async fn send(&self, command: Command) -> Result<(), RoomError> {
        self.shared.commands.send(command).await.map_err(|_| self.closed())
    }

    fn closed(&self) -> RoomError {
        RoomError::Closed { room: self.id().to_string() }
    }
}

/// Told when rooms come and go; for users of the library.
pub trait Hooks: Send + Sync + 'static {
    /// A room was loaded or made.
    fn created(&self, _room: &str) {}
    /// A room left memory; what was in it is on disk.
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
        unused: Notify::new(),
    };
    (Arc::new(shared), mailbox)
}

/// Who waits for a write to be durable.
enum Waiter {
    Status { connection: ConnectionId, frame: Bytes },
    Reply(Reply<()>),
}

pub(crate) struct RoomTask {
    shared: Arc<Shared>,
    storage: Arc<dyn Storage>,
    limits: Arc<Limits>,
    store: Store,
    /// Counts changes.
    version: u64,
    /// Bytes of the document as a whole, while it has not changed.
    whole: Option<Whole>,
    /// The arrays and their follower, where there is one.
    model: Option<(Arrays, Box<dyn Model>)>,
    awareness: Awareness,
    connections: HashMap<ConnectionId, Arc<Outbox>>,
    /// The client id under which the server itself writes. A new one each time the room is
    /// loaded: an id that is used again after a backup was restored would name other content.
    client: u64,
    /// Position of the last saved update, and bytes of the log behind the snapshot.
    position: u64,
    log_bytes: usize,
    snapshot_bytes: usize,
    turn: Turn,
    unsaved: Vec<Bytes>,
    unsaved_bytes: usize,
    waiters: Vec<Waiter>,
}

/// A whole document, as it answers a step 1 of those who have nothing.
struct Whole {
    frame: Bytes,
    /// Bytes of the frame before the document.
    head: usize,
}

impl Whole {
    fn of(document: &[u8]) -> Self {
        let frame = socket::binary(&protocol::step_2(document));
        let head = frame.len() - document.len();
        Self { frame, head }
    }

    fn document(&self) -> Bytes {
        self.frame.slice(self.head..)
    }
}

/// What one turn brought about.
#[derive(Default)]
struct Turn {
    /// Updates that changed the document, and who sent them.
    updates: Vec<(Option<ConnectionId>, Update)>,
    /// Clients whose presence changed.
    presence: HashSet<u64>,
    /// Who sent it, if it was one.
    presence_from: Option<ConnectionId>,
    presence_mixed: bool,
}

type Saving = std::pin::Pin<Box<dyn Future<Output = Result<u64, StorageError>> + Send>>;

impl RoomTask {
    /// Loads a room. What is on disk is read as carefully as what comes from a socket.
    pub async fn load(
        shared: Arc<Shared>,
        storage: Arc<dyn Storage>,
        limits: Arc<Limits>,
    ) -> Result<Self, StorageError> {
        let stored = storage.load(&shared.id).await?.unwrap_or_default();
        let mut store = Store::default();
        for bytes in &stored.updates {
            let update = Update::scan(bytes.clone()).map_err(|error| {
                StorageError(format!("an update that was kept is damaged: {error}"))
            })?;
            let _ = store.apply(&update, &crate::store::Bounds::NONE);
        }
        let client = loop {
            let client = rand::random::<u32>() as u64;
            if client != 0 && store.known(client) == 0 {
                break client;
            }
        };
        let whole_bytes: usize = stored.updates.iter().map(Bytes::len).sum();
        Ok(Self {
            shared,
            storage,
            limits,
            store,
            version: 0,
            whole: None,
            model: None,
            awareness: Awareness::default(),
            connections: HashMap::new(),
            client,
            position: stored.position,
            log_bytes: stored.log_bytes,
            snapshot_bytes: whole_bytes - stored.log_bytes,
            turn: Turn::default(),
            unsaved: Vec::new(),
            unsaved_bytes: 0,
            waiters: Vec::new(),
        })
    }

    /// Serves the room until `release` lets it go or the server stops.
    pub async fn run(
        mut self,
        mut mailbox: mpsc::Receiver<Command>,
        stop: tokio_util::sync::CancellationToken,
        release: impl Fn(&Arc<Shared>) -> bool,
    ) {
        let mut batch = Vec::new();
        let mut saving: Option<(Saving, usize, Vec<Waiter>)> = None;
        // Both are kept, not made anew in each turn: to wait for them takes a place in a list.
        let mut beat = std::pin::pin!(tokio::time::sleep_until(Instant::now()));
        let mut beat_set = false;
        let mut stopped = std::pin::pin!(stop.cancelled());
        // A room that nobody enters after it was opened is unused from the start.
        let mut evict_at = Some(Instant::now() + self.limits.idle_timeout);
        loop {
            if saving.is_none() && !self.unsaved.is_empty() {
                let urgent = !self.waiters.is_empty() || self.unsaved_bytes >= BEAT_BYTES;
                if urgent || (beat_set && beat.is_elapsed()) {
                    beat_set = false;
                    saving = Some(self.save());
                } else if !beat_set {
                    beat_set = true;
                    beat.as_mut().reset(next_beat());
                }
            }
            if saving.is_none() && !self.waiters.is_empty() {
                let waiters = std::mem::take(&mut self.waiters);
                self.acknowledge(waiters);
            }
            tokio::select! {
                biased;
                result = async { saving.as_mut().expect("checked").0.as_mut().await }, if saving.is_some() => {
                    let (_, bytes, waiters) = saving.take().expect("checked");
                    self.saved(result, bytes);
                    self.acknowledge(waiters);
                    self.compact_if_due().await;
                }
                () = &mut stopped => break,
                () = &mut beat, if beat_set && saving.is_none() => {}
                count = mailbox.recv_many(&mut batch, MAILBOX), if self.unsaved_bytes < UNSAVED_BYTES => {
                    if count == 0 {
                        break;
                    }
                    self.mark_those_behind();
                    for command in batch.drain(..) {
                        self.handle(command);
                    }
                    self.end_turn();
                }
                () = self.shared.unused.notified() => {
                    evict_at = Some(Instant::now() + self.limits.idle_timeout);
                }
                () = tokio::time::sleep_until(evict_at.unwrap_or_else(Instant::now)), if evict_at.is_some() => {
                    evict_at = None;
                    if self.shared.users.load(Ordering::Acquire) > 0 {
                        continue;
                    }
                    if let Some((write, bytes, waiters)) = saving.take() {
                        let result = write.await;
                        self.saved(result, bytes);
                        self.acknowledge(waiters);
                    }
                    self.flush().await;
                    self.compact().await;
                    if release(&self.shared) {
                        return;
                    }
                    // Somebody came while we were busy; whoever leaves last starts the clock.
                }
            }
        }
        // The server stops. What was sent before is taken in and saved, then the sockets close.
        if let Some((write, bytes, waiters)) = saving.take() {
            let result = write.await;
            self.saved(result, bytes);
            self.acknowledge(waiters);
        }
        mailbox.close();
        while let Some(command) = mailbox.recv().await {
            self.handle(command);
        }
        self.end_turn();
        self.flush().await;
        for outbox in self.connections.values() {
            outbox.close(Close::new(1001, "the server is stopping"));
        }
    }

    /// Starts to write what is unsaved. Who waited until now waits for this.
    fn save(&mut self) -> (Saving, usize, Vec<Waiter>) {
        let updates = std::mem::take(&mut self.unsaved);
        let waiters = std::mem::take(&mut self.waiters);
        let bytes: usize = updates.iter().map(Bytes::len).sum();
        let storage = self.storage.clone();
        let room = self.shared.id.clone();
        let write = async move {
            let mut failed = false;
            loop {
                match storage.append(&room, updates.clone()).await {
                    Ok(position) => {
                        if failed {
                            tracing::info!(%room, "storage works again");
                        }
                        return Ok(position);
                    }
                    Err(error) if !failed => {
                        failed = true;
                        tracing::error!(%room, %error, "writing failed; trying again every second, \
                            nothing is acknowledged until it succeeds");
                    }
                    Err(_) => {}
                }
                tokio::time::sleep(RETRY).await;
            }
        };
        (Box::pin(write), bytes, waiters)
    }

    fn saved(&mut self, result: Result<u64, StorageError>, bytes: usize) {
        if let Ok(position) = result {
            self.position = position;
        }
        self.unsaved_bytes -= bytes;
        self.log_bytes += bytes;
    }

    fn acknowledge(&mut self, waiters: Vec<Waiter>) {
        for waiter in waiters {
            match waiter {
                Waiter::Status { connection, frame } => {
                    if let Some(outbox) = self.connections.get(&connection) {
                        outbox.push_status(frame);
                        outbox.flush();
                    }
                }
                Waiter::Reply(reply) => drop(reply.send(Ok(()))),
            }
        }
    }

    /// Saves everything, when nothing is in flight. At shutdown a failing disk is not waited for
    /// longer than `close_timeout`: nothing of what is lost then was acknowledged.
    async fn flush(&mut self) {
        if self.unsaved.is_empty() {
            let waiters = std::mem::take(&mut self.waiters);
            return self.acknowledge(waiters);
        }
        let (write, bytes, waiters) = self.save();
        match tokio::time::timeout(self.limits.close_timeout, write).await {
            Ok(result) => {
                self.saved(result, bytes);
                self.acknowledge(waiters);
            }
            Err(_) => {
                tracing::error!(room = %self.shared.id, bytes, "not saved: storage does not answer")
            }
        }
    }

    async fn compact_if_due(&mut self) {
        if self.log_bytes > self.snapshot_bytes.max(COMPACT_BYTES) {
            self.compact().await;
        }
    }

    async fn compact(&mut self) {
        if self.log_bytes == 0 {
            return;
        }
        let started = std::time::Instant::now();
        let document = self.store.compact();
        let bytes = document.len();
        self.whole = Some(Whole::of(&document));
        match self.storage.compact(&self.shared.id, document, self.position).await {
            Ok(()) => {
                tracing::debug!(
                    room = %self.shared.id, log_bytes = self.log_bytes, bytes,
                    ms = started.elapsed().as_millis() as u64, "compacted"
                );
                self.log_bytes = 0;
                self.snapshot_bytes = bytes;
            }
            Err(error) => tracing::warn!(room = %self.shared.id, %error, "not compacted"),
        }
    }

    /// Marks the sockets for which too much waits, before anything changes that they would miss.
    fn mark_those_behind(&mut self) {
        for outbox in self.connections.values() {
            if outbox.queued() > self.limits.queue_bytes && !outbox.is_behind() {
                outbox.fall_behind(self.store.state_vector());
            }
        }
    }

    fn handle(&mut self, command: Command) {
        match command {
            Command::Join { connection, outbox } => {
                let vector = write_state_vector(&self.store.state_vector());
                outbox.push(socket::binary(&protocol::step_1(&vector)));
                if !self.awareness.is_empty() {
                    let states = protocol::awareness(&self.awareness.encode_present());
                    outbox.push(socket::binary(&states));
                }
                self.connections.insert(connection, outbox);
                self.shared.connections.store(self.connections.len(), Ordering::Relaxed);
            }
            Command::Leave { connection } => {
                self.connections.remove(&connection);
                self.shared.connections.store(self.connections.len(), Ordering::Relaxed);
                let left = self.awareness.leave(connection);
                self.turn.note_presence(connection, left);
            }
            Command::Step1 { connection, peer } => {
                let Some(outbox) = self.connections.get(&connection).cloned() else { return };
                if outbox.queued() > self.limits.queue_bytes || outbox.is_behind() {
                    // What it asks for is sent when it has read what it got.
                    outbox.fall_behind(peer);
                } else {
                    outbox.push(self.step_2(&peer));
                }
            }
            // One who only reads tells what it has, too: Yjs answers a step 1 with all that it
            // knows to be deleted. What is known here already is no write.
            Command::Update { connection, update, may_write: false } => {
                if !self.store.knows(&update)
                    && let Some(outbox) = self.connections.get(&connection)
                {
                    outbox.close(Close::new(4403, "this room is read-only for you"));
                }
            }
            Command::Update { connection, update, may_write: true } => {
                if let Err(error) = self.apply(Some(connection), update)
                    && let Some(outbox) = self.connections.get(&connection)
                {
                    outbox.close(Close::new(1009, error.to_string()));
                }
            }
            Command::Awareness { connection, states } => {
                let connections = &self.connections;
                let is_open = |owner| connections.contains_key(&owner);
                let bounds = &self.limits.awareness;
                match self.awareness.apply(connection, &states, bounds, is_open) {
                    Ok(changed) => self.turn.note_presence(connection, changed),
                    Err(error) => {
                        if let Some(outbox) = self.connections.get(&connection) {
                            outbox.close(Close::new(1008, error.to_string()));
                        }
                    }
                }
            }
            Command::QueryAwareness { connection } => {
                if let Some(outbox) = self.connections.get(&connection) {
                    let states = self.awareness.encode_present();
                    outbox.push_presence(socket::binary(&protocol::awareness(&states)));
                }
            }
            Command::SyncStatus { connection, frame } => {
                let frame = socket::binary(&frame);
                self.waiters.push(Waiter::Status { connection, frame });
            }
            Command::CatchUp { connection, knows } => {
                let Some(outbox) = self.connections.get(&connection).cloned() else { return };
                let missed = socket::binary(&protocol::update(&self.diff(&knows)));
                let presence =
                    || socket::binary(&protocol::awareness(&self.awareness.encode_all()));
                outbox.catch_up(missed, presence);
            }
            Command::Apply { update, done } => match self.apply(None, update) {
                Ok(()) => self.waiters.push(Waiter::Reply(done)),
                Err(source) => drop(done.send(Err(self.refused(source)))),
            },
            Command::Snapshot { done } => {
                let bytes = self.whole().document();
                let _ = done.send(Ok(Document { bytes, version: self.version }));
            }
            Command::Attach { mut model, done } => {
                let arrays = Arrays::load(&self.store, &mut |change| model.change(change));
                let edit = model.settle(&arrays);
                self.model = Some((arrays, model));
                match self.edit(edit) {
                    Ok(()) => self.waiters.push(Waiter::Reply(done)),
                    Err(error) => drop(done.send(Err(error))),
                }
            }
            Command::Detach => self.model = None,
            Command::Edit { edit, done } => {
                let edit = match &self.model {
                    Some((arrays, _)) => edit(arrays),
                    None => edit(&Arrays::load(&self.store, &mut |_| {})),
                };
                match self.edit(edit) {
                    Ok(()) => self.waiters.push(Waiter::Reply(done)),
                    Err(error) => drop(done.send(Err(error))),
                }
            }
            Command::EditAt { version, edit, made, done } => {
                let current = version == self.version;
                let _ = made.send(current);
                match if current { self.edit(edit) } else { Ok(()) } {
                    Ok(()) => self.waiters.push(Waiter::Reply(done)),
                    Err(error) => drop(done.send(Err(error))),
                }
            }
            Command::Disconnect { close } => {
                self.connections.values().for_each(|outbox| outbox.close(close.clone()));
            }
            Command::Presence { done } => {
                let states = self.awareness.present();
                let _ = done.send(Ok(states.map(|(id, json)| (id, json.to_owned())).collect()));
            }
        }
    }

    fn refused(&self, source: Refused) -> RoomError {
        RoomError::Refused { room: self.shared.id.to_string(), source }
    }

    /// What a peer lacks. One who has nothing gets the whole document, which is encoded once.
    fn diff(&mut self, peer: &StateVector) -> Bytes {
        if !peer.is_empty() {
            return self.store.diff(peer).into();
        }
        self.whole().document()
    }

    /// Answers a step 1. Those who have nothing share the bytes.
    fn step_2(&mut self, peer: &StateVector) -> Bytes {
        if !peer.is_empty() {
            return socket::binary(&protocol::step_2(&self.store.diff(peer)));
        }
        self.whole().frame.clone()
    }

    fn whole(&mut self) -> &Whole {
        let store = &self.store;
        self.whole.get_or_insert_with(|| Whole::of(&store.diff(&StateVector::new())))
    }

    /// Takes in an update: document, model, log, and the frame at the end of the turn.
    fn apply(&mut self, from: Option<ConnectionId>, update: Update) -> Result<(), Refused> {
        let mut next = Some((from, update));
        while let Some((from, update)) = next.take() {
            let applied = self.store.apply(&update, &self.limits.document())?;
            if !applied.changed {
                return Ok(());
            }
            self.whole = None;
            self.version += 1;
            self.unsaved_bytes += update.bytes().len();
            self.unsaved.push(update.bytes().clone());
            self.turn.updates.push((from, update));
            if let Some((arrays, model)) = &mut self.model {
                arrays.apply(&self.store, &applied, &mut |change| model.change(change));
                let edit = model.settle(arrays);
                next = self.write(&edit).ok().flatten().map(|update| (None, update));
            }
        }
        if self.store.wants_compaction() {
            self.whole = Some(Whole::of(&self.store.compact()));
        }
        Ok(())
    }

    fn edit(&mut self, edit: Edit) -> Result<(), RoomError> {
        let update = self
            .write(&edit)
            .map_err(|reason| RoomError::Edit { room: self.shared.id.to_string(), reason })?;
        match update {
            Some(update) => self.apply(None, update).map_err(|source| self.refused(source)),
            None => Ok(()),
        }
    }

    /// An edit as an update under the server's own client id; none when there is nothing to do.
    fn write(&self, edit: &Edit) -> Result<Option<Update>, String> {
        if edit.is_empty() {
            return Ok(None);
        }
        let mut arrays: Vec<(&str, Vec<&serde_json::Value>)> = Vec::new();
        for (array, value) in &edit.pushes {
            match arrays.iter_mut().find(|(name, _)| name == array) {
                Some((_, values)) => values.push(value),
                None => arrays.push((array, vec![value])),
            }
        }
        let mut out = Vec::new();
        let structs = arrays.len() + edit.insertions.len();
        if structs == 0 {
            write_var(&mut out, 0);
        } else {
            write_var(&mut out, 1);
            write_var(&mut out, structs as u64);
            write_var(&mut out, self.client);
            write_var(&mut out, self.store.known(self.client) as u64);
        }
        for (array, values) in arrays {
            let tail = self.model.as_ref().and_then(|(arrays, _)| arrays.tail(array));
            match tail {
                Some(origin) => {
                    out.push(ANY | 0x80);
                    write_id(&mut out, origin);
                }
                None => {
                    out.push(ANY);
                    out.push(1);
                    write_bytes(&mut out, array.as_bytes());
                }
            }
            write_var(&mut out, values.len() as u64);
            for value in values {
                write_any(&mut out, value);
            }
        }
        for Insertion { root, origin, right_origin, text } in &edit.insertions {
            write_string(&mut out, (*origin, *right_origin), root, text);
        }
        write_deletes(&mut out, &edit.deletes);
        Update::scan(out.into()).map(Some).map_err(|error| error.to_string())
    }

    /// Sends what the turn brought to all who need it, and keeps it to be saved.
    fn end_turn(&mut self) {
        let turn = std::mem::take(&mut self.turn);
        if !turn.updates.is_empty() {
            self.broadcast(&turn.updates);
        }
        if !turn.presence.is_empty() {
            let states = protocol::awareness(&self.awareness.encode_of(&turn.presence));
            let frame = socket::binary(&states);
            let from = turn.presence_from.filter(|_| !turn.presence_mixed);
            for (connection, outbox) in &self.connections {
                if Some(*connection) != from {
                    outbox.push_presence(frame.clone());
                }
            }
        }
        for outbox in self.connections.values() {
            outbox.flush();
        }
    }

    /// Everybody gets one frame with all that others wrote. Those who wrote in this turn get one
    /// for each of the others, because what is theirs must not come back.
    fn broadcast(&self, updates: &[(Option<ConnectionId>, Update)]) {
        let mut by_writer: Vec<(Option<ConnectionId>, Vec<&Update>)> = Vec::new();
        for (from, update) in updates {
            match by_writer.iter_mut().find(|(writer, _)| writer == from) {
                Some((_, list)) => list.push(update),
                None => by_writer.push((*from, vec![update])),
            }
        }
        let frame = |list: &[&Update]| match list {
            [one] => socket::binary(&protocol::update(one.bytes())),
            many => socket::binary(&protocol::update(&merge(many.iter().copied()))),
        };
        let frames: Vec<_> =
            by_writer.iter().map(|(writer, list)| (*writer, frame(list))).collect();
        let mut all = None;
        for (connection, outbox) in &self.connections {
            let wrote = frames.iter().any(|(writer, _)| *writer == Some(*connection));
            if wrote || frames.len() == 1 {
                for (_, frame) in frames.iter().filter(|(writer, _)| *writer != Some(*connection)) {
                    outbox.push(frame.clone());
                }
            } else {
                let all = all.get_or_insert_with(|| {
                    frame(&updates.iter().map(|(_, update)| update).collect::<Vec<_>>())
                });
                outbox.push(all.clone());
            }
        }
    }
}

impl Turn {
    fn note_presence(&mut self, from: ConnectionId, changed: Vec<u64>) {
        if changed.is_empty() {
            return;
        }
        self.presence_mixed |= self.presence_from.is_some_and(|before| before != from);
        self.presence_from = Some(from);
        self.presence.extend(changed);
    }
}

/// The next time at which all rooms save.
fn next_beat() -> Instant {
    static FIRST: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
    let first = *FIRST;
    let now = Instant::now();
    let since = now.saturating_duration_since(first).as_nanos() % BEAT.as_nanos();
    now + BEAT - Duration::from_nanos(since as u64)
}

fn write_deletes(out: &mut Vec<u8>, deletes: &[(Id, u32)]) {
    let mut sorted = deletes.to_vec();
    sorted.sort_unstable();
    let mut clients: Vec<(u64, Vec<(u32, u32)>)> = Vec::new();
    for (id, len) in sorted {
        let end = id.clock + len;
        match clients.last_mut() {
            Some((client, ranges)) if *client == id.client => match ranges.last_mut() {
                Some((_, last)) if *last >= id.clock => *last = end.max(*last),
                _ => ranges.push((id.clock, end)),
            },
            _ => clients.push((id.client, vec![(id.clock, end)])),
        }
    }
    write_var(out, clients.len() as u64);
    for (client, ranges) in clients {
        write_var(out, client);
        write_var(out, ranges.len() as u64);
        for (start, end) in ranges {
            write_var(out, start as u64);
            write_var(out, (end - start) as u64);
        }
    }
}
