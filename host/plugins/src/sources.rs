//! The files that make a plugin, and their contents.
//!
//! A plugin is named by its main file: `blog.wasm` or `notes/workspace.rhai`. The files that belong
//! to it are next to it:
//!
//! | | beside `blog.wasm` | beside `notes/workspace.rhai` |
//! |---|---|---|
//! | grants and limits | `blog.toml` | `notes/workspace.toml` |
//! | actions, a file each | `blog/actions/**.rhai` | `notes/actions/**.rhai` |
//! | actions, a function each | `blog.actions.rhai` | `notes/workspace.rhai` itself |
//! | schemas | the component has them | `notes/tables/*.json`, `notes/tables/*/*.json` |
//!
//! A change to any of them makes a new version of the whole plugin.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::io;
use std::path::{Component, Path};
use std::sync::Arc;
use std::time::SystemTime;

use host_wasm::Hash;
use sha2::{Digest, Sha256};

use crate::limits::Limits;
use crate::reach::manifest::Manifest;

/// Maximum files of one plugin; more are a mistake.
const FILES: usize = 1_000;

/// Nesting limit of folders within `actions`: as many as an action's path may have segments.
const DEPTH: usize = 8;

const WASM: &str = ".wasm";
const WORKSPACE: &str = "/workspace.rhai";
const MANIFEST: &str = ".toml";

/// Distinguishes versions of a plugin without reading them, by the stamp of each file, keyed by
/// path within the folder.
pub(crate) type Fingerprint = BTreeMap<String, Stamp>;

/// Distinguishes versions of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    len: u64,
    modified: Option<SystemTime>,
    inode: u64,
}

/// A text file.
#[derive(Debug, Clone)]
pub(crate) struct Text {
    /// The path within the plugins folder, with `/`.
    pub(crate) path: String,
    pub(crate) text: String,
}

/// The contents of one plugin.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    /// `blog` for `blog.wasm`, `notes` for `notes/workspace.rhai`.
    pub(crate) stem: String,
    pub(crate) component: Option<Vec<u8>>,
    /// The default if the manifest is missing or invalid.
    pub(crate) manifest: Manifest,
    /// The host's limits with the manifest's changes.
    pub(crate) limits: Arc<Limits>,
    /// The error in the manifest, reported after the whole plugin has been checked.
    pub(crate) faults: Vec<String>,
    /// `workspace.rhai`.
    pub(crate) workspace: Option<Text>,
    /// `blog.actions.rhai`.
    pub(crate) functions: Option<Text>,
    /// By the path of the action.
    pub(crate) actions: BTreeMap<String, Text>,
    /// Schemas by table and version.
    pub(crate) tables: BTreeMap<String, BTreeMap<usize, Text>>,
}

/// Lists the plugins in a folder by name, and manifests that belong to none. Follows links, and
/// only considers regular files.
pub(crate) fn list(dir: &Path) -> io::Result<BTreeMap<String, Fingerprint>> {
    let mut plugins: BTreeMap<String, Fingerprint> = BTreeMap::new();
    let mut beside = BTreeMap::new();
    let mut folders = Vec::new();
    for entry in std::fs::read_dir(dir)?.flatten() {
        let Ok(name) = entry.file_name().into_string() else { continue };
        if is_temporary(&name) {
            continue;
        }
        // A dangling link, or a file that has just been removed: treated as absent.
        let Ok(metadata) = std::fs::metadata(entry.path()) else { continue };
        if metadata.is_dir() {
            folders.push(name);
        } else if metadata.is_file() {
            if name.ends_with(WASM) {
                plugins.insert(name.clone(), BTreeMap::from([(name, stamp(&metadata))]));
            } else if name.ends_with(".toml") || name.ends_with(".rhai") {
                beside.insert(name, stamp(&metadata));
            }
        }
    }
    for folder in folders {
        let wasm = format!("{folder}{WASM}");
        let main = format!("{folder}{WORKSPACE}");
        let name = match std::fs::metadata(dir.join(&main)) {
            Ok(metadata) if metadata.is_file() => main,
            _ if plugins.contains_key(&wasm) => wasm,
            _ => continue,
        };
        let files = plugins.entry(name).or_default();
        for part in ["workspace.rhai", "workspace.toml", "actions", "tables"] {
            walk(dir, &format!("{folder}/{part}"), DEPTH, files);
        }
    }
    for (name, stamp) in beside {
        let mut owner = plugins_of(&name).into_iter().filter(|plugin| plugins.contains_key(plugin));
        match owner.next() {
            Some(plugin) => drop(plugins.entry(plugin).or_default().insert(name, stamp)),
            // A manifest without a plugin is a mistake, and is reported as a plugin that cannot be
            // loaded.
            None if name.ends_with(MANIFEST) => {
                plugins.insert(name.clone(), BTreeMap::from([(name, stamp)]));
            }
            None => {}
        }
    }
    Ok(plugins)
}

/// Adds a file or the contents of a folder. Stops at one file over the limit, so that the excess is
/// noticed.
fn walk(dir: &Path, path: &str, depth: usize, files: &mut Fingerprint) {
    let Ok(metadata) = std::fs::metadata(dir.join(path)) else { return };
    if metadata.is_file() {
        if files.len() <= FILES
            && (path.ends_with(".rhai") || path.ends_with(".json") || path.ends_with(".toml"))
        {
            files.insert(path.to_owned(), stamp(&metadata));
        }
        return;
    }
    let Ok(entries) = std::fs::read_dir(dir.join(path)) else { return };
    for entry in entries.flatten() {
        if let Ok(name) = entry.file_name().into_string()
            && !is_temporary(&name)
            && depth > 0
        {
            walk(dir, &format!("{path}/{name}"), depth - 1, files);
        }
    }
}

/// The plugins that a file may belong to, given its path within the folder.
pub(crate) fn plugins_of(path: &str) -> Vec<String> {
    if path.split('/').any(is_temporary) {
        return Vec::new();
    }
    match path.split_once('/') {
        Some((folder, _)) => vec![format!("{folder}{WORKSPACE}"), format!("{folder}{WASM}")],
        None => {
            let stems = [
                path.strip_suffix(WASM),
                path.strip_suffix(".toml"),
                path.strip_suffix(".actions.rhai"),
            ];
            stems.into_iter().flatten().map(|stem| format!("{stem}{WASM}")).collect()
        }
    }
}

/// The path within the folder in a plugin's notation; `None` if it has none.
pub(crate) fn within(dir: &Path, path: &Path) -> Option<String> {
    let mut segments = Vec::new();
    for component in path.strip_prefix(dir).ok()?.components() {
        match component {
            Component::Normal(segment) => segments.push(segment.to_str()?),
            _ => return None,
        }
    }
    Some(segments.join("/"))
}

/// Whether a file is its plugin's manifest.
fn is_manifest(path: &str) -> bool {
    path.ends_with(MANIFEST) && !path.contains("/actions/") && !path.contains("/tables/")
}

/// Editors and copying tools write temporary files first, whose names start with a dot or a tilde
/// or end differently: `.blog.wasm.swp`, `blog.wasm~`, `blog.wasm.tmp`, `4913`.
fn is_temporary(name: &str) -> bool {
    name.starts_with(['.', '~', '#']) || name.ends_with(['~', '#'])
}

fn stamp(metadata: &Metadata) -> Stamp {
    Stamp { len: metadata.len(), modified: metadata.modified().ok(), inode: inode(metadata) }
}

pub(crate) fn inode(metadata: &Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(metadata)
}

impl Sources {
    /// Reads a plugin's files. The error names the faulty file.
    pub(crate) fn read(
        dir: &Path,
        plugin: &str,
        files: &Fingerprint,
        limits: &Arc<Limits>,
    ) -> Result<(Self, Hash, u64), String> {
        if files.len() > FILES {
            return Err(format!("it has more than {FILES} files"));
        }
        if let Some(stem) = plugin.strip_suffix(MANIFEST) {
            return Err(format!(
                "there is no {stem}{WASM} beside it that it could grant anything; the manifest of a folder \
                 of scripts is {stem}/workspace.toml"
            ));
        }
        let stem = plugin.strip_suffix(WASM).or(plugin.strip_suffix(WORKSPACE)).unwrap_or(plugin);
        let mut sources = Self { stem: stem.to_owned(), limits: limits.clone(), ..Self::default() };
        // The manifest comes first, because it may set the size limits of the others.
        let mut manifest = None;
        if let Some(path) = files.keys().find(|path| is_manifest(path)) {
            let bytes = read(&dir.join(path), path, limits.script_bytes)?;
            sources.read_manifest(path, &text_of(path, bytes.clone())?);
            manifest = Some((path, bytes));
        }
        let mut hasher = Sha256::new();
        let mut size = 0;
        for path in files.keys() {
            let is_component = path.ends_with(WASM);
            let limits = &sources.limits;
            let limit = if is_component { limits.file_bytes } else { limits.script_bytes };
            let bytes = match &mut manifest {
                Some((manifest, bytes)) if *manifest == path => std::mem::take(bytes),
                _ => read(&dir.join(path), path, limit)?,
            };
            size += bytes.len() as u64;
            if files.len() > 1 {
                hasher.update((path.len() as u64).to_le_bytes());
                hasher.update(path);
                hasher.update((bytes.len() as u64).to_le_bytes());
            }
            hasher.update(&bytes);
            if is_component {
                sources.component = Some(bytes);
            } else if !path.ends_with(MANIFEST) {
                sources.place(Text { path: path.clone(), text: text_of(path, bytes)? })?;
            }
        }
        Ok((sources, Hash::from(hasher), size))
    }

    /// A component without other files.
    pub(crate) fn component(stem: &str, bytes: Vec<u8>, limits: Limits) -> Self {
        let limits = Arc::new(limits);
        Self { stem: stem.to_owned(), component: Some(bytes), limits, ..Self::default() }
    }

    fn read_manifest(&mut self, path: &str, text: &str) {
        match Manifest::read(path, text) {
            Ok(manifest) => {
                match manifest.apply(&self.limits) {
                    Ok(limits) => self.limits = limits,
                    Err(fault) => self.faults.push(fault),
                }
                self.manifest = manifest;
            }
            Err(fault) => self.faults.push(fault),
        }
    }

    /// Whether there are any scripts.
    pub(crate) fn has_scripts(&self) -> bool {
        self.workspace.is_some() || self.functions.is_some() || !self.actions.is_empty()
    }

    fn place(&mut self, text: Text) -> Result<(), String> {
        let path = text.path.clone();
        let Some((_, inner)) = path.split_once('/') else {
            self.functions = Some(text);
            return Ok(());
        };
        if inner == "workspace.rhai" {
            self.workspace = Some(text);
        } else if let Some(action) = inner.strip_prefix("actions/") {
            if let Some(action) = action.strip_suffix(".rhai") {
                self.actions.insert(action.to_owned(), text);
            }
        } else if let Some(table) =
            inner.strip_prefix("tables/").and_then(|t| t.strip_suffix(".json"))
        {
            let (table, version) = match table.split_once('/') {
                None => (table, 1),
                Some((table, version)) => {
                    let version = version.parse().map_err(|_| {
                        format!("{path}: name it by its version, 1.json, 2.json and so on")
                    })?;
                    (table, version)
                }
            };
            let versions = self.tables.entry(table.to_owned()).or_default();
            if let Some(other) = versions.insert(version, text) {
                return Err(format!(
                    "{path}: is version {version} of the table {table}, and so is {}",
                    other.path
                ));
            }
        }
        Ok(())
    }
}

fn text_of(path: &str, bytes: Vec<u8>) -> Result<String, String> {
    String::from_utf8(bytes).map_err(|_| format!("{path}: not UTF-8 text"))
}

fn read(path: &Path, name: &str, limit: u64) -> Result<Vec<u8>, String> {
    let failed = |error: io::Error| format!("{name} cannot be read: {error}");
    let size = std::fs::metadata(path).map_err(failed)?.len();
    if size > limit {
        return Err(format!("{name} has {size} bytes; {limit} is the most"));
    }
    std::fs::read(path).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn temporary_files_of_editors_are_not_plugins() {
        for name in [
            ".blog.wasm",
            "blog.wasm~",
            "blog.wasm.tmp",
            ".blog.wasm.swp",
            "4913",
            "#blog.wasm#",
            "~blog.wasm",
        ] {
            assert_eq!(plugins_of(name), Vec::<String>::new(), "{name}");
        }
    }

    #[test]
    fn a_file_belongs_to_the_plugin_that_it_stands_beside() {
        let cases: [(&str, &[&str]); 6] = [
            ("blog.wasm", &["blog.wasm"]),
            ("blog.toml", &["blog.wasm"]),
            ("blog.actions.rhai", &["blog.wasm"]),
            ("blog/actions/posts/top.rhai", &["blog/workspace.rhai", "blog.wasm"]),
            ("notes/tables/.notes.json.swp", &[]),
            ("readme.md", &[]),
        ];
        for (path, plugins) in cases {
            assert_eq!(plugins_of(path), plugins, "{path}");
        }
    }

    #[test]
    fn a_folder_is_read_into_its_parts() {
        let dir = tempfile::TempDir::new().unwrap();
        let files = [
            "blog.wasm",
            "blog.toml",
            "blog.actions.rhai",
            "blog/actions/posts/top.rhai",
            "notes/workspace.rhai",
            "notes/workspace.toml",
            "notes/tables/notes.json",
            "notes/tables/tags/1.json",
            "notes/tables/tags/2.json",
            "notes/other.txt",
            "alone/actions/x.rhai",
            "lost.toml",
        ];
        for file in files {
            let path = dir.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "x").unwrap();
        }
        let found = list(dir.path()).unwrap();
        assert_eq!(
            found.keys().collect::<Vec<_>>(),
            ["blog.wasm", "lost.toml", "notes/workspace.rhai"]
        );
        assert_eq!(found["blog.wasm"].len(), 4);
        let read = |plugin: &str| {
            Sources::read(dir.path(), plugin, &found[plugin], &Arc::default()).unwrap()
        };
        let lost = Sources::read(dir.path(), "lost.toml", &found["lost.toml"], &Arc::default());
        assert!(lost.unwrap_err().contains("there is no lost.wasm"));
        let (blog, hash, _) = read("blog.wasm");
        assert_eq!(blog.actions.keys().collect::<Vec<_>>(), ["posts/top"]);
        assert!(blog.component.is_some() && !blog.faults.is_empty() && blog.functions.is_some());
        let (notes, other, size) = read("notes/workspace.rhai");
        assert_eq!((notes.stem.as_str(), size), ("notes", 5));
        assert_eq!(notes.tables["tags"].len(), 2);
        assert!(hash != other);
    }

    #[test]
    fn a_manifest_says_how_large_the_other_files_may_be() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        let limits = Arc::new(Limits { file_bytes: 10, ..Limits::default() });
        let read = || {
            let found = list(dir.path()).unwrap();
            Sources::read(dir.path(), "a.wasm", &found["a.wasm"], &limits)
                .map(|(sources, ..)| sources.component.is_some())
        };
        write("a.wasm", "eleven bytes");
        assert_eq!(read(), Err("a.wasm has 12 bytes; 10 is the most".into()));
        write("a.toml", "[limits]\nfile-bytes = \"1KiB\"");
        assert_eq!(read(), Ok(true));
    }
}
