//! What of a room is not on disk yet, and who waits for it.
//!
//! One write is in flight at a time; what changes meanwhile collects for the next. A write that fails goes back to
//! what is unsaved and is tried again, ever less often up to [`RETRY_MOST`], until it succeeds: an update that was
//! written twice counts once, so trying again is always safe. Nothing is acknowledged before the write that covers it.
//!
//! While storage fails, the document is served from memory. Whoever wrote and waits for an answer gets an error after
//! [`FAILING`], or after [`STALLED`] where storage does not even fail; and from then on writes that want an answer are
//! refused before they change anything. Sync clients wait for nothing but an acknowledgement, so they go on, up to
//! [`UNSAVED_BYTES`]; then their updates stay in their sockets.
//!
//! A compaction that fails costs nothing but space. It is tried again when the room has been written to, and not before
//! [`COMPACT_AGAIN`] has passed, which doubles with each failure.

use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::{ConnectionId, Reply, RoomError, Shared};
use crate::author::Author;
use crate::limits::{
    BEAT_BYTES, COMPACT_AGAIN, COMPACT_AGAIN_MOST, COMPACT_BYTES, FAILING, RETRY_FIRST, RETRY_MOST,
    STALLED, STATUS_BYTES, UNSAVED_BYTES,
};
use crate::storage::{Batch, Logged, Note, Storage, StorageError, Stored};

/// Updates on their way to the disk.
pub(super) struct Saving {
    shared: Arc<Shared>,
    storage: Arc<dyn Storage>,
    /// Position of the last saved update; 0 when nothing was ever saved.
    position: u64,
    /// Bytes of the log behind the snapshot, and of the snapshot.
    log_bytes: usize,
    snapshot_bytes: usize,
    /// What is neither on disk nor in flight.
    unsaved: Vec<Logged>,
    /// Notes that have changed, as they are to be.
    notes: BTreeMap<Bytes, Option<Bytes>>,
    /// Bytes of what is not on disk, whether it is in flight or not.
    unsaved_bytes: usize,
    in_flight: Option<InFlight>,
    /// Number of the next write. Who waits, waits for the number that was next when they came: it covers everything
    /// before.
    next_write: u64,
    replies: VecDeque<(u64, Instant, Reply<()>)>,
    statuses: VecDeque<(u64, ConnectionId, Bytes)>,
    status_bytes: usize,
    acknowledged: Vec<(ConnectionId, Bytes)>,
    appends: Retry,
    compactions: Retry,
}

struct InFlight {
    work: Pin<Box<dyn Future<Output = Result<u64, StorageError>> + Send>>,
    since: Instant,
    kind: Kind,
}

enum Kind {
    Append { number: u64, batch: Batch },
    Compact { log_bytes: usize, snapshot_bytes: usize },
}

impl Saving {
    pub fn new(shared: Arc<Shared>, storage: Arc<dyn Storage>, stored: &Stored) -> Self {
        let bytes: usize = stored.updates.iter().map(Bytes::len).sum();
        Self {
            shared,
            storage,
            position: stored.position,
            log_bytes: stored.log_bytes,
            snapshot_bytes: bytes - stored.log_bytes,
            unsaved: Vec::new(),
            notes: BTreeMap::new(),
            unsaved_bytes: 0,
            in_flight: None,
            next_write: 0,
            replies: VecDeque::new(),
            statuses: VecDeque::new(),
            status_bytes: 0,
            acknowledged: Vec::new(),
            appends: Retry::new(RETRY_FIRST, RETRY_MOST),
            compactions: Retry::new(COMPACT_AGAIN, COMPACT_AGAIN_MOST),
        }
    }

    /// Notes an update that is to be saved.
    pub fn log(&mut self, update: Bytes, author: Arc<Author>) {
        self.unsaved_bytes += update.len();
        self.unsaved.push(Logged { bytes: update, author });
        self.tell_writers();
    }

    /// Writes notes together with the updates that came so far.
    pub fn note(&mut self, notes: Vec<Note>) {
        self.notes.extend(notes);
    }

    /// Answers once everything so far is on disk, or with an error when that takes too long.
    pub fn reply(&mut self, reply: Reply<()>) {
        self.replies.push_back((self.next_write, Instant::now(), reply));
    }

    /// Gives a frame back, by [`Saving::take_acknowledged`], once everything so far is on disk.
    pub fn status(&mut self, connection: ConnectionId, frame: Bytes) {
        if self.status_bytes > STATUS_BYTES {
            // The newer one says all that the older one would.
            let older = |(_, of, _): &(u64, ConnectionId, Bytes)| *of == connection;
            if let Some(at) = self.statuses.iter().rposition(older)
                && let Some((.., frame)) = self.statuses.remove(at)
            {
                self.status_bytes -= frame.len();
            }
        }
        self.status_bytes += frame.len();
        self.statuses.push_back((self.next_write, connection, frame));
    }

    /// Whether nothing of the room was ever written.
    pub fn is_empty(&self) -> bool {
        self.position == 0 && self.unsaved_bytes == 0 && self.notes.is_empty()
    }

    /// Whether everything is on disk and nothing is being done.
    pub fn is_quiet(&self) -> bool {
        self.unsaved_bytes == 0 && self.notes.is_empty() && self.in_flight.is_none()
    }

    /// Whether a write or a compaction is in flight.
    pub fn is_busy(&self) -> bool {
        self.in_flight.is_some()
    }

    /// Whether there is something that could be written now.
    pub fn can_append(&self) -> bool {
        self.in_flight.is_none() && self.has_unsaved() && self.appends.is_due()
    }

    fn has_unsaved(&self) -> bool {
        !self.unsaved.is_empty() || !self.notes.is_empty()
    }

    /// Whether that should not wait for the beat.
    pub fn is_urgent(&self) -> bool {
        let waited_for = !self.replies.is_empty() || !self.statuses.is_empty();
        waited_for || self.unsaved_bytes >= BEAT_BYTES || self.appends.failing.is_some()
    }

    /// Starts to write what is unsaved.
    pub fn append(&mut self) {
        let updates = std::mem::take(&mut self.unsaved);
        let notes = std::mem::take(&mut self.notes).into_iter().collect();
        let batch = Batch { updates, notes };
        let (storage, room) = (self.storage.clone(), self.shared.id.clone());
        let number = self.next_write;
        self.next_write += 1;
        let copy = batch.clone();
        let work = Box::pin(async move { storage.append(&room, copy).await });
        let kind = Kind::Append { number, batch };
        self.in_flight = Some(InFlight { work, since: Instant::now(), kind });
    }

    /// Whether the log has outgrown its snapshot, and may be compacted.
    pub fn wants_compaction(&self) -> bool {
        self.in_flight.is_none()
            && self.log_bytes > self.snapshot_bytes.max(COMPACT_BYTES)
            && self.compactions.is_due()
    }

    /// Whether a room that leaves memory should be compacted before.
    pub fn wants_last_compaction(&self) -> bool {
        self.is_quiet() && self.log_bytes > 0 && self.compactions.is_due()
    }

    /// Starts to replace the log by the document. Nothing may be in flight.
    pub fn compact(&mut self, document: Bytes) {
        let (storage, room) = (self.storage.clone(), self.shared.id.clone());
        let (log_bytes, snapshot_bytes) = (self.log_bytes, document.len());
        let upto = self.position;
        let work =
            Box::pin(async move { storage.compact(&room, document, upto).await.map(|()| upto) });
        let kind = Kind::Compact { log_bytes, snapshot_bytes };
        self.in_flight = Some(InFlight { work, since: Instant::now(), kind });
    }

    /// Waits until what is in flight has ended, and takes note of how; for ever if nothing is. Dropping the future
    /// changes nothing.
    pub async fn ended(&mut self) {
        let Some(in_flight) = &mut self.in_flight else { return std::future::pending().await };
        let result = in_flight.work.as_mut().await;
        let Some(InFlight { since, kind, .. }) = self.in_flight.take() else { return };
        let room = &self.shared.id;
        match (kind, result) {
            (Kind::Append { number, batch }, Ok(position)) => {
                if self.appends.succeeded() {
                    tracing::info!(%room, "storage works again");
                }
                let bytes = batch.updates.iter().map(|update| update.bytes.len()).sum::<usize>();
                self.position = position;
                self.unsaved_bytes -= bytes;
                self.log_bytes += bytes;
                self.answer(number);
                self.tell_writers();
            }
            (Kind::Append { mut batch, .. }, Err(error)) => {
                batch.updates.append(&mut self.unsaved);
                self.unsaved = batch.updates;
                // What changed meanwhile is newer.
                for (key, value) in batch.notes {
                    self.notes.entry(key).or_insert(value);
                }
                if self.appends.failing.is_none() {
                    tracing::error!(%room, %error, "a write failed; the room is served from memory, \
                        nothing is acknowledged, and the write is tried again until it succeeds");
                }
                self.appends.failed(error);
            }
            (Kind::Compact { log_bytes, snapshot_bytes }, Ok(_)) => {
                let ms = since.elapsed().as_millis() as u64;
                tracing::debug!(%room, log_bytes, bytes = snapshot_bytes, ms, "a room was compacted");
                self.compactions.succeeded();
                self.log_bytes -= log_bytes;
                self.snapshot_bytes = snapshot_bytes;
            }
            (Kind::Compact { .. }, Err(error)) => {
                tracing::warn!(%room, %error, "a room cannot be compacted; it is tried again later");
                self.compactions.failed(error);
            }
        }
    }

    /// Lets go of those who waited for a write, and of all before it.
    fn answer(&mut self, number: u64) {
        while let Some((after, ..)) = self.replies.front()
            && *after <= number
            && let Some((.., reply)) = self.replies.pop_front()
        {
            let _ = reply.send(Ok(()));
        }
        while let Some((after, ..)) = self.statuses.front()
            && *after <= number
            && let Some((_, connection, frame)) = self.statuses.pop_front()
        {
            self.status_bytes -= frame.len();
            self.acknowledged.push((connection, frame));
        }
    }

    /// Lets go of those who wait for nothing, because all that came before them is on disk.
    pub fn answer_if_saved(&mut self) {
        if self.is_saved() {
            self.answer(self.next_write);
        }
    }

    /// Frames of those for whom everything is on disk.
    pub fn take_acknowledged(&mut self) -> Vec<(ConnectionId, Bytes)> {
        std::mem::take(&mut self.acknowledged)
    }

    /// Why a write that wants an answer would not get a good one.
    pub fn refusal(&self) -> Option<RoomError> {
        let failing =
            self.appends.failing.as_ref().filter(|failing| failing.since.elapsed() >= FAILING);
        let source = match (failing, &self.in_flight) {
            (Some(failing), _) => failing.error.clone(),
            (None, Some(in_flight)) if in_flight.since.elapsed() >= STALLED => self.fault(),
            _ => return None,
        };
        Some(RoomError::Storage { room: self.shared.id.to_string(), source })
    }

    /// When something has to be done though nothing happens: the next try, or an answer that is overdue.
    pub fn wake_at(&self) -> Option<Instant> {
        let retry = match &self.in_flight {
            None if self.has_unsaved() => self.appends.failing.as_ref().map(|failing| failing.next),
            _ => None,
        };
        let overdue = self.replies.front().map(|(_, since, _)| *since + self.patience());
        retry.into_iter().chain(overdue).min()
    }

    /// Answers those who have waited too long.
    pub fn refuse_overdue(&mut self) {
        let (now, patience) = (Instant::now(), self.patience());
        while self.replies.front().is_some_and(|(_, since, _)| *since + patience <= now) {
            self.refuse_first();
        }
    }

    /// Writes everything, as often as it takes.
    pub async fn flush(&mut self) {
        while !self.is_saved() {
            if !self.is_busy() {
                self.append();
            }
            self.ended().await;
            if self.appends.failing.is_some() {
                tokio::time::sleep(RETRY_FIRST).await;
            }
        }
        self.answer_if_saved();
    }

    /// Whether everything is on disk.
    fn is_saved(&self) -> bool {
        let appends = matches!(&self.in_flight, Some(InFlight { kind: Kind::Append { .. }, .. }));
        !appends && !self.has_unsaved()
    }

    /// Says what is lost when the room ends now.
    pub fn give_up(&mut self) {
        while !self.replies.is_empty() {
            self.refuse_first();
        }
        if self.unsaved_bytes == 0 {
            return;
        }
        let in_flight = match &self.in_flight {
            Some(InFlight { kind: Kind::Append { batch, .. }, .. }) => batch.updates.len(),
            _ => 0,
        };
        tracing::error!(
            room = %self.shared.id, updates = self.unsaved.len() + in_flight, bytes = self.unsaved_bytes,
            error = %self.fault(), "the room ends with updates that are not on disk; none of them was acknowledged"
        );
    }

    fn refuse_first(&mut self) {
        let source = self.fault();
        if let Some((.., reply)) = self.replies.pop_front() {
            let _ =
                reply.send(Err(RoomError::Unsaved { room: self.shared.id.to_string(), source }));
        }
    }

    fn patience(&self) -> Duration {
        if self.appends.failing.is_some() { FAILING } else { STALLED }
    }

    /// What is wrong with storage, if what was asked of it does not come.
    fn fault(&self) -> StorageError {
        match &self.appends.failing {
            Some(failing) => failing.error.clone(),
            None => StorageError::Failed("there is no answer".into()),
        }
    }

    /// Holds writers back, or lets them go on.
    fn tell_writers(&self) {
        let full = self.unsaved_bytes >= UNSAVED_BYTES;
        self.shared.full.send_if_modified(|before| std::mem::replace(before, full) != full);
    }
}

/// When to try again what failed.
struct Retry {
    first: Duration,
    most: Duration,
    failing: Option<Failing>,
}

struct Failing {
    since: Instant,
    next: Instant,
    wait: Duration,
    error: StorageError,
}

impl Retry {
    fn new(first: Duration, most: Duration) -> Self {
        Self { first, most, failing: None }
    }

    fn is_due(&self) -> bool {
        self.failing.as_ref().is_none_or(|failing| failing.next <= Instant::now())
    }

    fn failed(&mut self, error: StorageError) {
        let now = Instant::now();
        let (since, wait) = match &self.failing {
            Some(failing) => (failing.since, (failing.wait * 2).min(self.most)),
            None => (now, self.first),
        };
        self.failing = Some(Failing { since, next: now + wait, wait, error });
    }

    /// Says whether it had failed before.
    fn succeeded(&mut self) -> bool {
        self.failing.take().is_some()
    }
}
