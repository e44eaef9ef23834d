//! Who asks.
//!
//! This crate knows no accounts. A server that has them checks the session before a request gets
//! here, and puts a [`Caller`] into the request's extensions; without one, whoever reaches the
//! server is one nameless caller.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;

use crate::providers::Key;

/// Who asks, as the server found out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The account's id. It never changes, unlike a name or an address.
    pub user: String,
    /// Their session of the hub that this server belongs to. Providers for which this server has no
    /// key are asked through the hub's proxy, with this.
    pub session: Option<Key>,
}

impl Caller {
    /// The account of that id.
    pub fn of(user: impl Into<String>) -> Self {
        Self { user: user.into(), session: None }
    }

    /// The caller of a server without accounts. No account has an empty id.
    pub fn nameless() -> Self {
        Self::of("")
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(parts.extensions.get::<Caller>().cloned().unwrap_or_else(Caller::nameless))
    }
}
