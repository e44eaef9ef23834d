//! The `host` binary: reads the command line, starts a server, and stops it on a signal.

use std::process::ExitCode;

use clap::Parser;
use host::cli::{Cli, Mode};
use host::{HubServer, LocalServer, summary};

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into()),
        )
        .with_target(false)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .with_writer(std::io::stderr)
        .init();
    // Each socket takes a file descriptor, and the usual soft limit is for programs with few.
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    match run(cli).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            anstream::eprintln!("{}error:{} {error:#}", summary::BAD, summary::PLAIN);
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: Cli) -> anyhow::Result<()> {
    let started = std::time::Instant::now();
    let running = match cli.mode {
        Mode::Local => {
            let server = LocalServer::start(cli.local()).await?;
            summary::local(&server, started.elapsed());
            server.running
        }
        Mode::Hub => {
            let server = HubServer::start(cli.hub()).await?;
            summary::hub(&server, started.elapsed());
            server.running
        }
    };
    signal().await?;
    tracing::info!("stopping; once more to stop at once");
    tokio::select! {
        () = running.stop() => Ok(()),
        second = signal() => {
            second?;
            anyhow::bail!("stopped before everything was closed; what was acknowledged is saved")
        }
    }
}

/// Waits for Ctrl-C, or for the signal by which service managers stop a program.
async fn signal() -> std::io::Result<()> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            result = tokio::signal::ctrl_c() => result,
            _ = terminate.recv() => Ok(()),
        }
    }
    #[cfg(not(unix))]
    tokio::signal::ctrl_c().await
}
