//! The languages: how each is recognised, built, and begun.

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
    /// As `--lang` names it.
    pub name: &'static str,
    /// As people name it.
    pub title: &'static str,
    /// The file by which a project is recognised.
    pub(super) marker: &'static str,
    /// How a project begins, where that is offered.
    pub(super) template: Option<Template>,
    /// What a project calls itself.
    pub(super) name_of: fn(&Path) -> Result<String>,
    /// Builds a project, and says where the plugin is.
    pub(super) build: fn(Project) -> BoxFuture<'static, Result<PathBuf, BuildError>>,
}

/// All of them. Where a folder could be of several, the first: a Makefile may stand in any.
pub static LANGUAGES: &[Language] =
    &[rust::LANGUAGE, js::LANGUAGE, python::LANGUAGE, go::LANGUAGE, c::LANGUAGE];

impl Language {
    /// The one of that name.
    pub fn named(name: &str) -> Option<&'static Self> {
        LANGUAGES.iter().find(|language| language.name == name)
    }

    /// The names of those that `host new` offers.
    pub fn offered() -> impl Iterator<Item = &'static str> {
        LANGUAGES.iter().filter(|language| language.template.is_some()).map(|one| one.name)
    }
}

/// The project is called as its folder.
fn name_of_folder(folder: &Path) -> Result<String> {
    let name = folder.file_name().context("it has no name")?;
    Ok(name.to_string_lossy().into_owned())
}
