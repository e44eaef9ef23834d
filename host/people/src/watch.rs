//! Watches the grounds of open sockets and streams, and closes them when the grounds end.
//!
//! Access is decided when something is opened, and lasts only as long as its [`Grounds`]: a session
//! that has not ended, a membership that was not revoked, a room token that has not expired. One
//! task checks the grounds of everything that is open at a fixed interval ([`limits::LOOK`]), and
//! at once when it is told that something ended. So it does not matter who ended a session, in
//! which process, or whether the message about it was lost. However many sockets depend on a
//! session, a check asks about it once, in one query for every five hundred sessions.
//!
//! While sessions cannot be checked because the database is down, nothing is closed.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use axum::http::request::Parts;
use axum::http::{Method, header};
use host_auth::{Directory, Verifier};
use host_caller::Caller;
use host_sync::{Close, Rooms};
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use crate::limits;
use crate::members::{Level, Members, Owned};

/// What access was granted on.
#[derive(Debug, Clone)]
pub(crate) struct Grounds {
    /// The id of the session.
    pub session: String,
    /// The account's id.
    pub account: String,
    /// The room of another account, and the access to it.
    pub shared: Option<(Owned, Level)>,
    /// When access ends in any case.
    pub until: Option<SystemTime>,
}

impl Grounds {
    /// The grounds of a session alone.
    pub fn of(caller: &Caller) -> Self {
        let (session, account) = (caller.session.to_string(), caller.account.id.clone());
        Self { session, account, shared: None, until: None }
    }
}

/// Whether a request about a room outlives its check: a socket, or a body that may arrive later.
pub(crate) fn stays_open(request: &Parts) -> bool {
    request.headers.contains_key(header::UPGRADE) || request.method == Method::POST
}

/// Everything that is open. Clones share it.
#[derive(Clone)]
pub(crate) struct Watch {
    inner: Arc<Inner>,
}

struct Inner {
    open: Mutex<HashMap<u64, (Grounds, oneshot::Sender<Close>)>>,
    next: AtomicU64,
    look: Notify,
    verifier: Arc<dyn Verifier>,
    members: Option<(Members, Arc<dyn Directory>)>,
}

/// Resolves when a socket must be closed.
pub(crate) type Closed = Pin<Box<dyn Future<Output = Close> + Send>>;

impl Watch {
    /// Starts watching until the rooms are shut down.
    pub fn new(
        rooms: &Rooms,
        verifier: Arc<dyn Verifier>,
        members: Option<(Members, Arc<dyn Directory>)>,
    ) -> Self {
        let inner = Arc::new(Inner {
            open: Mutex::default(),
            next: AtomicU64::new(0),
            look: Notify::new(),
            verifier,
            members,
        });
        let (stopping, watched) = (rooms.stopping().clone(), inner.clone());
        rooms.spawn(async move {
            tokio::select! {
                () = watched.run() => {}
                () = stopping.cancelled() => {}
            }
        });
        Self { inner }
    }

    /// Watches these grounds until the future is dropped.
    pub fn closed(&self, grounds: Grounds) -> Closed {
        let (end, ended) = oneshot::channel();
        let id = self.inner.next.fetch_add(1, Ordering::Relaxed);
        self.inner.open.lock().insert(id, (grounds, end));
        let entry = Entry { inner: self.inner.clone(), id };
        Box::pin(async move {
            let _entry = entry;
            match ended.await {
                Ok(close) => close,
                Err(_) => std::future::pending().await,
            }
        })
    }

    /// Checks at once, because something ended.
    pub fn look(&self) {
        self.inner.look.notify_one();
    }
}

/// Registers something as open until it is dropped.
struct Entry {
    inner: Arc<Inner>,
    id: u64,
}

impl Drop for Entry {
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
                () = tokio::time::sleep(limits::LOOK) => {}
                () = self.look.notified() => {}
                // It does not matter which session ended, or whether a message was missed.
                told = revocations.recv(), if listening => {
                    listening = !matches!(told, Err(tokio::sync::broadcast::error::RecvError::Closed));
                }
            }
            self.verifier.refresh().await;
            if let Err(error) = self.close_what_has_ended().await {
                tracing::warn!(%error, "the sessions of open sockets cannot be checked; they stay open");
            }
            tokio::time::sleep(limits::LOOK_AGAIN).await;
        }
    }

    async fn close_what_has_ended(&self) -> anyhow::Result<()> {
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
        for batch in sessions.chunks(limits::SESSIONS_PER_QUERY) {
            let live = self.verifier.live(batch).await?;
            ended.extend(batch.iter().filter(|session| !live.contains(*session)).cloned());
        }
        let mut levels = HashMap::new();
        if let Some((members, directory)) = &self.members {
            let shared = Vec::from_iter(shared);
            let owners: BTreeSet<_> = shared.iter().map(|(room, _)| room.owner.clone()).collect();
            let owners = directory.existing(&Vec::from_iter(owners)).await?;
            for (who, level) in shared.iter().zip(members.levels(shared.clone()).await?) {
                let level = level.filter(|_| owners.contains(&who.0.owner));
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
            // Grounds that were added during the check wait for the next one.
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
