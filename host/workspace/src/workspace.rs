//! One workspace: its document, its index, the plugin that gives it meaning, and its writers.
//!
//! Writers do not wait for each other. Each works on a snapshot; at the commit, on the room's own
//! task, what it read is compared with what is there now, and only if nothing of it changed the
//! writes are made, as one Yjs transaction. Otherwise the work is done again on a newer snapshot.
//! A writer that is overtaken again and again gets the workspace for itself, so that it ends.

use std::sync::Arc;

use arc_swap::ArcSwap;
use host_sync::{Edit, Id, Room};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::definition::{ActionKind, Definition};
use crate::documents::Documents;
use crate::error::{ActionError, Error, Fault};
use crate::generation::{Generation, Snapshot};
use crate::index::Index;
use crate::logic::{Data, Logic, Source};
use crate::transaction::Transaction;
use crate::work::{Done, Work};

/// How often a writer is overtaken before it gets the workspace for itself.
const OPTIMISTIC_TRIES: usize = 6;
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
}

impl Workspace {
    /// Opens a workspace on its room: indexes the document and parses its rows.
    pub async fn open(
        room: Room,
        logic: Arc<dyn Logic>,
        documents: Documents,
    ) -> Result<Self, Error> {
        let (index, model) = Index::new();
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
        self.current.store(generation);
        self.reloads.send_replace(());
        Ok(())
    }

    /// Stops following the document.
    pub async fn close(&self) {
        self.closed.cancel();
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
        for _ in 0..OPTIMISTIC_TRIES {
            let transaction =
                Transaction::new(self.generation(), context.clone(), work.source(), true);
            let done = work.run(&transaction).await?;
            let _shared = self.commits.read().await;
            if let Outcome::Committed = self.commit(&transaction, &work).await? {
                return Ok(done);
            }
        }
        let _alone = self.commits.write().await;
        for _ in 0..EXCLUSIVE_TRIES {
            let transaction =
                Transaction::new(self.generation(), context.clone(), work.source(), true);
            let done = work.run(&transaction).await?;
            if let Outcome::Committed = self.commit(&transaction, &work).await? {
                return Ok(done);
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
        let by = generation.follower();
        let edit = move |first: Id| {
            let mut index = index.lock();
            let rows_hold = commit.rows.iter().all(|((array, key), entry)| {
                index.entry(array, key).map(|entry| entry.id) == *entry
            });
            let lists_hold =
                commit.lists.iter().all(|(array, version)| index.array_version(array) == *version);
            let claims = &commit.claims;
            let needed_are_there =
                claims.needed.iter().all(|(array, key)| index.entry(array, key).is_some());
            let claims_hold = index.hold(&claims.seen, commit.version);
            if !rows_hold || !lists_hold || !needed_are_there || !claims_hold {
                return (Edit::default(), Outcome::Overtaken);
            }
            index.claim(commit.claims.changed);
            (index.write(commit.writes, by, commit.now, first), Outcome::Committed)
        };
        let by = work.by(&generation.definition().version);
        let author = transaction.context().author(by);
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
