//! One workspace: its document, its index, the plugin that gives it meaning, and its writers.
//!
//! Writers do not wait for each other. Each works on a snapshot; at the commit, on the room's own
//! task, what it read is compared with what is there now, and only if nothing of it changed the
//! writes are made, as one Yjs transaction. Otherwise the work is done again on a newer snapshot.
//! A writer that is overtaken again and again gets the workspace for itself, so that it ends.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use host_caller::Right;
use host_sync::{Author, Edit, FOLLOWED, Id, Room};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::authority::{Judged, enforced, judge};
use crate::context::Context;
use crate::definition::{ActionKind, Definition};
use crate::documents::Documents;
use crate::error::{ActionError, Error, Fault};
use crate::generation::{Generation, Snapshot};
use crate::index::{By, Index, TABLE_PREFIX, Write};
use crate::logic::{Data, Logic, Source};
use crate::pending::RefusedChange;
use crate::transaction::Transaction;
use crate::work::{Done, Work};

/// How often a writer is overtaken before it gets the workspace for itself.
const OPTIMISTIC_TRIES: usize = 6;
/// How long a writer waits for what sync has brought to be judged, each time.
const PATIENCE: Duration = Duration::from_millis(500);
/// How often it tries then. Only clients that sync can overtake it still.
const EXCLUSIVE_TRIES: usize = 32;

pub(crate) struct Workspace {
    room: Room,
    index: Arc<Mutex<Index>>,
    documents: Documents,
    current: ArcSwap<Generation>,
    /// Signals that the plugin was replaced.
    reloads: watch::Sender<()>,
    /// Cancelled when the workspace is no longer served.
    closed: CancellationToken,
    /// Held shared during a commit, and alone by a writer that was overtaken too often.
    commits: tokio::sync::RwLock<()>,
}

/// How a commit ended.
enum Outcome {
    Committed,
    Overtaken,
    /// What sync has brought to one of its rows has to be judged first.
    Waiting,
}

impl Workspace {
    /// Opens a workspace on its room: indexes the document and parses its rows.
    pub async fn open(
        room: Room,
        logic: Arc<dyn Logic>,
        documents: Documents,
    ) -> Result<Self, Error> {
        let (index, model) = Index::new(enforced(logic.definition()));
        room.attach(model).await?;
        let generation =
            Generation::start(logic, index.clone(), documents.clone(), usize::MAX).await?;
        Ok(Self {
            room,
            index,
            documents,
            current: ArcSwap::new(generation),
            reloads: watch::Sender::new(()),
            closed: CancellationToken::new(),
            commits: tokio::sync::RwLock::default(),
        })
    }

    /// Replaces the plugin once the new one has parsed every row. The new one may not break on
    /// more rows than the old one did.
    pub async fn replace(&self, logic: Arc<dyn Logic>) -> Result<(), Fault> {
        let tolerated = self.current.load().faulted();
        let (index, documents) = (self.index.clone(), self.documents.clone());
        let generation = Generation::start(logic, index, documents, tolerated).await?;
        // What was answered before the change must be seen after it: no commit happens between
        // catching up and taking over.
        let _alone = self.commits.write().await;
        generation.catch_up().await;
        let enforced = enforced(generation.definition());
        self.current.store(generation);
        // What waits in a table that enforces its rules no longer counts as it is. Where it begins to, all that
        // is there does.
        let index = self.index.clone();
        let edit = move |_| (index.lock().enforce(enforced), ());
        if let Err(error) = self.room.edit(Author::server(), edit).await {
            tracing::warn!(room = %self.room.id(), %error, "what lost in a table is not deleted yet");
        }
        self.reloads.send_replace(());
        Ok(())
    }

    /// The changes by sync that were refused in a table, as far as the caller may see them, oldest first.
    pub fn refused(&self, table: &str, context: &Context) -> Vec<RefusedChange> {
        let account = context.account().map_or("", |account| &account.id);
        let mut index = self.index.lock();
        let all = index.pending().refused();
        let of_table =
            all.filter(|refused| refused.array.strip_prefix(TABLE_PREFIX) == Some(table));
        let seen = of_table.filter(|r| context.right == Right::Owner || r.account == account);
        let mut refused: Vec<_> = seen.cloned().collect();
        refused.sort_by_key(|refused| refused.at);
        refused
    }

    /// Forgets that changes were refused; returns once that is durable.
    pub async fn forget_refused(&self, refused: &[&RefusedChange]) -> Result<(), Error> {
        if refused.is_empty() {
            return Ok(());
        }
        let keys: Vec<_> = refused.iter().map(|refused| refused.key()).collect();
        self.room.note(keys.iter().map(|key| (key.clone(), None)).collect()).await?;
        self.index.lock().pending().forget(&keys);
        Ok(())
    }

    /// Judges what sync brings into tables that enforce their rules, for as long as the workspace is served.
    pub fn enforce_rules(self: &Arc<Self>) {
        let (weak, closed) = (Arc::downgrade(self), self.closed.clone());
        let ready = self.index.lock().pending().ready();
        tokio::spawn(closed.run_until_cancelled_owned(async move {
            let mut overtaken = 0;
            loop {
                let Some(workspace) = weak.upgrade() else { return };
                // One that is overtaken again and again gets the workspace for itself, like any writer.
                let alone = match overtaken < OPTIMISTIC_TRIES {
                    true => None,
                    false => Some(workspace.commits.write().await),
                };
                let generation = workspace.generation();
                let judged = judge(&workspace.room, &workspace.index, &generation).await;
                drop(alone);
                overtaken = if matches!(judged, Ok(Judged::Overtaken)) { overtaken + 1 } else { 0 };
                let until = match judged {
                    Ok(Judged::Some | Judged::Overtaken) => continue,
                    Ok(Judged::Nothing(until)) => until,
                    // Storage fails: nothing can be kept, so nothing is judged.
                    Err(error) => {
                        tracing::warn!(room = %workspace.room.id(), %error, "changes by sync wait");
                        Some(Instant::now() + PATIENCE)
                    }
                };
                drop(workspace);
                match until {
                    None => ready.notified().await,
                    Some(until) => {
                        let _ = tokio::time::timeout_at(until, ready.notified()).await;
                    }
                }
            }
        }));
    }

    /// Stops following the document, and gives up its rules.
    pub async fn close(&self) {
        self.closed.cancel();
        let given_up = (bytes::Bytes::from_static(FOLLOWED), None);
        if let Err(error) = self.room.note(vec![given_up]).await {
            tracing::warn!(room = %self.room.id(), %error, "the rules of a workspace are not given up");
        }
        self.room.detach().await;
    }

    /// Signals that the plugin was replaced.
    pub fn reloads(&self) -> watch::Receiver<()> {
        self.reloads.subscribe()
    }

    /// Cancelled when the workspace is no longer served.
    pub fn closed(&self) -> &CancellationToken {
        &self.closed
    }

    /// The presence states of the clients in the room, as JSON text by client.
    pub async fn presence(&self) -> Result<Vec<(u64, String)>, Error> {
        Ok(self.room.presence().await?)
    }

    /// The documents of its rows.
    pub fn documents(&self) -> &Documents {
        &self.documents
    }

    /// What the workspace consists of.
    pub fn definition(&self) -> Arc<Definition> {
        self.current.load().definition().clone()
    }

    #[cfg(test)]
    pub fn index(&self) -> &Arc<Mutex<Index>> {
        &self.index
    }

    /// The current version of the plugin.
    pub fn generation(&self) -> Arc<Generation> {
        self.current.load_full()
    }

    /// The workspace as it is now.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.current.load().snapshot()
    }

    /// Runs an action, if its input is valid. The result is JSON text. A mutation that is done again is
    /// done wholly by the version of the plugin that is current then: that one checks the input, too.
    pub async fn run(&self, context: Context, path: &str, input: &Value) -> Result<String, Error> {
        let work = Work::Run { path, input };
        let generation = self.generation();
        let action = generation.definition().action(path).ok_or(ActionError::NotFound)?;
        let done = match action.kind {
            ActionKind::Query => {
                work.run(&Transaction::new(generation, context, Source::Action, false)).await?
            }
            ActionKind::Mutation => self.transact(context, work).await?,
        };
        Ok(done.text)
    }

    /// Does work in a transaction and commits it; retries if another writer was faster.
    pub async fn transact(&self, context: Context, work: Work<'_>) -> Result<Done, Error> {
        let mut versions = self.generation().versions();
        for _ in 0..OPTIMISTIC_TRIES {
            let transaction =
                Transaction::new(self.generation(), context.clone(), work.source(), true);
            let done = work.run(&transaction).await?;
            let shared = self.commits.read().await;
            let outcome = self.commit(&transaction, &work).await?;
            drop(shared);
            match outcome {
                Outcome::Committed => return Ok(done),
                Outcome::Overtaken => {}
                Outcome::Waiting => {
                    let _ = tokio::time::timeout(PATIENCE, versions.changed()).await;
                }
            }
        }
        let _alone = self.commits.write().await;
        for _ in 0..EXCLUSIVE_TRIES {
            let transaction =
                Transaction::new(self.generation(), context.clone(), work.source(), true);
            let done = work.run(&transaction).await?;
            match self.commit(&transaction, &work).await? {
                Outcome::Committed => return Ok(done),
                Outcome::Overtaken => {}
                // Shorter, because everybody else waits for us.
                Outcome::Waiting => {
                    let _ = tokio::time::timeout(PATIENCE / 10, versions.changed()).await;
                }
            }
        }
        Err(Error::Conflict)
    }

    /// Makes the writes if nothing that was read has changed. Returns once they are durable and
    /// visible to reads. The caller holds `commits`, so the current generation stays current.
    async fn commit(&self, transaction: &Transaction, work: &Work<'_>) -> Result<Outcome, Error> {
        let mut commit = transaction.commit();
        if commit.writes.is_empty() {
            return Ok(Outcome::Committed);
        }
        let generation = self.generation();
        if !Arc::ptr_eq(&generation, transaction.generation()) {
            // The plugin was replaced meanwhile; the new one has to be asked.
            return Ok(Outcome::Overtaken);
        }
        let texts = std::mem::take(&mut commit.texts);
        let index = self.index.clone();
        let by = work.by(&generation.definition().version);
        let author = transaction.context().author(by);
        let by = By { follower: generation.follower(), author: author.clone() };
        let edit = move |first: Id| {
            let mut index = index.lock();
            // What sync has brought there is not to be lost unseen.
            let written = commit.writes.iter().map(|(place, _)| place);
            if commit.reads.rows.keys().chain(written).any(|place| index.waits(place)) {
                return (Edit::default(), Outcome::Waiting);
            }
            if !index.holds(&commit.reads) {
                return (Edit::default(), Outcome::Overtaken);
            }
            index.claim(commit.claims);
            let write = |(place, written)| Write { place, written, time: None };
            let writes = commit.writes.into_iter().map(write).collect();
            (index.write(writes, by, commit.now, first), Outcome::Committed)
        };
        let outcome = self.room.edit(author.clone(), edit).await?;
        generation.catch_up().await;
        if let Outcome::Committed = outcome {
            for (guid, writing) in texts {
                self.documents.write(&guid, writing, &author).await?;
            }
        }
        Ok(outcome)
    }
}
