//! Python, built by componentize-py in a virtual environment of the project's own.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use futures_util::FutureExt;
use include_dir::include_dir;
use tokio::process::Command;

use super::{Language, name_of_folder};
use crate::projects::Project;
use crate::projects::process::{BuildError, is_newer, run, run_tool};
use crate::projects::template::{self, Template};

pub const LANGUAGE: Language = Language {
    name: "python",
    title: "Python",
    marker: "app.py",
    template: Some(Template {
        project: include_dir!("$CARGO_MANIFEST_DIR/../sdk/python/template"),
        sdk: "epicenter_workspace",
        contract: template::V0_2_0,
        files: &[("README.md", include_str!("../../../../sdk/python/README.md"))],
        folders: &[("", include_dir!("$CARGO_MANIFEST_DIR/../sdk/python/epicenter_workspace"))],
        moved: None,
    }),
    name_of: name_of_folder,
    build: |project| build(project).boxed(),
};

const REMEDY: &str = "python3 is not here: install Python 3.11 or newer from https://python.org, or on \
                      Debian `apt-get install python3-venv`";

/// What is installed if the project has no requirements.txt.
const REQUIREMENTS: &str = include_str!("../../../../sdk/python/requirements.txt");

async fn build(project: Project) -> Result<PathBuf, BuildError> {
    let environment = project.folder.join(".venv");
    let python = environment.join("bin/python");
    install(&project.folder, &environment, &python).await?;
    let plugin = project.folder.join(format!("dist/{}.wasm", project.name));
    let mut build = Command::new(&python);
    build.args(["-m", "epicenter_workspace", "--out"]).arg(&plugin).current_dir(&project.folder);
    run(build, "python -m epicenter_workspace").await?;
    Ok(plugin)
}

/// Creates the environment, unless it is newer than its requirements.
async fn install(folder: &Path, environment: &Path, python: &Path) -> Result<(), BuildError> {
    let requirements = folder.join("requirements.txt");
    let installed = environment.join("installed");
    if installed.exists() && !is_newer(&requirements, &installed) {
        return Ok(());
    }
    let mut venv = Command::new("python3");
    venv.args(["-m", "venv", "--clear"]).arg(environment);
    run_tool(venv, "python3 -m venv", REMEDY).await?;
    let mut pip = Command::new(python);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
    match requirements.exists() {
        true => pip.arg("--requirement").arg(requirements),
        false => pip.args(REQUIREMENTS.split_whitespace()),
    };
    pip.current_dir(folder);
    run(pip, "pip install").await?;
    Ok(std::fs::write(installed, "").context("the environment cannot be written to")?)
}
