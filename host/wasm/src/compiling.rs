//! Whose turn it is to be compiled.
//!
//! Each compilation uses all cores, so few run at once and the others wait. How long one waited is kept
//! apart from how long it took, because it says nothing about the plugin.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::{Semaphore, SemaphorePermit};

/// The places for compilations.
pub struct Compiling {
    places: Semaphore,
    // Held for reads and assignments, never across an await.
    files: Mutex<Vec<Arc<str>>>,
}

/// A turn; it ends when this is dropped.
pub struct Turn<'c> {
    compiling: &'c Compiling,
    file: Arc<str>,
    /// How long the caller waited for it.
    pub waited: Duration,
    _place: Option<SemaphorePermit<'c>>,
}

impl Compiling {
    /// Places for so many at once.
    pub fn new(places: usize) -> Self {
        Self { places: Semaphore::new(places), files: Mutex::default() }
    }

    /// Waits for a plugin's turn.
    pub async fn turn(&self, file: &Arc<str>) -> Turn<'_> {
        let asked = Instant::now();
        // The semaphore is never closed; were it, compiling would merely be unbounded.
        let place = self.places.acquire().await.ok();
        self.files.lock().push(file.clone());
        Turn { compiling: self, file: file.clone(), waited: asked.elapsed(), _place: place }
    }

    /// The files that are compiled now.
    pub fn files(&self) -> Vec<Arc<str>> {
        self.files.lock().clone()
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut files = self.compiling.files.lock();
        if let Some(place) = files.iter().position(|file| *file == self.file) {
            files.remove(place);
        }
    }
}
