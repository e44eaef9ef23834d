//! The files that a server writes: databases, keys and secrets.
//!
//! What holds for all of them is here once. They are for this account alone (0600), whatever the umask; one that others
//! can read is tightened, and the log says so. A file is written whole, under another name and then renamed, so that a
//! crash leaves the old one or the new one. One that is empty or cut where it cannot be is not taken for a new one.

mod database;
mod log;
mod whole;

pub use database::{Database, OpenError, Place, check_database, create_database, tighten_database};
pub use rusqlite_migration::M;
pub use whole::{keep, tighten, tighten_shared, write_whole};
