//! `cargo xtask guests`: builds all guests. Those in other languages than Rust are in
//! `languages.rs`.
//!
//! Rust guests are core modules, as an author gets from plain `cargo build`; `host-toolchain` knows
//! what compiles them. All share one target folder and one profile, so that the standard library is
//! built at most once.
//!
//! Installed plugins are committed, so that the first run needs no such toolchain. Each carries the
//! hash of the sources that it was built from (see `sources.rs`), with which `--check` and a test
//! detect a stale one.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use host_toolchain::{DEBIAN_LIBRARY, DEBIAN_PACKAGES, Missing, TARGET, Toolchain};
use serde_json::Value;
use xshell::{Shell, cmd};

use crate::{debian, languages, root, sources};

/// Guests that belong to the repository: their folder, and where the plugin is installed.
const PLUGINS: &[(&str, &str)] = &[("examples/blog", "plugins/blog.wasm")];

/// Examples that are built for the tests and not installed.
const EXAMPLES: &[&str] = &["examples/shop"];

/// A Cargo workspace of guests that only tests load.
const TEST_GUESTS: &str = "tests/guests";

/// Where the test guests end up, one `.wasm` file each.
const TEST_GUESTS_OUT: &str = "target/guests";

/// Where all guests are compiled.
const BUILD_FOLDER: &str = "target/guest-build";

#[derive(clap::Args)]
pub struct Args {
    /// Builds nothing; fails when an installed plugin is not built from the sources beside it.
    #[arg(long)]
    check: bool,
}

pub fn run(args: &Args) -> Result<()> {
    let root = root();
    if args.check {
        return check(&root);
    }
    let shell = Shell::new()?;
    let toolchain = toolchain(&shell)?;
    for (guest, plugin) in PLUGINS {
        // Hashed before the build, so that a change during the build makes the result stale.
        let hash = sources::hash(&root, guest)?;
        let [module] = &build(&shell, &toolchain, &root, guest)?[..] else {
            bail!("{guest} must build exactly one cdylib");
        };
        let module =
            fs::read(module).with_context(|| format!("cannot read {}", module.display()))?;
        install(&root.join(plugin), &sources::stamp(module, &hash))?;
    }
    build_test_guests(&shell, &toolchain, &root)
}

/// Builds the guests of tests. The installed plugins must be up to date. They are built to check
/// that they compile, but not replaced, because another compiler produces different bytes from the
/// same sources.
pub fn prepare_tests() -> Result<()> {
    let root = root();
    check(&root)?;
    let shell = Shell::new()?;
    let toolchain = toolchain(&shell)?;
    for (guest, _) in PLUGINS {
        build(&shell, &toolchain, &root, guest)?;
    }
    build_test_guests(&shell, &toolchain, &root)
}

fn build_test_guests(shell: &Shell, toolchain: &Toolchain, root: &Path) -> Result<()> {
    let out = root.join(TEST_GUESTS_OUT);
    for guest in EXAMPLES.iter().chain([&TEST_GUESTS]) {
        for module in build(shell, toolchain, root, guest)? {
            let name = module.file_name().context("an artifact has a file name")?;
            install(&out.join(name), &fs::read(&module)?)?;
        }
    }
    languages::build(shell, root, &out)
}

/// Fails if an installed plugin is stale.
fn check(root: &Path) -> Result<()> {
    for (guest, plugin) in PLUGINS {
        let remedy = "run `cargo xtask guests` and commit the result";
        let bytes =
            fs::read(root.join(plugin)).with_context(|| format!("no {plugin}: {remedy}"))?;
        match sources::read_stamp(&bytes) {
            Some(hash) if hash == sources::hash(root, guest)? => {}
            Some(_) => bail!("{plugin} is older than {guest}, sdk/rust or wit: {remedy}"),
            None => bail!(
                "{plugin} does not say what it was built from (no section {}): {remedy}",
                sources::SECTION
            ),
        }
    }
    Ok(())
}

/// Compiles a package or workspace of guests and returns the modules.
fn build(shell: &Shell, toolchain: &Toolchain, root: &Path, guest: &str) -> Result<Vec<PathBuf>> {
    eprintln!("building {guest} with {}", toolchain.name());
    let manifest = root.join(guest).join("Cargo.toml");
    // Fetched first, because the paths to hide in the module include the fetched folders.
    let cargo = toolchain.cargo();
    cmd!(shell, "{cargo} fetch --quiet --locked --manifest-path {manifest}")
        .envs(toolchain.environment())
        .run()?;
    let messages = cmd!(
        shell,
        "{cargo} build --release --locked --workspace --target {TARGET} --manifest-path {manifest}
         --message-format json-render-diagnostics"
    )
    .args(toolchain.build_flags())
    .envs(toolchain.environment())
    .envs(build_environment(root))
    .read()
    .with_context(|| format!("{guest} does not build"))?;
    let mut built = Vec::new();
    for message in messages.lines() {
        built.extend(modules(&serde_json::from_str(message)?));
    }
    Ok(built)
}

/// The target folder and flags for guests. Other projects compiled with the same ones and the same
/// profile share the dependencies.
pub fn build_environment(root: &Path) -> [(&'static str, OsString); 2] {
    [
        ("CARGO_TARGET_DIR", root.join(BUILD_FOLDER).into()),
        ("CARGO_ENCODED_RUSTFLAGS", hide_paths(root).join("\x1f").into()),
    ]
}

/// The modules named by one of Cargo's messages.
fn modules(message: &Value) -> Vec<PathBuf> {
    let files = message["filenames"].as_array().into_iter().flatten();
    files
        .filter_map(Value::as_str)
        .map(PathBuf::from)
        .filter(|file| file.extension().is_some_and(|extension| extension == "wasm"))
        .collect()
}

/// Writes a file atomically, and only if it changes: a running host watches the plugins folder.
pub fn install(path: &Path, bytes: &[u8]) -> Result<()> {
    if fs::read(path).is_ok_and(|present| present == bytes) {
        eprintln!("  {} is up to date", path.display());
        return Ok(());
    }
    let folder = path.parent().context("a file stands in a folder")?;
    let name = path.file_name().context("a file has a name")?;
    let partial = folder.join(format!(".{}.partial", name.to_string_lossy()));
    fs::create_dir_all(folder)?;
    fs::write(&partial, bytes)
        .and_then(|()| fs::rename(&partial, path))
        .with_context(|| format!("cannot write {}", path.display()))?;
    eprintln!("  wrote {} ({} bytes)", path.display(), bytes.len());
    Ok(())
}

/// Flags that keep this machine's paths out of panic messages.
fn hide_paths(root: &Path) -> Vec<String> {
    let mut paths = vec![(root.to_owned(), ""), (PathBuf::from(DEBIAN_LIBRARY), "rust")];
    let cargo_home = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(std::env::home_dir()?.join(".cargo")));
    if let Some(home) = cargo_home {
        // The last match wins, so each registry comes after the folder that contains it.
        paths.push((home.clone(), "cargo"));
        let registries = fs::read_dir(home.join("registry/src"));
        for registry in registries.into_iter().flatten().flatten() {
            paths.push((registry.path(), "crates"));
        }
    }
    paths
        .iter()
        .map(|(path, name)| format!("--remap-path-prefix={}={name}", path.display()))
        .collect()
}

/// The compiler for wasm on this machine. If there is none, Debian's is installed if possible.
fn toolchain(shell: &Shell) -> Result<Toolchain> {
    match Toolchain::find() {
        Err(Missing::Target) => {
            let remedy = format!(
                "run `rustup target add {TARGET}`, or {}",
                debian::command(DEBIAN_PACKAGES)
            );
            let missing = format!("Rust compiler for {TARGET}");
            debian::install(shell, &missing, DEBIAN_PACKAGES, &remedy)?;
            Ok(Toolchain::find()?)
        }
        found => Ok(found?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn installed_plugins_are_built_from_the_sources_beside_them() {
        if let Err(stale) = check(&root()) {
            panic!("{stale:#}");
        }
    }

    #[test]
    fn a_modules_name_is_read_from_cargos_message() {
        let message = serde_json::json!({
            "reason": "compiler-artifact",
            "filenames": ["target/release/libblog.rlib", "target/release/blog.wasm"],
        });
        assert_eq!(modules(&message), [PathBuf::from("target/release/blog.wasm")]);
        assert!(modules(&serde_json::json!({ "reason": "build-finished" })).is_empty());
    }
}
