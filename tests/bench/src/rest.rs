//! Tables by REST: what lists, reads, writes and a bulk load cost, and how that grows with the table.
//!
//! Each size of the table has a server of its own, in local mode, with its data on disk. The original's
//! figures stand beside ours where there are any; they were taken elsewhere, with data in memory.

use std::fmt::Write;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::server::{Running, Usage, start_workspaces};

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
    /// How long each measurement takes, in seconds.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Our server's binary.
    #[arg(long, default_value = "target/release/host")]
    host: PathBuf,
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
    /// What the original takes.
    original: Option<&'static str>,
}

/// A kind of request that is sent again and again.
#[derive(Clone, Copy)]
struct Kind {
    what: &'static str,
    /// The method, path and body of one of them; the number is different each time.
    make: fn(u64, usize) -> (&'static str, String, String),
}

const KINDS: [Kind; 5] = [
    Kind { what: "list", make: |_, _| ("GET", POSTS.into(), String::new()) },
    Kind {
        what: "one row",
        make: |number, rows| ("GET", format!("{POSTS}/{}", id(number, rows)), String::new()),
    },
    Kind {
        what: "PUT",
        make: |number, rows| {
            let path = format!("{POSTS}/{}", id(number, rows));
            ("PUT", path, format!("{{\"views\":{}}}", number % 1_000_000))
        },
    },
    Kind {
        what: "filter, 100 rows",
        make: |number, _| {
            let path = format!("{POSTS}?filter[views][gte]={}&limit=100", number % 100);
            ("GET", path, String::new())
        },
    },
    Kind {
        what: "sort, 100 rows",
        make: |_, _| ("GET", format!("{POSTS}?sort=-views,title&limit=100"), String::new()),
    },
];

/// The id of a row, all over the table.
fn id(number: u64, rows: usize) -> String {
    format!("post-{:06}", number.wrapping_mul(7_919) % rows.max(1) as u64)
}

fn original(what: &str, rows: usize) -> Option<&'static str> {
    Some(match (what, rows) {
        ("list", 100) => "0.032",
        ("list", 10_000) => "2.0-2.4",
        ("one row", _) => "0.012-0.020",
        ("PUT", 10_000) => "0.14",
        _ => return None,
    })
}

pub async fn run(options: &Options) -> Result<()> {
    std::fs::create_dir_all(&options.out)
        .with_context(|| format!("{} cannot be made", options.out.display()))?;
    let mut figures = Vec::new();
    for &rows in &options.rows {
        measure(options, rows, &mut figures).await?;
    }
    print!("{}", table(&figures));
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
    let mut note = |what, value, unit, per_second| {
        let original = original(what, rows);
        let figure = Figure { what, rows, value, unit, per_second, original };
        eprintln!("{rows:>7} rows  {what:<24} {value:>10.3} {unit}");
        figures.push(figure);
    };

    let server = start()?;
    ready(&server, 0).await?;
    let before = server.usage()?;
    let bytes = load(&server, rows).await?;
    let loaded = server.usage()?;
    note("bulk load", (loaded.cpu_ms - before.cpu_ms) / 1000.0, "CPU s", None);
    let json = bytes as f64 / rows as f64;
    let beyond = |usage: &Usage| {
        let each = (usage.rss_kib - before.rss_kib) * 1024.0 / rows as f64;
        (each - json) / 1024.0
    };
    note("memory beyond JSON, loaded", beyond(&loaded), "KiB/row", None);
    for kind in KINDS {
        let length = Duration::from_secs(options.seconds);
        let (requests, usage) = ask_for(&server, kind, rows, length).await?;
        let per_second = requests as f64 / length.as_secs_f64();
        note(kind.what, usage / requests.max(1) as f64, "CPU s/1000", Some(per_second));
    }
    drop(server);

    let started = Instant::now();
    let server = start()?;
    ready(&server, rows).await?;
    note("start", started.elapsed().as_secs_f64(), "s", None);
    note("start, CPU", server.usage()?.cpu_ms / 1000.0, "CPU s", None);
    // Without what the load and the requests needed for a moment.
    note("memory beyond JSON", beyond(&server.usage()?), "KiB/row", None);
    Ok(())
}

/// Waits until the table is served with so many rows.
async fn ready(server: &Running, rows: usize) -> Result<()> {
    let since = Instant::now();
    while since.elapsed() < READY {
        if let Ok(mut connection) = Connection::open(server).await
            && let Ok((200, body)) =
                connection.ask("GET", &format!("{POSTS}?limit=0&count=true"), "").await
            && body.windows(8).any(|part| part == b"\"count\":")
            && String::from_utf8_lossy(&body).contains(&format!("\"count\":{rows}"))
        {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    bail!("the table is not served with {rows} rows after {READY:?}")
}

/// Fills the table, and returns the bytes of its rows as JSON.
async fn load(server: &Running, rows: usize) -> Result<usize> {
    let mut connection = Connection::open(server).await?;
    let mut bytes = 0;
    for first in (0..rows).step_by(BATCH) {
        let mut body = String::from("[");
        for number in first..rows.min(first + BATCH) {
            if number > first {
                body.push(',');
            }
            write!(
                body,
                "{{\"id\":\"post-{number:06}\",\"title\":\"Post number {number}\",\
                 \"content\":\"Some words about the number {number}, as a post has them.\",\
                 \"views\":{},\"published\":{}}}",
                number % 1_000,
                number % 2 == 0
            )?;
        }
        body.push(']');
        bytes += body.len();
        let (status, answer) = connection.ask("POST", POSTS, &body).await?;
        if status != 201 && status != 200 {
            bail!("the load was answered with {status}: {}", String::from_utf8_lossy(&answer));
        }
    }
    Ok(bytes)
}

/// Sends requests of a kind on all connections for some time; returns how many were answered, and the
/// milliseconds of CPU that the server took for them.
async fn ask_for(
    server: &Running,
    kind: Kind,
    rows: usize,
    length: Duration,
) -> Result<(u64, f64)> {
    let numbers = AtomicU64::new(0);
    // Once, so that what is made on the first request is there.
    one(&mut Connection::open(server).await?, kind, &numbers, rows).await?;
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        connections.push(Connection::open(server).await?);
    }
    let before: Usage = server.usage()?;
    let end = Instant::now() + length;
    let numbers = &numbers;
    let asking = connections.into_iter().map(async |mut connection| -> Result<u64> {
        let mut answered = 0;
        while Instant::now() < end {
            one(&mut connection, kind, numbers, rows).await?;
            answered += 1;
        }
        Ok(answered)
    });
    let answered = futures_util::future::try_join_all(asking).await?;
    Ok((answered.into_iter().sum(), server.usage()?.cpu_ms - before.cpu_ms))
}

async fn one(
    connection: &mut Connection,
    kind: Kind,
    numbers: &AtomicU64,
    rows: usize,
) -> Result<()> {
    let (method, path, body) = (kind.make)(numbers.fetch_add(1, Ordering::Relaxed), rows);
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
    let mut out =
        String::from("| what | rows | ours | req/s | original |\n|---|---|---|---|---|\n");
    for figure in figures {
        let per_second = figure.per_second.map(|n| format!("{n:.0}")).unwrap_or_default();
        let original = figure.original.unwrap_or_default();
        let Figure { what, rows, value, unit, .. } = figure;
        // Writing to a string does not fail.
        let _ =
            writeln!(out, "| {what} | {rows} | {value:.3} {unit} | {per_second} | {original} |");
    }
    out
}
