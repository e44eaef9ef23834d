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
use crate::edit::Edit;
use crate::limits::{Limits, RETRY};
use crate::rooms::Rooms;
use crate::storage::{Storage, StorageError};
use crate::testing::{Call, Fault, MemoryStorage};
use crate::update::Update;

/// Longer than anything here may take.
const LONG: Duration = Duration::from_secs(3600);

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
    room.edit(move |_| (edit, ())).await
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
    assert!(timeout(LONG, &mut write).await.is_err());
    assert_eq!(contents(&room).await, ["1"], "reads go on");
    storage.mend(Call::Append);
    write.await.unwrap();
    let stored = storage.load("a").await.unwrap().unwrap();
    assert_eq!(stored.updates.len(), 1);
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
    assert!(mended.elapsed() <= RETRY);
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
    storage.append("a", vec![Bytes::from_static(&[0, 0])]).await.unwrap();
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

    fn settle(&mut self, _: &Arrays) -> Edit {
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
