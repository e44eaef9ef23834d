//! TypeScript and JavaScript, by npm.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use futures_util::FutureExt;
use include_dir::include_dir;
use serde_json::Value;
use tokio::process::Command;

use super::{Language, name_of_folder};
use crate::projects::Project;
use crate::projects::process::{BuildError, is_newer, run_tool};
use crate::projects::template::{self, Template};

pub const LANGUAGE: Language = Language {
    name: "js",
    title: "TypeScript",
    marker: "package.json",
    template: Some(Template {
        project: include_dir!("$CARGO_MANIFEST_DIR/../sdk/js/template"),
        sdk: "epicenter-workspace",
        contract: template::V0_2_0,
        files: &[
            ("package.json", include_str!("../../../../sdk/js/package.json")),
            ("README.md", include_str!("../../../../sdk/js/README.md")),
        ],
        folders: &[
            ("src", include_dir!("$CARGO_MANIFEST_DIR/../sdk/js/src")),
            ("bin", include_dir!("$CARGO_MANIFEST_DIR/../sdk/js/bin")),
        ],
        moved: None,
    }),
    name_of,
    build: |project| build(project).boxed(),
};

const REMEDY: &str = "npm is not here: install Node.js 20.11 or newer from https://nodejs.org";

fn name_of(folder: &Path) -> Result<String> {
    let manifest = std::fs::read(folder.join("package.json"))?;
    let manifest: Value = serde_json::from_slice(&manifest).context("package.json")?;
    match manifest["name"].as_str() {
        // Without the scope, as in the SDK's own build.
        Some(name) => Ok(match name.strip_prefix('@').and_then(|name| name.split_once('/')) {
            Some((_, name)) => name.to_owned(),
            None => name.to_owned(),
        }),
        None => name_of_folder(folder),
    }
}

async fn build(project: Project) -> Result<PathBuf, BuildError> {
    let npm = |arguments: &[&str]| {
        let mut npm = Command::new("npm");
        npm.args(arguments).current_dir(&project.folder);
        npm
    };
    let installed = project.folder.join("node_modules/.package-lock.json");
    if is_newer(&project.folder.join("package.json"), &installed) {
        run_tool(npm(&["install"]), "npm install", REMEDY).await?;
    }
    run_tool(npm(&["run", "--silent", "build"]), "npm run build", REMEDY).await?;
    Ok(project.folder.join(format!("dist/{}.wasm", project.name)))
}
