//! A workspace as one version of its plugin sees it.
//!
//! A generation holds the plugin's logic and every row as that logic parses it, published as an
//! immutable [`Snapshot`]: a read takes the current one and never waits for the document, for the
//! guest, or for a writer. Behind it a task follows the index, has changed rows parsed in batches
//! and publishes the next snapshot; the rows that did not change are shared with the one before.
//!
//! When a plugin is replaced, the new generation parses everything while the old one goes on
//! serving, and takes its place once it has caught up. A row that breaks the plugin (a trap, a
//! timeout) is not allowed to break the workspace: it becomes an invalid row that says so.

mod draft;

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use bytes::Bytes;
use host_sync::Id;
use imbl::{OrdMap, Vector};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::definition::{Definition, Issue, TableDefinition, id_issue};
use crate::documents::{Documents, guid};
use crate::error::Fault;
use crate::fields::{Fields, Members};
use crate::index::{Changes, Entry, Follower, Index, KV, NEVER, TABLE_PREFIX};
use crate::logic::{Logic, Parsed};
use crate::rules::{Holders, Rule, Rules, held};
use crate::schema::Schemas;

use draft::Draft;

/// Rows of one batch that may break the plugin, one by one, before the rest of the batch is given
/// up: each can take as long as a call may take.
const FAULTS_PER_BATCH: usize = 16;

/// Changes that a table remembers, for readers who come back. Each is two words; a reader who missed
/// more does not lose much by reading everything.
const RECENT: usize = 4096;

/// Bytes of lists that are kept. Beyond it, a list is made for each reader, a piece at a time.
const KEPT_LISTS: usize = 64 * 1024 * 1024;

/// A workspace at one moment, as one version of its plugin sees it.
pub(crate) struct Snapshot {
    /// Names the version of the plugin, among those since the start of time: versions of tables
    /// count from anew in each.
    pub epoch: u64,
    /// The version of the index that it shows.
    pub version: u64,
    /// By table name; all tables of the definition.
    pub tables: HashMap<String, Arc<Table>>,
    /// By key; the keys that are set.
    pub kv: OrdMap<Arc<str>, Arc<Row>>,
}

/// The rows of a table at one moment.
#[derive(Default)]
pub(crate) struct Table {
    /// By id.
    pub rows: OrdMap<Arc<str>, Arc<Row>>,
    /// Counts changes of what the table shows. A row of another table can change it.
    pub version: u64,
    /// Version of the table's array.
    pub array: u64,
    /// How many rows are invalid.
    pub invalid: usize,
    /// What its rows hold of the table's rules.
    pub holders: Holders,
    /// The rows that changed last, each with the version that it changed to.
    recent: Vector<(u64, Arc<str>)>,
    /// The version up to which changes are no longer in `recent`.
    forgotten: u64,
    /// The answer to a list without parameters, made once.
    list: OnceLock<Bytes>,
}

/// A row, or the value of a key.
pub(crate) struct Row {
    /// Its entry in the document.
    pub entry: Id,
    /// What is in the document, as JSON text.
    pub raw: Arc<str>,
    /// Its current form as JSON text, or why it is not valid.
    pub parsed: Result<Arc<str>, Arc<[Issue]>>,
    /// Its current form, where it is not valid only because it breaks a rule about several rows.
    broken: Option<Arc<str>>,
    /// Its entry's `ts`.
    time: f64,
    /// Whether it is invalid because it broke the plugin.
    faulted: bool,
    /// Of the current form.
    members: Members,
}

impl Table {
    /// The valid rows in the order of their ids.
    pub fn valid(&self) -> impl Iterator<Item = (&str, Fields<'_>)> {
        self.rows.iter().filter_map(|(id, row)| Some((&**id, row.fields()?)))
    }

    /// The rows that changed after a version, some of them perhaps twice; none when that is no
    /// longer known.
    pub fn changed_since(&self, version: u64) -> Option<impl Iterator<Item = Arc<str>>> {
        let known = self.forgotten <= version && version <= self.version;
        let recent = self.recent.iter().rev().take_while(move |(at, _)| *at > version);
        known.then(|| recent.map(|(_, id)| id.clone()))
    }

    /// All valid rows as the body of an answer, `{"data":[…]}`, which is kept for the next reader. None
    /// while lists that are kept, for readers that have not taken all of them yet too, hold too much.
    pub fn list(&self) -> Option<Bytes> {
        if let Some(list) = self.list.get() {
            return Some(list.clone());
        }
        let size: usize = self.valid().map(|(_, row)| row.text().len() + 1).sum();
        let held = Held::try_new(size)?;
        let make = || {
            let mut body = Vec::with_capacity(size + 16);
            body.extend_from_slice(b"{\"data\":[");
            for (at, (_, row)) in self.valid().enumerate() {
                if at > 0 {
                    body.push(b',');
                }
                body.extend_from_slice(row.text().as_bytes());
            }
            body.extend_from_slice(b"]}");
            Bytes::from_owner(List { body, _held: held })
        };
        Some(self.list.get_or_init(make).clone())
    }
}

/// A list that counts for as long as somebody holds it.
struct List {
    body: Vec<u8>,
    _held: Held,
}

impl AsRef<[u8]> for List {
    fn as_ref(&self) -> &[u8] {
        &self.body
    }
}

/// Bytes that count among those that all lists hold.
struct Held(usize);

/// What all lists hold that were made to be kept. Of each version of a table there is one, and a reader
/// that does not read keeps a version that nobody else needs.
static HELD: AtomicUsize = AtomicUsize::new(0);

impl Held {
    fn try_new(bytes: usize) -> Option<Self> {
        let add = |held: usize| held.checked_add(bytes).filter(|held| *held <= KEPT_LISTS);
        HELD.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).ok()?;
        Some(Self(bytes))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        HELD.fetch_sub(self.0, Ordering::Relaxed);
    }
}

impl PartialEq for Row {
    fn eq(&self, other: &Self) -> bool {
        self.entry == other.entry
            && self.raw == other.raw
            && self.parsed == other.parsed
            && self.broken == other.broken
            && self.faulted == other.faulted
    }
}

impl Eq for Row {}

impl Row {
    fn new(entry: Entry, parsed: Result<Arc<str>, Arc<[Issue]>>, faulted: bool) -> Self {
        let Entry { id, value, time, .. } = entry;
        let members = Members::default();
        Self { entry: id, raw: value, parsed, broken: None, time, faulted, members }
    }

    /// The current form of a valid row.
    pub fn fields(&self) -> Option<Fields<'_>> {
        Some(Fields::new(self.parsed.as_ref().ok()?, &self.members))
    }

    /// The tag of a valid row's current form, or of what is in the document. See `condition`.
    pub fn tag(&self) -> String {
        let entry = format!("{:x}.{:x}", self.entry.client, self.entry.clock);
        match &self.parsed {
            Ok(text) if **text != *self.raw => {
                let mut hasher = DefaultHasher::new();
                text.hash(&mut hasher);
                format!("\"{entry}-{:x}\"", hasher.finish())
            }
            _ => format!("\"{entry}\""),
        }
    }

    /// Its current form as JSON text, also where the row breaks a rule about several rows; or what the
    /// plugin has against it.
    pub fn current(&self) -> Result<&Arc<str>, &Arc<[Issue]>> {
        self.broken.as_ref().map_or(self.parsed.as_ref(), Ok)
    }

    /// What it holds of its table's rules.
    pub fn held(&self, table: &TableDefinition) -> Vec<(Rule, Arc<str>)> {
        match self.current() {
            Ok(text) => held(table, Fields::new(text, &self.members)),
            Err(_) => Vec::new(),
        }
    }

    /// The same row, breaking these rules; none of them where there are no issues.
    fn judged(&self, issues: Vec<Issue>) -> Self {
        let current = self.current().cloned();
        let (parsed, broken) = match (issues.is_empty(), current) {
            (false, Ok(current)) => (Err(issues.into()), Some(current)),
            (_, current) => (current.map_err(Arc::clone), None),
        };
        let Self { entry, ref raw, time, faulted, .. } = *self;
        Self { entry, raw: raw.clone(), parsed, broken, time, faulted, members: Members::default() }
    }

    /// An invalid row, for those who can mend it.
    pub fn describe_invalid(&self, id: &str) -> serde_json::Value {
        let issues = self.parsed.as_ref().err().map_or(&[][..], |issues| issues);
        let row: serde_json::Value = serde_json::from_str(&self.raw).unwrap_or_default();
        serde_json::json!({ "id": id, "issues": issues, "row": row })
    }
}

/// One version of a workspace's plugin, and the workspace as it sees it.
pub(crate) struct Generation {
    /// What the rows mean.
    pub logic: Arc<dyn Logic>,
    /// The schemas that the host itself holds values against, compiled.
    pub schemas: Schemas,
    /// The documents of rows.
    pub documents: Documents,
    state: Arc<State>,
    task: Mutex<Option<tokio::task::AbortHandle>>,
}

struct State {
    index: Arc<Mutex<Index>>,
    rules: Rules,
    documents: Documents,
    follower: Arc<Follower>,
    snapshot: ArcSwap<Snapshot>,
    version: watch::Sender<u64>,
}

impl Drop for Generation {
    fn drop(&mut self) {
        if let Some(task) = self.task.lock().take() {
            task.abort();
        }
        self.state.index.lock().unfollow(&self.state.follower);
    }
}

impl Generation {
    /// Parses everything that the index holds, and follows it from there. The error is the first
    /// fault of the plugin, if there are more of them than `tolerated`.
    pub async fn start(
        logic: Arc<dyn Logic>,
        index: Arc<Mutex<Index>>,
        documents: Documents,
        tolerated: usize,
    ) -> Result<Arc<Self>, Fault> {
        let definition = logic.definition().clone();
        let (follower, tables) = {
            let mut index = index.lock();
            // A table that is empty now may have had rows, and so have a version; nothing else
            // will come that tells it.
            let empty = |name: &str| {
                let array = index.array_version(&format!("{TABLE_PREFIX}{name}"));
                Arc::new(Table { array, ..Table::default() })
            };
            let names = definition.tables.iter().map(|table| &table.name);
            let tables = names.map(|name| (name.clone(), empty(name))).collect();
            (index.follow(), tables)
        };
        let empty = Snapshot { epoch: rand::random(), version: 0, tables, kv: OrdMap::new() };
        let state = Arc::new(State {
            index: index.clone(),
            rules: Rules::of(&definition),
            documents: documents.clone(),
            follower: follower.clone(),
            snapshot: ArcSwap::from_pointee(empty),
            version: watch::Sender::new(0),
        });
        // From here on, dropping it ends the follower.
        let generation = Arc::new(Self {
            schemas: Schemas::of(&definition),
            logic: logic.clone(),
            documents,
            state: state.clone(),
            task: Mutex::default(),
        });
        let mut faults = Vec::new();
        loop {
            let changes = follower.take(&index);
            let done = changes.places.is_empty();
            let found = state.take_in(&*logic, &definition, changes).await;
            faults.extend(found);
            if done {
                break;
            }
        }
        if faults.len() > tolerated {
            return Err(faults.swap_remove(0));
        }
        let task = tokio::spawn(async move {
            loop {
                let changes = follower.changes(&index).await;
                for fault in state.take_in(&*logic, &definition, changes).await {
                    tracing::warn!(workspace = %definition.id, %fault, "a row broke the plugin");
                }
            }
        });
        *generation.task.lock() = Some(task.abort_handle());
        Ok(generation)
    }

    /// What the workspace consists of.
    pub fn definition(&self) -> &Arc<Definition> {
        self.logic.definition()
    }

    /// By which the index knows it.
    pub fn follower(&self) -> Arc<Follower> {
        self.state.follower.clone()
    }

    /// The workspace as it is now.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.state.snapshot.load_full()
    }

    /// Tells when there is a newer snapshot.
    pub fn versions(&self) -> watch::Receiver<u64> {
        self.state.version.subscribe()
    }

    /// Waits until the snapshot shows all that the index holds now.
    pub async fn catch_up(&self) {
        let version = self.state.index.lock().version();
        let mut seen = self.state.version.subscribe();
        // Only fails when the sender is gone, and we hold it.
        let _ = seen.wait_for(|at| *at >= version).await;
    }

    /// The rules about several rows.
    pub fn rules(&self) -> &Rules {
        &self.state.rules
    }

    /// How many rows are invalid because they broke the plugin.
    pub fn faulted(&self) -> usize {
        let snapshot = self.snapshot();
        let rows = snapshot.tables.values().flat_map(|table| table.rows.values());
        rows.chain(snapshot.kv.values()).filter(|row| row.faulted).count()
    }
}

impl State {
    /// Closes the documents of a row that was deleted.
    fn close_documents(&self, table: &TableDefinition, row: &Row) {
        if table.documents.is_empty() {
            return;
        }
        // An invalid row has documents as well.
        let text = row.current().unwrap_or(&row.raw);
        let row = serde_json::from_str(text).unwrap_or_default();
        for guid in guids(table, &row) {
            self.documents.close(&guid);
        }
    }

    /// Claims the rooms of a table's documents that rows name.
    async fn claim_documents(&self, table: &TableDefinition, rows: &[(Arc<str>, Option<Row>)]) {
        if table.documents.is_empty() {
            return;
        }
        let texts = rows.iter().filter_map(|(_, row)| row.as_ref()?.parsed.as_ref().ok());
        let rows = texts.filter_map(|text| serde_json::from_str(text).ok());
        let guids = rows.flat_map(|row| guids(table, &row)).collect();
        if let Err(error) = self.documents.claim(guids).await {
            // It is asked again when somebody wants to read the document.
            tracing::warn!("whose the documents of {} are is not noted: {error}", table.name);
        }
    }

    /// Parses what changed and publishes the outcome. Returns the plugin's faults.
    async fn take_in(
        &self,
        logic: &dyn Logic,
        definition: &Definition,
        changes: Changes,
    ) -> Vec<Fault> {
        let before = self.snapshot.load_full();
        let mut faults = Vec::new();
        let mut by_array: HashMap<Arc<str>, Vec<_>> = HashMap::new();
        for ((array, key), entry) in changes.places {
            by_array.entry(array).or_default().push((key, entry));
        }
        let mut draft = Draft::new(definition, &self.rules, &before.tables);
        let mut kv = before.kv.clone();
        for (array, changed) in by_array {
            if let Some(name) = array.strip_prefix(TABLE_PREFIX) {
                let Some(table) = definition.table(name) else { continue };
                let rows = parse_rows(logic, name, changed, &mut faults).await;
                self.claim_documents(table, &rows).await;
                let version = changes.arrays.get(&array).copied().unwrap_or(0);
                for row in draft.set(name, version, rows) {
                    self.close_documents(table, &row);
                }
            } else if *array == *KV {
                for (key, entry) in changed {
                    if !definition.kv.iter().any(|kv| *kv.key == *key) {
                        continue;
                    }
                    match entry {
                        Some(entry) => {
                            let row = parse_kv(logic, &key, entry, &mut faults).await;
                            kv.insert(key, Arc::new(row));
                        }
                        None => drop(kv.remove(&key)),
                    }
                }
            }
        }
        let (epoch, version, tables) = (before.epoch, changes.version, draft.finish());
        self.snapshot.store(Arc::new(Snapshot { epoch, version, tables, kv }));
        self.version.send_replace(version);
        faults
    }
}

/// The rooms that a row's documents have.
fn guids(table: &TableDefinition, row: &serde_json::Value) -> Vec<String> {
    table.documents.iter().filter_map(|document| guid(document, row)).collect()
}

type Changed = (Arc<str>, Option<Entry>);

/// Parses the changed rows of a table in as few calls as possible.
async fn parse_rows(
    logic: &dyn Logic,
    table: &str,
    changed: Vec<Changed>,
    faults: &mut Vec<Fault>,
) -> Vec<(Arc<str>, Option<Row>)> {
    let mut rows = Vec::with_capacity(changed.len());
    let mut unparsed = Vec::new();
    for (key, entry) in changed {
        match entry.map(known) {
            None => rows.push((key, None)),
            Some(Ok(row)) => rows.push((key, Some(row))),
            Some(Err(entry)) if entry.time == NEVER => rows.push((key, Some(untimed(entry)))),
            Some(Err(entry)) => unparsed.push((key, entry)),
        }
    }
    // Parsed as a whole; where that breaks the plugin, halves, until the culprits are alone.
    let mut given_up = 0;
    let mut stack = vec![unparsed];
    while let Some(mut batch) = stack.pop() {
        if batch.is_empty() {
            continue;
        }
        let texts: Vec<_> = batch.iter().map(|(_, entry)| entry.value.to_string()).collect();
        match when_free(|| logic.parse_rows(table, Vec::clone(&texts), "")).await {
            Ok(parsed) => {
                rows.extend(batch.into_iter().zip(parsed).map(|((key, entry), parsed)| {
                    let parsed = belongs(&key, parsed);
                    (key, Some(row(entry, parsed)))
                }))
            }
            Err(fault) if batch.len() == 1 || given_up >= FAULTS_PER_BATCH => {
                given_up += 1;
                rows.extend(
                    batch.into_iter().map(|(key, entry)| (key, Some(broken(entry, &fault)))),
                );
                faults.push(fault);
            }
            Err(_) => {
                let rest = batch.split_off(batch.len() / 2);
                stack.push(rest);
                stack.push(batch);
            }
        }
    }
    rows
}

/// A row must carry the key under which it is kept, and that must be one by which it can be addressed.
pub(crate) fn belongs(key: &str, parsed: Parsed) -> Parsed {
    #[derive(serde::Deserialize)]
    struct Identity<'a> {
        #[serde(borrow)]
        id: std::borrow::Cow<'a, str>,
    }
    let text = parsed?;
    if let Some(issue) = id_issue(key) {
        return Err(vec![issue]);
    }
    // Serde would take an array for a struct.
    let object = text.trim_start().starts_with('{');
    match serde_json::from_str::<Identity>(&text) {
        _ if !object => Err(vec![Issue::whole("must be an object")]),
        Ok(identity) if identity.id == key => Ok(text),
        _ => Err(vec![Issue::at("id", format!("must be {key:?}, the key of the entry"))]),
    }
}

async fn parse_kv(logic: &dyn Logic, key: &str, entry: Entry, faults: &mut Vec<Fault>) -> Row {
    let entry = match known(entry) {
        Ok(row) => return row,
        Err(entry) if entry.time == NEVER => return untimed(entry),
        Err(entry) => entry,
    };
    match when_free(|| logic.parse_kv(key, entry.value.to_string(), "")).await {
        Ok(parsed) => row(entry, parsed),
        Err(fault) => {
            let row = broken(entry, &fault);
            faults.push(fault);
            row
        }
    }
}

/// Calls a plugin until it has time: that it is busy says nothing about the rows.
pub(crate) async fn when_free<T, F: Future<Output = Result<T, Fault>>>(
    call: impl Fn() -> F,
) -> Result<T, Fault> {
    let mut pause = std::time::Duration::from_millis(5);
    loop {
        match call().await {
            Err(Fault::Busy { .. }) => {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(std::time::Duration::from_secs(1));
            }
            result => return result,
        }
    }
}

/// The row of an entry whose parse came with it; otherwise the entry again.
fn known(mut entry: Entry) -> Result<Row, Entry> {
    let Some(text) = entry.parsed.take() else { return Err(entry) };
    Ok(Row::new(entry, Ok(text), false))
}

fn row(entry: Entry, parsed: Parsed) -> Row {
    let parsed = match parsed {
        // Most rows are current, and parse to what they are.
        Ok(text) if text == *entry.value => Ok(entry.value.clone()),
        Ok(text) => Ok(text.into()),
        Err(issues) => Err(issues.into()),
    };
    Row::new(entry, parsed, false)
}

/// An entry of which nobody can say whether it is older than another: a write makes it a row.
fn untimed(entry: Entry) -> Row {
    let issue =
        Issue::at("ts", "must be a number, the time of the entry in ms; write the row again");
    row(entry, Err(vec![issue]))
}

fn broken(entry: Entry, fault: &Fault) -> Row {
    let issues = Err(vec![Issue::whole(fault.to_string())].into());
    Row::new(entry, issues, true)
}
