//! The running call of a script thread, and the resources it has used.
//!
//! The interpreter asks at each step whether to continue, but not for which script. A script stays
//! on its thread, so the thread's current call is a thread-local.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use host_wasm::Load;
use host_wasm::limits::TICK;
use host_workspace::{ActionError, Data};
use rhai::{Dynamic, EvalAltResult, Position};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::errors::thrown;
use crate::call::{Access, Call};
use crate::log::{Level, Log};
use crate::metered;
use crate::reach::ai::{Answer, Request};
use crate::reach::{Reach, fetch};

/// Steps between two checks of the clock. 16: a step takes 50 ns, or a few ms on the largest
/// strings.
const LOOK: u64 = 16;

thread_local! {
    static CURRENT: RefCell<Option<Running>> = const { RefCell::new(None) };
}

/// The call that a thread is running.
pub(super) struct Current {
    pub(super) call: Call,
    pub(super) log: Log,
    pub(super) reach: Reach,
    /// Memory limit of the script, in bytes.
    pub(super) memory: usize,
    /// The runtime for the host's side of the script's calls.
    pub(super) runtime: Handle,
    /// Cancelled when nobody waits for the script any more.
    pub(super) cancelled: CancellationToken,
    pub(super) load: Load,
    pub(super) share: Share,
}

/// The call, with what the thread has used so far.
struct Running {
    of: Current,
    rested: Instant,
    held_before: isize,
    stopped: Option<Stop>,
}

/// One call's share of the memory that all calls of a plugin's scripts hold.
pub(super) struct Share {
    of: Arc<AtomicUsize>,
    bytes: usize,
}

impl Share {
    /// A share of nothing yet.
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
    /// It exceeded the limit on this.
    Spent(String),
}

impl Current {
    /// Makes this the thread's call while `work` runs. Also returns why it was stopped, if it was.
    pub(super) fn during<T>(self, work: impl FnOnce() -> T) -> (T, Option<Stop>) {
        /// Clears the thread's call even if the work panics.
        struct Clear;
        impl Drop for Clear {
            fn drop(&mut self) {
                CURRENT.take();
            }
        }
        let rested = self.call.pace.started;
        let held_before = metered::held();
        CURRENT.set(Some(Running { of: self, rested, held_before, stopped: None }));
        let clear = Clear;
        let done = work();
        let running = CURRENT.take();
        drop(clear);
        (done, running.and_then(|running| running.stopped))
    }
}

impl Running {
    fn stop(&mut self, why: Stop) -> Dynamic {
        self.stopped = Some(why);
        Dynamic::UNIT
    }

    fn step(&mut self, count: u64) -> Option<Dynamic> {
        // A script may have caught and dropped the error that stopped it.
        if self.stopped.is_some() {
            return Some(Dynamic::UNIT);
        }
        let max = self.of.memory;
        // Negative if it freed what the call was given.
        let held = usize::try_from(metered::held() - self.held_before).unwrap_or(0);
        if held > max {
            let reason = format!("out of memory, a script may use {} MiB", max >> 20);
            return Some(self.stop(Stop::Spent(reason)));
        }
        if !count.is_multiple_of(LOOK) {
            return None;
        }
        self.of.share.set(held);
        let now = Instant::now();
        let Current { call, cancelled, load, .. } = &mut self.of;
        if now >= call.pace.deadline || cancelled.is_cancelled() {
            return Some(self.stop(Stop::TimedOut));
        }
        // Epoch ticks do not interrupt a script, so it yields after the duration of a tick.
        if now.duration_since(self.rested) >= TICK
            && let Some(rest) = call.pace.rest(now, load)
        {
            std::thread::sleep(rest.min(call.pace.deadline.saturating_duration_since(now)));
            self.rested = Instant::now();
        }
        None
    }
}

/// Asks whether the script may go on; `Some` ends it.
pub(super) fn step(count: u64) -> Option<Dynamic> {
    CURRENT.with_borrow_mut(|call| call.as_mut()?.step(count))
}

/// Checks the thread's call. An error outside of a call: constant expressions are evaluated while a
/// script is compiled.
fn with<T>(look: impl FnOnce(&mut Running) -> T) -> Result<T, Box<EvalAltResult>> {
    CURRENT.with_borrow_mut(|call| call.as_mut().map(look)).ok_or_else(|| {
        "tables, kv, documents, log and context can be used while a call is served only".into()
    })
}

/// The call's transaction, if it may be used in this way.
pub(super) fn transaction(access: Access) -> Result<Arc<dyn Data>, Box<EvalAltResult>> {
    with(|running| match running.of.call.transaction(access) {
        Ok(Ok(transaction)) => Ok(transaction),
        Ok(Err(error)) => Err(thrown(error)),
        Err(error) => Err(ended(running.stop(Stop::Spent(error.to_string())))),
    })?
}

/// Counts any other request to the host.
pub(super) fn host<T>(ask: impl FnOnce(&mut Current) -> T) -> Result<T, Box<EvalAltResult>> {
    with(|running| match running.of.call.count() {
        Ok(()) => Ok(ask(&mut running.of)),
        Err(error) => Err(ended(running.stop(Stop::Spent(error.to_string())))),
    })?
}

/// Writes to the call's log. Outside of a call there is none.
pub(super) fn log(level: Level, text: &str) {
    let _ = host(|current| current.log.write(level, text));
}

/// Rejects a value that is too large to be written.
pub(super) fn check_written(value: &str) -> Result<(), Box<EvalAltResult>> {
    with(|running| running.of.call.check_written(value))?.map_err(thrown)
}

/// Asks a model, and parks the script until it has answered.
pub(super) fn ask(request: Request) -> Result<Answer, Box<EvalAltResult>> {
    // The future runs elsewhere, so it must not access the thread's call.
    let asked = host(|current| current.reach.ask(&current.call, request))?;
    park(async { asked.await?.whole().await })
}

/// Sends a request, and parks the script until the response is complete.
pub(super) fn fetch(request: fetch::Request) -> Result<fetch::Response, Box<EvalAltResult>> {
    park(host(|current| current.reach.fetch(&current.call, request))?)
}

/// Parks the script until a host operation is done or its time is over.
pub(super) fn park<T>(
    work: impl Future<Output = Result<T, ActionError>>,
) -> Result<T, Box<EvalAltResult>> {
    let (runtime, cancelled, deadline) = with(|Running { of, .. }| {
        (of.runtime.clone(), of.cancelled.clone(), of.call.pace.deadline)
    })?;
    let done = runtime.block_on(async {
        tokio::select! {
            done = work => Some(done),
            () = tokio::time::sleep_until(deadline.into()) => None,
            () = cancelled.cancelled() => None,
        }
    });
    match done {
        Some(done) => done.map_err(thrown),
        None => Err(ended(with(|running| running.stop(Stop::TimedOut))?)),
    }
}

/// Ends a script with an error that it cannot catch.
fn ended(token: Dynamic) -> Box<EvalAltResult> {
    EvalAltResult::ErrorTerminated(token, Position::NONE).into()
}
