//! Sockets as a client sees them. Time is paused, so that ten minutes take none.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::{Instant, timeout};

use super::*;
use crate::any::Any;
use crate::edit::Edit;
use crate::lib0::{Reader, write_bytes, write_var};
use crate::protocol::{awareness, step_1, update};
use crate::testing::MemoryStorage;
use crate::update::Id;

/// A client's end of a socket.
struct Client {
    stream: UnixStream,
    read: Vec<u8>,
}

/// What a client reads.
#[derive(Debug, PartialEq, Eq)]
enum Heard {
    Message(Vec<u8>),
    Ping,
    Close(u16, String),
    End,
}

fn server(limits: Limits) -> Rooms {
    Rooms::new(Arc::new(MemoryStorage::default()), limits, Arc::new(()))
}

impl Client {
    /// Joins a room, and reads the step 1 that it is met with.
    async fn join(rooms: &Rooms, room: &str) -> Self {
        let (ours, stream) = UnixStream::pair().unwrap();
        ours.writable().await.unwrap();
        let (read, write) = ours.into_split();
        let (read, write) = (ReadHalf::Pipe(read), WriteHalf::Pipe(write));
        let pace = Pace::new(&host_connections::Limits::default());
        let taken = Taken { read, write, first: Bytes::new(), pace };
        let (room, admission) = (rooms.open(room).unwrap(), rooms.admit(None, None).unwrap());
        let access = RoomAccess::open(room.id());
        let rooms = rooms.clone();
        tokio::spawn(async move {
            run(taken, room, admission, access, &rooms).await;
        });
        let mut client = Self { stream, read: Vec::new() };
        assert_eq!(client.message().await[..2], [0, 0]);
        client
    }

    async fn send(&mut self, message: &[u8]) {
        self.frame(2, message).await;
    }

    async fn frame(&mut self, kind: u8, payload: &[u8]) {
        let mut frame = vec![0x80 | kind, 0xff];
        frame.extend_from_slice(&(payload.len() as u64).to_be_bytes());
        frame.extend_from_slice(&[0; 4]);
        if payload.len() < 126 {
            frame = vec![0x80 | kind, 0x80 | payload.len() as u8, 0, 0, 0, 0];
        }
        frame.extend_from_slice(payload);
        self.stream.write_all(&frame).await.unwrap();
    }

    /// The next that the server says.
    async fn hear(&mut self) -> Heard {
        loop {
            if let Some(heard) = self.heard() {
                return heard;
            }
            if self.stream.read_buf(&mut self.read).await.unwrap() == 0 {
                return Heard::End;
            }
        }
    }

    fn heard(&mut self) -> Option<Heard> {
        let [first, second, rest @ ..] = &self.read[..] else { return None };
        let (head, length) = match second {
            126 => (4, u16::from_be_bytes(*rest.first_chunk()?) as usize),
            127 => (10, u64::from_be_bytes(*rest.first_chunk()?) as usize),
            length => (2, *length as usize),
        };
        let payload = self.read.get(head..head + length)?.to_vec();
        let kind = first & 0xf;
        self.read.drain(..head + length);
        Some(match kind {
            8 => {
                let code = u16::from_be_bytes([payload[0], payload[1]]);
                Heard::Close(code, String::from_utf8(payload[2..].to_vec()).unwrap())
            }
            9 => Heard::Ping,
            _ => Heard::Message(payload),
        })
    }

    /// The next message. Pings are answered.
    async fn message(&mut self) -> Vec<u8> {
        loop {
            match self.hear().await {
                Heard::Message(message) => return message,
                Heard::Ping => self.frame(10, b"").await,
                other => panic!("{other:?}"),
            }
        }
    }

    /// Reads what is there, and says whether the connection ends then.
    async fn ends(&mut self) -> bool {
        loop {
            match timeout(Duration::from_secs(1), self.stream.read_buf(&mut self.read)).await {
                Err(_) => return false,
                Ok(Ok(0) | Err(_)) => return true,
                Ok(Ok(_)) => {}
            }
        }
    }

    /// The next message, which must be presence.
    async fn presence(&mut self) -> Vec<(u64, u64, String)> {
        let message = self.message().await;
        let mut reader = Reader::new(&message);
        assert_eq!(reader.var(), Ok(1), "{message:?}");
        let mut reader = Reader::new(reader.bytes().unwrap());
        let count = reader.var().unwrap();
        let state = |_| {
            let (client, clock) = (reader.var().unwrap(), reader.var().unwrap());
            (client, clock, reader.string().unwrap().to_owned())
        };
        (0..count).map(state).collect()
    }

    /// The next message, which must say why something was refused.
    async fn refusal(&mut self) -> String {
        let message = self.message().await;
        let mut reader = Reader::new(&message);
        assert_eq!((reader.var(), reader.var()), (Ok(2), Ok(0)), "{message:?}");
        reader.string().unwrap().to_owned()
    }
}

fn states(states: &[(u64, u64, &str)]) -> Bytes {
    let mut out = Vec::new();
    write_var(&mut out, states.len() as u64);
    for (client, clock, json) in states {
        write_var(&mut out, *client);
        write_var(&mut out, *clock);
        write_bytes(&mut out, json.as_bytes());
    }
    awareness(&out)
}

fn owned(list: &[(u64, u64, &str)]) -> Vec<(u64, u64, String)> {
    list.iter().map(|(client, clock, json)| (*client, *clock, json.to_string())).collect()
}

/// An update in which a client pushes text, of which it has `clock` already.
fn text(client: u64, clock: u32, size: usize) -> Vec<u8> {
    let first = Id { client, clock };
    let value = Any::of(&json!("x".repeat(size)));
    let before = clock.checked_sub(1).map(|clock| Id { client, clock });
    let edit = Edit { pushes: vec![("kv".into(), value)], ..Edit::default() };
    let written = edit.write(first, |_| before).unwrap().unwrap();
    update(written.bytes()).to_vec()
}

#[tokio::test(start_paused = true)]
async fn one_who_returns_is_told_of_its_removal_and_is_seen_again() {
    let rooms = server(Limits::default());
    let mut other = Client::join(&rooms, "a").await;
    let mut client = Client::join(&rooms, "a").await;
    client.send(&states(&[(7, 3, "{}")])).await;
    assert_eq!(other.presence().await, owned(&[(7, 3, "{}")]));
    drop(client);
    assert_eq!(other.presence().await, owned(&[(7, 4, "null")]));
    let mut client = Client::join(&rooms, "a").await;
    client.send(&states(&[(7, 3, "{}")])).await;
    // `y-protocols` then raises its clock above that of the removal.
    assert_eq!(client.presence().await, owned(&[(7, 4, "null")]));
    client.send(&states(&[(7, 5, "{}")])).await;
    assert_eq!(other.presence().await, owned(&[(7, 5, "{}")]), "and nothing before it");
    // Who only repeats what it heard brings nobody back.
    drop(client);
    assert_eq!(other.presence().await, owned(&[(7, 6, "null")]));
    other.send(&states(&[(7, 5, "{}")])).await;
    assert_eq!(other.presence().await, owned(&[(7, 6, "null")]));
    assert!(rooms.open("a").unwrap().presence().await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn one_who_is_alone_and_says_nothing_hears_something_all_the_time() {
    let rooms = server(Limits::default());
    let mut client = Client::join(&rooms, "a").await;
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(600) {
        // `y-websocket` gives up after 30 seconds.
        let heard = timeout(Duration::from_secs(28), client.presence()).await;
        assert_eq!(heard.expect("something is heard in time"), []);
    }
}

#[tokio::test(start_paused = true)]
async fn who_hears_others_hears_no_beat_besides() {
    let rooms = server(Limits::default());
    let mut client = Client::join(&rooms, "a").await;
    let mut other = Client::join(&rooms, "a").await;
    for clock in 1..20 {
        other.send(&states(&[(7, clock, "{}")])).await;
        assert_eq!(client.presence().await, owned(&[(7, clock, "{}")]));
        tokio::time::sleep(Duration::from_secs(10)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_too_large_is_refused_and_its_client_is_not() {
    let rooms = server(Limits { frame_bytes: 1000, ..Limits::default() });
    let mut client = Client::join(&rooms, "a").await;
    let mut other = Client::join(&rooms, "a").await;
    client.send(&[102, 1, 1]).await;
    assert_eq!(client.message().await, [102, 1, 1]);
    client.send(&text(5, 0, 1000)).await;
    let why = client.refusal().await;
    assert!(why.contains("larger than 1000 bytes"), "{why}");
    let small = text(6, 0, 10);
    client.send(&small).await;
    assert_eq!(other.message().await, small, "what it sends besides is taken in");
    other.send(&text(9, 0, 10)).await;
    assert_eq!(client.message().await, text(9, 0, 10));
    client.send(&[102, 1, 2]).await;
    assert_eq!(client.presence().await, [], "it is answered, and not told that all is saved");
    other.send(&[102, 1, 2]).await;
    assert_eq!(other.message().await, [102, 1, 2]);
}

#[tokio::test(start_paused = true)]
async fn what_a_full_document_does_not_hold_is_refused_and_its_client_is_not() {
    let rooms = server(Limits { document_bytes: 4096, ..Limits::default() });
    let mut client = Client::join(&rooms, "a").await;
    let mut other = Client::join(&rooms, "a").await;
    client.send(&text(5, 0, 10_000)).await;
    let why = client.refusal().await;
    assert!(why.contains("the document is full"), "{why}");
    let small = text(6, 0, 10);
    client.send(&small).await;
    assert_eq!(other.message().await, small);
    client.send(&step_1(&[0])).await;
    assert_eq!(client.message().await[..2], [0, 1]);
    client.send(&[102, 1, 2]).await;
    assert_eq!(client.presence().await, [], "it is answered, and not told that all is saved");
}

#[tokio::test(start_paused = true)]
async fn presence_over_a_limit_is_refused_and_malformed_presence_closes() {
    let rooms = server(Limits::default());
    let mut client = Client::join(&rooms, "a").await;
    let mut other = Client::join(&rooms, "a").await;
    let large = format!("\"{}\"", "x".repeat(64 * 1024));
    client.send(&states(&[(7, 1, &large), (8, 1, "{}")])).await;
    let why = client.refusal().await;
    assert!(why.contains("awareness state has 65538 bytes"), "{why}");
    assert_eq!(other.presence().await, owned(&[(8, 1, "{}")]));
    client.send(&[102, 1, 2]).await;
    assert_eq!(client.message().await, [102, 1, 2], "presence is not saved anyway");
    client.send(&states(&[(7, 1, "{oops")])).await;
    let Heard::Close(1007, why) = client.hear().await else { panic!("it is not closed") };
    assert!(why.contains("malformed awareness"), "{why}");
}

/// Bytes that connections make the server hold.
fn held(rooms: &Rooms) -> usize {
    rooms.purse(None).budget().held()
}

/// A step 1 of one who has so much of a client.
fn has(client: u64, clock: u64) -> Bytes {
    let mut vector = vec![1];
    write_var(&mut vector, client);
    write_var(&mut vector, clock);
    step_1(&vector)
}

/// Lets everything that can happen now happen.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

#[tokio::test(start_paused = true)]
async fn presence_is_answered_once_however_often_it_is_asked_for() {
    let rooms = server(Limits::default());
    let mut other = Client::join(&rooms, "a").await;
    let mut client = Client::join(&rooms, "a").await;
    other.send(&states(&[(7, 1, "{}")])).await;
    assert_eq!(client.presence().await, owned(&[(7, 1, "{}")]));
    client.stream.write_all(&[0x82, 0x81, 0, 0, 0, 0, 3].repeat(100)).await.unwrap();
    client.send(&[102, 1, 2]).await;
    assert_eq!(client.presence().await, owned(&[(7, 1, "{}")]));
    assert_eq!(client.message().await, [102, 1, 2], "and not another time");
}

#[tokio::test(start_paused = true)]
async fn those_who_do_not_read_share_what_they_are_sent() {
    const MIB: usize = 1024 * 1024;
    let rooms = server(Limits::default());
    let mut writer = Client::join(&rooms, "a").await;
    writer.send(&text(5, 0, 4 * MIB)).await;
    let presence = format!("\"{}\"", "x".repeat(60_000));
    let crowd: Vec<_> = (0..40).map(|id| (id, 1, presence.as_str())).collect();
    writer.send(&states(&crowd)).await;
    let mut stalled = Vec::new();
    for id in 0..50 {
        let mut client = Client::join(&rooms, "a").await;
        client.send(&has(1000 + id, 0)).await;
        client.send(&[3]).await;
        stalled.push(client);
    }
    settle().await;
    assert!(held(&rooms) < 12 * MIB, "{}", held(&rooms));
    // Each of them gets all of it, once it reads.
    let client = &mut stalled[49];
    assert_eq!(client.presence().await.len(), 40);
    let document = client.message().await;
    assert!(document[..2] == [0, 1] && document.len() > 4 * MIB);
    drop((stalled, writer));
    settle().await;
    assert!(held(&rooms) < 8 * MIB, "{}", held(&rooms));
}

#[tokio::test(start_paused = true)]
async fn whoever_owes_most_is_ended_and_others_are_served() {
    const KIB: usize = 1024;
    let limit = 6 * 1024 * KIB;
    let rooms = server(Limits { held_bytes: limit, ..Limits::default() });
    let mut writer = Client::join(&rooms, "a").await;
    for clock in 0..32 {
        writer.send(&text(5, clock, 64 * KIB)).await;
    }
    // Each of them has another part of the document, so none of them can share an answer.
    let mut stalled = Vec::new();
    for clock in 1..16 {
        let mut client = Client::join(&rooms, "a").await;
        client.send(&has(5, clock)).await;
        stalled.push(client);
        settle().await;
        assert!(held(&rooms) <= limit, "{}", held(&rooms));
    }
    let mut client = Client::join(&rooms, "a").await;
    client.send(&has(5, 20)).await;
    let answer = timeout(Duration::from_secs(6), client.message()).await.expect("it is served");
    assert!(answer[..2] == [0, 1] && answer.len() > 12 * 64 * KIB);
    let mut ended = 0;
    for mut client in stalled {
        ended += client.ends().await as usize;
    }
    assert!(ended >= 8, "{ended} were ended");
}

#[tokio::test(start_paused = true)]
async fn a_message_that_does_not_come_on_ends_its_socket() {
    let rooms = server(Limits::default());
    let mut client = Client::join(&rooms, "a").await;
    let began = Instant::now();
    // Of a message of 4096 bytes a few come now and then.
    client.stream.write_all(&[0x82, 0xfe, 0x10, 0, 0, 0, 0, 0, 7]).await.unwrap();
    let why = loop {
        match timeout(Duration::from_secs(5), client.hear()).await {
            Err(_) => client.stream.write_all(&[7]).await.unwrap(),
            Ok(Heard::Close(1008, why)) => break why,
            Ok(Heard::Message(_) | Heard::Ping) => {}
            Ok(other) => panic!("{other:?}"),
        }
    };
    assert!(why.contains("too slowly"), "{why}");
    assert!((30..40).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    // One who is silent between two messages is not slow.
    let mut client = Client::join(&rooms, "a").await;
    for clock in 1..10 {
        assert_eq!(client.presence().await, []);
        client.send(&states(&[(7, clock, "{}")])).await;
    }
}

/// Of 100,000 idle sockets each byte here is 100 KB. What a socket seldom waits for is boxed where it does.
#[test]
fn the_task_of_a_socket_is_small() {
    use super::*;
    fn size<F>(_: fn(OnUpgrade, Room, Admission, RoomAccess, &'static Rooms) -> F) -> usize {
        size_of::<F>()
    }
    assert!(size(serve) <= 2_700, "{} bytes", size(serve));
}
