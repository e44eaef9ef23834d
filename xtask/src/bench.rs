//! `cargo xtask bench sync`: builds what is measured, then measures it. The load generator is the
//! package `bench` in `tests/bench`.

use anyhow::{Context, Result};
use xshell::{Shell, cmd};

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
}

pub fn run(args: &Args) -> Result<()> {
    let Subject::Sync { with_y_sweet, options } = &args.subject;
    let shell = Shell::new()?;
    shell.change_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let target = std::env::var("CARGO_TARGET_DIR").unwrap_or_else(|_| "target".into());
    cmd!(shell, "cargo build --release -p host -p bench").run()?;
    let npm = "tests/bench/peers";
    if !shell.path_exists(format!("{npm}/node_modules"))
        && cmd!(shell, "node --version").quiet().run().is_ok()
    {
        let _folder = shell.push_dir(npm);
        cmd!(shell, "npm ci").run().context("the npm peers cannot be installed")?;
    }
    let peers = format!("{target}/peers");
    if *with_y_sweet && !shell.path_exists(format!("{peers}/bin/y-sweet")) {
        cmd!(shell, "cargo install y-sweet --locked --root {peers}")
            .run()
            .context("y-sweet cannot be built")?;
    }
    let places = [
        format!("--host={target}/release/host"),
        format!("--npm={npm}"),
        format!("--binaries={peers}/bin"),
        format!("--out={target}/bench"),
    ];
    cmd!(shell, "{target}/release/bench {places...} {options...}").run()?;
    Ok(())
}
