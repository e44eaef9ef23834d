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

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use host_sync::{ArrayChange, Arrays, Edit, Id, Model};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::logic::Parsed;

/// The array that holds key-values.
pub(crate) const KV: &str = "kv";
/// What the names of arrays that hold tables begin with.
pub(crate) const TABLE_PREFIX: &str = "table:";

/// Times beyond this (the year 144,683) are not believed: the clock could not go on from there.
const LATEST_TIME: f64 = (1u64 << 52) as f64;

/// The entry of a key that counts.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// Names the entry in the document.
    pub id: Id,
    /// Its value, as JSON text.
    pub value: Arc<str>,
}

/// A place in the document: array and key.
pub(crate) type Place = (Arc<str>, Arc<str>);

/// See the module's text. Shared by the model on the room's task and those who follow it.
#[derive(Default)]
pub(crate) struct Index {
    arrays: HashMap<Arc<str>, Array>,
    /// Where each live entry is.
    places: HashMap<Id, Place>,
    /// The highest time seen, for the monotonic clock.
    latest: f64,
    /// Counts changes.
    version: u64,
    followers: Vec<Arc<Follower>>,
    /// What an edit of ours is about to write: the value's JSON text, and what it parses to.
    prepared: HashMap<Place, (String, Parsed)>,
    /// By whose plugin it was parsed.
    prepared_by: Option<Arc<Follower>>,
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
}

/// Someone who wants to know which keys changed.
#[derive(Default)]
pub(crate) struct Follower {
    changed: Mutex<HashMap<Place, Option<Parsed>>>,
    ready: Notify,
}

/// What a follower has to look at.
pub(crate) struct Changes {
    /// Changed places, what is there now, and what it parses to where that is known.
    pub places: Vec<(Place, Option<Entry>, Option<Parsed>)>,
    /// The version of the index that they bring the follower to.
    pub version: u64,
    /// The version of each array at that point.
    pub arrays: HashMap<Arc<str>, u64>,
}

impl Index {
    /// The index of an empty document, and the model that keeps it up to date.
    pub fn new() -> (Arc<Mutex<Self>>, Box<dyn Model>) {
        let index = Arc::new(Mutex::new(Self::default()));
        (index.clone(), Box::new(Tracker { index, touched: HashSet::new() }))
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
    pub fn entry(&self, array: &str, key: &str) -> Option<Entry> {
        let live = self.arrays.get(array)?.keys.get(key)?.first()?;
        Some(Entry { id: live.id, value: live.value.clone() })
    }

    /// Adds a follower, for whom everything that is there has changed.
    pub fn follow(&mut self) -> Arc<Follower> {
        let follower = Arc::new(Follower::default());
        let mut changed = follower.changed.lock();
        for (name, array) in &self.arrays {
            changed.extend(array.keys.keys().map(|key| ((name.clone(), key.clone()), None)));
        }
        drop(changed);
        self.followers.push(follower.clone());
        follower
    }

    /// Ends a follower.
    pub fn unfollow(&mut self, follower: &Arc<Follower>) {
        self.followers.retain(|other| !Arc::ptr_eq(other, follower));
    }

    /// Writes that set keys (a value) or delete them (none), as an edit of the document. What the
    /// values parse to is passed on to the follower by whose plugin they were parsed; another one
    /// may belong to a plugin that sees them otherwise.
    pub fn write(
        &mut self,
        writes: Vec<(Place, Option<(Value, Parsed)>)>,
        by: Arc<Follower>,
        now: u64,
    ) -> Edit {
        let mut edit = Edit::default();
        // What an edit that was refused has left.
        self.prepared.clear();
        self.prepared_by = Some(by);
        let time = (now as f64).max(self.latest + 1.0);
        for ((array, key), value) in writes {
            let live = self.arrays.get(&array).and_then(|array| array.keys.get(&key));
            edit.deletes.extend(live.into_iter().flatten().map(|live| (live.id, 1)));
            if let Some((value, parsed)) = value {
                let text = value.to_string();
                let entry = json!({ "key": &*key, "val": value, "ts": time as u64 });
                edit.pushes.push((array.to_string(), entry));
                self.prepared.insert((array, key), (text, parsed));
            }
        }
        edit
    }
}

/// Keeps an index up to date; lives on the room's task.
struct Tracker {
    index: Arc<Mutex<Index>>,
    /// Places at which something changed since the last `settle`.
    touched: HashSet<Place>,
}

impl Model for Tracker {
    fn change(&mut self, change: ArrayChange) {
        let mut index = self.index.lock();
        let place = match change {
            ArrayChange::Inserted { array, id, value } => {
                let read = array.starts_with(TABLE_PREFIX) || *array == *KV;
                read.then(|| index.insert(array, id, value)).flatten()
            }
            ArrayChange::Deleted { id } => {
                let place = index.places.remove(&id);
                place.inspect(|place| index.remove(place, id))
            }
        };
        self.touched.extend(place);
    }

    fn settle(&mut self, arrays: &Arrays) -> Edit {
        let mut index = self.index.lock();
        let touched = std::mem::take(&mut self.touched);
        let mut edit = Edit::default();
        for place in &touched {
            edit.deletes.extend(index.settle(arrays, place).into_iter().map(|id| (id, 1)));
        }
        index.tell(touched);
        edit
    }
}

impl Index {
    fn insert(&mut self, array: Arc<str>, id: Id, value: Value) -> Option<Place> {
        let Value::Object(mut entry) = value else { return None };
        let time = entry.get("ts")?.as_f64()?;
        let Some(Value::String(key)) = entry.remove("key") else { return None };
        let value: Arc<str> = entry.get("val")?.to_string().into();
        if time > self.latest && time < LATEST_TIME {
            self.latest = time;
        }
        let keys = &mut self.arrays.entry(array.clone()).or_default().keys;
        let key = match keys.get_key_value(key.as_str()) {
            Some((known, _)) => known.clone(),
            None => key.into(),
        };
        // Almost always there is one entry, and a vector that grows by itself makes room for four.
        let entries = keys.entry(key.clone()).or_insert_with(|| Vec::with_capacity(1));
        entries.push(Live { id, time, value });
        let place = (array, key);
        self.places.insert(id, place.clone());
        Some(place)
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

    /// Puts the entry that counts first; returns the others, to be deleted.
    fn settle(&mut self, arrays: &Arrays, (array, key): &Place) -> Vec<Id> {
        let Some(array) = self.arrays.get_mut(array) else { return Vec::new() };
        let Some(live) = array.keys.get_mut(key).filter(|live| live.len() > 1) else {
            return Vec::new();
        };
        live.sort_by(|a, b| b.time.total_cmp(&a.time).then_with(|| arrays.compare(b.id, a.id)));
        live[1..].iter().map(|entry| entry.id).collect()
    }

    fn tell(&mut self, touched: HashSet<Place>) {
        if touched.is_empty() {
            return;
        }
        self.version += 1;
        for place in touched {
            if let Some(array) = self.arrays.get_mut(&place.0) {
                array.version += 1;
            }
            // Another's write of the same key may have come first: only what it holds counts.
            let prepared = self.prepared.remove(&place);
            let entry = self.entry(&place.0, &place.1);
            let parsed = prepared
                .filter(|(text, _)| entry.is_some_and(|entry| *entry.value == **text))
                .map(|(_, parsed)| parsed);
            for follower in &self.followers {
                let by_it = self.prepared_by.as_ref().is_some_and(|by| Arc::ptr_eq(by, follower));
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
            let entry = index.entry(&place.0, &place.1);
            (place, entry, parsed)
        });
        Changes {
            places: places.collect(),
            version: index.version,
            arrays: index.arrays.iter().map(|(name, a)| (name.clone(), a.version)).collect(),
        }
    }
}
