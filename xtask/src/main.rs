//! The project's own build tool: `cargo xtask <command>`.

mod bench;
mod guests;
mod sources;

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
    /// Builds the guests written in Rust, and installs the plugins among them.
    Guests(guests::Args),
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Bench(args) => bench::run(&args),
        Command::Guests(args) => guests::run(&args),
    }
}
