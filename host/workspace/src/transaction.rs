//! The reads and writes of one call over a snapshot of a workspace.
//!
//! A transaction reads from the snapshot with its own writes laid over it. Writes are collected;
//! nothing happens before the commit, which the workspace carries out as one Yjs transaction.
//! What was read is remembered, so that the commit can tell whether it still holds: a row by its
//! entry, a list by the version of its table.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use host_caller::Account;
use parking_lot::Mutex;
use serde_json::Value;

use crate::condition::Condition;
use crate::context::Context;
use crate::definition::{DocumentDefinition, Issue, OnDelete, TableDefinition, id_issue};
use crate::documents::{self, MAX_TEXT, Writing};
use crate::error::{ActionError, Error};
use crate::fields::{Fields, Members};
use crate::generation::{Generation, Row, Snapshot};
use crate::ids::new_id;
use crate::index::{KV, Reads, TABLE_PREFIX};
use crate::logic::{Change, Data, Logic, Operation, Parsed, Source};
use crate::pending::Place;
use crate::query::{
    DEFAULT_LIMIT, Filter, MAX_LIMIT, Page, Query, check_fields, count, select, selects,
};
use crate::rules::{Claim, Rule, dangling, held, reference_to, referred, taken, target};
use crate::written::{Sent, Written};

/// Bytes of the largest row.
pub const MAX_ROW: usize = 1024 * 1024;
/// Rows that one action may write; a commit is one message to every client.
pub(crate) const MAX_WRITES: usize = 10_000;
/// Bytes that one action may write.
const MAX_WRITE_BYTES: usize = 16 * 1024 * 1024;

/// See the module's text.
pub(crate) struct Transaction {
    generation: Arc<Generation>,
    snapshot: Arc<Snapshot>,
    context: Context,
    source: Source,
    /// Unix ms; the same during the whole call.
    now: u64,
    may_write: bool,
    /// How many checks it is lent to; they may not write.
    lent: AtomicUsize,
    state: Mutex<State>,
}

#[derive(Clone, Default)]
struct State {
    reads: Reads,
    /// What is to be written; none is a deletion.
    writes: BTreeMap<Place, Option<Written>>,
    /// Texts of documents that are to be written, by guid.
    texts: BTreeMap<String, Writing>,
    /// What the writes do to the rules about several rows.
    claims: Claimed,
    bytes: usize,
}

/// What a transaction's writes do to the rules about several rows.
#[derive(Clone, Default)]
struct Claimed {
    /// Values that some row holds only after the writes, or only before them.
    changed: HashSet<Claim>,
    /// What written rows hold now, and which of them hold a value.
    held: HashMap<Place, Vec<Claim>>,
    holders: HashMap<Claim, BTreeSet<Arc<str>>>,
}

/// A moment of a transaction.
pub(crate) struct Saved(State);

/// What a transaction read and wants to write.
pub(crate) struct Commit {
    pub reads: Reads,
    pub writes: Vec<(Place, Option<Written>)>,
    pub texts: BTreeMap<String, Writing>,
    /// Values of rules that some row holds only after the writes, or only before them.
    pub claims: HashSet<Claim>,
    pub now: u64,
}

impl Transaction {
    pub(crate) fn new(
        generation: Arc<Generation>,
        context: Context,
        source: Source,
        may_write: bool,
    ) -> Arc<Self> {
        Arc::new(Self {
            snapshot: generation.snapshot(),
            generation,
            context,
            source,
            now: now(),
            may_write,
            lent: AtomicUsize::new(0),
            state: Mutex::default(),
        })
    }

    /// The version of the plugin that it runs on.
    pub(crate) fn generation(&self) -> &Arc<Generation> {
        &self.generation
    }

    pub(crate) fn logic(&self) -> Arc<dyn Logic> {
        self.generation.logic.clone()
    }

    /// The ids of the valid rows that fulfil all filters.
    pub(crate) fn ids(&self, table: &str, filters: &[Filter]) -> Result<Vec<String>, ActionError> {
        self.table(table)?;
        Ok(self.with_rows(table, |rows| {
            rows.filter(|(_, row)| selects(filters, *row)).map(|(id, _)| id.to_owned()).collect()
        }))
    }

    /// The ids of the rows that are not valid, at most so many.
    pub(crate) fn invalid_ids(&self, table: &str, most: usize) -> Result<Vec<String>, ActionError> {
        self.table(table)?;
        let Some(rows) = self.snapshot.tables.get(table) else { return Ok(Vec::new()) };
        let array = format!("{TABLE_PREFIX}{table}").into();
        self.state.lock().reads.lists.insert(array, rows.array);
        let invalid = rows.rows.iter().filter(|(_, row)| row.parsed.is_err());
        Ok(invalid.take(most).map(|(id, _)| id.to_string()).collect())
    }

    /// The account of the caller; none while the server runs without accounts.
    pub(crate) fn caller(&self) -> Option<&Account> {
        self.context.account()
    }

    /// Names the request in the log.
    pub(crate) fn request_id(&self) -> &str {
        &self.context.request_id
    }

    /// Replaces or creates a row: parses it, asks whether it may be, and notes it.
    pub(crate) async fn set(
        self: &Arc<Self>,
        table: &str,
        id: &str,
        row: &Value,
        before: Option<Read>,
    ) -> Result<String, Error> {
        let sent = Sent::of(row);
        let text = match self.parse(table, std::slice::from_ref(&sent)).await?.pop() {
            Some(Ok(text)) => text,
            Some(Err(issues)) => return Err(Error::Action(ActionError::Invalid(issues))),
            None => {
                return Err(Error::Action(ActionError::Failed("the plugin gave no row".into())));
            }
        };
        self.take(table, id, &sent, &text, before).await?;
        Ok(text)
    }

    /// Rows as the plugin sees them; as many as there are.
    pub(crate) async fn parse(&self, table: &str, rows: &[Sent<'_>]) -> Result<Vec<Parsed>, Error> {
        self.table(table)?;
        let texts = rows.iter().map(|row| row.text.clone()).collect();
        Ok(self.generation.logic.parse_rows(table, texts, self.request_id()).await?)
    }

    /// Takes what the plugin made of a row: asks whether it may be, and notes it.
    pub(crate) async fn take(
        self: &Arc<Self>,
        table: &str,
        id: &str,
        sent: &Sent<'_>,
        text: &str,
        before: Option<Read>,
    ) -> Result<(), Error> {
        let definition = self.table(table)?;
        let parsed = sent.parse(text)?;
        if parsed["id"] != id {
            let message = format!("the plugin changed the id of row {id:?}; it must stay");
            return Err(Error::Action(ActionError::Failed(message)));
        }
        if text.len() > MAX_ROW {
            let message = format!("the row has {} bytes, and {MAX_ROW} is the most", text.len());
            return Err(Error::Action(ActionError::invalid(Issue::whole(message))));
        }
        let written = Written::new(text, &parsed).map_err(ActionError::invalid)?;
        let operation = if before.is_some() { Operation::Update } else { Operation::Create };
        let claims = self.claims_of(definition, text);
        self.check_claims(definition, id, &claims)?;
        self.check(definition, operation, id, before, Some(text)).await?;
        self.claim(definition, id, claims);
        self.write(place(table, id), Some(written))?;
        Ok(())
    }

    /// Lays fields over a row that is there and valid.
    pub(crate) async fn merge(
        self: &Arc<Self>,
        table: &str,
        id: &str,
        fields: Value,
    ) -> Result<String, Error> {
        self.table(table)?;
        self.check_may_write()?;
        let read = self.read(table, id);
        let before = match &read {
            None => return Err(Error::Action(ActionError::NotFound)),
            Some(Ok(text)) => text.clone(),
            // One that only breaks a rule can be mended by the field that breaks it.
            Some(Err(issues)) => match self.broken(table, id) {
                Some(text) => text,
                None => return Err(Error::Stored(issues.to_vec())),
            },
        };
        let Value::Object(fields) = fields else {
            return Err(Error::Action(ActionError::invalid(Issue::whole(
                "must be an object of fields",
            ))));
        };
        let mut row: Value = serde_json::from_str(&before)
            .map_err(|error| ActionError::Failed(format!("row {id:?} is no JSON: {error}")))?;
        let Some(members) = row.as_object_mut() else {
            return Err(Error::Action(ActionError::Failed(format!("row {id:?} is no object"))));
        };
        members.extend(fields);
        members.insert("id".into(), id.into());
        self.set(table, id, &row, read).await
    }

    /// The current form of a row that is there and invalid only because it breaks a rule.
    fn broken(&self, table: &str, id: &str) -> Option<Arc<str>> {
        let row = self.snapshot.tables.get(table)?.rows.get(id)?;
        row.current().ok().cloned()
    }

    /// Deletes a row, and does to those that refer to it what the rules say. False when there was none.
    pub(crate) async fn remove(self: &Arc<Self>, table: &str, id: &str) -> Result<bool, Error> {
        self.check_may_write()?;
        if self.read(table, id).is_none() {
            self.table(table)?;
            return Ok(false);
        }
        // What is to be deleted, and what has to be changed before; the first row is the last to go, so
        // that a check of one that refers to it still finds it.
        let mut found: Vec<(Arc<str>, Arc<str>)> = vec![(table.into(), id.into())];
        let mut known: HashSet<_> = found.iter().cloned().collect();
        let mut at = 0;
        while let Some((table, id)) = found.get(at).cloned() {
            at += 1;
            for referrer in self.generation.rules().referrers(&table) {
                let (of, rule, value) = (&referrer.table, referrer.rule, reference_to(&id));
                let mut rows = self.holders(&Claim { table: of.clone(), rule, value });
                rows.retain(|row| !known.contains(&(of.clone(), row.clone())));
                let Some(first) = rows.first() else { continue };
                match referrer.on_delete {
                    OnDelete::Restrict => {
                        let issue = referred(referrer, rows.len(), first);
                        return Err(Error::Action(ActionError::Conflict(vec![issue])));
                    }
                    OnDelete::Cascade => {
                        if found.len() + rows.len() > MAX_WRITES {
                            return Err(Error::Action(too_much()));
                        }
                        for row in rows {
                            known.insert((of.clone(), row.clone()));
                            found.push((of.clone(), row));
                        }
                    }
                    OnDelete::SetNull => {
                        for row in rows {
                            let fields = serde_json::json!({ &referrer.field: null });
                            Box::pin(self.merge(of, &row, fields)).await?;
                        }
                    }
                }
            }
        }
        for (table, id) in found.iter().rev() {
            let definition = self.table(table)?;
            let Some(before) = self.read(table, id) else { continue };
            self.check(definition, Operation::Delete, id, Some(before), None).await?;
            self.claim(definition, id, Vec::new());
            self.write(place(table, id), None)?;
        }
        Ok(true)
    }

    /// What a row holds of its table's rules.
    fn claims_of(&self, table: &TableDefinition, text: &str) -> Vec<Claim> {
        if table.unique.is_empty() && table.references.is_empty() {
            return Vec::new();
        }
        let (name, members): (Arc<str>, _) = (table.name.as_str().into(), Members::default());
        let held = held(table, Fields::new(text, &members));
        held.into_iter().map(|(rule, value)| Claim { table: name.clone(), rule, value }).collect()
    }

    /// Holds what a row would claim against what others hold; remembers what it saw.
    fn check_claims(
        &self,
        table: &TableDefinition,
        id: &str,
        claims: &[Claim],
    ) -> Result<(), ActionError> {
        let mut issues = Vec::new();
        for claim in claims {
            match claim.rule {
                Rule::Unique(at) => {
                    let other = self.holders(claim).into_iter().find(|holder| **holder != *id);
                    issues.extend(other.map(|other| taken(table, at, &other)));
                }
                Rule::Reference(at) => {
                    let target = table.references.get(usize::from(at)).zip(target(&claim.value));
                    let there = target.is_some_and(|(reference, target)| {
                        (reference.table == table.name && target == id)
                            || self.needs(place(&reference.table, target))
                    });
                    // What sync brings may come before what it refers to, and is invalid until then.
                    if !there && self.source != Source::Sync {
                        issues.push(dangling(table, at, &claim.value));
                    }
                }
            }
        }
        if issues.is_empty() { Ok(()) } else { Err(ActionError::Conflict(issues)) }
    }

    /// Whether a row is there, valid or not; it then has to be there at the commit.
    fn needs(&self, place: Place) -> bool {
        let mut state = self.state.lock();
        if let Some(written) = state.writes.get(&place) {
            return written.is_some();
        }
        let table = place.0.strip_prefix(TABLE_PREFIX).and_then(|t| self.snapshot.tables.get(t));
        let there = table.is_some_and(|table| table.rows.contains_key(&place.1));
        if there {
            state.reads.needed.insert(place);
        } else {
            // Where it is not, it must not be either: the caller is told so.
            state.reads.rows.insert(place, None);
        }
        there
    }

    /// The rows that hold a value, own writes laid over; remembers that it looked.
    fn holders(&self, claim: &Claim) -> Vec<Arc<str>> {
        let mut state = self.state.lock();
        state.reads.seen.insert(claim.clone());
        let array: Arc<str> = format!("{TABLE_PREFIX}{}", claim.table).into();
        let kept = self.snapshot.tables.get(&*claim.table);
        let kept = kept.into_iter().flat_map(|table| table.holders.of(claim.rule, &claim.value));
        let kept = kept.filter(|id| !state.writes.contains_key(&(array.clone(), (*id).clone())));
        let own = state.claims.holders.get(claim).into_iter().flatten();
        kept.chain(own).cloned().collect()
    }

    /// Notes what a row that is written holds from now on.
    fn claim(&self, table: &TableDefinition, id: &str, claims: Vec<Claim>) {
        if table.unique.is_empty() && table.references.is_empty() {
            return;
        }
        let name: Arc<str> = table.name.as_str().into();
        let of = |(rule, value)| Claim { table: name.clone(), rule, value };
        let row = self.snapshot.tables.get(&table.name).and_then(|table| table.rows.get(id));
        let before: HashSet<_> = row.into_iter().flat_map(|row| row.held(table)).map(of).collect();
        let after: HashSet<_> = claims.iter().cloned().collect();
        let mut state = self.state.lock();
        let Claimed { changed, held, holders, .. } = &mut state.claims;
        changed.extend(before.symmetric_difference(&after).cloned());
        let place = place(&table.name, id);
        for claim in &claims {
            holders.entry(claim.clone()).or_default().insert(place.1.clone());
        }
        let id = place.1.clone();
        for claim in held.insert(place, claims).into_iter().flatten() {
            if !after.contains(&claim)
                && let Some(rows) = holders.get_mut(&claim)
            {
                rows.remove(&id);
            }
        }
    }

    async fn check(
        self: &Arc<Self>,
        table: &TableDefinition,
        operation: Operation,
        id: &str,
        before: Option<Read>,
        new: Option<&str>,
    ) -> Result<(), Error> {
        if !table.checks_changes {
            return Ok(());
        }
        let change = Change {
            table: table.name.clone(),
            operation,
            id: id.to_owned(),
            old: before.and_then(Result::ok).map(|text| text.to_string()),
            new: new.map(str::to_owned),
            caller: self.caller().cloned(),
            right: self.context.right,
            source: self.source,
        };
        let lent = Lent::new(self);
        let checked = self.generation.logic.check_change(change, self.clone()).await;
        drop(lent);
        Ok(checked??)
    }

    /// A row, own writes first; remembers what it saw.
    pub(crate) fn read(&self, table: &str, id: &str) -> Option<Read> {
        self.read_place(place(table, id), || self.snapshot.tables.get(table)?.rows.get(id))
    }

    /// Sets the value of a key. Returns it as it will be stored.
    pub(crate) async fn kv_put(&self, key: &str, value: Sent<'_>) -> Result<String, Error> {
        self.kv(key)?;
        self.check_may_write()?;
        let logic = &self.generation.logic;
        let parsed = logic.parse_kv(key, value.text.clone(), self.request_id()).await?;
        let text = parsed.map_err(ActionError::Invalid)?;
        let written = Written::new(&text, &*value.parse(&text)?).map_err(ActionError::invalid)?;
        self.write((KV.into(), key.into()), Some(written))?;
        Ok(text)
    }

    /// Notes the new text of a document. Returns its guid.
    pub(crate) async fn put_text(
        self: &Arc<Self>,
        table: &str,
        id: &str,
        document: &str,
        text: &str,
        condition: &Condition,
    ) -> Result<String, Error> {
        self.check_may_write()?;
        if text.len() > MAX_TEXT {
            let message = format!("the text has {} bytes, and {MAX_TEXT} is the most", text.len());
            return Err(ActionError::invalid(Issue::whole(message)).into());
        }
        let now = self.text_of(table, id, document).await?;
        let tag = documents::tag(&now.text);
        if !condition.holds(Some(&tag)) {
            return Err(Error::stale("the text"));
        }
        let guid = now.guid.clone().unwrap_or_else(new_id);
        if now.text == text && now.guid.is_some() {
            return Ok(guid);
        }
        let mut fields = serde_json::Map::new();
        if now.guid.is_none() {
            fields.insert(now.definition.guid_column.clone(), guid.as_str().into());
        }
        fields.insert(now.definition.updated_at_column.clone(), self.now.into());
        self.merge(table, id, fields.into()).await?;
        let mut state = self.state.lock();
        state.bytes += text.len();
        if state.bytes > MAX_WRITE_BYTES {
            return Err(too_much().into());
        }
        // What this call wrote before replaces what was there before the call.
        let before = state.texts.get(&guid).map(|writing| writing.replaces.clone());
        let replaces = before.unwrap_or_else(|| condition.demands().then_some(tag));
        state.texts.insert(guid.clone(), Writing { text: text.to_owned(), replaces });
        Ok(guid)
    }

    /// A document as this call sees it, own writes first.
    async fn text_of(&self, table: &str, id: &str, document: &str) -> Result<Attached<'_>, Error> {
        let definition = self.table(table)?.document(document).ok_or(ActionError::NotFound)?;
        let row = match self.read(table, id) {
            None => return Err(ActionError::NotFound.into()),
            Some(Err(issues)) => return Err(Error::Stored(issues.to_vec())),
            Some(Ok(text)) => text,
        };
        let row: Value = serde_json::from_str(&row)
            .map_err(|error| ActionError::Failed(format!("row {id:?} is no JSON: {error}")))?;
        let guid = documents::guid(definition, &row);
        let Some(guid) = guid else {
            return Ok(Attached { definition, guid: None, text: String::new() });
        };
        let own = self.state.lock().texts.get(&guid).map(|writing| writing.text.clone());
        let text = match own {
            Some(text) => text,
            None => self.generation.documents.read(&guid).await?,
        };
        Ok(Attached { definition, guid: Some(guid), text })
    }

    /// The tag of the row in the document; remembers what it saw.
    pub(crate) fn tag(&self, table: &str, id: &str) -> Option<String> {
        self.tag_of(place(table, id), self.snapshot.tables.get(table)?.rows.get(id))
    }

    /// The tag of a key's value in the document; remembers what it saw.
    pub(crate) fn kv_tag(&self, key: &str) -> Option<String> {
        self.tag_of((KV.into(), key.into()), self.snapshot.kv.get(key))
    }

    fn tag_of(&self, place: Place, row: Option<&Arc<Row>>) -> Option<String> {
        self.state.lock().reads.rows.insert(place, row.map(|row| row.entry));
        row.map(|row| row.tag())
    }

    fn read_place<'a>(
        &self,
        place: Place,
        row: impl FnOnce() -> Option<&'a Arc<Row>>,
    ) -> Option<Read> {
        let mut state = self.state.lock();
        if let Some(written) = state.writes.get(&place) {
            return written.as_ref().map(|written| Ok(written.text.clone()));
        }
        let row = row();
        state.reads.rows.insert(place, row.map(|row| row.entry));
        row.map(|row| row.parsed.clone())
    }

    /// Looks at the valid rows of a table in the order of their ids, own writes laid over;
    /// remembers the table's version.
    fn with_rows<T>(
        &self,
        table: &str,
        look: impl for<'a> FnOnce(&mut dyn Iterator<Item = (&'a str, Fields<'a>)>) -> T,
    ) -> T {
        let array: Arc<str> = format!("{TABLE_PREFIX}{table}").into();
        let Some(snapshot) = self.snapshot.tables.get(table) else {
            return look(&mut std::iter::empty());
        };
        let mut state = self.state.lock();
        state.reads.lists.insert(array.clone(), snapshot.array);
        let written: Vec<_> = state
            .writes
            .range((array.clone(), "".into())..)
            .take_while(|((of, _), _)| *of == array)
            .map(|((_, id), written)| {
                let text = written.as_ref().map(|written| written.text.clone());
                (id.clone(), text, Members::default())
            })
            .collect();
        drop(state);
        let mut written = written.iter().peekable();
        let mut kept = snapshot.valid().peekable();
        let mut merged = std::iter::from_fn(|| {
            loop {
                let own_is_next = match (written.peek(), kept.peek()) {
                    (Some((own, ..)), Some((id, _))) => **own <= **id,
                    (Some(_), None) => true,
                    (None, _) => false,
                };
                if !own_is_next {
                    return kept.next();
                }
                let (own, text, members) = written.next()?;
                kept.next_if(|(id, _)| **id == **own);
                if let Some(text) = text {
                    return Some((&**own, Fields::new(text, members)));
                }
            }
        });
        look(&mut merged)
    }

    fn write(&self, place: Place, value: Option<Written>) -> Result<(), ActionError> {
        let mut state = self.state.lock();
        state.bytes += place.1.len() + value.as_ref().map_or(0, |value| value.text.len());
        if state.writes.len() >= MAX_WRITES || state.bytes > MAX_WRITE_BYTES {
            return Err(too_much());
        }
        state.writes.insert(place, value);
        Ok(())
    }

    fn check_may_write(&self) -> Result<(), ActionError> {
        if self.lent.load(Ordering::Acquire) > 0 {
            return Err(ActionError::Denied("a check may not write".into()));
        }
        if !self.may_write {
            return Err(ActionError::Denied("a query may not write".into()));
        }
        Ok(())
    }

    fn table(&self, table: &str) -> Result<&TableDefinition, ActionError> {
        self.generation.definition().table(table).ok_or(ActionError::NotFound)
    }

    fn kv(&self, key: &str) -> Result<(), ActionError> {
        let known = self.generation.definition().kv.iter().any(|kv| kv.key == key);
        if known { Ok(()) } else { Err(ActionError::NotFound) }
    }

    /// What was read and written so far, to come back to.
    pub(crate) fn save(&self) -> Saved {
        Saved(self.state.lock().clone())
    }

    /// Forgets the writes since then. What was read since then stays read.
    pub(crate) fn restore(&self, Saved(saved): Saved) {
        let mut state = self.state.lock();
        let State { writes, texts, bytes, .. } = saved;
        (state.writes, state.texts, state.bytes) = (writes, texts, bytes);
        let Claimed { changed, held, holders, .. } = saved.claims;
        let claims = &mut state.claims;
        (claims.changed, claims.held, claims.holders) = (changed, held, holders);
    }

    /// What was read and is to be written.
    pub(crate) fn commit(&self) -> Commit {
        let mut state = self.state.lock();
        Commit {
            reads: Reads { version: self.snapshot.version, ..std::mem::take(&mut state.reads) },
            writes: std::mem::take(&mut state.writes).into_iter().collect(),
            texts: std::mem::take(&mut state.texts),
            claims: std::mem::take(&mut state.claims.changed),
            now: self.now,
        }
    }
}

#[async_trait]
impl Data for Transaction {
    fn get(&self, table: &str, id: &str) -> Result<Option<String>, ActionError> {
        self.table(table)?;
        match self.read(table, id) {
            None => Ok(None),
            Some(Ok(text)) => Ok(Some(text.to_string())),
            Some(Err(issues)) => Err(ActionError::Invalid(issues.to_vec())),
        }
    }

    fn list(&self, table: &str, query: &Query) -> Result<Page, ActionError> {
        let definition = self.table(table)?;
        let filtered = query.filters.iter().map(|filter| filter.field.as_str());
        let sorted = query.sort.iter().map(|order| order.field.as_str());
        check_fields(definition, filtered.chain(sorted))?;
        let limit = query.limit.map_or(DEFAULT_LIMIT, |limit| limit as usize).min(MAX_LIMIT);
        let query = query.clone().on(definition);
        self.with_rows(table, |rows| {
            let selected = select(&query, table, limit, rows)?;
            let rows = selected.rows.into_iter().map(|(_, row)| row.text().to_owned()).collect();
            Ok(Page { rows, next: selected.next })
        })
    }

    fn count(&self, table: &str, filters: &[Filter]) -> Result<u64, ActionError> {
        let definition = self.table(table)?;
        check_fields(definition, filters.iter().map(|filter| filter.field.as_str()))?;
        let filters: Vec<_> = filters.iter().map(|filter| filter.clone().on(definition)).collect();
        Ok(self.with_rows(table, |rows| count(&filters, rows)) as u64)
    }

    async fn put(self: Arc<Self>, table: &str, row: &str) -> Result<String, ActionError> {
        self.check_may_write()?;
        let row: Value = serde_json::from_str(row).map_err(|error| {
            ActionError::invalid(Issue::whole(format!("must be JSON: {error}")))
        })?;
        let id = row_id(&row)?;
        let before = self.read(table, &id);
        self.set(table, &id, &row, before).await.map_err(Error::into_action_error)
    }

    async fn update(
        self: Arc<Self>,
        table: &str,
        id: &str,
        fields: &str,
    ) -> Result<String, ActionError> {
        let fields = serde_json::from_str(fields).map_err(|error| {
            ActionError::invalid(Issue::whole(format!("must be JSON: {error}")))
        })?;
        self.merge(table, id, fields).await.map_err(Error::into_action_error)
    }

    async fn delete(self: Arc<Self>, table: &str, id: &str) -> Result<bool, ActionError> {
        self.remove(table, id).await.map_err(Error::into_action_error)
    }

    fn kv_get(&self, key: &str) -> Result<Option<String>, ActionError> {
        self.kv(key)?;
        match self.read_place((KV.into(), key.into()), || self.snapshot.kv.get(key)) {
            None => Ok(None),
            Some(Ok(text)) => Ok(Some(text.to_string())),
            Some(Err(issues)) => Err(ActionError::Invalid(issues.to_vec())),
        }
    }

    async fn kv_set(self: Arc<Self>, key: &str, value: &str) -> Result<(), ActionError> {
        self.kv_put(key, Sent::unread(value.to_owned()))
            .await
            .map_err(Error::into_action_error)
            .map(drop)
    }

    async fn kv_delete(self: Arc<Self>, key: &str) -> Result<bool, ActionError> {
        let had = !matches!(self.kv_get(key), Ok(None));
        self.kv(key)?;
        self.check_may_write()?;
        if had {
            self.write((KV.into(), key.into()), None)?;
        }
        Ok(had)
    }

    async fn text(&self, table: &str, id: &str, document: &str) -> Result<String, ActionError> {
        let text = self.text_of(table, id, document).await;
        Ok(text.map_err(Error::into_action_error)?.text)
    }

    async fn set_text(
        self: Arc<Self>,
        table: &str,
        id: &str,
        document: &str,
        text: &str,
    ) -> Result<(), ActionError> {
        let set = self.put_text(table, id, document, text, &Condition::default()).await;
        set.map_err(Error::into_action_error).map(drop)
    }

    fn context(&self) -> &Context {
        &self.context
    }

    fn now(&self) -> u64 {
        self.now
    }

    fn find_table(&self, name: &str) -> Result<(), Vec<String>> {
        match self.table(name) {
            Ok(_) => Ok(()),
            Err(_) => {
                let tables = self.generation.definition().tables.iter();
                Err(tables.map(|table| table.name.clone()).collect())
            }
        }
    }
}

/// A document that is attached to a row.
struct Attached<'a> {
    definition: &'a DocumentDefinition,
    /// None until it is first written.
    guid: Option<String>,
    text: String,
}

fn too_much() -> ActionError {
    ActionError::Failed(format!(
        "one call may write {MAX_WRITES} rows of {MAX_WRITE_BYTES} bytes together, not more"
    ))
}

/// A row that was read: JSON text, or why it is not valid.
pub(crate) type Read = Result<Arc<str>, Arc<[Issue]>>;

fn place(table: &str, id: &str) -> Place {
    (format!("{TABLE_PREFIX}{table}").into(), id.into())
}

/// The id of a row that is to be written.
pub(crate) fn row_id(row: &Value) -> Result<String, ActionError> {
    let object =
        row.as_object().ok_or_else(|| ActionError::invalid(Issue::whole("must be an object")))?;
    match object.get("id") {
        Some(Value::String(id)) => {
            id_issue(id).map_or(Ok(id.clone()), |issue| Err(ActionError::invalid(issue)))
        }
        Some(_) => Err(ActionError::invalid(Issue::at("id", "must be a string"))),
        None => Err(ActionError::invalid(Issue::at("id", "is missing"))),
    }
}

/// Unix time in ms.
pub(crate) fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}

/// Lends a transaction to a check; it may not write while this is held.
struct Lent<'a>(&'a Transaction);

impl<'a> Lent<'a> {
    fn new(transaction: &'a Transaction) -> Self {
        transaction.lent.fetch_add(1, Ordering::AcqRel);
        Self(transaction)
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        self.0.lent.fetch_sub(1, Ordering::AcqRel);
    }
}
