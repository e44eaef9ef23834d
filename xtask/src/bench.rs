//! `cargo xtask bench`: builds what is measured, then measures it. The load on rooms and tables
//! comes from the package `bench` in `tests/bench`, and the load on AI from a script in
//! `tests/bench/ai`.

use anyhow::{Context, Result};
use xshell::{Shell, cmd};

use crate::guests;

#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    subject: Subject,
}

#[derive(clap::Subcommand)]
enum Subject {
    /// Rooms: CPU, latency and memory beside other Yjs servers.
    Sync {
        /// Builds y-sweet from source first, unless that was done before. It takes some minutes.
        #[arg(long)]
        with_y_sweet: bool,
        /// For the load generator: `--rounds`, `--seconds`, `--only`, `--server`; `--help` lists
        /// them.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        options: Vec<String>,
    },
    /// Tables by REST: lists, reads, writes and a bulk load, for tables of several sizes, beside a
    /// server on Bun.
    Rest {
        /// For the load generator: `--rows`, `--rounds`, `--seconds`, `--no-peer`; `--help` lists
        /// them.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        options: Vec<String>,
    },
    /// Plugins: what calls cost beside bare ones, how soon one is live, what an idle one holds.
    Plugins {
        /// For the load generator: `--seconds`, `--rounds`; `--help` lists them.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        options: Vec<String>,
    },
    /// The AI proxy and the chat: CPU, memory and added latency beside what one writes in node.
    Ai {
        /// For the load generator: `--rounds`, `--seconds`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        options: Vec<String>,
    },
}

/// The folder of the npm package that lists the peers.
const NPM: &str = "tests/bench/peers";

pub fn run(args: &Args) -> Result<()> {
    let shell = Shell::new()?;
    shell.change_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let target = std::env::var("CARGO_TARGET_DIR").unwrap_or_else(|_| "target".into());
    match &args.subject {
        Subject::Sync { with_y_sweet, options } => sync(&shell, &target, *with_y_sweet, options),
        Subject::Rest { options } => rest(&shell, &target, options),
        Subject::Plugins { options } => plugins(&shell, &target, options),
        Subject::Ai { options } => ai(&shell, &target, options),
    }
}

fn rest(shell: &Shell, target: &str, options: &[String]) -> Result<()> {
    cmd!(shell, "cargo build --release -p host -p bench").run()?;
    if !options.iter().any(|option| option == "--no-peer") {
        install_peers(shell)?;
    }
    let places = [
        format!("--host={target}/release/host"),
        format!("--npm={NPM}"),
        format!("--out={target}/bench"),
    ];
    cmd!(shell, "{target}/release/bench rest {places...} {options...}").run()?;
    Ok(())
}

fn plugins(shell: &Shell, target: &str, options: &[String]) -> Result<()> {
    guests::prepare_tests()?;
    cmd!(shell, "cargo build --release -p host -p bench").run()?;
    cmd!(shell, "{target}/release/bench plugins --out={target}/bench {options...}").run()?;
    Ok(())
}

fn ai(shell: &Shell, target: &str, options: &[String]) -> Result<()> {
    cmd!(shell, "cargo build --release -p host").run()?;
    install_peers(shell)?;
    let places = [
        format!("--host={target}/release/host"),
        format!("--peers={NPM}"),
        format!("--out={target}/bench"),
    ];
    cmd!(shell, "node tests/bench/ai/bench.mjs {places...} {options...}").run()?;
    Ok(())
}

/// Installs the npm peers from the lock file, unless they are installed already or node is missing.
/// Does not run the packages' scripts: Bun's would download a binary that npm has installed
/// already.
fn install_peers(shell: &Shell) -> Result<()> {
    let lock = shell.read_file(format!("{NPM}/package-lock.json"))?;
    let installed = format!("{NPM}/node_modules/.installed-from");
    if shell.read_file(&installed).is_ok_and(|of| of == lock)
        || cmd!(shell, "node --version").quiet().run().is_err()
    {
        return Ok(());
    }
    {
        let _folder = shell.push_dir(NPM);
        cmd!(shell, "npm ci --ignore-scripts")
            .run()
            .context("the npm peers cannot be installed")?;
    }
    shell.write_file(installed, lock)?;
    Ok(())
}

fn sync(shell: &Shell, target: &str, with_y_sweet: bool, options: &[String]) -> Result<()> {
    cmd!(shell, "cargo build --release -p host -p bench").run()?;
    install_peers(shell)?;
    let peers = format!("{target}/peers");
    if with_y_sweet && !shell.path_exists(format!("{peers}/bin/y-sweet")) {
        cmd!(shell, "cargo install y-sweet --locked --root {peers}")
            .run()
            .context("y-sweet cannot be built")?;
    }
    let places = [
        format!("--host={target}/release/host"),
        format!("--npm={NPM}"),
        format!("--binaries={peers}/bin"),
        format!("--out={target}/bench"),
    ];
    cmd!(shell, "{target}/release/bench sync {places...} {options...}").run()?;
    Ok(())
}
