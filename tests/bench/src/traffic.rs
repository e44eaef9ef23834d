//! Writers and receivers: what it costs a server to pass updates on, and how long they take.
//!
//! A *delivery* is one update received by one client other than its writer, whether it came alone
//! or merged with others. Every client checks that it receives every writer's updates, each once,
//! in order and with its content. In the end a new client joins each room and must be given the
//! same, and in the first room yrs makes documents of what two clients received and of what the
//! new one was given, which must be equal.
//!
//! A writer with a *window* sends as fast as it may: an update is in flight from the moment it is
//! sent until every other client of its room has received it, and at most so many of a writer's
//! updates are in flight at once.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use yrs::updates::decoder::Decode;
use yrs::{Array, Doc, Transact, Update};

use crate::client::Client;
use crate::report::Sample;
use crate::server::{Running, Usage};
use crate::socket::{SocketWriter, write_frame};
use crate::wire::{self, ARRAY, Dialect, Message};

/// How long the last updates may take to arrive after the writers have stopped.
const DRAIN: Duration = Duration::from_secs(30);
/// How many clients of the first room keep what they receive. The last ones do, and they only read.
const KEPT: usize = 2;

/// Who is there, and what they do.
#[derive(Debug, Clone, Copy)]
pub struct Traffic {
    pub rooms: usize,
    /// Clients of each room, the writers included.
    pub clients: usize,
    pub writers: usize,
    pub pace: Pace,
}

/// How fast a writer writes.
#[derive(Debug, Clone, Copy)]
pub enum Pace {
    /// So many updates a second.
    Rate(u32),
    /// So many updates in flight at once.
    Window(usize),
}

/// Times of one measurement.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// Writing before anything is measured; servers that compile as they run need it.
    pub warm_up: Duration,
    pub measured: Duration,
}

/// What all tasks of a run share. They run on one thread.
struct Run {
    started: Instant,
    load: Traffic,
    measuring: Cell<bool>,
    stopped: Cell<bool>,
    deliveries: Cell<u64>,
    /// Messages that brought them.
    messages: Cell<u64>,
    /// Of each delivery while it is measured, in microseconds.
    latencies: RefCell<Vec<u32>>,
    /// The updates that some clients of the first room received, to make documents of.
    kept: RefCell<[Vec<Vec<u8>>; KEPT]>,
    failure: RefCell<Option<anyhow::Error>>,
}

struct Room {
    name: String,
    writers: Vec<Writer>,
    /// What each client has received of each writer.
    received: RefCell<Vec<Vec<Received>>>,
}

/// A writer as its room knows it.
struct Writer {
    client: u64,
    /// When each of its updates was sent, in microseconds since the start.
    sent: RefCell<Vec<u32>>,
    digest: Cell<u64>,
    /// For each update in flight, how many clients have yet to receive it; the oldest is first.
    flight: RefCell<VecDeque<u16>>,
    /// How many updates are no more in flight.
    landed: Cell<u32>,
    landing: Notify,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
struct Received {
    /// How many updates, and so the clock of the next.
    clock: u32,
    digest: u64,
}

/// Runs the load against a server.
pub async fn measure(server: &Running, load: Traffic, times: Times) -> Result<Sample> {
    tokio::task::LocalSet::new().run_until(run(server, load, times)).await
}

async fn run(server: &Running, load: Traffic, times: Times) -> Result<Sample> {
    let run = Rc::new(Run {
        started: Instant::now(),
        load,
        measuring: Cell::new(false),
        stopped: Cell::new(false),
        deliveries: Cell::new(0),
        messages: Cell::new(0),
        latencies: RefCell::default(),
        kept: RefCell::default(),
        failure: RefCell::default(),
    });
    // The tasks that receive end with this set, at the end of this function.
    let mut receivers = JoinSet::new();
    let mut waiting = Vec::new();
    let mut rooms = Vec::new();
    for at in 0..load.rooms {
        let room = Rc::new(Room {
            name: format!("bench-{at}"),
            writers: (0..load.writers).map(|nth| Writer::new(at, nth)).collect(),
            received: RefCell::new(vec![vec![Received::default(); load.writers]; load.clients]),
        });
        for client in 0..load.clients {
            let (joined, _) = Client::join_only(server, &room.name).await?;
            if client < load.writers {
                let frames = Frames {
                    socket: joined.socket.writer.clone(),
                    dialect: joined.dialect,
                    bytes: Vec::new(),
                };
                waiting.push((room.clone(), client, frames));
            }
            let (run, room) = (run.clone(), room.clone());
            let keeps = (at == 0).then(|| (client + KEPT).checked_sub(load.clients)).flatten();
            receivers.spawn_local(async move {
                let receiver = Receiver { run: &run, room: &room, client, keeps };
                let Err(error) = receiver.run(joined).await;
                let what = format!("client {client} of room {}", room.name);
                run.failure.borrow_mut().get_or_insert(error.context(what));
            });
        }
        rooms.push(room);
    }
    let mut writers = JoinSet::new();
    let count = waiting.len() as u32;
    for (nth, (room, writer, frames)) in waiting.into_iter().enumerate() {
        let run = run.clone();
        writers.spawn_local(async move {
            match run.load.pace {
                Pace::Rate(rate) => {
                    // Spread over one interval, as people are.
                    let interval = Duration::from_secs(1) / rate;
                    let offset = interval * nth as u32 / count;
                    write_at(&run, &room.writers[writer], frames, &room.name, interval, offset)
                        .await
                }
                Pace::Window(window) => {
                    write_within(&run, &room.writers[writer], frames, &room.name, window).await
                }
            }
        });
    }
    tokio::time::sleep(times.warm_up).await;
    run.check()?;

    run.measuring.set(true);
    let (before, own_before) = (server.usage()?, Usage::of("self")?);
    let (deliveries, messages) = (run.deliveries.get(), run.messages.get());
    let began = Instant::now();
    tokio::time::sleep(times.measured).await;
    let seconds = began.elapsed().as_secs_f64();
    let (after, own_after) = (server.usage()?, Usage::of("self")?);
    let deliveries = (run.deliveries.get() - deliveries) as f64;
    let messages = (run.messages.get() - messages) as f64;
    run.measuring.set(false);
    run.stopped.set(true);
    for writer in rooms.iter().flat_map(|room| &room.writers) {
        writer.landing.notify_one();
    }
    while let Some(result) = writers.join_next().await {
        result.context("a writer panicked")??;
    }
    run.check()?;
    ensure!(deliveries > 0.0, "nothing was delivered while it was measured");
    run.drain(&rooms).await?;
    run.compare(server, &rooms).await?;

    let mut latencies = run.latencies.take();
    let mut quantile = |share: f64| {
        let at = ((latencies.len() - 1) as f64 * share) as usize;
        *latencies.select_nth_unstable(at).1 as f64 / 1000.0
    };
    let cpu = after.cpu_ms - before.cpu_ms;
    Ok(Sample::from([
        ("cpu_ms_per_1000", cpu * 1000.0 / deliveries),
        ("p50_ms", quantile(0.5)),
        ("p99_ms", quantile(0.99)),
        ("deliveries_per_s", deliveries / seconds),
        ("deliveries_per_message", deliveries / messages),
        ("server_cpu_percent", cpu / 10.0 / seconds),
        ("generator_cpu_percent", (own_after.cpu_ms - own_before.cpu_ms) / 10.0 / seconds),
        ("rss_mib", after.rss_kib / 1024.0),
    ]))
}

impl Run {
    fn micros(&self) -> u32 {
        self.started.elapsed().as_micros() as u32
    }

    fn check(&self) -> Result<()> {
        self.failure.borrow_mut().take().map_or(Ok(()), Err)
    }

    /// Waits until everything that was sent has arrived everywhere.
    async fn drain(&self, rooms: &[Rc<Room>]) -> Result<()> {
        let sent: usize = rooms.iter().flat_map(|room| &room.writers).map(Writer::count).sum();
        let due = (sent * (self.load.clients - 1)) as u64;
        let began = Instant::now();
        while self.deliveries.get() < due {
            self.check()?;
            if began.elapsed() > DRAIN {
                let missing = due - self.deliveries.get();
                bail!("{missing} of {due} deliveries had not arrived {DRAIN:?} after the last");
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.check()
    }

    /// Compares what clients received with what was sent, and with what a new client is given.
    async fn compare(&self, server: &Running, rooms: &[Rc<Room>]) -> Result<()> {
        for (at, room) in rooms.iter().enumerate() {
            let (_client, document) = Client::join(server, &room.name).await?;
            let mut joined = vec![Received::default(); room.writers.len()];
            wire::read_update(&document, |client, clock, text| {
                room.take(&mut joined, client, clock, text).map(drop)
            })?;
            let sent: Vec<_> = room.writers.iter().map(Writer::everything).collect();
            ensure!(joined == sent, "a new client of room {} gets another document", room.name);
            for (client, received) in room.received.borrow().iter().enumerate() {
                for (writer, (received, sent)) in received.iter().zip(&sent).enumerate() {
                    ensure!(
                        client == writer || received == sent,
                        "client {client} of room {} has received other updates of writer {writer}                          than it sent",
                        room.name
                    );
                }
            }
            if at == 0 {
                let expected = integrated([&document[..]])?;
                let count: u32 = sent.iter().map(|sent| sent.clock).sum();
                ensure!(
                    expected.len() == count as usize,
                    "yrs finds fewer elements than were sent"
                );
                for kept in self.kept.take().iter().filter(|kept| !kept.is_empty()) {
                    let document = integrated(kept.iter().map(|update| &update[..]))?;
                    ensure!(document == expected, "two clients end with different documents");
                }
            }
        }
        Ok(())
    }
}

/// The array that yrs makes of updates.
fn integrated<'a>(updates: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<String>> {
    let doc = Doc::new();
    let array = doc.get_or_insert_array(ARRAY);
    for update in updates {
        let update = wire::join_runs(update)?;
        doc.transact_mut().apply_update(Update::decode_v1(&update)?)?;
    }
    let transaction = doc.transact();
    Ok(array.iter(&transaction).map(|value| value.to_string(&transaction)).collect())
}

impl Room {
    /// Notes an element that a client received. Returns its writer, unless it is known already.
    fn take(
        &self,
        received: &mut [Received],
        client: u64,
        clock: u32,
        text: &[u8],
    ) -> Result<Option<usize>> {
        let writer = self.writers.iter().position(|writer| writer.client == client);
        let writer =
            writer.with_context(|| format!("client {client}, whom nobody knows, wrote"))?;
        let received = &mut received[writer];
        // A server may send again what it has sent.
        if clock < received.clock {
            return Ok(None);
        }
        ensure!(
            clock == received.clock,
            "update {clock} of client {client} arrives, and {} has not",
            received.clock
        );
        received.clock += 1;
        received.digest = wire::digest(received.digest, text);
        Ok(Some(writer))
    }
}

/// A client of a room, as it receives.
struct Receiver<'a> {
    run: &'a Run,
    room: &'a Room,
    /// Which client of the room it is; the first ones are its writers.
    client: usize,
    /// Where it keeps what it receives, if it does.
    keeps: Option<usize>,
}

impl Receiver<'_> {
    /// Receives until the socket breaks.
    async fn run(self, mut client: Client) -> Result<Infallible> {
        loop {
            client.socket.fill().await?;
            if self.take(&mut client)? {
                client.answer().await?;
            }
        }
    }

    /// Takes what has arrived. Returns whether the server wants to know what the client has.
    fn take(&self, client: &mut Client) -> Result<bool> {
        let now = self.run.micros();
        let mut latencies = self.run.latencies.borrow_mut();
        let received = &mut self.room.received.borrow_mut()[self.client];
        let own = self.room.writers.get(self.client).map(|writer| writer.client);
        let mut asked = false;
        while let Some(message) = client.socket.message()? {
            let update = match client.dialect.read(client.socket.bytes(message))? {
                Message::Update(update) | Message::Step2(update) => update,
                Message::Step1 => {
                    asked = true;
                    continue;
                }
                Message::Other => continue,
            };
            if let Some(keeps) = self.keeps {
                self.run.kept.borrow_mut()[keeps].push(update.to_vec());
            }
            let mut count = 0;
            wire::read_update(update, |id, clock, text| {
                // One who gets its own update back has received nothing.
                if own == Some(id) {
                    return Ok(());
                }
                let Some(writer) = self.room.take(received, id, clock, text)? else {
                    return Ok(());
                };
                count += 1;
                let writer = &self.room.writers[writer];
                writer.land(clock);
                if self.run.measuring.get() {
                    let sent = writer.sent.borrow().get(clock as usize).copied();
                    latencies.push(now - sent.context("an update arrives before it was sent")?);
                }
                Ok(())
            })?;
            self.run.deliveries.set(self.run.deliveries.get() + count);
            self.run.messages.set(self.run.messages.get() + (count > 0) as u64);
        }
        Ok(asked)
    }
}

impl Writer {
    fn new(room: usize, nth: usize) -> Self {
        Self {
            // As large as those that Yjs picks, which take five bytes, and never the same twice.
            client: 0x9000_0000 + (room * 1000 + nth) as u64,
            sent: RefCell::default(),
            digest: Cell::new(0),
            flight: RefCell::default(),
            landed: Cell::new(0),
            landing: Notify::new(),
        }
    }

    fn count(&self) -> usize {
        self.sent.borrow().len()
    }

    fn everything(&self) -> Received {
        Received { clock: self.count() as u32, digest: self.digest.get() }
    }

    /// One more client has received an update.
    fn land(&self, clock: u32) {
        let mut flight = self.flight.borrow_mut();
        let mut landed = self.landed.get();
        let Some(left) = flight.get_mut((clock - landed) as usize) else { return };
        *left -= 1;
        let before = landed;
        while flight.front() == Some(&0) {
            flight.pop_front();
            landed += 1;
        }
        if landed > before {
            self.landed.set(landed);
            self.landing.notify_one();
        }
    }
}

/// The frames that a writer is about to send.
struct Frames {
    socket: SocketWriter,
    dialect: Dialect,
    bytes: Vec<u8>,
}

impl Frames {
    /// Adds the writer's next update.
    fn add(&mut self, run: &Run, writer: &Writer, room: &str) {
        let mut sent = writer.sent.borrow_mut();
        let (clock, now) = (sent.len() as u32, run.micros());
        sent.push(now);
        let text = wire::text(writer.client, clock, now as u64);
        writer.digest.set(wire::digest(writer.digest.get(), &text));
        let mut update = Vec::with_capacity(64);
        wire::write_update(&mut update, writer.client, clock, &text);
        write_frame(&mut self.bytes, &self.dialect.update(room, &update));
    }

    async fn send(&mut self) -> Result<()> {
        self.socket.write(&self.bytes).await?;
        self.bytes.clear();
        Ok(())
    }
}

async fn write_at(
    run: &Run,
    writer: &Writer,
    mut frames: Frames,
    room: &str,
    interval: Duration,
    offset: Duration,
) -> Result<()> {
    let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + offset, interval);
    loop {
        ticks.tick().await;
        if run.stopped.get() {
            return Ok(());
        }
        frames.add(run, writer, room);
        frames.send().await?;
    }
}

async fn write_within(
    run: &Run,
    writer: &Writer,
    mut frames: Frames,
    room: &str,
    window: usize,
) -> Result<()> {
    let others = run.load.clients as u16 - 1;
    while !run.stopped.get() {
        let free = {
            let mut flight = writer.flight.borrow_mut();
            let free = window - flight.len();
            flight.extend(std::iter::repeat_n(others, free));
            free
        };
        if free == 0 {
            writer.landing.notified().await;
            continue;
        }
        for _ in 0..free {
            frames.add(run, writer, room);
        }
        frames.send().await?;
        // Whoever has something to receive comes first, or its latency would be ours.
        tokio::task::yield_now().await;
    }
    Ok(())
}
