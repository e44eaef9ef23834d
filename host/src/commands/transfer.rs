//! `host export` and `host import`: a table as JSON lines, one row each, or a room's whole document as
//! one Yjs update.
//!
//! A table is moved in pieces, so its size does not matter. An import writes batches in the order of the lines, each
//! of them whole or not at all. It stops at the first batch that is refused, and says which lines are at
//! fault and how many rows were imported. Repeating an import does no harm: rows replace those with the same id.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use reqwest::{Method, Url};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::Usage;
use super::api::{Api, Issue, Kind, RequestRefused, Sent, Target};
use super::output::{Output, Progress};
use super::rows::{Selection, table_of};

/// Most rows in one batch. The plugin has to parse them within its time limit.
const BATCH_ROWS: usize = 1000;
/// Bytes after which a batch is sent: a request has at most 8 MiB, and one more line still fits.
const BATCH_BYTES: usize = 4 * 1024 * 1024;
/// Longest line, in bytes; a row has at most 1 MiB.
const LINE_BYTES: u64 = 1024 * 1024;
/// Largest document to import, in bytes; no server accepts a larger one by default.
const DOCUMENT_BYTES: u64 = 256 * 1024 * 1024;

/// `host export`
#[derive(Debug, clap::Args)]
pub struct Export {
    #[command(flatten)]
    target: Target,
    /// Name of the table, or of the room.
    name: String,
    /// File to write; standard output if it is missing or `-`.
    file: Option<PathBuf>,
    /// The name is a room's, and the file is its document. A file name that ends in .yjs implies this.
    #[arg(long)]
    room: bool,
}

/// `host import`
#[derive(Debug, clap::Args)]
pub struct Import {
    #[command(flatten)]
    target: Target,
    /// Name of the table, or of the room.
    name: String,
    /// File to read; standard input if it is missing or `-`.
    file: Option<PathBuf>,
    /// The name is a room's, and the file is its document. A file name that ends in .yjs implies this.
    #[arg(long)]
    room: bool,
}

fn is_room(room: bool, file: Option<&Path>) -> bool {
    room || file.is_some_and(|file| file.extension().is_some_and(|extension| extension == "yjs"))
}

/// A room may have any name, and naming one creates it. So where only the file's ending asks for a room, and the
/// name is a table's, it was more likely the table's workspace that was meant.
async fn refuse_table(api: &Api, verb: &str, name: &str, file: Option<&Path>) -> Result<()> {
    // A hub has no workspaces, and therefore no tables.
    let Ok(workspaces) = api.workspaces().await else { return Ok(()) };
    let has_table = workspaces.iter().find(|workspace| workspace.tables.contains_key(name));
    match has_table {
        Some(of) if !workspaces.iter().any(|workspace| workspace.id == name) => {
            let file = file.unwrap_or(Path::new("-")).display();
            Err(Usage::error(format!(
                "{name} is a table of the workspace {id}, and a .yjs file is the document of a whole \
                 workspace: `host {verb} {id} {file}`, or with --room for a room that is called {name}",
                id = of.id
            )))
        }
        _ => Ok(()),
    }
}

pub(super) async fn export(args: Export) -> Result<()> {
    let file = args.file.filter(|file| *file != Path::new("-"));
    let room = is_room(args.room, file.as_deref());
    if room && file.is_none() && io::stdout().is_terminal() {
        return Err(Usage::error(
            "a document is binary and is not written to a terminal; name a file to write it to",
        ));
    }
    let export = async |api: &Api| {
        if room && !args.room {
            refuse_table(api, "export", &args.name, file.as_deref()).await?;
        }
        let mut sink = Sink::open(file.as_deref())?;
        let count = match room {
            true => export_room(api, &args.name, &mut sink).await?,
            false => export_table(api, &args.name, &mut sink).await?,
        };
        sink.finish()?;
        Ok(count)
    };
    let count = args.target.with(export).await?;
    if file.is_some() {
        let unit = if room { "bytes" } else { "rows" };
        Output::stdout(args.target.format).print(json!({ unit: count }))?;
    }
    Ok(())
}

async fn export_table(api: &Api, table: &str, sink: &mut Sink) -> Result<u64> {
    let found = api.find(Kind::Table, table).await?;
    let url = found.url(api, &[])?;
    let mut progress = Progress::new("exported");
    let mut count = 0;
    let write = |row: Box<RawValue>| {
        count += 1;
        progress.rows(count);
        sink.write(row.get().as_bytes())?;
        sink.write(b"\n")
    };
    Selection::of(false).each(api, &url, None, None, write).await?;
    drop(progress);
    let invalid = Selection::of(true).count(api, url).await?;
    if invalid > 0 {
        let rows = if invalid == 1 { "row that is" } else { "rows that are" };
        // The workspace is named only where the table's name alone is ambiguous.
        let id = &found.workspace.id;
        let choice = match api.is_plain(Kind::Table, &found.name).await {
            true => String::new(),
            false => format!(" --workspace {id}"),
        };
        anstream::eprintln!(
            "left out {invalid} {rows} not valid: `host rows list {} --invalid{choice}` shows \
             them, and an export of the room has everything: `host export {id} {id}.yjs`",
            found.name
        );
    }
    Ok(count as u64)
}

async fn export_room(api: &Api, room: &str, sink: &mut Sink) -> Result<u64> {
    let document = api.send(Method::GET, api.route(&["rooms", room])?, Sent::Nothing).await?;
    sink.write(&document)?;
    Ok(document.len() as u64)
}

/// Where an export goes. A file gets its name only once it is complete.
enum Sink {
    Stdout(BufWriter<io::StdoutLock<'static>>),
    File { to: BufWriter<File>, partial: PathBuf, path: PathBuf },
}

impl Sink {
    fn open(file: Option<&Path>) -> Result<Self> {
        let Some(path) = file else {
            return Ok(Self::Stdout(BufWriter::new(io::stdout().lock())));
        };
        let name = path
            .file_name()
            .with_context(|| format!("{} is not the name of a file", path.display()))?;
        ensure!(!path.is_dir(), "{} is a folder", path.display());
        let partial = path.with_file_name(format!(".{}.partial", name.to_string_lossy()));
        let to = File::create(&partial)
            .with_context(|| format!("cannot write {}", partial.display()))?;
        Ok(Self::File { to: BufWriter::new(to), partial, path: path.to_owned() })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        match self {
            Self::Stdout(to) => Ok(to.write_all(bytes)?),
            Self::File { to, partial, .. } => {
                to.write_all(bytes).with_context(|| format!("cannot write {}", partial.display()))
            }
        }
    }

    fn finish(&mut self) -> Result<()> {
        match self {
            Self::Stdout(to) => Ok(to.flush()?),
            Self::File { to, partial, path } => {
                let done = to.flush().and_then(|()| to.get_ref().sync_all());
                let done = done.and_then(|()| std::fs::rename(&*partial, &*path));
                done.with_context(|| format!("cannot write {}", path.display()))
            }
        }
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        if let Self::File { partial, .. } = self {
            // It still exists only if the export failed.
            let _ = std::fs::remove_file(partial);
        }
    }
}

pub(super) async fn import(args: Import) -> Result<()> {
    let file = args.file.filter(|file| *file != Path::new("-"));
    let room = is_room(args.room, file.as_deref());
    let name = file.as_ref().map_or("standard input".into(), |file| file.display().to_string());
    let source: Box<dyn Read> = match &file {
        None => Box::new(io::stdin().lock()),
        Some(path) => Box::new(File::open(path).with_context(|| format!("cannot open {name}"))?),
    };
    let import = async |api: &Api| {
        if room && !args.room {
            refuse_table(api, "import", &args.name, file.as_deref()).await?;
        }
        match room {
            true => import_room(api, &args.name, source, &name).await,
            false => import_table(api, &args.name, BufReader::new(source), &name).await,
        }
    };
    let count = args.target.with(import).await?;
    let unit = if room { "bytes" } else { "rows" };
    Ok(Output::stdout(args.target.format).print(json!({ unit: count }))?)
}

async fn import_room(api: &Api, room: &str, source: impl Read, name: &str) -> Result<u64> {
    let mut update = Vec::new();
    let read = source.take(DOCUMENT_BYTES + 1).read_to_end(&mut update);
    read.with_context(|| format!("cannot read {name}"))?;
    let size = update.len() as u64;
    ensure!(size <= DOCUMENT_BYTES, "{name} is larger than {DOCUMENT_BYTES} bytes");
    let url = api.route(&["rooms", room])?;
    api.send(Method::POST, url, Sent::Update(update)).await.map_err(|error| {
        match error.downcast_ref::<RequestRefused>() {
            Some(refused) if refused.status == 413 => error.context(
                "the server accepts no update of this size; start it with a larger --max-frame-bytes, or \
                 stop it and import into its data folder",
            ),
            _ => error,
        }
    })?;
    Ok(size)
}

async fn import_table(api: &Api, table: &str, mut source: impl BufRead, name: &str) -> Result<u64> {
    let url = table_of(api, table).await?;
    let mut progress = Progress::new("imported");
    let mut batch = Batch::default();
    let (mut done, mut number) = (0, 0);
    let mut line = Vec::new();
    loop {
        line.clear();
        number += 1;
        let read = source.by_ref().take(LINE_BYTES + 2).read_until(b'\n', &mut line);
        read.with_context(|| format!("cannot read {name}"))?;
        let end = line.is_empty();
        let mut row = None;
        if !end {
            match Row::read(&line, number) {
                Ok(read) => row = read,
                Err(error) => {
                    // The good rows up to here are written first, so that the message is true.
                    done += batch.write(api, &url, name, done).await?;
                    bail!("{name}, line {number}: {error}; {}", so_far(done));
                }
            }
        }
        if end || row.as_ref().is_some_and(|row| !batch.has_room(row)) {
            done += batch.write(api, &url, name, done).await?;
            progress.rows(done);
        }
        if end {
            return Ok(done as u64);
        }
        if let Some(row) = row {
            batch.push(row);
        }
    }
}

fn so_far(rows: usize) -> String {
    match rows {
        0 => "nothing was imported".to_owned(),
        1 => "the row before was imported, and nothing after".to_owned(),
        rows => format!("the {rows} rows before were imported, and nothing after"),
    }
}

/// One line of a file.
struct Row {
    text: Box<RawValue>,
    id: Option<String>,
    line: usize,
}

impl Row {
    /// None for an empty line.
    fn read(line: &[u8], number: usize) -> Result<Option<Self>, String> {
        #[derive(Deserialize)]
        struct Fields {
            id: Option<serde_json::Value>,
        }
        let text = line.strip_suffix(b"\n").unwrap_or(line).trim_ascii();
        if text.is_empty() {
            return Ok(None);
        }
        if text.len() as u64 > LINE_BYTES {
            return Err(format!("is longer than {LINE_BYTES} bytes, the limit of a row"));
        }
        let not_json = |error: serde_json::Error| format!("is not JSON: {error}");
        let text: Box<RawValue> = serde_json::from_slice(text).map_err(not_json)?;
        if !text.get().starts_with('{') {
            return Err("is not a JSON object, as every row is".to_owned());
        }
        let fields: Fields = serde_json::from_str(text.get()).map_err(not_json)?;
        let id = fields.id.and_then(|id| Some(id.as_str()?.to_owned()));
        Ok(Some(Self { text, id, line: number }))
    }
}

/// Rows that are written together.
#[derive(Default)]
struct Batch {
    body: String,
    /// The line of each row.
    lines: Vec<usize>,
    ids: HashSet<String>,
}

impl Batch {
    /// Whether a row fits in this batch. A second row with the same id goes into the next batch, where it replaces
    /// the first.
    fn has_room(&self, row: &Row) -> bool {
        self.lines.len() < BATCH_ROWS
            && self.body.len() + row.text.get().len() < BATCH_BYTES
            && row.id.as_ref().is_none_or(|id| !self.ids.contains(id))
    }

    fn push(&mut self, row: Row) {
        self.body.push(if self.body.is_empty() { '[' } else { ',' });
        self.body.push_str(row.text.get());
        self.lines.push(row.line);
        self.ids.extend(row.id);
    }

    /// Writes the rows, empties the batch, and returns their number. `done` rows were written before.
    async fn write(&mut self, api: &Api, url: &Url, name: &str, done: usize) -> Result<usize> {
        let batch = std::mem::take(self);
        if batch.lines.is_empty() {
            return Ok(0);
        }
        let written = api.send(Method::POST, url.clone(), Sent::Json(batch.body + "]")).await;
        let Err(error) = written else { return Ok(batch.lines.len()) };
        let so_far = so_far(done);
        match error.downcast::<RequestRefused>() {
            Ok(refused) if !refused.issues.is_empty() => {
                let issues = refused.issues.iter().map(|issue| at_line(issue, &batch.lines));
                bail!(
                    "{name}: rows were refused; {so_far}\n  {}",
                    issues.collect::<Vec<_>>().join("\n  ")
                )
            }
            Ok(refused) => Err(anyhow::Error::from(refused).context(format!("{name}: {so_far}"))),
            Err(error) => Err(error.context(format!("{name}: {so_far}"))),
        }
    }
}

/// Translates an issue, whose path begins with a row's place in the batch, to the line of the file.
fn at_line(issue: &Issue, lines: &[usize]) -> String {
    let place = issue.path.first().and_then(|place| lines.get(place.parse::<usize>().ok()?));
    let Some(line) = place else { return issue.to_string() };
    let inner = Issue { path: issue.path[1..].to_vec(), message: issue.message.clone() };
    format!("line {line}: {inner}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_an_object_or_empty() {
        for empty in ["", "\n", "  \r\n"] {
            assert!(matches!(Row::read(empty.as_bytes(), 1), Ok(None)), "{empty:?}");
        }
        let row = Row::read(b" {\"id\":\"a\",\"n\":1.0}\r\n", 7).expect("a row").expect("a row");
        assert_eq!(
            (row.text.get(), row.id.as_deref(), row.line),
            ("{\"id\":\"a\",\"n\":1.0}", Some("a"), 7)
        );
        let long = format!("{{\"t\":\"{}\"}}", "x".repeat(LINE_BYTES as usize));
        for wrong in ["[]", "1", "null", "{", "{}{}", long.as_str()] {
            assert!(Row::read(wrong.as_bytes(), 1).is_err(), "{:.20}", wrong);
        }
    }

    #[test]
    fn a_batch_is_bounded_and_has_each_id_once() {
        let row = |id: &str| {
            Row::read(format!("{{\"id\":\"{id}\"}}").as_bytes(), 1).expect("a row").expect("a row")
        };
        let mut batch = Batch::default();
        batch.push(row("a"));
        assert!(batch.has_room(&row("b")) && !batch.has_room(&row("a")));
        for n in 1..BATCH_ROWS {
            batch.push(row(&n.to_string()));
        }
        assert!(!batch.has_room(&row("b")));
        let full = Batch { body: " ".repeat(BATCH_BYTES), ..Batch::default() };
        assert!(!full.has_room(&row("b")));
    }
}
