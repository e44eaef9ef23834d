//! Learns that sources have changed.
//!
//! As with the plugins folder, the file system's notifications only say "look now", and a slow timer
//! says it too; what is true is what a listing says. Folders are watched one by one and not with all
//! that is in them, because what packages and builds leave there can be a hundred thousand files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;

/// How long sources must stand still. 100 ms: editors save several files one after the other.
const SETTLE: Duration = Duration::from_millis(100);

/// How often they are looked at without a hint, as the plugins folder is.
const RESCAN: Duration = Duration::from_secs(2);

/// What builds and packages leave among the sources; and whatever begins with a dot.
const BUILT: &[&str] = &["target", "node_modules", "dist", "build", "__pycache__"];

/// Folders within folders. 32: deeper ones are no sources, but perhaps a link to themselves.
const DEPTH: usize = 32;

/// Tells versions of the sources apart.
type Listing = BTreeMap<PathBuf, (u64, Option<SystemTime>)>;

/// The sources of one project.
pub struct Sources {
    folder: PathBuf,
    /// Folders that are none of it.
    except: Vec<PathBuf>,
    changed: Arc<Notify>,
    /// None where nothing can be watched; then the timer remains.
    watcher: Option<RecommendedWatcher>,
    watched: BTreeSet<PathBuf>,
    known: Listing,
}

impl Sources {
    /// Begins to watch. What is in the folders `except`, full paths, does not count.
    pub fn watch(folder: &Path, except: Vec<PathBuf>) -> Self {
        let changed = Arc::new(Notify::new());
        let hint = changed.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // That somebody reads them, as every build does, is no news.
            if !matches!(event, Ok(notify::Event { kind: EventKind::Access(_), .. })) {
                hint.notify_one();
            }
        });
        let mut sources = Self {
            folder: folder.into(),
            except,
            changed,
            watcher: watcher.ok(),
            watched: BTreeSet::new(),
            known: Listing::new(),
        };
        sources.known = sources.list();
        sources
    }

    /// Waits until they differ from what they were when this returned last, and stand still.
    pub async fn changed(&mut self) {
        let mut seen = self.list();
        loop {
            if seen != self.known {
                tokio::time::sleep(SETTLE).await;
                let now = self.list();
                if now == seen {
                    self.known = seen;
                    return;
                }
                seen = now;
                continue;
            }
            let _ = tokio::time::timeout(RESCAN, self.changed.notified()).await;
            seen = self.list();
        }
    }

    /// Whether they differ from what they were when [`Self::changed`] returned last.
    pub fn have_changed(&mut self) -> bool {
        self.list() != self.known
    }

    fn list(&mut self) -> Listing {
        let mut listing = Listing::new();
        let mut folders = BTreeSet::new();
        self.walk(&self.folder, DEPTH, &mut listing, &mut folders);
        if let Some(watcher) = &mut self.watcher {
            for gone in self.watched.difference(&folders) {
                let _ = watcher.unwatch(gone);
            }
            // One that cannot be watched is looked at by the timer.
            for new in folders.difference(&self.watched) {
                let _ = watcher.watch(new, RecursiveMode::NonRecursive);
            }
        }
        self.watched = folders;
        listing
    }

    fn walk(
        &self,
        folder: &Path,
        depth: usize,
        files: &mut Listing,
        folders: &mut BTreeSet<PathBuf>,
    ) {
        let Ok(entries) = std::fs::read_dir(folder) else { return };
        folders.insert(folder.into());
        for entry in entries.flatten() {
            let (name, path) = (entry.file_name(), entry.path());
            let name = name.to_string_lossy();
            // Cargo and npm write their lock files while they build.
            let is_lock = matches!(&*name, "Cargo.lock" | "package-lock.json");
            if name.starts_with('.') || name.ends_with('~') || is_lock {
                continue;
            }
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.is_file() {
                files.insert(path, (metadata.len(), metadata.modified().ok()));
            } else if metadata.is_dir()
                && depth > 0
                && !BUILT.contains(&&*name)
                && !self.except.contains(&path)
            {
                self.walk(&path, depth - 1, files, folders);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_saved_counts_and_what_a_build_leaves_does_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        for name in ["src", "target", "plugins"] {
            std::fs::create_dir(path(name)).expect("a folder");
        }
        let mut sources = Sources::watch(folder.path(), vec![path("plugins")]);
        for name in ["target/a.o", "plugins/a.wasm", "src/.a.swp", "Cargo.lock"] {
            std::fs::write(path(name), "x").expect("a file");
            assert!(!sources.have_changed(), "{name}");
        }
        std::fs::write(path("src/a.c"), "x").expect("a file");
        sources.changed().await;
        assert!(!sources.have_changed());
        std::fs::create_dir(path("src/new")).expect("a folder");
        std::fs::write(path("src/new/b.c"), "x").expect("a file");
        sources.changed().await;
        std::fs::remove_file(path("src/a.c")).expect("it is there");
        sources.changed().await;
        assert!(!sources.have_changed());
    }
}
