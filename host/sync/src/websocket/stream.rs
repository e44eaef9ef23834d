use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use host_connections::{Pace, Place, Stream};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto::upgrade::downcast;
use socket2::SockRef;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::{TcpStream, UnixStream, tcp, unix};

/// Bytes of one read.
const READ: usize = 64 * 1024;
/// Frames of one write.
const WRITE: usize = 16;

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ].into());
}

/// A connection that was taken over.
pub(crate) struct Taken {
    pub read: ReadHalf,
    pub write: WriteHalf,
    /// What was read of it already.
    pub first: Bytes,
    /// How patient one is with its peer.
    pub pace: Pace,
}

/// Takes over a connection.
pub(crate) fn take(upgraded: Upgraded) -> io::Result<Taken> {
    let upgraded = match upgraded.downcast::<TokioIo<Stream>>() {
        Ok(parts) => {
            let (socket, place, pace) = parts.io.into_inner().into_parts();
            let (read, write) = socket.into_split();
            let (read, write) = (ReadHalf::Tcp(read, Some(place)), WriteHalf::Tcp(write));
            return Ok(Taken { read, write, first: parts.read_buf, pace });
        }
        Err(upgraded) => upgraded,
    };
    let pace = Pace::new(&host_connections::Limits::default());
    match downcast::<TokioIo<TcpStream>>(upgraded) {
        Ok(parts) => {
            let (read, write) = parts.io.into_inner().into_split();
            let (read, write) = (ReadHalf::Tcp(read, None), WriteHalf::Tcp(write));
            Ok(Taken { read, write, first: parts.read_buf, pace })
        }
        Err(upgraded) => {
            let (ours, mut theirs) = UnixStream::pair()?;
            // Ends when either end does; the socket's own task holds the other one.
            tokio::spawn(async move {
                let mut upgraded = TokioIo::new(upgraded);
                let _ = tokio::io::copy_bidirectional(&mut upgraded, &mut theirs).await;
            });
            let (read, write) = ours.into_split();
            let (read, write) = (ReadHalf::Pipe(read), WriteHalf::Pipe(write));
            Ok(Taken { read, write, first: Bytes::new(), pace })
        }
    }
}

/// The half of a connection that its task reads.
#[derive(Debug)]
pub(crate) enum ReadHalf {
    /// With its place among the connections of the server, where that counts them.
    Tcp(
        tcp::OwnedReadHalf,
        #[expect(dead_code, reason = "it is held, not read")] Option<Arc<Place>>,
    ),
    /// One end of a pipe to a connection of another kind, such as TLS.
    Pipe(unix::OwnedReadHalf),
}

impl ReadHalf {
    fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(half, _) => Pin::new(half).poll_read(context, buffer),
            Self::Pipe(half) => Pin::new(half).poll_read(context, buffer),
        }
    }

    /// Waits for bytes and passes them to `take`, in a buffer that all sockets of a thread share.
    /// There are none at the end of the connection.
    pub async fn read<T>(&mut self, mut take: impl FnMut(&[u8]) -> T) -> io::Result<T> {
        std::future::poll_fn(|context| {
            SCRATCH.with_borrow_mut(|scratch| {
                let mut buffer = ReadBuf::new(scratch);
                ready!(self.poll_read(context, &mut buffer))?;
                Poll::Ready(Ok(take(buffer.filled())))
            })
        })
        .await
    }

    /// Reads to the end and keeps nothing. A connection that is dropped while something of it is
    /// not read is reset, and a reset takes from the peer what it has not read: the close.
    pub async fn drain(&mut self) {
        while let Ok(false) = self.read(<[u8]>::is_empty).await {}
    }
}

/// The half of a connection that can be written to from anywhere.
#[derive(Debug)]
pub(crate) enum WriteHalf {
    Tcp(tcp::OwnedWriteHalf),
    Pipe(unix::OwnedWriteHalf),
}

impl WriteHalf {
    /// Waits until something may be written.
    pub async fn writable(&self) -> io::Result<()> {
        match self {
            Self::Tcp(half) => half.writable().await,
            Self::Pipe(half) => half.writable().await,
        }
    }

    /// Writes what the socket takes of some frames, the first of which was written in part.
    pub fn try_write<'a>(
        &self,
        frames: impl Iterator<Item = &'a Bytes>,
        written: usize,
    ) -> io::Result<usize> {
        let mut slices = [IoSlice::new(&[]); WRITE];
        let mut count = 0;
        for (slice, frame) in slices.iter_mut().zip(frames) {
            let skip = if count == 0 { written } else { 0 };
            *slice = IoSlice::new(&frame[skip..]);
            count += 1;
        }
        match self {
            // The cheaper call where one will do.
            Self::Tcp(half) if count == 1 => half.try_write(&slices[0]),
            Self::Tcp(half) => half.try_write_vectored(&slices[..count]),
            Self::Pipe(half) => half.try_write_vectored(&slices[..count]),
        }
    }

    /// Gives up what waits in the system for a peer that does not read: once the connection is dropped,
    /// it is not kept any longer.
    pub fn reset(&self) {
        if let Self::Tcp(half) = self {
            let _ = SockRef::from(half.as_ref()).set_linger(Some(Duration::ZERO));
        }
    }

    /// Tells the peer that nothing more will come.
    pub fn shutdown(&self) {
        // What is gone already needs no end.
        let _ = match self {
            Self::Tcp(half) => SockRef::from(half.as_ref()).shutdown(Shutdown::Write),
            Self::Pipe(half) => SockRef::from(half.as_ref()).shutdown(Shutdown::Write),
        };
    }
}
