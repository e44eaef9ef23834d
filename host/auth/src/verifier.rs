//! The boundary between the code that stores accounts and the code that asks about them.
//!
//! Rooms, AI and REST take the [`Credential`] from a request and ask a [`Verifier`] whose it is.
//! There are two verifiers: a hub's own accounts, and a remote hub over HTTP. Only a verifier knows
//! which cookie holds a session and whether a token is signed.
//!
//! An answer is only valid at that moment. Anything that stays open, such as a socket, is checked
//! again: at once when [`Verifier::revocations`] names its session, and every few seconds with
//! [`Verifier::live`], because another process on the same database, or the clock, may end a
//! session too.

use std::collections::HashSet;
use std::net::IpAddr;

use async_trait::async_trait;
use axum::http::request::Parts;
use host_caller::{Account, Caller, Token, Unavailable};
use host_http::ClientAddress;
use tokio::sync::broadcast;

/// Looks up sessions by their tokens.
#[async_trait]
pub trait Verifier: Send + Sync + 'static {
    /// The credential of a request. An explicit token takes precedence over a cookie, which
    /// browsers send unasked. A verifier that sets no cookies reads none.
    fn credential(&self, request: &Parts) -> Option<Credential> {
        Credential::stated(request)
    }

    /// The caller with this token; `None` if it is nobody's or has ended. The token may be bare,
    /// signed, or signed and percent-encoded. A check does not extend a session.
    async fn verify(&self, credential: &Credential) -> Result<Option<Caller>, Unavailable>;

    /// Which of these sessions, by id, have not ended. Takes one query for all of them.
    async fn live(&self, sessions: &[String]) -> Result<HashSet<String>, Unavailable>;

    /// Updates what is known about ended sessions, for verifiers that do not learn of them at once.
    /// Callers that watch sessions call this before [`Verifier::live`], even while there is nothing
    /// to watch.
    async fn refresh(&self) {}

    /// Sessions that this process ends from now on. A receiver that lags should ask about all
    /// sessions that it holds.
    fn revocations(&self) -> broadcast::Receiver<Revoked>;
}

/// Looks up accounts.
#[async_trait]
pub trait Directory: Send + Sync + 'static {
    /// The account with this id, or with this e-mail address in any case.
    async fn find(&self, id_or_email: &str) -> Result<Option<Account>, Unavailable>;

    /// Which of these accounts, by id, exist. Takes one query for all of them.
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

/// A token from a request, not yet verified.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Credential {
    /// The token.
    pub token: Token,
    /// Where it was found.
    pub source: Source,
    /// The client's address, if known.
    pub client: Option<IpAddr>,
}

/// Where a token was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    /// `Authorization: Bearer`.
    Bearer,
    /// `?token=`, for browsers, which cannot give a WebSocket a header.
    Query,
    /// The session cookie. A browser sends it whichever page makes the request, so a server that
    /// accepts it checks the page's origin first.
    Cookie,
}

impl Credential {
    /// The explicit token of a request: its bearer token, or else `?token=`.
    pub fn stated(request: &Parts) -> Option<Self> {
        let bearer = || Some((host_http::bearer(&request.headers)?, Source::Bearer));
        let query = || Some((host_http::query_token(&request.uri)?, Source::Query));
        let (token, source) = bearer().or_else(query)?;
        Some(Self { token: token.into(), source, client: client(request) })
    }

    /// A token read from elsewhere, treated like a bearer token.
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
