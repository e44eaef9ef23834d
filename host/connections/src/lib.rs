//! Accepts connections, serves HTTP on them, and bounds what each may cost.
//!
//! A connection is cheap to open, but until something ends it, it holds a file descriptor, a task,
//! and whatever its request has allocated. So every phase has a limit:
//!
//! - **Request heads.** From being accepted to the whole head of its first request, a connection
//!   has [`Limits::head`]. It does not matter whether it sends nothing, one letter, or the HTTP/2
//!   preface. Between two requests it has [`Limits::idle`].
//! - **Bodies and responses.** A peer that sends or reads arbitrarily slowly would hold a request
//!   forever. It may stall for [`Limits::patience`] and regains that time with the bytes that it
//!   moves (`pace`). Only time spent waiting for the peer counts: a slow handler costs its client
//!   nothing, and an event stream without events is not slow.
//! - **Places.** The number of connections is limited, in total and per address (`places`). When
//!   all places are taken, the connections that have waited longest for a request are closed. Those
//!   at work never are, and if all are at work, a newcomer is refused. So opening connections and
//!   keeping them silent locks nobody out.
//!
//! The total follows from the process's limit on open files (`files`), minus a reserve for
//! databases, plugins and our own requests.
//!
//! **Proxies.** A trusted proxy opens connections on behalf of many clients, so its own address is
//! not limited. Instead, requests in flight are counted for the client that the proxy names, as are
//! upgraded connections for as long as they are open.
//!
//! **Sockets.** Code that takes over a connection, as WebSockets do, also takes its place
//! ([`Stream::into_parts`]) and must itself detect a stalled peer ([`Pace`]).

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
