//! Workspaces: tables, key-values and actions over a room's document.
//!
//! [`Workspaces`] mounts them and serves their routes. What a workspace means is its [`Logic`]'s
//! to say; this crate keeps the rows (`index`), shows them as the logic parses them
//! (`generation`), and lets writers change them together (`work`, `transaction`, `workspace`).
//! How all that looks from outside is in `http`, one module for each capability.

mod actions;
mod authority;
mod condition;
mod context;
pub mod definition;
mod documents;
mod error;
mod fields;
mod generation;
mod http;
mod ids;
mod index;
pub mod logic;
mod pending;
pub mod query;
mod rules;
pub mod schema;
#[cfg(test)]
mod tests;
mod transaction;
mod work;
mod workspace;
mod workspaces;
mod written;

pub use actions::ActionFailure;
pub use context::Context;
pub use definition::{Definition, Issue};
pub use error::{ActionError, Fault};
pub use http::{RequestId, context_of};
pub use ids::new_id;
pub use logic::{Change, Data, Logic, Operation, Parsed, Source};
pub use transaction::MAX_ROW;
pub use workspaces::{MountError, Mounted, RowCounts, Workspaces};
