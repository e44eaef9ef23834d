//! Which entries a document's arrays hold, and which of them count.
//!
//! A table is the array `table:{name}`, key-values are the array `kv`. An entry is the object
//! `{key, val, ts}`. To set a key, a client pushes a new entry and deletes the old one. When two
//! clients do so at once, two entries of one key remain: the higher `ts` counts, and where they
//! are equal the later in the array. Whoever sees the loser deletes it, and so do we.
//!
//! The index follows the document on the room's task, where it costs a hash look-up for each
//! entry. What the rows *mean* is found out elsewhere (`generation`), from the list of keys that
//! changed, which each follower takes at its own pace: a key that changes often is on it once.
//!
//! **Readers see whole updates.** The room tells of an update one element at a time. The [`Tracker`]
//! collects that, and the index takes it in at once when the room has told everything; so nobody finds
//! a row gone whose new entry is yet to come, or one of two rows that changed together.
//!
//! **Tables that enforce their rules** show what counts and not what the document holds, where sync has
//! changed it and nobody has judged that (`pending`, `authority`). Of a key's entries there none is deleted
//! until one of them is accepted.
//!
//! **Our own writes** are noted before they are made, by the id that each entry will have: its text
//! is known, and so is what the plugin makes of it (`written`). A parse always travels with the entry that it
//! is of.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use host_sync::{Any, ArrayChange, Arrays, Author, Edit, Id, Model};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::Notify;

pub(crate) use crate::pending::TABLE_PREFIX;
use crate::pending::{Accepted, Pending, Place};
use crate::rules::{Claim, Claims};
use crate::written::Written;

/// The array that holds key-values.
pub(crate) const KV: &str = "kv";

/// Times beyond this (the year 144,683) are not believed: the clock could not go on from there.
const LATEST_TIME: f64 = (1u64 << 52) as f64;
/// Entries of one key of which each may come to count, while none was judged. Honest clients leave one or two.
const MOST_CANDIDATES: usize = 16;
/// The time of an entry whose `ts` is missing or no number: every entry that has one counts before it.
pub(crate) const NEVER: f64 = f64::NEG_INFINITY;

/// The entry of a key that counts.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// Names the entry in the document.
    pub id: Id,
    /// Its value, as JSON text.
    pub value: Arc<str>,
    /// Its `ts`. One that has none that is a number is older than all others: [`NEVER`].
    pub time: f64,
    /// Its current form as JSON text, where the follower's own plugin has parsed it for a write.
    pub parsed: Option<Arc<str>>,
}

/// See the module's text. Shared by the model on the room's task and those who follow it.
#[derive(Default)]
pub(crate) struct Index {
    arrays: HashMap<Arc<str>, Array>,
    /// The highest time seen, for the monotonic clock.
    latest: f64,
    /// Counts changes.
    version: u64,
    followers: Vec<Arc<Follower>>,
    /// Which values of rules our own writes took or let go.
    claims: Claims,
    /// What an edit of ours is about to write.
    notes: Option<Notes>,
    /// What sync has changed in tables that enforce their rules.
    pending: Pending,
}

/// Entries that an edit of ours is about to make.
struct Notes {
    /// By whose plugin they were parsed; another may see them otherwise.
    by: Arc<Follower>,
    /// Who makes the edit.
    author: Arc<Author>,
    /// The places that it writes, or deletes.
    places: HashSet<Place>,
    entries: HashMap<Id, Note>,
}

/// An entry by its encoding, and what would have to be found out from that.
struct Note {
    encoded: Any,
    key: Arc<str>,
    time: f64,
    value: Arc<str>,
    parsed: Option<Arc<str>>,
}

/// What a transaction has read.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reads {
    /// Entries, and none where there was no entry.
    pub rows: HashMap<Place, Option<Id>>,
    /// Arrays that were listed, and their version.
    pub lists: HashMap<Arc<str>, u64>,
    /// Rows that have to be there, whatever they say.
    pub needed: HashSet<Place>,
    /// Values of rules of which it was looked up who holds them.
    pub seen: HashSet<Claim>,
    /// The version of the index.
    pub version: u64,
}

/// A write of a key.
pub(crate) struct Write {
    pub place: Place,
    /// None to delete it.
    pub written: Option<Written>,
    /// Its `ts`; none for the next.
    pub time: Option<f64>,
}

/// Who makes an edit, and the follower by whose plugin its values were parsed.
pub(crate) struct By {
    pub follower: Arc<Follower>,
    pub author: Arc<Author>,
}

impl From<Accepted> for Entry {
    fn from(Accepted { id, value, time }: Accepted) -> Self {
        Self { id, value, time, parsed: None }
    }
}

impl From<Entry> for Accepted {
    fn from(Entry { id, value, time, .. }: Entry) -> Self {
        Self { id, value, time }
    }
}

#[derive(Default)]
struct Array {
    /// Entries of each key that are there; more than one only until the losers are deleted.
    keys: HashMap<Arc<str>, Vec<Live>>,
    version: u64,
}

struct Live {
    id: Id,
    time: f64,
    value: Arc<str>,
    /// What it parses to, until followers were told.
    parsed: Option<Arc<str>>,
}

/// An entry, and the JSON text that it parses to.
type KnownParse = (Id, Arc<str>);

/// Someone who wants to know which keys changed.
#[derive(Default)]
pub(crate) struct Follower {
    /// The places, and what an entry parses to where that is known.
    changed: Mutex<HashMap<Place, Option<KnownParse>>>,
    ready: Notify,
}

/// What a follower has to look at.
pub(crate) struct Changes {
    /// Changed places, and what is there now.
    pub places: Vec<(Place, Option<Entry>)>,
    /// The version of the index that they bring the follower to.
    pub version: u64,
    /// The version of each array at that point.
    pub arrays: HashMap<Arc<str>, u64>,
}

impl Index {
    /// The index of an empty document, and the model that keeps it up to date. The rules of the tables in
    /// these arrays are enforced.
    pub fn new(enforced: HashSet<Arc<str>>) -> (Arc<Mutex<Self>>, Box<dyn Model>) {
        let pending = Pending::new(enforced);
        let index = Arc::new(Mutex::new(Self { pending, ..Self::default() }));
        let (places, told) = (HashMap::new(), Vec::new());
        let tracker = Tracker { index: index.clone(), places, told, is_loading: true };
        (index, Box::new(tracker))
    }

    /// Counts changes; a follower that has this version has seen everything.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Counts changes of one array.
    pub fn array_version(&self, array: &str) -> u64 {
        self.arrays.get(array).map_or(0, |array| array.version)
    }

    /// The entry of a key that counts.
    pub fn entry(&self, place: &Place) -> Option<Entry> {
        match self.pending.case(place) {
            Some(case) => case.accepted.clone().map(Entry::from),
            None => self.winner(place),
        }
    }

    /// The entry of a key that clients see.
    pub fn winner(&self, (array, key): &Place) -> Option<Entry> {
        let live = self.arrays.get(array)?.keys.get(key)?.first()?;
        Some(Entry { id: live.id, value: live.value.clone(), time: live.time, parsed: None })
    }

    /// What sync has changed in tables that enforce their rules.
    pub fn pending(&mut self) -> &mut Pending {
        &mut self.pending
    }

    /// Whether a change of a place waits to be judged, for the first time.
    pub fn waits(&self, place: &Place) -> bool {
        self.pending.case(place).is_some_and(|case| case.breaks == 0)
    }

    /// Enforces the rules of the tables in these arrays from now on. What waits in others counts as it is.
    pub fn enforce(&mut self, enforced: HashSet<Arc<str>>) -> Edit {
        let over = self.pending.enforce(enforced);
        self.accept(over.into_iter().map(|place| (place, None)).collect(), None)
    }

    /// Lets what waits at places count, with what it parses to by the plugin of a follower. The edit deletes
    /// what it won over.
    pub fn accept(
        &mut self,
        places: Vec<(Place, Option<Arc<str>>)>,
        by: Option<&Arc<Follower>>,
    ) -> Edit {
        let mut edit = Edit::default();
        let mut touched = HashSet::new();
        for (place, parsed) in places {
            if self.pending.settle(&place).is_none() {
                continue;
            }
            let live = self.arrays.get_mut(&place.0).and_then(|array| array.keys.get_mut(&place.1));
            if let Some([first, rest @ ..]) = live.map(Vec::as_mut_slice) {
                first.parsed = parsed;
                edit.deletes.extend(rest.iter().filter(|e| e.time != NEVER).map(|e| (e.id, 1)));
            }
            touched.insert(place);
        }
        self.tell(touched, by);
        edit
    }

    /// Whether all that a transaction has read is so still. Who holds a value is asked of our own writes
    /// alone: what comes by sync comes as it does, before a write or after it.
    pub fn holds(&self, reads: &Reads) -> bool {
        let Reads { rows, lists, needed, seen, version } = reads;
        rows.iter().all(|(place, entry)| self.entry(place).map(|entry| entry.id) == *entry)
            && lists.iter().all(|(array, version)| self.array_version(array) == *version)
            && needed.iter().all(|place| self.entry(place).is_some())
            && self.claims.hold(seen, *version)
    }

    /// Whether a key has more than one entry.
    pub fn has_others(&self, (array, key): &Place) -> bool {
        let live = self.arrays.get(array).and_then(|array| array.keys.get(key));
        live.is_some_and(|live| live.len() > 1)
    }

    /// Notes that the write that is about to be made changes who holds these values.
    pub fn claim(&mut self, claims: HashSet<Claim>) {
        // The write is told as the next version.
        self.claims.changed(claims, self.version + 1);
    }

    /// Adds a follower, for whom everything that is there has changed.
    pub fn follow(&mut self) -> Arc<Follower> {
        let follower = Arc::new(Follower::default());
        let mut changed = follower.changed.lock();
        for (name, array) in &self.arrays {
            changed.extend(array.keys.keys().map(|key| ((name.clone(), key.clone()), None)));
        }
        changed.extend(self.pending.places().map(|place| (place.clone(), None)));
        drop(changed);
        self.followers.push(follower.clone());
        follower
    }

    /// Ends a follower.
    pub fn unfollow(&mut self, follower: &Arc<Follower>) {
        self.followers.retain(|other| !Arc::ptr_eq(other, follower));
    }

    /// Writes that set keys (a value) or delete them (none), as an edit of the document whose first
    /// push will be the element `first`.
    pub fn write(&mut self, writes: Vec<Write>, by: By, now: u64, first: Id) -> Edit {
        let mut edit = Edit::default();
        let mut entries = HashMap::new();
        let mut places = HashSet::new();
        let mut id = first;
        let next = (now as f64).max(self.latest + 1.0);
        for Write { place: (array, key), written, time } in writes {
            let time = time.unwrap_or(next);
            let ts = match time.fract() == 0.0 && time.abs() < LATEST_TIME {
                true => Any::of(&(time as i64).into()),
                false => Any::of(&time.into()),
            };
            places.insert((array.clone(), key.clone()));
            let live = self.arrays.get(&array).and_then(|array| array.keys.get(&key));
            edit.deletes.extend(live.into_iter().flatten().map(|live| (live.id, 1)));
            if let Some(Written { text, value, current, encoded }) = written {
                let name = Any::of(&(*key).into());
                let encoded = Any::object(&[("key", &name), ("val", &encoded), ("ts", &ts)]);
                edit.pushes.push((array.to_string(), encoded.clone()));
                let parsed = current.then_some(text);
                entries.insert(id, Note { encoded, key, time, value, parsed });
                id.clock += 1;
            }
        }
        // What was noted for an edit that was refused goes with this.
        let By { follower, author } = by;
        self.notes = Some(Notes { by: follower, author, places, entries });
        edit
    }
}

/// Keeps an index up to date; lives on the room's task.
struct Tracker {
    index: Arc<Mutex<Index>>,
    /// Where each live entry is.
    places: HashMap<Id, Place>,
    /// What the room has told since the last `settle`.
    told: Vec<Told>,
    /// Whether what is told next is the document as it was found.
    is_loading: bool,
}

enum Told {
    Inserted(Place, Live),
    Deleted(Place, Id),
}

impl Model for Tracker {
    fn recall(&mut self, notes: &host_sync::Notes) {
        self.index.lock().pending.recall(notes);
    }

    fn notes(&mut self) -> Vec<host_sync::Note> {
        self.index.lock().pending.take_notes()
    }

    fn change(&mut self, change: ArrayChange) {
        match change {
            ArrayChange::Inserted { array, id, value } => {
                if !array.starts_with(TABLE_PREFIX) && *array != *KV {
                    return;
                }
                let note = self.index.lock().take_note(id, &value);
                let Some(Note { key, time, value, parsed, .. }) = note.or_else(|| read(value))
                else {
                    return;
                };
                let key = self.index.lock().known_key(&array, key);
                let place = (array, key);
                self.places.insert(id, place.clone());
                self.told.push(Told::Inserted(place, Live { id, time, value, parsed }));
            }
            ArrayChange::Deleted { id } => {
                if let Some(place) = self.places.remove(&id) {
                    self.told.push(Told::Deleted(place, id));
                }
            }
        }
    }

    fn settle(&mut self, arrays: &Arrays, author: &Arc<Author>) -> Edit {
        let mut index = self.index.lock();
        // In the order in which they were told of, and what counted there before.
        let mut touched: Vec<(Place, Option<Accepted>)> = Vec::new();
        let mut known = HashSet::new();
        let mut came: HashMap<Place, Vec<Id>> = HashMap::new();
        for told in self.told.drain(..) {
            let (Told::Inserted(place, _) | Told::Deleted(place, _)) = &told;
            if known.insert(place.clone()) {
                touched.push((place.clone(), index.entry(place).map(Accepted::from)));
            }
            match told {
                Told::Inserted(place, live) => {
                    if index.pending.enforces(&place.0) {
                        came.entry(place.clone()).or_default().push(live.id);
                    }
                    index.insert(&place, live);
                }
                Told::Deleted(place, id) => index.remove(&place, id),
            }
        }
        if std::mem::take(&mut self.is_loading) {
            // All that is there counts, but for what had not been judged.
            let mut waiting = HashSet::new();
            for (place, recalled) in index.pending.take_recalled() {
                index.sort(arrays, &place);
                let winner = index.winner(&place).map(|entry| entry.id);
                let counts = winner == recalled.accepted.as_ref().map(|accepted| accepted.id);
                if counts || !index.pending.enforces(&place.0) {
                    index.pending.unnote(&place);
                } else {
                    index.pending.resume(&place, recalled, winner);
                    waiting.insert(place);
                }
            }
            touched.retain(|(place, _)| !waiting.contains(place));
            for (place, before) in &mut touched {
                index.sort(arrays, place);
                *before = index.winner(place).map(Accepted::from);
            }
        }
        let mut edit = Edit::default();
        let mut told = HashSet::new();
        for (place, before) in touched {
            index.sort(arrays, &place);
            if index.counts(&place, before, came.get(&place).map_or(&[], Vec::as_slice), author) {
                edit.deletes.extend(index.losers(&place).into_iter().map(|id| (id, 1)));
                told.insert(place);
            } else {
                let losers = index.losers(&place).into_iter().skip(MOST_CANDIDATES - 1);
                edit.deletes.extend(losers.map(|id| (id, 1)));
            }
        }
        index.tell(told, None);
        edit
    }
}

/// Reads an element of an array; `None` when it is no entry, which takes a key and a value.
fn read(encoded: Any) -> Option<Note> {
    let Ok(Value::Object(mut entry)) = encoded.json() else { return None };
    let time = entry.get("ts").and_then(Value::as_f64).unwrap_or(NEVER);
    let Some(Value::String(key)) = entry.remove("key") else { return None };
    let value = entry.get("val")?.to_string().into();
    Some(Note { encoded, key: key.into(), time, value, parsed: None })
}

impl Index {
    /// What was noted of an entry. The bytes tell whether it is that one: see `written`.
    fn take_note(&mut self, id: Id, encoded: &Any) -> Option<Note> {
        let note = self.notes.as_mut()?.entries.remove(&id)?;
        (note.encoded == *encoded).then_some(note)
    }

    /// A key as it is kept already, so that it is in memory once.
    fn known_key(&self, array: &str, key: Arc<str>) -> Arc<str> {
        let known = self.arrays.get(array).and_then(|array| array.keys.get_key_value(&key));
        known.map_or(key, |(known, _)| known.clone())
    }

    fn insert(&mut self, (array, key): &Place, live: Live) {
        if live.time > self.latest && live.time < LATEST_TIME {
            self.latest = live.time;
        }
        let keys = &mut self.arrays.entry(array.clone()).or_default().keys;
        // Almost always there is one entry, and a vector that grows by itself makes room for four.
        keys.entry(key.clone()).or_insert_with(|| Vec::with_capacity(1)).push(live);
    }

    fn remove(&mut self, (array, key): &Place, id: Id) {
        let Some(array) = self.arrays.get_mut(array) else { return };
        if let Some(live) = array.keys.get_mut(key) {
            live.retain(|entry| entry.id != id);
            if live.is_empty() {
                array.keys.remove(key);
            }
        }
    }

    /// Whether what clients see at a place counts, now that somebody has changed it. Otherwise it waits to be
    /// judged. `before` is what counted before; `came` are the entries that the author brought.
    fn counts(
        &mut self,
        place: &Place,
        before: Option<Accepted>,
        came: &[Id],
        author: &Arc<Author>,
    ) -> bool {
        if !self.pending.enforces(&place.0) {
            return true;
        }
        let winner = self.winner(place).map(|entry| entry.id);
        // Ours was judged before it was written.
        let ours = self.notes.as_ref().filter(|notes| Arc::ptr_eq(&notes.author, author));
        let is_ours = ours.is_some_and(|notes| notes.places.contains(place));
        let is_as_before = winner == before.as_ref().map(|before| before.id);
        if is_ours || is_as_before {
            self.pending.settle(place);
        } else {
            let live = self.arrays.get(&place.0).and_then(|array| array.keys.get(&place.1));
            let live = live.into_iter().flatten().take(MOST_CANDIDATES).map(|live| live.id);
            let live: Vec<_> = live.collect();
            self.pending.change(place, before, winner, (came, &live), author);
        }
        is_ours || is_as_before
    }

    /// Puts the entry first that clients see.
    fn sort(&mut self, arrays: &Arrays, (array, key): &Place) {
        let live = self.arrays.get_mut(array).and_then(|array| array.keys.get_mut(key));
        if let Some(live) = live.filter(|live| live.len() > 1) {
            live.sort_by(|a, b| b.time.total_cmp(&a.time).then_with(|| arrays.compare(b.id, a.id)));
        }
    }

    /// The entries that lost to the first, to be deleted.
    fn losers(&self, (array, key): &Place) -> Vec<Id> {
        let live = self.arrays.get(array).and_then(|array| array.keys.get(key));
        let Some(live) = live.filter(|live| live.len() > 1) else { return Vec::new() };
        // One without a time lost nothing that anybody agreed on: it stays until the row is written.
        live[1..].iter().filter(|entry| entry.time != NEVER).map(|entry| entry.id).collect()
    }

    /// Tells followers which places have changed. Parses are of the plugin of one follower, by default the one
    /// whose edit is told.
    fn tell(&mut self, touched: HashSet<Place>, by: Option<&Arc<Follower>>) {
        // What was noted has been told by now, or was never made.
        let noted = self.notes.take().map(|notes| notes.by);
        let by = by.cloned().or(noted);
        if touched.is_empty() {
            return;
        }
        self.version += 1;
        for place in touched {
            let mut parsed = None;
            if let Some(array) = self.arrays.get_mut(&place.0) {
                array.version += 1;
                let live = array.keys.get_mut(&place.1).and_then(|live| live.first_mut());
                parsed = live.and_then(|live| Some((live.id, live.parsed.take()?)));
            }
            for follower in &self.followers {
                let by_it = by.as_ref().is_some_and(|by| Arc::ptr_eq(by, follower));
                let parsed = parsed.clone().filter(|_| by_it);
                follower.changed.lock().insert(place.clone(), parsed);
            }
        }
        for follower in &self.followers {
            follower.ready.notify_one();
        }
    }
}

impl Follower {
    /// What changed since the last time; waits until something has.
    pub async fn changes(&self, index: &Mutex<Index>) -> Changes {
        loop {
            let changes = self.take(index);
            if !changes.places.is_empty() {
                return changes;
            }
            self.ready.notified().await;
        }
    }

    /// What changed since the last time, if anything did.
    pub fn take(&self, index: &Mutex<Index>) -> Changes {
        let index = index.lock();
        let changed = std::mem::take(&mut *self.changed.lock());
        let places = changed.into_iter().map(|(place, parsed)| {
            let entry = index.entry(&place).map(|entry| {
                let parsed = parsed.filter(|(of, _)| *of == entry.id).map(|(_, text)| text);
                Entry { parsed, ..entry }
            });
            (place, entry)
        });
        Changes {
            places: places.collect(),
            version: index.version,
            arrays: index.arrays.iter().map(|(name, a)| (name.clone(), a.version)).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const TABLE: &str = "table:posts";

    fn id(clock: u32) -> Id {
        Id { client: 1, clock }
    }

    fn inserted(clock: u32, value: Any) -> ArrayChange {
        ArrayChange::Inserted { array: TABLE.into(), id: id(clock), value }
    }

    fn entry(title: &str, ts: u32) -> Any {
        Any::of(&json!({ "key": "a", "val": { "title": title }, "ts": ts }))
    }

    /// Notes a write of the row `a`, and returns the entry that it makes.
    fn write(index: &Mutex<Index>, by: &Arc<Follower>, title: &str) -> Any {
        let value = json!({ "title": title });
        let written = Written::new(&value.to_string(), &value).unwrap();
        let place = (TABLE.into(), "a".into());
        let writes = vec![Write { place, written: Some(written), time: None }];
        let by = By { follower: by.clone(), author: Author::server() };
        let edit = index.lock().write(writes, by, 1, id(0));
        edit.pushes.into_iter().next().unwrap().1
    }

    /// The row `a`, where it changed: its value, and what the follower knows it to parse to.
    fn taken(follower: &Follower, index: &Mutex<Index>) -> Option<(String, Option<String>)> {
        let (_, entry) = follower.take(index).places.pop()?;
        let entry = entry.expect("nobody deletes the row");
        Some((entry.value.to_string(), entry.parsed.map(|text| text.to_string())))
    }

    #[test]
    fn the_parse_of_a_write_comes_with_its_entry_and_to_its_follower_alone() {
        let (index, mut model) = Index::new(HashSet::new());
        let ours = index.lock().follow();
        let another = index.lock().follow();
        model.change(inserted(0, write(&index, &ours, "ours")));
        model.settle(&Arrays::default(), &Author::server());
        let text = r#"{"title":"ours"}"#.to_owned();
        assert_eq!(taken(&ours, &index), Some((text.clone(), Some(text.clone()))));
        assert_eq!(taken(&another, &index), Some((text, None)));
    }

    #[test]
    fn a_reader_in_the_middle_of_an_update_gets_no_entry_with_the_parse_of_another() {
        let (index, mut model) = Index::new(HashSet::new());
        let follower = index.lock().follow();
        model.change(inserted(0, write(&index, &follower, "ours")));
        model.settle(&Arrays::default(), &Author::server());

        // Somebody else replaces the row, and the follower comes before all of that was told.
        model.change(inserted(1, entry("theirs", 2)));
        model.change(ArrayChange::Deleted { id: id(0) });
        let ours = r#"{"title":"ours"}"#.to_owned();
        assert_eq!(taken(&follower, &index), Some((ours.clone(), Some(ours))));

        model.settle(&Arrays::default(), &Author::server());
        let theirs = r#"{"title":"theirs"}"#.to_owned();
        assert_eq!(taken(&follower, &index), Some((theirs, None)), "nobody has parsed it");
    }

    #[test]
    fn a_parse_that_was_not_taken_yet_is_not_that_of_the_next_entry() {
        let (index, mut model) = Index::new(HashSet::new());
        let follower = index.lock().follow();
        model.change(inserted(0, write(&index, &follower, "ours")));
        model.settle(&Arrays::default(), &Author::server());
        model.change(inserted(1, entry("theirs", 2)));
        model.settle(&Arrays::default(), &Author::server());
        let theirs = r#"{"title":"theirs"}"#.to_owned();
        assert_eq!(taken(&follower, &index), Some((theirs, None)));
    }

    #[test]
    fn what_was_noted_for_an_edit_that_was_refused_is_of_no_other_entry_with_its_id() {
        let (index, mut model) = Index::new(HashSet::new());
        let follower = index.lock().follow();
        drop(write(&index, &follower, "refused"));
        model.change(inserted(0, entry("another", 2)));
        model.settle(&Arrays::default(), &Author::server());
        let another = r#"{"title":"another"}"#.to_owned();
        assert_eq!(taken(&follower, &index), Some((another, None)));
        assert!(index.lock().notes.is_none(), "the note is gone");
    }
}
