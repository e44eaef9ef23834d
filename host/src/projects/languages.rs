//! The supported languages: recognising, building and creating projects.

mod c;
mod go;
mod js;
mod python;
mod rust;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use futures_util::future::BoxFuture;

use super::Project;
use super::process::BuildError;
use super::template::Template;

/// A language that plugins are written in.
pub struct Language {
    /// Its name on the command line.
    pub name: &'static str,
    /// Its name for people.
    pub title: &'static str,
    /// The file that identifies a project.
    pub(super) marker: &'static str,
    /// The files of a new project, if `host new` offers the language.
    pub(super) template: Option<Template>,
    /// Reads the project's name from its own files.
    pub(super) name_of: fn(&Path) -> Result<String>,
    /// Builds a project and returns the plugin's path.
    pub(super) build: fn(Project) -> BoxFuture<'static, Result<PathBuf, BuildError>>,
}

/// All languages. If a folder matches several, the first one wins: any project may have a Makefile.
pub static LANGUAGES: &[Language] =
    &[rust::LANGUAGE, js::LANGUAGE, python::LANGUAGE, go::LANGUAGE, c::LANGUAGE];

impl Language {
    /// The language with this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        LANGUAGES.iter().find(|language| language.name == name)
    }

    /// The languages that `host new` offers.
    pub fn offered() -> impl Iterator<Item = &'static Self> {
        LANGUAGES.iter().filter(|language| language.template.is_some())
    }
}

/// The folder's name, for projects without a name of their own.
fn name_of_folder(folder: &Path) -> Result<String> {
    let name = folder.file_name().context("it has no name")?;
    Ok(name.to_string_lossy().into_owned())
}
