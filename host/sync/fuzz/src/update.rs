//! Bytes as one update: what is accepted is kept, answered and compacted without loss.

use std::collections::HashMap;

use bytes::Bytes;
use host_sync::arrays::{ArrayChange, Arrays};
use host_sync::store::{Bounds, Store, merge};
use host_sync::update::Update;

pub fn run(bytes: &[u8]) {
    let Ok(update) = Update::scan(Bytes::copy_from_slice(bytes)) else { return };
    let mut store = Store::default();
    store.apply(&update, &Bounds::NONE).unwrap();
    store.check();
    let again = store.apply(&update, &Bounds::NONE).unwrap();
    assert!(!again.changed, "what is known is not new");

    let vector = store.state_vector();
    let diff = store.diff(&HashMap::new());
    let mut copy = of(&diff);
    assert_eq!(copy.state_vector(), vector);
    assert_eq!(copy.diff(&HashMap::new()), diff, "a copy answers the same");
    assert_eq!(live(&copy), live(&store));
    // A peer that has half of everything.
    let half: HashMap<_, _> = vector.iter().map(|(client, clock)| (*client, clock / 2)).collect();
    let rest = scan(&store.diff(&half));
    assert!(!copy.apply(&rest, &Bounds::NONE).unwrap().changed);
    assert_eq!(merge([&update, &rest]), merge([&update]));

    let before = live(&store);
    let compacted = store.compact();
    store.check();
    assert_eq!(store.state_vector(), vector);
    assert_eq!(live(&store), before);
    assert_eq!(store.diff(&HashMap::new()), compacted);
    assert_eq!(store.compact(), compacted, "a compaction leaves nothing to compact");
}

fn scan(bytes: &[u8]) -> Update {
    Update::scan(Bytes::copy_from_slice(bytes)).expect("what the store writes scans")
}

fn of(bytes: &[u8]) -> Store {
    let mut store = Store::default();
    store.apply(&scan(bytes), &Bounds::NONE).unwrap();
    store.check();
    store
}

/// The elements of all arrays in their order.
fn live(store: &Store) -> Vec<String> {
    let mut changes = Vec::new();
    let arrays = Arrays::load(store, &mut |change| changes.push(change));
    let mut live: Vec<_> = changes
        .into_iter()
        .map(|change| match change {
            ArrayChange::Inserted { array, id, value } => {
                (id, format!("{array} {id:?} {}", value.json().unwrap()))
            }
            ArrayChange::Deleted { .. } => panic!("a load reports what is there"),
        })
        .collect();
    live.sort_by(|(a, _), (b, _)| arrays.compare(*a, *b));
    live.into_iter().map(|(_, text)| text).collect()
}
