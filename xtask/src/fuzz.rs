//! `cargo xtask fuzz`: builds the fuzz targets of `host/sync/fuzz` and runs them with libFuzzer.
//!
//! One target works differently: `damaged` loads damaged copies of plugins as a server does. A
//! separate process parses each, which libFuzzer could not instrument, and a copy is identified by
//! its seed.
//!
//! It needs only stable Rust and no tool to install: the edge counters that libFuzzer requires come
//! from an LLVM pass that stable flags can enable. Only sanitizers would need nightly, and
//! `host-sync` has no unsafe code for them to check. libFuzzer itself is C++ and is compiled by
//! `libfuzzer-sys`, so a C++ compiler is required.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use xshell::{Shell, cmd};

use crate::root;

const FUZZ: &str = "host/sync/fuzz";

/// Counters for edges, and tracing of comparisons; cargo-fuzz also sets `fuzzing`. The code is
/// optimised, but still panics on overflows and failed assertions.
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

/// Targets that run at the same time. 2: the cores of the smallest CI machines.
const AT_ONCE: usize = 2;

/// Memory limit of libFuzzer in MiB: an input that takes this much is a finding.
const MEMORY: u32 = 1024;

/// Time limit for one input in seconds; most take microseconds.
const SLOW: u32 = 10;

/// The target that is a test of `host-plugins`, which the ordinary tests run with a small count.
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

/// Builds all targets and returns their folder.
fn build(root: &Path, folder: &Path) -> Result<PathBuf> {
    let shell = Shell::new()?;
    let version = cmd!(shell, "rustc -vV").quiet().read()?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    let host = host.context("rustc names the machine it runs on")?;
    let manifest = folder.join("Cargo.toml");
    let target = root.join("target/fuzz");
    // The same versions as in the server; the fuzzers' own dependencies are pinned in their
    // manifest.
    fs::copy(root.join("Cargo.lock"), folder.join("Cargo.lock"))?;
    // With an explicit target, the flags do not apply to build scripts and macros.
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
    // libFuzzer writes new inputs to the first folder and only reads the seeds.
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
