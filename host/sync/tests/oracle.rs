//! What an integrator (yrs) makes of random histories is what we make of them.

mod history;

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use history::{ARRAYS, History, Random, Shape, seeds};
use host_sync::store::{Bounds, Store, merge};
use host_sync::{ArrayChange, Arrays, Id, Update};

type Live = BTreeMap<Id, (String, serde_json::Value)>;

/// A store and what follows it.
#[derive(Default)]
struct Server {
    store: Store,
    arrays: Arrays,
    live: Live,
}

impl Server {
    fn receive(&mut self, bytes: &[u8]) {
        let update = scan(bytes);
        let known = self.store.knows(&update);
        let applied = self.store.apply(&update, &Bounds::NONE).unwrap();
        assert_eq!(applied.changed, !known, "what is known changes nothing");
        self.store.check();
        self.arrays.apply(&self.store, &applied, &mut |change| follow(&mut self.live, change));
        assert!(!self.store.apply(&update, &Bounds::NONE).unwrap().changed, "nothing is new twice");
    }

    fn compact(&mut self) -> Bytes {
        let compacted = self.store.compact();
        self.store.check();
        compacted
    }
}

fn scan(bytes: &[u8]) -> Update {
    Update::scan(Bytes::copy_from_slice(bytes)).expect("an honest update scans")
}

fn follow(live: &mut Live, change: ArrayChange) {
    match change {
        ArrayChange::Inserted { array, id, value } => {
            assert!(
                live.insert(id, (array.to_string(), value.json().unwrap())).is_none(),
                "{id:?} came twice"
            );
        }
        ArrayChange::Deleted { id } => drop(live.remove(&id)),
    }
}

fn load(store: &Store) -> (Arrays, Live) {
    let mut live = Live::new();
    let arrays = Arrays::load(store, &mut |change| follow(&mut live, change));
    (arrays, live)
}

/// Updates as they might come: in any order, twice, joined, and the parts that somebody lacked.
fn delivery(random: &mut Random, all: &[Vec<u8>], seen: usize) -> Vec<Vec<u8>> {
    let log = &all[seen..];
    let mut updates = log.to_vec();
    for _ in 0..log.len() / 4 {
        let group: Vec<_> = (0..2 + random.below(4)).map(|_| random.pick(log).clone()).collect();
        updates.push(if random.one_in(2) {
            merge(&group.iter().map(|update| scan(update)).collect::<Vec<_>>())
        } else {
            yrs::merge_updates_v1(&group).unwrap()
        });
        let update = random.pick(log).clone();
        updates.push(update);
    }
    // A client that has heard of some of it answers one who has heard of less. What yrs makes of
    // updates with holes is left out: it panics at times.
    for _ in 0..3 {
        use yrs::{ReadTxn, Transact};
        let (writer, reader) = (history::reader(), history::reader());
        let heard = random.below(log.len() + 1);
        all[..all.len() - log.len() + heard].iter().for_each(|u| history::apply(&writer, u));
        let less = random.below(all.len() - log.len() + heard + 1);
        all[..less].iter().for_each(|u| history::apply(&reader, u));
        let vector = reader.transact().state_vector();
        updates.push(writer.transact().encode_diff_v1(&vector));
    }
    match random.below(3) {
        0 => {}
        1 => updates.reverse(),
        _ => random.shuffle(&mut updates),
    }
    updates
}

/// Checks that the server says what a document does that has integrated everything.
fn equals(server: &mut Server, oracle: &yrs::Doc, random: &mut Random, shape: Shape) {
    let expected = history::content(oracle);
    let vector = history::vector(oracle);
    assert_eq!(server.store.state_vector(), vector, "state vector");
    assert_eq!(server.store.pending(), 0, "nothing waits");

    let fresh = history::reader();
    history::apply(&fresh, &server.store.diff(&HashMap::new()));
    assert_eq!(history::content(&fresh), expected, "diff");

    let (loaded, live) = load(&server.store);
    assert_eq!(live, server.live, "following and loading");
    for (at, arrays) in [&loaded, &server.arrays].into_iter().enumerate() {
        for name in ARRAYS {
            let order = history::ids(oracle, name);
            let mut ours: Vec<_> = ids_of(&live, name);
            if shape == Shape::Pushes {
                ours.sort_by(|a, b| arrays.compare(*a, *b));
                assert_eq!(ours, order, "order of {name}, {at}");
                for (id, value) in ours.iter().zip(expected[name].as_array().unwrap()) {
                    assert_eq!(number(&live[id].1), number(value));
                    assert_eq!(live[id].1, *value);
                }
            } else {
                // Nested types and bytes are not plain values; all else is there.
                let plain = |id: &&Id| live.contains_key(id);
                let mut theirs: Vec<_> = order.iter().filter(plain).copied().collect();
                theirs.sort_unstable();
                assert_eq!(ours, theirs, "elements of {name}");
                let values = order.iter().zip(expected[name].as_array().unwrap());
                for (id, value) in values {
                    let is_type = value.as_object().is_some_and(|o| o.contains_key("list"));
                    assert_eq!(live.contains_key(id), !is_type, "{id:?} {value}");
                    if !is_type && !is_bytes(value) {
                        assert_eq!(live[id].1, *value);
                    }
                }
            }
        }
        total(arrays, &live, random);
    }

    for compacted in [false, true] {
        if compacted {
            let whole = server.compact();
            assert_eq!(server.store.state_vector(), vector, "state vector of the compacted");
            assert_eq!(server.store.diff(&HashMap::new()), whole);
            let fresh = history::reader();
            history::apply(&fresh, &whole);
            assert_eq!(history::content(&fresh), expected, "compacted");
            let (loaded, live) = load(&server.store);
            assert_eq!(live, server.live, "loading the compacted");
            total(&loaded, &live, random);
            for name in ARRAYS {
                let mut a = ids_of(&live, name);
                let mut b = a.clone();
                a.sort_by(|a, b| loaded.compare(*a, *b));
                b.sort_by(|a, b| server.arrays.compare(*a, *b));
                assert_eq!(a, b);
            }
        }
    }
}

fn ids_of(live: &Live, name: &str) -> Vec<Id> {
    live.iter().filter(|(_, (array, _))| array == name).map(|(id, _)| *id).collect()
}

fn number(value: &serde_json::Value) -> Option<i64> {
    value.as_i64().or_else(|| value.get("ts")?.as_i64()).or_else(|| value.get(0)?.as_i64())
}

fn is_bytes(value: &serde_json::Value) -> bool {
    value.as_array().is_some_and(|list| list.len() == 5) || value.is_string()
}

/// `compare` is a total order: of any two, and of any three.
fn total(arrays: &Arrays, live: &Live, random: &mut Random) {
    let mut ids: Vec<Id> = live.keys().copied().collect();
    // Some that are deleted, or that nobody knows.
    let near: Vec<_> = ids.iter().map(|id| Id { clock: id.clock + 1, ..*id }).collect();
    ids.extend(near);
    ids.push(Id { client: 3, clock: 1 << 30 });
    for _ in 0..200 {
        let [a, b, c] = [*random.pick(&ids), *random.pick(&ids), *random.pick(&ids)];
        assert_eq!(arrays.compare(a, b), arrays.compare(b, a).reverse());
        assert_eq!(arrays.compare(a, b).is_eq(), a == b);
        if arrays.compare(a, b).is_le() && arrays.compare(b, c).is_le() {
            assert!(arrays.compare(a, c).is_le(), "{a:?} {b:?} {c:?}");
        }
    }
}

/// Peers that have a part ask for the rest, and have everything then.
fn peers_catch_up(server: &Server, log: &[Vec<u8>], oracle: &yrs::Doc, random: &mut Random) {
    for _ in 0..3 {
        let peer = history::reader();
        let part = random.below(log.len() + 1);
        for update in &log[..part] {
            history::apply(&peer, update);
        }
        history::apply(&peer, &server.store.diff(&history::vector(&peer)));
        assert_eq!(history::content(&peer), history::content(oracle), "a peer that had {part}");
        assert_eq!(history::vector(&peer), history::vector(oracle));
    }
}

fn run(seed: u64, shape: Shape) {
    let mut history = History::new(seed, 2 + (seed % 5) as usize, shape);
    let mut random = Random::new(seed ^ 0xface);
    let mut server = Server::default();
    let oracle = history::reader();
    let mut seen = 0;
    for phase in 0..3u64 {
        for _ in 0..15 + random.below(30) {
            history.step();
        }
        let log = history.log();
        for update in delivery(&mut random, &log, seen) {
            server.receive(&update);
            if random.one_in(20) {
                server.compact();
            }
            // Clients hear from the server, too, which may hold back a part of what it has.
            if random.one_in(10) && server.store.pending() == 0 {
                let client = random.pick(&history.docs);
                history::apply(client, &server.store.diff(&history::vector(client)));
            }
        }
        for update in &log[seen..] {
            history::apply(&oracle, update);
        }
        equals(&mut server, &oracle, &mut random, shape);
        peers_catch_up(&server, &log, &oracle, &mut random);
        // One who joins with the compacted document edits with the others from here on.
        history.join((1 << 52) + phase * 2, &server.compact());
        seen = log.len();
    }
}

#[test]
fn pushes_and_deletions_end_equal_and_in_the_same_order() {
    for seed in seeds(120) {
        with_seed(seed, || run(seed, Shape::Pushes));
    }
}

#[test]
fn everything_that_yrs_offers_ends_equal() {
    for seed in seeds(120) {
        with_seed(seed, || run(seed, Shape::Everything));
    }
}

/// Says which seed failed.
fn with_seed(seed: u64, test: impl FnOnce() + std::panic::UnwindSafe) {
    if let Err(panic) = std::panic::catch_unwind(test) {
        eprintln!("seed {seed} failed");
        std::panic::resume_unwind(panic);
    }
}
