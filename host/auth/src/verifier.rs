//! Who is behind a request: the boundary between what keeps accounts and what asks about them.
//!
//! Rooms, AI and the proxy want to know one thing of a request: whose is it? They take the
//! [`Token`] out of it with [`Token::of`], and ask a [`Verifier`], of which there are several: the
//! hub's own accounts, a hub that is asked over HTTP, or something of one's own. Nothing but a
//! verifier looks into a token, and a token is never shown: its `Debug` hides it.
//!
//! A verdict is about a moment. What stays open, a socket, is asked about again: at once when
//! [`Verifier::revocations`] names its session, and every few seconds by [`Verifier::live`],
//! because a session can also be ended by another process on the same database, or by the clock.

use std::collections::HashSet;
use std::fmt;
use std::time::SystemTime;

use async_trait::async_trait;
use axum::http::header;
use axum::http::request::Parts;
use tokio::sync::broadcast;

/// The names of the cookie that holds a session: over plain HTTP, and over HTTPS.
pub const SESSION_COOKIES: [&str; 2] =
    ["better-auth.session_token", "__Secure-better-auth.session_token"];

/// Somebody with an account.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct User {
    /// Names the account for good.
    pub id: String,
    /// What the person is called.
    pub name: String,
    /// In lower case.
    pub email: String,
}

/// Somebody who is signed in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Who it is.
    pub user: User,
    /// Names the session (`session.id`, not its token).
    pub session: String,
    /// When the session ends, if it is not extended until then.
    pub expires_at: SystemTime,
}

/// Knows sessions by their tokens.
#[async_trait]
pub trait Verifier: Send + Sync + 'static {
    /// Whose token it is; none when it is nobody's, or no longer. It takes all spellings of a
    /// session token: bare, signed, and signed and percent-encoded. Looking does not extend a
    /// session.
    async fn verify(&self, token: &Token) -> Result<Option<Identity>, VerifyError>;

    /// Which of these sessions, by their ids, still are. One query for all of them.
    async fn live(&self, sessions: &[String]) -> Result<HashSet<String>, VerifyError>;

    /// Sessions that this process ends, from now on. Whoever misses some (`Lagged`) asks about
    /// all that it holds again.
    fn revocations(&self) -> broadcast::Receiver<Revoked>;
}

/// Knows accounts by what people call them.
#[async_trait]
pub trait Directory: Send + Sync + 'static {
    /// The account with this id, or this e-mail address in any case.
    async fn find(&self, id_or_email: &str) -> Result<Option<User>, VerifyError>;
}

/// What ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Revoked {
    /// One session, by its id.
    Session(String),
    /// All sessions of an account, by its id.
    User(String),
}

/// Nothing can be said of a token now. HTTP: 503.
#[derive(Debug, Clone, thiserror::Error)]
#[error("sessions cannot be checked now: {0}")]
pub struct VerifyError(pub String);

/// A token as it stood in a request, not yet believed.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Token {
    /// The token.
    pub value: String,
    /// Where it stood.
    pub place: Place,
}

/// Where a token stood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Place {
    /// `Authorization: Bearer`.
    Bearer,
    /// `?token=`, for browsers, which cannot give a WebSocket a header.
    Query,
    /// The session cookie. A browser sends it by itself, whichever page asks: a server that takes
    /// it checks the page's origin first.
    Cookie,
}

impl Token {
    /// The token of a request: what is said outright counts before what a browser sends along.
    pub fn of(request: &Parts) -> Option<Self> {
        let bearer = || Some((bearer(request)?.to_owned(), Place::Bearer));
        let query = || Some((query(request)?, Place::Query));
        let cookie = || Some((cookie(request)?, Place::Cookie));
        let (value, place) = bearer().or_else(query).or_else(cookie)?;
        Some(Self { value, place })
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("place", &self.place).finish_non_exhaustive()
    }
}

fn bearer(request: &Parts) -> Option<&str> {
    let (scheme, token) =
        request.headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

fn query(request: &Parts) -> Option<String> {
    let pairs = serde_urlencoded::from_str::<Vec<(String, String)>>(request.uri.query()?).ok()?;
    let (_, token) = pairs.into_iter().find(|(name, _)| name == "token")?;
    (!token.is_empty()).then_some(token)
}

/// The first cookie of either name, decoded once. Which of the two names counts is known by whose
/// tokens they are; a page cannot set the `__Secure-` one over plain HTTP.
fn cookie(request: &Parts) -> Option<String> {
    let lines = request.headers.get_all(header::COOKIE).iter();
    let cookies = lines.filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(';'));
    let (_, value) = cookies
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(name, _)| SESSION_COOKIES.contains(name))?;
    let value = percent_encoding::percent_decode_str(value).decode_utf8().ok()?;
    (!value.is_empty()).then(|| value.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(uri: &str, headers: &[(&str, &str)]) -> Option<(String, Place)> {
        let mut request = axum::http::Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).expect("the request is well formed").into_parts();
        Token::of(&parts).map(|token| (token.value, token.place))
    }

    #[test]
    #[expect(clippy::type_complexity, reason = "a table of cases")]
    fn a_token_is_taken_from_the_header_then_the_query_then_the_cookie() {
        use Place::{Bearer, Cookie, Query};
        let cookie = ("cookie", "a=b; better-auth.session_token=c.x%3D; other=1");
        let bearer = ("authorization", "bearer b");
        let cases: &[(&str, &[(&str, &str)], Option<(&str, Place)>)] = &[
            ("/", &[], None),
            ("/?token=q", &[], Some(("q", Query))),
            ("/?a=1&token=q%2Bq&token=r", &[], Some(("q+q", Query))),
            ("/?token=", &[], None),
            ("/?tokens=q", &[], None),
            ("/", &[cookie], Some(("c.x=", Cookie))),
            ("/?token=q", &[cookie], Some(("q", Query))),
            ("/?token=q", &[cookie, bearer], Some(("b", Bearer))),
            ("/", &[("authorization", "Bearer  b ")], Some(("b", Bearer))),
            ("/", &[("authorization", "Bearer ")], None),
            ("/", &[("authorization", "b")], None),
            ("/", &[("authorization", "Basic b")], None),
            (
                "/",
                &[("cookie", "x=1"), ("cookie", "__Secure-better-auth.session_token=s")],
                Some(("s", Cookie)),
            ),
            ("/", &[("cookie", "xbetter-auth.session_token=s")], None),
            ("/", &[("cookie", "better-auth.session_token=%ff")], None),
        ];
        for (uri, headers, expected) in cases {
            let expected = expected.map(|(value, place)| (value.to_owned(), place));
            assert_eq!(token(uri, headers), expected, "{uri} {headers:?}");
        }
    }

    #[test]
    fn a_token_is_not_shown() {
        let token = Token { value: "secret".into(), place: Place::Query };
        assert!(!format!("{token:?}").contains("secret"));
    }
}
