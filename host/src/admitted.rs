//! Sockets that were let in by a session, for as long as it lasts.
//!
//! Who may enter a room is decided when a socket opens, and holds only as long as what it was
//! decided by: a session that has not ended, a membership that was not taken back, a room token
//! whose minutes are not over. One task looks at everything that is open again every two seconds,
//! and at once when it is told that something ended; so it does not matter by whom or where a
//! session was ended, or whether a message about it was lost. A look asks about each session once,
//! however many sockets it has, in one query for five hundred of them.
//!
//! While sessions cannot be checked, because the database is away, nothing is closed.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use host_auth::Verifier;
use host_sync::{Close, Rooms};
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use crate::people::Owned;
use crate::people::members::{Level, Members};

/// Between two looks. "Within seconds" is the promise.
const LOOK: Duration = Duration::from_secs(2);
/// Between two looks that somebody asked for: a look at a hundred thousand sockets takes a while.
const AT_ONCE: Duration = Duration::from_millis(100);
/// Sessions that one query asks about.
const BATCH: usize = 500;

/// What a socket was let in by.
#[derive(Debug, Clone)]
pub struct Grounds {
    /// The id of the session.
    pub session: String,
    /// The account's id.
    pub account: String,
    /// The room of somebody else that it is in, and what it may do there.
    pub shared: Option<(Owned, Level)>,
    /// When it ends in any case.
    pub until: Option<SystemTime>,
}

/// The sockets that are open. Clones share them.
#[derive(Clone)]
pub struct Admitted {
    inner: Arc<Inner>,
}

struct Inner {
    open: Mutex<HashMap<u64, (Grounds, oneshot::Sender<Close>)>>,
    next: AtomicU64,
    look: Notify,
    verifier: Arc<dyn Verifier>,
    members: Option<Members>,
}

/// Resolves when a socket is to be closed.
pub type Over = Pin<Box<dyn Future<Output = Close> + Send>>;

impl Admitted {
    /// Starts to look after sockets, until the rooms are shut down.
    pub fn new(rooms: &Rooms, verifier: Arc<dyn Verifier>, members: Option<Members>) -> Self {
        let inner = Arc::new(Inner {
            open: Mutex::default(),
            next: AtomicU64::new(0),
            look: Notify::new(),
            verifier,
            members,
        });
        let (stopping, looked_after) = (rooms.stopping().clone(), inner.clone());
        rooms.spawn(async move {
            tokio::select! {
                () = looked_after.run() => {}
                () = stopping.cancelled() => {}
            }
        });
        Self { inner }
    }

    /// Counts a socket in, until what is returned is dropped.
    pub fn admit(&self, grounds: Grounds) -> Over {
        let (end, over) = oneshot::channel();
        let id = self.inner.next.fetch_add(1, Ordering::Relaxed);
        self.inner.open.lock().insert(id, (grounds, end));
        let place = Place { inner: self.inner.clone(), id };
        Box::pin(async move {
            let _place = place;
            match over.await {
                Ok(close) => close,
                Err(_) => std::future::pending().await,
            }
        })
    }

    /// Something ended: looks at once.
    pub fn look(&self) {
        self.inner.look.notify_one();
    }
}

/// A socket's entry, which goes with it.
struct Place {
    inner: Arc<Inner>,
    id: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.inner.open.lock().remove(&self.id);
    }
}

impl Inner {
    async fn run(&self) {
        let mut revocations = self.verifier.revocations();
        let mut listening = true;
        loop {
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = self.look.notified() => {}
                // Which session ended does not matter, nor whether some were missed.
                told = revocations.recv(), if listening => {
                    listening = !matches!(told, Err(tokio::sync::broadcast::error::RecvError::Closed));
                }
            }
            if let Err(error) = self.close_what_is_over().await {
                tracing::warn!(%error, "open sockets cannot be checked; they stay open");
            }
            tokio::time::sleep(AT_ONCE).await;
        }
    }

    async fn close_what_is_over(&self) -> anyhow::Result<()> {
        let (mut sessions, mut shared) = (BTreeSet::new(), HashSet::new());
        for (grounds, _) in self.open.lock().values() {
            sessions.insert(grounds.session.clone());
            shared.extend(grounds.shared.clone().map(|(room, _)| (room, grounds.account.clone())));
        }
        if sessions.is_empty() {
            return Ok(());
        }
        let sessions = Vec::from_iter(sessions);
        let mut ended = HashSet::new();
        for batch in sessions.chunks(BATCH) {
            let live = self.verifier.live(batch).await?;
            ended.extend(batch.iter().filter(|session| !live.contains(*session)).cloned());
        }
        let mut levels = HashMap::new();
        if let Some(members) = &self.members {
            let shared = Vec::from_iter(shared);
            for (who, level) in shared.iter().zip(members.levels(shared.clone()).await?) {
                levels.insert(who.clone(), level);
            }
        }
        let now = SystemTime::now();
        let over = |grounds: &Grounds| {
            if ended.contains(&grounds.session) {
                return Some(Close::new(4401, "Unauthorized: the session has ended"));
            }
            if grounds.until.is_some_and(|until| until <= now) {
                return Some(Close::new(4401, "Unauthorized: the room token has ended"));
            }
            let (room, had) = grounds.shared.as_ref()?;
            // One who came in after the look began is looked at next time.
            match levels.get(&(room.clone(), grounds.account.clone()))? {
                None => Some(Close::new(4403, "this room is not shared with you any more")),
                Some(level) if level < had => {
                    Some(Close::new(4403, "this room is read-only for you now"))
                }
                Some(_) => None,
            }
        };
        let mut open = self.open.lock();
        let over: Vec<(u64, Close)> =
            open.iter().filter_map(|(id, (grounds, _))| Some((*id, over(grounds)?))).collect();
        for (id, close) in over {
            if let Some((_, end)) = open.remove(&id) {
                let _ = end.send(close);
            }
        }
        Ok(())
    }
}
