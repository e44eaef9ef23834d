//! Whose session is it: the boundary between what keeps accounts and what asks about them.
//!
//! Rooms, AI and REST take the [`Credential`] out of a request and ask a [`Verifier`] whose it is.
//! There are two verifiers: a hub's own accounts, and a hub that is asked over HTTP. Only a verifier
//! knows which cookie holds a session, and whether a token is signed.
//!
//! An answer holds for the moment. Whatever stays open, such as a socket, is checked again: at once
//! when [`Verifier::revocations`] names its session, and every few seconds by [`Verifier::live`],
//! because another process on the same database, or the clock, may end a session too.

use std::collections::HashSet;
use std::net::IpAddr;

use async_trait::async_trait;
use axum::http::request::Parts;
use host_caller::{Account, Caller, Token, Unavailable};
use host_http::ClientAddress;
use tokio::sync::broadcast;

/// Knows sessions by their tokens.
#[async_trait]
pub trait Verifier: Send + Sync + 'static {
    /// The credential of a request: a stated one counts before a cookie, which browsers add unasked.
    /// A verifier that sets no cookies reads none.
    fn credential(&self, request: &Parts) -> Option<Credential> {
        Credential::stated(request)
    }

    /// Whose session it is; `None` when it is nobody's, or has ended. Every spelling of a token is
    /// taken: bare, signed, and signed and percent-encoded. A check does not extend a session.
    async fn verify(&self, credential: &Credential) -> Result<Option<Caller>, Unavailable>;

    /// Which of these sessions, by id, have not ended. It takes one query for all of them.
    async fn live(&self, sessions: &[String]) -> Result<HashSet<String>, Unavailable>;

    /// Finds out which sessions have ended, where that cannot be told at once. Whoever watches
    /// sessions calls it before [`Verifier::live`], also while there is nothing to watch.
    async fn refresh(&self) {}

    /// Sessions that this process ends from now on. A receiver that lags should ask about all the
    /// sessions that it holds.
    fn revocations(&self) -> broadcast::Receiver<Revoked>;
}

/// Looks accounts up.
#[async_trait]
pub trait Directory: Send + Sync + 'static {
    /// The account with this id, or with this e-mail address in any case.
    async fn find(&self, id_or_email: &str) -> Result<Option<Account>, Unavailable>;

    /// Which of these accounts, by id, exist. It takes one query for all of them.
    async fn existing(&self, accounts: &[String]) -> Result<HashSet<String>, Unavailable>;
}

/// What ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Revoked {
    /// One session, by its id.
    Session(String),
    /// All sessions of an account, by its id.
    User(String),
}

/// A token as it stood in a request, not yet verified.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Credential {
    /// The token.
    pub token: Token,
    /// Where it stood.
    pub source: Source,
    /// The address of the client, where it is known.
    pub client: Option<IpAddr>,
}

/// Where a token stood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    /// `Authorization: Bearer`.
    Bearer,
    /// `?token=`, for browsers, which cannot give a WebSocket a header.
    Query,
    /// The session cookie. A browser sends it by itself, whichever page makes the request, so a
    /// server that takes it checks the page's origin first.
    Cookie,
}

impl Credential {
    /// The token that a request states outright: its bearer, or else `?token=`.
    pub fn stated(request: &Parts) -> Option<Self> {
        let bearer = || Some((host_http::bearer(&request.headers)?, Source::Bearer));
        let query = || Some((host_http::query_token(&request.uri)?, Source::Query));
        let (token, source) = bearer().or_else(query)?;
        Some(Self { token: token.into(), source, client: client(request) })
    }

    /// A token that was read somewhere else, and counts like a bearer.
    pub fn bearer(token: &str) -> Self {
        Self { token: token.into(), source: Source::Bearer, client: None }
    }
}

fn client(request: &Parts) -> Option<IpAddr> {
    request.extensions.get().map(|ClientAddress(address)| *address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::type_complexity, reason = "a table of cases")]
    fn a_bearer_counts_before_the_query() {
        let cases: &[(&str, Option<&str>, Option<(&str, Source)>)] = &[
            ("/", None, None),
            ("/?token=q", None, Some(("q", Source::Query))),
            ("/?token=q", Some("bearer b"), Some(("b", Source::Bearer))),
            ("/?token=q", Some("Basic b"), Some(("q", Source::Query))),
        ];
        for (uri, authorization, expected) in cases {
            let mut request = axum::http::Request::builder().uri(*uri);
            if let Some(value) = authorization {
                request = request.header("authorization", *value);
            }
            let (parts, ()) = request.body(()).expect("the request is well formed").into_parts();
            let found = Credential::stated(&parts);
            let found = found.as_ref().map(|found| (found.token.as_str(), found.source));
            assert_eq!(found, *expected, "{uri} {authorization:?}");
        }
    }
}
