//! What all routes of the server have in common: how an error is answered, where a request comes
//! from, where it carries a token, how its body is encoded, and how a body ends before its time.
//!
//! This is the lowest crate. Whose a token is, and what it allows, others decide.

mod address;
mod answer;
mod credentials;
mod encoding;
mod until;

pub use address::{ClientAddress, client_address, network};
pub use answer::error;
pub use credentials::{bearer, cookies, query_token};
pub use encoding::decoded;
pub use until::{Early, Ended, until};
