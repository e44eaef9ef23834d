//! One socket in one room.
//!
//! The socket's task runs two loops at once: one reads frames and hands them to the room, waiting
//! while the room is busy, so that a writer who floods is read only as fast as the room can take
//! it; the other sends what the room put into the outbox. The first to end ends both. Frames are
//! scanned here, on the socket's own time, before the room sees them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::extract::ws::{CloseFrame, Message as Frame, WebSocket};
use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};

use crate::lib0::Malformed;
use crate::limits::Limits;
use crate::outbox::{Close, Next, Outbox};
use crate::protocol::Message;
use crate::room::{Command, ConnectionId, Room};
use crate::rooms::{Admission, Rooms};
use crate::update::{Update, read_state_vector};

/// Serves a socket until it ends, then takes it out of the room.
pub(crate) async fn serve(
    socket: WebSocket,
    room: Room,
    admission: Admission,
    may_write: bool,
    rooms: &Rooms,
) {
    let limits = rooms.limits();
    let connection = admission.connection();
    let outbox = Arc::new(Outbox::default());
    let join = Command::Join { connection, outbox: outbox.clone() };
    if room.send(join).await.is_err() {
        close(socket, Close::new(1011, "the room cannot be opened")).await;
        return;
    }
    let alive = AtomicBool::new(true);
    let (sink, stream) = socket.split();
    let reader = Reader { stream, room: &room, connection, may_write, alive: &alive };
    let writer = Writer { sink, room: &room, connection, outbox: &outbox, limits };
    let mut writing = std::pin::pin!(writer.run());
    let close = tokio::select! {
        close = reader.run() => Some(close),
        () = &mut writing => None,
        () = watch(&alive, rooms) => None,
    };
    let _ = room.send(Command::Leave { connection }).await;
    // The peer's fault is told to the peer; the writer sends it and what is queued, then ends.
    if let Some(Some(close)) = close {
        outbox.close(close);
        let _ = tokio::time::timeout(limits.close_timeout, writing).await;
    }
}

/// Ends when nothing came from the peer between two pings, or when the server stops and the peer
/// does not take the close that the room sends.
async fn watch(alive: &AtomicBool, rooms: &Rooms) {
    let limits = rooms.limits();
    let silence = async {
        loop {
            tokio::time::sleep(limits.ping_interval * 2).await;
            if !alive.swap(false, Ordering::Relaxed) {
                return;
            }
        }
    };
    tokio::select! {
        () = silence => {}
        () = rooms.stopping().cancelled() => tokio::time::sleep(limits.close_timeout).await,
    }
}

/// Closes a socket that was not let into a room.
pub(crate) async fn close(mut socket: WebSocket, close: Close) {
    let _ = socket.send(frame(close)).await;
}

fn frame(close: Close) -> Frame {
    let mut reason = close.reason;
    // The protocol allows 123 bytes.
    let mut end = reason.len().min(123);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    reason.truncate(end);
    Frame::Close(Some(CloseFrame { code: close.code, reason: reason.into() }))
}

struct Reader<'a> {
    stream: SplitStream<WebSocket>,
    room: &'a Room,
    connection: ConnectionId,
    may_write: bool,
    alive: &'a AtomicBool,
}

impl Reader<'_> {
    /// Reads until the socket ends (none) or must be closed.
    async fn run(mut self) -> Option<Close> {
        while let Some(Ok(frame)) = self.stream.next().await {
            self.alive.store(true, Ordering::Relaxed);
            let result = match frame {
                Frame::Binary(bytes) => self.handle(bytes).await,
                Frame::Text(_) => Err(Close::new(1003, "this protocol has binary messages only")),
                Frame::Ping(_) | Frame::Pong(_) => Ok(()),
                Frame::Close(_) => return None,
            };
            if let Err(close) = result {
                return Some(close);
            }
        }
        None
    }

    async fn handle(&self, frame: Bytes) -> Result<(), Close> {
        let malformed =
            |what: &str, error: Malformed| Close::new(1007, format!("malformed {what}: {error}"));
        let connection = self.connection;
        let command = match Message::read(&frame).map_err(|e| malformed("message", e))? {
            Message::Step1(vector) => {
                let peer = read_state_vector(&vector).map_err(|e| malformed("state vector", e))?;
                Command::Step1 { connection, peer }
            }
            Message::Update(bytes) => {
                let update = Update::scan(bytes).map_err(|e| malformed("Yjs update", e))?;
                if update.is_empty() {
                    return Ok(());
                }
                if !self.may_write {
                    return Err(Close::new(4403, "this room is read-only for you"));
                }
                Command::Update { connection, update }
            }
            Message::Awareness(states) => Command::Awareness { connection, states },
            Message::QueryAwareness => Command::QueryAwareness { connection },
            Message::SyncStatus(frame) => Command::SyncStatus { connection, frame },
            Message::Unknown(_) => return Ok(()),
        };
        let gone = |_| Close::new(1011, "the room cannot be opened");
        self.room.send(command).await.map_err(gone)
    }
}

struct Writer<'a> {
    sink: SplitSink<WebSocket, Frame>,
    room: &'a Room,
    connection: ConnectionId,
    outbox: &'a Outbox,
    limits: &'a Limits,
}

impl Writer<'_> {
    /// Sends until the socket ends or was closed.
    async fn run(mut self) {
        let mut ping = tokio::time::interval(self.limits.ping_interval);
        ping.tick().await;
        loop {
            let result = tokio::select! {
                next = self.outbox.next() => self.act(next).await,
                _ = ping.tick() => self.sink.send(Frame::Ping(Bytes::new())).await.is_ok(),
            };
            if !result {
                return;
            }
        }
    }

    /// False when the socket is done.
    async fn act(&mut self, next: Next) -> bool {
        match next {
            Next::Frames(frames) => {
                for frame in frames {
                    // Fed, not sent: one flush, and so mostly one write, for all of them.
                    if self.sink.feed(Frame::Binary(frame)).await.is_err() {
                        return false;
                    }
                }
                self.sink.flush().await.is_ok()
            }
            Next::CatchUp(knows) => {
                let connection = self.connection;
                self.room.send(Command::CatchUp { connection, knows }).await.is_ok()
            }
            Next::Close(close) => {
                let _ = self.sink.send(frame(close)).await;
                false
            }
        }
    }
}
