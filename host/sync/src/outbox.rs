//! What waits to be sent to one socket.
//!
//! A room never waits for a socket. It puts frames into the socket's outbox, and the socket's task
//! takes them out as fast as the peer reads. When more than `queue_bytes` wait, the socket counts
//! as *fallen behind*: nothing more is queued for it; the state vector of the document at that
//! moment is kept instead. Once the peer has read what was queued, it gets one diff from there. So
//! a peer that stalls costs a bounded amount of memory, slows nobody, and misses nothing.
//!
//! A peer that reads more slowly than any network is given up ([`Pace`]), and so is the one that owes
//! most when all of them together owe too much ([`Budget`](crate::budget::Budget)).

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use host_connections::Pace;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::budget::{CHARGED, Charge, Debtor, Purse};
use crate::limits::CONTROL_BYTES;
use crate::protocol;
use crate::update::StateVector;
use crate::websocket::{self, Close, WriteHalf};

/// See the module's text. Shared by a room and the task of one socket.
pub(crate) struct Outbox {
    socket: WriteHalf,
    purse: Arc<Purse>,
    state: Mutex<State>,
    /// Bytes in `state.frames`, readable without the lock: a room looks at every socket's in
    /// every turn.
    queued: AtomicUsize,
    /// Whether something that the peer wrote was not taken in.
    refused: AtomicBool,
    /// Tells the socket's task that there is something for it to do.
    ready: Notify,
}

#[derive(Default)]
struct State {
    frames: VecDeque<Bytes>,
    /// How much of the first one is written.
    written: usize,
    /// The socket takes no more for now; its task waits until it does.
    blocked: bool,
    /// Nothing can be sent any more.
    ended: bool,
    /// Whether anything was queued since the last heartbeat.
    spoke: bool,
    /// Bytes of pings and pongs among the frames.
    control: usize,
    behind: Behind,
    /// The last acknowledgement that is due while it is behind.
    status: Option<Bytes>,
    /// Whether presence changed while it was behind.
    presence: bool,
    close: Option<Close>,
}

/// Whether the peer is behind, and if so, what it knew of the document when it fell behind.
#[derive(Default)]
enum Behind {
    #[default]
    No,
    Since(Arc<StateVector>, #[expect(dead_code, reason = "it is held, not read")] Option<Charge>),
    /// The room has been asked for what it missed.
    Asked,
}

/// What the task of a socket should do next.
#[derive(Debug)]
pub(crate) enum Next {
    /// Ask the room for what was missed since this state.
    CatchUp(Arc<StateVector>),
    /// Close the socket; all that was queued is sent.
    Close(Close),
    /// End: the socket broke.
    End,
}

impl Outbox {
    /// What is queued for a socket is charged to a purse, where it is not shared with others.
    pub fn new(socket: WriteHalf, purse: Arc<Purse>) -> Self {
        Self {
            socket,
            purse,
            state: Mutex::default(),
            queued: AtomicUsize::new(0),
            refused: AtomicBool::new(false),
            ready: Notify::new(),
        }
    }

    /// What is written to.
    pub fn socket(&self) -> &WriteHalf {
        &self.socket
    }

    /// What its peer is charged.
    pub fn purse(&self) -> &Arc<Purse> {
        &self.purse
    }

    /// Bytes that wait.
    pub fn queued(&self) -> usize {
        self.queued.load(Ordering::Relaxed)
    }

    /// Queues a ping or a pong, which the peer's own code does not hear.
    pub fn control(&self, frame: Bytes) {
        let mut state = self.state.lock();
        if !state.is_behind() && state.control + frame.len() <= CONTROL_BYTES {
            let spoke = state.spoke;
            state.control += frame.len();
            self.queue(&mut state, frame);
            state.spoke = spoke;
        }
    }

    /// Queues a frame, unless the peer is behind.
    pub fn push(&self, frame: Bytes) {
        let mut state = self.state.lock();
        if !state.is_behind() {
            self.queue(&mut state, frame);
        }
    }

    /// Queues word of something that the peer wrote and that was not taken in. From here on it is told
    /// of nothing any more that it is saved.
    pub fn refuse(&self, frame: Bytes) {
        self.refused.store(true, Ordering::Relaxed);
        self.push(frame);
    }

    /// Queues an acknowledgement. Of those that are due while the peer is behind, the last is kept. To a
    /// peer of which something was refused it would be untrue; instead it hears that we are here.
    pub fn push_status(&self, frame: Bytes) {
        let refused = self.refused.load(Ordering::Relaxed);
        let frame = if refused { websocket::binary(&protocol::nothing()) } else { frame };
        let mut state = self.state.lock();
        if state.is_behind() {
            state.status = Some(frame);
        } else {
            self.queue(&mut state, frame);
        }
    }

    /// Queues presence. One who is behind gets all of it later.
    pub fn push_presence(&self, frame: Bytes) {
        let mut state = self.state.lock();
        if state.is_behind() {
            state.presence = true;
        } else {
            self.queue(&mut state, frame);
        }
    }

    /// Says that we are here to a peer that has heard nothing since this was called last.
    pub fn beat(&self) {
        let mut state = self.state.lock();
        if !state.spoke && !state.is_behind() {
            self.queue(&mut state, websocket::binary(&protocol::nothing()));
        }
        state.spoke = false;
    }

    fn queue(&self, state: &mut State, frame: Bytes) {
        if !state.ended {
            state.spoke = true;
            self.queued.fetch_add(frame.len(), Ordering::Relaxed);
            state.frames.push_back(frame);
        }
    }

    /// Writes what was queued, as far as the socket takes it without waiting. Whoever queues
    /// calls this once it has queued all that it has, so that frames share a write.
    pub fn flush(&self) {
        if self.queued() == 0 {
            return;
        }
        let mut state = self.state.lock();
        // What follows what the socket did not take is left to the socket's task, too.
        if !state.blocked && !self.write(&mut state) {
            state.blocked = true;
            self.ready.notify_one();
        }
    }

    /// Writes what the socket takes. False when something is left.
    fn write(&self, state: &mut State) -> bool {
        while !state.frames.is_empty() {
            match self.socket.try_write(state.frames.iter(), state.written) {
                Ok(mut count) => {
                    self.queued.fetch_sub(count, Ordering::Relaxed);
                    while let Some(frame) = state.frames.front() {
                        let left = frame.len() - state.written;
                        if count < left {
                            state.written += count;
                            break;
                        }
                        count -= left;
                        state.written = 0;
                        state.frames.pop_front();
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
                Err(_) => {
                    self.end(state);
                    self.ready.notify_one();
                }
            }
        }
        state.control = 0;
        // A burst may have made it large.
        if state.frames.capacity() > 16 {
            state.frames = VecDeque::new();
        }
        true
    }

    fn end(&self, state: &mut State) {
        state.ended = true;
        state.behind = Behind::No;
        state.frames = VecDeque::new();
        state.written = 0;
        self.queued.store(0, Ordering::Relaxed);
    }

    /// Marks the peer as behind: from here on it knows no more than this.
    pub fn fall_behind(&self, knows: Arc<StateVector>) {
        let bytes = knows.capacity() * size_of::<(u64, u32)>();
        let charge = (bytes >= CHARGED).then(|| self.purse.charge(bytes));
        let mut state = self.state.lock();
        if !state.ended {
            state.behind = Behind::Since(knows, charge);
        }
        self.ready.notify_one();
    }

    /// Whether the peer is behind.
    pub fn is_behind(&self) -> bool {
        self.state.lock().is_behind()
    }

    /// Whether presence changed while the peer was behind.
    pub fn missed_presence(&self) -> bool {
        self.state.lock().presence
    }

    /// Queues what a peer that was behind has missed, presence where it changed, and the last
    /// acknowledgement.
    pub fn catch_up(&self, missed: Bytes, presence: Option<Bytes>) {
        let mut state = self.state.lock();
        state.behind = Behind::No;
        state.presence = false;
        self.queue(&mut state, missed);
        if let Some(presence) = presence {
            self.queue(&mut state, presence);
        }
        if let Some(status) = state.status.take() {
            self.queue(&mut state, status);
        }
    }

    /// Closes the socket once what was queued before is sent.
    pub fn close(&self, close: Close) {
        let mut state = self.state.lock();
        state.close.get_or_insert(close);
        self.ready.notify_one();
    }

    /// Writes what waits for the socket, until there is something else to do. A peer that does not keep
    /// the pace in reading it is given up.
    pub async fn next(&self, pace: &mut Pace) -> Next {
        loop {
            let before = self.queued();
            let advanced = self.advance();
            pace.moved(before.saturating_sub(self.queued()));
            match advanced {
                Ok(Some(next)) => return next,
                Ok(None) => self.ready.notified().await,
                Err(Blocked) => {
                    if Box::pin(self.unblocked(pace)).await.is_err() {
                        return Next::End;
                    }
                }
            }
        }
    }

    /// Waits until the socket takes more. The error is its end.
    async fn unblocked(&self, pace: &mut Pace) -> Result<(), Blocked> {
        tokio::select! {
            writable = self.socket.writable() => writable.map_err(|_| Blocked),
            // It was ended meanwhile.
            () = self.ready.notified() => Ok(()),
            () = pace.spent() => {
                self.end(&mut self.state.lock());
                self.socket.reset();
                Err(Blocked)
            }
        }
    }

    fn advance(&self) -> Result<Option<Next>, Blocked> {
        let mut state = self.state.lock();
        state.blocked = !self.write(&mut state);
        if state.blocked {
            return Err(Blocked);
        }
        if state.ended {
            return Ok(Some(Next::End));
        }
        if let Some(close) = state.close.take() {
            self.end(&mut state);
            return Ok(Some(Next::Close(close)));
        }
        Ok(match std::mem::replace(&mut state.behind, Behind::Asked) {
            Behind::Since(knows, _) => Some(Next::CatchUp(knows)),
            other => {
                state.behind = other;
                None
            }
        })
    }
}

impl Debtor for Outbox {
    fn owes(&self) -> usize {
        self.queued()
    }

    fn end(&self) {
        self.end(&mut self.state.lock());
        self.socket.reset();
        self.ready.notify_one();
    }
}

/// The socket takes no more for now.
struct Blocked;

impl State {
    fn is_behind(&self) -> bool {
        !matches!(self.behind, Behind::No)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Budget;
    use tokio::io::AsyncReadExt;
    use tokio::net::UnixStream;

    /// Nothing may be written before tokio has seen that the socket is writable.
    async fn pair() -> (Outbox, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.writable().await.unwrap();
        // The half that is read stays open for as long as the test may need it.
        let (read, write) = ours.into_split();
        std::mem::forget(read);
        let purse = Budget::new(usize::MAX, usize::MAX).purse(None);
        (Outbox::new(WriteHalf::Pipe(write), purse), theirs)
    }

    fn pace() -> Pace {
        Pace::new(&host_connections::Limits::default())
    }

    async fn read(peer: &mut UnixStream, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        peer.read_exact(&mut bytes).await.unwrap();
        bytes
    }

    #[tokio::test]
    async fn a_peer_that_is_behind_gets_a_diff_the_last_status_and_presence() {
        let (outbox, mut peer) = pair().await;
        outbox.push("1".into());
        outbox.fall_behind(Arc::default());
        outbox.push("2".into());
        outbox.push_status("s1".into());
        outbox.push_status("s2".into());
        outbox.push_presence("p".into());
        assert!(matches!(outbox.next(&mut pace()).await, Next::CatchUp(_)));
        assert_eq!(read(&mut peer, 1).await, b"1");
        assert!(matches!(outbox.advance(), Ok(None)), "the room is asked once");
        assert!(outbox.missed_presence());
        outbox.catch_up("diff".into(), Some("all".into()));
        outbox.push("3".into());
        outbox.flush();
        assert_eq!(read(&mut peer, 10).await, b"diffalls23");
        outbox.push("4".into());
        outbox.close(Close::new(1001, "bye"));
        assert!(matches!(outbox.next(&mut pace()).await, Next::Close(_)));
        outbox.push("5".into());
        outbox.flush();
        assert_eq!(read(&mut peer, 1).await, b"4");
        drop(outbox);
        assert_eq!(peer.read(&mut [0]).await.unwrap(), 0, "nothing follows a close");
    }

    #[tokio::test]
    async fn what_the_socket_does_not_take_is_sent_by_its_task_in_order() {
        let (outbox, mut peer) = pair().await;
        let frames: Vec<Bytes> = (0..40u8).map(|byte| vec![byte; 100_000].into()).collect();
        for frame in &frames {
            outbox.push(frame.clone());
            outbox.flush();
        }
        assert!(outbox.queued() > 0, "the socket takes less than four megabytes");
        let reading = tokio::spawn(async move { read(&mut peer, 4_000_000).await });
        let mut pace = pace();
        tokio::select! {
            next = outbox.next(&mut pace) => panic!("{next:?}"),
            bytes = reading => assert!(bytes.unwrap() == frames.concat()),
        }
        assert_eq!(outbox.queued(), 0);
    }

    #[tokio::test]
    async fn pongs_for_one_who_does_not_read_are_bounded() {
        let (outbox, _peer) = pair().await;
        outbox.push(vec![0; 4_000_000].into());
        outbox.flush();
        let before = outbox.queued();
        for _ in 0..1000 {
            outbox.control(websocket::pong(&[0; 100]));
        }
        assert!((1..=CONTROL_BYTES).contains(&(outbox.queued() - before)));
    }

    #[tokio::test]
    async fn a_socket_that_broke_ends() {
        let (outbox, peer) = pair().await;
        drop(peer);
        outbox.push("1".into());
        outbox.flush();
        assert!(matches!(outbox.next(&mut pace()).await, Next::End));
        assert_eq!(outbox.queued(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_does_not_read_is_given_up_with_what_it_owes() {
        let (outbox, peer) = pair().await;
        outbox.push(vec![0; 4_000_000].into());
        let began = tokio::time::Instant::now();
        assert!(matches!(outbox.next(&mut pace()).await, Next::End));
        assert_eq!(began.elapsed(), host_connections::Limits::default().patience);
        assert_eq!(outbox.queued(), 0);
        drop(peer);
    }

    #[tokio::test]
    async fn one_who_is_ended_while_it_is_blocked_ends_at_once() {
        let (outbox, _peer) = pair().await;
        outbox.push(vec![0; 4_000_000].into());
        let mut pace = pace();
        let mut next = std::pin::pin!(outbox.next(&mut pace));
        tokio::select! {
            biased;
            next = &mut next => panic!("{next:?}"),
            () = tokio::task::yield_now() => {}
        }
        Debtor::end(&outbox);
        assert!(matches!(next.await, Next::End));
        assert_eq!(outbox.queued(), 0);
    }
}
