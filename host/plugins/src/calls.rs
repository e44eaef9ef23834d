//! The calls of one plugin: who has a place, for how long, and how they ended.
//!
//! **Places.** A call needs a place, and there are so many for each kind of call. Calls nest: an
//! action that writes a row waits for `check-change` and `parse-rows` of the same plugin while it
//! holds its own place. Were there one kind of place, sixteen actions could hold all sixteen and each
//! wait for a seventeenth, for ever. So the kinds are ranked (actions, then checks, then parsing) and
//! a call waits only for kinds below its own: a check reads and never writes, parsing touches
//! nothing. There is no cycle, so there is no deadlock, whatever the numbers are.
//!
//! **Waiting** is bounded twice: in how many wait for one kind of place, and in how long, which is the
//! limit of the call itself. Whoever cannot wait gets [`Fault::Busy`] at once.
//!
//! **Time.** The deadline of a call covers making an instance, running, and being parked in the host's
//! functions. A guest that spins is interrupted by its engine; one that is parked is ended by dropping
//! the future that runs it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use host_workspace::{Data, Fault};
use parking_lot::Mutex;
use serde::Serialize;

use crate::call::{Call, Ended, Kind, Task, bounded};
use crate::limits::Limits;
use crate::log::one_line;
use crate::places::{Full, Places};
use crate::runtime::Runtime;

/// The newest fault of a plugin.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LastError {
    /// When, in Unix ms.
    pub at: u64,
    /// What happened.
    pub message: String,
}

/// What a plugin has done since it was loaded.
#[derive(Debug, Clone, Default)]
pub struct Counters {
    /// Calls into the guest.
    pub calls: u64,
    /// Calls that ended with a [`Fault`].
    pub errors: u64,
    /// The newest of them.
    pub last_error: Option<LastError>,
    /// Linear memory of all instances, and what scripts hold, in bytes.
    pub memory: usize,
}

pub(crate) struct Calls {
    plugin: Arc<str>,
    workspace: String,
    limits: Arc<Limits>,
    actions: Places,
    checks: Places,
    parses: Places,
    made: AtomicU64,
    failed: AtomicU64,
    last_error: Mutex<Option<LastError>>,
}

impl Calls {
    pub(crate) fn new(plugin: Arc<str>, workspace: String, limits: Arc<Limits>) -> Self {
        let places = |count| Places::new(count, limits.waiting);
        Self {
            plugin,
            workspace,
            actions: places(limits.actions),
            checks: places(limits.checks),
            parses: places(limits.parses),
            limits,
            made: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            last_error: Mutex::default(),
        }
    }

    /// Makes one call: waits for its places, holds it to its time, counts it.
    pub(crate) async fn make<T, W>(
        &self,
        runtime: &dyn Runtime,
        task: Task<'_>,
        data: Option<Arc<dyn Data>>,
        request_id: &str,
        work: impl FnOnce(Call) -> W,
    ) -> Result<T, Fault>
    where
        W: Future<Output = Result<T, Ended>>,
    {
        let request_id =
            data.as_ref().map_or(request_id, |data| &data.context().request_id).to_owned();
        let ended = async {
            let kind = task.kind();
            let own = match kind {
                Kind::Action => Some(&self.actions),
                Kind::Check => Some(&self.checks),
                Kind::Parse => Some(&self.parses),
                Kind::Define => None,
            };
            let mut held = Vec::new();
            for places in own.into_iter().chain(runtime.shared_places(kind)) {
                let place = places.enter(kind.time(&self.limits)).await;
                held.push(place.map_err(|Full(waiting)| Ended::Busy(waiting))?);
            }
            let call = Call::new(&task, self.limits.clone(), data, &request_id, held);
            bounded(call.pace.deadline + runtime.grace(), work(call)).await
        };
        let ended = ended.await;
        self.made.fetch_add(1, Ordering::Relaxed);
        ended.map_err(|ended| {
            let fault = self.fault(&task, ended);
            self.note(&fault, &task, &request_id);
            fault
        })
    }

    /// What came of them; `memory` is what the plugin holds now.
    pub(crate) fn counters(&self, memory: usize) -> Counters {
        Counters {
            calls: self.made.load(Ordering::Relaxed),
            errors: self.failed.load(Ordering::Relaxed),
            last_error: self.last_error.lock().clone(),
            memory,
        }
    }

    fn fault(&self, task: &Task<'_>, ended: Ended) -> Fault {
        let (plugin, call) = (self.plugin.to_string(), task.to_string());
        match ended {
            Ended::TimedOut => {
                Fault::TimedOut { plugin, call, limit: task.kind().time(&self.limits) }
            }
            Ended::Busy(waiting) => Fault::Busy { plugin, waiting },
            Ended::Crashed(reason) => Fault::Trapped { plugin, call, reason },
            Ended::Breach(reason) => Fault::Contract { plugin, call, reason },
        }
    }

    /// Keeps a fault, and logs it with the fields that the plugin's own lines have, so that both are
    /// found by the same request.
    fn note(&self, fault: &Fault, task: &Task<'_>, request_id: &str) {
        self.failed.fetch_add(1, Ordering::Relaxed);
        let message = one_line(&fault.to_string(), 4096);
        tracing::warn!(
            target: "plugin",
            workspace = %self.workspace,
            plugin = %self.plugin,
            action = %task,
            request_id = %request_id,
            "{message}"
        );
        let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let at = u64::try_from(at).unwrap_or(u64::MAX);
        *self.last_error.lock() = Some(LastError { at, message });
    }
}
