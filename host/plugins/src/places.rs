//! So many calls of one kind at once, and so many more that wait for a place.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

pub(crate) struct Places {
    free: Arc<Semaphore>,
    waiting: AtomicUsize,
    max_waiting: usize,
}

/// How many were waiting already when a caller was turned away.
#[derive(Debug)]
pub(crate) struct Full(pub(crate) usize);

impl Places {
    pub(crate) fn new(count: usize, max_waiting: usize) -> Self {
        Self { free: Arc::new(Semaphore::new(count)), waiting: AtomicUsize::new(0), max_waiting }
    }

    /// Waits for a place, but not for long, and not when too many wait already. The place is free
    /// again when the permit is dropped.
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
            // The semaphore is never closed, so an error is the end of patience.
            _ => Err(Full(waiting.before)),
        }
    }
}

/// Counts one waiting caller for as long as it lives.
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
