//! The task that owns a room's document.
//!
//! Sockets, HTTP and the server's own code send it commands. It works in *turns*: it takes all
//! commands that have queued, applies them in order, and then deals with the outcome once for all
//! of them: one batch to storage, one frame with everything that changed, the same bytes for every
//! socket.
//!
//! **Saved means on disk.** Acknowledgements (the echo of a sync status, the answer to an edit) wait for
//! the write that covers everything before them; `saving` keeps them. Nothing here waits for storage:
//! while it is slow or fails, the document is served from memory.
//!
//! **Eviction.** When nobody has used the room for `idle_timeout`, it saves, compacts and ends. The
//! registry (`rooms`) lets it go only if nobody came meanwhile; the next one to open it starts a
//! new task, which loads it again. A room that cannot save stays. One that nobody uses and that holds
//! nothing ends at once, and one that is saved ends when the registry needs its place.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use host_caller::Right;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::saving::Saving;
use super::{
    Command, ConnectionId, Document, FOLLOWED, Model, Registry, RoomError, Shared, UNFOLLOWED,
};
use crate::arrays::Arrays;
use crate::author::Author;
use crate::awareness::Awareness;
use crate::budget::Budget;
use crate::edit::Edit;
use crate::lib0::Malformed;
use crate::limits::{BEAT, Limits, MAILBOX};
use crate::outbox::Outbox;
use crate::protocol;
use crate::storage::{Note, Notes, Storage, StorageError};
use crate::store::{OverLimit, Store, merge};
use crate::update::{Id, StateVector, Update, write_state_vector};
use crate::websocket::{self, Close};

pub(crate) struct RoomTask {
    shared: Arc<Shared>,
    limits: Arc<Limits>,
    budget: Budget,
    store: Store,
    /// Counts changes.
    version: u64,
    /// The encoded document, until it changes.
    whole: Option<Whole>,
    /// What is kept beside the document.
    notes: Notes,
    /// The arrays and their follower, where there is one.
    model: Option<(Arrays, Box<dyn Model>)>,
    awareness: Awareness,
    /// All presence as one frame, until it changes.
    presence: Option<Bytes>,
    connections: HashMap<ConnectionId, Arc<Outbox>>,
    /// The sockets that want to be told what of their writes is refused, and who they are.
    told_refusals: HashMap<ConnectionId, Arc<Author>>,
    /// The client id under which the server itself writes. It is a new one each time the room is
    /// loaded, because one that is used again after a backup was restored would give one id to two
    /// contents.
    client: u64,
    turn: Turn,
    saving: Saving,
}

/// A whole document, encoded as the answer to the step 1 of a peer that has nothing.
struct Whole {
    frame: Bytes,
    /// Bytes of the frame before the document.
    head: usize,
}

impl Whole {
    fn of(document: &[u8], budget: &Budget) -> Self {
        let frame = websocket::binary(&protocol::step_2(document));
        let head = frame.len() - document.len();
        Self { frame: budget.shared(frame), head }
    }

    fn document(&self) -> Bytes {
        self.frame.slice(self.head..)
    }
}

/// What happened in one turn.
#[derive(Default)]
struct Turn {
    /// Updates that changed the document, and who sent them.
    updates: Vec<(Option<ConnectionId>, Update)>,
    /// Clients whose presence changed.
    presence: HashSet<u64>,
    /// The connection that changed it.
    presence_from: Option<ConnectionId>,
    /// Whether there was more than one.
    presence_mixed: bool,
    /// Those who asked for all presence.
    asked: HashSet<ConnectionId>,
    /// Removed clients that a connection still takes for present.
    outdated: HashMap<ConnectionId, HashSet<u64>>,
}

impl RoomTask {
    /// Loads a room. What is on disk is read as carefully as what comes from a socket.
    pub async fn load(
        shared: Arc<Shared>,
        storage: Arc<dyn Storage>,
        limits: Arc<Limits>,
        budget: Budget,
    ) -> Result<Self, StorageError> {
        let stored = storage.load(&shared.id).await?.unwrap_or_default();
        let mut store = Store::default();
        for bytes in &stored.updates {
            let update = Update::scan(bytes.clone()).map_err(|error| {
                StorageError::Damaged(format!("an update is no Yjs update: {error}"))
            })?;
            let _ = store.apply(&update, &crate::store::Bounds::NONE);
        }
        let client = loop {
            let client = rand::random::<u32>() as u64;
            if client != 0 && store.known(client) == 0 {
                break client;
            }
        };
        shared.size.store(store.size(), Ordering::Relaxed);
        Ok(Self {
            saving: Saving::new(shared.clone(), storage, &stored),
            shared,
            limits,
            budget,
            store,
            version: 0,
            whole: None,
            notes: stored.notes,
            model: None,
            awareness: Awareness::default(),
            presence: None,
            connections: HashMap::new(),
            told_refusals: HashMap::new(),
            client,
            turn: Turn::default(),
        })
    }

    /// Serves the room until the registry lets it go or the server stops.
    pub async fn run(
        mut self,
        mut mailbox: mpsc::Receiver<Command>,
        stop: tokio_util::sync::CancellationToken,
        registry: &impl Registry,
    ) {
        let mut batch = Vec::new();
        // All of them outlive the turns: each new one would have to register with the timer again.
        let mut beat = std::pin::pin!(tokio::time::sleep_until(Instant::now()));
        let mut beat_set = false;
        let mut wake = std::pin::pin!(tokio::time::sleep_until(Instant::now()));
        let mut wake_set = false;
        let mut stopped = std::pin::pin!(stop.cancelled());
        // A room that nobody enters after it was opened is unused from the start.
        let mut evict_at = Some(Instant::now() + self.limits.idle_timeout);
        let mut leaving = false;
        // Whether the registry knows that the room could give way.
        let mut resting = false;
        loop {
            let unused = self.shared.users.load(Ordering::Acquire) == 0;
            leaving &= unused;
            if self.saving.can_append() {
                if leaving || self.saving.is_urgent() || (beat_set && beat.is_elapsed()) {
                    beat_set = false;
                    self.saving.append();
                } else if !beat_set {
                    beat_set = true;
                    beat.as_mut().reset(next_beat());
                }
            }
            self.acknowledge();
            if self.saving.wants_compaction() || (leaving && self.saving.wants_last_compaction()) {
                self.compact();
            }
            if unused && self.saving.is_quiet() {
                if leaving || self.saving.is_empty() {
                    if registry.release(&self.shared) {
                        return;
                    }
                    // Somebody came while we were busy; whoever leaves last starts the clock.
                    leaving = false;
                } else if !resting {
                    resting = registry.rest(&self.shared, &mailbox);
                }
            }
            if let Some(at) = self.saving.wake_at()
                && (!wake_set || at < wake.deadline())
            {
                wake_set = true;
                wake.as_mut().reset(at);
            }
            tokio::select! {
                biased;
                () = self.saving.ended(), if self.saving.is_busy() => {}
                () = &mut stopped => break,
                () = &mut beat, if beat_set && self.saving.can_append() => {}
                () = &mut wake, if wake_set => {
                    wake_set = false;
                    self.saving.refuse_overdue();
                }
                count = mailbox.recv_many(&mut batch, MAILBOX) => {
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
                    resting = false;
                    evict_at = Some(Instant::now() + self.limits.idle_timeout);
                }
                // The registry has let it go already.
                () = self.shared.give_way.notified() => return,
                () = tokio::time::sleep_until(evict_at.unwrap_or_else(Instant::now)), if evict_at.is_some() => {
                    evict_at = None;
                    leaving = true;
                }
            }
        }
        // The server stops. What was sent before is taken in and saved, then the sockets close.
        mailbox.close();
        while let Some(command) = mailbox.recv().await {
            self.handle(command);
        }
        self.end_turn();
        // A failing disk is not waited for longer: nothing of what is lost then was acknowledged.
        if tokio::time::timeout(self.limits.close_timeout, self.saving.flush()).await.is_err() {
            self.saving.give_up();
        }
        self.acknowledge();
        for outbox in self.connections.values() {
            outbox.close(Close::new(1001, "the server is stopping"));
        }
    }

    /// Sends the acknowledgements of what is on disk.
    fn acknowledge(&mut self) {
        self.saving.answer_if_saved();
        for (connection, frame) in self.saving.take_acknowledged() {
            if let Some(outbox) = self.connections.get(&connection) {
                outbox.push_status(frame);
                outbox.flush();
            }
        }
    }

    fn compact(&mut self) {
        let document = self.store.compact();
        self.whole = Some(Whole::of(&document, &self.budget));
        self.saving.compact(document);
    }

    /// Marks the sockets whose queue is too long as behind, before this turn changes anything.
    fn mark_those_behind(&mut self) {
        let mut vector = None;
        for outbox in self.connections.values() {
            if outbox.queued() > self.limits.queue_bytes && !outbox.is_behind() {
                let vector = vector.get_or_insert_with(|| Arc::new(self.store.state_vector()));
                outbox.fall_behind(vector.clone());
            }
        }
    }

    fn handle(&mut self, command: Command) {
        match command {
            Command::Join { outbox, .. } if self.is_unfollowed() => {
                outbox.close(Close::new(1013, UNFOLLOWED));
            }
            Command::Join { connection, outbox } => {
                let vector = write_state_vector(&self.store.state_vector());
                outbox.push(websocket::binary(&protocol::step_1(&vector)));
                if !self.awareness.is_empty() {
                    outbox.push(self.presence());
                }
                self.connections.insert(connection, outbox);
                self.shared.connections.store(self.connections.len(), Ordering::Relaxed);
            }
            Command::Leave { connection } => {
                self.connections.remove(&connection);
                self.told_refusals.remove(&connection);
                self.shared.connections.store(self.connections.len(), Ordering::Relaxed);
                let left = self.awareness.leave(connection);
                self.presence_changed(connection, left);
            }
            Command::Step1 { connection, vector } => {
                let Some(outbox) = self.connections.get(&connection).cloned() else { return };
                let peer = self.store.part_of(&vector);
                let is_behind = outbox.queued() > self.limits.queue_bytes || outbox.is_behind();
                let is_there = peer.is_empty() && self.whole.is_some();
                if is_behind || !is_there && !self.budget.has_room(self.store.size()) {
                    // It gets its answer once it has read what is queued, and there is room for it.
                    outbox.fall_behind(Arc::new(peer));
                } else {
                    outbox.push(self.step_2(&peer, &outbox));
                }
            }
            // A reader sends updates, too: Yjs answers a step 1 with its whole delete set. Only what
            // is new here is a write.
            Command::Update { connection, update, author } if author.right < Right::Write => {
                if !self.store.knows(&update)
                    && let Some(outbox) = self.connections.get(&connection)
                {
                    outbox.close(Close::new(4403, "this room is read-only for you"));
                }
            }
            // It joined while the document was followed.
            Command::Update { connection, .. } if self.is_unfollowed() => {
                if let Some(outbox) = self.connections.get(&connection) {
                    outbox.close(Close::new(1013, UNFOLLOWED));
                }
            }
            Command::Update { connection, update, author } => {
                if let Err(error) = self.apply(Some(connection), update, author)
                    && let Some(outbox) = self.connections.get(&connection)
                {
                    outbox.refuse(refused(&error));
                }
            }
            Command::Awareness { connection, states } => {
                let connections = &self.connections;
                let is_open = |owner| connections.contains_key(&owner);
                let bounds = &self.limits.awareness;
                let applied = self.awareness.apply(connection, &states, bounds, is_open);
                self.presence_changed(connection, applied.changed);
                if !applied.outdated.is_empty() {
                    self.turn.outdated.entry(connection).or_default().extend(applied.outdated);
                }
                if let Some(error) = applied.refused
                    && let Some(outbox) = self.connections.get(&connection)
                {
                    outbox.push(refused(&error));
                }
            }
            Command::QueryAwareness { connection } => {
                self.turn.asked.insert(connection);
            }
            Command::SyncStatus { connection, frame } => {
                if let Some(outbox) = self.connections.get(&connection) {
                    let frame = outbox.purse().own(websocket::binary(&frame));
                    self.saving.status(connection, frame);
                }
            }
            Command::CatchUp { connection, knows } => {
                let Some(outbox) = self.connections.get(&connection).cloned() else { return };
                // A step 2 means that the peer has everything, which it may be waiting for.
                let missed = self.step_2(&knows, &outbox);
                let presence = outbox.missed_presence().then(|| {
                    let states = protocol::awareness(&self.awareness.encode_all());
                    outbox.purse().own(websocket::binary(&states))
                });
                outbox.catch_up(missed, presence);
            }
            Command::Apply { done, .. } if self.is_unfollowed() => {
                let room = self.shared.id.to_string();
                let _ = done.send(Err(RoomError::Unfollowed { room }));
            }
            Command::Apply { update, author, done } => match self.check_storage().and_then(|()| {
                self.apply(None, update, author).map_err(|source| self.refused(source))
            }) {
                Ok(()) => self.saving.reply(done),
                Err(error) => drop(done.send(Err(error))),
            },
            Command::Snapshot { done } => {
                let bytes = self.whole().document();
                let _ = done.send(Ok(Document { bytes, version: self.version }));
            }
            Command::Attach { mut model, done } => {
                model.recall(&self.notes);
                let arrays = Arrays::load(&self.store, &mut |change| model.change(change));
                let server = Author::server();
                let edit = model.settle(&arrays, &server);
                self.model = Some((arrays, model));
                match self.edit(&edit, server) {
                    // A workspace can be read although storage is full.
                    Ok(()) if edit.is_empty() => drop(done.send(Ok(()))),
                    Ok(()) => self.saving.reply(done),
                    Err(error) => drop(done.send(Err(error))),
                }
            }
            Command::Detach => self.model = None,
            Command::Edit { edit, author, done } => {
                match self.check_storage().and_then(|()| self.edit(&edit(self.next_id()), author)) {
                    Ok(()) => self.saving.reply(done),
                    Err(error) => drop(done.send(Err(error))),
                }
            }
            Command::EditAt { version, edit, author, made, done } => {
                let current = version == self.version;
                let _ = made.send(current);
                let edited = self.check_storage().and_then(|()| match current {
                    true => self.edit(&edit, author),
                    false => Ok(()),
                });
                match edited {
                    Ok(()) => self.saving.reply(done),
                    Err(error) => drop(done.send(Err(error))),
                }
            }
            Command::Note { notes, done } => {
                self.note(notes);
                self.saving.reply(done);
            }
            Command::Disconnect { close } => {
                self.connections.values().for_each(|outbox| outbox.close(close.clone()));
            }
            Command::WantsRefusals { connection, author } => {
                if self.connections.contains_key(&connection) {
                    self.told_refusals.insert(connection, author);
                }
            }
            Command::TellRefusal { author, json } => {
                // Each socket has an author of its own.
                let told = self.told_refusals.iter().find(|(_, of)| Arc::ptr_eq(of, &author));
                if let Some(outbox) = told.and_then(|(of, _)| self.connections.get(of)) {
                    outbox.push(outbox.purse().own(websocket::binary(&protocol::refusal(&json))));
                }
            }
            Command::Presence { done } => {
                let states = self.awareness.present();
                let _ = done.send(Ok(states.map(|(id, json)| (id, json.to_owned())).collect()));
            }
        }
    }

    /// Whether the document must not be changed, because nobody follows it.
    fn is_unfollowed(&self) -> bool {
        self.model.is_none() && self.notes.contains_key(FOLLOWED)
    }

    /// Refuses a write that wants an answer while it would only be told that storage fails.
    fn check_storage(&self) -> Result<(), RoomError> {
        self.saving.refusal().map_or(Ok(()), Err)
    }

    fn refused(&self, source: OverLimit) -> RoomError {
        RoomError::Refused { room: self.shared.id.to_string(), source }
    }

    /// Answers a step 1 with what a peer lacks. Peers that have nothing share the bytes, and others are
    /// charged for theirs.
    fn step_2(&mut self, peer: &StateVector, outbox: &Outbox) -> Bytes {
        if peer.is_empty() {
            return self.whole().frame.clone();
        }
        outbox.purse().own(websocket::binary(&protocol::step_2(&self.store.diff(peer))))
    }

    fn whole(&mut self) -> &Whole {
        let (store, budget) = (&self.store, &self.budget);
        self.whole.get_or_insert_with(|| Whole::of(&store.diff(&StateVector::new()), budget))
    }

    fn presence_changed(&mut self, from: ConnectionId, changed: Vec<u64>) {
        if !changed.is_empty() {
            self.presence = None;
            self.turn.note_presence(from, changed);
        }
    }

    /// All presence, encoded once for all who want it.
    fn presence(&mut self) -> Bytes {
        let (awareness, budget) = (&self.awareness, &self.budget);
        let frame = self.presence.get_or_insert_with(|| {
            let states = protocol::awareness(&awareness.encode_present());
            budget.shared(websocket::binary(&states))
        });
        frame.clone()
    }

    /// Applies an update to the document and the model, and notes it for the log and for the frame at
    /// the end of the turn.
    fn apply(
        &mut self,
        from: Option<ConnectionId>,
        update: Update,
        author: Arc<Author>,
    ) -> Result<(), OverLimit> {
        let mut next = Some((from, update, author));
        let mut took_in = false;
        while let Some((from, update, author)) = next.take() {
            let applied = match self.store.apply(&update, &self.limits.document()) {
                Ok(applied) => applied,
                // The model's own edit, not what was asked for, which stands.
                Err(error) if took_in => {
                    let room = &self.shared.id;
                    tracing::warn!(%room, %error, "the document has no room for an edit of the server");
                    break;
                }
                Err(error) => return Err(error),
            };
            took_in = true;
            if !applied.changed {
                return Ok(());
            }
            self.whole = None;
            self.version += 1;
            self.saving.log(update.bytes().clone(), author.clone());
            self.turn.updates.push((from, update));
            if let Some((arrays, model)) = &mut self.model {
                arrays.apply(&self.store, &applied, &mut |change| model.change(change));
                let edit = model.settle(arrays, &author);
                let update = self.write(&edit).ok().flatten();
                next = update.map(|update| (None, update, Author::server()));
            }
        }
        if self.store.wants_compaction() {
            self.whole = Some(Whole::of(&self.store.compact(), &self.budget));
        }
        Ok(())
    }

    /// Keeps notes, and has them written.
    fn note(&mut self, notes: Vec<Note>) {
        for (key, value) in &notes {
            match value {
                Some(value) => self.notes.insert(key.clone(), value.clone()),
                None => self.notes.remove(key),
            };
        }
        self.saving.note(notes);
    }

    fn edit(&mut self, edit: &Edit, author: Arc<Author>) -> Result<(), RoomError> {
        let update = self
            .write(edit)
            .map_err(|source| RoomError::Edit { room: self.shared.id.to_string(), source })?;
        match update {
            Some(update) => self.apply(None, update, author).map_err(|source| self.refused(source)),
            None => Ok(()),
        }
    }

    /// Writes an edit under the server's own client id; `None` when there is nothing to do.
    fn write(&self, edit: &Edit) -> Result<Option<Update>, Malformed> {
        match &self.model {
            Some((arrays, _)) => edit.write(self.next_id(), |array| arrays.tail(array)),
            None if edit.pushes.is_empty() => edit.write(self.next_id(), |_| None),
            // Nobody follows the arrays, so their ends have to be found.
            None => {
                let arrays = Arrays::load(&self.store, &mut |_| {});
                edit.write(self.next_id(), |array| arrays.tail(array))
            }
        }
    }

    /// The id of the next element that the server itself writes.
    fn next_id(&self) -> Id {
        Id { client: self.client, clock: self.store.known(self.client) }
    }

    /// Sends what happened in the turn to everyone who needs it.
    fn end_turn(&mut self) {
        let turn = std::mem::take(&mut self.turn);
        let notes = self.model.as_mut().map(|(_, model)| model.notes()).unwrap_or_default();
        if !notes.is_empty() {
            self.note(notes);
        }
        if !turn.updates.is_empty() {
            self.shared.size.store(self.store.size(), Ordering::Relaxed);
            self.broadcast(&turn.updates);
        }
        for connection in &turn.asked {
            if let Some(outbox) = self.connections.get(connection).cloned() {
                outbox.push_presence(self.presence());
            }
        }
        if !turn.presence.is_empty() {
            let states = protocol::awareness(&self.awareness.encode_of(&turn.presence));
            let frame = self.budget.shared(websocket::binary(&states));
            let from = turn.presence_from.filter(|_| !turn.presence_mixed);
            for (connection, outbox) in &self.connections {
                if Some(*connection) != from {
                    outbox.push_presence(frame.clone());
                }
            }
        }
        for (connection, clients) in &turn.outdated {
            if let Some(outbox) = self.connections.get(connection) {
                let removals = protocol::awareness(&self.awareness.encode_of(clients));
                outbox.push_presence(websocket::binary(&removals));
            }
        }
        for outbox in self.connections.values() {
            outbox.flush();
        }
    }

    fn shared_frame(&self, update: &[u8]) -> Bytes {
        self.budget.shared(websocket::binary(&protocol::update(update)))
    }

    /// Sends each connection one frame with everything that others wrote. One that wrote in this
    /// turn gets a frame for each other writer instead, because its own updates must not come back.
    fn broadcast(&self, updates: &[(Option<ConnectionId>, Update)]) {
        let mut by_writer: Vec<(Option<ConnectionId>, Vec<&Update>)> = Vec::new();
        for (from, update) in updates {
            match by_writer.iter_mut().find(|(writer, _)| writer == from) {
                Some((_, list)) => list.push(update),
                None => by_writer.push((*from, vec![update])),
            }
        }
        let frame = |list: &[&Update]| match list {
            [one] => self.shared_frame(one.bytes()),
            many => self.shared_frame(&merge(many.iter().copied())),
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
        self.presence_mixed |= self.presence_from.is_some_and(|before| before != from);
        self.presence_from = Some(from);
        self.presence.extend(changed);
    }
}

/// What tells a peer that something of it was not taken in.
fn refused(why: &impl std::fmt::Display) -> Bytes {
    websocket::binary(&protocol::refused(&format!("refused: {why}")))
}

/// The next time at which all rooms save.
fn next_beat() -> Instant {
    static FIRST: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
    let first = *FIRST;
    let now = Instant::now();
    let since = now.saturating_duration_since(first).as_nanos() % BEAT.as_nanos();
    now + BEAT - Duration::from_nanos(since as u64)
}
