//! Learns that something in the plugins folder may have changed.
//!
//! The file system's notifications are hints and nothing more: they get lost (queues overflow, network
//! folders send none), come late, and differ between systems. The truth is what a listing of the
//! folder says. So an event only says "look now", and a slow timer says it too; the code that acts
//! compares listings and is the same for both. One kind of event says more: that a file was
//! closed after writing, or renamed into place, so that it is probably complete and need not be waited
//! for.

use std::collections::{BTreeMap, HashSet};
use std::fs::Metadata;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use notify::event::{AccessKind, AccessMode, ModifyKind, RenameMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use parking_lot::Mutex;
use tokio::sync::Notify;

/// Tells versions of a file apart without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fingerprint {
    len: u64,
    modified: Option<SystemTime>,
    inode: u64,
}

/// The plugins in the folder, by name. Follows links, takes regular files only.
pub(crate) fn list(dir: &Path) -> io::Result<BTreeMap<String, Fingerprint>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(dir)?.flatten() {
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        if !is_plugin(&name) {
            continue;
        }
        // A link to nowhere, or a file that went away since: not there.
        let Ok(metadata) = std::fs::metadata(entry.path()) else {
            continue;
        };
        if metadata.is_file() {
            found.insert(name, fingerprint(&metadata));
        }
    }
    Ok(found)
}

/// Editors and copying tools write beside the file first, under names that begin with a dot or a
/// tilde, or end otherwise: `.blog.wasm.swp`, `blog.wasm~`, `blog.wasm.tmp`, `4913`.
fn is_plugin(name: &str) -> bool {
    name.ends_with(".wasm") && !name.starts_with(['.', '~', '#'])
}

fn fingerprint(metadata: &Metadata) -> Fingerprint {
    Fingerprint { len: metadata.len(), modified: metadata.modified().ok(), inode: inode(metadata) }
}

#[cfg(unix)]
fn inode(metadata: &Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(metadata)
}

#[cfg(not(unix))]
fn inode(_metadata: &Metadata) -> u64 {
    0
}

/// Watches one folder.
pub(crate) struct Watch {
    dir: PathBuf,
    signal: Arc<Signal>,
    /// The watcher, and which folder it watches: one that is moved away takes its watch with it.
    watcher: Option<(RecommendedWatcher, u64)>,
    /// Whether the folder can be watched at all; said once when it cannot.
    complained: bool,
}

#[derive(Default)]
struct Signal {
    changed: Notify,
    complete: Mutex<HashSet<String>>,
}

impl Watch {
    /// Begins to watch. Where that is not possible, only the timer remains, and the log says so.
    pub(crate) fn start(dir: &Path) -> Self {
        let mut watch =
            Self { dir: dir.into(), signal: Arc::default(), watcher: None, complained: false };
        watch.renew();
        watch
    }

    /// Waits for a hint.
    pub(crate) async fn changed(&self) {
        self.signal.changed.notified().await;
    }

    /// The files that were closed or renamed into place since the last call.
    pub(crate) fn take_complete(&self) -> HashSet<String> {
        std::mem::take(&mut self.signal.complete.lock())
    }

    /// Begins anew when the path leads to another folder than the one that is watched.
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
        let signal = self.signal.clone();
        let mut watcher = notify::recommended_watcher(move |event| signal.take(event))?;
        watcher.watch(&self.dir, RecursiveMode::NonRecursive)?;
        Ok(watcher)
    }
}

impl Signal {
    fn take(&self, event: notify::Result<Event>) {
        if let Ok(event) = event {
            match event.kind {
                EventKind::Access(AccessKind::Close(AccessMode::Write))
                | EventKind::Modify(ModifyKind::Name(RenameMode::To | RenameMode::Both)) => {
                    let file = event.paths.last().and_then(|path| path.file_name()?.to_str());
                    if let Some(file) = file.filter(|file| is_plugin(file)) {
                        self.complete.lock().insert(file.into());
                    }
                }
                // Our own reading of the files is no news.
                EventKind::Access(_) => return,
                _ => {}
            }
        }
        self.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::is_plugin;

    #[test]
    fn temporary_files_of_editors_are_not_plugins() {
        for name in [
            ".blog.wasm",
            "blog.wasm~",
            "blog.wasm.tmp",
            ".blog.wasm.swp",
            "4913",
            "#blog.wasm#",
            "~blog.wasm",
        ] {
            assert!(!is_plugin(name), "{name}");
        }
        assert!(is_plugin("blog.wasm"));
    }
}
