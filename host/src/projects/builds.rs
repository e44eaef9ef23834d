//! The state of the builds that `host dev` makes.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::Serialize;

use super::Project;

/// The state of all builds, which `GET /` shows.
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
    /// The plugin's file name.
    pub file: String,
    /// The state of the build.
    pub state: BuildState,
    /// How long the last build that ended took, in ms.
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
    /// The result is in the plugins folder.
    Built,
    /// The build failed; the version before is still served.
    Failed,
}

impl Builds {
    /// The newest build of each project.
    pub fn status(&self) -> Vec<Build> {
        self.projects.lock().values().cloned().collect()
    }

    /// Notes the state of a project's build, and what `change` makes of the rest.
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
