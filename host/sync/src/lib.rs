//! Rooms: documents that many clients edit at once, kept on disk.
//!
//! A room is a Yjs document that clients sync over WebSocket (`protocol`), with presence beside it
//! (`awareness`). [`Rooms`] opens and evicts them, [`router`] serves them, a [`Storage`] keeps
//! them. Documents are never integrated here: `store` says why that is enough, and why it is what
//! makes the server safe against what clients send.

mod any;
pub mod arrays;
mod author;
mod authorizer;
pub mod awareness;
mod bodies;
mod budget;
mod connection;
mod edit;
mod http;
pub mod lib0;
mod limits;
mod outbox;
pub mod protocol;
mod room;
mod rooms;
mod sqlite;
mod storage;
pub mod store;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod text;
pub mod update;
mod websocket;

pub use any::Any;
pub use arrays::{ArrayChange, Arrays};
pub use author::Author;
pub use authorizer::{Authorizer, Denied, NameOf, Open, RoomAccess};
pub use edit::{Edit, Insertion};
pub use http::router;
pub use limits::Limits;
pub use room::{Document, FOLLOWED, Hooks, Model, Room, RoomError};
pub use rooms::{Admission, OpenError, RoomName, RoomSummary, Rooms};
pub use sqlite::Sqlite;
pub use storage::{Batch, Logged, Note, Notes, Storage, StorageError, Stored};
pub use text::{NotText, Text};
pub use update::{Id, Update};
pub use websocket::Close;
// For the fuzz targets.
#[doc(hidden)]
pub use websocket::{Decoder, Incoming, Violation};
