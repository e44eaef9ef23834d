//! Rooms whose storage fails, stalls and lies. Time is paused, so that nothing waits for it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::json;
use tokio::time::{Instant, timeout};

use super::{Hooks, Model, Room, RoomError};
use crate::any::Any;
use crate::arrays::{ArrayChange, Arrays};
use crate::author::Author;
use crate::edit::Edit;
use crate::limits::{COMPACT_AGAIN, FAILING, Limits, RETRY_MOST, STALLED, UNSAVED_BYTES};
use crate::rooms::Rooms;
use crate::storage::{Storage, StorageError};
use crate::testing::{Call, Fault, MemoryStorage};
use crate::update::Update;

#[derive(Default)]
struct Log(Mutex<Vec<String>>);

impl Hooks for Log {
    fn created(&self, room: &str) {
        self.0.lock().push(format!("created {room}"));
    }

    fn evicted(&self, room: &str) {
        self.0.lock().push(format!("evicted {room}"));
    }
}

struct Server {
    storage: Arc<MemoryStorage>,
    log: Arc<Log>,
    rooms: Rooms,
}

fn server() -> Server {
    let (storage, log) = (Arc::new(MemoryStorage::default()), Arc::new(Log::default()));
    let rooms = Rooms::new(storage.clone(), Limits::default(), log.clone());
    Server { storage, log, rooms }
}

fn broken() -> StorageError {
    StorageError::Failed("broken".into())
}

async fn push(room: &Room, value: &str) -> Result<(), RoomError> {
    let edit = Edit { pushes: vec![("kv".into(), Any::of(&json!(value)))], ..Edit::default() };
    room.edit(Author::server(), move |_| (edit, ())).await
}

async fn contents(room: &Room) -> Vec<String> {
    let document = room.snapshot().await.unwrap();
    let update = Update::scan(document).unwrap();
    let mut store = crate::store::Store::default();
    store.apply(&update, &crate::store::Bounds::NONE).unwrap();
    let mut values = Vec::new();
    crate::Arrays::load(&store, &mut |change| {
        if let crate::ArrayChange::Inserted { value, .. } = change {
            values.push(value.json().unwrap().as_str().unwrap().to_owned());
        }
    });
    values.sort();
    values
}

#[tokio::test(start_paused = true)]
async fn nothing_is_acknowledged_before_storage_has_it() {
    let Server { storage, rooms, .. } = server();
    let room = rooms.open("a").unwrap();
    storage.inject(Call::Append, Fault::Stalls);
    let mut write = std::pin::pin!(push(&room, "1"));
    assert!(timeout(FAILING, &mut write).await.is_err());
    assert_eq!(contents(&room).await, ["1"], "reads go on");
    storage.mend(Call::Append);
    write.await.unwrap();
    let stored = storage.load("a").await.unwrap().unwrap();
    assert_eq!(stored.updates.len(), 1);
}

/// Writes until storage is known to fail, and gives the error.
async fn fails(room: &Room) -> RoomError {
    let started = Instant::now();
    let error = push(room, "first").await.unwrap_err();
    assert!(started.elapsed() >= FAILING && started.elapsed() <= STALLED + RETRY_MOST, "{error}");
    error
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_for_storage_that_stalls_or_fails_is_told_after_seconds() {
    let full = || StorageError::Full("no space".into());
    for fault in [Fault::Stalls, Fault::Fails(broken()), Fault::Fails(full())] {
        let Server { storage, rooms, .. } = server();
        let room = rooms.open("a").unwrap();
        storage.inject(Call::Append, fault.clone());
        let error = fails(&room).await;
        assert!(matches!(&error, RoomError::Unsaved { .. }), "{error}");
        assert_eq!(
            matches!(&error, RoomError::Unsaved { source: StorageError::Full(_), .. }),
            fault == Fault::Fails(full())
        );
        // From now on nothing is changed that would not be saved, and nobody waits to hear it.
        let asked = Instant::now();
        let error = push(&room, "second").await.unwrap_err();
        assert!(matches!(&error, RoomError::Storage { .. }), "{error}");
        assert_eq!(asked.elapsed(), Duration::ZERO);
        assert_eq!(contents(&room).await, ["first"], "reads go on");
        // It recovers by itself, and what was not acknowledged is saved after all.
        storage.mend(Call::Append);
        tokio::time::sleep(RETRY_MOST).await;
        push(&room, "third").await.unwrap();
        let again = Rooms::new(storage, Limits::default(), Arc::new(()));
        assert_eq!(contents(&again.open("a").unwrap()).await, ["first", "third"]);
    }
}

#[tokio::test(start_paused = true)]
async fn storage_that_fails_is_tried_ever_less_often() {
    let Server { storage, rooms, .. } = server();
    let room = rooms.open("a").unwrap();
    storage.inject(Call::Append, Fault::Fails(broken()));
    fails(&room).await;
    let before = storage.calls(Call::Append);
    tokio::time::sleep(RETRY_MOST * 100).await;
    let tries = storage.calls(Call::Append) - before;
    assert!((99..=101).contains(&tries), "{tries}");
}

#[tokio::test(start_paused = true)]
async fn a_compaction_that_fails_is_not_repeated_with_every_write() {
    let Server { storage, rooms, .. } = server();
    let room = rooms.open("a").unwrap();
    storage.inject(Call::Compact, Fault::Fails(broken()));
    let large = "x".repeat(crate::limits::COMPACT_BYTES);
    for _ in 0..100 {
        push(&room, &large).await.unwrap();
    }
    assert_eq!(storage.calls(Call::Compact), 1);
    tokio::time::sleep(COMPACT_AGAIN).await;
    storage.mend(Call::Compact);
    push(&room, "1").await.unwrap();
    storage.called(Call::Compact, 2).await;
    push(&room, "2").await.unwrap();
    assert_eq!(storage.load("a").await.unwrap().unwrap().updates.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_room_that_cannot_be_saved_stays_in_memory() {
    for fault in [Fault::Stalls, Fault::Fails(broken())] {
        let Server { storage, rooms, log } = server();
        let room = rooms.open("a").unwrap();
        storage.inject(Call::Append, fault);
        fails(&room).await;
        drop(room);
        tokio::time::sleep(rooms.limits().idle_timeout * 3).await;
        assert_eq!(contents(&rooms.open("a").unwrap()).await, ["first"], "it can be read");
        tokio::time::sleep(rooms.limits().idle_timeout * 3).await;
        assert_eq!(*log.0.lock(), ["created a"]);
        // It leaves once it is saved.
        storage.mend(Call::Append);
        tokio::time::sleep(RETRY_MOST).await;
        assert_eq!(*log.0.lock(), ["created a", "evicted a"]);
        assert_eq!(contents(&rooms.open("a").unwrap()).await, ["first"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_room_that_cannot_be_compacted_leaves_memory_all_the_same() {
    let Server { storage, rooms, log } = server();
    let room = rooms.open("a").unwrap();
    push(&room, "1").await.unwrap();
    storage.inject(Call::Compact, Fault::Fails(broken()));
    drop(room);
    tokio::time::sleep(rooms.limits().idle_timeout * 2).await;
    assert_eq!(*log.0.lock(), ["created a", "evicted a"]);
    assert_eq!(contents(&rooms.open("a").unwrap()).await, ["1"]);
}

#[tokio::test(start_paused = true)]
async fn a_stop_does_not_wait_for_storage_for_ever() {
    for fault in [Fault::Stalls, Fault::Fails(broken())] {
        for call in [Call::Append, Call::Compact, Call::Load] {
            let Server { storage, rooms, .. } = server();
            let room = rooms.open("a").unwrap();
            if call != Call::Load {
                push(&room, "1").await.unwrap();
            }
            storage.inject(call, fault.clone());
            let large = "x".repeat(crate::limits::COMPACT_BYTES);
            let mut write = std::pin::pin!(push(&room, &large));
            // A write that waits for storage; or, with compaction, none that does.
            let _ = timeout(Duration::from_millis(1), &mut write).await;
            let started = Instant::now();
            rooms.shutdown().await;
            let took = started.elapsed();
            assert!(
                took <= rooms.limits().close_timeout + Duration::from_millis(2),
                "{call:?}: {took:?}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn sockets_keep_their_updates_while_too_much_is_unsaved_and_reads_go_on() {
    let Server { storage, rooms, .. } = server();
    let room = rooms.open("a").unwrap();
    storage.inject(Call::Append, Fault::Stalls);
    let text = "x".repeat(UNSAVED_BYTES / 4);
    let mut sent = 0;
    for client in 1..10 {
        let update = crate::testing::text_update(client, &text);
        let command = super::Command::Update { connection: 1, update, author: Author::server() };
        let Ok(result) = timeout(Duration::from_secs(1), room.send(command)).await else { break };
        result.unwrap();
        // The room has taken it when it answers.
        room.presence().await.unwrap();
        sent += 1;
    }
    assert!((4..=5).contains(&sent), "{sent}");
    assert!(room.snapshot().await.unwrap().len() >= UNSAVED_BYTES);
    storage.mend(Call::Append);
    let update = crate::testing::text_update(10, &text);
    room.send(super::Command::Update { connection: 1, update, author: Author::server() })
        .await
        .unwrap();
}

fn small(limit: usize) -> (Arc<MemoryStorage>, Rooms) {
    let storage = Arc::new(MemoryStorage::default());
    let limits = Limits { rooms: limit, ..Limits::default() };
    (storage.clone(), Rooms::new(storage, limits, Arc::new(())))
}

#[tokio::test(start_paused = true)]
async fn rooms_that_nobody_uses_give_way_when_there_is_no_place() {
    let (_, rooms) = small(3);
    for id in ["a", "b", "c"] {
        push(&rooms.open(id).unwrap(), id).await.unwrap();
    }
    // The one that was used least recently gives way.
    let a = rooms.open("a").unwrap();
    contents(&a).await;
    let d = rooms.open("d").unwrap();
    let names: Vec<_> = rooms.list(|id| Some(crate::RoomName { id: id.into(), owner: None }));
    let names: Vec<_> = names.into_iter().map(|room| room.name.id).collect();
    assert_eq!(names, ["a", "c", "d"]);
    let e = rooms.open("e").unwrap();
    assert!(rooms.open("f").is_err(), "all are in use");
    drop((a, d, e));
    tokio::time::sleep(Duration::from_millis(1)).await;
    // Nothing of them is lost.
    for id in ["a", "b", "c"] {
        assert_eq!(contents(&rooms.open(id).unwrap()).await, [id]);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_room_with_unsaved_changes_does_not_give_way() {
    let (storage, rooms) = small(1);
    storage.inject(Call::Append, Fault::Fails(broken()));
    fails(&rooms.open("a").unwrap()).await;
    assert!(rooms.open("b").is_err());
    storage.mend(Call::Append);
    tokio::time::sleep(RETRY_MOST).await;
    drop(rooms.open("b").unwrap());
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(contents(&rooms.open("a").unwrap()).await, ["first"]);
}

#[tokio::test(start_paused = true)]
async fn a_room_in_which_nothing_is_stored_leaves_with_the_last_who_was_in_it() {
    let Server { rooms, log, .. } = server();
    for _ in 0..2 {
        let room = rooms.open("a").unwrap();
        contents(&room).await;
        drop(room);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(*log.0.lock(), ["created a", "evicted a", "created a", "evicted a"]);
}

#[tokio::test(start_paused = true)]
async fn a_write_that_fails_is_tried_again_until_it_succeeds() {
    let Server { storage, rooms, .. } = server();
    let room = rooms.open("a").unwrap();
    storage.inject(Call::Append, Fault::Fails(broken()));
    let mend = async {
        storage.called(Call::Append, 3).await;
        storage.mend(Call::Append);
        Instant::now()
    };
    let (written, mended) = tokio::join!(push(&room, "1"), mend);
    written.unwrap();
    assert!(mended.elapsed() <= RETRY_MOST);
    assert_eq!(storage.calls(Call::Append), 4);
}

#[tokio::test(start_paused = true)]
async fn an_update_that_was_written_twice_counts_once() {
    let Server { storage, rooms, .. } = server();
    let room = rooms.open("a").unwrap();
    storage.inject(Call::Append, Fault::FailsAfterwards(broken()));
    let mend = async {
        storage.called(Call::Append, 2).await;
        storage.mend(Call::Append);
    };
    let (written, ()) = tokio::join!(push(&room, "1"), mend);
    written.unwrap();
    drop(room);
    rooms.shutdown().await;
    assert!(storage.load("a").await.unwrap().unwrap().updates.len() >= 2);
    let rooms = Rooms::new(storage, Limits::default(), Arc::new(()));
    assert_eq!(contents(&rooms.open("a").unwrap()).await, ["1"]);
}

#[tokio::test(start_paused = true)]
async fn a_room_that_nobody_uses_is_compacted_and_leaves_memory() {
    let Server { storage, log, rooms } = server();
    let room = rooms.open("a").unwrap();
    for value in ["1", "2"] {
        push(&room, value).await.unwrap();
    }
    drop(room);
    storage.called(Call::Compact, 1).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(rooms.list(|id| Some(crate::RoomName { id: id.into(), owner: None })).is_empty());
    assert_eq!(storage.load("a").await.unwrap().unwrap().updates.len(), 1);
    assert_eq!(contents(&rooms.open("a").unwrap()).await, ["1", "2"]);
    assert_eq!(*log.0.lock(), ["created a", "evicted a", "created a"]);
}

#[tokio::test(start_paused = true)]
async fn a_room_that_is_opened_while_it_compacts_stays() {
    let Server { storage, rooms, log } = server();
    let room = rooms.open("a").unwrap();
    push(&room, "1").await.unwrap();
    drop(room);
    storage.inject(Call::Compact, Fault::Stalls);
    storage.called(Call::Compact, 1).await;
    let room = rooms.open("a").unwrap();
    storage.mend(Call::Compact);
    push(&room, "2").await.unwrap();
    assert_eq!(contents(&room).await, ["1", "2"]);
    assert_eq!(*log.0.lock(), ["created a"]);
}

#[tokio::test(start_paused = true)]
async fn a_room_that_cannot_be_loaded_says_so_and_can_be_opened_later() {
    let Server { storage, rooms, .. } = server();
    storage.append("a", vec![Bytes::from_static(&[0, 0])].into()).await.unwrap();
    storage.inject(Call::Load, Fault::Fails(broken()));
    let room = rooms.open("a").unwrap();
    let error = room.snapshot().await.unwrap_err();
    assert!(error.to_string().contains("broken"), "{error}");
    storage.mend(Call::Load);
    tokio::task::yield_now().await;
    assert!(contents(&rooms.open("a").unwrap()).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_stop_saves_what_nobody_waited_for() {
    let Server { storage, rooms, .. } = server();
    let room = rooms.open("a").unwrap();
    let writing = push(&room, "1");
    tokio::select! {
        biased;
        result = writing => panic!("{result:?}"),
        () = std::future::ready(()) => {}
    }
    rooms.shutdown().await;
    assert_eq!(storage.load("a").await.unwrap().unwrap().updates.len(), 1);
    assert!(matches!(room.snapshot().await, Err(RoomError::Closed { .. })));
}

#[tokio::test]
async fn what_is_pushed_while_nobody_follows_the_arrays_goes_to_the_end() {
    use yrs::updates::decoder::Decode;
    use yrs::{Array, Doc, ReadTxn, Transact, Update};

    let server = server();
    let room = server.rooms.open("a").unwrap();
    for value in ["one", "two", "three"] {
        push(&room, value).await.unwrap();
    }
    let document = room.snapshot().await.unwrap();
    let doc = Doc::new();
    doc.transact_mut().apply_update(Update::decode_v1(&document).unwrap()).unwrap();
    let txn = doc.transact();
    let array = txn.get_array("kv").unwrap();
    let values: Vec<_> = array.iter(&txn).map(|value| value.to_string(&txn)).collect();
    assert_eq!(values, ["one", "two", "three"]);
}

/// Answers each element with one that is larger than the document may become.
struct Greedy(bool);

impl Model for Greedy {
    fn change(&mut self, _: ArrayChange) {
        self.0 = true;
    }

    fn settle(&mut self, _: &Arrays, _: &Arc<Author>) -> Edit {
        let value = Any::of(&json!("x".repeat(10_000)));
        let pushes = if std::mem::take(&mut self.0) { vec![("kv".into(), value)] } else { vec![] };
        Edit { pushes, ..Edit::default() }
    }
}

#[tokio::test(start_paused = true)]
async fn an_update_stands_though_the_edit_that_follows_it_has_no_room() {
    let storage = Arc::new(MemoryStorage::default());
    let limits = Limits { document_bytes: 1_000, ..Limits::default() };
    let rooms = Rooms::new(storage, limits, Arc::new(()));
    let room = rooms.open("a").unwrap();
    room.attach(Box::new(Greedy(false))).await.unwrap();
    push(&room, "1").await.expect("it was taken in");
    assert_eq!(contents(&room).await, ["1"]);
}

/// Notes how many elements it has seen.
struct Counting(Arc<Mutex<usize>>);

impl Model for Counting {
    fn recall(&mut self, notes: &crate::storage::Notes) {
        let count = notes.get(&b"count"[..]).map_or(0, |count| usize::from(count[0]));
        *self.0.lock() = count;
    }

    fn change(&mut self, _: ArrayChange) {
        *self.0.lock() += 1;
    }

    fn settle(&mut self, _: &Arrays, _: &Arc<Author>) -> Edit {
        Edit::default()
    }

    fn notes(&mut self) -> Vec<crate::storage::Note> {
        vec![(Bytes::from("count"), Some(vec![*self.0.lock() as u8].into()))]
    }
}

#[tokio::test(start_paused = true)]
async fn notes_are_saved_with_the_update_that_changed_them_also_where_storage_fails_first() {
    let Server { storage, rooms, .. } = server();
    let room = rooms.open("a").unwrap();
    let seen = Arc::new(Mutex::new(0));
    room.attach(Box::new(Counting(seen.clone()))).await.unwrap();
    push(&room, "1").await.unwrap();
    storage.inject(Call::Append, Fault::Fails(broken()));
    push(&room, "2").await.expect_err("it is not saved");
    let stored = storage.load("a").await.unwrap().unwrap();
    assert_eq!((stored.updates.len(), stored.notes[&b"count"[..]][0]), (1, 1));
    storage.mend(Call::Append);
    room.note(vec![("other".into(), Some("x".into()))]).await.unwrap();
    let stored = storage.load("a").await.unwrap().unwrap();
    assert_eq!((stored.updates.len(), stored.notes[&b"count"[..]][0]), (2, 2));
    assert_eq!(stored.notes[&b"other"[..]], "x");

    // Whoever follows the arrays next is told the notes first, then everything that is there.
    room.attach(Box::new(Counting(seen.clone()))).await.unwrap();
    assert_eq!(*seen.lock(), 4);
}

#[tokio::test]
async fn an_account_has_a_bounded_number_of_sockets_wherever_they_come_from() {
    let limits = Limits { connections_per_account: 2, ..Limits::default() };
    let rooms = Rooms::new(Arc::new(MemoryStorage::default()), limits, Arc::new(()));
    let address = |last| Some(std::net::IpAddr::from([127, 0, 0, last]));
    let first = rooms.admit(address(1), Some("ann")).unwrap();
    let _second = rooms.admit(address(2), Some("ann")).unwrap();
    let error = rooms.admit(address(3), Some("ann")).err().expect("one too many").to_string();
    assert_eq!(error, "2 connections are open of this account, and that is the limit");
    let _others =
        [rooms.admit(address(3), Some("bob")), rooms.admit(address(3), None)].map(Result::unwrap);
    drop(first);
    assert!(rooms.admit(address(3), Some("ann")).is_ok(), "one was closed");
}
