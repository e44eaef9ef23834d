//! Rooms: documents that many clients edit at once, kept on disk.
//!
//! A room is a Yjs document that clients sync over WebSocket (`protocol`), with presence beside it
//! (`awareness`). [`Rooms`] opens and evicts them, [`router`] serves them, a [`Storage`] keeps
//! them. Documents are never integrated here: `store` says why that is enough, and why it is what
//! makes the server safe against what clients send.

pub mod arrays;
pub mod awareness;
mod connection;
mod http;
pub mod lib0;
mod limits;
mod outbox;
pub mod protocol;
mod room;
mod rooms;
mod socket;
mod sqlite;
mod storage;
pub mod store;
mod text;
pub mod update;

pub use arrays::{ArrayChange, Arrays};
pub use http::{Access, Authorizer, Denied, NameOf, Open, router};
pub use limits::Limits;
pub use outbox::Close;
pub use room::{Document, Edit, Hooks, Insertion, Model, Room, RoomError};
pub use rooms::{Admission, OpenError, RoomName, RoomSummary, Rooms};
#[cfg(fuzzing)]
pub use socket::{Decoder, Incoming, Violation};
pub use sqlite::Sqlite;
pub use storage::{Storage, StorageError, Stored};
pub use text::{NotText, Text};
pub use update::{Id, Update};
