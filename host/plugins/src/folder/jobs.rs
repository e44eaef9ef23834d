//! The folder's background jobs: loading, mounting, unmounting, optimising.

use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use host_wasm::Hash;
use host_workspace::{Logic, MountError, Mounted};
use tokio::sync::Semaphore;
use tokio::task::{JoinError, JoinSet};

use super::Look;
use crate::limits::Limits;
use crate::mounts::Mounts;
use crate::plugin::{LoadError, Plugin, Workshop};
use crate::sources::{Fingerprint, Sources};

/// How long a version is served before it is optimised. 1 s: an author who saves twice in a second
/// is not done yet, and a second of slower code does not matter.
const PROVEN: Duration = Duration::from_secs(1);

/// The duration from which optimising is logged. 2 s: an author who measures wants to know that the
/// plugin is faster from now on, and shorter times interest nobody.
const TOLD: Duration = Duration::from_secs(2);

/// Workspaces mounted at once. Each mount parses all of its rows.
const MOUNTING: usize = 4;

/// A finished job.
pub(super) enum Done {
    Loaded { file: String, look: Look, result: Result<Option<New>, LoadError> },
    Mounted { file: String, new: New, result: Result<Mounted, MountError> },
    Unmounted { workspace: String },
}

/// A loaded version of a file.
pub(super) struct New {
    pub(super) plugin: Arc<Plugin>,
    pub(super) hash: Hash,
    pub(super) size: u64,
    pub(super) from_cache: bool,
    /// The time spent so far, excluding waits for other jobs.
    pub(super) took: Duration,
}

/// The running jobs.
pub(super) struct Jobs {
    pub(super) dir: PathBuf,
    pub(super) workshop: Workshop,
    limits: Arc<Limits>,
    mounts: Arc<dyn Mounts>,
    mounting: Arc<Semaphore>,
    running: JoinSet<Done>,
    /// Separate, because nobody waits for them: they end with the folder.
    optimisations: JoinSet<()>,
    optimising: Arc<Semaphore>,
}

impl Jobs {
    pub(super) fn new(
        dir: PathBuf,
        workshop: Workshop,
        limits: Limits,
        mounts: Arc<dyn Mounts>,
    ) -> Self {
        Self {
            dir,
            workshop,
            limits: Arc::new(limits),
            mounts,
            mounting: Arc::new(Semaphore::new(MOUNTING)),
            running: JoinSet::new(),
            optimisations: JoinSet::new(),
            optimising: Arc::new(Semaphore::new(1)),
        }
    }

    /// Whether no job that somebody waits for is running.
    pub(super) fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    /// Waits for a job to end; `None` if there is none.
    pub(super) async fn next(&mut self) -> Option<Result<Done, JoinError>> {
        self.running.join_next().await
    }

    /// Like `next`, but also drives the jobs that nobody waits for, which have no result.
    pub(super) async fn ended(&mut self) -> Option<Result<Done, JoinError>> {
        tokio::select! {
            Some(done) = self.running.join_next() => Some(done),
            Some(_) = self.optimisations.join_next() => None,
            else => std::future::pending().await,
        }
    }

    /// Loads a version of a file while the current one keeps serving.
    pub(super) fn load(
        &mut self,
        file: &str,
        version: Fingerprint,
        look: Look,
        served: Option<(Hash, Arc<Plugin>)>,
    ) {
        let (dir, workshop, limits) =
            (self.dir.clone(), self.workshop.clone(), self.limits.clone());
        let file = file.to_owned();
        self.running.spawn(async move {
            let load = load(dir, workshop, limits, &file, version, served);
            let load = AssertUnwindSafe(load).catch_unwind().await;
            let result = load.unwrap_or_else(|_| {
                Err(LoadError::new(&file, "the host itself failed while it loaded it; see its log"))
            });
            Done::Loaded { file, look, result }
        });
    }

    /// Mounts a loaded version.
    pub(super) fn mount(&mut self, file: String, mut new: New) {
        let mounts = self.mounts.clone();
        let mounting = self.mounting.clone();
        self.running.spawn(async move {
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

    /// Unmounts a workspace.
    pub(super) fn unmount(&mut self, workspace: String) {
        let mounts = self.mounts.clone();
        self.running.spawn(async move {
            let unmount = AssertUnwindSafe(mounts.unmount(&workspace)).catch_unwind().await;
            if unmount.is_err() {
                tracing::error!("the host failed while it unmounted the workspace {workspace}");
            }
            Done::Unmounted { workspace }
        });
    }

    /// Optimises a plugin, unless another version has replaced it by then.
    pub(super) fn optimise(&mut self, plugin: &Arc<Plugin>) {
        if plugin.is_optimised() != Some(false) {
            return;
        }
        let plugin = Arc::downgrade(plugin);
        let optimising = self.optimising.clone();
        self.optimisations.spawn(async move {
            tokio::time::sleep(PROVEN).await;
            let _permit = optimising.acquire_owned().await.ok();
            let Some(plugin) = plugin.upgrade() else { return };
            let started = Instant::now();
            match plugin.optimise().await {
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
}

/// Reads and loads a plugin's files. Returns `None` if they equal the version that is served.
async fn load(
    dir: PathBuf,
    workshop: Workshop,
    limits: Arc<Limits>,
    file: &str,
    version: Fingerprint,
    served: Option<(Hash, Arc<Plugin>)>,
) -> Result<Option<New>, LoadError> {
    let started = Instant::now();
    let read = {
        let file = file.to_owned();
        move || Sources::read(&dir, &file, &version, &limits)
    };
    let read = tokio::task::spawn_blocking(read).await;
    let (sources, hash, size) = read
        .unwrap_or_else(|_| Err("the host itself failed while it read it; see its log".into()))
        .map_err(|reason| LoadError::new(file, reason))?;
    let before = match served {
        Some((served, _)) if served == hash => return Ok(None),
        Some((_, plugin)) => Some(plugin),
        None => None,
    };
    let plugin = Plugin::load(&workshop, file, sources, before.as_deref()).await?;
    let from_cache = plugin.is_from_cache();
    let took = started.elapsed().saturating_sub(plugin.waited);
    Ok(Some(New { plugin: Arc::new(plugin), hash, size, from_cache, took }))
}
