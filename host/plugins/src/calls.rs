//! The calls into one plugin: their places, their time limits, and their outcomes.
//!
//! **Places.** A call needs a place, and each kind of call has a limited number. Calls nest: an
//! action that writes a row waits for `check-change` and `parse-rows` of the same plugin while it
//! holds its own place. If all kinds shared the same sixteen places, sixteen actions could take
//! them all and each wait forever for a seventeenth. So the kinds are ranked (actions, then checks,
//! then parsing), and a call waits only for kinds below its own: a check reads and never writes,
//! and parsing touches nothing. Without a cycle there is no deadlock, whatever the numbers are.
//!
//! **Waiting** is limited twice: in how many calls wait for one kind of place, and in how long,
//! which is the call's own time limit. A call that may not wait gets [`Fault::Busy`] at once.
//!
//! **Time.** The deadline of a call covers creating an instance, running, and waiting in host
//! functions. A guest that loops is interrupted by its engine; one that waits is ended by dropping
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

/// The latest fault of a plugin.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LastError {
    /// When it happened, in Unix ms.
    pub at: u64,
    /// What happened.
    pub message: String,
}

/// Statistics of a plugin since it was loaded.
#[derive(Debug, Clone, Default)]
pub struct Counters {
    /// Calls into the guest.
    pub calls: u64,
    /// Calls that ended with a [`Fault`].
    pub errors: u64,
    /// The latest of them.
    pub last_error: Option<LastError>,
    /// Linear memory of all instances, and memory held by scripts, in bytes.
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

    /// Runs one call: waits for its places, enforces its time limit, and counts it.
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

    /// The statistics; `memory` is what the plugin holds now.
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

    /// Records a fault and logs it with the same fields as the plugin's own lines, so that a search
    /// for the request finds both.
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
