//! The text of a document is what an integrator (yrs) makes of it, whatever its history; changing it
//! says the new text and keeps what did not change.

mod history;

use std::collections::HashMap;

use std::sync::Arc;

use bytes::Bytes;
use history::{History, Random, Shape, seeds};
use host_sync::lib0::write_var;
use host_sync::store::{Bounds, Store};
use host_sync::{Author, Limits, NotText, Rooms, Sqlite, Text, Update};
use yrs::types::text::YChange;
use yrs::{Any, Out, Text as _, Transact};

fn scan(bytes: &[u8]) -> Update {
    Update::scan(Bytes::copy_from_slice(bytes)).expect("an honest update scans")
}

/// What yrs reads, without marks and what is embedded.
fn expected(doc: &yrs::Doc) -> String {
    let text = doc.get_or_insert_text("text");
    let chunks = text.diff(&doc.transact(), YChange::identity);
    let strings = chunks.into_iter().filter_map(|chunk| match chunk.insert {
        Out::Any(Any::String(text)) => Some(text.to_string()),
        _ => None,
    });
    strings.collect()
}

fn read(document: &[u8]) -> Text {
    Text::read(&scan(document), "text").expect("an honest document is readable")
}

fn run(seed: u64) {
    let mut history = History::new(seed, 2 + (seed % 5) as usize, Shape::Texts);
    let mut random = Random::new(seed ^ 0xbead);
    let mut store = Store::default();
    let oracle = history::reader();
    let mut seen = 0;
    for _ in 0..4 {
        for _ in 0..10 + random.below(60) {
            history.step();
        }
        let log = history.log();
        for update in &log[seen..] {
            store.apply(&scan(update), &Bounds::NONE).unwrap();
            history::apply(&oracle, update);
        }
        seen = log.len();
        let expected = expected(&oracle);
        let whole = store.diff(&HashMap::new());
        assert_eq!(read(&whole).content(), expected);
        if random.one_in(2) {
            assert_eq!(read(&store.compact()).content(), expected, "compacted");
        }
        // What a client would send says the same as what we would.
        use yrs::ReadTxn;
        let theirs = oracle.transact().encode_diff_v1(&yrs::StateVector::default());
        assert_eq!(read(&theirs).content(), expected, "encoded by yrs");
    }
}

#[test]
fn a_text_is_what_an_integrator_makes_of_it() {
    for seed in seeds(100) {
        let result = std::panic::catch_unwind(|| run(seed));
        if let Err(panic) = result {
            eprintln!("seed {seed} failed");
            std::panic::resume_unwind(panic);
        }
    }
}

/// Another text: parts of the old one, and parts of its own.
fn another(random: &mut Random, old: &str) -> String {
    let characters: Vec<char> = old.chars().collect();
    let mut new = String::new();
    let mut at = 0;
    for _ in 0..1 + random.below(3) {
        let start = at + random.below(characters.len() + 1 - at);
        let end = start + random.below(characters.len() + 1 - start);
        new.extend(&characters[start..end]);
        let piece: &&str = random.pick(&["", "", "a", "\u{fffd}", "x🙂ö🙂z", "日本"]);
        new.push_str(piece);
        at = end;
    }
    if random.one_in(2) {
        new.extend(&characters[at..]);
    }
    new
}

#[tokio::test]
async fn a_changed_text_says_the_new_one_and_keeps_what_both_have_at_either_end() {
    let folder = tempfile::tempdir().unwrap();
    let storage = Arc::new(Sqlite::open(&folder.path().join("rooms.db")).unwrap());
    let rooms = Rooms::new(storage, Limits::default(), Arc::new(()));
    for seed in seeds(40) {
        let mut history = History::new(seed, 3, Shape::Texts);
        let mut random = Random::new(seed ^ 0xedd);
        let room = rooms.open(&format!("room-{seed}")).unwrap();
        let mut seen = 0;
        for _ in 0..6 {
            for _ in 0..random.below(30) {
                history.step();
            }
            let log = history.log();
            for update in &log[seen..] {
                room.apply(scan(update), Author::server()).await.unwrap();
            }
            seen = log.len();
            let document = room.document().await.unwrap();
            let text = read(&document.bytes);
            let old = text.content().to_owned();
            let new = another(&mut random, &old);
            let edit = text.replace(&new);
            assert_eq!(edit.is_empty(), old == new, "seed {seed}");
            let inserted: usize = edit.insertions.iter().map(|i| i.text.chars().count()).sum();
            let (a, b): (Vec<_>, Vec<_>) = (old.chars().collect(), new.chars().collect());
            let start = a.iter().zip(&b).take_while(|(a, b)| a == b).count();
            let ends = a[start..].iter().rev().zip(b[start..].iter().rev());
            let end = ends.take_while(|(a, b)| a == b).count();
            assert_eq!(inserted, b.len() - start - end, "seed {seed}: no more than is new");
            assert!(room.edit_at(document.version, edit.clone(), Author::server()).await.unwrap());

            let whole = room.snapshot().await.unwrap();
            assert_eq!(read(&whole).content(), new, "seed {seed}: from {old:?}");
            let oracle = history::reader();
            history::apply(&oracle, &whole);
            assert_eq!(expected(&oracle), new, "seed {seed}: as yrs reads it, from {old:?}");
            // The others hear of it, and go on from there or beside it.
            for client in &history.docs {
                if random.one_in(2) {
                    history::apply(client, &whole);
                }
            }
            if !edit.is_empty() {
                let again = room.edit_at(document.version, edit, Author::server()).await.unwrap();
                assert!(!again, "an edit of a version that is gone is not made");
            }
        }
    }
    rooms.shutdown().await;
}

/// An update of so many structs of one client, each made from its number.
fn made(client: u64, structs: u32, write: impl Fn(u32, &mut Vec<u8>)) -> Vec<u8> {
    let mut out = vec![1];
    write_var(&mut out, structs as u64);
    write_var(&mut out, client);
    out.push(0);
    (0..structs).for_each(|at| write(at, &mut out));
    out.push(0);
    out
}

#[test]
fn hostile_documents_are_read_or_refused_in_bounded_time() {
    // Each waits for its own future: nothing to be read, and no endless loop.
    let future = made(7, 3, |at, out| {
        out.extend([0x84, 7]);
        write_var(out, at as u64 + 1);
        out.extend([1, b'a']);
    });
    assert_eq!(read(&future).content(), "");
    // A right origin that lies left of the origin, which some integrators never come back from.
    let crossed = made(7, 3, |at, out| match at {
        0 => out.extend([4, 1, 4, b't', b'e', b'x', b't', 2, b'a', b'b']),
        1 => out.extend([0xc4, 7, 1, 7, 0, 1, b'c']),
        _ => out.extend([0xc4, 7, 0, 7, 0, 1, b'd']),
    });
    assert_eq!(read(&crossed).content().len(), 4);
    // All of them at the same place at the same time: each passes all that are there.
    let mut tangled = Store::default();
    let first = made(1, 1, |_, out| out.extend([4, 1, 4, b't', b'e', b'x', b't', 1, b'a']));
    tangled.apply(&scan(&first), &Bounds::NONE).unwrap();
    for client in 2..20_000 {
        let one = made(client, 1, |_, out| out.extend([0x84, 1, 0, 1, b'b']));
        tangled.apply(&scan(&one), &Bounds::NONE).unwrap();
    }
    let read = Text::read(&scan(&tangled.diff(&HashMap::new())), "text");
    assert!(matches!(read, Ok(_) | Err(NotText::Tangled)));
}

#[test]
fn what_is_no_text_is_not_read_as_if_it_were() {
    use yrs::{Array, ReadTxn};
    let doc = yrs::Doc::new();
    let array = doc.get_or_insert_array("text");
    array.push_back(&mut doc.transact_mut(), 1);
    let whole = doc.transact().encode_diff_v1(&yrs::StateVector::default());
    assert_eq!(Text::read(&scan(&whole), "text").unwrap_err(), NotText::Other);
    array.remove(&mut doc.transact_mut(), 0);
    let whole = doc.transact().encode_diff_v1(&yrs::StateVector::default());
    assert_eq!(read(&whole).content(), "", "what was deleted is not to be seen");
}
