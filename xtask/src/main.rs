//! The project's own build tool: `cargo xtask <command>`.

mod bench;
mod debian;
mod guests;
mod languages;
mod sources;
mod test;

use std::path::{Path, PathBuf};

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measures the server beside its peers.
    Bench(bench::Args),
    /// Builds the guests in all languages, and installs the plugins among them.
    Guests(guests::Args),
    /// Runs all tests: of the code, of the SDK, and of the real binary with real clients.
    Test(test::Args),
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Bench(args) => bench::run(&args),
        Command::Guests(args) => guests::run(&args),
        Command::Test(args) => test::run(&args),
    }
}

/// The folder of the whole project.
fn root() -> PathBuf {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask).to_owned()
}
