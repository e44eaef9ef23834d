//! C, and whatever else a Makefile builds.

use std::path::{Path, PathBuf};

use anyhow::Result;
use futures_util::FutureExt;
use include_dir::include_dir;
use tokio::process::Command;

use super::{Language, name_of_folder};
use crate::projects::Project;
use crate::projects::process::{BuildError, run_tool};
use crate::projects::template::{self, Template};

pub const LANGUAGE: Language = Language {
    name: "c",
    title: "C",
    marker: "Makefile",
    template: Some(Template {
        project: include_dir!("$CARGO_MANIFEST_DIR/../sdk/c/template"),
        sdk: "epicenter",
        contract: template::V0_1_0,
        files: &[
            ("epicenter.c", include_str!("../../../../sdk/c/epicenter.c")),
            ("epicenter.h", include_str!("../../../../sdk/c/epicenter.h")),
            ("plugin.mk", include_str!("../../../../sdk/c/plugin.mk")),
            ("README.md", include_str!("../../../../sdk/c/README.md")),
        ],
        folders: &[
            ("bindings", include_dir!("$CARGO_MANIFEST_DIR/../sdk/c/bindings")),
            ("yyjson", include_dir!("$CARGO_MANIFEST_DIR/../sdk/c/yyjson")),
        ],
        moved: None,
    }),
    name_of,
    build: |project| build(project).boxed(),
};

const REMEDY: &str = "make is not here: on Debian `apt-get install make clang-19 lld-19 \
                      libclang-rt-19-dev-wasm32 wasi-libc`";

/// What the SDK's part of the makefile compiles with where `WASI_SDK_PATH` names nothing else.
const COMPILER: &str = "clang-19";

/// The name in the Makefile (`NAME := notes`), or the folder's.
fn name_of(folder: &Path) -> Result<String> {
    let makefile = std::fs::read_to_string(folder.join("Makefile"))?;
    let named = makefile.lines().find_map(|line| {
        let value = line.trim().strip_prefix("NAME")?.trim_start();
        let value = value.strip_prefix([':', '?']).unwrap_or(value);
        Some(value.strip_prefix('=')?.trim().to_owned())
    });
    named.map_or_else(|| name_of_folder(folder), Ok)
}

/// `make` has to leave `dist/{name}.wasm`.
async fn build(project: Project) -> Result<PathBuf, BuildError> {
    let mut make = Command::new("make");
    make.current_dir(&project.folder);
    let made = run_tool(make, "make", REMEDY).await;
    made.map_err(|error| match std::env::var_os("WASI_SDK_PATH").is_none() && !has_compiler() {
        true => error.context(format!(
            "there is no {COMPILER}: on Debian `apt-get install clang-19 lld-19 \
             libclang-rt-19-dev-wasm32 wasi-libc`, elsewhere set WASI_SDK_PATH to a WASI SDK"
        )),
        false => error,
    })?;
    Ok(project.folder.join(format!("dist/{}.wasm", project.name)))
}

fn has_compiler() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(COMPILER).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_makefile_says_its_name() {
        let folder = tempfile::tempdir().expect("a folder");
        for (text, name) in [("SOURCES := a.c\nNAME := tea\n", "tea"), ("NAME=tea", "tea")] {
            std::fs::write(folder.path().join("Makefile"), text).expect("a file");
            assert_eq!(name_of(folder.path()).expect("a name"), name);
        }
        std::fs::write(folder.path().join("Makefile"), "NAMES := a b").expect("a file");
        assert_eq!(name_of(folder.path()).ok(), name_of_folder(folder.path()).ok());
    }
}
