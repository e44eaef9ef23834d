//! What waits to be sent to one socket.
//!
//! A room never waits for a socket. It puts frames into the socket's outbox, and the socket's task
//! takes them out as fast as the peer reads. When more than `queue_bytes` wait, the socket counts
//! as *fallen behind*: nothing more is queued for it; the state vector of the document at that
//! moment is kept instead. Once the peer has read what was queued, it gets one diff from there. So
//! a peer that stalls costs a bounded amount of memory, slows nobody, and misses nothing.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::update::StateVector;

/// Why a socket is closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Close {
    /// WebSocket close code.
    pub code: u16,
    /// For people; at most 123 bytes of it are sent.
    pub reason: String,
}

impl Close {
    /// A close with a code and a reason.
    pub fn new(code: u16, reason: impl Into<String>) -> Self {
        Self { code, reason: reason.into() }
    }
}

/// See the module's text. Shared by a room and the task of one socket.
#[derive(Debug, Default)]
pub struct Outbox {
    state: Mutex<State>,
    /// Bytes in `state.frames`, readable without the lock: a room looks at every socket's in
    /// every turn.
    queued: AtomicUsize,
    ready: Notify,
}

#[derive(Debug, Default)]
struct State {
    frames: VecDeque<Bytes>,
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
pub enum Next {
    /// Send these.
    Frames(VecDeque<Bytes>),
    /// Ask the room for what was missed since this state.
    CatchUp(StateVector),
    /// Close the socket.
    Close(Close),
}

impl Outbox {
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
        self.queued.fetch_add(frame.len(), Ordering::Relaxed);
        state.frames.push_back(frame);
        self.ready.notify_one();
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

    /// Waits for something to do.
    pub async fn next(&self) -> Next {
        loop {
            if let Some(next) = self.take() {
                return next;
            }
            self.ready.notified().await;
        }
    }

    fn take(&self) -> Option<Next> {
        let mut state = self.state.lock();
        if !state.frames.is_empty() {
            self.queued.store(0, Ordering::Relaxed);
            return Some(Next::Frames(std::mem::take(&mut state.frames)));
        }
        if let Some(close) = state.close.take() {
            return Some(Next::Close(close));
        }
        match std::mem::replace(&mut state.behind, Behind::Asked) {
            Behind::Since(knows) => Some(Next::CatchUp(knows)),
            other => {
                state.behind = other;
                None
            }
        }
    }
}

impl State {
    fn is_behind(&self) -> bool {
        !matches!(self.behind, Behind::No)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_that_is_behind_gets_a_diff_the_last_status_and_presence() {
        let outbox = Outbox::default();
        outbox.push("1".into());
        outbox.fall_behind(StateVector::new());
        outbox.push("2".into());
        outbox.push_status("s1".into());
        outbox.push_status("s2".into());
        outbox.push_presence("p".into());
        let frames = |next| match next {
            Some(Next::Frames(frames)) => frames,
            other => panic!("{other:?}"),
        };
        assert_eq!(frames(outbox.take()), ["1"]);
        assert!(matches!(outbox.take(), Some(Next::CatchUp(_))));
        assert!(outbox.take().is_none(), "the room is asked once");
        outbox.catch_up("diff".into(), || "all".into());
        outbox.push("3".into());
        assert_eq!(frames(outbox.take()), ["diff", "all", "s2", "3"]);
        assert!(outbox.take().is_none());
        outbox.push("4".into());
        outbox.close(Close::new(1001, "bye"));
        assert_eq!(frames(outbox.take()), ["4"]);
        assert!(matches!(outbox.take(), Some(Next::Close(_))));
    }
}
