//! C, and whatever else a Makefile builds.

use std::path::PathBuf;

use anyhow::Result;
use futures_util::FutureExt;
use tokio::process::Command;

use super::{Language, name_of_folder};
use crate::projects::Project;
use crate::projects::process::{BuildError, run_tool};

pub const LANGUAGE: Language = Language {
    name: "c",
    title: "C",
    marker: "Makefile",
    template: None,
    name_of: name_of_folder,
    build: |project| build(project).boxed(),
};

const REMEDY: &str = "make is not here: on Debian `apt-get install make clang lld wasi-libc \
                      libclang-rt-dev-wasm32`";

/// `make` has to leave `dist/{name of the folder}.wasm`.
async fn build(project: Project) -> Result<PathBuf, BuildError> {
    let mut make = Command::new("make");
    make.current_dir(&project.folder);
    run_tool(make, "make", REMEDY).await?;
    Ok(project.folder.join(format!("dist/{}.wasm", project.name)))
}
