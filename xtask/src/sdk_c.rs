//! What `sdk/c` has of others: `cargo xtask bindings` writes the C bindings of the contract, or compares them, and a
//! test compares yyjson with what was recorded when it was taken over (`sdk/c/yyjson/UPSTREAM`).

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use xshell::{Shell, cmd};

use crate::root;

const CONTRACT: &str = "wit/0.1.0";
const BINDINGS: &str = "sdk/c/bindings";

#[derive(clap::Args)]
pub struct Args {
    /// Write nothing; fail if the bindings are not, byte by byte, what the generator makes of the contract.
    #[arg(long)]
    check: bool,
}

pub fn run(args: &Args) -> Result<()> {
    let root = root();
    let fresh = root.join("target/c-bindings/bindings");
    if fresh.exists() {
        fs::remove_dir_all(&fresh)?;
    }
    let shell = Shell::new()?;
    shell.change_dir(&root);
    cmd!(
        shell,
        "cargo run --quiet --locked --manifest-path xtask/bindings/Cargo.toml -- {CONTRACT} {fresh}"
    )
    .env("CARGO_TARGET_DIR", root.join("target/c-bindings"))
    .run()?;
    let committed = root.join(BINDINGS);
    if args.check {
        let same = files(&fresh)? == files(&committed)?;
        ensure!(same, "{BINDINGS} is not what {CONTRACT} makes: run `cargo xtask bindings`");
        return Ok(());
    }
    for (name, bytes) in files(&fresh)? {
        fs::write(committed.join(name), bytes)?;
    }
    Ok(())
}

/// The files of a folder in the order of their names.
fn files(folder: &Path) -> Result<Vec<(String, Vec<u8>)>> {
    let mut files = Vec::new();
    for entry in
        fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?
    {
        let entry = entry?;
        files.push((entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path())?));
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;

    #[test]
    fn yyjson_is_what_upstream_released() {
        let folder = root().join("sdk/c/yyjson");
        let upstream =
            fs::read_to_string(folder.join("UPSTREAM")).expect("it says where it is from");
        let mut recorded = 0;
        for (hash, name) in upstream.lines().filter_map(|line| line.split_once("  ")) {
            let bytes = fs::read(folder.join(name)).expect(name);
            assert_eq!(hex::encode(Sha256::digest(bytes)), hash, "{name} was changed");
            recorded += 1;
        }
        let present = files(&folder).expect("a folder").len();
        assert_eq!(recorded + 1, present, "each file is recorded, but for UPSTREAM itself");
        let header = fs::read_to_string(folder.join("yyjson.h")).expect("a header");
        let version =
            header.lines().find_map(|line| line.strip_prefix("#define YYJSON_VERSION_STRING"));
        let version = version.expect("a version").trim().trim_matches('"');
        assert!(upstream.starts_with(&format!("yyjson {version}\n")), "{version}");
    }
}
