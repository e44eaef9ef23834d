//! What waits to be sent to one socket.
//!
//! A room never waits for a socket. It puts frames into the socket's outbox, and the socket's task
//! takes them out as fast as the peer reads. When more than `queue_bytes` wait, the socket counts
//! as *fallen behind*: nothing more is queued for it; the state vector of the document at that
//! moment is kept instead. Once the peer has read what was queued, it gets one diff from there. So
//! a peer that stalls costs a bounded amount of memory, slows nobody, and misses nothing.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::update::StateVector;
use crate::websocket::{Close, WriteHalf};

/// See the module's text. Shared by a room and the task of one socket.
#[derive(Debug)]
pub(crate) struct Outbox {
    socket: WriteHalf,
    state: Mutex<State>,
    /// Bytes in `state.frames`, readable without the lock: a room looks at every socket's in
    /// every turn.
    queued: AtomicUsize,
    /// Tells the socket's task that there is something for it to do.
    ready: Notify,
}

#[derive(Debug, Default)]
struct State {
    frames: VecDeque<Bytes>,
    /// How much of the first one is written.
    written: usize,
    /// The socket takes no more for now; its task waits until it does.
    blocked: bool,
    /// Nothing can be sent any more.
    ended: bool,
    behind: Behind,
    /// The last acknowledgement that is due while it is behind.
    status: Option<Bytes>,
    /// Whether presence changed while it was behind.
    presence: bool,
    close: Option<Close>,
}

/// Whether the peer is behind, and if so, what it knew of the document when it fell behind.
#[derive(Debug, Default)]
enum Behind {
    #[default]
    No,
    Since(StateVector),
    /// The room has been asked for what it missed.
    Asked,
}

/// What the task of a socket should do next.
#[derive(Debug)]
pub(crate) enum Next {
    /// Ask the room for what was missed since this state.
    CatchUp(StateVector),
    /// Close the socket; all that was queued is sent.
    Close(Close),
    /// End: the socket broke.
    End,
}

impl Outbox {
    pub fn new(socket: WriteHalf) -> Self {
        Self { socket, state: Mutex::default(), queued: AtomicUsize::new(0), ready: Notify::new() }
    }

    /// What is written to.
    pub fn socket(&self) -> &WriteHalf {
        &self.socket
    }

    /// Bytes that wait.
    pub fn queued(&self) -> usize {
        self.queued.load(Ordering::Relaxed)
    }

    /// Queues a frame, unless the peer is behind.
    pub fn push(&self, frame: Bytes) {
        let mut state = self.state.lock();
        if !state.is_behind() {
            self.queue(&mut state, frame);
        }
    }

    /// Queues an acknowledgement. Of those that are due while the peer is behind, the last is kept.
    pub fn push_status(&self, frame: Bytes) {
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

    fn queue(&self, state: &mut State, frame: Bytes) {
        if !state.ended {
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
        // A burst may have made it large.
        if state.frames.capacity() > 16 {
            state.frames = VecDeque::new();
        }
        true
    }

    fn end(&self, state: &mut State) {
        state.ended = true;
        state.frames.clear();
        state.written = 0;
        self.queued.store(0, Ordering::Relaxed);
    }

    /// Marks the peer as behind: from here on it knows no more than this.
    pub fn fall_behind(&self, knows: StateVector) {
        let mut state = self.state.lock();
        state.behind = Behind::Since(knows);
        self.ready.notify_one();
    }

    /// Whether the peer is behind.
    pub fn is_behind(&self) -> bool {
        self.state.lock().is_behind()
    }

    /// Queues what a peer that was behind has missed, presence where it changed, and the last
    /// acknowledgement.
    pub fn catch_up(&self, missed: Bytes, presence: impl FnOnce() -> Bytes) {
        let mut state = self.state.lock();
        state.behind = Behind::No;
        self.queue(&mut state, missed);
        if std::mem::take(&mut state.presence) {
            self.queue(&mut state, presence());
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

    /// Writes what waits for the socket, until there is something else to do.
    pub async fn next(&self) -> Next {
        loop {
            match self.advance() {
                Ok(Some(next)) => return next,
                Ok(None) => self.ready.notified().await,
                Err(Blocked) => {
                    if self.socket.writable().await.is_err() {
                        return Next::End;
                    }
                }
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
            Behind::Since(knows) => Some(Next::CatchUp(knows)),
            other => {
                state.behind = other;
                None
            }
        })
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
    use tokio::io::AsyncReadExt;
    use tokio::net::UnixStream;

    /// Nothing may be written before tokio has seen that the socket is writable.
    async fn pair() -> (Outbox, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.writable().await.unwrap();
        // The half that is read stays open for as long as the test may need it.
        let (read, write) = ours.into_split();
        std::mem::forget(read);
        (Outbox::new(WriteHalf::Pipe(write)), theirs)
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
        outbox.fall_behind(StateVector::new());
        outbox.push("2".into());
        outbox.push_status("s1".into());
        outbox.push_status("s2".into());
        outbox.push_presence("p".into());
        assert!(matches!(outbox.next().await, Next::CatchUp(_)));
        assert_eq!(read(&mut peer, 1).await, b"1");
        assert!(matches!(outbox.advance(), Ok(None)), "the room is asked once");
        outbox.catch_up("diff".into(), || "all".into());
        outbox.push("3".into());
        outbox.flush();
        assert_eq!(read(&mut peer, 10).await, b"diffalls23");
        outbox.push("4".into());
        outbox.close(Close::new(1001, "bye"));
        assert!(matches!(outbox.next().await, Next::Close(_)));
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
        tokio::select! {
            next = outbox.next() => panic!("{next:?}"),
            bytes = reading => assert!(bytes.unwrap() == frames.concat()),
        }
        assert_eq!(outbox.queued(), 0);
    }

    #[tokio::test]
    async fn a_socket_that_broke_ends() {
        let (outbox, peer) = pair().await;
        drop(peer);
        outbox.push("1".into());
        outbox.flush();
        assert!(matches!(outbox.next().await, Next::End));
        assert_eq!(outbox.queued(), 0);
    }
}
