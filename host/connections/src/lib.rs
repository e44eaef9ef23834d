//! Accepts connections and serves HTTP on them, and sees to it that none costs more than its share.
//!
//! A connection is cheap to open and, while nothing ends it, holds a file descriptor, a task and
//! whatever its request has made. So each of these has an end:
//!
//! - **A head.** From accepting a connection to the whole head of its first request, it has
//!   [`Limits::head`]. It does not matter whether it sends nothing, a letter, or the preface of
//!   HTTP/2. Between two requests it has [`Limits::idle`].
//! - **A body, and an answer.** A peer that sends or reads as slowly as it likes would hold a request
//!   for ever. It has [`Limits::patience`] to stand still, and earns it back with what it moves
//!   (`pace`). Only time that we wait for the peer counts: a handler that takes long costs its client
//!   nothing, and a stream of events on which nothing happens is not slow.
//! - **Places.** There are so many connections at once, in all and from one address (`places`). When
//!   there is no place left, the connections that have waited longest for a request give way; those
//!   that are at work never do, and when all are, a newcomer is refused. So somebody who opens
//!   connections and leaves them silent keeps out nobody.
//!
//! How many there may be follows from the files that the process may have open (`files`), with some
//! left for databases, plugins and requests of our own.
//!
//! **Proxies.** A trusted proxy opens connections on behalf of many, so its own address is not bounded.
//! Instead, requests that are under way are counted for the client that the proxy names, and a connection
//! that a request took over for as long as it is open.
//!
//! **Sockets.** Whoever takes over a connection, as WebSockets do, takes its place along
//! ([`Stream::into_parts`]) and the duty to notice a peer that stands still ([`Pace`]).

mod answer;
mod body;
mod files;
mod limits;
mod listener;
mod pace;
mod places;
mod stream;

pub use answer::Answer;
pub use body::{Paced, TooSlow};
pub use files::open_files;
pub use limits::{Limits, Maximum};
pub use listener::{App, Listener};
pub use pace::Pace;
pub use places::Place;
pub use stream::Stream;
