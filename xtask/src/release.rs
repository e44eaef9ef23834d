//! `cargo xtask release`: the archive for users.
//!
//! It holds one folder with the stripped binary, the licence, the README, the changelog and the
//! example plugin, so that `./host --mode local` works at once. Times and owners in it are fixed,
//! so that the same files produce the same bytes.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};
use xshell::{Shell, cmd};

use crate::root;

/// The files in the archive besides the binary.
const FILES: &[&str] =
    &["LICENSE", "README.md", "CHANGELOG.md", "docs", "plugins/blog.wasm", "plugins/blog"];

#[derive(clap::Args)]
pub struct Args {
    /// Archive a binary that is built already, instead of building one.
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
}

pub fn run(args: &Args) -> Result<()> {
    let root = root();
    let shell = Shell::new()?;
    shell.change_dir(&root);
    let version = env!("CARGO_PKG_VERSION");
    let rustc = cmd!(shell, "rustc -vV").quiet().read()?;
    let target = rustc.lines().find_map(|line| line.strip_prefix("host: "));
    let target = target.context("rustc names the machine it runs on")?;
    let name = format!("epicenter-server-{version}-{target}");
    let out = root.join("target/release-archive");
    let folder = out.join(&name);
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    let built = root.join("target/release/host");
    let binary = match &args.binary {
        Some(binary) => binary,
        None => {
            cmd!(shell, "cargo build --release --locked --package host").run()?;
            &built
        }
    };
    let host = folder.join("host");
    fs::copy(binary, &host).with_context(|| format!("there is no binary {}", binary.display()))?;
    // A release is built with line tables for our own profiles and backtraces; users need neither.
    cmd!(shell, "strip {host}").run().context("strip is needed, of binutils or of Xcode")?;
    for file in FILES {
        copy(&root.join(file), &folder.join(file))
            .with_context(|| format!("cannot copy {file}"))?;
    }
    let archive = format!("{name}.tar.gz");
    {
        let _out = shell.push_dir(&out);
        let tar = format!("{name}.tar");
        cmd!(
            shell,
            "tar --sort=name --owner=0 --group=0 --numeric-owner --mtime=@0 -cf {tar} {name}"
        )
        .run()?;
        // Without the time and file name, which gzip would record.
        cmd!(shell, "gzip --force --no-name --best {tar}").run()?;
    }
    let bytes = fs::read(out.join(&archive))?;
    let hash = hex::encode(Sha256::digest(&bytes));
    // In the format of `sha256sum --check`.
    fs::write(out.join(format!("{archive}.sha256")), format!("{hash}  {archive}\n"))?;
    check(&shell, &out, &archive, version)?;
    let mib = bytes.len() as f64 / f64::from(1 << 20);
    eprintln!("{} ({mib:.1} MiB)\nSHA-256 {hash}", out.join(archive).display());
    Ok(())
}

/// Unpacks the archive elsewhere and checks that the binary runs and can load the plugin.
fn check(shell: &Shell, out: &Path, archive: &str, version: &str) -> Result<()> {
    let unpacked = out.join("unpacked");
    if unpacked.exists() {
        fs::remove_dir_all(&unpacked)?;
    }
    fs::create_dir_all(&unpacked)?;
    let archive = out.join(archive);
    let _folder = shell.push_dir(&unpacked);
    cmd!(shell, "tar --strip-components=1 -xzf {archive}").run()?;
    let host = unpacked.join("host");
    let says = cmd!(shell, "{host} --version").read()?;
    ensure!(says == format!("host {version}"), "the binary calls itself {says:?}");
    cmd!(shell, "{host} check plugins/blog.wasm").ignore_stdout().run()?;
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    if from.is_dir() {
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            copy(&entry.path(), &to.join(entry.file_name()))?;
        }
        return Ok(());
    }
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::copy(from, to)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_is_archived_is_there() {
        for file in FILES {
            assert!(root().join(file).exists(), "{file}");
        }
    }
}
