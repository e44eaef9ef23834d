//! Notices that something in the plugins folder may have changed.
//!
//! The file system's notifications are only hints: they get lost (queues overflow, network folders
//! send none), arrive late, and differ between systems. The truth is a listing of the folder. So an
//! event only means "look now", and so does a slow timer; the code that reacts compares listings
//! and is the same for both. One kind of event says more: a file that was closed after writing, or
//! renamed into place, is probably complete and need not be waited for.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use notify::event::{AccessKind, AccessMode, ModifyKind, RenameMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::sources::{inode, plugins_of, within};

/// Watches one folder.
pub(crate) struct Watch {
    dir: PathBuf,
    signal: Arc<Signal>,
    /// The watcher and the identity of its folder: if the folder is moved, the watch moves with it.
    watcher: Option<(RecommendedWatcher, u64)>,
    /// Whether the folder can be watched; a failure is logged once.
    complained: bool,
}

#[derive(Default)]
struct Signal {
    changed: Notify,
    complete: Mutex<HashSet<String>>,
}

impl Watch {
    /// Starts watching. If that is impossible, only the timer remains, and the log says so.
    pub(crate) fn start(dir: &Path) -> Self {
        let mut watch =
            Self { dir: dir.into(), signal: Arc::default(), watcher: None, complained: false };
        watch.renew();
        watch
    }

    /// Waits for a notification.
    pub(crate) async fn changed(&self) {
        self.signal.changed.notified().await;
    }

    /// The plugins with a file that was closed or renamed into place since the last call.
    pub(crate) fn take_complete(&self) -> HashSet<String> {
        std::mem::take(&mut self.signal.complete.lock())
    }

    /// Starts again if the path leads to another folder than the one being watched.
    pub(crate) fn renew(&mut self) {
        let Ok(metadata) = std::fs::metadata(&self.dir) else {
            return;
        };
        let inode = inode(&metadata);
        if self.watcher.as_ref().is_some_and(|(_, watched)| *watched == inode) || self.complained {
            return;
        }
        match self.watcher() {
            Ok(watcher) => self.watcher = Some((watcher, inode)),
            Err(error) => {
                self.complained = true;
                tracing::warn!(
                    "{} cannot be watched ({error}); it is looked at every 2 s instead",
                    self.dir.display()
                );
            }
        }
    }

    fn watcher(&self) -> notify::Result<RecommendedWatcher> {
        let (signal, dir) = (self.signal.clone(), self.dir.clone());
        let mut watcher = notify::recommended_watcher(move |event| signal.take(&dir, event))?;
        watcher.watch(&self.dir, RecursiveMode::Recursive)?;
        Ok(watcher)
    }
}

impl Signal {
    fn take(&self, dir: &Path, event: notify::Result<Event>) {
        if let Ok(event) = event {
            match event.kind {
                EventKind::Access(AccessKind::Close(AccessMode::Write))
                | EventKind::Modify(ModifyKind::Name(RenameMode::To | RenameMode::Both)) => {
                    let file = event.paths.last().and_then(|path| within(dir, path));
                    self.complete.lock().extend(file.iter().flat_map(|file| plugins_of(file)));
                }
                // Our own reads of the files are not changes.
                EventKind::Access(_) => return,
                _ => {}
            }
        }
        self.changed.notify_one();
    }
}
