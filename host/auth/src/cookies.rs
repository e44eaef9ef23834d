//! Better Auth's cookies and how they are set.
//!
//! `Set-Cookie` is written by hand rather than by a crate because the attributes must appear in
//! Better Auth's order.

use axum::http::{HeaderMap, HeaderValue};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// The characters that JavaScript's `encodeURIComponent` leaves unescaped.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'!')
    .remove(b'~')
    .remove(b'*')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')');

/// Whether a request carries a session cookie, whether the hub runs on HTTP or HTTPS.
pub fn has_session_cookie(headers: &HeaderMap) -> bool {
    let has = |secure| {
        host_http::cookies(headers, &Cookie::SessionToken.name(secure))
            .any(|value| !value.is_empty())
    };
    has(false) || has(true)
}

/// A cookie of Better Auth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cookie {
    /// The signed session token.
    SessionToken,
    /// A cached copy of the session. Better Auth may have set it; we only expire it.
    SessionData,
    /// Marks a session that ends when the browser is closed.
    DontRemember,
    /// Ours: the sign-up whose password this browser knows, signed.
    SignUp,
}

impl Cookie {
    /// The cookie's name. Over HTTPS it has a prefix that a page cannot set over plain HTTP.
    pub fn name(self, secure: bool) -> String {
        let prefix = if secure { "__Secure-" } else { "" };
        let name = match self {
            Self::SessionToken => "session_token",
            Self::SessionData => "session_data",
            Self::DontRemember => "dont_remember",
            Self::SignUp => "sign_up",
        };
        format!("{prefix}better-auth.{name}")
    }

    /// The `Set-Cookie` value. Without `max_age` the cookie lasts until the browser is closed.
    pub fn set(self, secure: bool, value: &str, max_age: Option<u64>) -> HeaderValue {
        let mut line = format!("{}={}", self.name(secure), utf8_percent_encode(value, ENCODED));
        if let Some(seconds) = max_age {
            line += &format!("; Max-Age={seconds}");
        }
        line += "; Path=/; HttpOnly";
        if secure {
            line += "; Secure";
        }
        line += "; SameSite=Lax";
        HeaderValue::from_str(&line).expect("what is percent-encoded fits into a header")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_is_written_as_better_auth_writes_it() {
        assert_eq!(
            Cookie::SessionToken.set(false, "a.b+c/d=", Some(604_800)),
            "better-auth.session_token=a.b%2Bc%2Fd%3D; Max-Age=604800; Path=/; HttpOnly; SameSite=Lax"
        );
        assert_eq!(
            Cookie::DontRemember.set(true, "true.x=", None),
            "__Secure-better-auth.dont_remember=true.x%3D; Path=/; HttpOnly; Secure; SameSite=Lax"
        );
    }
}
