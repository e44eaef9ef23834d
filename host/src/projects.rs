//! Plugin projects: a folder with sources, from which a toolchain builds a plugin.
//!
//! `host new` writes one from a template (`template`), `host build` builds it (`languages`, one file for each),
//! and `host dev` does so whenever its sources change (`sources`). A build leaves
//! `dist/{name}.wasm` in the project, and [`Built::install`] copies it into the plugins folder, with
//! the manifest `{name}.toml` if there is one.

mod builds;
mod languages;
mod process;
mod sources;
mod template;

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

pub use self::builds::{BuildState, Builds};
pub use self::languages::{LANGUAGES, Language};
pub use self::process::BuildError;
pub use self::sources::Sources;
pub use self::template::create;

/// A folder with the sources of a plugin.
#[derive(Clone)]
pub struct Project {
    /// The folder, as a full path.
    pub folder: PathBuf,
    /// The name of the plugin's file without `.wasm`.
    pub name: String,
    /// The language that it is written in.
    pub language: &'static Language,
}

impl Project {
    /// Recognises the project in a folder.
    pub fn open(folder: &Path) -> Result<Self> {
        let shown = folder.display();
        let folder =
            folder.canonicalize().with_context(|| format!("there is no folder {shown}"))?;
        ensure!(folder.is_dir(), "{shown} is not a folder; name the folder with the sources");
        let found = LANGUAGES.iter().find(|language| folder.join(language.marker).is_file());
        let Some(language) = found else {
            let markers: Vec<_> = LANGUAGES
                .iter()
                .map(|language| format!("{} ({})", language.marker, language.title))
                .collect();
            bail!(
                "{shown} is not a project: it has none of {}; `host new` creates one",
                markers.join(", ")
            );
        };
        let name = (language.name_of)(&folder).with_context(|| format!("the project {shown}"))?;
        ensure!(
            is_file_name(&name),
            "the project {shown} is named {name:?}, which cannot be a file's name"
        );
        Ok(Self { folder, name, language })
    }

    /// Builds the project. The toolchain's output goes to standard error, and into the error.
    pub async fn build(&self) -> Result<Built, BuildError> {
        let plugin = (self.language.build)(self.clone()).await?;
        let plugin = fs::read(&plugin)
            .with_context(|| format!("the build produced no {}", plugin.display()))?;
        let manifest = self.folder.join(format!("{}.toml", self.name));
        let manifest = match fs::read(&manifest) {
            Ok(manifest) => Some(manifest),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                return Err(anyhow::Error::new(error)
                    .context(format!("{} cannot be read", manifest.display()))
                    .into());
            }
        };
        let built = Built { name: self.name.clone(), plugin, manifest };
        // Next to the sources, where scenarios expect it.
        built.install(&self.folder.join("dist"))?;
        Ok(built)
    }
}

/// The result of a build.
pub struct Built {
    name: String,
    plugin: Vec<u8>,
    manifest: Option<Vec<u8>>,
}

impl Built {
    /// Installs the plugin in a folder and returns its path. Unchanged files are not touched,
    /// because a server may be watching.
    pub fn install(&self, folder: &Path) -> Result<PathBuf> {
        fs::create_dir_all(folder)
            .with_context(|| format!("{} cannot be created", folder.display()))?;
        // The manifest goes first, so that the new plugin is never served with the old manifest.
        if let Some(manifest) = &self.manifest {
            write(&folder.join(format!("{}.toml", self.name)), manifest)?;
        }
        let plugin = folder.join(format!("{}.wasm", self.name));
        write(&plugin, &self.plugin)?;
        Ok(plugin)
    }

    /// The plugin's size in bytes.
    pub fn size(&self) -> usize {
        self.plugin.len()
    }
}

/// Replaces a file atomically, unless it already has these contents.
fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    if fs::read(path).is_ok_and(|present| present == bytes) {
        return Ok(());
    }
    let replace = || -> std::io::Result<()> {
        let folder = path.parent().unwrap_or(Path::new("."));
        // Like any file that is made here, and not for this account alone.
        let mode = std::fs::Permissions::from_mode(0o666);
        let mut builder = tempfile::Builder::new();
        let mut file =
            builder.prefix(".").suffix(".partial").permissions(mode).tempfile_in(folder)?;
        file.write_all(bytes)?;
        file.persist(path)?;
        Ok(())
    };
    replace().with_context(|| format!("{} cannot be written", path.display()))
}

fn is_file_name(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\\', '\0'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_known_by_what_is_in_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let error = Project::open(folder.path()).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("none of Cargo.toml (Rust), package.json (TypeScript)"), "{error}");
        fs::write(folder.path().join("package.json"), r#"{"name":"@me/notes"}"#).expect("a file");
        let project = Project::open(folder.path()).expect("a project");
        assert_eq!((project.name.as_str(), project.language.name), ("notes", "js"));
        fs::write(folder.path().join("package.json"), r#"{"name":"../x/.."}"#).expect("a file");
        let error = Project::open(folder.path()).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("cannot be a file's name"), "{error}");
        fs::write(folder.path().join("Cargo.toml"), "[package]\nname = \"tea\"").expect("a file");
        assert_eq!(Project::open(folder.path()).expect("a project").name, "tea");
    }
}
