//! The plugins folder: serves the plugins in it, and applies changes while the server runs.
//!
//! A plugin is named by its main file and consists of that file and the related ones beside it
//! ([`crate::sources`]); below, *file* means any of them. One task owns the folder. It lists the
//! files, compares the listing with what it knows (`entry` has the states of a file), and starts
//! jobs (`jobs`): *load* (read, compile, ask for the definition), *mount* (parse every row with the
//! new logic, then swap), *unmount*. A plugin has at most one job at a time; the next listing
//! notices what happened meanwhile. Requests never wait for any of this: the old version serves
//! until the new one has taken over, and keeps serving if the new one fails.
//!
//! **When is a file complete?** Writers do not say. A file that was just closed after writing, or
//! renamed into place, is tried at once; any other change must be stable for [`SETTLE`]. A file
//! that was tried at once and failed is tried again when it is stable, before an error is reported.
//!
//! **When is a file gone?** Editors and `cp` remove a file and create it again. So a missing file
//! counts as gone only after [`GRACE`], and its workspace is served until then. A rename appears as
//! one file that is gone and another that defines the same workspace: the second takes over from
//! the first without a gap.
//!
//! **Who owns a workspace?** The first file that defines it (`owners`). Another file that defines
//! the same workspace gets an error that names both, and is tried again when the first goes away.
//! At startup all files are there at once, and the first by name wins. Which one that is only
//! becomes clear when all are loaded. Nobody waits for that: a loaded file is mounted, and gives
//! way if an earlier one turns up.
//!
//! **When is it optimised?** A plugin that is not in the cache starts with code from the baseline
//! compiler ([`host_wasm::Engine`]). It is optimised once it has been served for a second, so that
//! an author who saves repeatedly pays for it once. Plugins are optimised one at a time, in the
//! background.
//!
//! **What is retried?** A file that cannot be loaded fails in the same way until it changes. A
//! mount may fail for an external reason (a full disk, a busy machine), so it is retried at
//! increasing intervals.

mod entry;
mod jobs;
mod owners;
mod progress;

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use host_wasm::{Allocation, Cache, Compile};
use host_workspace::{Logic, MountError, Mounted};
use parking_lot::Mutex;
use tokio::task::{JoinError, JoinHandle};
use tokio_util::sync::{CancellationToken, DropGuard};

use self::entry::{Entry, Next, Serving, State};
use self::jobs::{Done, Jobs, New};
use self::owners::{Claim, Owners};
use self::progress::Progress;
use crate::engine::Engine;
use crate::limits::Limits;
use crate::mounts::Mounts;
use crate::plugin::{LoadError, Workshop};
use crate::reach::ai::Models;
use crate::sources::{self, Fingerprint};
use crate::status::PluginStatus;
use crate::watch::Watch;

/// How long a file must be unchanged. 50 ms: longer than the pause between two writes of a copy,
/// and too short for a person to notice.
const SETTLE: Duration = Duration::from_millis(50);

/// How long to wait for a missing file to return. 300 ms: editors that replace a file by removing
/// it first take a few.
const GRACE: Duration = Duration::from_millis(300);

/// How often the folder is listed without a notification. 2 s: a listing takes microseconds, and
/// where there are no notifications a person should not wait longer.
const RESCAN: Duration = Duration::from_secs(2);

/// How long notifications are collected. 5 ms: copying one file causes thousands.
const GATHER: Duration = Duration::from_millis(5);

/// First and longest delay before a failed mount is retried. 1 s: the machine may have recovered;
/// 60 s: a mount parses all rows, so constant retries would only add load.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// How long shutdown waits for jobs. 5 s: a mount is done by then, and a long compilation may be
/// abandoned.
const ENDING: Duration = Duration::from_secs(5);

/// Plugins compiled at once. Each compilation uses all cores and up to 400 MB.
const COMPILING: usize = 2;

/// Where plugins come from, and what they may use.
#[derive(Debug, Clone)]
pub struct PluginsConfig {
    /// The folder to watch; created if it is missing.
    pub dir: PathBuf,
    /// The cache of compiled plugins; created if it is missing, readable by this account only.
    pub cache_dir: PathBuf,
    /// The limits of each plugin.
    pub limits: Limits,
    /// How instances allocate their memory.
    pub allocation: Allocation,
    /// Which compiler produces a plugin's first code.
    pub compile: Compile,
    /// Whether to keep a compiler process ready, so that changed files do not wait for it to start.
    pub keep_ready: bool,
    /// The models that plugins may use; `None` if there are none.
    pub models: Option<Arc<dyn Models>>,
}

impl PluginsConfig {
    /// The defaults for everything except the folders.
    pub fn new(dir: impl Into<PathBuf>, cache_dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            cache_dir: cache_dir.into(),
            limits: Limits::default(),
            allocation: Allocation::Auto,
            compile: Compile::Twice,
            keep_ready: true,
            models: None,
        }
    }
}

impl PluginsConfig {
    /// The same, with models for plugins that are granted AI.
    pub fn with_models(self, models: Arc<dyn Models>) -> Self {
        Self { models: Some(models), ..self }
    }
}

/// Why the plugins could not be opened at all. A broken plugin is not such a reason.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The folder cannot be created or read.
    #[error("the plugins folder {}: {error}", dir.display())]
    Folder {
        /// The folder.
        dir: PathBuf,
        /// The system's error.
        error: io::Error,
    },
    /// This machine cannot run WebAssembly as required.
    #[error("the WebAssembly engine could not start: {0}")]
    Engine(wasmtime::Error),
}

/// All plugins of a server. Cheap to clone; dropping the last clone ends the watching.
#[derive(Clone)]
pub struct Plugins {
    inner: Arc<Inner>,
}

struct Inner {
    files: Arc<Files>,
    mounts: Arc<dyn Mounts>,
    stop: CancellationToken,
    task: tokio::sync::Mutex<Option<JoinHandle<()>>>,
    _stop: DropGuard,
}

impl Plugins {
    /// Loads and mounts every plugin in the folder, then watches it. When this returns, every
    /// plugin that works is being served; [`Plugins::status`] lists the errors.
    pub async fn open(config: PluginsConfig, mounts: impl Mounts) -> Result<Self, OpenError> {
        let PluginsConfig { dir, cache_dir, limits, allocation, compile, keep_ready, models } =
            config;
        let engine = Engine::new(allocation, compile).map_err(OpenError::Engine)?;
        let engine = engine.with_models(models);
        if keep_ready {
            engine.wasm.engine.prepare();
        }
        let folder_error = |error| OpenError::Folder { dir: dir.clone(), error };
        std::fs::create_dir_all(&dir).map_err(folder_error)?;
        let mounts: Arc<dyn Mounts> = Arc::new(mounts);
        let cache = Cache::open(&cache_dir)
            .inspect_err(|error| {
                tracing::warn!(
                    "compiled plugins cannot be kept in {} ({error}); each start compiles them again",
                    cache_dir.display()
                );
            })
            .ok();
        let files: Arc<Files> = Arc::default();
        let workshop = Workshop::new(engine, cache.map(Arc::new), COMPILING);
        let mut folder = Folder {
            // Watch before listing, so that no change is missed in between.
            watch: Watch::start(&dir),
            jobs: Jobs::new(dir.clone(), workshop, limits, mounts.clone()),
            files: files.clone(),
            owners: Owners::default(),
            complete: HashSet::new(),
            unreadable: false,
            starting: true,
            held: Vec::new(),
        };
        folder.load_all(sources::list(&dir).map_err(folder_error)?).await;
        let stop = CancellationToken::new();
        let task = tokio::spawn(folder.run(stop.clone()));
        Ok(Self {
            inner: Arc::new(Inner {
                files,
                mounts,
                _stop: stop.clone().drop_guard(),
                stop,
                task: tokio::sync::Mutex::new(Some(task)),
            }),
        })
    }

    /// Every file in the folder, by name.
    pub fn status(&self) -> Vec<PluginStatus> {
        let entries = self.inner.files.entries.lock();
        entries.iter().map(|(file, entry)| entry.status(file, &*self.inner.mounts)).collect()
    }

    /// Stops watching, and waits for a mount in progress. Mounted workspaces stay mounted.
    pub async fn shutdown(&self) {
        self.inner.stop.cancel();
        if let Some(task) = self.inner.task.lock().await.take()
            && let Err(error) = task.await
        {
            tracing::error!("the plugins folder's task failed: {error}");
        }
    }
}

/// What is known about the files, shared between the folder's task and readers of the status.
#[derive(Default)]
struct Files {
    // Locked for reads and assignments only, never across an await.
    entries: Mutex<BTreeMap<String, Entry>>,
}

/// How certain it is that a file is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    /// It was just closed or renamed into place.
    Early,
    /// It has been stable.
    Settled,
}

struct Folder {
    jobs: Jobs,
    watch: Watch,
    files: Arc<Files>,
    owners: Owners,
    /// Files that are probably complete and have not been examined since.
    complete: HashSet<String>,
    /// Whether the last attempt to read the folder failed.
    unreadable: bool,
    /// Whether this is the first load, which the startup summary reports.
    starting: bool,
    /// At startup: loaded plugins that wait until the workspace has been given up for them.
    held: Vec<(String, New)>,
}

impl Folder {
    /// The first load. Each plugin is mounted as soon as it is loaded, so that a slow file delays
    /// no other. In the end each workspace is owned by the first by name of the files that define
    /// it.
    async fn load_all(&mut self, found: BTreeMap<String, Fingerprint>) {
        for (file, version) in found {
            self.load(&file, version, Look::Settled);
        }
        let mut progress = Progress::default();
        let mut next = Instant::now() + progress::EVERY;
        while !self.jobs.is_empty() {
            tokio::select! {
                Some(done) = self.jobs.next() => self.done(done),
                () = tokio::time::sleep_until(next.into()) => {
                    next += progress::EVERY;
                    let entries = self.files.entries.lock();
                    let files = entries.iter().map(|(file, entry)| (&**file, entry.is_working()));
                    progress.tell(files, &self.jobs.workshop.compiling().files());
                }
            }
            let mut held = std::mem::take(&mut self.held);
            held.sort_by(|a, b| a.0.cmp(&b.0));
            for (file, new) in held {
                self.mount(file, new);
            }
        }
        self.starting = false;
        // Files that wait for a workspace that in the end nobody took are tried now.
        let entries = self.files.entries.lock();
        let free = |entry: &Entry| match &entry.state {
            State::Waiting { workspace } => !self.owners.has(workspace),
            _ => false,
        };
        let waiting = entries.iter().filter(|(_, entry)| free(entry));
        self.complete.extend(waiting.map(|(file, _)| file.clone()));
    }

    async fn run(mut self, stop: CancellationToken) {
        let mut next = Instant::now();
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep_until(next.into()) => {}
                () = self.watch.changed() => tokio::time::sleep(GATHER).await,
                ended = self.jobs.ended() => match ended {
                    Some(done) => self.done(done),
                    None => continue,
                },
            }
            next = self.look().await;
        }
        // Aborting a mount would leave the workspace between two versions. A compilation may be
        // abandoned, because its thread ends by itself.
        while let Ok(Some(done)) = tokio::time::timeout(ENDING, self.jobs.next()).await {
            self.done(done);
        }
    }

    /// Lists the folder and starts the jobs that are due. Returns when to look again.
    async fn look(&mut self) -> Instant {
        let now = Instant::now();
        self.watch.renew();
        self.complete.extend(self.watch.take_complete());
        let dir = self.jobs.dir.clone();
        let listed = tokio::task::spawn_blocking(move || sources::list(&dir)).await;
        let found = match listed.unwrap_or_else(|panic| Err(io::Error::other(panic))) {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            // A folder that cannot be read says nothing about its files.
            Err(error) => {
                if !std::mem::replace(&mut self.unreadable, true) {
                    tracing::warn!("{} cannot be read: {error}", self.jobs.dir.display());
                }
                return now + RESCAN;
            }
        };
        self.unreadable = false;
        let mut again = now + RESCAN;
        let mut load = Vec::new();
        let mut gone = Vec::new();
        {
            let mut entries = self.files.entries.lock();
            for file in found.keys() {
                entries.entry(file.clone()).or_default();
            }
            for (file, entry) in entries.iter_mut() {
                let next = match found.get(file) {
                    Some(version) => {
                        // A file with a running job is examined when the job has ended.
                        let complete = !entry.is_working() && self.complete.remove(file);
                        entry.found(version, complete, now)
                    }
                    None => entry.not_found(now),
                };
                match (next, found.get(file)) {
                    (Next::Look(at), _) => again = again.min(at),
                    (Next::Load(look), Some(version)) => {
                        load.push((file.clone(), version.clone(), look));
                    }
                    (Next::Forget, _) => gone.push(file.clone()),
                    (Next::Nothing | Next::Load(_), _) => {}
                }
                if let Some(serving) = &entry.serving {
                    serving.plugin.trim();
                }
            }
        }
        self.complete.retain(|file| found.contains_key(file));
        for (file, version, look) in load {
            self.load(&file, version, look);
        }
        for file in gone {
            self.gone(&file);
        }
        again
    }

    /// Applies a function to an entry, which is created if it does not exist.
    fn entry<T>(&self, file: &str, with: impl FnOnce(&mut Entry) -> T) -> T {
        with(self.files.entries.lock().entry(file.to_owned()).or_default())
    }

    fn load(&mut self, file: &str, version: Fingerprint, look: Look) {
        let served = self.entry(file, |entry| {
            entry.take_up(&version);
            entry.serving.as_ref().map(|serving| (serving.hash, serving.plugin.clone()))
        });
        self.jobs.load(file, version, look, served);
    }

    fn done(&mut self, done: Result<Done, JoinError>) {
        match done {
            Ok(Done::Loaded { file, look, result }) => self.loaded(file, look, result),
            Ok(Done::Mounted { file, new, result }) => self.mounted(file, new, result),
            Ok(Done::Unmounted { workspace }) => self.release(&workspace),
            Err(error) => tracing::error!("a job of the plugins folder failed: {error}"),
        }
    }

    fn loaded(&mut self, file: String, look: Look, result: Result<Option<New>, LoadError>) {
        match result {
            Ok(Some(new)) => self.mount(file, new),
            Ok(None) => self.entry(&file, Entry::succeeded),
            // It may still be being written.
            Err(_) if look == Look::Early => self.entry(&file, Entry::settle),
            Err(error) => {
                self.entry(&file, |entry| entry.state = State::Idle);
                self.failed(&file, error.reason);
            }
        }
    }

    /// Mounts a loaded plugin if its workspace is free.
    fn mount(&mut self, file: String, new: New) {
        let workspace = new.plugin.definition().id.clone();
        match self.owners.claim(&workspace, &file) {
            Claim::Free => {}
            Claim::Leaving if self.starting => return self.held.push((file, new)),
            Claim::Leaving => {
                return self.entry(&file, |entry| entry.state = State::Waiting { workspace });
            }
            Claim::Taken(owner) if self.starting && file < owner => {
                self.displace(&owner, &file, &workspace);
                return self.held.push((file, new));
            }
            Claim::Taken(owner) => {
                if !self.take_over(&owner) {
                    let reason = defined_already(&workspace, &owner);
                    self.entry(&file, |entry| entry.state = State::Waiting { workspace });
                    return self.failed(&file, reason);
                }
            }
        }
        self.owners.set(workspace, file.clone());
        self.jobs.mount(file, new);
    }

    /// Takes a workspace from a file that is not the first by name, once its mount is done.
    fn displace(&mut self, owner: &str, first: &str, workspace: &str) {
        {
            let mut entries = self.files.entries.lock();
            match entries.get_mut(owner) {
                Some(entry) if !entry.is_working() => {
                    entry.serving = None;
                    entry.state = State::Waiting { workspace: workspace.to_owned() };
                }
                _ => return,
            }
            for entry in entries.values_mut().filter(|entry| entry.waits_for(workspace)) {
                entry.error = Some(defined_already(workspace, first));
            }
        }
        self.unmount(workspace.to_owned());
    }

    /// Forgets a file that is missing already, so that the file it was renamed to can serve its
    /// workspace without a gap. Returns false if the file still exists.
    fn take_over(&mut self, owner: &str) -> bool {
        let mut entries = self.files.entries.lock();
        let missing = entries.get(owner).is_some_and(Entry::is_missing);
        if missing {
            entries.remove(owner);
        }
        missing
    }

    fn mounted(&mut self, file: String, new: New, result: Result<Mounted, MountError>) {
        let workspace = new.plugin.definition().id.clone();
        let mounted = match result {
            Ok(mounted) => mounted,
            Err(error) => {
                let serves = self.entry(&file, |entry| {
                    entry.retry();
                    entry.serving.as_ref().is_some_and(|serving| serving.workspace == workspace)
                });
                if !serves {
                    // If this were a rename, the old file's logic would be left behind.
                    self.unmount(workspace);
                }
                return self.failed(&file, format!("its rows could not be taken over: {error}"));
            }
        };
        self.jobs.optimise(&new.plugin);
        let took = new.took;
        let serving = Serving {
            workspace: workspace.clone(),
            hash: new.hash,
            size: new.size,
            loaded_at: unix_ms(),
            took,
            from_cache: new.from_cache,
            plugin: new.plugin,
        };
        let before = self.entry(&file, |entry| {
            entry.succeeded();
            entry.serving.replace(serving)
        });
        let what = if before.is_some() { "reloaded" } else { "loaded" };
        let rows = match (mounted.rows, mounted.invalid) {
            (1, 0) => "1 row".to_owned(),
            (rows, 0) => format!("{rows} rows"),
            (rows, invalid) => format!("{rows} rows, {invalid} of them invalid"),
        };
        let line = format!("{file} {what}: workspace {workspace}, {rows}, {} ms", ms(took));
        if self.starting {
            tracing::debug!("{line}");
        } else {
            tracing::info!("{line}");
        }
        if let Some(before) = before
            && before.workspace != workspace
        {
            tracing::info!("{file} no longer defines the workspace {}", before.workspace);
            self.unmount(before.workspace);
        }
    }

    /// Records why the latest version of a file is not served.
    fn failed(&mut self, file: &str, reason: String) {
        let line = reason.replace('\n', "; ");
        let serves = self.entry(file, |entry| {
            entry.error = Some(reason);
            entry.serving.is_some()
        });
        let kept = if serves { " (the version before it keeps serving)" } else { "" };
        if self.starting {
            tracing::debug!("{file} not loaded: {line}");
        } else {
            tracing::error!("{file} not loaded: {line}{kept}");
        }
    }

    fn gone(&mut self, file: &str) {
        let entry = self.files.entries.lock().remove(file);
        match entry.and_then(|entry| entry.serving) {
            Some(serving) => {
                tracing::info!(
                    "{file} is gone: workspace {} is no longer served",
                    serving.workspace
                );
                self.unmount(serving.workspace);
            }
            None => tracing::info!("{file} is gone"),
        }
    }

    fn unmount(&mut self, workspace: String) {
        self.owners.leave(&workspace);
        self.jobs.unmount(workspace);
    }

    /// Releases a workspace. The next look loads files that wait for it.
    fn release(&mut self, workspace: &str) {
        self.owners.remove(workspace);
        // At startup it is released for another file, and files that wait for it are tried at the
        // end.
        if self.starting {
            return;
        }
        let entries = self.files.entries.lock();
        let waiting = entries.iter().filter(|(_, entry)| entry.waits_for(workspace));
        self.complete.extend(waiting.map(|(file, _)| file.clone()));
    }
}

fn defined_already(workspace: &str, owner: &str) -> String {
    format!(
        "it defines the workspace {workspace}, which {owner} defines already; remove one of the two, or \
         give one another id"
    )
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn unix_ms() -> u64 {
    ms(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}
