//! Tables by REST: what lists, reads, writes and a bulk load cost, and how that grows with the table.
//!
//! Each size of the table has a server of its own, in local mode, with its data on disk. Beside it runs
//! a peer that keeps the same table in memory, `tests/bench/peers/elysia.ts`: a server as one writes it
//! in TypeScript, and as the one was that our targets are relative to. That one's own figures are
//! shown too; they were taken on another machine and can only say whether the peer is like it.
//!
//! The machine may be busy with other things, and the servers share two cores with the load. So both
//! are asked in turns, in rounds, and of each the round counts in which it took the least CPU: what
//! disturbs a round only ever adds to it. The first round also warms a just-in-time compiler up.

use std::fmt::Write;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::server::{Running, Usage, start_tables_peer, start_workspaces};

/// Rows that one request of a bulk load carries; the server takes no more.
const BATCH: usize = 10_000;
/// Connections that ask at the same time.
const CONNECTIONS: usize = 16;
/// How long the server may take to be ready after it was started with all rows.
const READY: Duration = Duration::from_secs(120);
const POSTS: &str = "/workspaces/blog/tables/posts";

/// Measures tables by REST.
#[derive(clap::Args)]
pub struct Options {
    /// How many rows the table has; may be given more than once.
    #[arg(long, default_values_t = [100, 1_000, 10_000, 100_000])]
    rows: Vec<usize>,
    /// How often each kind of request is measured; the round with the least CPU counts.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// How long each measurement takes, in seconds.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Measures our server alone.
    #[arg(long)]
    no_peer: bool,
    /// Our server's binary.
    #[arg(long, default_value = "target/release/host")]
    host: PathBuf,
    /// The folder of the npm package that has the peer.
    #[arg(long, default_value = "tests/bench/peers")]
    npm: PathBuf,
    /// The plugin that has the table.
    #[arg(long, default_value = "plugins/blog.wasm")]
    plugin: PathBuf,
    /// Where JSON is written, and where the server keeps its data meanwhile. It should be on a disk.
    #[arg(long, default_value = "target/bench")]
    out: PathBuf,
}

/// What was measured of one thing.
#[derive(Debug, Serialize)]
struct Figure {
    what: &'static str,
    /// Of the table.
    rows: usize,
    value: f64,
    unit: &'static str,
    /// Requests in a second, where there were some.
    per_second: Option<f64>,
    /// The values of all rounds, of which `value` is the least; how far they are apart says how busy the
    /// machine was.
    rounds: Vec<f64>,
    /// The peer under the same load, where it was asked.
    peer: Option<Peer>,
    /// What the original takes, on another machine.
    original: Option<&'static str>,
}

/// What was measured of the peer.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Peer {
    Measured { value: f64, per_second: f64, rounds: Vec<f64>, ratio: f64, target: Option<Target> },
    Failed { error: String },
}

/// How much of the peer's CPU ours may take.
#[derive(Debug, Serialize)]
struct Target {
    ratio: f64,
    met: bool,
}

/// What requests of one kind took in one round.
#[derive(Debug, Clone, Copy)]
struct Round {
    /// Milliseconds for a request, which is seconds for a thousand.
    cpu_ms: f64,
    per_second: f64,
}

/// A kind of request that is sent again and again.
#[derive(Clone, Copy)]
struct Kind {
    what: &'static str,
    /// The method, path and body of one of them.
    make: fn(&Turn) -> (&'static str, String, String),
    /// Whether the peer has it, too.
    shared: bool,
}

/// Which request it is.
struct Turn {
    /// Which of the connections sends it.
    connection: usize,
    /// How many were sent before it, on all connections.
    number: u64,
    /// Of the table.
    rows: usize,
}

/// There are two kinds of PUT because they are not the same to a Y.Array. Rows that change all over the
/// table leave it in as many pieces as it has rows, and the peer slows down as they do; while the same few
/// change it stays in one piece, which is the best that can be for the peer.
const KINDS: [Kind; 6] = [
    Kind { what: "list", make: |_| ("GET", POSTS.into(), String::new()), shared: true },
    Kind { what: "one row", make: |turn| ("GET", turn.any_row(), String::new()), shared: true },
    Kind {
        what: "PUT, the same 16 rows",
        make: |turn| ("PUT", turn.own_row(), turn.change()),
        shared: true,
    },
    Kind {
        what: "PUT, any row",
        make: |turn| ("PUT", turn.any_row(), turn.change()),
        shared: true,
    },
    Kind {
        what: "filter, 100 rows",
        make: |turn| {
            let path = format!("{POSTS}?filter[views][gte]={}&limit=100", turn.number % 100);
            ("GET", path, String::new())
        },
        shared: false,
    },
    Kind {
        what: "sort, 100 rows",
        make: |_| ("GET", format!("{POSTS}?sort=-views,title&limit=100"), String::new()),
        shared: false,
    },
];

impl Turn {
    /// The path of a row that may be any, in no order.
    fn any_row(&self) -> String {
        // The finalizer of SplitMix64: a plain stride would visit all rows in one order again and again.
        let mut mixed = self.number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^= mixed >> 31;
        path_of((mixed % self.rows.max(1) as u64) as usize)
    }

    /// The path of the row that this connection alone changes.
    fn own_row(&self) -> String {
        path_of((self.rows / 2 + self.connection) % self.rows.max(1))
    }

    /// A body that changes a row.
    fn change(&self) -> String {
        format!("{{\"views\":{}}}", self.number % 1_000_000)
    }
}

fn path_of(row: usize) -> String {
    format!("{POSTS}/post-{row:06}")
}

fn original(what: &str, rows: usize) -> Option<&'static str> {
    Some(match (what, rows) {
        ("list", 100) => "0.032",
        ("list", 10_000) => "2.0-2.4",
        ("one row", _) => "0.012-0.020",
        ("PUT, the same 16 rows" | "PUT, any row", 10_000) => "0.14",
        _ => return None,
    })
}

/// How much of the peer's CPU ours may take.
fn target(what: &str, rows: usize) -> Option<f64> {
    Some(match (what, rows) {
        ("list", 10_000) => 0.05,
        ("one row", _) | ("PUT, the same 16 rows" | "PUT, any row", 10_000) => 0.3,
        _ => return None,
    })
}

pub async fn run(options: &Options) -> Result<()> {
    std::fs::create_dir_all(&options.out)
        .with_context(|| format!("{} cannot be made", options.out.display()))?;
    if !options.no_peer {
        // Before anything is measured: a peer that is not installed is not a peer that failed.
        start_tables_peer(&options.npm)?;
    }
    let mut figures = Vec::new();
    for &rows in &options.rows {
        measure(options, rows, &mut figures).await?;
    }
    print!("{}", table(&figures));
    println!("Of {} rounds, in turns, the one with the least CPU.", options.rounds);
    let path = options.out.join("rest.json");
    std::fs::write(&path, serde_json::to_string_pretty(&figures)?)
        .with_context(|| format!("{} is not written", path.display()))?;
    println!("{}", path.display());
    Ok(())
}

async fn measure(options: &Options, rows: usize, figures: &mut Vec<Figure>) -> Result<()> {
    let folder = tempfile::tempdir_in(&options.out)?;
    let plugins = folder.path().join("plugins");
    std::fs::create_dir(&plugins)?;
    std::fs::copy(&options.plugin, plugins.join("blog.wasm"))
        .with_context(|| format!("{} cannot be copied", options.plugin.display()))?;
    let start = || start_workspaces(&options.host, &plugins, &folder.path().join("data"));
    let mut note = |figure: Figure| {
        let Figure { what, value, unit, .. } = &figure;
        let beside = match &figure.peer {
            None => String::new(),
            Some(Peer::Measured { value, .. }) => format!(", the peer {value:.3}"),
            Some(Peer::Failed { error }) => format!(", the peer failed: {error}"),
        };
        eprintln!("{rows:>7} rows  {what:<26} {value:>10.3} {unit}{beside}");
        figures.push(figure);
    };
    let plain = |what, value, unit| Figure {
        what,
        rows,
        value,
        unit,
        per_second: None,
        rounds: Vec::new(),
        peer: None,
        original: None,
    };

    let server = start()?;
    ready(&server, 0).await?;
    let before = server.usage()?;
    let bytes = load(&server, rows).await?;
    let loaded = server.usage()?;
    note(plain("bulk load", (loaded.cpu_ms - before.cpu_ms) / 1000.0, "CPU s"));
    let json = bytes as f64 / rows as f64;
    let beyond = |usage: &Usage| {
        let each = (usage.rss_kib - before.rss_kib) * 1024.0 / rows as f64;
        (each - json) / 1024.0
    };
    note(plain("memory beyond JSON, loaded", beyond(&loaded), "KiB/row"));
    let mut peer = None;
    if !options.no_peer {
        peer = Some(start_peer(options, &server, rows).await);
    }
    for kind in KINDS {
        let beside = peer.as_mut().filter(|_| kind.shared);
        note(compare(options, &server, beside, kind, rows).await?);
    }
    drop((server, peer));

    let started = Instant::now();
    let server = start()?;
    ready(&server, rows).await?;
    note(plain("start", started.elapsed().as_secs_f64(), "s"));
    note(plain("start, CPU", server.usage()?.cpu_ms / 1000.0, "CPU s"));
    // Without what the load and the requests needed for a moment.
    note(plain("memory beyond JSON", beyond(&server.usage()?), "KiB/row"));
    Ok(())
}

/// The peer with the same rows as our server, or why there is none.
async fn start_peer(
    options: &Options,
    ours: &Running,
    rows: usize,
) -> std::result::Result<Running, String> {
    let started = async {
        let peer = start_tables_peer(&options.npm)?;
        load_singly(&peer, rows).await?;
        for path in [POSTS.to_owned(), path_of(rows / 2)] {
            if answer(ours, &path).await? != answer(&peer, &path).await? {
                bail!("it answers {path} with other rows than ours");
            }
        }
        anyhow::Ok(peer)
    };
    started.await.map_err(|error| format!("{error:#}"))
}

/// Measures requests of one kind in rounds, in turns with the peer. One that fails is not asked again.
async fn compare(
    options: &Options,
    ours: &Running,
    mut peer: Option<&mut std::result::Result<Running, String>>,
    kind: Kind,
    rows: usize,
) -> Result<Figure> {
    let length = Duration::from_secs(options.seconds);
    let (mut rounds, mut rounds_of_peer) = (Vec::new(), Vec::new());
    // Counted on over all rounds, so that no round writes what is there already.
    let (numbers, numbers_of_peer) = (AtomicU64::new(0), AtomicU64::new(0));
    for _ in 0..options.rounds {
        rounds.push(ask_for(ours, kind, &numbers, rows, length).await?);
        let Some(peer) = &mut peer else { continue };
        let Ok(running) = &**peer else { continue };
        match ask_for(running, kind, &numbers_of_peer, rows, length).await {
            Ok(round) => rounds_of_peer.push(round),
            Err(error) => **peer = Err(format!("{error:#}")),
        }
    }
    let Round { cpu_ms: value, per_second } = least(&rounds).context("there must be a round")?;
    let peer = match (peer.as_deref(), least(&rounds_of_peer)) {
        (Some(Err(error)), _) => Some(Peer::Failed { error: error.clone() }),
        (Some(Ok(_)), Some(of_peer)) => {
            let ratio = value / of_peer.cpu_ms;
            let target = target(kind.what, rows);
            Some(Peer::Measured {
                value: of_peer.cpu_ms,
                per_second: of_peer.per_second,
                rounds: rounds_of_peer.iter().map(|round| round.cpu_ms).collect(),
                ratio,
                target: target.map(|target| Target { ratio: target, met: ratio <= target }),
            })
        }
        _ => None,
    };
    Ok(Figure {
        what: kind.what,
        rows,
        value,
        unit: "CPU s/1000",
        per_second: Some(per_second),
        rounds: rounds.iter().map(|round| round.cpu_ms).collect(),
        peer,
        original: original(kind.what, rows),
    })
}

/// The round that took the least CPU.
fn least(rounds: &[Round]) -> Option<Round> {
    rounds.iter().copied().min_by(|a, b| a.cpu_ms.total_cmp(&b.cpu_ms))
}

/// What a server answers to a read, with rows in the order of their ids.
async fn answer(server: &Running, path: &str) -> Result<serde_json::Value> {
    let (status, body) = Connection::open(server).await?.ask("GET", path, "").await?;
    if status != 200 {
        bail!("GET {path} was answered with {status}");
    }
    let mut answer: serde_json::Value = serde_json::from_slice(&body)?;
    if let Some(rows) = answer["data"].as_array_mut() {
        rows.sort_by(|a, b| a["id"].as_str().cmp(&b["id"].as_str()));
    }
    Ok(answer)
}

/// Waits until the table is served with so many rows, by the code that the plugin goes on with.
async fn ready(server: &Running, rows: usize) -> Result<()> {
    let since = Instant::now();
    while since.elapsed() < READY {
        if let Ok(mut connection) = Connection::open(server).await
            && let Ok((200, body)) =
                connection.ask("GET", &format!("{POSTS}?limit=0&count=true"), "").await
            && body.windows(8).any(|part| part == b"\"count\":")
            && String::from_utf8_lossy(&body).contains(&format!("\"count\":{rows}"))
            && let Ok((200, plugins)) = connection.ask("GET", "/plugins", "").await
            && String::from_utf8_lossy(&plugins).contains("\"optimised\":true")
        {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    bail!("the table is not served with {rows} rows after {READY:?}")
}

/// A row as clients write it: it says of which version it is.
fn post(number: usize) -> String {
    format!(
        "{{\"id\":\"post-{number:06}\",\"title\":\"Post number {number}\",\
         \"content\":\"Some words about the number {number}, as a post has them.\",\
         \"views\":{},\"published\":{},\"_v\":2}}",
        number % 1_000,
        number.is_multiple_of(2)
    )
}

/// Fills the table, and returns the bytes of its rows as JSON.
async fn load(server: &Running, rows: usize) -> Result<usize> {
    let mut connection = Connection::open(server).await?;
    let mut bytes = 0;
    for first in (0..rows).step_by(BATCH) {
        let posts: Vec<_> = (first..rows.min(first + BATCH)).map(post).collect();
        let body = format!("[{}]", posts.join(","));
        bytes += body.len();
        created(connection.ask("POST", POSTS, &body).await?)?;
    }
    Ok(bytes)
}

/// Fills the table of a server that takes one row at a time.
async fn load_singly(server: &Running, rows: usize) -> Result<()> {
    let mut connection = Connection::open(server).await?;
    for number in 0..rows {
        created(connection.ask("POST", POSTS, &post(number)).await?)?;
    }
    Ok(())
}

fn created((status, answer): (u16, Vec<u8>)) -> Result<()> {
    if status != 201 && status != 200 {
        bail!("the load was answered with {status}: {}", String::from_utf8_lossy(&answer));
    }
    Ok(())
}

/// Sends requests of a kind on all connections for some time.
async fn ask_for(
    server: &Running,
    kind: Kind,
    numbers: &AtomicU64,
    rows: usize,
    length: Duration,
) -> Result<Round> {
    // Once, so that what is made on the first request is there.
    let turn =
        |connection| Turn { connection, number: numbers.fetch_add(1, Ordering::Relaxed), rows };
    one(&mut Connection::open(server).await?, kind, &turn(0)).await?;
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        connections.push(Connection::open(server).await?);
    }
    let before: Usage = server.usage()?;
    let started = Instant::now();
    let end = started + length;
    let connections = connections.into_iter().enumerate();
    let asking = connections.map(async |(nth, mut connection)| -> Result<u64> {
        let mut answered = 0;
        while Instant::now() < end {
            one(&mut connection, kind, &turn(nth)).await?;
            answered += 1;
        }
        Ok(answered)
    });
    let answered: u64 = futures_util::future::try_join_all(asking).await?.into_iter().sum();
    let cpu_ms = server.usage()?.cpu_ms - before.cpu_ms;
    let answered = answered as f64;
    Ok(Round {
        cpu_ms: cpu_ms / answered,
        // Not of the length: the last answers come after it, and of a large table they take long.
        per_second: answered / started.elapsed().as_secs_f64(),
    })
}

async fn one(connection: &mut Connection, kind: Kind, turn: &Turn) -> Result<()> {
    let (method, path, body) = (kind.make)(turn);
    let (status, answer) = connection.ask(method, &path, &body).await?;
    if status != 200 {
        bail!("{method} {path} was answered with {status}: {}", String::from_utf8_lossy(&answer));
    }
    Ok(())
}

/// A connection that is kept open. HTTP by hand, so that the load generator takes little of the
/// machine that it shares with the server.
struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    async fn open(server: &Running) -> Result<Self> {
        let stream = TcpStream::connect(server.address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::new() })
    }

    async fn ask(&mut self, method: &str, path: &str, body: &str) -> Result<(u16, Vec<u8>)> {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        );
        self.stream.write_all(request.as_bytes()).await?;
        self.buffer.clear();
        let head = loop {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                bail!("the server closed the connection");
            }
            if let Some(at) = self.buffer.windows(4).position(|part| part == b"\r\n\r\n") {
                break at + 4;
            }
        };
        let text = std::str::from_utf8(&self.buffer[..head])?;
        let status = text.split(' ').nth(1).context("an answer without a status")?.parse()?;
        let length = text.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>())
        });
        let length = length.context("an answer without a length")??;
        while self.buffer.len() < head + length {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                bail!("the server closed the connection within an answer");
            }
        }
        Ok((status, self.buffer[head..head + length].to_vec()))
    }
}

fn table(figures: &[Figure]) -> String {
    let mut out = String::from(
        "| what | rows | ours | req/s | peer | req/s | ratio | target | | original, elsewhere |\n\
         |---|---|---|---|---|---|---|---|---|---|\n",
    );
    for figure in figures {
        let Figure { what, rows, value, unit, .. } = figure;
        let per_second = figure.per_second.map(|n| format!("{n:.0}")).unwrap_or_default();
        let original = figure.original.unwrap_or_default();
        let peer = match &figure.peer {
            None => " | | | |".into(),
            Some(Peer::Failed { error }) => format!("failed: {error} | | | |"),
            Some(Peer::Measured { value, per_second, ratio, target, .. }) => {
                let (target, met) = match target {
                    Some(Target { ratio, met: true }) => (format!("{ratio}"), "met"),
                    Some(Target { ratio, met: false }) => (format!("{ratio}"), "MISSED"),
                    None => (String::new(), ""),
                };
                format!("{value:.3} | {per_second:.0} | {ratio:.3} | {target} | {met}")
            }
        };
        // Writing to a string does not fail.
        let _ = writeln!(
            out,
            "| {what} | {rows} | {value:.3} {unit} | {per_second} | {peer} | {original} |"
        );
    }
    out
}
