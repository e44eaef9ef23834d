//! The server's side of WebSocket (RFC 6455): the handshake, the frames, and the two halves of a
//! connection that was upgraded.
//!
//! This is ours, and not a library such as `tungstenite` or `fastwebsockets`, for three things that
//! those cannot do. A frame is encoded once and the same bytes go to every socket; a library
//! encodes for one connection. Whoever has something to send writes it to the socket at once,
//! without waking the socket's task, and only what the socket does not take waits for that task; a
//! library wants to own the stream. And an idle socket holds no buffer: bytes are read into a
//! buffer that all sockets of a thread share, and are kept only while they are part of an
//! incomplete message. Together these halve the cost of a delivery and keep an idle connection
//! at about 8 KiB. What remains of the protocol is small: no extensions, no client side, and the
//! decoder is fuzzed.

mod frames;
mod handshake;
mod stream;

pub use frames::{Close, Decoder, Incoming, Violation};
pub(crate) use frames::{binary, close, ping, pong};
pub(crate) use handshake::handshake;
pub(crate) use stream::{ReadHalf, Taken, WriteHalf, take};
