//! Bodies in transit, and the idle timeout.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::BoxError;
use axum::body::BodyDataStream;
use bytes::Bytes;
use futures_util::Stream;
use hyper::body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::decoder::Decoder;
use super::secret::Mask;
use crate::admission::Permit;

/// When data last moved in either direction. Cheap to clone.
#[derive(Clone)]
pub(super) struct Activity {
    last: Arc<Mutex<Instant>>,
    limit: Duration,
}

impl Activity {
    pub fn new(limit: Duration) -> Self {
        Self { last: Arc::new(Mutex::new(Instant::now())), limit }
    }

    /// Records that data moved.
    pub fn touch(&self) {
        *self.last.lock() = Instant::now();
    }

    /// The idle timeout.
    pub fn limit(&self) -> Duration {
        self.limit
    }

    /// Resolves when nothing has moved for too long.
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

/// A request body on its way to the provider.
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

/// A response body on its way to the caller. It fails when the provider's connection fails or is
/// idle for too long; the caller's connection is then closed in mid-answer.
pub(super) struct Download {
    body: reqwest::Body,
    activity: Activity,
    silence: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    mask: Option<Mask>,
    meter: Option<Decoder>,
    /// Counts as in flight until the body has been read or dropped.
    _admitted: Permit,
}

impl Download {
    /// `mask` hides the key wherever the answer repeats it; `meter` reads the usage.
    pub fn new(
        body: reqwest::Body,
        activity: Activity,
        mask: Option<Mask>,
        meter: Option<Decoder>,
        admitted: Permit,
    ) -> Self {
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
                // Trailers are dropped: bytes that were held back are sent in their place.
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => (mask.push(data), true),
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
        self.body.is_end_stream() && self.mask.as_ref().is_none_or(|mask| mask.held() == 0)
    }

    fn size_hint(&self) -> SizeHint {
        let mut size = self.body.size_hint();
        let held = self.mask.as_ref().map_or(0, |mask| mask.held() as u64);
        if let Some(upper) = size.upper() {
            size.set_upper(upper + held);
        }
        size.set_lower(size.lower() + held);
        size
    }
}
