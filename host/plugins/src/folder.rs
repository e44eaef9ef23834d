//! The plugins folder: what lies in it is served, and what changes in it takes effect.
//!
//! A plugin is known by its main file, and is what that file and those beside it make together
//! ([`crate::sources`]); where it says *file* below, any of them is meant. One task owns the folder. It lists
//! the files, compares with what it knows, and starts jobs: *load* (read, compile, ask for the
//! definition), *mount* (parse every row with the new logic, then swap), *unmount*. A plugin has at
//! most one job at a time; what happens to it meanwhile is seen by the next listing. Requests never wait for any of this: the old version serves until the new one
//! has taken over, and when the new one fails it goes on serving.
//!
//! **When is a file complete?** Writers do not say. A file that was just closed after writing or renamed
//! into place is tried at once; any other change must stand still for [`SETTLE`]. A file that was
//! tried at once and failed is tried again after standing still, before anybody is told that it is
//! broken.
//!
//! **When is it gone?** Editors and `cp` remove a file and create it again. So a missing file is
//! only believed after [`GRACE`]; its workspace serves until then. A rename shows as one file that is
//! gone and another that defines the same workspace: the second takes over from the first without a
//! gap.
//!
//! **Who owns a workspace?** The first file that defines it. Another file that defines the same one
//! gets an error that names both, and its chance when the first goes away. At the start all files are
//! there at once, and the first is the first by name. Which one that is comes out when it is loaded, and
//! nobody waits for that: what is loaded is mounted, and gives way if another turns out to be the first.
//!
//! **When is it optimised?** A plugin that was not compiled before begins with code that was made in haste
//! ([`crate::engine`]). Better code is made once it has been served for [`PROVEN`], so that an author who saves
//! again and again pays for it once, one plugin after the other, beside everything else.
//!
//! **What is tried again?** A file that cannot be loaded fails again in the same way until it changes. A
//! mount may fail for a reason outside of it (a full disk, a busy machine), so that is tried again
//! after a while, at longer and longer intervals.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures_util::FutureExt;
use host_workspace::{Logic, MountError, Mounted};
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::ai::Models;
use crate::cache::Cache;
use crate::compiling::Compiling;
use crate::component::{Hash, LoadError};
use crate::engine::{Allocation, Compile, Engine};
use crate::limits::Limits;
use crate::mounts::Mounts;
use crate::plugin::Plugin;
use crate::sources::{self, Fingerprint, Sources};
use crate::status::{PluginState, PluginStatus};
use crate::watch::Watch;

/// How long a file must stand still. 50 ms: longer than the pause between two writes of a copy,
/// shorter than a person notices.
const SETTLE: Duration = Duration::from_millis(50);

/// How long a missing file is waited for. 300 ms: editors that replace a file by removing it first
/// take a few.
const GRACE: Duration = Duration::from_millis(300);

/// How often the folder is looked at without a hint. 2 s: a listing takes microseconds, and where
/// there are no hints a person should not wait longer.
const RESCAN: Duration = Duration::from_secs(2);

/// How long hints are gathered. 5 ms: copying one file makes thousands.
const GATHER: Duration = Duration::from_millis(5);

/// How soon a mount that failed is tried again, at first and at most. 1 s: what the machine was short
/// of may be there again; 60 s: it parses all rows, and nobody is served by doing that all the time.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// How long a version is served before its code is optimised. 1 s: who saves twice in a second is not
/// done yet, and a second of slower code is nothing.
const PROVEN: Duration = Duration::from_secs(1);

/// From when on it is told how long optimising took. 2 s: an author who measures wants to know that
/// what comes now is faster; nobody cares about less.
const TOLD: Duration = Duration::from_secs(2);

/// How often a start that takes long says what it is at. 1 s: what is over sooner needs no words.
const PROGRESS: Duration = Duration::from_secs(1);

/// How often it says the same again. 10 s: a sign of life, and no noise in a log.
const UNCHANGED: Duration = Duration::from_secs(10);

/// Names of files in one line of it.
const NAMED: usize = 4;

/// How long jobs are waited for at the end. 5 s: a mount is over by then, a long compilation may go.
const ENDING: Duration = Duration::from_secs(5);

/// Plugins compiled at once. Each compilation uses all cores, and up to 400 MB.
const COMPILING: usize = 2;

/// Workspaces mounted at once: each parses all of its rows.
const MOUNTING: usize = 4;

/// Where plugins come from, and what they may use.
#[derive(Debug, Clone)]
pub struct PluginsConfig {
    /// The folder that is watched; made when it is missing.
    pub dir: PathBuf,
    /// Where compiled plugins are kept; made when it is missing, readable by this account only.
    pub cache_dir: PathBuf,
    /// What each plugin may use.
    pub limits: Limits,
    /// How instances get their memory.
    pub allocation: Allocation,
    /// Which compiler makes the code that plugins begin with.
    pub compile: Compile,
    /// Who is asked when a plugin asks a language model; without, none can.
    pub models: Option<Arc<dyn Models>>,
}

impl PluginsConfig {
    /// The defaults for everything but the folders.
    pub fn new(dir: impl Into<PathBuf>, cache_dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            cache_dir: cache_dir.into(),
            limits: Limits::default(),
            allocation: Allocation::Auto,
            compile: Compile::Twice,
            models: None,
        }
    }
}

impl PluginsConfig {
    /// The same, with models that plugins may ask where they are granted it.
    pub fn with_models(self, models: Arc<dyn Models>) -> Self {
        Self { models: Some(models), ..self }
    }
}

/// Why the plugins could not be opened at all; a broken plugin is no such reason.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The folder is not there and could not be made, or cannot be read.
    #[error("the plugins folder {}: {error}", dir.display())]
    Folder {
        /// The folder.
        dir: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// This machine cannot run WebAssembly as it must.
    #[error("the WebAssembly engine could not start: {0}")]
    Engine(wasmtime::Error),
}

/// All plugins of a server. Cheap to clone; the last one dropped ends the watching.
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
    /// Loads and mounts every plugin in the folder, then watches it. When it returns, what could be
    /// served is served; [`Plugins::status`] says what was not, and why.
    pub async fn open(config: PluginsConfig, mounts: impl Mounts) -> Result<Self, OpenError> {
        let PluginsConfig { dir, cache_dir, limits, allocation, compile, models } = config;
        let engine = Engine::new(allocation, compile).map_err(OpenError::Engine)?;
        let engine = engine.with_models(models);
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
        let mut folder = Folder {
            // Watched before it is listed, so that nothing falls between.
            watch: Watch::start(&dir),
            source: Source {
                dir: dir.clone(),
                engine,
                cache: cache.map(Arc::new),
                limits: Arc::new(limits),
            },
            mounts: mounts.clone(),
            files: files.clone(),
            owners: HashMap::new(),
            complete: HashSet::new(),
            jobs: JoinSet::new(),
            optimisations: JoinSet::new(),
            optimising: Arc::new(Semaphore::new(1)),
            compiling: Arc::new(Compiling::new(COMPILING)),
            mounting: Arc::new(Semaphore::new(MOUNTING)),
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

    /// Ends the watching, and waits for a mount that is under way. What is mounted stays so.
    pub async fn shutdown(&self) {
        self.inner.stop.cancel();
        if let Some(task) = self.inner.task.lock().await.take()
            && let Err(error) = task.await
        {
            tracing::error!("the plugins folder's task failed: {error}");
        }
    }
}

/// What is known about the files, shared between the folder's task and those who ask.
#[derive(Default)]
struct Files {
    // Held for reads and assignments, never across an await.
    entries: Mutex<BTreeMap<String, Entry>>,
}

#[derive(Default)]
struct Entry {
    /// The version that was last taken up, whatever became of it.
    taken: Option<Fingerprint>,
    /// A newer version, and since when it has stood still.
    settling: Option<(Fingerprint, Instant)>,
    /// Since when the file is missing.
    missing: Option<Instant>,
    /// Whether a job is at work on it.
    busy: bool,
    serving: Option<Serving>,
    /// Why the newest version failed.
    error: Option<String>,
    /// The workspace that another file has to give up first.
    waits_for: Option<String>,
    /// When a mount that failed is tried again, and how long after it failed that is.
    retry: Option<(Instant, Duration)>,
}

struct Serving {
    plugin: Arc<Plugin>,
    workspace: String,
    hash: Hash,
    size: u64,
    loaded_at: u64,
    took: Duration,
    from_cache: bool,
}

impl Entry {
    fn status(&self, file: &str, mounts: &dyn Mounts) -> PluginStatus {
        let serving = self.serving.as_ref();
        let counts = serving.and_then(|serving| mounts.rows(&serving.workspace));
        let counters = serving.map(|serving| serving.plugin.counters()).unwrap_or_default();
        let version = serving.map(|serving| serving.plugin.definition().version.clone());
        PluginStatus {
            file: file.into(),
            state: match (serving, &self.error) {
                (Some(_), _) => PluginState::Serving,
                (None, Some(_)) => PluginState::Failed,
                (None, None) => PluginState::Loading,
            },
            workspace: serving.map(|serving| serving.workspace.clone()),
            version: version.filter(|version| !version.is_empty()),
            hash: serving.map(|serving| serving.hash.to_string()),
            size: serving.map(|serving| serving.size),
            loaded_at: serving.map(|serving| serving.loaded_at),
            took_ms: serving.map(|serving| ms(serving.took)),
            from_cache: serving.map(|serving| serving.from_cache),
            optimised: serving.and_then(|serving| serving.plugin.is_optimised()),
            loading: self.busy,
            rows: counts.map(|counts| counts.rows),
            invalid: counts.map(|counts| counts.invalid),
            calls: counters.calls,
            errors: counters.errors,
            last_error: counters.last_error,
            memory: counters.memory,
            scripts: serving.map(|serving| serving.plugin.scripts().to_vec()).unwrap_or_default(),
            grants: serving.map(|serving| serving.plugin.grants().clone()),
            error: self.error.clone(),
            stale: serving.is_some() && self.error.is_some(),
        }
    }
}

/// All that loading a file needs.
#[derive(Clone)]
struct Source {
    dir: PathBuf,
    engine: Engine,
    cache: Option<Arc<Cache>>,
    limits: Arc<Limits>,
}

/// How sure we are that a file is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    /// It was closed or renamed into place a moment ago.
    Early,
    /// It has stood still.
    Settled,
}

/// A job that ended.
enum Done {
    Loaded { file: String, look: Look, result: Result<Option<New>, LoadError> },
    Mounted { file: String, new: New, result: Result<Mounted, MountError> },
    Unmounted { workspace: String },
}

/// A version of a file that was loaded.
struct New {
    plugin: Arc<Plugin>,
    hash: Hash,
    size: u64,
    from_cache: bool,
    /// How long it took so far, without the time that it waited for others.
    took: Duration,
}

struct Folder {
    source: Source,
    mounts: Arc<dyn Mounts>,
    watch: Watch,
    files: Arc<Files>,
    /// Who owns a workspace, from before it is mounted until after it is unmounted.
    owners: HashMap<String, Owner>,
    /// Files that are probably complete and were not looked at since.
    complete: HashSet<String>,
    jobs: JoinSet<Done>,
    /// Apart from the jobs, because nobody waits for them: they end with the folder.
    optimisations: JoinSet<()>,
    optimising: Arc<Semaphore>,
    compiling: Arc<Compiling>,
    mounting: Arc<Semaphore>,
    /// Whether the folder could not be read when it was last tried.
    unreadable: bool,
    /// Whether this is the first load, which the start-up summary tells of.
    starting: bool,
    /// At the start: what is loaded, and mounted once the workspace has been given up for it.
    held: Vec<(String, New)>,
}

/// What a start last said of itself.
#[derive(Default)]
struct Told {
    line: String,
    at: Option<Instant>,
}

struct Owner {
    file: String,
    /// Whether the workspace is being unmounted, so that nobody may mount it yet.
    leaving: bool,
}

impl Folder {
    /// The first load. What is loaded is mounted at once, so that whoever takes long holds up nobody; in
    /// the end it is always the first by name of two files that owns a workspace.
    async fn load_all(&mut self, found: BTreeMap<String, Fingerprint>) {
        for (file, fingerprint) in found {
            self.start(&file, fingerprint, Look::Settled);
        }
        let mut told = Told::default();
        let mut next = Instant::now() + PROGRESS;
        while !self.jobs.is_empty() {
            tokio::select! {
                Some(done) = self.jobs.join_next() => self.done(done),
                () = tokio::time::sleep_until(next.into()) => {
                    next += PROGRESS;
                    self.tell(&mut told);
                }
            }
            let mut held = std::mem::take(&mut self.held);
            held.sort_by(|a, b| a.0.cmp(&b.0));
            for (file, new) in held {
                self.mount(file, new);
            }
        }
        self.starting = false;
        // Who waits for a workspace that nobody got after all has its chance now.
        let entries = self.files.entries.lock();
        let free = |entry: &Entry| {
            entry.waits_for.as_ref().is_some_and(|workspace| !self.owners.contains_key(workspace))
        };
        let waiting = entries.iter().filter(|(_, entry)| free(entry));
        self.complete.extend(waiting.map(|(file, _)| file.clone()));
    }

    /// Says what a start that takes long is at, when that is news.
    fn tell(&self, told: &mut Told) {
        let compiled = self.compiling.files();
        let (mut loaded, mut done, mut all) = (Vec::new(), 0, 0);
        for (file, entry) in self.files.entries.lock().iter() {
            all += 1;
            if !entry.busy {
                done += 1;
            } else if !compiled.iter().any(|compiled| **compiled == **file) {
                loaded.push(file.clone());
            }
        }
        let compiled: Vec<_> = compiled.iter().map(|file| file.to_string()).collect();
        let parts = [("compiling", compiled), ("loading", loaded)];
        let parts = parts.iter().filter(|(_, files)| !files.is_empty());
        let parts = parts.map(|(what, files)| format!("{what} {}", some(files)));
        let line = parts.collect::<Vec<_>>().join(", ");
        let is_news = told.line != line || told.at.is_none_or(|at| at.elapsed() >= UNCHANGED);
        if is_news && !line.is_empty() {
            tracing::info!(target: "progress", "{line}; {done} of {all} plugins are ready");
            *told = Told { line, at: Some(Instant::now()) };
        }
    }

    async fn run(mut self, stop: CancellationToken) {
        let mut next = Instant::now();
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep_until(next.into()) => {}
                () = self.watch.changed() => tokio::time::sleep(GATHER).await,
                Some(done) = self.jobs.join_next() => self.done(done),
                Some(_) = self.optimisations.join_next() => continue,
            }
            next = self.look().await;
        }
        // A mount that is under way would leave the workspace between two versions; compiling may be
        // left, the thread ends by itself.
        while let Ok(Some(done)) = tokio::time::timeout(ENDING, self.jobs.join_next()).await {
            self.done(done);
        }
    }

    /// Lists the folder and starts what there is to do. Returns when to look again.
    async fn look(&mut self) -> Instant {
        let now = Instant::now();
        self.watch.renew();
        self.complete.extend(self.watch.take_complete());
        let dir = self.source.dir.clone();
        let listed = tokio::task::spawn_blocking(move || sources::list(&dir)).await;
        let found = match listed.unwrap_or_else(|panic| Err(io::Error::other(panic))) {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            // A folder that cannot be read says nothing about its files.
            Err(error) => {
                if !std::mem::replace(&mut self.unreadable, true) {
                    tracing::warn!("{} cannot be read: {error}", self.source.dir.display());
                }
                return now + RESCAN;
            }
        };
        self.unreadable = false;
        let mut next = now + RESCAN;
        let mut start = Vec::new();
        let mut gone = Vec::new();
        {
            let mut entries = self.files.entries.lock();
            for (file, fingerprint) in &found {
                let entry = entries.entry(file.clone()).or_default();
                entry.missing = None;
                if entry.busy {
                    continue;
                }
                if self.complete.remove(file) {
                    start.push((file.clone(), fingerprint.clone(), Look::Early));
                } else if entry.taken.as_ref() == Some(fingerprint) {
                    entry.settling = None;
                    match entry.retry {
                        Some((at, _)) if now >= at => {
                            start.push((file.clone(), fingerprint.clone(), Look::Settled));
                        }
                        Some((at, _)) => next = next.min(at),
                        None => {}
                    }
                } else {
                    let since = match &entry.settling {
                        Some((settling, since)) if settling == fingerprint => *since,
                        _ => now,
                    };
                    entry.settling = Some((fingerprint.clone(), since));
                    if now.duration_since(since) >= SETTLE {
                        start.push((file.clone(), fingerprint.clone(), Look::Settled));
                    } else {
                        next = next.min(since + SETTLE);
                    }
                }
            }
            for (file, entry) in entries.iter_mut() {
                if found.contains_key(file) || entry.busy {
                    continue;
                }
                let since = *entry.missing.get_or_insert(now);
                if now.duration_since(since) >= GRACE {
                    gone.push(file.clone());
                } else {
                    next = next.min(since + GRACE);
                }
            }
            for entry in entries.values() {
                if let Some(serving) = &entry.serving {
                    serving.plugin.trim();
                }
            }
        }
        self.complete.retain(|file| found.contains_key(file));
        for (file, fingerprint, look) in start {
            self.start(&file, fingerprint, look);
        }
        for file in gone {
            self.gone(&file);
        }
        next
    }

    fn start(&mut self, file: &str, fingerprint: Fingerprint, look: Look) {
        let served = {
            let mut entries = self.files.entries.lock();
            let entry = entries.entry(file.into()).or_default();
            // A new version begins anew; the same one is patient for longer each time.
            if entry.taken.as_ref() != Some(&fingerprint) {
                entry.retry = None;
            }
            entry.taken = Some(fingerprint.clone());
            entry.settling = None;
            entry.waits_for = None;
            entry.busy = true;
            entry.serving.as_ref().map(|serving| (serving.hash, serving.plugin.clone()))
        };
        let file = file.to_owned();
        let source = self.source.clone();
        let compiling = self.compiling.clone();
        self.jobs.spawn(async move {
            let load = load(source, compiling, file.clone(), fingerprint, served);
            let load = AssertUnwindSafe(load).catch_unwind().await;
            let result = load.unwrap_or_else(|_| {
                Err(LoadError::new(&file, "the host itself failed while it loaded it; see its log"))
            });
            Done::Loaded { file, look, result }
        });
    }

    fn done(&mut self, done: Result<Done, tokio::task::JoinError>) {
        match done {
            Ok(Done::Loaded { file, look, result }) => self.loaded(file, look, result),
            Ok(Done::Mounted { file, new, result }) => self.mounted(file, new, result),
            Ok(Done::Unmounted { workspace }) => self.release(&workspace),
            Err(error) => tracing::error!("a job of the plugins folder failed: {error}"),
        }
    }

    fn loaded(&mut self, file: String, look: Look, result: Result<Option<New>, LoadError>) {
        let new = match result {
            Ok(Some(new)) => new,
            Ok(None) => {
                let mut entries = self.files.entries.lock();
                let entry = entries.entry(file).or_default();
                entry.busy = false;
                entry.error = None;
                entry.retry = None;
                return;
            }
            Err(_) if look == Look::Early => {
                // Perhaps it is still being written. It is judged once it has stood still.
                let mut entries = self.files.entries.lock();
                let entry = entries.entry(file).or_default();
                entry.busy = false;
                entry.settling =
                    entry.taken.take().map(|fingerprint| (fingerprint, Instant::now()));
                return;
            }
            Err(error) => return self.failed(&file, error.reason),
        };
        self.mount(file, new);
    }

    /// Mounts what was loaded, if the workspace is free for it.
    fn mount(&mut self, file: String, mut new: New) {
        let workspace = new.plugin.definition().id.clone();
        let owner = self.owners.get(&workspace).map(|owner| (owner.file.clone(), owner.leaving));
        match owner {
            Some((_, true)) if self.starting => return self.held.push((file, new)),
            Some((_, true)) => return self.wait(&file, workspace),
            Some((owner, false)) if owner != file => {
                if self.starting && file < owner {
                    self.displace(&owner, &file, &workspace);
                    return self.held.push((file, new));
                }
                if !self.take_over(&owner) {
                    let reason = defined_already(&workspace, &owner);
                    self.wait(&file, workspace);
                    return self.failed(&file, reason);
                }
            }
            _ => {}
        }
        self.owners.insert(workspace, Owner { file: file.clone(), leaving: false });
        let mounts = self.mounts.clone();
        let mounting = self.mounting.clone();
        self.jobs.spawn(async move {
            let _permit = mounting.acquire_owned().await.ok();
            let began = Instant::now();
            let logic: Arc<dyn Logic> = new.plugin.clone();
            let mount = AssertUnwindSafe(mounts.mount(logic)).catch_unwind().await;
            let result = mount.unwrap_or_else(|_| {
                Err(MountError::Document("the host itself failed; see its log".into()))
            });
            new.took += began.elapsed();
            Done::Mounted { file, new, result }
        });
    }

    /// Takes a workspace from a file that is not the first by name, once it is mounted.
    fn displace(&mut self, owner: &str, first: &str, workspace: &str) {
        {
            let mut entries = self.files.entries.lock();
            match entries.get_mut(owner) {
                Some(entry) if !entry.busy => {
                    entry.serving = None;
                    entry.waits_for = Some(workspace.to_owned());
                }
                _ => return,
            }
            for entry in entries.values_mut() {
                if entry.waits_for.as_deref() == Some(workspace) {
                    entry.error = Some(defined_already(workspace, first));
                }
            }
        }
        self.unmount(workspace.to_owned());
    }

    /// Has a file tried again later.
    fn retry(&mut self, file: &str) {
        let mut entries = self.files.entries.lock();
        let entry = entries.entry(file.into()).or_default();
        let (first, longest) = RETRY;
        let pause = entry.retry.map_or(first, |(_, pause)| (pause * 2).min(longest));
        entry.retry = Some((Instant::now() + pause, pause));
    }

    /// Leaves a file alone until the workspace that it defines is free.
    fn wait(&mut self, file: &str, workspace: String) {
        let mut entries = self.files.entries.lock();
        let entry = entries.entry(file.into()).or_default();
        entry.busy = false;
        entry.waits_for = Some(workspace);
    }

    /// Forgets a file that is missing already, so that the file that it was renamed to serves its
    /// workspace without a gap. False when the file is still there.
    fn take_over(&mut self, owner: &str) -> bool {
        let mut entries = self.files.entries.lock();
        let missing =
            entries.get(owner).is_some_and(|entry| entry.missing.is_some() && !entry.busy);
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
                let serves = {
                    let entries = self.files.entries.lock();
                    let serving = entries.get(&file).and_then(|entry| entry.serving.as_ref());
                    serving.is_some_and(|serving| serving.workspace == workspace)
                };
                if !serves {
                    // Were it a rename, the old file's logic would be left behind.
                    self.unmount(workspace);
                }
                self.retry(&file);
                return self.failed(&file, format!("its rows could not be taken over: {error}"));
            }
        };
        self.optimise(&new.plugin);
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
        let before = {
            let mut entries = self.files.entries.lock();
            let entry = entries.entry(file.clone()).or_default();
            entry.busy = false;
            entry.error = None;
            entry.retry = None;
            entry.serving.replace(serving)
        };
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

    /// Has a plugin compiled for speed, unless another version has taken its place by then.
    fn optimise(&mut self, plugin: &Arc<Plugin>) {
        if plugin.is_optimised() != Some(false) {
            return;
        }
        let (plugin, engine) = (Arc::downgrade(plugin), self.source.engine.clone());
        let optimising = self.optimising.clone();
        self.optimisations.spawn(async move {
            tokio::time::sleep(PROVEN).await;
            let _permit = optimising.acquire_owned().await.ok();
            let Some(plugin) = plugin.upgrade() else { return };
            let started = Instant::now();
            match plugin.optimise(&engine).await {
                Ok(true) if started.elapsed() >= TOLD => tracing::info!(
                    "{} runs optimised code now; compiling it took {:.1} s",
                    plugin.file(),
                    started.elapsed().as_secs_f64()
                ),
                Ok(_) => tracing::debug!("{} runs optimised code now", plugin.file()),
                Err(error) => tracing::warn!("{error}; it goes on with slower code"),
            }
        });
    }

    fn failed(&mut self, file: &str, reason: String) {
        let mut entries = self.files.entries.lock();
        let entry = entries.entry(file.into()).or_default();
        entry.busy = false;
        let kept =
            if entry.serving.is_some() { " (the version before it keeps serving)" } else { "" };
        let line = reason.replace('\n', "; ");
        if self.starting {
            tracing::debug!("{file} not loaded: {line}");
        } else {
            tracing::error!("{file} not loaded: {line}{kept}");
        }
        entry.error = Some(reason);
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
        if let Some(owner) = self.owners.get_mut(&workspace) {
            owner.leaving = true;
        }
        let mounts = self.mounts.clone();
        self.jobs.spawn(async move {
            let unmount = AssertUnwindSafe(mounts.unmount(&workspace)).catch_unwind().await;
            if unmount.is_err() {
                tracing::error!("the host failed while it unmounted the workspace {workspace}");
            }
            Done::Unmounted { workspace }
        });
    }

    /// Gives up a workspace; who waits for it is loaded by the next look.
    fn release(&mut self, workspace: &str) {
        self.owners.remove(workspace);
        // At the start it is given up for another, and who waits is asked in the end.
        if self.starting {
            return;
        }
        let entries = self.files.entries.lock();
        let waiting =
            entries.iter().filter(|(_, entry)| entry.waits_for.as_deref() == Some(workspace));
        self.complete.extend(waiting.map(|(file, _)| file.clone()));
    }
}

/// Reads a plugin's files and makes a plugin of them. None when it is the version that is served
/// already.
async fn load(
    source: Source,
    compiling: Arc<Compiling>,
    file: String,
    fingerprint: Fingerprint,
    served: Option<(Hash, Arc<Plugin>)>,
) -> Result<Option<New>, LoadError> {
    let started = Instant::now();
    let Source { dir, engine, cache, limits } = source;
    let read = {
        let (limits, file) = (limits.clone(), file.clone());
        move || Sources::read(&dir, &file, &fingerprint, &limits)
    };
    let read = tokio::task::spawn_blocking(read).await;
    let (sources, hash, size) = read
        .unwrap_or_else(|_| Err("the host itself failed while it read it; see its log".into()))
        .map_err(|reason| LoadError::new(&file, reason))?;
    let before = match served {
        Some((served, _)) if served == hash => return Ok(None),
        Some((_, plugin)) => Some(plugin),
        None => None,
    };
    let plugin =
        Plugin::load(&engine, cache, &compiling, &file, sources, &limits, before.as_deref())
            .await?;
    let from_cache = plugin.is_from_cache();
    let took = started.elapsed().saturating_sub(plugin.waited);
    Ok(Some(New { plugin: Arc::new(plugin), hash, size, from_cache, took }))
}

fn defined_already(workspace: &str, owner: &str) -> String {
    format!(
        "it defines the workspace {workspace}, which {owner} defines already; remove one of the two, or \
         give one another id"
    )
}

/// The first names of a list, and how many there are beside them.
fn some(files: &[String]) -> String {
    let (named, more) = files.split_at(files.len().min(NAMED));
    let named = named.join(", ");
    if more.is_empty() { named } else { format!("{named} and {} more", more.len()) }
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn unix_ms() -> u64 {
    ms(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}
