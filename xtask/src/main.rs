//! The project's own build tool: `cargo xtask <command>`.

mod bench;
mod debian;
mod deny;
mod docs;
mod fuzz;
mod guests;
mod languages;
mod release;
mod sdk_c;
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
    /// Writes the C bindings of the plugin contract, sdk/c/bindings.
    Bindings(sdk_c::Args),
    /// Checks the licences, versions and sources of all dependencies, and advisories about them.
    Deny,
    /// Writes the page of all flags, docs/flags.md, from the command line itself.
    Docs,
    /// Builds the fuzz targets and runs each for a while.
    Fuzz(fuzz::Args),
    /// Builds the guests in all languages, and installs the plugins among them.
    Guests(guests::Args),
    /// Makes the archive that users download, and its SHA-256.
    Release(release::Args),
    /// Runs all tests: of the code, of the SDK, and of the real binary with real clients.
    Test(test::Args),
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Bench(args) => bench::run(&args),
        Command::Bindings(args) => sdk_c::run(&args),
        Command::Deny => deny::run(),
        Command::Docs => docs::write(),
        Command::Fuzz(args) => fuzz::run(&args),
        Command::Guests(args) => guests::run(&args),
        Command::Release(args) => release::run(&args),
        Command::Test(args) => test::run(&args),
    }
}

/// The folder of the whole project.
fn root() -> PathBuf {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask).to_owned()
}
