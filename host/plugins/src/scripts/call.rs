//! What a script may do during a call, and what it has used.
//!
//! The interpreter asks at each step whether to go on, but not on whose behalf; as a script stays on
//! its thread, the call that a thread is at work on is a variable of the thread.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use host_workspace::{ActionError, Transaction};
use rhai::{Dynamic, EvalAltResult, Position};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::api::thrown;
use crate::ai::{Answer, Request};
use crate::engine::{HEAVY_AFTER, Heavy, HeavyCount, TICK};
use crate::fetch;
use crate::instance::{self, Access, check_size};
use crate::limits::Limits;
use crate::log::Log;
use crate::metered;
use crate::reach::Reach;

/// Steps between two looks at the clock. 16: a step takes 50 ns, or a few ms when it works on the
/// largest strings.
const LOOK: u64 = 16;

thread_local! {
    static CURRENT: RefCell<Option<Call>> = const { RefCell::new(None) };
}

/// The call that a thread is at work on.
pub(super) struct Call {
    pub(super) call: instance::Call,
    pub(super) log: Log,
    pub(super) limits: Arc<Limits>,
    pub(super) reach: Reach,
    /// Where the host's side of the script's calls runs.
    pub(super) runtime: Handle,
    /// Cancelled when nobody waits for the script any more.
    pub(super) cancelled: CancellationToken,
    pub(super) heavy: HeavyCount,
    rested: Instant,
    held_before: isize,
    share: Share,
    stopped: Option<Stop>,
}

/// What one call holds, as a part of what all calls of a plugin's scripts hold together.
pub(super) struct Share {
    of: Arc<AtomicUsize>,
    bytes: usize,
}

impl Share {
    /// A part of nothing yet.
    pub(super) fn new(of: Arc<AtomicUsize>) -> Self {
        Self { of, bytes: 0 }
    }

    fn set(&mut self, bytes: usize) {
        match bytes.checked_sub(self.bytes) {
            Some(more) => self.of.fetch_add(more, Ordering::Relaxed),
            None => self.of.fetch_sub(self.bytes - bytes, Ordering::Relaxed),
        };
        self.bytes = bytes;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.set(0);
    }
}

/// Why the host stopped a script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stop {
    TimedOut,
    /// It used more than it may; says of what.
    Spent(String),
}

impl Call {
    pub(super) fn new(
        call: instance::Call,
        log: Log,
        (limits, reach): (Arc<Limits>, Reach),
        runtime: Handle,
        cancelled: CancellationToken,
        heavy: HeavyCount,
        share: Share,
    ) -> Self {
        let rested = call.started;
        Self {
            call,
            log,
            limits,
            reach,
            runtime,
            cancelled,
            heavy,
            rested,
            held_before: metered::held(),
            share,
            stopped: None,
        }
    }

    /// Makes it this thread's call for as long as `work` runs. Also gives why it was stopped.
    pub(super) fn during<T>(self, work: impl FnOnce() -> T) -> (T, Option<Stop>) {
        /// Clears the thread's call also when the work panics.
        struct Clear;
        impl Drop for Clear {
            fn drop(&mut self) {
                CURRENT.take();
            }
        }
        CURRENT.set(Some(self));
        let clear = Clear;
        let done = work();
        let call = CURRENT.take();
        drop(clear);
        let stopped = call.and_then(|mut call| {
            call.log.end();
            call.stopped
        });
        (done, stopped)
    }

    fn stop(&mut self, why: Stop) -> Dynamic {
        self.stopped = Some(why);
        Dynamic::UNIT
    }

    fn step(&mut self, count: u64) -> Option<Dynamic> {
        // Where it was stopped its error may have been dropped.
        if self.stopped.is_some() {
            return Some(Dynamic::UNIT);
        }
        let max = self.limits.script_memory;
        // Below zero when it freed what the call was given.
        let held = usize::try_from(metered::held() - self.held_before).unwrap_or(0);
        if held > max {
            let reason = format!("out of memory, a script may use {} MiB", max >> 20);
            return Some(self.stop(Stop::Spent(reason)));
        }
        if !count.is_multiple_of(LOOK) {
            return None;
        }
        self.share.set(held);
        let now = Instant::now();
        if now >= self.call.deadline || self.cancelled.is_cancelled() {
            return Some(self.stop(Stop::TimedOut));
        }
        // Long ones share half of the cores, as components do.
        if now.duration_since(self.call.started) >= HEAVY_AFTER
            && now.duration_since(self.rested) >= TICK
        {
            let heavy = &self.heavy;
            let rest = self.call.heavy.get_or_insert_with(|| Heavy::enter(heavy)).rest();
            let left = self.call.deadline.saturating_duration_since(now);
            std::thread::sleep(rest.min(left));
            self.rested = Instant::now();
        }
        None
    }
}

/// Whether the script may go on; a value ends it.
pub(super) fn step(count: u64) -> Option<Dynamic> {
    CURRENT.with_borrow_mut(|call| call.as_mut()?.step(count))
}

/// Looks at this thread's call. An error outside of one: a constant expression is worked out while a
/// script is compiled.
pub(super) fn with<T>(look: impl FnOnce(&mut Call) -> T) -> Result<T, Box<EvalAltResult>> {
    CURRENT.with_borrow_mut(|call| call.as_mut().map(look)).ok_or_else(|| {
        "tables, kv, documents, log and context can be used while a call is served only".into()
    })
}

/// The call's transaction, when it may be used so.
pub(super) fn transaction(access: Access) -> Result<Arc<Transaction>, Box<EvalAltResult>> {
    with(|call| {
        let limit = call.limits.host_calls;
        match call.call.transaction(access, limit) {
            Ok(Ok(transaction)) => Ok(transaction),
            Ok(Err(error)) => Err(thrown(error)),
            Err(error) => Err(ended(call.stop(Stop::Spent(error.to_string())))),
        }
    })?
}

/// Asks something else of the host, which counts as well.
pub(super) fn host<T>(ask: impl FnOnce(&mut Call) -> T) -> Result<T, Box<EvalAltResult>> {
    with(|call| match call.call.count(call.limits.host_calls) {
        Ok(()) => Ok(ask(call)),
        Err(error) => Err(ended(call.stop(Stop::Spent(error.to_string())))),
    })?
}

/// Refuses a value that is too large to be written.
pub(super) fn check_written(value: &str) -> Result<(), Box<EvalAltResult>> {
    with(|call| check_size(value, call.limits.row_bytes))?.map_err(thrown)
}

/// Asks a model, and parks the script until it has answered.
pub(super) fn ask(request: Request) -> Result<Answer, Box<EvalAltResult>> {
    // The future may not look at the thread's call, which it waits for elsewhere.
    let asked = host(|call| call.reach.ask(&call.call, request))?;
    park(async { asked.await?.whole().await })
}

/// Sends a request, and parks the script until it has the whole answer.
pub(super) fn fetch(request: fetch::Request) -> Result<fetch::Response, Box<EvalAltResult>> {
    park(host(|call| call.reach.fetch(&call.call, request))?)
}

/// Parks the script until the host has done something for it, or its time is over.
pub(super) fn park<T>(
    work: impl Future<Output = Result<T, ActionError>>,
) -> Result<T, Box<EvalAltResult>> {
    let (runtime, cancelled, deadline) =
        with(|call| (call.runtime.clone(), call.cancelled.clone(), call.call.deadline))?;
    let done = runtime.block_on(async {
        tokio::select! {
            done = work => Some(done),
            () = tokio::time::sleep_until(deadline.into()) => None,
            () = cancelled.cancelled() => None,
        }
    });
    match done {
        Some(done) => done.map_err(thrown),
        None => Err(ended(with(|call| call.stop(Stop::TimedOut))?)),
    }
}

/// Ends a script in a way that it cannot catch.
fn ended(token: Dynamic) -> Box<EvalAltResult> {
    EvalAltResult::ErrorTerminated(token, Position::NONE).into()
}

/// How long a script may go on after its deadline: it looks at the clock between steps.
pub(super) const GRACE: Duration = Duration::from_millis(250);
