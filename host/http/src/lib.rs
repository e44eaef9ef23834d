//! What all routes of the server have in common: how an error is answered, and where a request
//! carries a token.
//!
//! This is the lowest crate. Whose a token is, and what it allows, others decide.

mod answer;
mod credentials;

pub use answer::error;
pub use credentials::{bearer, cookies, query_token};
