//! New projects: a template and a copy of the SDK, both from the binary itself, so that nothing else is needed to
//! start.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use include_dir::{Dir, include_dir};

use super::Language;

/// The placeholder for the project's name in the templates.
const NAME: &str = "my-workspace";

/// The files that are the same in all languages.
static COMMON: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../sdk/template");

/// The versions of the contract. A copy of an SDK has the one that it speaks in its folder `wit`.
pub const V0_1_0: &str = include_str!("../../../wit/0.1.0/workspace.wit");
pub const V0_2_0: &str = include_str!("../../../wit/0.2.0/workspace.wit");

/// The files of a new project in one language.
pub struct Template {
    /// The project's own files.
    pub project: Dir<'static>,
    /// The folder for the copy of the SDK.
    pub sdk: &'static str,
    /// The contract that the SDK speaks.
    pub contract: &'static str,
    /// Single files of the SDK, by their path in it.
    pub files: &'static [(&'static str, &'static str)],
    /// Folders of the SDK, by their path in it.
    pub folders: &'static [(&'static str, Dir<'static>)],
    /// A file of the SDK in which a path differs in the copy, the path in the repository, and the path in the copy.
    pub moved: Option<(&'static str, &'static str, &'static str)>,
}

/// Creates a project of this name in a folder that does not exist yet or is empty.
pub fn create(folder: &Path, name: &str, language: &Language) -> Result<()> {
    let shown = folder.display();
    // A name that the host, Cargo, npm and Python's packages all accept.
    let good = name.len() <= 64
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    ensure!(
        good,
        "{name:?} cannot be a project's name; use up to 64 of a-z 0-9 - and begin with a letter"
    );
    let Some(template) = &language.template else {
        bail!("there is no template for {} yet", language.title);
    };
    match fs::read_dir(folder) {
        Ok(mut entries) => {
            ensure!(entries.next().is_none(), "{shown} already exists and is not empty");
        }
        Err(_) => {
            fs::create_dir_all(folder).with_context(|| format!("{shown} cannot be created"))?
        }
    }
    let sdk = Path::new(template.sdk);
    let mut files = Vec::new();
    for own in [&COMMON, &template.project] {
        collect(own, Path::new(""), &mut files);
        for (path, bytes) in &mut files {
            *path = path.to_string_lossy().replace(NAME, name).into();
            if let Ok(text) = std::str::from_utf8(bytes) {
                *bytes = text.replace(NAME, name).into();
            }
        }
    }
    for (path, inner) in template.folders {
        collect(inner, &sdk.join(path), &mut files);
    }
    for (path, text) in template.files {
        files.push((sdk.join(path), text.as_bytes().to_vec()));
    }
    files.push((sdk.join("wit/workspace.wit"), template.contract.as_bytes().to_vec()));
    for (path, mut bytes) in files {
        if let Some((file, from, to)) = template.moved
            && path == sdk.join(file)
            && let Ok(text) = std::str::from_utf8(&bytes)
        {
            bytes = text.replace(from, to).into();
        }
        let path = folder.join(path);
        let written = path.parent().map_or(Ok(()), fs::create_dir_all);
        written
            .and_then(|()| fs::write(&path, bytes))
            .with_context(|| format!("{} cannot be written", path.display()))?;
    }
    Ok(())
}

/// All files of a folder except what tools leave there, and except the link to the contract.
fn collect(dir: &Dir<'_>, at: &Path, files: &mut Vec<(std::path::PathBuf, Vec<u8>)>) {
    for file in dir.files() {
        let is_link = file.path() == Path::new("wit");
        let is_compiled = file.path().extension().is_some_and(|extension| extension == "pyc");
        if !is_link && !is_compiled {
            files.push((at.join(file.path()), file.contents().to_vec()));
        }
    }
    for inner in dir.dirs() {
        collect(inner, at, files);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::projects::{LANGUAGES, Project};

    #[test]
    fn a_new_project_is_whole_and_has_its_own_name() {
        let folder = tempfile::tempdir().expect("a folder");
        for language in LANGUAGES.iter().filter(|language| language.template.is_some()) {
            let at = folder.path().join(format!("tea-{}", language.name));
            let name = format!("tea-{}", language.name);
            create(&at, &name, language).expect("a project");
            let template = language.template.as_ref().expect("it has one");
            let contract = at.join(template.sdk).join("wit/workspace.wit");
            assert_eq!(fs::read_to_string(contract).expect("a file"), template.contract);
            for file in ["README.md", "scenario.json", ".gitignore", &format!("{name}.toml")] {
                let text = fs::read_to_string(at.join(file)).expect(file);
                assert!(!text.contains(NAME), "{file}");
            }
            let project = Project::open(&at).expect("it is one");
            assert_eq!((project.name.as_str(), project.language.name), (&*name, language.name));
            if let Some((file, from, to)) = template.moved {
                let text = fs::read_to_string(at.join(template.sdk).join(file)).expect("a file");
                assert!(!text.contains(from) && text.contains(&format!("path: \"{to}\"")));
            }
            let error = create(&at, &name, language).unwrap_err().to_string();
            assert!(error.contains("already exists"), "{error}");
        }
    }

    #[test]
    fn a_name_is_one_for_every_tool() {
        for name in ["", "9a", "A", "a b", "../a", "a_b", &"a".repeat(65)] {
            let error = create(Path::new("/nowhere"), name, &LANGUAGES[0]).unwrap_err();
            assert!(error.to_string().contains("cannot be a project's name"), "{name}: {error}");
        }
    }
}
