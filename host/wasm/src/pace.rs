//! How long a call may run, and how long calls share the cores.
//!
//! Yielding at each tick alone would let ten spinning guests take ten of every eleven ticks. A call that
//! has run for longer than [`HEAVY_AFTER`] is *heavy*: at each tick it rests in proportion to how many
//! others are heavy, so that all heavy calls together get about half of the cores, and a quick one
//! finds a thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::limits::{HEAVY_AFTER, REST_MAX, TICK};

/// The time of one call.
pub struct Pace {
    /// When it began.
    pub started: Instant,
    /// When it is stopped.
    pub deadline: Instant,
    /// Present once the call has run for long.
    heavy: Option<Heavy>,
}

impl Pace {
    /// A call that begins now and may take so long.
    pub fn new(limit: Duration) -> Self {
        let started = Instant::now();
        Self { started, deadline: started + limit, heavy: None }
    }

    /// How long the call rests after a tick of work; none while it is not heavy.
    pub fn rest(&mut self, now: Instant, load: &Load) -> Option<Duration> {
        if now.duration_since(self.started) < HEAVY_AFTER {
            return None;
        }
        Some(self.heavy.get_or_insert_with(|| Heavy::enter(load)).rest())
    }
}

/// How many calls are heavy now, of all guests of a server.
#[derive(Clone, Default)]
pub struct Load(Arc<AtomicUsize>);

/// Counts one heavy call for as long as it lives.
struct Heavy(Load);

impl Heavy {
    fn enter(load: &Load) -> Self {
        load.0.fetch_add(1, Ordering::Relaxed);
        Self(load.clone())
    }

    /// How long to rest after a tick of work, so that the heavy calls share half of the cores.
    fn rest(&self) -> Duration {
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
        let share = (cores / 2).max(1);
        let heavy = self.0.0.load(Ordering::Relaxed);
        let ticks = u32::try_from(heavy.saturating_sub(share) / share).unwrap_or(REST_MAX);
        TICK * ticks.min(REST_MAX)
    }
}

impl Drop for Heavy {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}
