//! What sync has brought into tables that enforce their rules and nobody has judged yet, what counts there
//! meanwhile, and what was refused.
//!
//! The index keeps this and `authority` works on it; that module says what it is all for. Both parts are
//! notes of the room, so that they are on disk with the update that made them necessary:
//!
//! - `a`, array, key: the entry that counts although the document says otherwise, while a change waits;
//! - `r`, array, key, entry: a change that was refused.
//!
//! A third one, [`FOLLOWED`], keeps the document from being changed while nobody could judge that: after
//! a start, before the plugin is loaded.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use host_caller::{Account, Right};
use host_sync::{Author, FOLLOWED, Id, Note, Notes};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::definition::Issue;

/// What the names of arrays that hold tables begin with.
pub(crate) const TABLE_PREFIX: &str = "table:";

/// A place in the document: array and key.
pub(crate) type Place = (Arc<str>, Arc<str>);

/// Refused changes that are kept of each account and of one room, and their bytes.
const REFUSED_OF_ACCOUNT: (usize, usize) = (1_000, 8 * 1024 * 1024);
const REFUSED_OF_ROOM: (usize, usize) = (10_000, 64 * 1024 * 1024);

/// An entry that counts.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Accepted {
    /// Names the entry in the document. It may be deleted there.
    pub id: Id,
    /// Its value, as JSON text.
    pub value: Arc<str>,
    /// Its `ts`.
    pub time: f64,
}

/// A place that sync has changed and that nobody has judged.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    /// What counts meanwhile; none where there was nothing.
    pub accepted: Option<Accepted>,
    /// The entry that wants to count; none for a deletion.
    pub candidate: Option<Id>,
    /// Who brought it.
    pub author: Arc<Author>,
    /// Who brought each entry that could come to want it.
    authors: HashMap<Id, Arc<Author>>,
    /// Not to be judged before; the check broke the last time.
    pub again: Option<Instant>,
    /// How often the check broke.
    pub breaks: u32,
    turn: u64,
}

/// A change that was refused.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct RefusedChange {
    /// The array of the row's table.
    pub array: Arc<str>,
    /// The row's id.
    pub id: Arc<str>,
    /// The row as it was written; none for a deletion.
    pub row: Option<serde_json::Value>,
    /// Why it was refused, in one line.
    pub reason: String,
    /// What is wrong with which member, where that can be said.
    pub issues: Vec<Issue>,
    /// The id of the account that brought it; empty where there are no accounts.
    pub account: String,
    /// When it was refused; Unix ms.
    pub at: u64,
    /// The entry, or the one that was deleted: client and clock.
    pub entry: (u64, u32),
}

/// A refused change as it is kept.
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    pub change: RefusedChange,
    /// The key of its note.
    pub key: Bytes,
    /// Bytes of the note.
    bytes: usize,
}

impl Kept {
    /// A change, and the value of its note.
    pub fn of(change: RefusedChange) -> (Self, Bytes) {
        let note = serde_json::to_vec(&change).unwrap_or_default();
        let kept = Self { key: change.key(), bytes: note.len(), change };
        (kept, note.into())
    }
}

impl RefusedChange {
    /// The key of its note.
    pub fn key(&self) -> Bytes {
        let mut key = key(b'r', &(self.array.clone(), self.id.clone()));
        key.extend_from_slice(&self.entry.0.to_be_bytes());
        key.extend_from_slice(&self.entry.1.to_be_bytes());
        key.extend_from_slice(&[u8::from(self.row.is_some())]);
        key.into()
    }

    /// As clients are told of it.
    pub fn told(&self) -> serde_json::Value {
        serde_json::json!({
            "refusal": self.name(),
            "table": self.array.strip_prefix(TABLE_PREFIX).unwrap_or_default(),
            "id": self.id,
            "row": self.row,
            "deleted": self.row.is_none(),
            "reason": self.reason,
            "issues": self.issues,
            "account": self.account,
            "at": self.at,
        })
    }

    /// Names it to clients: the same text for the same change, whatever happens.
    pub fn name(&self) -> String {
        let kind = if self.row.is_some() { "w" } else { "d" };
        format!("{:x}.{:x}{kind}", self.entry.0, self.entry.1)
    }
}

/// See the module's text.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    /// Arrays whose tables enforce their rules.
    enforced: HashSet<Arc<str>>,
    cases: HashMap<Place, Case>,
    /// The places of cases in the order in which their last change came.
    turns: BTreeMap<u64, Place>,
    next: u64,
    /// Cases as the notes of the room had them, until the document was read.
    recalled: HashMap<Place, Recalled>,
    refused: BTreeMap<Bytes, Kept>,
    /// Notes that have changed.
    notes: BTreeMap<Bytes, Option<Bytes>>,
    ready: Arc<Notify>,
}

impl Pending {
    /// For tables whose rules are enforced, given by their arrays.
    pub fn new(enforced: HashSet<Arc<str>>) -> Self {
        Self { enforced, ..Self::default() }
    }

    /// Notes whether the document may be changed only while it is followed.
    fn note_followed(&mut self) {
        let note = (!self.enforced.is_empty()).then(|| Bytes::from_static(b"1"));
        self.notes.insert(Bytes::from_static(FOLLOWED), note);
    }

    /// Notified when there is something to judge.
    pub fn ready(&self) -> Arc<Notify> {
        self.ready.clone()
    }

    pub fn enforces(&self, array: &str) -> bool {
        self.enforced.contains(array)
    }

    /// Enforces the rules of other tables from now on. Gives the cases that need no judge any more.
    pub fn enforce(&mut self, enforced: HashSet<Arc<str>>) -> Vec<Place> {
        self.enforced = enforced;
        self.note_followed();
        let over = self.cases.keys().filter(|place| !self.enforced.contains(&place.0));
        over.cloned().collect()
    }

    pub fn case(&self, place: &Place) -> Option<&Case> {
        self.cases.get(place)
    }

    /// The places that wait.
    pub fn places(&self) -> impl Iterator<Item = &Place> {
        self.cases.keys()
    }

    /// Notes that a place has changed. `accepted` is what counted before, if nothing waited there; `came` are the
    /// entries that the author brought, and `live` those that are there.
    pub fn change(
        &mut self,
        place: &Place,
        accepted: Option<Accepted>,
        candidate: Option<Id>,
        (came, live): (&[Id], &[Id]),
        author: &Arc<Author>,
    ) {
        let turn = self.next;
        self.next += 1;
        let case = match self.cases.remove(place) {
            Some(case) => {
                self.turns.remove(&case.turn);
                case
            }
            None => Case {
                accepted,
                candidate,
                author: author.clone(),
                authors: HashMap::new(),
                again: None,
                breaks: 0,
                turn,
            },
        };
        let mut authors = case.authors;
        authors.extend(came.iter().map(|id| (*id, author.clone())));
        authors.retain(|id, _| live.contains(id));
        // An entry that was there before is judged as what its author wrote, whoever uncovers it.
        let of_entry = candidate.and_then(|id| authors.get(&id)).unwrap_or(author).clone();
        let (again, breaks) = (None, 0);
        let case = Case { candidate, author: of_entry, authors, again, breaks, turn, ..case };
        self.note(place, &case);
        self.turns.insert(turn, place.clone());
        self.cases.insert(place.clone(), case);
        self.ready.notify_one();
    }

    /// Ends a case.
    pub fn settle(&mut self, place: &Place) -> Option<Case> {
        let case = self.cases.remove(place)?;
        self.turns.remove(&case.turn);
        self.notes.insert(key(b'a', place).into(), None);
        Some(case)
    }

    /// Puts off a case whose check broke.
    pub fn put_off(
        &mut self,
        place: &Place,
        candidate: Option<Id>,
        until: impl Fn(u32) -> Instant,
    ) {
        if let Some(case) = self.cases.get_mut(place).filter(|case| case.candidate == candidate) {
            case.breaks += 1;
            case.again = Some(until(case.breaks));
        }
    }

    /// The cases of one author that are to be judged next, at most so many, in the order in which they came; or
    /// when the next one can be judged.
    pub fn batch(&self, most: usize, now: Instant) -> Result<Vec<(Place, Case)>, Option<Instant>> {
        let mut batch: Vec<(Place, Case)> = Vec::new();
        let mut next: Option<Instant> = None;
        for place in self.turns.values() {
            let Some(case) = self.cases.get(place) else { continue };
            if let Some(again) = case.again.filter(|again| *again > now) {
                next = Some(next.map_or(again, |next| next.min(again)));
                continue;
            }
            if batch.len() == most
                || batch.first().is_some_and(|(_, of)| *of.author != *case.author)
            {
                break;
            }
            batch.push((place.clone(), case.clone()));
        }
        if batch.is_empty() { Err(next) } else { Ok(batch) }
    }

    /// Keeps what was refused; it is on disk already.
    pub fn refuse(&mut self, refused: Vec<Kept>) {
        self.refused.extend(refused.into_iter().map(|kept| (kept.key.clone(), kept)));
    }

    /// What was refused, in the order of their places.
    pub fn refused(&self) -> impl Iterator<Item = &RefusedChange> {
        self.refused.values().map(|kept| &kept.change)
    }

    /// Forgets what was refused; its notes are the caller's to write.
    pub fn forget(&mut self, keys: &[Bytes]) {
        for key in keys {
            self.refused.remove(key);
        }
    }

    /// What has to give way when these are to be kept as well, the oldest first; that may be some of them.
    pub fn giving_way(&self, new: &[Kept]) -> HashSet<Bytes> {
        let fresh: HashSet<&Bytes> = new.iter().map(|kept| &kept.key).collect();
        let others = self.refused.values().filter(|kept| !fresh.contains(&kept.key));
        let mut all: Vec<&Kept> = others.chain(new).collect();
        // Newest first.
        all.sort_by_key(|kept| std::cmp::Reverse(kept.change.at));
        let mut of_room = (0, 0);
        let mut of_account: HashMap<&str, (usize, usize)> = HashMap::new();
        let mut gone = HashSet::new();
        for kept in all {
            let account = of_account.entry(&kept.change.account).or_default();
            let fits = |(rows, bytes): (usize, usize), (most_rows, most_bytes): (usize, usize)| {
                rows < most_rows && bytes + kept.bytes <= most_bytes
            };
            if fits(*account, REFUSED_OF_ACCOUNT) && fits(of_room, REFUSED_OF_ROOM) {
                *account = (account.0 + 1, account.1 + kept.bytes);
                of_room = (of_room.0 + 1, of_room.1 + kept.bytes);
            } else {
                gone.insert(kept.key.clone());
            }
        }
        gone
    }

    /// Reads the notes of the room, before its document is read.
    pub fn recall(&mut self, notes: &Notes) {
        if notes.contains_key(FOLLOWED) == self.enforced.is_empty() {
            self.note_followed();
        }
        for (key, value) in notes {
            match key.first() {
                Some(b'a') => {
                    let Some(place) = place_of(key) else { continue };
                    match serde_json::from_slice::<NotedCase>(value) {
                        Ok(kept) => drop(self.recalled.insert(place, kept.read())),
                        Err(error) => tracing::error!(?place, %error, "a note cannot be read"),
                    }
                }
                Some(b'r') => match serde_json::from_slice::<RefusedChange>(value) {
                    Ok(change) => {
                        let kept = Kept { change, key: key.clone(), bytes: value.len() };
                        self.refused.insert(key.clone(), kept);
                    }
                    Err(error) => tracing::error!(%error, "a note of a refused row cannot be read"),
                },
                _ => {}
            }
        }
    }

    /// What the notes had of cases, once.
    pub fn take_recalled(&mut self) -> HashMap<Place, Recalled> {
        std::mem::take(&mut self.recalled)
    }

    /// The notes that have changed since the last time.
    pub fn take_notes(&mut self) -> Vec<Note> {
        std::mem::take(&mut self.notes).into_iter().collect()
    }

    /// Forgets a note of a case that is none.
    pub fn unnote(&mut self, place: &Place) {
        self.notes.insert(key(b'a', place).into(), None);
    }

    fn note(&mut self, place: &Place, case: &Case) {
        let note = serde_json::to_vec(&NotedCase::of(case)).unwrap_or_default();
        self.notes.insert(key(b'a', place).into(), Some(note.into()));
    }
}

fn key(kind: u8, (array, key): &Place) -> Vec<u8> {
    // Names of arrays have no zero in them; keys may.
    let mut bytes = vec![kind];
    bytes.extend_from_slice(&(array.len() as u32).to_be_bytes());
    bytes.extend_from_slice(array.as_bytes());
    bytes.extend_from_slice(&(key.len() as u32).to_be_bytes());
    bytes.extend_from_slice(key.as_bytes());
    bytes
}

fn place_of(key: &[u8]) -> Option<Place> {
    fn part<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
        let (len, after) = rest.split_first_chunk::<4>()?;
        let (part, after) = after.split_at_checked(u32::from_be_bytes(*len) as usize)?;
        *rest = after;
        std::str::from_utf8(part).ok()
    }
    let mut rest = key.get(1..)?;
    Some((part(&mut rest)?.into(), part(&mut rest)?.into()))
}

/// A case as the room's notes have it.
#[derive(Debug)]
pub(crate) struct Recalled {
    pub accepted: Option<Accepted>,
    pub author: Arc<Author>,
    authors: HashMap<Id, Arc<Author>>,
}

impl Pending {
    /// Goes on with a case that the notes had.
    pub fn resume(&mut self, place: &Place, recalled: Recalled, candidate: Option<Id>) {
        let Recalled { accepted, author, authors } = recalled;
        self.change(place, accepted, candidate, (&[], &[]), &author);
        if let Some(case) = self.cases.get_mut(place) {
            if let Some(author) = candidate.and_then(|id| authors.get(&id)) {
                case.author = author.clone();
            }
            case.authors = authors;
        }
        if let Some(case) = self.cases.get(place).cloned() {
            self.note(place, &case);
        }
    }
}

/// A case as it is kept.
#[derive(Serialize, Deserialize)]
struct NotedCase {
    accepted: Option<NotedEntry>,
    author: NotedAuthor,
    /// By client and clock of their entries.
    authors: Vec<(u64, u32, NotedAuthor)>,
}

#[derive(Serialize, Deserialize)]
struct NotedAuthor {
    account: Option<(String, String, String)>,
    right: u8,
    by: String,
}

impl NotedAuthor {
    fn of(author: &Author) -> Self {
        let account = author.account.as_ref();
        Self {
            account: account.map(|a| (a.id.clone(), a.email.clone(), a.name.clone())),
            right: author.right as u8,
            by: author.by.to_string(),
        }
    }

    fn read(self) -> Arc<Author> {
        let account = self
            .account
            .map(|(id, email, name)| Arc::new(Account { email, name, ..Account::of_id(&id) }));
        let right = match self.right {
            0 => Right::Read,
            1 => Right::Write,
            _ => Right::Owner,
        };
        Author::new(account, right, self.by)
    }
}

#[derive(Serialize, Deserialize)]
struct NotedEntry {
    client: u64,
    clock: u32,
    value: String,
    /// Its bits: JSON has no infinities.
    time: u64,
}

impl NotedCase {
    fn of(case: &Case) -> Self {
        let entry = |accepted: &Accepted| NotedEntry {
            client: accepted.id.client,
            clock: accepted.id.clock,
            value: accepted.value.to_string(),
            time: accepted.time.to_bits(),
        };
        let authors = case.authors.iter();
        Self {
            accepted: case.accepted.as_ref().map(entry),
            author: NotedAuthor::of(&case.author),
            authors: authors.map(|(id, a)| (id.client, id.clock, NotedAuthor::of(a))).collect(),
        }
    }

    fn read(self) -> Recalled {
        let accepted = self.accepted.map(|entry| Accepted {
            id: Id { client: entry.client, clock: entry.clock },
            value: entry.value.into(),
            time: f64::from_bits(entry.time),
        });
        let authors = self.authors.into_iter();
        let authors = authors.map(|(client, clock, author)| (Id { client, clock }, author.read()));
        Recalled { accepted, author: self.author.read(), authors: authors.collect() }
    }
}
