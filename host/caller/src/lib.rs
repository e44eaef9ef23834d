//! Who makes a request.
//!
//! Whoever checks sessions puts a [`Caller`] into the extensions of the request; workspaces, AI and
//! rooms read it from there. A request without one comes from a server that wants no sessions, where
//! all callers are the same nobody. Parts that find tokens in places of their own, as the proxy for
//! provider SDKs does, ask [`Callers`].
//!
//! A plugin is shown the [`Account`], never the token.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::Serialize;

/// The account of somebody who is signed in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Account {
    /// Identifies the account for good, unlike its address or name.
    pub id: String,
    /// In lower case.
    pub email: String,
    /// The display name.
    pub name: String,
    /// Whether the address is theirs as far as the server wants to know: they have verified it, or
    /// nobody has to.
    #[serde(skip)]
    pub owns_address: bool,
}

/// What somebody may do with a document: a room, or a workspace. Each right includes those before it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Right {
    /// Read, and watch.
    Read,
    /// Read and write.
    Write,
    /// It is theirs. Without accounts it is everybody's.
    #[default]
    Owner,
}

impl Account {
    /// An account of which only the id is known.
    pub fn of_id(id: &str) -> Self {
        Self { id: id.to_owned(), email: String::new(), name: String::new(), owns_address: false }
    }

    /// The names by which others may share something with this account. An address that has to be
    /// verified and is not may be anybody's.
    pub fn names(&self) -> Vec<String> {
        let email = self.owns_address.then(|| self.email.clone());
        std::iter::once(self.id.clone()).chain(email).collect()
    }
}

/// Somebody who is signed in: an account, and the session that says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The account.
    pub account: Account,
    /// The id of the session, which is not a secret.
    pub session: Arc<str>,
    /// The token that the request carried. A local server without provider keys shows it to its hub.
    pub token: Token,
}

/// The id of the account that a request counts for. It is empty for nobody, as no account's id is.
pub fn account_id(caller: Option<&Caller>) -> &str {
    caller.map_or("", |caller| &caller.account.id)
}

/// A session's token. `Debug` hides it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Token(Arc<str>);

impl Token {
    /// The token as text, for the one place that it is meant for.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<T: Into<Arc<str>>> From<T> for Token {
    fn from(text: T) -> Self {
        Self(text.into())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// Resolves when a session has ended.
pub type Ended = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Identifies callers by their tokens, for parts of the server that read tokens themselves.
#[async_trait]
pub trait Callers: Send + Sync + 'static {
    /// Whose token it is; `None` when it is nobody's, or no longer.
    async fn identify(&self, token: &str) -> Result<Option<Caller>, Unavailable>;

    /// Resolves within two seconds after the caller's session has ended, wherever that happened.
    fn ended(&self, caller: &Caller) -> Ended;
}

/// Why a session cannot be checked now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// Whatever keeps sessions fails. HTTP: 503.
    #[error("sessions cannot be checked now: {0}")]
    Failed(String),
    /// Too many unknown tokens were tried. HTTP: 429.
    #[error("too many unknown tokens were tried; try again in {} s", .0.as_secs() + 1)]
    TooOften(Duration),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_not_shown() {
        assert!(!format!("{:?}", Token::from("secret")).contains("secret"));
    }
}
