//! `cargo xtask test`: everything that must pass, on a machine with stable Rust, node, npm and python.
//!
//! Runs one step after the other, the quick ones first, and shows the time of each. Nothing is
//! skipped: a missing tool is a failure that says how to install it.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use xshell::{Shell, cmd};

use crate::{debian, guests, languages, root};

/// Rust code for guests that is tested on the host machine.
const NATIVE: &[&str] = &["sdk/rust", "examples/blog", "examples/shop"];

/// Tests of the real binary with clients from npm.
const E2E: &str = "tests/e2e";

/// The client for apps, whose tests also use the real binary.
const CLIENT: &str = "sdk/client";

/// The example app that is built from packages, including the client.
const BOARD: &str = "examples/board";

/// The oldest node that supports `--test-timeout`.
const OLDEST_NODE: (u32, u32) = (20, 11);

/// Fails if python is installed without venv, as on Debian.
const VENV_IS_HERE: &str = "import ensurepip, venv";

/// The oldest python that runs the tools of `requirements.txt`.
const OLDEST_PYTHON: (u32, u32) = (3, 10);

/// Timeout for a file of end-to-end tests, in ms: ten times what the slowest one takes.
const E2E_TIMEOUT: &str = "--test-timeout=600000";

#[derive(clap::Args)]
pub struct Args {
    /// Runs one part only.
    part: Option<Part>,
    /// Only tests with this in their name; of the end-to-end tests also the name of a file (`sync`).
    #[arg(last = true)]
    filter: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Tests in Rust, beside the code.
    Unit,
    /// Tests of the real binary.
    E2e,
}

pub fn run(args: &Args) -> Result<()> {
    let root = root();
    let shell = Shell::new()?;
    shell.change_dir(&root);
    let mut steps = Steps::default();
    let result = run_steps(args, &root, &shell, &mut steps);
    steps.report();
    result
}

fn run_steps(args: &Args, root: &Path, shell: &Shell, steps: &mut Steps) -> Result<()> {
    let unit = args.part != Some(Part::E2e);
    let e2e = args.part != Some(Part::Unit);
    let filter = args.filter.as_deref();
    let target = target_folder(shell)?;
    if e2e {
        steps.run("node and npm are here", || check_node(shell))?;
        steps.run("python is here", || check_python(shell))?;
        steps.run("PostgreSQL is here", || check_postgres(shell))?;
        steps.run("Chromium is here", || check_chromium(shell))?;
    }
    steps.run("guests are built", guests::prepare_tests)?;
    if unit {
        steps.run("unit tests pass", || {
            Ok(cmd!(shell, "cargo test --workspace --locked -- {filter...}").run()?)
        })?;
        let native = target.join("guests-native");
        for guest in NATIVE {
            steps.run(&format!("tests of {guest} pass"), || {
                let manifest = root.join(guest).join("Cargo.toml");
                Ok(cmd!(
                    shell,
                    "cargo test --locked --manifest-path {manifest} --target-dir {native} -- {filter...}"
                )
                .run()?)
            })?;
        }
    }
    if unit && filter.is_none() {
        for sdk in languages::TESTED {
            steps.run(&format!("tests of {sdk} pass"), || languages::test(shell, root, sdk))?;
        }
    }
    if e2e {
        steps
            .run("the host is built", || Ok(cmd!(shell, "cargo build --locked -p host").run()?))?;
        steps.run("npm packages are installed", || install(shell, &root.join(E2E)))?;
        let client = root.join(CLIENT);
        steps.run("npm packages of the client are installed", || install(shell, &client))?;
        steps.run("the client is built", || {
            let _folder = shell.push_dir(&client);
            Ok(cmd!(shell, "npm run build").quiet().run()?)
        })?;
        let board = root.join(BOARD);
        steps.run("npm packages of the example app are installed", || install(shell, &board))?;
        steps.run("the example app is built", || {
            let _folder = shell.push_dir(&board);
            Ok(cmd!(shell, "npm run build").quiet().run()?)
        })?;
        if filter.is_none() {
            steps.run("tests of the client pass", || {
                let _folder = shell.push_dir(&client);
                Ok(cmd!(shell, "npm test").env("HOST_BIN", target.join("debug/host")).run()?)
            })?;
        }
        let tools = target.join("python-tools");
        steps.run("tools in python are installed", || {
            install_python(shell, &root.join(E2E).join("requirements.txt"), &tools)
        })?;
        steps.run("end-to-end tests pass", || {
            let files = e2e_tests(&root.join(E2E), filter)?;
            let node = cmd!(shell, "node --test --test-reporter=spec {E2E_TIMEOUT} {files...}");
            let node = node.env("HOST_BIN", target.join("debug/host"));
            // A Rust project may need the standard library that was built for the guests.
            let node = node.envs(guests::build_environment(root));
            let node = node.envs(languages::environment(shell, root)?);
            Ok(node.env("SCHEMATHESIS", programs(&tools).join("st")).run()?)
        })?;
    }
    Ok(())
}

/// The steps, and how long each took.
#[derive(Default)]
struct Steps {
    done: Vec<(String, Duration)>,
}

impl Steps {
    fn run(&mut self, name: &str, step: impl FnOnce() -> Result<()>) -> Result<()> {
        eprintln!("\n==> {name}");
        let started = Instant::now();
        let result = step();
        let took = started.elapsed();
        let outcome = if result.is_ok() { "" } else { "FAILED: " };
        self.done.push((format!("{outcome}{name}"), took));
        result.with_context(|| format!("failed: {name}"))
    }

    fn report(&self) {
        eprintln!();
        for (name, took) in &self.done {
            eprintln!("{:>8.1} s  {name}", took.as_secs_f64());
        }
        let total: Duration = self.done.iter().map(|(_, took)| *took).sum();
        eprintln!("{:>8.1} s  in all", total.as_secs_f64());
    }
}

fn target_folder(shell: &Shell) -> Result<PathBuf> {
    let metadata = cmd!(shell, "cargo metadata --no-deps --format-version 1").quiet().read()?;
    let metadata: Value = serde_json::from_str(&metadata)?;
    let folder = metadata["target_directory"].as_str().context("cargo names its target folder")?;
    Ok(folder.into())
}

fn check_node(shell: &Shell) -> Result<()> {
    let remedy = "the end-to-end tests need node and npm: install them from https://nodejs.org";
    let version = cmd!(shell, "node --version").quiet().read().context(remedy)?;
    cmd!(shell, "npm --version").quiet().ignore_stdout().run().context(remedy)?;
    let (major, minor) = OLDEST_NODE;
    ensure!(
        release(&version, "v") >= Some(OLDEST_NODE),
        "the end-to-end tests need node {major}.{minor} or newer, and this is {version}"
    );
    Ok(())
}

fn check_python(shell: &Shell) -> Result<()> {
    let (major, minor) = OLDEST_PYTHON;
    let remedy = format!(
        "the end-to-end tests need python {major}.{minor} or newer with its module venv: install it \
         from https://python.org, or on Debian `apt-get install python3-venv`"
    );
    let version = cmd!(shell, "python3 --version").quiet().read();
    let version = version.with_context(|| remedy.clone())?;
    ensure!(release(&version, "Python ") >= Some(OLDEST_PYTHON), "this is {version}, and {remedy}");
    cmd!(shell, "python3 -c {VENV_IS_HERE}").quiet().run().context(remedy)
}

/// The tests of accounts start PostgreSQL themselves, and need its programs.
fn check_postgres(shell: &Shell) -> Result<()> {
    let debian = fs::read_dir("/usr/lib/postgresql").is_ok_and(|mut versions| {
        versions
            .any(|version| version.is_ok_and(|version| version.path().join("bin/initdb").exists()))
    });
    if debian || cmd!(shell, "initdb --version").quiet().ignore_stdout().run().is_ok() {
        return Ok(());
    }
    install_debian(shell, "PostgreSQL", "postgresql")
}

/// The tests of what pages may do run in a real browser.
fn check_chromium(shell: &Shell) -> Result<()> {
    let usual = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];
    let named = std::env::var_os("CHROMIUM_BIN").is_some();
    if named || usual.iter().any(|path| Path::new(path).exists()) {
        return Ok(());
    }
    install_debian(shell, "Chromium", "chromium")
}

/// Installs a Debian package if possible; otherwise says what to install.
fn install_debian(shell: &Shell, name: &str, package: &str) -> Result<()> {
    let remedy = format!("the end-to-end tests need it: {}", debian::command(&[package]));
    debian::install(shell, name, &[package], &remedy)
}

/// The major and minor version in `v20.11.0`, with any prefix.
fn release(text: &str, prefix: &str) -> Option<(u32, u32)> {
    let mut parts = text.trim().strip_prefix(prefix)?.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// Installs from the lock file, unless it is up to date.
fn install(shell: &Shell, folder: &Path) -> Result<()> {
    let lock = fs::read(folder.join("package-lock.json"))?;
    let installed = folder.join("node_modules/.installed-from");
    if fs::read(&installed).is_ok_and(|of| of == lock) {
        eprintln!("as the lock file says already");
        return Ok(());
    }
    let _folder = shell.push_dir(folder);
    cmd!(shell, "npm ci").run()?;
    fs::write(installed, lock)?;
    Ok(())
}

/// Installs a list of requirements into an environment of its own, unless it is up to date.
fn install_python(shell: &Shell, list: &Path, tools: &Path) -> Result<()> {
    let wanted = fs::read(list)?;
    let installed = tools.join("installed-from");
    if fs::read(&installed).is_ok_and(|of| of == wanted) {
        eprintln!("as {} says already", list.display());
        return Ok(());
    }
    cmd!(shell, "python3 -m venv --clear {tools}").run()?;
    let python = programs(tools).join("python");
    cmd!(shell, "{python} -m pip install --quiet --disable-pip-version-check -r {list}").run()?;
    fs::write(installed, wanted)?;
    Ok(())
}

/// The folder of a python environment's programs.
fn programs(tools: &Path) -> PathBuf {
    tools.join("bin")
}

/// Node's arguments for finding the tests. They are files, because old and new versions of node
/// treat a folder differently.
fn e2e_tests(folder: &Path, filter: Option<&str>) -> Result<Vec<OsString>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.to_str().is_some_and(|path| path.ends_with(".test.mjs")) {
            files.push(path.into_os_string());
        }
    }
    if files.is_empty() {
        bail!("there are no tests in {}", folder.display());
    }
    files.sort();
    let Some(filter) = filter else { return Ok(files) };
    let file = folder.join(format!("{filter}.test.mjs"));
    if file.exists() {
        return Ok(vec![file.into_os_string()]);
    }
    files.insert(0, format!("--test-name-pattern={filter}").into());
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_tools_are_compared_as_numbers() {
        let node = |text| release(text, "v");
        assert_eq!(node("v20.11.1\n"), Some((20, 11)));
        assert!(node("v20.9.0") < Some(OLDEST_NODE));
        assert!(node("v22.0.0") > Some(OLDEST_NODE));
        assert!(node("nonsense") < Some(OLDEST_NODE));
        assert_eq!(release("Python 3.11.7\n", "Python "), Some((3, 11)));
        assert!(release("Python 3.9.1", "Python ") < Some(OLDEST_PYTHON));
    }

    #[test]
    fn a_filter_is_the_name_of_a_file_or_part_of_a_name() {
        let folder = root().join(E2E);
        let all = e2e_tests(&folder, None).expect("there are tests");
        assert!(all.len() > 1);
        let one = e2e_tests(&folder, Some("sync")).expect("there are tests");
        assert_eq!(one, [folder.join("sync.test.mjs").into_os_string()]);
        let named = e2e_tests(&folder, Some("nothing acknowledged")).expect("there are tests");
        assert_eq!(named[0], "--test-name-pattern=nothing acknowledged");
        assert_eq!(named[1..], all);
    }
}
