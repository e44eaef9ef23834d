//! Workspaces: tables, key-values and actions over a room's document.
//!
//! [`Workspaces`] mounts them and serves their routes. What a workspace means is its [`Logic`]'s
//! to say; this crate keeps the rows (`index`), shows them as the logic parses them
//! (`generation`), and lets writers change them together (`work`, `transaction`, `workspace`).
//! How all that looks from outside is in `http`, one module for each capability.

pub mod definition;
mod documents;
mod fields;
mod generation;
mod http;
mod index;
pub mod logic;
mod query;
pub mod schema;
mod tag;
#[cfg(test)]
mod tests;
pub mod transaction;
mod work;
mod workspace;
mod workspaces;
mod written;

pub use definition::{Definition, Issue};
pub use http::{Refused, new_id};
pub use logic::{ActionError, Change, Fault, Logic, Operation, Parsed};
pub use transaction::{Context, RequestId, Transaction};
pub use workspaces::{MountError, Mounted, RowCounts, Workspaces};
