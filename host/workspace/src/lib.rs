//! Tables, key-values and actions over a room's document: their index, REST and transactions.

pub mod definition;
pub mod logic;
pub mod transaction;
mod workspaces;

pub use definition::{Caller, Definition, Issue};
pub use logic::{ActionError, Change, Fault, Logic, Operation, Parsed};
pub use transaction::Transaction;
pub use workspaces::{MountError, Mounted, Workspaces};
