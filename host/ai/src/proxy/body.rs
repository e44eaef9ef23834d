//! Bodies on their way, and the watch that something moves.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::BoxError;
use axum::body::BodyDataStream;
use bytes::{Bytes, BytesMut};
use futures_util::Stream;
use hyper::body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::meter::Meter;
use crate::admission::Permit;
use crate::providers::Key;

/// When something last moved in either direction. Cheap to clone.
#[derive(Clone)]
pub(super) struct Activity {
    last: Arc<Mutex<Instant>>,
    limit: Duration,
}

impl Activity {
    pub fn new(limit: Duration) -> Self {
        Self { last: Arc::new(Mutex::new(Instant::now())), limit }
    }

    /// Something moved.
    pub fn touch(&self) {
        *self.last.lock() = Instant::now();
    }

    /// For how long nothing may move.
    pub fn limit(&self) -> Duration {
        self.limit
    }

    /// Ends when nothing has moved for too long.
    pub async fn silence(&self) {
        loop {
            let deadline = *self.last.lock() + self.limit;
            if Instant::now() >= deadline {
                return;
            }
            tokio::time::sleep_until(deadline).await;
        }
    }
}

/// What a caller sends, on its way to the provider.
pub(super) struct Upload {
    body: BodyDataStream,
    activity: Activity,
}

impl Upload {
    pub fn new(body: axum::body::Body, activity: Activity) -> Self {
        Self { body: body.into_data_stream(), activity }
    }
}

impl Stream for Upload {
    type Item = Result<Bytes, axum::Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context) -> Poll<Option<Self::Item>> {
        let next = ready!(Pin::new(&mut self.body).poll_next(context));
        self.activity.touch();
        Poll::Ready(next)
    }
}

/// What a provider answers, on its way to the caller. It fails when the provider's connection does,
/// or when nothing moves for too long: the caller's connection is then closed in mid-answer.
pub(super) struct Download {
    body: reqwest::Body,
    activity: Activity,
    silence: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    mask: Option<Mask>,
    meter: Option<Meter>,
    /// Counts as under way until the answer has been read or dropped.
    _admitted: Permit,
}

impl Download {
    /// `hidden` is made unreadable wherever it stands in the answer; `meter` reads what it took.
    pub fn new(
        body: reqwest::Body,
        activity: Activity,
        hidden: Option<&Key>,
        meter: Option<Meter>,
        admitted: Permit,
    ) -> Self {
        let mask = hidden.map(Mask::new);
        Self { body, activity, silence: None, mask, meter, _admitted: admitted }
    }
}

impl Body for Download {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        loop {
            let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(context) else {
                let silence = this.silence.get_or_insert_with(|| {
                    let activity = this.activity.clone();
                    Box::pin(async move { activity.silence().await })
                });
                ready!(silence.as_mut().poll(context));
                this.silence = None;
                let error = io::Error::new(io::ErrorKind::TimedOut, "the provider fell silent");
                return Poll::Ready(Some(Err(error.into())));
            };
            this.activity.touch();
            if let (Some(meter), Some(Ok(frame))) = (&mut this.meter, &frame)
                && let Some(data) = frame.data_ref()
            {
                meter.read(data);
            }
            let Some(mask) = &mut this.mask else {
                return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
            };
            let (bytes, more) = match frame {
                Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
                // Trailers are left out: what has been held back has to go in their place.
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => (mask.push(&data), true),
                    Err(_trailers) => (mask.finish(), true),
                },
                None => (mask.finish(), false),
            };
            if !bytes.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
            if !more {
                return Poll::Ready(None);
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream() && self.mask.as_ref().is_none_or(|mask| mask.held.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        let mut size = self.body.size_hint();
        let held = self.mask.as_ref().map_or(0, |mask| mask.held.len() as u64);
        if let Some(upper) = size.upper() {
            size.set_upper(upper + held);
        }
        size.set_lower(size.lower() + held);
        size
    }
}

/// Writes stars over a key in a text that comes in pieces. The text keeps its length, which was
/// announced before it.
struct Mask {
    key: Vec<u8>,
    /// The end of what came, as far as it may be the beginning of the key.
    held: BytesMut,
}

impl Mask {
    fn new(key: &Key) -> Self {
        Self { key: key.bytes().to_owned(), held: BytesMut::new() }
    }

    /// Takes the next piece, and returns what can go on.
    fn push(&mut self, piece: &[u8]) -> Bytes {
        self.held.extend_from_slice(piece);
        while let Some(at) = memchr::memmem::find(&self.held, &self.key) {
            self.held[at..at + self.key.len()].fill(b'*');
        }
        let longest = self.held.len().min(self.key.len().saturating_sub(1));
        let keep = (1..=longest).rev().find(|length| self.held.ends_with(&self.key[..*length]));
        self.held.split_to(self.held.len() - keep.unwrap_or(0)).freeze()
    }

    /// What is left.
    fn finish(&mut self) -> Bytes {
        self.held.split().freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_covered_wherever_the_text_is_cut() {
        let text = b"keykey sk-12 sk-123 sk-1sk-123, sk-123";
        let covered = b"keykey sk-12 ****** sk-1******, ******";
        let key = Key::new("sk-123").expect("a key");
        for first in 0..text.len() {
            for second in first..text.len() {
                let mut mask = Mask::new(&key);
                let mut got = Vec::new();
                for piece in [&text[..first], &text[first..second], &text[second..]] {
                    got.extend(mask.push(piece));
                    assert!(mask.held.len() < 6);
                }
                got.extend(mask.finish());
                assert_eq!(got, covered, "cut at {first} and {second}");
            }
        }
    }
}
