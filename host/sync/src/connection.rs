//! One socket in one room.
//!
//! The socket's task runs two loops at once: one reads frames and hands them to the room, waiting
//! while the room is busy, so that a writer who floods is read only as fast as the room can take
//! it; the other sends what the room put into the outbox. The first to end ends both. Frames are
//! scanned here, on the socket's own time, before the room sees them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use host_connections::Pace;
use hyper::upgrade::OnUpgrade;

use crate::author::Author;
use crate::authorizer::RoomAccess;
use crate::awareness::States;
use crate::budget::{CHARGED, Charge};
use crate::lib0::Malformed;
use crate::limits::{HEARTBEAT, Limits, VECTOR_BYTES};
use crate::outbox::{Next, Outbox};
use crate::protocol::{self, Message};
use crate::room::{Command, ConnectionId, Room};
use crate::rooms::{Admission, Rooms};
use crate::update::{Update, scan_state_vector};
use crate::websocket::{self, Close, Decoder, Incoming, ReadHalf, Taken, Violation, WriteHalf};

/// Serves a socket until it ends, then takes it out of the room.
pub(crate) async fn serve(
    upgrade: OnUpgrade,
    room: Room,
    admission: Admission,
    access: RoomAccess,
    rooms: &Rooms,
) {
    // The peer may have gone between its request and our answer.
    let Ok(upgraded) = upgrade.await else { return };
    let Ok(taken) = websocket::take(upgraded) else { return };
    run(taken, room, admission, access, rooms).await;
}

/// The same, on a connection that was taken over.
async fn run(taken: Taken, room: Room, admission: Admission, access: RoomAccess, rooms: &Rooms) {
    let limits = rooms.limits();
    let connection = admission.connection();
    let purse = admission.purse();
    let Taken { read: mut half, write: socket, first, pace } = taken;
    let decoder = Decoder::new(limits.frame_bytes, &first);
    // It is a part of the buffer that the request was read into, and would keep all of it.
    drop(first);
    let outbox = Arc::new(Outbox::new(socket, purse.clone()));
    let _registered = purse.budget().register(purse, &outbox);
    let join = Command::Join { connection, outbox: outbox.clone() };
    if Box::pin(room.send(join)).await.is_err() {
        let frame = websocket::close(&Close::new(1011, "the room cannot be opened"));
        return Box::pin(finish(&mut half, outbox.socket(), frame, limits)).await;
    }
    let alive = AtomicBool::new(true);
    let RoomAccess { account, right, over, .. } = access;
    let reader = Reader {
        half: &mut half,
        outbox: &outbox,
        decoder,
        pace: pace.anew(),
        partial: purse.charge(0),
        room: &room,
        connection,
        author: Author::new(account, right, "socket"),
        alive: &alive,
        limits,
    };
    let writer = Writer { room: &room, connection, outbox: &outbox, limits, pace };
    let mut writing = std::pin::pin!(writer.run());
    let ended = tokio::select! {
        close = reader.run() => Ended::Told(close),
        frame = &mut writing => Ended::Writing(frame),
        () = watch(&alive, rooms) => Ended::Silent,
        close = async { over.expect("checked").await }, if over.is_some() => {
            Ended::Told(Some(close))
        }
    };
    let _ = Box::pin(room.send(Command::Leave { connection })).await;
    let last = match ended {
        // After what is queued.
        Ended::Told(Some(close)) => {
            outbox.close(close);
            tokio::time::timeout(limits.close_timeout, writing).await.ok().flatten()
        }
        Ended::Writing(frame) => frame,
        Ended::Told(None) | Ended::Silent => None,
    };
    if let Some(frame) = last {
        Box::pin(finish(&mut half, outbox.socket(), frame, limits)).await;
    }
}

/// Why a socket is served no longer.
enum Ended {
    /// The peer is to be told why, unless it went away by itself.
    Told(Option<Close>),
    /// The socket broke, or this is the last that it is to be sent.
    Writing(Option<Bytes>),
    /// Nothing was heard of the peer for too long.
    Silent,
}

/// Writes the last frame and sees to it that the peer gets it.
async fn finish(half: &mut ReadHalf, socket: &WriteHalf, mut frame: Bytes, limits: &Limits) {
    let write = async {
        while !frame.is_empty() {
            match socket.try_write(std::iter::once(&frame), 0) {
                Ok(count) => drop(frame.split_to(count)),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    if socket.writable().await.is_err() {
                        return;
                    }
                }
                Err(_) => return,
            }
        }
        socket.shutdown();
        half.drain().await;
    };
    let _ = tokio::time::timeout(limits.close_timeout, write).await;
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
pub(crate) async fn refuse(upgrade: OnUpgrade, close: Close, limits: &Limits) {
    if let Ok(upgraded) = upgrade.await
        && let Ok(mut taken) = websocket::take(upgraded)
    {
        finish(&mut taken.read, &taken.write, websocket::close(&close), limits).await;
    }
}

struct Reader<'a> {
    half: &'a mut ReadHalf,
    outbox: &'a Outbox,
    decoder: Decoder,
    /// How long a message that has begun may take to come.
    pace: Pace,
    /// What is charged for a message that has not come as a whole.
    partial: Charge,
    room: &'a Room,
    connection: ConnectionId,
    author: Arc<Author>,
    alive: &'a AtomicBool,
    limits: &'a Limits,
}

impl Reader<'_> {
    /// Reads until the socket ends (none) or must be closed.
    async fn run(mut self) -> Option<Close> {
        loop {
            loop {
                let result = match self.decoder.next_frame() {
                    Ok(None) => break,
                    Ok(Some(Incoming::Binary(bytes))) => self.handle(bytes).await,
                    Ok(Some(Incoming::Text)) => {
                        Err(Close::new(1003, "this protocol has binary messages only"))
                    }
                    Ok(Some(Incoming::Ping(payload))) => {
                        self.outbox.control(websocket::pong(&payload));
                        self.outbox.flush();
                        Ok(())
                    }
                    Ok(Some(Incoming::Pong)) => Ok(()),
                    // The client keeps its connection: what it sends besides can be taken in, and it
                    // would only come back with the same.
                    Ok(Some(Incoming::TooLarge)) => {
                        let limit = self.limits.frame_bytes;
                        self.refuse(format_args!("a message is larger than {limit} bytes"));
                        Ok(())
                    }
                    // A close is answered with a close, and nothing after it is read.
                    Ok(Some(Incoming::Close(code))) => Err(Close::new(code, "")),
                    Err(Violation(code, what)) => Err(Close::new(code, what)),
                };
                if let Err(close) = result {
                    return Some(close);
                }
            }
            let held = self.decoder.held();
            self.partial.set(if held < CHARGED { 0 } else { held });
            let is_amid = self.decoder.is_amid();
            let decoder = &mut self.decoder;
            let read = self.half.read(|bytes| {
                decoder.push(bytes);
                bytes.len()
            });
            let read = tokio::select! {
                read = read => read,
                () = self.pace.spent(), if is_amid => {
                    return Some(Close::new(1008, "a message was sent too slowly"));
                }
            };
            match read {
                Ok(0) | Err(_) => return None,
                Ok(count) => {
                    self.pace.moved(count);
                    self.alive.store(true, Ordering::Relaxed);
                }
            }
        }
    }

    /// Tells the peer that something of it was not taken in.
    fn refuse(&self, why: impl std::fmt::Display) {
        self.outbox.refuse(websocket::binary(&protocol::refused(&format!("refused: {why}"))));
        self.outbox.flush();
    }

    async fn handle(&self, frame: Bytes) -> Result<(), Close> {
        let malformed =
            |what: &str, error: Malformed| Close::new(1007, format!("malformed {what}: {error}"));
        let connection = self.connection;
        // What is kept of it stays charged, wherever it goes.
        let frame = self.outbox.purse().own(frame);
        let command = match Message::read(&frame).map_err(|e| malformed("message", e))? {
            Message::Step1(vector) => {
                if vector.len() > VECTOR_BYTES {
                    self.refuse(format_args!("a state vector is larger than {VECTOR_BYTES} bytes"));
                    return Ok(());
                }
                scan_state_vector(&vector).map_err(|e| malformed("state vector", e))?;
                Command::Step1 { connection, vector }
            }
            Message::Update(bytes) => {
                let update = match Update::scan(bytes) {
                    Ok(update) => update,
                    // A client can hold that, though others could not read it.
                    Err(Malformed::Nesting) => {
                        self.refuse(Malformed::Nesting);
                        return Ok(());
                    }
                    Err(error) => return Err(malformed("Yjs update", error)),
                };
                if update.is_empty() {
                    return Ok(());
                }
                Command::Update { connection, update, author: self.author.clone() }
            }
            Message::Awareness(states) => {
                let states = States::scan(states).map_err(|e| malformed("awareness", e))?;
                Command::Awareness { connection, states }
            }
            Message::QueryAwareness => Command::QueryAwareness { connection },
            Message::SyncStatus(frame) => Command::SyncStatus { connection, frame },
            Message::Refusals => {
                let author = self.author.clone();
                Command::WantsRefusals { connection, author }
            }
            Message::Unknown(_) => return Ok(()),
        };
        match self.room.offer(command) {
            Ok(()) => Ok(()),
            // Rare, and boxed like all that a socket seldom waits for: its task is as large as the largest of it,
            // for as long as it lives.
            Err(command) => {
                let gone = |_| Close::new(1011, "the room cannot be opened");
                Box::pin(self.room.send(command)).await.map_err(gone)
            }
        }
    }
}

struct Writer<'a> {
    room: &'a Room,
    connection: ConnectionId,
    outbox: &'a Outbox,
    limits: &'a Limits,
    pace: Pace,
}

impl Writer<'_> {
    /// Sends until the socket ends (none), or until only this frame is left to be sent.
    async fn run(mut self) -> Option<Bytes> {
        let mut ping = tokio::time::interval(self.limits.ping_interval);
        let mut beat = tokio::time::interval(HEARTBEAT);
        ping.tick().await;
        beat.tick().await;
        loop {
            tokio::select! {
                next = self.outbox.next(&mut self.pace) => match next {
                    Next::CatchUp(knows) => {
                        let connection = self.connection;
                        Box::pin(self.outbox.purse().budget().room(self.room.size())).await;
                        let command = Command::CatchUp { connection, knows };
                        if Box::pin(self.room.send(command)).await.is_err() {
                            return None;
                        }
                    }
                    Next::Close(close) => return Some(websocket::close(&close)),
                    Next::End => return None,
                },
                _ = ping.tick() => {
                    self.outbox.control(websocket::ping());
                    self.outbox.flush();
                }
                _ = beat.tick() => {
                    self.outbox.beat();
                    self.outbox.flush();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
