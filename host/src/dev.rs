//! `host dev`: a local server that also builds its plugins from source.
//!
//! Each project has a task that watches its sources, but only one build runs at a time, so that
//! compilers do not compete for the machine. If sources change during a build, its result is
//! dropped and they are built again: the latest version wins. A failed build installs nothing, so
//! the previous version is still served. An installed build is a plugin like any other, which the
//! plugins folder picks up once it loads.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use tokio::task::JoinSet;

use crate::projects::{BuildState, Builds, Project, Sources};
use crate::style::{BAD, DIM, GOOD, PLAIN};

/// The projects that `host dev` builds.
pub struct Dev {
    tasks: Vec<Task>,
    /// The state of their builds.
    pub builds: Builds,
}

impl Dev {
    /// Recognises the projects in these folders. The plugins and data folders do not count as
    /// sources.
    pub fn open(folders: &[PathBuf], plugins: &Path, data: &Path) -> Result<Self> {
        let builds = Builds::default();
        let one_at_a_time = Arc::new(tokio::sync::Mutex::new(()));
        let (plugins, data) = (full(plugins)?, full(data)?);
        let projects: Result<Vec<_>> = folders.iter().map(|folder| Project::open(folder)).collect();
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

    /// Builds the projects into the plugins folder, now and whenever their sources change, until
    /// the returned set is dropped.
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
                    "{BAD}{name} was not built:{PLAIN} {error} {DIM}(the version before is still served){PLAIN}"
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

/// The absolute path of a folder, which is created if it is missing.
fn full(folder: &Path) -> std::io::Result<PathBuf> {
    std::fs::create_dir_all(folder)?;
    folder.canonicalize()
}
