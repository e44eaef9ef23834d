//! Bodies of HTTP: a document on its way to somebody who asked for it, and an update that somebody posts.
//! What is held of either is charged ([`budget`](crate::budget)), and whoever owes most may be ended.
//!
//! A document goes to the connection a piece at a time, each of its own memory. So the document itself is
//! let go the moment that its reader is ended, whatever waits in the connection.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::BoxError;
use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::budget::{CHARGED, Debtor, Purse, Registered};

/// Bytes of a piece.
const PIECE: usize = 64 * 1024;

/// The body of an answer.
pub(crate) struct Sending {
    rest: Arc<Rest>,
    _registered: Option<Registered>,
}

/// What was not given to the connection yet; none when the reader was ended.
struct Rest(Mutex<Option<Bytes>>);

/// Too much is held, and this reader owes most.
#[derive(Debug, thiserror::Error)]
#[error("the reader was ended: too much waits to be read")]
pub(crate) struct TooSlow;

impl Sending {
    pub fn new(document: Bytes, purse: &Arc<Purse>) -> Self {
        let length = document.len();
        let rest = Arc::new(Rest(Mutex::new(Some(document))));
        let registered = (length > PIECE).then(|| purse.budget().register(purse, &rest));
        Self { rest, _registered: registered }
    }
}

impl Debtor for Rest {
    fn owes(&self) -> usize {
        self.0.lock().as_ref().map_or(0, Bytes::len)
    }

    fn end(&self) {
        *self.0.lock() = None;
    }
}

impl Body for Sending {
    type Data = Bytes;
    type Error = TooSlow;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, TooSlow>>> {
        let mut rest = self.rest.0.lock();
        let Some(bytes) = rest.as_mut() else { return Poll::Ready(Some(Err(TooSlow))) };
        if bytes.is_empty() {
            return Poll::Ready(None);
        }
        let piece = bytes.split_to(bytes.len().min(PIECE));
        Poll::Ready(Some(Ok(Frame::data(Bytes::copy_from_slice(&piece)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.0.lock().as_ref().is_some_and(Bytes::is_empty)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.owes() as u64)
    }
}

/// Why a body did not come as a whole.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotReceived {
    /// It has more bytes than it may.
    #[error("the update is larger than the limit of {0} bytes")]
    TooLarge(usize),
    /// Too much is held, and this one owes most.
    #[error("too much is being sent from this address; try again later")]
    Ended,
    /// The connection broke, or its client was too slow.
    #[error("the body did not come as a whole: {0}")]
    Broken(BoxError),
}

/// One who sends a body. What it owes is what it is charged.
struct Sender(CancellationToken);

impl Debtor for Sender {
    fn owes(&self) -> usize {
        0
    }

    fn end(&self) {
        self.0.cancel();
    }
}

/// Reads a whole body of at most `limit` bytes.
pub(crate) async fn receive<B>(
    mut body: B,
    limit: usize,
    purse: &Arc<Purse>,
) -> Result<Bytes, NotReceived>
where
    B: Body + Unpin,
    B::Error: Into<BoxError>,
{
    let sender = Arc::new(Sender(CancellationToken::new()));
    let _registered = purse.budget().register(purse, &sender);
    let mut charge = purse.charge(0);
    let mut bytes = Vec::new();
    loop {
        let frame = std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context));
        let frame = tokio::select! {
            frame = frame => frame,
            () = sender.0.cancelled() => return Err(NotReceived::Ended),
        };
        let Some(frame) = frame else { break };
        let frame = frame.map_err(|error| NotReceived::Broken(error.into()))?;
        let Ok(mut data) = frame.into_data() else { continue };
        if bytes.len() + data.remaining() > limit {
            return Err(NotReceived::TooLarge(limit));
        }
        while data.has_remaining() {
            bytes.extend_from_slice(data.chunk());
            data.advance(data.chunk().len());
        }
        charge.set(if bytes.len() < CHARGED { 0 } else { bytes.len() });
    }
    drop(charge);
    Ok(purse.own(bytes.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Budget;

    const MIB: usize = 1024 * 1024;

    /// Sends pieces of a MiB, and stalls for good after so many.
    struct Stalls(usize);

    impl Body for Stalls {
        type Data = Bytes;
        type Error = BoxError;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
            if self.0 == 0 {
                return Poll::Pending;
            }
            self.0 -= 1;
            Poll::Ready(Some(Ok(Frame::data(vec![0; MIB].into()))))
        }
    }

    #[tokio::test]
    async fn bodies_that_stall_are_given_up_when_they_hold_too_much_together() {
        let budget = Budget::new(10 * MIB, 10 * MIB);
        let tasks: Vec<_> = (0..20)
            .map(|_| {
                let purse = budget.purse(None);
                tokio::spawn(async move { receive(Stalls(4), 32 * MIB, &purse).await })
            })
            .collect();
        let mut ended = 0;
        while ended < 16 || budget.held() > 10 * MIB {
            tokio::task::yield_now().await;
            ended = tasks.iter().filter(|task| task.is_finished()).count();
        }
        for task in tasks {
            if task.is_finished() {
                assert!(matches!(task.await, Ok(Err(NotReceived::Ended))));
            } else {
                task.abort();
            }
        }
    }

    #[tokio::test]
    async fn a_body_over_its_limit_is_refused() {
        let purse = Budget::new(usize::MAX, usize::MAX).purse(None);
        let refused = receive(Stalls(3), 2 * MIB, &purse).await;
        assert!(matches!(refused, Err(NotReceived::TooLarge(_))));
    }

    #[test]
    fn a_document_is_let_go_when_its_reader_is_ended() {
        let budget = Budget::new(3 * MIB, usize::MAX);
        let first = Sending::new(budget.shared(vec![1; 2 * MIB].into()), &budget.purse(None));
        assert_eq!((budget.held(), first.size_hint().exact()), (2 * MIB, Some(2 * MIB as u64)));
        let second = budget.shared(vec![2; 2 * MIB].into());
        assert_eq!(budget.held(), 2 * MIB, "the reader of the first document gave it up");
        let mut first = first;
        let mut context = Context::from_waker(std::task::Waker::noop());
        let polled = Pin::new(&mut first).poll_frame(&mut context);
        assert!(matches!(polled, Poll::Ready(Some(Err(TooSlow)))));
        drop(second);
    }
}
