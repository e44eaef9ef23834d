//! The threads that scripts run on.
//!
//! The interpreter runs a script on the calling thread from the first step to the last, and parks
//! that thread while the host works for it. So scripts never run on threads that serve requests.
//! The stack is large because expression trees are walked recursively; untouched pages cost
//! nothing. The number of threads is limited by the places of the plugins
//! ([`Limits::actions`](crate::Limits::actions) and its siblings) and, for all plugins together, by
//! [`AT_ONCE`] for each kind of call. Kinds are ranked as in [`crate::calls`], so there is no
//! deadlock.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use host_wasm::Load;
use parking_lot::Mutex;

use crate::call::Kind;
use crate::places::Places;

/// Scripts of one kind (actions, checks, parsing) that run at once, over all plugins. 64: enough
/// for four plugins that use all of their places.
const AT_ONCE: usize = 64;

/// Calls that wait for a thread, for each kind. 4,000: as many as four plugins may let wait.
const WAITING: usize = 4_000;

/// Idle threads kept for the next script. 8: an ordinary load needs no more.
const KEPT: usize = 8;

/// How long an idle thread is kept. 10 s: creating one takes 50 µs.
const IDLE: Duration = Duration::from_secs(10);

/// Bytes of a thread's stack. 32 MiB: the deepest script that the limits allow, in an unoptimised
/// build, takes a third of it.
const STACK: usize = 32 << 20;

type Job = Box<dyn FnOnce() + Send>;

pub(crate) struct Threads {
    idle: Arc<Mutex<Vec<SyncSender<Job>>>>,
    actions: Places,
    checks: Places,
    parses: Places,
    load: Load,
}

impl Threads {
    /// Scripts share the cores with everything else that counts in this load.
    pub(crate) fn new(load: Load) -> Self {
        let places = || Places::new(AT_ONCE, WAITING);
        let (actions, checks, parses) = (places(), places(), places());
        Self { idle: Arc::default(), actions, checks, parses, load }
    }

    /// How many calls are heavy at the moment.
    pub(super) fn load(&self) -> &Load {
        &self.load
    }

    /// The server-wide places for a kind of call.
    pub(super) fn places(&self, kind: Kind) -> &Places {
        match kind {
            Kind::Action => &self.actions,
            Kind::Check => &self.checks,
            Kind::Parse | Kind::Define => &self.parses,
        }
    }

    /// Runs a job on an idle thread, or on a new one.
    pub(super) fn run(&self, job: Job) -> io::Result<()> {
        let mut job = job;
        loop {
            let idle = self.idle.lock().pop();
            let Some(thread) = idle else { break };
            match thread.send(job) {
                Ok(()) => return Ok(()),
                // That thread has just ended.
                Err(unsent) => job = unsent.0,
            }
        }
        let idle = Arc::downgrade(&self.idle);
        let work = move || {
            let mut job = job;
            loop {
                job();
                let Some(idle) = idle.upgrade() else { return };
                let (sender, jobs) = sync_channel(1);
                {
                    let mut idle = idle.lock();
                    if idle.len() >= KEPT {
                        return;
                    }
                    idle.push(sender);
                }
                drop(idle);
                match jobs.recv_timeout(IDLE) {
                    Ok(next) => job = next,
                    // Whoever finds its sender in the list notices that it is gone.
                    Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return,
                }
            }
        };
        std::thread::Builder::new().name("script".into()).stack_size(STACK).spawn(work).map(drop)
    }
}

/// Runs something on a stack as a script has.
#[cfg(test)]
pub(super) fn with_stack(work: impl FnOnce() + Send + 'static) {
    let thread = std::thread::Builder::new().stack_size(STACK).spawn(work).expect("a thread");
    thread.join().expect("it ends well");
}
