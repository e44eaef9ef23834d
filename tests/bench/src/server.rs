//! The servers: which there are, how each is started, and what the kernel says it used.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::wire::Dialect;

/// How long a server may take to start.
const START: Duration = Duration::from_secs(20);
/// The kernel counts CPU time in ticks of a hundredth of a second.
const TICK_MS: f64 = 10.0;

/// A server that can be measured.
#[derive(Debug, Clone)]
pub struct Server {
    pub name: &'static str,
    pub role: Role,
    pub dialect: Dialect,
    kind: Kind,
}

/// What a server is measured for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Ours, which has targets.
    Ours,
    /// Another build of ours, to see what a change does.
    Variant,
    /// One that ours is held against.
    Peer,
}

/// The builds of ours that can be measured at once.
const BUILDS: [&str; 4] = ["host", "host-2", "host-3", "host-4"];

#[derive(Debug, Clone)]
enum Kind {
    Host(PathBuf),
    Node { script: PathBuf },
    YSweet(PathBuf),
}

/// Where servers are looked for.
pub struct Places<'a> {
    /// Our binary, and other builds of it.
    pub hosts: &'a [PathBuf],
    /// The folder of the npm package that names the peers.
    pub npm: &'a Path,
    /// A folder of binaries to look into beside those of PATH.
    pub binaries: &'a Path,
}

/// The servers that are there; ours is first. What is missing is said on standard error.
pub fn find(places: &Places) -> Result<Vec<Server>> {
    let plain = |name, kind| Server { name, role: Role::Peer, dialect: Dialect::Plain, kind };
    let mut servers = Vec::new();
    for (nth, (name, host)) in BUILDS.into_iter().zip(places.hosts).enumerate() {
        if !host.is_file() {
            bail!("our server is not at {}; build it with --release first", host.display());
        }
        let role = if nth == 0 { Role::Ours } else { Role::Variant };
        servers.push(Server { role, ..plain(name, Kind::Host(host.clone())) });
    }
    let node = |script: &str| Kind::Node { script: places.npm.join(script) };
    let candidates = [
        plain("y-websocket", node("node_modules/@y/websocket-server/src/server.js")),
        Server { dialect: Dialect::Hocuspocus, ..plain("hocuspocus", node("hocuspocus.mjs")) },
    ];
    let installed = places.npm.join("node_modules").is_dir();
    for server in candidates {
        if installed && on_path("node").is_some() {
            servers.push(server);
        } else {
            eprintln!(
                "{} is left out: it needs node, and `npm ci` in tests/bench/peers",
                server.name
            );
        }
    }
    let y_sweet = Some(places.binaries.join("y-sweet")).filter(|path| path.is_file());
    match y_sweet.or_else(|| on_path("y-sweet")) {
        Some(path) => servers.push(plain("y-sweet", Kind::YSweet(path))),
        None => eprintln!("y-sweet is left out: it is not installed (`--with-y-sweet` builds it)"),
    }
    Ok(servers)
}

fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|path| path.is_file())
}

/// A server that runs. It ends when this is dropped.
pub struct Running {
    child: Child,
    pub address: SocketAddr,
    pub dialect: Dialect,
    paths: fn(&str) -> String,
    /// Where it keeps documents, if it does; kept until it has ended.
    _data: Option<tempfile::TempDir>,
}

impl Drop for Running {
    fn drop(&mut self) {
        // Killed, not asked: what a server does at its end is not measured here.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    /// Starts it and waits until it listens.
    pub fn start(&self, data_dir: &Path) -> Result<Running> {
        let mut data = None;
        let mut port = 0;
        let mut command = match &self.kind {
            Kind::Host(binary) => {
                let folder = tempfile::tempdir_in(data_dir)
                    .with_context(|| format!("no folder can be made in {}", data_dir.display()))?;
                let mut command = Command::new(binary);
                command.args(["--mode", "hub", "--port", "0", "--data-dir"]).arg(folder.path());
                data = Some(folder);
                command
            }
            Kind::Node { script } => {
                port = free_port()?;
                let mut command = Command::new("node");
                command.arg(script).env("PORT", port.to_string()).env("HOST", "127.0.0.1");
                command
            }
            Kind::YSweet(binary) => {
                port = free_port()?;
                let mut command = Command::new(binary);
                command.args(["serve", "--host", "127.0.0.1", "--port", &port.to_string()]);
                command
            }
        };
        // In memory, and without what it would say about each connection.
        command.env_remove("Y_SWEET_STORE").env("RUST_LOG", "error").env("NODE_ENV", "production");
        command.stdin(Stdio::null()).stderr(Stdio::null());
        command.stdout(if port == 0 { Stdio::piped() } else { Stdio::null() });
        let child = command.spawn().with_context(|| format!("{} cannot be started", self.name))?;
        let paths = match self.kind {
            Kind::Host(_) => |room: &str| format!("/rooms/{room}"),
            Kind::Node { .. } => |room: &str| format!("/{room}"),
            Kind::YSweet(_) => |room: &str| format!("/d/{room}/ws/{room}"),
        };
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let running = Running { child, address, dialect: self.dialect, paths, _data: data };
        running.listening(self.name)
    }
}

/// Starts our server with a folder of plugins, and waits until it listens.
pub fn start_workspaces(binary: &Path, plugins: &Path, data: &Path) -> Result<Running> {
    let mut command = Command::new(binary);
    command.args(["--mode", "local", "--port", "0", "--plugins"]).arg(plugins);
    command.arg("--data-dir").arg(data).env("RUST_LOG", "error").stdin(Stdio::null());
    let child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
    let child = child.with_context(|| format!("{} cannot be started", binary.display()))?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let paths = |room: &str| format!("/rooms/{room}");
    Running { child, address, dialect: Dialect::Plain, paths, _data: None }.listening("host")
}

/// Where npm puts the binaries of Bun, one package for each kind of machine; it installs the one that
/// fits. They run from there, so that nothing depends on the scripts that npm may not run.
const BUN: &str = "node_modules/@oven";

/// Starts the peer of tables, and waits until it listens.
pub fn start_tables_peer(npm: &Path) -> Result<Running> {
    let missing = || {
        format!(
            "the peer is not installed: run `npm ci` in {}, or leave it out with --no-peer",
            npm.display()
        )
    };
    let mut packages = fs::read_dir(npm.join(BUN)).with_context(missing)?;
    let bun = packages.find_map(|package| {
        Some(package.ok()?.path().join("bin/bun")).filter(|binary| binary.is_file())
    });
    let bun = bun.with_context(missing)?;
    if !npm.join("node_modules/elysia").is_dir() {
        bail!(missing());
    }
    let mut command = Command::new(&bun);
    command.arg(npm.join("elysia.ts")).env("NODE_ENV", "production");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let child = command.spawn();
    let child = child.with_context(|| format!("{} cannot be started", bun.display()))?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let paths = |room: &str| format!("/rooms/{room}");
    Running { child, address, dialect: Dialect::Plain, paths, _data: None }.listening("the peer")
}

/// A port that was free a moment ago, for servers that cannot choose one and say which.
fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no port is free")?;
    Ok(listener.local_addr()?.port())
}

/// What a process has used so far.
#[derive(Debug, Clone, Copy)]
pub struct Usage {
    /// CPU of all its threads, user and system, in milliseconds.
    pub cpu_ms: f64,
    /// Memory that it holds, in KiB.
    pub rss_kib: f64,
}

impl Running {
    /// Waits until it listens, where it says that it does if it chose the port itself.
    fn listening(mut self, name: &str) -> Result<Self> {
        if self.address.port() == 0 {
            let announced = self.announced();
            self.address = announced
                .with_context(|| format!("{name} did not print the address that it listens on"))?;
        }
        let started = Instant::now();
        while std::net::TcpStream::connect(self.address).is_err() {
            if self.child.try_wait()?.is_some() {
                bail!("{name} ended as it started");
            }
            if started.elapsed() > START {
                bail!("{name} does not listen after {START:?}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(self)
    }

    /// The path of a room's socket.
    pub fn path(&self, room: &str) -> String {
        (self.paths)(room)
    }

    /// What it has used.
    pub fn usage(&self) -> Result<Usage> {
        Usage::of(&self.child.id().to_string())
    }

    fn announced(&mut self) -> Option<SocketAddr> {
        let mut lines = BufReader::new(self.child.stdout.take()?).lines();
        let address = lines.by_ref().map_while(Result::ok).find_map(|line| {
            let (_, rest) = line.split_once("http://")?;
            let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || ".:".contains(c)));
            rest[..end.unwrap_or(rest.len())].replace("localhost", "127.0.0.1").parse().ok()
        });
        // Read on, or the server would wait for its output to be taken.
        std::thread::spawn(move || lines.for_each(drop));
        address
    }
}

impl Usage {
    /// What a process has used, by its id or `self`.
    pub fn of(process: &str) -> Result<Self> {
        let read = |file: &str| {
            let path = format!("/proc/{process}/{file}");
            fs::read_to_string(&path).with_context(|| format!("{path} cannot be read"))
        };
        // The second field is the program's name in brackets, and may have spaces.
        let stat = read("stat")?;
        let fields: Vec<&str> = stat
            .rsplit_once(')')
            .context("a process without a name")?
            .1
            .split_whitespace()
            .collect();
        let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok());
        let (user, system) = ticks(11).zip(ticks(12)).context("a process without CPU times")?;
        let status = read("status")?;
        let rss = status.lines().find_map(|line| {
            line.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse::<f64>().ok()
        });
        Ok(Self {
            cpu_ms: (user + system) * TICK_MS,
            rss_kib: rss.context("a process without memory")?,
        })
    }
}
