//! The bytes of a connection. A peer that does not read ends its connection.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::pace::Pace;
use crate::places::Place;

/// An accepted TCP connection.
#[derive(Debug)]
pub struct Stream {
    socket: TcpStream,
    place: Arc<Place>,
    pace: Pace,
}

impl Stream {
    pub(crate) fn new(socket: TcpStream, place: Arc<Place>, pace: Pace) -> Self {
        Self { socket, place, pace }
    }

    /// Splits off the bare connection, for protocols other than HTTP, together with its place,
    /// which must be held for as long, and the pace of the peer's reading, to be continued.
    pub fn into_parts(self) -> (TcpStream, Arc<Place>, Pace) {
        self.place.blocked(false);
        (self.socket, self.place, self.pace)
    }

    fn written(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(Ok(count)) => {
                self.place.blocked(false);
                self.pace.moved(count);
                Poll::Ready(Ok(count))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => {
                self.place.blocked(true);
                std::task::ready!(self.pace.poll_spent(context));
                // Discard what the system still buffers for this peer.
                let _ = SockRef::from(&self.socket).set_linger(Some(Duration::ZERO));
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(context, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write(context, bytes);
        self.written(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write_vectored(context, slices);
        self.written(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}
