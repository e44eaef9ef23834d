//! The state of the builds by `host dev`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::Serialize;

use super::Project;

/// The state of all builds, which `GET /` shows.
#[derive(Debug, Clone, Default)]
pub struct Builds {
    // Locked for reads and assignments only.
    projects: Arc<Mutex<BTreeMap<PathBuf, Build>>>,
}

/// The latest build of a project.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Build {
    /// The project's folder.
    pub project: PathBuf,
    /// The plugin's file name.
    pub file: String,
    /// The state of the build.
    pub state: BuildState,
    /// How long the last finished build took, in ms.
    pub took_ms: Option<u64>,
    /// Why it failed.
    pub error: Option<String>,
    /// What the toolchain printed when it failed.
    pub output: Option<String>,
}

/// The state of a build.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum BuildState {
    /// The build is running, or waiting for another one.
    Building,
    /// The result has been installed in the plugins folder.
    Built,
    /// The build failed; the previous version is still served.
    Failed,
}

impl Builds {
    /// The latest build of each project.
    pub fn status(&self) -> Vec<Build> {
        self.projects.lock().values().cloned().collect()
    }

    /// Records the state of a project's build; `change` updates the rest.
    pub fn set(&self, project: &Project, state: BuildState, change: impl FnOnce(&mut Build)) {
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
