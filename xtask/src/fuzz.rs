//! `cargo xtask fuzz`: builds the fuzz targets of `host/sync/fuzz` and runs them with libFuzzer.
//!
//! One target has another way: `damaged` loads damaged copies of plugins as a server does. Each is read by a
//! process of its own, into which libFuzzer could not look, and a copy is known by the number that it is made of.
//!
//! On stable Rust and without a tool to install: what libFuzzer needs of the compiler, counters at every edge of the
//! code, is a pass of LLVM that stable flags can ask for. Only sanitizers would need nightly, and `host-sync` has no
//! unsafe code for them to watch. libFuzzer itself is C++ and is compiled by `libfuzzer-sys`, so a C++ compiler is
//! needed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use xshell::{Shell, cmd};

use crate::root;

const FUZZ: &str = "host/sync/fuzz";

/// Counters for edges, and the values that comparisons see; `fuzzing` is what cargo-fuzz sets, too. The code is
/// optimised, and panics at an overflow or a false assertion all the same.
const FLAGS: &[&str] = &[
    "--cfg=fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Ccodegen-units=1",
    "-Cdebug-assertions=on",
    "-Coverflow-checks=on",
];

/// Targets that run at the same time. 2: what the smallest machines of CI have.
const AT_ONCE: usize = 2;

/// MiB of memory at which libFuzzer gives up: an input that takes this much is a finding.
const MEMORY: u32 = 1024;

/// Seconds that one input may take; most take microseconds.
const SLOW: u32 = 10;

/// The target that is a test of `host-plugins`, which the usual tests run with a small count.
const DAMAGED: &str = "damaged";

#[derive(clap::Args)]
pub struct Args {
    /// Targets to run, or `damaged` for damaged copies of plugins; by default all targets.
    targets: Vec<String>,
    /// Seconds to run each target.
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// Damaged copies of plugins.
    #[arg(long, default_value_t = 10_000)]
    count: u64,
    /// What the first damaged copy is made of; each further one of the number that follows.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

pub fn run(args: &Args) -> Result<()> {
    let root = root();
    let folder = root.join(FUZZ);
    let all = targets(&folder)?;
    for target in &args.targets {
        ensure!(
            all.contains(target) || target == DAMAGED,
            "there is no fuzz target {target}; there are: {}, {DAMAGED}",
            all.join(", ")
        );
    }
    let mut targets = if args.targets.is_empty() { all } else { args.targets.clone() };
    if targets.iter().any(|target| target == DAMAGED) {
        damaged(args)?;
        targets.retain(|target| target != DAMAGED);
    }
    if targets.is_empty() {
        return Ok(());
    }
    let built = build(&root, &folder)?;
    for targets in targets.chunks(AT_ONCE) {
        let running: Result<Vec<_>> = targets
            .iter()
            .map(|target| start(&root, &folder, &built, target, args.seconds))
            .collect();
        let mut failed = Vec::new();
        for Running { target, log, mut child } in running? {
            let status = child.wait().with_context(|| format!("{target} cannot be waited for"))?;
            let said = fs::read_to_string(&log)?;
            let last = said.lines().rfind(|line| line.starts_with("Done") || line.contains("DONE"));
            eprintln!("{target}: {}", last.unwrap_or("did not finish"));
            if !status.success() {
                eprintln!("{said}");
                failed.push(target);
            }
        }
        if !failed.is_empty() {
            bail!(
                "found by fuzzing {}: the input is in target/fuzz/artifacts",
                failed.join(" and ")
            );
        }
    }
    Ok(())
}

/// Loads damaged copies of plugins.
fn damaged(args: &Args) -> Result<()> {
    let shell = Shell::new()?;
    shell.change_dir(root());
    let (count, seed) = (args.count.to_string(), args.seed.to_string());
    eprintln!("loading {count} damaged copies of plugins, from the seed {seed} on");
    cmd!(shell, "cargo test --locked -p host-plugins --lib -- damaged_copies --nocapture")
        .env("DAMAGED_COUNT", count)
        .env("DAMAGED_SEED", seed)
        .run()
        .context("a damaged copy of a plugin did what it must not; the seed says which")
}

/// The names of the targets.
fn targets(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for file in fs::read_dir(folder.join("fuzz_targets"))? {
        let path = file?.path();
        names.extend(path.file_stem().map(|name| name.to_string_lossy().into_owned()));
    }
    names.sort();
    Ok(names)
}

/// Builds all targets, and says in which folder they are.
fn build(root: &Path, folder: &Path) -> Result<PathBuf> {
    let shell = Shell::new()?;
    let version = cmd!(shell, "rustc -vV").quiet().read()?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    let host = host.context("rustc names the machine it runs on")?;
    let manifest = folder.join("Cargo.toml");
    let target = root.join("target/fuzz");
    // The same versions as in the server; what only the fuzzers need is pinned in their manifest.
    fs::copy(root.join("Cargo.lock"), folder.join("Cargo.lock"))?;
    // With a target of their own the flags are not those of build scripts and of macros.
    cmd!(shell, "cargo build --release --bins --target {host} --manifest-path {manifest}")
        .env("CARGO_TARGET_DIR", &target)
        .env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\x1f"))
        .run()
        .context("the fuzz targets do not build; libFuzzer needs a C++ compiler")?;
    Ok(target.join(host).join("release"))
}

struct Running {
    target: String,
    log: PathBuf,
    child: Child,
}

fn start(root: &Path, folder: &Path, built: &Path, target: &str, seconds: u32) -> Result<Running> {
    eprintln!("fuzzing {target} for {seconds} s");
    let kept = root.join("target/fuzz");
    let (corpus, artifacts) = (kept.join("corpus").join(target), kept.join("artifacts"));
    fs::create_dir_all(&corpus)?;
    fs::create_dir_all(&artifacts)?;
    let log = kept.join(format!("{target}.log"));
    let out = fs::File::create(&log)?;
    let mut fuzzer = Command::new(built.join(target));
    // New inputs go into the first folder; the seeds are read.
    fuzzer.arg(&corpus);
    let seeds = folder.join("seeds").join(target);
    if seeds.is_dir() {
        fuzzer.arg(seeds);
    }
    let child = fuzzer
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-timeout={SLOW}"))
        .arg(format!("-rss_limit_mb={MEMORY}"))
        .arg(format!("-artifact_prefix={}/{target}-", artifacts.display()))
        .stdin(Stdio::null())
        .stdout(out.try_clone()?)
        .stderr(out)
        .spawn()
        .with_context(|| format!("{target} cannot be started"))?;
    Ok(Running { target: target.to_owned(), log, child })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_is_declared_and_has_a_module() {
        let folder = root().join(FUZZ);
        let manifest = fs::read_to_string(folder.join("Cargo.toml")).expect("a manifest");
        let library = fs::read_to_string(folder.join("src/lib.rs")).expect("a library");
        let targets = targets(&folder).expect("a folder");
        assert!(targets.len() > 3);
        for target in targets {
            assert!(manifest.contains(&format!("path = \"fuzz_targets/{target}.rs\"")), "{target}");
            assert!(library.contains(&format!("pub mod {target};")), "{target}");
        }
    }
}
