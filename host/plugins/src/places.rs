//! Limits the calls of one kind that run at once, and those that wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

pub(crate) struct Places {
    free: Arc<Semaphore>,
    waiting: AtomicUsize,
    max_waiting: usize,
}

/// How many calls were waiting when one was rejected.
#[derive(Debug)]
pub(crate) struct Full(pub(crate) usize);

impl Places {
    pub(crate) fn new(count: usize, max_waiting: usize) -> Self {
        Self { free: Arc::new(Semaphore::new(count)), waiting: AtomicUsize::new(0), max_waiting }
    }

    /// Waits for a place, but only for a limited time, and not if too many wait already. Dropping
    /// the permit releases the place.
    pub(crate) async fn enter(&self, patience: Duration) -> Result<OwnedSemaphorePermit, Full> {
        if let Ok(permit) = self.free.clone().try_acquire_owned() {
            return Ok(permit);
        }
        let waiting = Waiting::enter(&self.waiting);
        if waiting.before >= self.max_waiting {
            return Err(Full(waiting.before));
        }
        match tokio::time::timeout(patience, self.free.clone().acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            // The semaphore is never closed, so an error means the timeout.
            _ => Err(Full(waiting.before)),
        }
    }
}

/// Counts one waiting call until it is dropped.
struct Waiting<'p> {
    count: &'p AtomicUsize,
    before: usize,
}

impl<'p> Waiting<'p> {
    fn enter(count: &'p AtomicUsize) -> Self {
        Self { count, before: count.fetch_add(1, Ordering::Relaxed) }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}
