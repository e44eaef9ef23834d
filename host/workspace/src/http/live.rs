//! Live lists: the rows of a table, and then what changes, as server-sent events.
//!
//! | event     | data                                                        |
//! |-----------|-------------------------------------------------------------|
//! | `reset`   | forget what you have; the rows follow, invalid ones too     |
//! | `put`     | a row that is new or has changed                            |
//! | `delete`  | `{"id"}` of a row that is gone, or no longer selected       |
//! | `invalid` | `{"id", "issues", "row"}` of a row that is not valid now    |
//! | `ready`   | you have everything, up to this event's id                  |
//!
//! **Nothing queues.** A reader holds one snapshot. Whenever its socket has room, it is sent the
//! difference between that and the newest. A slow reader skips what happened in between: a row that
//! changed a thousand times is sent once. Meanwhile it costs the server only its snapshot, which shares
//! everything that has not changed with the newest. Reloading the plugin is one more difference: the
//! rows that the new version parses differently.
//!
//! **Resuming.** The id of a `ready` names the version of the table. A reader that comes back with
//! it (`Last-Event-ID`) is sent the rows that changed since, whether it had them or not, as long as the
//! table remembers which they are. Otherwise it gets a `reset`, as it does after a restart, which
//! starts the versions afresh.

use std::collections::HashSet;
use std::convert::Infallible;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use host_http::{ClientAddress, network};
use host_sync::Admission;
use imbl::OrdMap;
use imbl::ordmap::DiffItem;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::parameters::Parameters;
use super::{Failure, Found};
use crate::fields::Fields;
use crate::generation::{Row, Table};
use crate::query::{Filter, selects};
use crate::workspace::Workspace;
use crate::workspaces::Workspaces;

/// A piece of the stream is sent when it has this many bytes.
const PIECE_BYTES: usize = 32 * 1024;
/// How many rows are examined before other tasks get a turn.
const PIECE_ROWS: usize = 512;
/// How often an idle stream sends a heartbeat, so that neither side nor a proxy in between takes it
/// for dead; they wait at least 60 s before giving up.
const HEARTBEAT: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 15 });

/// Whether a request for a list wants it live.
pub(super) fn is_wanted(headers: &HeaderMap) -> bool {
    let accepts = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepts.flat_map(|value| value.split(',')).any(|kind| {
        kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("text/event-stream")
    })
}

/// The list as a stream of events.
pub(super) fn stream(
    workspaces: &Workspaces,
    found: Found,
    table: String,
    parameters: Option<Parameters>,
    request: &Request,
) -> Result<Response, Failure> {
    let client = request.extensions().get::<ClientAddress>();
    let address = client.map(|ClientAddress(address)| network(*address));
    let context = super::context(request);
    let admission = workspaces
        .rooms()
        .admit(address, context.account().map(|account| &*account.id))
        .map_err(|error| Failure::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string()))?;
    let last = request.headers().get("last-event-id").and_then(|value| value.to_str().ok());
    let parameters = parameters.unwrap_or_default();
    let mut reader = Reader {
        stopping: workspaces.rooms().stopping().clone(),
        closed: found.workspace.closed().clone(),
        workspace: found.workspace,
        name: table,
        filters: parameters.query.filters,
        fields: parameters.fields,
        epoch: found.snapshot.epoch,
        shown: found.table.clone(),
        changes: Vec::new().into_iter(),
        told: Told::Nothing,
        piece: String::new(),
        _admission: admission,
    };
    reader.begin(last.and_then(Version::read));
    let pieces = futures_util::stream::unfold(reader, |mut reader| async move {
        let piece = reader.next().await?;
        Some((Ok::<_, Infallible>(piece), reader))
    });
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-cache"),
        (header::VARY, "accept"),
    ];
    Ok((headers, Body::from_stream(pieces)).into_response())
}

/// A reader of a live list.
struct Reader {
    workspace: Arc<Workspace>,
    name: String,
    filters: Vec<Filter>,
    fields: Option<Vec<String>>,
    /// The table as the reader will see it once it has been sent all `changes`.
    epoch: u64,
    shown: Arc<Table>,
    changes: std::vec::IntoIter<Change>,
    told: Told,
    piece: String,
    stopping: CancellationToken,
    closed: CancellationToken,
    _admission: Admission,
}

/// Something that has not been sent to the reader yet.
struct Change {
    id: Arc<str>,
    before: Before,
    now: Option<Arc<Row>>,
}

/// What the reader knows of a row.
enum Before {
    /// Nothing.
    Nothing,
    Row(Option<Arc<Row>>),
    /// It may have the row from an earlier stream.
    Perhaps,
}

/// What was sent since the last `ready`.
#[derive(PartialEq)]
enum Told {
    Nothing,
    Something,
    /// There were changes, none that the reader wants to know of. Its version is behind.
    Unwanted,
}

/// A version of a table, as the id of an event.
struct Version {
    epoch: u64,
    version: u64,
}

impl Version {
    fn read(text: &str) -> Option<Self> {
        let (epoch, version) = text.split_once('-')?;
        Some(Self { epoch: u64::from_str_radix(epoch, 16).ok()?, version: version.parse().ok()? })
    }
}

impl Reader {
    /// Goes on from a version that the reader has, or from nothing.
    fn begin(&mut self, last: Option<Version>) {
        self.told = Told::Something;
        let last = last.filter(|last| last.epoch == self.epoch);
        let changes: Vec<_> = match last.and_then(|last| self.shown.changed_since(last.version)) {
            Some(changed) => {
                let change = |id: Arc<str>| {
                    let now = self.shown.rows.get(&id).cloned();
                    Change { id, before: Before::Perhaps, now }
                };
                changed.collect::<HashSet<_>>().into_iter().map(change).collect()
            }
            None => {
                self.piece.push_str("event: reset\ndata: {}\n\n");
                let rows = self.shown.rows.iter();
                rows.map(|(id, row)| Change {
                    id: id.clone(),
                    before: Before::Nothing,
                    now: Some(row.clone()),
                })
                .collect()
            }
        };
        self.changes = changes.into_iter();
    }

    /// The next piece of the stream; none at its end.
    async fn next(&mut self) -> Option<Bytes> {
        let heartbeat = tokio::time::Instant::now() + HEARTBEAT;
        loop {
            self.tell();
            if self.changes.len() == 0 && self.told == Told::Something {
                self.write_ready();
            }
            if !self.piece.is_empty() {
                return Some(Bytes::from(std::mem::take(&mut self.piece)));
            }
            if self.changes.len() > 0 {
                tokio::task::yield_now().await;
                continue;
            }
            // Subscribed before looking, so that no change in between is missed. The
            // generation is not held on to: a reader that is stuck must not keep it alive.
            let mut reloads = self.workspace.reloads();
            let generation = self.workspace.generation();
            let mut versions = generation.versions();
            let snapshot = generation.snapshot();
            drop(generation);
            // A plugin that no longer has the table ends it.
            let table = snapshot.tables.get(&self.name)?;
            if !Arc::ptr_eq(table, &self.shown) {
                self.follow(snapshot.epoch, table.clone());
                continue;
            }
            tokio::select! {
                _ = self.stopping.cancelled() => return None,
                _ = self.closed.cancelled() => return None,
                _ = reloads.changed() => {}
                _ = versions.changed() => {}
                () = tokio::time::sleep_until(heartbeat) => match self.told {
                    Told::Unwanted => self.write_ready(),
                    _ => self.piece.push_str(": nothing new\n\n"),
                }
            }
        }
    }

    /// Turns to a newer version of the table.
    fn follow(&mut self, epoch: u64, table: Arc<Table>) {
        let changes = difference(&self.shown.rows, &table.rows);
        self.changes = changes.into_iter();
        if self.told == Told::Nothing {
            self.told = Told::Unwanted;
        }
        (self.epoch, self.shown) = (epoch, table);
    }

    /// Writes what fits into a piece.
    fn tell(&mut self) {
        for change in self.changes.by_ref().take(PIECE_ROWS) {
            let (event, data) = match tell(&change, &self.filters) {
                None => continue,
                Some(Event::Put(row)) => match &self.fields {
                    Some(fields) => ("put", row.project(fields)),
                    None => ("put", row.text().to_owned()),
                },
                Some(Event::Delete) => ("delete", json!({ "id": *change.id }).to_string()),
                Some(Event::Invalid(row)) => {
                    ("invalid", row.describe_invalid(&change.id).to_string())
                }
            };
            self.told = Told::Something;
            // A plugin may write JSON on several lines; between its tokens a line break is a space.
            let data = data.replace(['\n', '\r'], " ");
            let _ = write!(self.piece, "event: {event}\ndata: {data}\n\n");
            if self.piece.len() >= PIECE_BYTES {
                break;
            }
        }
    }

    fn write_ready(&mut self) {
        self.told = Told::Nothing;
        let (epoch, version) = (self.epoch, self.shown.version);
        let _ = write!(self.piece, "event: ready\nid: {epoch:x}-{version}\ndata: {{}}\n\n");
    }
}

/// What changed between two versions of a table.
fn difference(
    before: &OrdMap<Arc<str>, Arc<Row>>,
    now: &OrdMap<Arc<str>, Arc<Row>>,
) -> Vec<Change> {
    let change = |id: &Arc<str>, before: Option<&Arc<Row>>, now: Option<&Arc<Row>>| Change {
        id: id.clone(),
        before: Before::Row(before.cloned()),
        now: now.cloned(),
    };
    let items = before.diff(now).map(|item| match item {
        DiffItem::Add(id, now) => change(id, None, Some(now)),
        DiffItem::Update { old: (id, before), new: (_, now) } => {
            change(id, Some(before), Some(now))
        }
        DiffItem::Remove(id, before) => change(id, Some(before), None),
    });
    items.collect()
}

enum Event<'a> {
    Put(Fields<'a>),
    Delete,
    Invalid(&'a Row),
}

/// What a reader must be sent about a change, if anything.
fn tell<'a>(change: &'a Change, filters: &[Filter]) -> Option<Event<'a>> {
    let selected = |row: &'a Row| row.fields().filter(|row| selects(filters, *row));
    let now = change.now.as_deref();
    let (had, had_invalid) = match &change.before {
        Before::Nothing => (None, false),
        Before::Perhaps => (Some(""), false),
        Before::Row(row) => {
            let row = row.as_deref();
            let text = row.and_then(selected).map(Fields::text);
            (text, row.is_some_and(|row| row.parsed.is_err()))
        }
    };
    // Without its fields it is unknown whether an invalid row would be selected. Readers of all
    // rows are told, and so are those that had it.
    let concerned = had.is_some() || filters.is_empty();
    match now {
        Some(row) if row.parsed.is_err() => concerned.then_some(Event::Invalid(row)),
        now => match now.and_then(selected) {
            Some(row) if had == Some(row.text()) => None,
            Some(row) => Some(Event::Put(row)),
            None => (had.is_some() || had_invalid && concerned).then_some(Event::Delete),
        },
    }
}
