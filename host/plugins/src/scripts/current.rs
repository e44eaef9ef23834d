//! What a script may do during a call, and what it has used.
//!
//! The interpreter asks at each step whether to go on, but does not say for which script. A script stays
//! on its thread, so the call that a thread is at work on is a variable of that thread.

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

/// Steps between two looks at the clock. 16: a step takes 50 ns, or a few ms when it works on the
/// largest strings.
const LOOK: u64 = 16;

thread_local! {
    static CURRENT: RefCell<Option<Running>> = const { RefCell::new(None) };
}

/// The call that a thread is at work on.
pub(super) struct Current {
    pub(super) call: Call,
    pub(super) log: Log,
    pub(super) reach: Reach,
    /// What the script may hold, in bytes.
    pub(super) memory: usize,
    /// Where the host's side of the script's calls runs.
    pub(super) runtime: Handle,
    /// Cancelled when nobody waits for the script any more.
    pub(super) cancelled: CancellationToken,
    pub(super) load: Load,
    pub(super) share: Share,
}

/// The same, with what the thread has used so far.
struct Running {
    of: Current,
    rested: Instant,
    held_before: isize,
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

impl Current {
    /// Makes it this thread's call for as long as `work` runs. Also gives why it was stopped.
    pub(super) fn during<T>(self, work: impl FnOnce() -> T) -> (T, Option<Stop>) {
        /// Clears the thread's call also when the work panics.
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
        // Where it was stopped, a script may have caught the error and dropped it.
        if self.stopped.is_some() {
            return Some(Dynamic::UNIT);
        }
        let max = self.of.memory;
        // Below zero when it freed what the call was given.
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
        // A script is not interrupted at ticks, so it rests after as long as a tick takes.
        if now.duration_since(self.rested) >= TICK
            && let Some(rest) = call.pace.rest(now, load)
        {
            std::thread::sleep(rest.min(call.pace.deadline.saturating_duration_since(now)));
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
fn with<T>(look: impl FnOnce(&mut Running) -> T) -> Result<T, Box<EvalAltResult>> {
    CURRENT.with_borrow_mut(|call| call.as_mut().map(look)).ok_or_else(|| {
        "tables, kv, documents, log and context can be used while a call is served only".into()
    })
}

/// The call's transaction, when it may be used so.
pub(super) fn transaction(access: Access) -> Result<Arc<dyn Data>, Box<EvalAltResult>> {
    with(|running| match running.of.call.transaction(access) {
        Ok(Ok(transaction)) => Ok(transaction),
        Ok(Err(error)) => Err(thrown(error)),
        Err(error) => Err(ended(running.stop(Stop::Spent(error.to_string())))),
    })?
}

/// Asks something else of the host, which counts as well.
pub(super) fn host<T>(ask: impl FnOnce(&mut Current) -> T) -> Result<T, Box<EvalAltResult>> {
    with(|running| match running.of.call.count() {
        Ok(()) => Ok(ask(&mut running.of)),
        Err(error) => Err(ended(running.stop(Stop::Spent(error.to_string())))),
    })?
}

/// Writes to the log of the call. Outside of one nobody is there to read it.
pub(super) fn log(level: Level, text: &str) {
    let _ = host(|current| current.log.write(level, text));
}

/// Refuses a value that is too large to be written.
pub(super) fn check_written(value: &str) -> Result<(), Box<EvalAltResult>> {
    with(|running| running.of.call.check_written(value))?.map_err(thrown)
}

/// Asks a model, and parks the script until it has answered.
pub(super) fn ask(request: Request) -> Result<Answer, Box<EvalAltResult>> {
    // The future may not look at the thread's call, which it waits for elsewhere.
    let asked = host(|current| current.reach.ask(&current.call, request))?;
    park(async { asked.await?.whole().await })
}

/// Sends a request, and parks the script until it has the whole answer.
pub(super) fn fetch(request: fetch::Request) -> Result<fetch::Response, Box<EvalAltResult>> {
    park(host(|current| current.reach.fetch(&current.call, request))?)
}

/// Parks the script until the host has done something for it, or its time is over.
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

/// Ends a script in a way that it cannot catch.
fn ended(token: Dynamic) -> Box<EvalAltResult> {
    EvalAltResult::ErrorTerminated(token, Position::NONE).into()
}
