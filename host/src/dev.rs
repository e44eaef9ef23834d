//! `host dev`: a local server that also builds what its plugins are made of.
//!
//! Each project has a task that watches its sources, but one build runs at a time, so that a machine is
//! not busy with several compilers. What is saved while it is built is built again, and the result
//! of the first is dropped: the latest wins. A build that fails installs nothing, so what is served
//! goes on being served; and what is installed is a plugin like any other, which the plugins folder
//! takes up when it can be loaded.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::task::JoinSet;

use crate::cli::ServeArgs;
use crate::projects::{Project, Sources};
use crate::summary::{BAD, DIM, GOOD, PLAIN};

/// `host dev`
#[derive(Debug, clap::Args)]
pub struct DevArgs {
    /// Folders with the sources of a plugin each.
    #[arg(default_value = ".")]
    pub projects: Vec<PathBuf>,
    /// What the server is started with.
    #[command(flatten)]
    pub serve: ServeArgs,
}

/// The builds of a server, for those who ask it.
#[derive(Debug, Clone, Default)]
pub struct Builds {
    // Held for reads and assignments only.
    projects: Arc<Mutex<BTreeMap<PathBuf, Build>>>,
}

/// The newest build of a project.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Build {
    /// The project's folder.
    pub project: PathBuf,
    /// The file that it makes.
    pub file: String,
    /// Where it is.
    pub state: BuildState,
    /// How long the newest one that ended took, in ms.
    pub took_ms: Option<u64>,
    /// Why it failed.
    pub error: Option<String>,
    /// What the toolchain said then.
    pub output: Option<String>,
}

/// Where a build is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum BuildState {
    /// It waits for the one before, or runs.
    Building,
    /// Its result is in the plugins folder.
    Built,
    /// It left nothing; the version before is served.
    Failed,
}

impl Builds {
    /// The newest build of each project.
    pub fn status(&self) -> Vec<Build> {
        self.projects.lock().values().cloned().collect()
    }

    fn set(&self, project: &Project, state: BuildState, change: impl FnOnce(&mut Build)) {
        let mut projects = self.projects.lock();
        let build = projects.entry(project.folder.clone()).or_insert_with(|| Build {
            project: project.folder.clone(),
            file: format!("{}.wasm", project.name),
            state,
            took_ms: None,
            error: None,
            output: None,
        });
        build.state = state;
        change(build);
    }
}

/// The projects that are worked on.
pub struct Dev {
    tasks: Vec<Task>,
    /// What becomes of them.
    pub builds: Builds,
}

impl Dev {
    /// Finds out what the folders hold.
    pub fn open(args: &DevArgs) -> Result<Self> {
        let builds = Builds::default();
        let one_at_a_time = Arc::new(tokio::sync::Mutex::new(()));
        let (plugins, data) = (full(&args.serve.plugins)?, full(&args.serve.data_dir)?);
        let projects: Result<Vec<_>> = args.projects.iter().map(|dir| Project::open(dir)).collect();
        let tasks = projects?.into_iter().map(|project| {
            builds.set(&project, BuildState::Building, |_| {});
            Task {
                sources: Sources::watch(&project.folder, vec![plugins.clone(), data.clone()]),
                project,
                plugins: plugins.clone(),
                builds: builds.clone(),
                one_at_a_time: one_at_a_time.clone(),
            }
        });
        Ok(Self { tasks: tasks.collect(), builds })
    }

    /// Builds them into the plugins folder, now and whenever their sources change, until what this
    /// gives is dropped.
    pub fn start(self) -> JoinSet<()> {
        self.tasks.into_iter().map(Task::run).collect()
    }
}

struct Task {
    project: Project,
    sources: Sources,
    plugins: PathBuf,
    builds: Builds,
    one_at_a_time: Arc<tokio::sync::Mutex<()>>,
}

impl Task {
    async fn run(mut self) {
        loop {
            self.build().await;
            self.sources.changed().await;
        }
    }

    async fn build(&mut self) {
        let name = &self.project.name;
        self.builds.set(&self.project, BuildState::Building, |_| {});
        let one_at_a_time = self.one_at_a_time.clone();
        let _turn = one_at_a_time.lock().await;
        anstream::eprintln!("{DIM}building {name}{PLAIN}");
        let started = Instant::now();
        let built = self.project.build().await;
        let took = started.elapsed().as_millis();
        let took_ms = u64::try_from(took).ok();
        if self.sources.have_changed() {
            return;
        }
        let installed = built.and_then(|built| Ok(built.install(&self.plugins)?));
        match installed {
            Ok(_) => {
                anstream::eprintln!("{GOOD}built{PLAIN} {name} {DIM}in {took} ms{PLAIN}");
                self.builds.set(&self.project, BuildState::Built, |build| {
                    (build.took_ms, build.error, build.output) = (took_ms, None, None);
                });
            }
            Err(error) => {
                anstream::eprintln!(
                    "{BAD}{name} was not built:{PLAIN} {error} {DIM}(what was served before still is){PLAIN}"
                );
                self.builds.set(&self.project, BuildState::Failed, |build| {
                    build.took_ms = took_ms;
                    build.error = Some(error.to_string());
                    build.output = Some(error.output).filter(|output| !output.is_empty());
                });
            }
        }
    }
}

/// The full path of a folder, which is made when it is missing.
fn full(folder: &Path) -> std::io::Result<PathBuf> {
    std::fs::create_dir_all(folder)?;
    folder.canonicalize()
}
