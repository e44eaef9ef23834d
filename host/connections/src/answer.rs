//! Response bodies. A connection is at work until its response body is done.

use std::pin::Pin;
use std::task::{Context, Poll};

use http_body::{Body, Frame, SizeHint};

use crate::places::{Asked, Working};

/// The body of a response. When it is dropped, the connection waits for the next request.
#[derive(Debug)]
pub struct Answer<B> {
    body: B,
    _working: Option<Working>,
    _asked: Option<Asked>,
}

impl<B> Answer<B> {
    pub(crate) fn new(body: B, working: Option<Working>, asked: Option<Asked>) -> Self {
        Self { body, _working: working, _asked: asked }
    }
}

impl<B: Body + Unpin> Body for Answer<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
