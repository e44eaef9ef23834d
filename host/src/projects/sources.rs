//! Detects changes to sources.
//!
//! As with the plugins folder, notifications from the file system only mean "look now", and so does
//! a slow timer; the listing decides. Folders are watched individually rather than recursively,
//! because packages and builds may leave a hundred thousand files in them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;

/// How long sources must stay unchanged before they count as saved. 100 ms: editors save several files one after the
/// other.
const SETTLE: Duration = Duration::from_millis(100);

/// How often sources are listed without a notification, as the plugins folder is.
const RESCAN: Duration = Duration::from_secs(2);

/// Output folders of builds and package managers. Names that start with a dot are ignored, too.
const BUILT: &[&str] = &["target", "node_modules", "dist", "build", "__pycache__"];

/// Nesting limit of folders. 32: anything deeper is not sources, but perhaps a link to itself.
const DEPTH: usize = 32;

/// The size and time of each source file, which identify a version.
type Listing = BTreeMap<PathBuf, (u64, Option<SystemTime>)>;

/// The sources of one project.
pub struct Sources {
    folder: PathBuf,
    /// Folders that do not belong to the sources.
    except: Vec<PathBuf>,
    changed: Arc<Notify>,
    /// `None` if the system cannot watch; the timer works regardless.
    watcher: Option<RecommendedWatcher>,
    watched: BTreeSet<PathBuf>,
    known: Listing,
}

impl Sources {
    /// Starts watching. The folders `except`, given as full paths, are ignored.
    pub fn watch(folder: &Path, except: Vec<PathBuf>) -> Self {
        let changed = Arc::new(Notify::new());
        let hint = changed.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Every build reads the sources, so ignore reads.
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

    /// Waits until the sources differ from when this last returned, and have settled.
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

    /// Whether the sources have changed since [`Self::changed`] last returned.
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
            // A folder that cannot be watched is still listed by the timer.
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
