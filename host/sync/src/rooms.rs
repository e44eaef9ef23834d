//! All rooms of a server: opened when someone asks for one, let go when nobody needs it.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::budget::{Budget, Purse};
use crate::limits::Limits;
use crate::room::{
    Command, ConnectionId, Hooks, Registry, Room, RoomError, RoomTask, Shared, channel,
};
use crate::storage::{Storage, StorageError};
use crate::websocket::Close;

/// The rooms of a server. Cheap to clone; all clones are the same rooms.
#[derive(Clone)]
pub struct Rooms {
    inner: Arc<Inner>,
}

struct Inner {
    /// A plain mutex: it is held for a look-up, and never across an await.
    rooms: Mutex<InMemory>,
    storage: Arc<dyn Storage>,
    hooks: Arc<dyn Hooks>,
    limits: Arc<Limits>,
    budget: Budget,
    tasks: TaskTracker,
    stop: CancellationToken,
    connections: AtomicUsize,
    by_address: Mutex<HashMap<IpAddr, usize>>,
    by_account: Mutex<HashMap<Arc<str>, usize>>,
    next_connection: AtomicU64,
}

#[derive(Default)]
struct InMemory {
    by_id: HashMap<Arc<str>, Arc<Shared>>,
    /// Those that may be let go whenever their place is needed, the one that has rested longest first.
    resting: BTreeMap<u64, Arc<Shared>>,
    next_rest: u64,
}

impl InMemory {
    /// Counts a user in.
    fn enter(&mut self, id: &str) -> Option<Room> {
        let shared = self.by_id.get(id)?.clone();
        shared.users.fetch_add(1, Ordering::AcqRel);
        self.wake(&shared);
        Some(Room { shared })
    }

    fn wake(&mut self, shared: &Shared) {
        self.resting.remove(&shared.resting.swap(0, Ordering::Relaxed));
    }

    /// Takes a room off the list, unless there is a new one of that id.
    fn remove(&mut self, shared: &Arc<Shared>) {
        self.wake(shared);
        if self.by_id.get(&shared.id).is_some_and(|current| Arc::ptr_eq(current, shared)) {
            self.by_id.remove(&shared.id);
        }
    }

    /// Lets go of the room that has rested longest.
    fn make_place(&mut self) -> bool {
        let Some((_, shared)) = self.resting.pop_first() else { return false };
        self.remove(&shared);
        shared.give_way.notify_one();
        true
    }
}

/// Why a room was not opened, or a socket not let in.
#[derive(Debug, Clone, thiserror::Error)]
pub enum OpenError {
    /// The id is empty or too long.
    #[error("a room id has 1 to {limit} bytes, and this one has {size}")]
    Id {
        /// What it has.
        size: usize,
        /// The limit.
        limit: usize,
    },
    /// Too many rooms are in memory.
    #[error("{limit} rooms are open, and that is the limit; try again later")]
    Rooms {
        /// The limit.
        limit: usize,
    },
    /// Too many sockets, in all or of somebody.
    #[error("{limit} connections are open{of}, and that is the limit")]
    Connections {
        /// The limit.
        limit: usize,
        /// Of whom, in words: empty for all, ` from this address`, ` of this account`.
        of: &'static str,
    },
    /// The server is stopping.
    #[error("the server is stopping")]
    Stopping,
}

/// What a room is called by the one who asks.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct RoomName {
    /// The room's id.
    pub id: String,
    /// Whose room it is, where that is somebody else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
}

/// A room that is in memory.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct RoomSummary {
    /// What it is called.
    #[serde(flatten)]
    pub name: RoomName,
    /// How many sockets are in it.
    pub connections: usize,
}

impl Rooms {
    /// Rooms kept in a storage.
    pub fn new(storage: Arc<dyn Storage>, limits: Limits, hooks: Arc<dyn Hooks>) -> Self {
        let inner = Inner {
            rooms: Mutex::default(),
            storage,
            hooks,
            budget: Budget::new(limits.held_bytes, limits.held_bytes_per_address),
            limits: Arc::new(limits),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            connections: AtomicUsize::new(0),
            by_address: Mutex::default(),
            by_account: Mutex::default(),
            next_connection: AtomicU64::new(1),
        };
        Self { inner: Arc::new(inner) }
    }

    /// The bounds that hold.
    pub fn limits(&self) -> &Limits {
        &self.inner.limits
    }

    /// Opens a room: the one in memory, or the one in storage, or a new one. Whether it can be
    /// loaded shows with the first thing that is asked of it.
    pub fn open(&self, id: &str) -> Result<Room, OpenError> {
        let limit = self.inner.limits.room_id_bytes;
        if id.is_empty() || id.len() > limit {
            return Err(OpenError::Id { size: id.len(), limit });
        }
        let mut rooms = self.inner.rooms.lock();
        if let Some(room) = rooms.enter(id) {
            return Ok(room);
        }
        if self.inner.stop.is_cancelled() {
            return Err(OpenError::Stopping);
        }
        if rooms.by_id.len() >= self.inner.limits.rooms && !rooms.make_place() {
            return Err(OpenError::Rooms { limit: self.inner.limits.rooms });
        }
        let (shared, mut mailbox) = channel(id.into());
        shared.users.store(1, Ordering::Release);
        rooms.by_id.insert(shared.id.clone(), shared.clone());
        drop(rooms);
        let room = Room { shared: shared.clone() };
        let inner = self.inner.clone();
        self.inner.tasks.spawn(async move {
            // A token of its own: rooms would share one lock to see that nothing stops.
            let stop = inner.stop.child_token();
            let (storage, limits) = (inner.storage.clone(), inner.limits.clone());
            let load = RoomTask::load(shared.clone(), storage, limits, inner.budget.clone());
            let loaded = tokio::select! {
                loaded = load => loaded,
                // What was asked of it could not be answered in time.
                () = inner.given_up(&stop) => Err(StorageError::Failed("there is no answer".into())),
            };
            match loaded {
                Ok(task) => {
                    inner.hooks.created(&shared.id);
                    task.run(mailbox, stop, &*inner).await;
                }
                Err(source) => {
                    tracing::error!(room = %shared.id, error = %source, "the room cannot be loaded");
                    inner.rooms.lock().remove(&shared);
                    mailbox.close();
                    while let Some(command) = mailbox.recv().await {
                        command.fail(|| RoomError::Storage {
                            room: shared.id.to_string(),
                            source: source.clone(),
                        });
                    }
                }
            }
            inner.rooms.lock().remove(&shared);
            inner.hooks.evicted(&shared.id);
        });
        Ok(room)
    }

    /// Notes whose rooms are ([`Storage::claim`]). It binds nobody who asks for a room: it is for those
    /// who keep owners apart.
    pub async fn claim(&self, rooms: Vec<String>, owner: &str) -> Result<Vec<bool>, StorageError> {
        self.inner.storage.claim(rooms, owner).await
    }

    /// Opens a room only if there is one, in memory or in storage.
    pub async fn open_existing(&self, id: &str) -> Result<Option<Room>, StorageError> {
        let in_memory = self.inner.rooms.lock().by_id.contains_key(id);
        if !in_memory && !self.inner.storage.exists(id).await? {
            return Ok(None);
        }
        Ok(self.open(id).ok())
    }

    /// The rooms in memory that have a name, by their names.
    pub fn list(&self, name_of: impl Fn(&str) -> Option<RoomName>) -> Vec<RoomSummary> {
        let rooms = self.inner.rooms.lock();
        let mut list: Vec<_> = rooms
            .by_id
            .values()
            .filter_map(|shared| {
                let connections = shared.connections.load(Ordering::Relaxed);
                Some(RoomSummary { name: name_of(&shared.id)?, connections })
            })
            .collect();
        drop(rooms);
        list.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        list
    }

    /// Closes the sockets of a room, if it is in memory, with a code and a reason. What they sent
    /// before is taken in first.
    pub fn disconnect(&self, id: &str, code: u16, reason: &str) {
        let Some(shared) = self.inner.rooms.lock().by_id.get(id).cloned() else { return };
        let close = Close::new(code, reason);
        // The room may be slow to take it, and whoever asks for this need not wait.
        self.inner.tasks.spawn(async move {
            let _ = shared.commands.send(Command::Disconnect { close }).await;
        });
    }

    /// A purse for what is held for a request.
    pub(crate) fn purse(&self, address: Option<IpAddr>) -> Arc<Purse> {
        self.inner.budget.purse(address)
    }

    /// Counts a socket in, as long as what is returned is held. The account is that of whoever opens it, by its id.
    pub fn admit(
        &self,
        address: Option<IpAddr>,
        account: Option<&str>,
    ) -> Result<Admission, OpenError> {
        let limits = &self.inner.limits;
        let admission = Admission {
            inner: self.inner.clone(),
            purse: self.inner.budget.purse(address),
            address,
            account: account.map(Arc::from),
            connection: self.inner.next_connection.fetch_add(1, Ordering::Relaxed),
        };
        // Counted first, so that dropping the admission always counts out what was counted in.
        let open = self.inner.connections.fetch_add(1, Ordering::AcqRel);
        let from_address = address.map(|address| count_in(&self.inner.by_address, address));
        let of_account = admission.account.clone();
        let of_account = of_account.map(|account| count_in(&self.inner.by_account, account));
        for (count, limit, of) in [
            (Some(open + 1), limits.connections, ""),
            (from_address, limits.connections_per_address, " from this address"),
            (of_account, limits.connections_per_account, " of this account"),
        ] {
            if count.is_some_and(|count| count > limit) {
                return Err(OpenError::Connections { limit, of });
            }
        }
        Ok(admission)
    }

    /// Spawns a task that `shutdown` waits for.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.inner.tasks.spawn(task);
    }

    /// Cancelled when the server stops.
    pub fn stopping(&self) -> &CancellationToken {
        &self.inner.stop
    }

    /// Closes all sockets, saves all rooms and waits for both, but for storage that fails no longer than
    /// `close_timeout`; the log says what is lost then.
    pub async fn shutdown(&self) {
        self.inner.stop.cancel();
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
        let close = self.inner.storage.close();
        if tokio::time::timeout(self.inner.limits.close_timeout, close).await.is_err() {
            tracing::error!("storage cannot be closed: there is no answer");
        }
    }
}

impl Inner {
    /// Returns when a stopping server waits for storage no longer.
    async fn given_up(&self, stop: &CancellationToken) {
        stop.cancelled().await;
        tokio::time::sleep(self.limits.close_timeout).await;
    }
}

impl Registry for Inner {
    fn release(&self, shared: &Arc<Shared>) -> bool {
        let mut rooms = self.rooms.lock();
        if shared.users.load(Ordering::Acquire) > 0 {
            return false;
        }
        rooms.remove(shared);
        true
    }

    fn rest(&self, shared: &Arc<Shared>, mailbox: &mpsc::Receiver<Command>) -> bool {
        let mut rooms = self.rooms.lock();
        // Users come only while the lock is held, and what those who left have sent is in the mailbox.
        if shared.users.load(Ordering::Acquire) > 0 || !mailbox.is_empty() {
            return false;
        }
        rooms.next_rest += 1;
        let place = rooms.next_rest;
        shared.resting.store(place, Ordering::Relaxed);
        rooms.resting.insert(place, shared.clone());
        true
    }
}

/// A socket that counts against the limits until this is dropped.
pub struct Admission {
    inner: Arc<Inner>,
    purse: Arc<Purse>,
    address: Option<IpAddr>,
    account: Option<Arc<str>>,
    connection: ConnectionId,
}

impl Admission {
    /// Names the socket within the process.
    pub fn connection(&self) -> ConnectionId {
        self.connection
    }

    /// What is held for it is charged to this.
    pub(crate) fn purse(&self) -> &Arc<Purse> {
        &self.purse
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.inner.connections.fetch_sub(1, Ordering::AcqRel);
        if let Some(address) = self.address {
            count_out(&self.inner.by_address, &address);
        }
        if let Some(account) = &self.account {
            count_out(&self.inner.by_account, account);
        }
    }
}

/// Counts one more of somebody's; returns how many there are.
fn count_in<K: Eq + Hash>(counts: &Mutex<HashMap<K, usize>>, whose: K) -> usize {
    let mut counts = counts.lock();
    let count = counts.entry(whose).or_insert(0);
    *count += 1;
    *count
}

fn count_out<K: Eq + Hash>(counts: &Mutex<HashMap<K, usize>>, whose: &K) {
    let mut counts = counts.lock();
    if let Some(count) = counts.get_mut(whose) {
        *count -= 1;
        if *count == 0 {
            counts.remove(whose);
        }
    }
}
