//! The documentation: `cargo xtask docs` writes the page of flags, and tests check the pages.
//!
//! Links between pages and to files of the repository must be valid, including anchors.
//! `ARCHITECTURE.md` names many files; each must exist, so that readers are not misled.

use anyhow::Result;
use xshell::{Shell, cmd};

use crate::root;

pub fn write() -> Result<()> {
    let shell = Shell::new()?;
    shell.change_dir(root());
    // The generator is a test of the package with the command line; this variable makes it write.
    cmd!(shell, "cargo test --locked --package host --lib -- cli::reference")
        .env("WRITE_DOCS", "1")
        .run()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::fs;
    use std::path::{Component, Path, PathBuf};

    use crate::root;

    /// Folders without documentation of ours.
    const SKIPPED: &[&str] = &["target", "node_modules", "dist", "build", "fuzz", "data"];

    #[test]
    fn every_link_leads_somewhere() {
        let root = root();
        let mut pages = BTreeMap::new();
        collect(&root, &root, &mut pages);
        assert!(pages.contains_key(Path::new("README.md")) && pages.len() > 10);
        let mut broken = Vec::new();
        for (page, text) in &pages {
            let folder = page.parent().unwrap_or(Path::new(""));
            for link in
                links(text).filter(|link| !link.contains("://") && !link.starts_with("mailto:"))
            {
                let (file, anchor) =
                    link.split_once('#').map_or((link, None), |(f, a)| (f, Some(a)));
                let to = if file.is_empty() { page.clone() } else { flat(&folder.join(file)) };
                let exists = root.join(&to).exists();
                let anchored = anchor.is_none_or(|anchor| {
                    pages.get(&to).is_some_and(|text| anchors(text).contains(anchor))
                });
                if !exists || !anchored {
                    broken.push(format!("{}: {link}", page.display()));
                }
            }
        }
        assert!(broken.is_empty(), "links that lead nowhere:\n{}", broken.join("\n"));
    }

    #[test]
    fn every_page_is_linked_from_the_readme() {
        let root = root();
        let readme = fs::read_to_string(root.join("README.md")).expect("there is a README");
        let linked: Vec<_> = links(&readme).collect();
        for page in fs::read_dir(root.join("docs")).expect("there are pages") {
            let name = page.expect("an entry").file_name().to_string_lossy().into_owned();
            assert!(linked.contains(&&*format!("docs/{name}")), "README.md does not link {name}");
        }
    }

    #[test]
    fn what_architecture_names_is_there() {
        let root = root();
        let text = fs::read_to_string(root.join("ARCHITECTURE.md")).expect("it is there");
        let tops = ["host/", "wit/", "sdk/", "tests/", "xtask/", "examples/", "docs/", "plugins/"];
        let mut missing = Vec::new();
        for line in prose(&text) {
            // A row of the code map starts with a folder and names files and folders in it.
            let folder = line.starts_with("| `").then(|| code(line).next()).flatten();
            let inside = folder.map(|folder| stems(&root.join(folder)));
            for name in code(line) {
                let last = name.trim_end_matches('/').rsplit('/').next().unwrap_or(name);
                let is_word = last.chars().all(|c| c.is_ascii_lowercase() || c == '_');
                let found = if tops.iter().any(|top| name.starts_with(top)) {
                    root.join(name).exists() || name.contains(['*', '{', ' '])
                } else {
                    !is_word || inside.as_ref().is_none_or(|inside| inside.contains(last))
                };
                if !found {
                    missing.push(format!("{}: {name}", folder.unwrap_or_default()));
                }
            }
        }
        assert!(
            missing.is_empty(),
            "ARCHITECTURE.md names what is not there:\n{}",
            missing.join("\n")
        );
    }

    #[test]
    fn a_heading_is_an_anchor_as_forges_make_them() {
        let anchors = anchors(
            "# What a plugin may use\n```sh\n# no heading\n```\n## `host rows`: all, & more\n",
        );
        assert_eq!(
            anchors,
            ["host-rows-all--more", "what-a-plugin-may-use"].map(str::to_owned).into()
        );
        assert_eq!(
            links("[a](b.md#c) ![d](e)\n```\n[f](g)\n```\n`[h](i)`").collect::<Vec<_>>(),
            ["b.md#c", "e"]
        );
    }

    fn collect(root: &Path, folder: &Path, pages: &mut BTreeMap<PathBuf, String>) {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let skipped = name.starts_with('.') || SKIPPED.contains(&&*name);
            if path.is_symlink() || skipped {
                continue;
            }
            if path.is_dir() {
                collect(root, &path, pages);
            } else if name.ends_with(".md") {
                let text = fs::read_to_string(&path).expect("a page is text");
                pages.insert(path.strip_prefix(root).expect("it is below").to_owned(), text);
            }
        }
    }

    /// The lines outside of code blocks.
    fn prose(text: &str) -> impl Iterator<Item = &str> {
        let mut inside = false;
        text.lines().filter(move |line| {
            let fence = line.trim_start().starts_with("```");
            inside ^= fence;
            !inside && !fence
        })
    }

    /// The code spans on a line.
    fn code(line: &str) -> impl Iterator<Item = &str> {
        line.split('`').skip(1).step_by(2)
    }

    fn links(text: &str) -> impl Iterator<Item = &str> {
        prose(text).flat_map(|line| {
            // The text of a link may contain code, but a link inside a code span is not one.
            line.match_indices("](").filter_map(|(at, _)| {
                let outside = line[..at].matches('`').count() % 2 == 0;
                let rest = &line[at + 2..];
                Some(&rest[..rest.find(')')?]).filter(|_| outside)
            })
        })
    }

    fn anchors(text: &str) -> BTreeSet<String> {
        let headings = prose(text).filter(|line| line.starts_with('#'));
        let anchor = |heading: &str| {
            let heading = heading.trim_start_matches('#').trim().to_lowercase();
            let kept =
                heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
            kept.map(|c| if c == ' ' { '-' } else { c }).collect()
        };
        headings.map(anchor).collect()
    }

    /// Resolves `..` in a path.
    fn flat(path: &Path) -> PathBuf {
        let mut flat = PathBuf::new();
        for part in path.components() {
            match part {
                Component::ParentDir => drop(flat.pop()),
                Component::CurDir => {}
                part => flat.push(part),
            }
        }
        flat
    }

    /// The names, without extensions, of all files and folders below a folder.
    fn stems(folder: &Path) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        let mut folders = vec![folder.to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                let (name, path) = (entry.file_name(), entry.path());
                let name = name.to_string_lossy();
                if name.starts_with('.') || SKIPPED.contains(&&*name) {
                    continue;
                }
                found.insert(name.split('.').next().unwrap_or(&name).to_owned());
                if path.is_dir() && !path.is_symlink() {
                    folders.push(path);
                }
            }
        }
        found
    }
}
