//! A document on its way to somebody who asked for it by HTTP.
//!
//! The connection is given a piece at a time, each of its own memory. So the document itself is let go the
//! moment that its reader is ended, whatever waits in the connection.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use parking_lot::Mutex;

use crate::budget::{Debtor, Purse, Registered};

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
