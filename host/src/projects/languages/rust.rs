//! Rust, built by Cargo.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use futures_util::FutureExt;
use host_toolchain::{TARGET, Toolchain};
use include_dir::include_dir;
use serde_json::Value;

use super::Language;
use crate::projects::Project;
use crate::projects::process::{BuildError, run};
use crate::projects::template::{self, Template};

pub const LANGUAGE: Language = Language {
    name: "rust",
    title: "Rust",
    marker: "Cargo.toml",
    template: Some(Template {
        project: include_dir!("$CARGO_MANIFEST_DIR/../sdk/rust/template"),
        sdk: "epicenter-workspace",
        contract: template::V0_2_0,
        files: &[("Cargo.toml", include_str!("../../../../sdk/rust/Cargo.toml"))],
        folders: &[("src", include_dir!("$CARGO_MANIFEST_DIR/../sdk/rust/src"))],
        // The repository keeps the contract elsewhere.
        moved: Some(("src/bindings.rs", "../../wit/0.2.0", "wit")),
    }),
    name_of,
    build: |project| build(project).boxed(),
};

fn name_of(folder: &Path) -> Result<String> {
    let manifest = std::fs::read_to_string(folder.join("Cargo.toml"))?;
    let manifest: toml::Table = manifest.parse().context("Cargo.toml")?;
    let name = manifest.get("package").and_then(|package| package.get("name")?.as_str());
    Ok(name.context("Cargo.toml names no package; build one of a workspace's packages")?.to_owned())
}

async fn build(project: Project) -> Result<PathBuf, BuildError> {
    let toolchain = Toolchain::find().map_err(anyhow::Error::new)?;
    let mut cargo = tokio::process::Command::new(toolchain.cargo());
    cargo
        .args(["build", "--release", "--target", TARGET, "--message-format"])
        .args(["json-render-diagnostics", "--manifest-path"])
        .arg(project.folder.join("Cargo.toml"))
        .args(toolchain.build_flags())
        .envs(toolchain.environment())
        .current_dir(&project.folder);
    let messages = run(cargo, "cargo build").await?;
    // Its own package comes last, after what it depends on.
    let built = messages.lines().rev().find_map(module);
    Ok(built.context(
        "cargo built no .wasm file: Cargo.toml has to say `[lib]` and `crate-type = [\"cdylib\"]`",
    )?)
}

/// The module that one of Cargo's messages names.
fn module(message: &str) -> Option<PathBuf> {
    let message: Value = serde_json::from_str(message).ok()?;
    let mut files = message["filenames"].as_array()?.iter().filter_map(Value::as_str);
    files.find(|file| file.ends_with(".wasm")).map(PathBuf::from)
}
