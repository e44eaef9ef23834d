//! A storage for tests: it keeps everything in memory, and fails, stalls and lies on command.
//!
//! Other crates reach it with the feature `testing`.

use std::collections::HashMap;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::storage::{Batch, Notes, Storage, StorageError, Stored};

/// A method of [`Storage`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Call {
    /// [`Storage::load`].
    Load,
    /// [`Storage::append`].
    Append,
    /// [`Storage::compact`].
    Compact,
    /// [`Storage::exists`].
    Exists,
    /// [`Storage::claim`].
    Claim,
}

/// How a method misbehaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// It does nothing and says so.
    Fails(StorageError),
    /// It does not return until the fault is mended; then it works.
    Stalls,
    /// It does its work and reports an error all the same, like a connection that breaks after the
    /// commit.
    FailsAfterwards(StorageError),
    /// It reports success and does nothing, like a disk that loses what was flushed.
    Forgets,
}

/// Storage in memory. See the module's text.
#[derive(Debug)]
pub struct MemoryStorage {
    state: Mutex<State>,
    faults: watch::Sender<HashMap<Call, Fault>>,
    calls: watch::Sender<HashMap<Call, usize>>,
}

#[derive(Debug, Default, Clone)]
struct State {
    rooms: HashMap<String, Log>,
    owners: HashMap<String, String>,
    position: u64,
}

#[derive(Debug, Default, Clone)]
struct Log {
    notes: Notes,
    snapshot: Option<(u64, Bytes)>,
    updates: Vec<(u64, Bytes)>,
}

impl Default for MemoryStorage {
    fn default() -> Self {
        Self {
            state: Mutex::default(),
            faults: watch::Sender::new(HashMap::new()),
            calls: watch::Sender::new(HashMap::new()),
        }
    }
}

impl MemoryStorage {
    /// Makes a method misbehave from now on.
    pub fn inject(&self, call: Call, fault: Fault) {
        self.faults.send_modify(|faults| drop(faults.insert(call, fault)));
    }

    /// Makes a method work again.
    pub fn mend(&self, call: Call) {
        self.faults.send_modify(|faults| drop(faults.remove(&call)));
    }

    /// What is left when the power goes now.
    pub fn image(&self) -> Self {
        Self { state: Mutex::new(self.state.lock().clone()), ..Self::default() }
    }

    /// How often a method has been called.
    pub fn calls(&self, call: Call) -> usize {
        self.calls.borrow().get(&call).copied().unwrap_or(0)
    }

    /// Waits until a method has been called this often.
    pub async fn called(&self, call: Call, count: usize) {
        let enough = |calls: &HashMap<Call, usize>| calls.get(&call).is_some_and(|n| *n >= count);
        let waited = self.calls.subscribe().wait_for(enough).await.map(drop);
        waited.expect("the storage holds the sender");
    }

    async fn perform<T>(
        &self,
        call: Call,
        work: impl FnOnce(&mut State) -> T,
    ) -> Result<T, StorageError> {
        self.calls.send_modify(|calls| *calls.entry(call).or_default() += 1);
        let mut faults = self.faults.subscribe();
        let moves = |faults: &HashMap<Call, Fault>| faults.get(&call) != Some(&Fault::Stalls);
        let fault = faults.wait_for(moves).await.expect("the storage holds the sender");
        let fault = fault.get(&call).cloned();
        let mut state = self.state.lock();
        match fault {
            Some(Fault::Fails(error)) => Err(error),
            Some(Fault::FailsAfterwards(error)) => {
                work(&mut state);
                Err(error)
            }
            Some(Fault::Forgets) => Ok(work(&mut state.clone())),
            Some(Fault::Stalls) | None => Ok(work(&mut state)),
        }
    }
}

/// An update that writes a text into an empty document.
#[cfg(test)]
pub(crate) fn text_update(client: u64, text: &str) -> crate::Update {
    use yrs::{Doc, ReadTxn, Text, Transact};
    let doc = Doc::with_client_id(client);
    let root = doc.get_or_insert_text("t");
    let mut transaction = doc.transact_mut();
    root.insert(&mut transaction, 0, text);
    let bytes = transaction.encode_state_as_update_v1(&yrs::StateVector::default());
    crate::Update::scan(bytes.into()).expect("yrs writes updates")
}

#[async_trait]
impl Storage for MemoryStorage {
    async fn load(&self, room: &str) -> Result<Option<Stored>, StorageError> {
        self.perform(Call::Load, |state| {
            let log = state.rooms.get(room)?;
            let all = log.snapshot.iter().chain(&log.updates);
            Some(Stored {
                updates: all.clone().map(|(_, bytes)| bytes.clone()).collect(),
                log_bytes: log.updates.iter().map(|(_, bytes)| bytes.len()).sum(),
                position: all.map(|(position, _)| *position).max().unwrap_or(0),
                notes: log.notes.clone(),
            })
        })
        .await
    }

    async fn append(&self, room: &str, batch: Batch) -> Result<u64, StorageError> {
        self.perform(Call::Append, |state| {
            let log = state.rooms.entry(room.to_owned()).or_default();
            for update in batch.updates {
                state.position += 1;
                log.updates.push((state.position, update.bytes));
            }
            for (key, value) in batch.notes {
                match value {
                    Some(value) => log.notes.insert(key, value),
                    None => log.notes.remove(&key),
                };
            }
            state.position
        })
        .await
    }

    async fn compact(&self, room: &str, document: Bytes, upto: u64) -> Result<(), StorageError> {
        self.perform(Call::Compact, |state| {
            let log = state.rooms.entry(room.to_owned()).or_default();
            log.snapshot = Some((upto, document));
            log.updates.retain(|(position, _)| *position > upto);
        })
        .await
    }

    async fn exists(&self, room: &str) -> Result<bool, StorageError> {
        self.perform(Call::Exists, |state| state.rooms.contains_key(room)).await
    }

    async fn claim(&self, rooms: Vec<String>, owner: &str) -> Result<Vec<bool>, StorageError> {
        self.perform(Call::Claim, |state| {
            let claim = |room: String| {
                let owners = &mut state.owners;
                if room == owner {
                    owners.insert(room, owner.to_owned());
                    return true;
                }
                owners.entry(room).or_insert_with(|| owner.to_owned()) == owner
            };
            rooms.into_iter().map(claim).collect()
        })
        .await
    }
}
