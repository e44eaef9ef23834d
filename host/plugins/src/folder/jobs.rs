//! What the folder's task starts and does not wait for: loading, mounting, unmounting, optimising.

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

/// How long a version is served before its code is optimised. 1 s: whoever saves twice in a second is
/// not done yet, and a second of slower code is nothing.
const PROVEN: Duration = Duration::from_secs(1);

/// From when on the log says how long optimising took. 2 s: an author who measures wants to know that
/// the plugin is faster from now on; less than that nobody cares about.
const TOLD: Duration = Duration::from_secs(2);

/// Workspaces mounted at once: each parses all of its rows.
const MOUNTING: usize = 4;

/// A job that ended.
pub(super) enum Done {
    Loaded { file: String, look: Look, result: Result<Option<New>, LoadError> },
    Mounted { file: String, new: New, result: Result<Mounted, MountError> },
    Unmounted { workspace: String },
}

/// A version of a file that was loaded.
pub(super) struct New {
    pub(super) plugin: Arc<Plugin>,
    pub(super) hash: Hash,
    pub(super) size: u64,
    pub(super) from_cache: bool,
    /// How long it took so far, without the time that it waited for others.
    pub(super) took: Duration,
}

/// The jobs that are under way.
pub(super) struct Jobs {
    pub(super) dir: PathBuf,
    pub(super) workshop: Workshop,
    limits: Arc<Limits>,
    mounts: Arc<dyn Mounts>,
    mounting: Arc<Semaphore>,
    running: JoinSet<Done>,
    /// Apart from the others, because nobody waits for them: they end with the folder.
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

    /// Whether none is under way that somebody waits for.
    pub(super) fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    /// Waits for one to end; none when there is none.
    pub(super) async fn next(&mut self) -> Option<Result<Done, JoinError>> {
        self.running.join_next().await
    }

    /// Waits for one to end, also one that nobody waits for, of which there is nothing to say.
    pub(super) async fn ended(&mut self) -> Option<Result<Done, JoinError>> {
        tokio::select! {
            Some(done) = self.running.join_next() => Some(done),
            Some(_) = self.optimisations.join_next() => None,
            else => std::future::pending().await,
        }
    }

    /// Loads a version of a file, beside the one that is served.
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

    /// Has a workspace served by a version that was loaded.
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

    /// Has a workspace no longer served.
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

    /// Has a plugin compiled for speed, unless another version has taken its place by then.
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

/// Reads a plugin's files and makes a plugin of them. None when it is the version that is served
/// already.
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
