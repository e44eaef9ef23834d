//! Bodies that end before their time, because the one who sends or reads them may no longer.
//!
//! Most bodies are there at once, or are read in one go, and cost nothing here: only one that keeps
//! somebody waiting begins to listen for its end.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, HttpBody};
use bytes::Bytes;
use http_body::{Frame, SizeHint};

/// Resolves when a body has to end.
pub type Ended = Pin<Box<dyn Future<Output = ()> + Send>>;

/// How a body ends before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Early {
    /// As if it were complete: for events, whose readers come back and are refused.
    Completely,
    /// With an error, so that nobody takes a part for the whole.
    Broken,
}

/// A body that ends when `listen` says so, at the latest.
pub fn until(body: Body, early: Early, listen: impl FnOnce() -> Ended + Send + 'static) -> Body {
    Body::new(Until { body, early, listen: Some(Box::new(listen)), ended: None, over: false })
}

struct Until {
    body: Body,
    early: Early,
    listen: Option<Box<dyn FnOnce() -> Ended + Send>>,
    ended: Option<Ended>,
    over: bool,
}

#[derive(Debug)]
struct Over;

impl std::fmt::Display for Over {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the session has ended")
    }
}

impl std::error::Error for Over {}

impl HttpBody for Until {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        if !this.over {
            let ended = this.ended.as_mut();
            this.over = ended.is_some_and(|ended| ended.as_mut().poll(context).is_ready());
            if !this.over {
                let frame = Pin::new(&mut this.body).poll_frame(context);
                if frame.is_ready() {
                    return frame;
                }
                let Some(listen) = this.listen.take() else { return Poll::Pending };
                let mut ended = listen();
                this.over = ended.as_mut().poll(context).is_ready();
                this.ended = Some(ended);
                if !this.over {
                    return Poll::Pending;
                }
            }
            // Whatever the body holds goes now, and not when the connection does.
            this.body = Body::empty();
            if this.early == Early::Broken {
                return Poll::Ready(Some(Err(axum::Error::new(Over))));
            }
        }
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        self.over || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        if self.over { SizeHint::with_exact(0) } else { self.body.size_hint() }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::task::Waker;

    use super::*;

    /// One that is never complete.
    struct Endless;

    impl HttpBody for Endless {
        type Data = Bytes;
        type Error = axum::Error;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
            Poll::Pending
        }
    }

    fn poll(body: &mut Body) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(body).poll_frame(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_body_that_waits_ends_when_it_has_to() {
        let mut whole = until(Body::from("x"), Early::Broken, || panic!("it does not wait"));
        assert!(matches!(poll(&mut whole), Poll::Ready(Some(Ok(_)))));
        assert!(matches!(poll(&mut whole), Poll::Ready(None)));

        let mut open = until(Body::new(Endless), Early::Broken, || Box::pin(pending()));
        assert!(poll(&mut open).is_pending() && poll(&mut open).is_pending());

        let mut broken = until(Body::new(Endless), Early::Broken, || Box::pin(ready(())));
        assert!(matches!(poll(&mut broken), Poll::Ready(Some(Err(_)))));
        assert!(matches!(poll(&mut broken), Poll::Ready(None)));
        let mut complete = until(Body::new(Endless), Early::Completely, || Box::pin(ready(())));
        assert!(matches!(poll(&mut complete), Poll::Ready(None)));
    }
}
