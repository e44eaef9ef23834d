//! What nobody honest sends: it is refused, or costs no more than it weighs and harms nobody.

mod history;

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use bytes::Bytes;
use history::{History, Random, Shape, delete, push, seeds, write_push};
use host_sync::lib0::{write_bytes, write_var};
use host_sync::store::{Bounds, Store, merge};
use host_sync::{ArrayChange, Arrays, Id, Update};
use serde_json::json;

/// A store, what follows it, and the elements that are there.
#[derive(Default)]
struct Server {
    store: Store,
    arrays: Arrays,
    live: BTreeMap<Id, serde_json::Value>,
}

impl Server {
    /// Takes in an update when it is one and fits.
    fn receive(&mut self, bytes: &[u8], bounds: &Bounds) -> bool {
        let Ok(update) = Update::scan(Bytes::copy_from_slice(bytes)) else { return false };
        let Ok(applied) = self.store.apply(&update, bounds) else { return false };
        self.arrays.apply(&self.store, &applied, &mut |change| match change {
            ArrayChange::Inserted { id, value, .. } => {
                drop(self.live.insert(id, value.json().unwrap_or(json!("too deep"))));
            }
            ArrayChange::Deleted { id } => drop(self.live.remove(&id)),
        });
        true
    }

    /// Everything that one can ask of a document.
    fn use_all(&mut self) {
        let vector = self.store.state_vector();
        let half = vector.iter().map(|(client, clock)| (*client, clock / 2)).collect();
        scan(&self.store.diff(&half));
        let diff = self.store.diff(&HashMap::new());
        let mut copy = Store::default();
        copy.apply(&scan(&diff), &Bounds::NONE).unwrap();
        assert_eq!(copy.state_vector(), vector);
        assert_eq!(merge([&scan(&diff)]), self.store.compact());
        assert_eq!(self.store.state_vector(), vector);
        let mut changes = Vec::new();
        let arrays = Arrays::load(&self.store, &mut |change| changes.push(change));
        assert_eq!(changes.len(), self.live.len());
        let mut ids: Vec<Id> = self.live.keys().copied().collect();
        ids.sort_by(|a, b| arrays.compare(*a, *b));
        assert!(ids.is_sorted_by(|a, b| self.arrays.compare(*a, *b).is_lt()));
        self.store.check();
    }
}

fn scan(bytes: &[u8]) -> Update {
    Update::scan(Bytes::copy_from_slice(bytes)).expect("what the store writes scans")
}

fn unhex(hex: &str) -> Vec<u8> {
    let digits = hex.as_bytes().chunks(2);
    digits.map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap()).collect()
}

/// An update of sections: client, first clock, and structs that are written already.
fn update(sections: &[(u64, u32, Vec<Vec<u8>>)], deletes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    write_var(&mut out, sections.len() as u64);
    for (client, clock, structs) in sections {
        write_var(&mut out, structs.len() as u64);
        write_var(&mut out, *client);
        write_var(&mut out, *clock as u64);
        structs.iter().for_each(|item| out.extend_from_slice(item));
    }
    out.extend_from_slice(deletes);
    out
}

fn pushed(origin: Option<(u64, u32)>) -> Vec<u8> {
    let mut out = Vec::new();
    let origin = origin.map(|(client, clock)| Id { client, clock });
    write_push(&mut out, origin, "kv", &[json!(null)]);
    out
}

fn gc(len: u32) -> Vec<u8> {
    let mut out = vec![0];
    write_var(&mut out, len as u64);
    out
}

fn text(origin: Option<(u64, u32)>, text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    match origin {
        None => out.extend_from_slice(&[4, 1, 1, b't']),
        Some((client, clock)) => {
            out.push(0x84);
            write_var(&mut out, client);
            write_var(&mut out, clock as u64);
        }
    }
    write_bytes(&mut out, text.as_bytes());
    out
}

const NO_DELETES: &[u8] = &[0];

#[test]
fn shapes_that_break_integrators_are_refused_or_harmless() {
    let deep_any = |levels: usize| {
        let value = [vec![8, 1, 1, b't', 1], [117, 1].repeat(levels), vec![126]].concat();
        update(&[(5, 0, vec![value])], NO_DELETES)
    };
    let deep_types = |levels: u32| {
        let inner = |at: u32| {
            let mut out = vec![0x27, 0, 5];
            write_var(&mut out, at as u64);
            out.extend_from_slice(&[1, b'k', 1]);
            out
        };
        let outer = vec![7, 1, 1, b't', 1];
        let structs = std::iter::once(outer).chain((0..levels).map(inner)).collect();
        update(&[(5, 0, structs)], NO_DELETES)
    };
    let deep_embed = |levels: usize| {
        let json = ["5b".repeat(levels), "5d".repeat(levels)].concat();
        let mut length = Vec::new();
        write_var(&mut length, json.len() as u64 / 2);
        let length: String = length.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("05010174{length}{json}")
    };
    let item = |hex: &str| update(&[(5, 0, vec![unhex(hex)])], NO_DELETES);
    let cases: Vec<(&str, Vec<u8>, bool)> = vec![
        ("a skip that wraps the clock", unhex("010228feffffff0f0a03007800"), false),
        ("JSON that is not", unhex("01010500820900010161016200"), false),
        ("clients that nothing backs", unhex("80808080010000"), false),
        ("structs that nothing backs", unhex("01ffffff7f0500"), false),
        ("deletions that nothing backs", unhex("000105ffffff7f"), false),
        ("a number that is not in its shortest form", unhex("8000"), false),
        ("values deeper than any stack", deep_any(1_000_000), false),
        ("values of a depth that clients can read", deep_any(4000), true),
        ("values of a depth that rows may have", deep_any(60), true),
        ("an embed deeper than any stack", item(&deep_embed(100_000)), false),
        ("an embed of a depth that clients can read", item(&deep_embed(4000)), true),
        ("types as deep as there is room", deep_types(20_000), true),
        ("a right origin left of the origin", item("c4280228000161"), true),
        ("an element behind itself", item("880500017e"), true),
        ("an embed that is not JSON", item("0501017401"), false),
        ("a format that is not JSON", item("0601017401620178"), false),
        ("a type of an unknown kind", item("0701017409"), false),
        ("a struct of an unknown kind", item("0b010174"), false),
        ("a struct without elements", item("080101740000"), false),
        ("a run beyond the last clock", update(&[(5, 9, vec![gc(1 << 31)])], NO_DELETES), false),
        ("a run up to the last clock", update(&[(5, 0, vec![gc(1 << 31)])], NO_DELETES), true),
        ("deletions beyond the last clock", delete(5, 1, 1 << 31), false),
        ("deletions up to the last clock", delete(5, 0, 1 << 31), true),
        ("a client twice", update(&[(5, 0, vec![gc(1)]), (5, 1, vec![gc(1)])], NO_DELETES), false),
        ("an integer that JavaScript cannot read", item("08010174017dbfffffffffffffff7f"), false),
    ];
    for (name, bytes, accepted) in cases {
        let mut server = Server::default();
        for clock in 0..4 {
            let origin = (clock > 0).then(|| Id { client: 40, clock: clock - 1 });
            server.receive(&push(40, clock, origin, "kv", &[json!(clock)]), &Bounds::NONE);
        }
        assert_eq!(server.receive(&bytes, &Bounds::NONE), accepted, "{name}");
        server.use_all();
        let origin = Some(Id { client: 40, clock: 3 });
        assert!(server.receive(&push(40, 4, origin, "kv", &[json!(4)]), &Bounds::NONE));
        server.use_all();
        let honest: Vec<_> = (0..5).map(|clock| json!(clock)).collect();
        let ids = server.live.iter().filter(|(id, _)| id.client == 40);
        assert_eq!(ids.map(|(_, value)| value.clone()).collect::<Vec<_>>(), honest, "{name}");
    }
}

#[test]
fn a_few_bytes_are_never_many_elements() {
    // A run of two thousand million elements, in the array, and its deletion.
    let mut run = vec![1, 1, 2, b'k', b'v'];
    write_var(&mut run, (1 << 31) - 1);
    let mut server = Server::default();
    assert!(server.receive(&update(&[(5, 0, vec![run])], NO_DELETES), &Bounds::NONE));
    assert!(server.receive(&delete(5, 0, (1 << 31) - 1), &Bounds::NONE));
    assert!(server.receive(&delete(6, 0, (1 << 31) - 1), &Bounds::NONE));
    assert!(server.receive(&update(&[(6, 0, vec![gc(1 << 30)])], NO_DELETES), &Bounds::NONE));
    server.use_all();
    assert!(server.live.is_empty());
}

#[test]
fn what_was_said_first_stands() {
    let mut server = Server::default();
    let say = |value: &str| push(5, 0, None, "kv", &[json!(value), json!("second")]);
    server.receive(&say("first"), &Bounds::NONE);
    server.receive(&say("other"), &Bounds::NONE);
    // Half of this one is known, and lies elsewhere.
    let values: Vec<_> = (0..4).map(|at| json!(at)).collect();
    server.receive(&push(5, 0, None, "elsewhere", &values), &Bounds::NONE);
    server.use_all();
    let live: Vec<_> = server.live.into_values().collect();
    assert_eq!(live, [json!("first"), json!("second"), json!(2), json!(3)]);
}

#[test]
fn runs_are_joined_only_where_they_are_one() {
    let value = |head: &[u8]| [head, &[1, 126]].concat();
    let first = value(&[8, 1, 1, b'a']);
    let cases = [
        ("behind each other", vec![first.clone(), value(&[0x88, 5, 0])], 1),
        ("beside another one", vec![first.clone(), value(&[0xc8, 5, 0, 9, 0])], 2),
        ("behind something else", vec![first.clone(), value(&[0x88, 9, 0])], 2),
        ("anew at the start", vec![first.clone(), first.clone()], 2),
        ("of another kind", vec![first.clone(), vec![0x84, 5, 0, 1, b'x']], 2),
        ("after nothing", vec![gc(1), vec![0x81, 5, 0, 1]], 2),
        ("nothing after nothing", vec![gc(1), gc(4)], 1),
    ];
    for (name, structs, expected) in cases {
        let mut server = Server::default();
        assert!(server.receive(&update(&[(5, 0, structs)], NO_DELETES), &Bounds::NONE));
        let compacted = scan(&server.store.compact());
        assert_eq!(
            compacted.sections().next().map(|(_, structs)| structs.len()),
            Some(expected),
            "{name}"
        );
    }
}

#[test]
fn bounds_hold_whatever_comes() {
    let bounds = Bounds { size: 24 * 1024, pending: 4 * 1024 };
    let mut random = Random::new(1);
    for round in 0..40 {
        let mut server = Server::default();
        for _ in 0..400 {
            let client = random.below(6) as u64 * (1 + random.below(2) as u64 * round);
            let clock = random.below(400) as u32;
            let origin = random.one_in(2).then(|| (client, random.below(400) as u32));
            let structs = (0..1 + random.below(6)).map(|_| match random.below(4) {
                0 => gc(1 + random.below(60) as u32),
                1 => text(origin, &"a🙂ö".repeat(1 + random.below(20))),
                2 => [vec![10], gc(1 + random.below(9) as u32)[1..].to_vec()].concat(),
                _ => pushed(origin),
            });
            let structs = structs.collect();
            let bytes = if random.one_in(4) {
                delete(client, clock, 1 + random.below(50) as u32)
            } else {
                update(&[(client, clock, structs)], NO_DELETES)
            };
            server.receive(&bytes, &bounds);
            server.store.check();
            // A cut can take 13 bytes that were not seen; each takes 49 at least to begin with.
            assert!(server.store.size() <= bounds.size + bounds.size / 3);
            assert!(server.store.pending() <= bounds.pending);
        }
        // Who has what it has is told so still.
        let diff = server.store.diff(&HashMap::new());
        assert!(server.store.apply(&scan(&diff), &bounds).is_ok() || server.store.pending() > 0);
        server.use_all();
    }
}

/// Changes bytes the way that finds most: bits, numbers at their limits, pieces of others.
fn mutate(random: &mut Random, seed: &[u8], pool: &[Vec<u8>]) -> Vec<u8> {
    const NUMBERS: [&[u8]; 8] = [
        &[0],
        &[1],
        &[0x80, 1],
        &[0xff, 0xff, 3],
        &[0xff, 0xff, 0xff, 0xff, 7],
        &[0x80, 0x80, 0x80, 0x80, 8],
        &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xf],
        &[0x80, 0],
    ];
    const HEADS: [u8; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 0x28, 0x44, 0x84, 0x88, 0xc8];
    let mut bytes = seed.to_vec();
    for _ in 0..1 + random.below(3) {
        if bytes.is_empty() {
            bytes.push(0);
        }
        let at = random.below(bytes.len());
        let end = at + random.below((bytes.len() - at).min(16) + 1);
        match random.below(9) {
            0 => bytes[at] ^= 1 << random.below(8),
            1 => bytes[at] = random.next() as u8,
            2 => bytes.insert(at, random.next() as u8),
            3 => drop(bytes.drain(at..end)),
            4 => drop(bytes.splice(at..at + 1, random.pick(&NUMBERS).iter().copied())),
            5 => {
                let piece = bytes[at..end].to_vec();
                let to = random.below(bytes.len() + 1);
                bytes.splice(to..to, piece);
            }
            6 => bytes[at] = *random.pick(&HEADS),
            7 => {
                let other: &Vec<u8> = random.pick(pool);
                let from = random.below(other.len());
                let to = from + random.below((other.len() - from).min(40) + 1);
                bytes.splice(at..at, other[from..to].iter().copied());
            }
            _ if random.one_in(4) => bytes.truncate(at),
            _ => bytes[at] = bytes[at].wrapping_add(random.next() as u8 % 5).wrapping_sub(2),
        }
    }
    bytes
}

/// Real updates, those of clients with small ids first.
fn real_updates(seed: u64, shape: Shape) -> Vec<Vec<u8>> {
    let mut history = History::new(seed, 4, shape);
    (0..80).for_each(|_| history.step());
    history.log().into_iter().filter(|update| update.len() < 600).collect()
}

#[test]
fn broken_updates_are_refused_or_harm_nobody() {
    let mut accepted = 0;
    let mut refused = 0;
    for seed in seeds(20) {
        let honest = real_updates(seed, Shape::Pushes);
        let mut alone = Server::default();
        for bytes in &honest {
            assert!(alone.receive(bytes, &Bounds::NONE));
        }
        let vector = alone.store.state_vector();
        let pool = real_updates(seed ^ 0xff, Shape::Everything);
        let pool: Vec<_> =
            pool.into_iter().chain(real_updates(seed ^ 0xfff, Shape::Pushes)).collect();
        let mut random = Random::new(seed);
        let bounds = Bounds { size: 256 * 1024, pending: 32 * 1024 };
        let mut server = Server::default();
        let mut honest = honest.iter();
        let count = 10_000;
        for at in 0..count {
            let seed = random.pick(&pool).clone();
            let bytes = mutate(&mut random, &seed, &pool);
            // Nobody can be kept from deleting, or from saying what another client says; what
            // names honest clients is not tried here.
            let Ok(update) = Update::scan(bytes.clone().into()) else {
                refused += 1;
                continue;
            };
            let of_others = update.sections().any(|(client, _)| vector.contains_key(&client))
                || update.deletes().iter().any(|(id, _)| vector.contains_key(&id.client));
            if !of_others {
                accepted += server.receive(&bytes, &bounds) as u32;
            }
            if at % 50 == 0
                && let Some(bytes) = honest.next()
            {
                assert!(server.receive(bytes, &Bounds::NONE), "an honest update");
            }
            if at % 500 == 0 {
                server.use_all();
            }
            if server.store.size() > bounds.size * 3 / 4 {
                // A full room: begin anew with what is honest.
                server.use_all();
                server = Server::default();
                honest = honest_from_start(&alone, &mut server);
            }
        }
        honest.for_each(|bytes| assert!(server.receive(bytes, &Bounds::NONE)));
        server.use_all();
        for (id, value) in &alone.live {
            assert_eq!(server.live.get(id), Some(value));
        }
        let mut ids: Vec<Id> = alone.live.keys().copied().collect();
        ids.sort_by(|a, b| alone.arrays.compare(*a, *b));
        assert!(ids.is_sorted_by(|a, b| server.arrays.compare(*a, *b).is_lt()), "the order stays");
    }
    eprintln!("{accepted} mutated updates were applied, {refused} refused");
    assert!(accepted > 1000, "the mutator must reach what lies behind the scanner");
}

fn honest_from_start<'a>(alone: &Server, server: &mut Server) -> std::slice::Iter<'a, Vec<u8>> {
    assert!(server.receive(&alone.store.diff(&HashMap::new()), &Bounds::NONE));
    [].iter()
}

#[test]
fn frames_and_presence_that_are_broken_are_errors() {
    use host_sync::awareness::{Awareness, AwarenessBounds, States};
    use host_sync::protocol::{self, Message};
    let bounds = AwarenessBounds { states: 4, state_bytes: 64, bytes: 200 };
    let states = [2, 7, 1, 2, b'{', b'}', 8, 1, 4, b'n', b'u', b'l', b'l'];
    let pool: Vec<Vec<u8>> = [
        protocol::awareness(&states),
        protocol::step_1(&[1, 5, 3]),
        protocol::update(&push(5, 0, None, "kv", &[json!(1)])),
        Bytes::from_static(&[102, 2, 7, 8]),
        Bytes::from_static(&[3]),
    ]
    .iter()
    .map(|frame| frame.to_vec())
    .collect();
    let mut random = Random::new(7);
    let mut awareness = Awareness::default();
    for at in 0..20_000u64 {
        let seed = random.pick(&pool).clone();
        let bytes = mutate(&mut random, &seed, &pool);
        match Message::read(&bytes.into()) {
            Ok(Message::Awareness(states)) => {
                if let Ok(states) = States::scan(states) {
                    awareness.apply(at % 3, &states, &bounds, |owner| owner != 2);
                }
            }
            Ok(Message::Step1(vector)) => drop(host_sync::update::read_state_vector(&vector)),
            Ok(Message::Update(update)) => drop(Update::scan(update)),
            _ => {}
        }
        if random.one_in(50) {
            awareness.leave(at % 3);
        }
        assert!(awareness.present().count() <= bounds.states);
        // Others can read what is passed on, removals included.
        let mut copy = Awareness::default();
        let states = States::scan(awareness.encode_all().into()).unwrap();
        assert_eq!(copy.apply(1, &states, &bounds, |_| true).refused, None);
    }
}

/// Shapes of updates of a size.
type Build = fn(u32) -> Vec<Vec<u8>>;

/// Those that are quadratic for somebody. Each is updates that grow with a number.
const SHAPES: [(&str, Build); 15] = [
    ("clients that each push at the start", |n| {
        let section = |client| (client as u64, 0, vec![pushed(None)]);
        vec![update(&(0..n).rev().map(section).collect::<Vec<_>>(), NO_DELETES)]
    }),
    ("an update for each of many clients", |n| {
        (0..n).map(|client| push(client as u64, 0, None, "kv", &[json!(1)])).collect()
    }),
    ("one client that always pushes at the start", |n| {
        vec![update(&[(5, 0, (0..n).map(|_| pushed(None)).collect())], NO_DELETES)]
    }),
    ("a chain and as many siblings of its second element", |n| {
        let chain = |at: u32| pushed(at.checked_sub(1).map(|clock| (9, clock)));
        let chain = (0..n).map(chain).collect();
        let siblings = (0..n).map(|_| pushed(Some((9, 0)))).collect();
        vec![update(&[(9, 0, chain), (8, 0, siblings)], NO_DELETES)]
    }),
    ("two clients that answer each other", |n| {
        let one = |at: u32| pushed(at.checked_sub(1).map(|clock| (8, clock)));
        let one = (0..n).map(one).collect();
        let other = (0..n).map(|at| pushed(Some((9, at)))).collect();
        vec![update(&[(9, 0, one), (8, 0, other)], NO_DELETES)]
    }),
    ("clients that wait for one that comes step by step", |n| {
        let waiter = |at: u32| (1000 + at as u64, 0, vec![pushed(Some((5, (1 << 20) + at)))]);
        let mut all = vec![update(&(0..n).rev().map(waiter).collect::<Vec<_>>(), NO_DELETES)];
        let step = |at: u32| update(&[(5, at, vec![gc(1)])], NO_DELETES);
        all.extend((0..n).map(step));
        all
    }),
    ("arrays by many names", |n| {
        let named = |at: u32| {
            let mut out = vec![8, 1];
            write_bytes(&mut out, format!("array-{at:08}").as_bytes());
            out.extend_from_slice(&[1, 126]);
            out
        };
        vec![update(&[(5, 0, (0..n).map(named).collect())], NO_DELETES)]
    }),
    ("a hole before each element", |n| {
        (0..n).rev().map(|at| update(&[(5, at * 2 + 1, vec![pushed(None)])], NO_DELETES)).collect()
    }),
    ("many holes under a long text, which closes at last", |n| {
        let letter = |at: u32| update(&[(5, at * 2 + 2, vec![text(None, "x")])], NO_DELETES);
        let mut all: Vec<_> = (0..n).map(letter).collect();
        all.push(update(&[(5, 1, vec![text(None, &"y".repeat(n as usize * 2 + 4))])], NO_DELETES));
        all.push(update(&[(5, 0, vec![gc(1)])], NO_DELETES));
        all
    }),
    ("runs beyond a hole, each over the end of the one before", |n| {
        let run = |at: u32| update(&[(5, at + 1, vec![text(None, "abc")])], NO_DELETES);
        let mut all: Vec<_> = (0..n).rev().map(run).collect();
        all.push(update(&[(5, 0, vec![gc(1)])], NO_DELETES));
        all
    }),
    ("every second letter of a text deleted", |n| {
        let mut deletes = vec![1, 5];
        write_var(&mut deletes, n as u64);
        for at in (0..n).rev() {
            write_var(&mut deletes, at as u64 * 2);
            deletes.push(1);
        }
        vec![update(&[(5, 0, vec![text(None, &"🙂".repeat(n as usize))])], &deletes)]
    }),
    ("deletions of clients that nobody knows", |n| {
        let mut out = vec![0];
        write_var(&mut out, n as u64);
        for client in 0..n {
            write_var(&mut out, client as u64);
            out.extend_from_slice(&[1, 9, 2]);
        }
        vec![out]
    }),
    ("deletions over each other", |n| (0..n).map(|at| delete(5, n - at, at * 2 + 1)).collect()),
    ("types in each other", |n| {
        let inner = |at: u32| {
            let mut out = vec![7, 0, 5];
            write_var(&mut out, at as u64);
            out.push(0);
            out
        };
        let outer = vec![7, 1, 1, b't', 0];
        let structs = std::iter::once(outer).chain((0..n).map(inner)).collect();
        vec![update(&[(5, 0, structs)], NO_DELETES)]
    }),
    ("elements that wait for their client's next", |n| {
        (0..n)
            .map(|at| push(5, at, Some(Id { client: 5, clock: at + 1 }), "kv", &[json!(1)]))
            .collect()
    }),
];

#[test]
fn nothing_takes_longer_than_its_size_allows() {
    for (name, build) in SHAPES {
        // Of four times the size, linear work takes four times as long, and quadratic sixteen.
        // Other work on this machine may disturb one measurement, but not each of several.
        let (smaller, larger) = (build(5_000), build(20_000));
        let ratio = || time(&larger).as_secs_f64() / time(&smaller).as_secs_f64();
        let linear = std::iter::repeat_with(ratio).take(5).any(|ratio| ratio < 9.0);
        assert!(linear, "{name}");
    }
}

fn time(updates: &[Vec<u8>]) -> Duration {
    let started = Instant::now();
    let mut server = Server::default();
    for bytes in updates {
        assert!(server.receive(bytes, &Bounds::NONE));
    }
    server.use_all();
    started.elapsed()
}

#[test]
fn a_hundred_thousand_clients_do_not_slow_the_next_update() {
    let section = |client: u32| (client as u64 + 10, 0, vec![gc(1)]);
    let mut server = Server::default();
    let crowd = update(&(0..100_000).rev().map(section).collect::<Vec<_>>(), NO_DELETES);
    let mut spent = [Duration::MAX; 2];
    for spent in &mut spent {
        for _ in 0..3 {
            let mut alone = Server::default();
            std::mem::swap(&mut alone, &mut server);
            let started = Instant::now();
            let known = alone.store.known(5);
            for at in known..known + 1000 {
                let origin = at.checked_sub(1).map(|clock| Id { client: 5, clock });
                assert!(alone.receive(&push(5, at, origin, "kv", &[json!(1)]), &Bounds::NONE));
            }
            *spent = started.elapsed().min(*spent);
            server = alone;
        }
        server.receive(&crowd, &Bounds::NONE);
    }
    assert!(spent[1] < spent[0] * 8, "{spent:?}");
}

/// What the fuzzers begin with harms nobody. With `SYNC_WRITE_SEEDS` set it is written anew.
#[test]
fn the_seeds_of_the_fuzzers_harm_nobody() {
    let seeds = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds");
    if std::env::var_os("SYNC_WRITE_SEEDS").is_some() {
        write_seeds(&seeds);
    }
    let mut server = Server::default();
    let mut taken = 0;
    for file in std::fs::read_dir(seeds.join("update")).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        taken += server.receive(&bytes, &Bounds::NONE) as usize;
    }
    server.use_all();
    assert!(taken > 10, "real updates are among them");
}

fn write_seeds(seeds: &std::path::Path) {
    use host_sync::protocol;
    let write = |target: &str, name: String, bytes: &[u8]| {
        let folder = seeds.join(target);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(name), bytes).unwrap();
    };
    let mut updates: Vec<Vec<u8>> = [
        "010228feffffff0f0a03007800",
        "01010500820900010161016200",
        "80808080010000",
        "01010500c428022800016100",
        "01010500880500017800",
    ]
    .iter()
    .map(|hex| unhex(hex))
    .collect();
    updates.extend(SHAPES.iter().map(|(_, build)| build(3).swap_remove(0)));
    for shape in [Shape::Pushes, Shape::Everything] {
        let real = real_updates(1, shape);
        let parts: Vec<_> = real.iter().map(|bytes| scan(bytes)).collect();
        updates.push(merge(&parts[..parts.len() / 4]));
        updates.extend(real.into_iter().step_by(8));
    }
    for (at, bytes) in updates.iter().enumerate() {
        write("update", format!("{at:02}"), bytes);
    }
    let states = [2, 7, 1, 2, b'{', b'}', 8, 1, 4, b'n', b'u', b'l', b'l'];
    let frames = [
        protocol::step_1(&[1, 5, 3]),
        protocol::update(&push(5, 0, None, "kv", &[json!(1)])),
        protocol::awareness(&states),
        Bytes::from_static(&[102, 2, 7, 8]),
        Bytes::from_static(&[3]),
    ];
    let session = frames.iter().flat_map(|frame| {
        (frame.len() as u16).to_le_bytes().into_iter().chain(frame.iter().copied())
    });
    write("frame", "session".into(), &session.collect::<Vec<u8>>());
}
