//! The `host` binary of Epicenter Server: reads the command line, starts a server, and stops it on a signal.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use host::cli::{Cli, LogFormat, Mode, Task};
use host::dev::Dev;
use host::log::Events;
use host::{HubServer, LocalConfig, LocalServer, Running, commands, style, summary};
use mimalloc::MiMalloc;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Counts what each thread has allocated, which enforces the memory limit of scripts.
#[global_allocator]
static ALLOCATOR: host_plugins::Metered<MiMalloc> = host_plugins::Metered(MiMalloc);

/// How long threads that are still reading or writing files may take at the end. A file system that does not answer
/// would hold them for ever.
const LAST_FILES: Duration = Duration::from_secs(1);

/// The signal for a file that is larger than the limit (`ulimit -f`); the same number on Linux and macOS.
const SIGXFSZ: i32 = 25;

fn main() -> ExitCode {
    host_plugins::compile_if_asked();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            anstream::eprintln!("{}error:{} no threads: {error}", style::BAD, style::PLAIN);
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(begin());
    runtime.shutdown_timeout(LAST_FILES);
    code
}

async fn begin() -> ExitCode {
    let cli = Cli::parse();
    // With a handler in place, a write beyond a limit on the size of files fails, as on a full disk.
    // Otherwise the system ends the process.
    let _files_too_large = signal(SignalKind::from_raw(SIGXFSZ));
    start_log(&cli);
    rustls::crypto::ring::default_provider()
        .install_default()
        .expect("no provider of TLS was installed before the first line of the program");
    match run(cli).await {
        Ok(()) => ExitCode::SUCCESS,
        // The reader of our output has stopped reading, as `head` does.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            anstream::eprintln!("{}error:{} {error:#}", style::BAD, style::PLAIN);
            for detail in commands::details(&error) {
                anstream::eprintln!("{detail}");
            }
            if error.is::<commands::Usage>() { ExitCode::from(2) } else { ExitCode::FAILURE }
        }
    }
}

fn start_log(cli: &Cli) {
    let is_terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let usual = match cli.command {
        // A command's output is its result. People who wait for it want to know why it takes long.
        Some(Task::Command(_)) if is_terminal => "warn,progress=info",
        Some(Task::Command(_)) => "warn",
        // The crate that migrates databases has words of its own, which name no file.
        _ => "info,rusqlite_migration=warn",
    };
    let filter = tracing_subscriber::EnvFilter::try_from_default_env();
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter.unwrap_or_else(|_| usual.into()))
        .with_writer(move || Events::new(std::io::stderr(), is_terminal));
    match cli.log_format() {
        LogFormat::Text => log.with_target(false).with_ansi(is_terminal).init(),
        // There are no spans, so an event's fields are all there is to write.
        LogFormat::Json => {
            log.json().flatten_event(true).with_current_span(false).with_span_list(false).init()
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error.downcast_ref::<std::io::Error>();
    // A pipe that is a socket, as between node's processes, reports a reset.
    io.is_some_and(|error| {
        matches!(error.kind(), std::io::ErrorKind::BrokenPipe | std::io::ErrorKind::ConnectionReset)
    })
}

async fn run(cli: Cli) -> anyhow::Result<()> {
    match (cli.command, cli.mode) {
        (Some(Task::Command(command)), _) => command.run().await,
        (Some(Task::Dev(args)), _) => {
            let dev = Dev::open(&args.projects, &args.serve.plugins, &args.serve.data_dir)?;
            let config = LocalConfig { builds: dev.builds.clone(), ..args.serve.local() };
            local(config, Some(dev)).await
        }
        (None, Mode::Local) => local(cli.serve.local(), None).await,
        (None, Mode::Hub) => {
            let started = Instant::now();
            let server = HubServer::start(cli.serve.hub()?).await?;
            let signals = Signals::new()?;
            summary::hub(&server, started.elapsed());
            until_stopped(server.running, signals).await
        }
    }
}

async fn local(config: LocalConfig, dev: Option<Dev>) -> anyhow::Result<()> {
    let started = Instant::now();
    let server = LocalServer::start(config).await?;
    let signals = Signals::new()?;
    summary::local(&server, started.elapsed());
    let _builds = dev.map(Dev::start);
    until_stopped(server.running, signals).await
}

async fn until_stopped(running: Running, mut signals: Signals) -> anyhow::Result<()> {
    signals.next().await;
    tracing::info!("stopping; a second signal stops at once");
    tokio::select! {
        () = running.stop() => Ok(()),
        () = signals.next() => {
            anyhow::bail!("stopped before everything was closed; what was acknowledged is saved")
        }
    }
}

/// Ctrl-C, and the signal with which service managers stop a program. Both are caught as soon as
/// this exists, before the server reports that it is ready. Until then, they simply end the
/// program.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
