//! Measures the sync server beside its peers, `cargo xtask bench sync`, tables by REST,
//! `cargo xtask bench rest`, and plugins, `cargo xtask bench plugins`.
//!
//! Each server is started anew for each measurement, and they take turns within one run, so that
//! whatever else the machine is doing falls on all of them. Only figures of one run are compared.
//! Peers keep documents in memory; ours writes them to disk and is measured so.

mod client;
mod idle;
mod join;
mod plugins;
mod report;
mod rest;
mod scenarios;
mod server;
mod socket;
mod traffic;
mod wire;

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::{Args, Parser};

use crate::report::{Measurement, Report};
use crate::scenarios::ALL;
use crate::server::Places;
use crate::traffic::Times;

/// Measures what the server costs.
#[derive(Parser)]
enum Subject {
    Sync(Options),
    Rest(rest::Options),
    Plugins(plugins::Options),
}

/// Measures the sync server beside its peers, under the same load.
#[derive(Args)]
struct Options {
    /// How often each server is measured in each scenario.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// How long each measurement takes, in seconds.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Only this scenario; may be given more than once.
    #[arg(long, value_name = "SCENARIO")]
    only: Vec<String>,
    /// Only these servers; may be given more than once.
    #[arg(long, value_name = "NAME")]
    server: Vec<String>,
    /// Our server's binary. Given more than once, the others are builds to compare it with.
    #[arg(long, default_value = "target/release/host")]
    host: Vec<PathBuf>,
    /// The folder of the npm package that names the peers.
    #[arg(long, default_value = "tests/bench/peers")]
    npm: PathBuf,
    /// A folder with binaries of peers.
    #[arg(long, default_value = "target/peers/bin")]
    binaries: PathBuf,
    /// Where JSON and plot are written, and where our server keeps its data meanwhile. It should
    /// be on a disk, not in memory.
    #[arg(long, default_value = "target/bench")]
    out: PathBuf,
}

fn main() -> Result<()> {
    host_plugins::compile_if_asked();
    // One thread: the server gets the other core.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match Subject::parse() {
        Subject::Sync(options) => sync(&options, &runtime),
        Subject::Rest(options) => runtime.block_on(rest::run(&options)),
        Subject::Plugins(options) => {
            // The server runs in this process.
            tokio::runtime::Runtime::new()?.block_on(plugins::run(&options))
        }
    }
}

fn sync(options: &Options, runtime: &tokio::runtime::Runtime) -> Result<()> {
    let known = ALL.iter().map(|scenario| scenario.name);
    if let Some(unknown) = options.only.iter().find(|name| !known.clone().any(|k| k == *name)) {
        let known: Vec<_> = known.collect();
        bail!("there is no scenario {unknown:?}; there are {}", known.join(", "));
    }
    let places = Places { hosts: &options.host, npm: &options.npm, binaries: &options.binaries };
    let mut servers = server::find(&places)?;
    servers.retain(|s| options.server.is_empty() || options.server.iter().any(|n| n == s.name));
    std::fs::create_dir_all(&options.out)
        .with_context(|| format!("{} cannot be made", options.out.display()))?;
    let mut report = Report::default();
    for scenario in ALL {
        if !options.only.is_empty() && !options.only.iter().any(|name| name == scenario.name) {
            continue;
        }
        for round in 0..options.rounds {
            for server in &servers {
                let result = runtime.block_on(async {
                    let running = server.start(&options.out)?;
                    scenario.measure(&running, Times::of(options.seconds)).await
                });
                let measurement = Measurement::new(scenario, server, round, result);
                eprintln!("{measurement}");
                report.add(measurement);
            }
        }
    }
    print!("{}", report.table());
    for (name, text) in [("sync.json", report.json()?), ("sync.svg", report.plot())] {
        let path = options.out.join(name);
        std::fs::write(&path, text)
            .with_context(|| format!("{} is not written", path.display()))?;
        println!("{}", path.display());
    }
    Ok(())
}
