//! Cookies: reading those of a request, writing those of an answer.

use axum::http::{HeaderMap, HeaderValue, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::limits;

/// What JavaScript's `encodeURIComponent` leaves as it is.
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

/// The cookies of Better Auth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cookie {
    /// The signed token of the session.
    SessionToken,
    /// A copy of the session. We never set it, and expire it with the others.
    SessionData,
    /// Says that the session is forgotten with the browser's window.
    DontRemember,
}

impl Cookie {
    pub fn name(self, secure: bool) -> String {
        let prefix = if secure { "__Secure-" } else { "" };
        let name = match self {
            Self::SessionToken => "session_token",
            Self::SessionData => "session_data",
            Self::DontRemember => "dont_remember",
        };
        format!("{prefix}better-auth.{name}")
    }

    /// The `Set-Cookie` that sets it, for the session of the browser unless it says how long.
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

    /// Its value in a request: that of the first cookie with the name.
    pub fn read(self, secure: bool, headers: &HeaderMap) -> Option<String> {
        let name = self.name(secure);
        let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
        let mut pairs =
            lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.split_once('='));
        let (_, value) = pairs.find(|(found, _)| found.trim() == name)?;
        let value = value.trim();
        let value =
            value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
        if value.len() > limits::TOKEN {
            return None;
        }
        Some(percent_decode_str(value).decode_utf8().ok()?.into_owned())
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

    #[test]
    fn the_first_cookie_of_the_very_name_counts() {
        let read = |line: &str, secure| {
            let mut headers = HeaderMap::new();
            headers.insert(header::COOKIE, line.parse().expect("a header"));
            Cookie::SessionToken.read(secure, &headers)
        };
        for (line, secure, expected) in [
            ("better-auth.session_token=a%2Bb", false, Some("a+b")),
            ("x=y;better-auth.session_token=\"a\"; better-auth.session_token=b", false, Some("a")),
            ("better-auth.session_token=a", true, None),
            ("__Secure-better-auth.session_token=a", true, Some("a")),
            ("__Secure-better-auth.session_token=a", false, None),
            ("xbetter-auth.session_token=a; nonsense", false, None),
            ("better-auth.session_token=%ff", false, None),
        ] {
            assert_eq!(read(line, secure).as_deref(), expected, "{line}");
        }
        assert_eq!(read(&format!("better-auth.session_token={}", "a".repeat(9999)), false), None);
    }
}
