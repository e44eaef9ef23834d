//! A sequence of updates, deletions and compactions: following it gives what loading it gives.
//!
//! Updates are made of few clients and small clocks, so that they meet: holes, straddles, two
//! contents for one id, origins that come late or never.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use arbitrary::{Arbitrary, Unstructured};
use bytes::Bytes;
use host_sync::arrays::{ArrayChange, Arrays};
use host_sync::lib0::{write_bytes, write_var};
use host_sync::store::{Bounds, Store};
use host_sync::update::{Id, Update};

#[derive(Debug, Arbitrary)]
enum Step {
    Update { sections: Vec<Section>, deletes: Vec<(u8, u8, u8)> },
    Raw(Vec<u8>),
    Diff(Vec<(u8, u8)>),
    Compact,
}

#[derive(Debug, Arbitrary)]
struct Section {
    client: u8,
    clock: u8,
    structs: Vec<Struct>,
}

#[derive(Debug, Arbitrary)]
struct Struct {
    kind: u8,
    len: u8,
    origin: Option<(u8, u8)>,
    right_origin: Option<(u8, u8)>,
    parent: Option<(u8, u8)>,
    key: bool,
}

const CLIENTS: u8 = 4;
const CLOCKS: u8 = 24;

pub fn run(bytes: &[u8]) {
    let input = Unstructured::new(bytes);
    let Ok(steps) = Vec::<Step>::arbitrary_take_rest(input) else { return };
    let bounds = Bounds { size: 16 * 1024, pending: 4 * 1024 };
    let mut store = Store::default();
    let mut arrays = Arrays::default();
    let mut live = Live::new();
    let mut said: BTreeMap<u64, BTreeSet<u32>> = BTreeMap::new();
    for step in steps {
        let bytes = match step {
            Step::Update { sections, deletes } => encode(&sections, &deletes),
            Step::Raw(bytes) => bytes,
            Step::Diff(vector) => {
                let vector = vector.iter().map(|(c, k)| ((c % CLIENTS) as u64, *k as u32));
                let diff = scan(&store.diff(&vector.collect()));
                let vector = store.state_vector();
                let applied = store.apply(&diff, &Bounds::NONE).unwrap();
                store.check();
                // A part of what waits may come back as the run that it is.
                assert!(!applied.changed || store.pending() > 0);
                assert_eq!(store.state_vector(), vector);
                assert!(applied.advanced.is_empty() && applied.deleted.is_empty());
                continue;
            }
            Step::Compact => {
                let vector = store.state_vector();
                let compacted = store.compact();
                store.check();
                assert_eq!(store.state_vector(), vector);
                assert_eq!(store.diff(&HashMap::new()), compacted);
                assert_eq!(store.compact(), compacted);
                continue;
            }
        };
        let Ok(update) = Update::scan(bytes.into()) else { continue };
        let applied = store.apply(&update, &bounds);
        store.check();
        // What a cut adds is not seen by the bounds.
        assert!(store.size() <= bounds.size + bounds.size / 2);
        assert!(store.pending() <= bounds.pending * 2);
        let Ok(applied) = applied else { continue };
        for (client, structs) in update.sections() {
            for item in structs {
                // A raw update may reach far; a model of every clock would not hold it.
                if item.len > 4096 {
                    return;
                }
                said.entry(client).or_default().extend(item.clock..item.clock + item.len);
            }
        }
        arrays.apply(&store, &applied, &mut |change| follow(&mut live, change));
        assert!(!store.apply(&update, &bounds).unwrap().changed, "what is known is not new");
    }
    for (client, clocks) in &said {
        let prefix = (0..).zip(clocks).take_while(|(at, clock)| at == *clock).count();
        assert_eq!(store.known(*client), prefix as u32);
    }
    let mut fresh = Live::new();
    let loaded = Arrays::load(&store, &mut |change| follow(&mut fresh, change));
    assert_eq!(fresh, live);
    assert_eq!(sorted(&loaded, &live), sorted(&arrays, &live));

    let diff = store.diff(&HashMap::new());
    let mut copy = Store::default();
    copy.apply(&scan(&diff), &Bounds::NONE).unwrap();
    copy.check();
    assert_eq!(copy.diff(&HashMap::new()), diff);
    copy.compact();
    let mut fresh = Live::new();
    let loaded = Arrays::load(&copy, &mut |change| follow(&mut fresh, change));
    assert_eq!(fresh, live);
    assert_eq!(sorted(&loaded, &live), sorted(&arrays, &live));
}

type Live = BTreeMap<Id, (Arc<str>, serde_json::Value)>;

fn follow(live: &mut Live, change: ArrayChange) {
    match change {
        ArrayChange::Inserted { array, id, value } => {
            assert!(
                live.insert(id, (array, value.json().unwrap())).is_none(),
                "an element comes once"
            );
        }
        ArrayChange::Deleted { id } => drop(live.remove(&id)),
    }
}

fn sorted(arrays: &Arrays, live: &Live) -> Vec<Id> {
    // Ids that nothing is known of are ordered, too.
    let unknown = (0..CLIENTS as u64).map(|client| Id { client, clock: CLOCKS as u32 });
    let mut ids: Vec<_> = live.keys().copied().chain(unknown).collect();
    ids.sort_by(|a, b| arrays.compare(*a, *b));
    assert!(ids.is_sorted_by(|a, b| a == b || arrays.compare(*a, *b).is_lt()));
    assert!(ids.is_sorted_by(|a, b| a == b || arrays.compare(*b, *a).is_gt()));
    ids
}

fn scan(bytes: &[u8]) -> Update {
    Update::scan(Bytes::copy_from_slice(bytes)).expect("what the store writes scans")
}

fn encode(sections: &[Section], deletes: &[(u8, u8, u8)]) -> Vec<u8> {
    let mut out = Vec::new();
    write_var(&mut out, sections.len() as u64);
    for section in sections {
        write_var(&mut out, section.structs.len() as u64);
        write_var(&mut out, (section.client % CLIENTS) as u64);
        write_var(&mut out, (section.clock % CLOCKS) as u64);
        for item in &section.structs {
            item.write(&mut out);
        }
    }
    write_var(&mut out, deletes.len() as u64);
    for (client, clock, len) in deletes {
        write_var(&mut out, (client % CLIENTS) as u64);
        write_var(&mut out, 1);
        write_var(&mut out, (clock % CLOCKS) as u64);
        write_var(&mut out, (len % CLOCKS + 1) as u64);
    }
    out
}

impl Struct {
    fn write(&self, out: &mut Vec<u8>) {
        // Mostly values, since arrays are made of them.
        let kind = [8, 8, 8, 8, 8, 8, 0, 1, 2, 3, 4, 5, 6, 7, 9, 10][self.kind as usize % 16];
        let len = self.len % 6 + 1;
        if kind == 0 || kind == 10 {
            out.push(kind);
            write_var(out, len as u64);
            return;
        }
        let bit = |set: bool, bit: u8| if set { bit } else { 0 };
        out.push(
            kind | bit(self.origin.is_some(), 0x80)
                | bit(self.right_origin.is_some(), 0x40)
                | bit(self.key, 0x20),
        );
        let id = |out: &mut Vec<u8>, (client, clock): (u8, u8)| {
            write_var(out, (client % CLIENTS) as u64);
            write_var(out, (clock % CLOCKS) as u64);
        };
        self.origin.into_iter().chain(self.right_origin).for_each(|origin| id(out, origin));
        if self.origin.is_none() && self.right_origin.is_none() {
            match self.parent {
                Some(parent) => {
                    out.push(0);
                    id(out, parent);
                }
                None => {
                    out.push(1);
                    write_bytes(out, if len > 3 { b"a" } else { b"b" });
                }
            }
            if self.key {
                write_bytes(out, b"k");
            }
        }
        match kind {
            1 => write_var(out, len as u64),
            2 => {
                write_var(out, len as u64);
                (0..len).for_each(|_| write_bytes(out, b"1"));
            }
            3 => write_bytes(out, b"bytes"),
            4 => write_bytes(
                out,
                "aö🙂bc🙂".chars().take(len as usize).collect::<String>().as_bytes(),
            ),
            5 => write_bytes(out, b"{}"),
            6 => {
                write_bytes(out, b"bold");
                write_bytes(out, b"true");
            }
            7 => out.push(0),
            8 => {
                write_var(out, len as u64);
                for at in 0..len {
                    out.extend_from_slice(
                        &[125, at, 119, 1, b'x'][if at % 2 == 0 { 0..2 } else { 2..5 }],
                    );
                }
            }
            _ => {
                write_bytes(out, b"guid");
                out.extend_from_slice(&[118, 0]);
            }
        }
    }
}
