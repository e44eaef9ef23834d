//! Rooms: documents that many clients edit at once, kept on disk.

pub mod arrays;
pub mod awareness;
pub mod lib0;
pub mod protocol;
pub mod store;
pub mod update;
