//! Request bodies, whose clients must keep up a minimum pace.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::BoxError;
use bytes::Buf;
use http_body::{Body, Frame, SizeHint};

use crate::pace::Pace;

/// A body that fails when its client sends too slowly.
#[derive(Debug)]
pub struct Paced<B> {
    body: B,
    pace: Pace,
}

/// A client sent its body too slowly.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the body was sent too slowly, and waited for no longer")]
pub struct TooSlow;

impl<B> Paced<B> {
    pub(crate) fn new(body: B, pace: Pace) -> Self {
        Self { body, pace }
    }
}

impl<B> Body for Paced<B>
where
    B: Body + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = B::Data;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, BoxError>>> {
        match Pin::new(&mut self.body).poll_frame(context) {
            Poll::Ready(frame) => {
                let data = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref());
                self.pace.moved(data.map_or(0, Buf::remaining));
                Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
            }
            Poll::Pending => match self.pace.poll_spent(context) {
                Poll::Ready(()) => Poll::Ready(Some(Err(TooSlow.into()))),
                Poll::Pending => Poll::Pending,
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
