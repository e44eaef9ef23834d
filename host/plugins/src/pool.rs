//! The instances of one plugin, and who may use them when.
//!
//! **Reuse.** An instance that served a call without a fault is kept and serves the next; its guest may
//! keep state between calls, and must not rely on it. After any fault (a trap, a timeout, a caller
//! that went away in the middle) the instance is dropped: nobody knows what its memory holds.
//!
//! **Better code.** When the code is compiled anew ([`Pool::optimise`]) new instances are of it, calls that
//! are under way end as they began, and what they leave behind is dropped.
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
//! **Time.** The deadline of a call covers making its instance, running, and being parked in host calls.
//! A guest that spins is interrupted by the epoch ([`crate::engine`]), one that is parked by dropping
//! the future that runs it.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use futures_util::FutureExt;
use host_workspace::{Fault, Transaction};
use parking_lot::Mutex;
use tokio::sync::OwnedSemaphorePermit;
use wasmtime::{PoolConcurrencyLimitError, Store, Trap};
use wasmtime_wasi::I32Exit;

use crate::contract::{Guest, Prepared};
use crate::engine::Engine;
use crate::instance::{Access, Call, Instance, Memory, State};
use crate::limits::Limits;
use crate::log::{Log, one_line};
use crate::places::{Full, Places};
use crate::reach::Reach;

/// The kinds of calls, each with places of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Define,
    Parse,
    Check,
    Action,
}

pub(crate) struct Pool {
    engine: Engine,
    code: ArcSwap<Prepared>,
    plugin: Arc<str>,
    workspace: Arc<str>,
    limits: Arc<Limits>,
    reach: Reach,
    actions: Places,
    checks: Places,
    parses: Places,
    // A std-like lock and not an async one: it is held for a push or a pop and never across an await.
    idle: Mutex<Vec<Idle>>,
    memory: Arc<AtomicUsize>,
}

struct Idle {
    instance: Instance,
    since: Instant,
}

impl Pool {
    pub(crate) fn new(
        engine: Engine,
        prepared: Prepared,
        plugin: Arc<str>,
        limits: Arc<Limits>,
        reach: Reach,
    ) -> Self {
        let places = |count| Places::new(count, limits.waiting);
        Self {
            engine,
            code: ArcSwap::from_pointee(prepared),
            plugin,
            workspace: "".into(),
            actions: places(limits.actions),
            checks: places(limits.checks),
            parses: places(limits.parses),
            limits,
            reach,
            idle: Mutex::default(),
            memory: Arc::default(),
        }
    }

    /// Names the workspace in the log of all instances made from now on.
    pub(crate) fn named(mut self, workspace: &str) -> Self {
        self.workspace = workspace.into();
        self.idle.get_mut().clear();
        self
    }

    /// Goes on with other code of the same component.
    pub(crate) fn optimise(&self, prepared: Prepared) {
        self.code.store(Arc::new(prepared));
        self.idle.lock().clear();
    }

    /// Bytes of linear memory that all instances have now.
    pub(crate) fn memory(&self) -> usize {
        self.memory.load(Ordering::Relaxed)
    }

    /// Drops instances that nobody used for long.
    pub(crate) fn trim(&self) {
        let keep = self.limits.idle;
        self.idle.lock().retain(|idle| idle.since.elapsed() < keep);
    }

    /// Waits for a place and an instance. `request` names the request that the call is for, where it
    /// has no transaction to say so. The call's time starts when it has its place.
    pub(crate) async fn turn(
        &self,
        kind: Kind,
        name: String,
        data: Option<Arc<Transaction>>,
        request: &str,
    ) -> Result<Turn<'_>, Fault> {
        let (places, access, limit) = match kind {
            Kind::Define => (None, Access::Nothing, self.limits.define),
            Kind::Parse => (Some(&self.parses), Access::Nothing, self.limits.parse),
            Kind::Check => (Some(&self.checks), Access::Read, self.limits.check),
            Kind::Action => (Some(&self.actions), Access::Write, self.limits.action),
        };
        let permit = match places {
            Some(places) => {
                let permit = places.enter(limit).await;
                let plugin = self.plugin.to_string();
                Some(permit.map_err(|Full(waiting)| Fault::Busy { plugin, waiting })?)
            }
            None => None,
        };
        let deadline = Instant::now() + limit;
        let call = Call::new(name, access, data, request, deadline);
        // `define` is asked in fresh instances, so that two answers are two opinions.
        let warm = if kind == Kind::Define { None } else { self.idle.lock().pop() };
        let instance = match warm {
            Some(Idle { mut instance, .. }) => {
                instance.store.data_mut().begin(call);
                // The epoch has moved on while it was idle; without this its first step would yield.
                instance.store.set_epoch_deadline(1);
                instance
            }
            None => self.instantiate(call, limit).await?,
        };
        Ok(Turn { pool: self, instance, limit, _permit: permit })
    }

    async fn instantiate(&self, call: Call, limit: Duration) -> Result<Instance, Fault> {
        let log = Log::new(
            self.plugin.clone(),
            self.workspace.clone(),
            self.limits.log_lines,
            self.limits.log_bytes,
        );
        let memory = Memory::new(&self.limits, self.memory.clone());
        let deadline = call.deadline;
        let state = State::new(self.limits.clone(), self.reach.clone(), log, memory, call);
        let code = self.code.load_full();
        let mut store = self.engine.store(code.engine(), state);
        store.set_hostcall_fuel(self.limits.transfer_bytes);
        match bounded(deadline, code.instantiate(&mut store)).await {
            Ok(guest) => Ok(Instance { store, guest, code, calls: 0 }),
            Err(ended) => Err(self.fault(&store, limit, ended)),
        }
    }

    fn keep(&self, mut instance: Instance) {
        instance.calls += 1;
        let worn = instance.calls >= self.limits.reuses
            || instance.store.data().memory.used() > self.limits.warm_memory;
        if worn {
            return;
        }
        let mut idle = self.idle.lock();
        // Asked under the lock, so that no instance of the old code slips in after they were cleared.
        let current = Arc::ptr_eq(&instance.code, &self.code.load());
        if current && idle.len() < self.limits.warm {
            idle.push(Idle { instance, since: Instant::now() });
        }
    }

    fn fault(&self, store: &Store<State>, limit: Duration, ended: Ended) -> Fault {
        let plugin = self.plugin.to_string();
        let state = store.data();
        let call = state.call().name.clone();
        let error = match ended {
            Ended::TimedOut => {
                // Writes what the guest logged until then.
                drop(state.last_words());
                return Fault::TimedOut { plugin, call, limit };
            }
            Ended::Failed(error) if error.is::<PoolConcurrencyLimitError>() => {
                return Fault::Busy { plugin, waiting: 0 };
            }
            Ended::Failed(error) => error,
        };
        let mut reason = match &state.memory.refused {
            Some(refused) => format!("out of memory, {refused}"),
            None => reason(&error),
        };
        if let Some(words) = state.last_words() {
            reason = format!("{reason}; its last words: {words}");
        }
        Fault::Trapped { plugin, call, reason }
    }
}

/// One call's use of an instance. Dropping it drops the instance; [`Turn::end`] gives it back.
pub(crate) struct Turn<'p> {
    pool: &'p Pool,
    instance: Instance,
    limit: Duration,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Turn<'_> {
    pub(crate) fn deadline(&self) -> Instant {
        self.instance.store.data().call().deadline
    }

    pub(crate) fn parts(&mut self) -> (&Guest, &mut Store<State>) {
        (&self.instance.guest, &mut self.instance.store)
    }

    /// Ends the call. An instance whose call failed is dropped, and the failure told as a fault.
    pub(crate) fn end<T>(mut self, outcome: Result<T, Ended>) -> Result<T, Fault> {
        match outcome {
            Ok(answer) => {
                self.instance.store.data_mut().end();
                self.pool.keep(self.instance);
                Ok(answer)
            }
            Err(ended) => Err(self.pool.fault(&self.instance.store, self.limit, ended)),
        }
    }
}

/// How a call ended without an answer.
#[derive(Debug)]
pub(crate) enum Ended {
    TimedOut,
    Failed(wasmtime::Error),
}

/// Runs a call until its deadline. A panic of our own code on the way becomes an error of this call.
pub(crate) async fn bounded<T>(
    deadline: Instant,
    call: impl Future<Output = wasmtime::Result<T>>,
) -> Result<T, Ended> {
    let left = deadline.saturating_duration_since(Instant::now());
    match tokio::time::timeout(left, AssertUnwindSafe(call).catch_unwind()).await {
        Ok(Ok(Ok(answer))) => Ok(answer),
        Ok(Ok(Err(error))) if error.downcast_ref::<Trap>() == Some(&Trap::Interrupt) => {
            Err(Ended::TimedOut)
        }
        Ok(Ok(Err(error))) => Err(Ended::Failed(error)),
        Ok(Err(panic)) => {
            let message = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("no message");
            tracing::error!("the host panicked while it served a plugin: {message}");
            Err(Ended::Failed(wasmtime::Error::msg("the host itself failed; see its log")))
        }
        Err(_) => Err(Ended::TimedOut),
    }
}

/// A trap in words that tell an author what to look for.
fn reason(error: &wasmtime::Error) -> String {
    if let Some(exit) = error.downcast_ref::<I32Exit>() {
        // WASI 0.2 hands over whether the guest calls it a success, and not the code.
        let how = if exit.0 == 0 { "exit(0)" } else { "exit, with a code that means failure" };
        return format!("it called {how}");
    }
    match error.downcast_ref::<Trap>() {
        Some(Trap::UnreachableCodeReached) => "it panicked (unreachable)".into(),
        Some(Trap::StackOverflow) => "it recursed too deeply (call stack exhausted)".into(),
        Some(Trap::MemoryOutOfBounds) => "it used memory that is not its own".into(),
        Some(trap) => trap.to_string(),
        None => one_line(&error.root_cause().to_string(), 1024),
    }
}
