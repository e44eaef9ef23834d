//! Which web pages may sign people in, and where answers may send them.
//!
//! A page is known by its origin. Those of the server itself and those that are named as trusted
//! may; an origin is compared whole, so that `tauri://localhost.evil` is not `tauri://localhost`.

use url::{Origin, Url};

/// Only to resolve relative URLs against: no host has this name (RFC 2606).
const NOWHERE: &str = "https://nowhere.invalid";

/// Not an origin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an origin; write it like https://example.com, without a path")]
pub struct NotAnOrigin(pub String);

/// The origins that are trusted besides the server's own.
#[derive(Clone, Default)]
pub struct TrustedOrigins(Vec<String>);

impl TrustedOrigins {
    /// Origins that are written like `https://example.com`.
    pub fn new(origins: &[String]) -> Result<Self, NotAnOrigin> {
        let parse = |text: &String| {
            let wrong = || NotAnOrigin(text.clone());
            let origin = origin_of(text).ok_or_else(wrong)?;
            // With a path or a wildcard it would say more than an origin can.
            let whole = text.trim_end_matches('/').eq_ignore_ascii_case(&origin);
            if whole && !text.contains('*') { Ok(origin) } else { Err(wrong()) }
        };
        Ok(Self(origins.iter().map(parse).collect::<Result<_, _>>()?))
    }

    /// Whether a page is trusted. `page` is an `Origin` or a `Referer`.
    pub fn trusts(&self, page: &str) -> bool {
        origin_of(page).is_some_and(|origin| self.0.contains(&origin))
    }

    /// Whether a page is trusted, or has our `own` origin.
    pub(crate) fn trusts_or_own(&self, page: &str, own: &str) -> bool {
        origin_of(page).is_some_and(|origin| origin == own || self.0.contains(&origin))
    }

    /// Whether an answer may redirect to a URL: a trusted one, or a path of our own.
    pub(crate) fn may_redirect(&self, url: &str, own: &str) -> bool {
        if url.starts_with('/') { is_path(url) } else { self.trusts_or_own(url, own) }
    }
}

/// The origin of a URL, in lower case, as `scheme://host` with a port that is not the scheme's.
pub(crate) fn origin_of(url: &str) -> Option<String> {
    if url.chars().any(char::is_control) {
        return None;
    }
    let parsed = Url::parse(url).ok()?;
    match parsed.origin() {
        origin @ Origin::Tuple(..) => Some(origin.ascii_serialization()),
        // Other schemes have no origin by the URL standard, so it is scheme and authority.
        Origin::Opaque(_) => {
            let (scheme, rest) = url.split_once("://")?;
            let authority = rest.split(['/', '?', '#', '\\']).next()?;
            let plain = !authority.is_empty() && !authority.contains(['@', '*']);
            plain.then(|| format!("{scheme}://{authority}").to_ascii_lowercase())
        }
    }
}

/// Whether a URL is a path here, for every browser and proxy that may read it.
fn is_path(url: &str) -> bool {
    let path = url.split(['?', '#']).next().unwrap_or_default().to_ascii_lowercase();
    let ours = || {
        let base = Url::parse(NOWHERE).ok()?;
        Some(base.join(url).ok()?.origin() == base.origin())
    };
    !url.starts_with("//")
        && !url.contains('\\')
        && !url.chars().any(char::is_control)
        && !path.contains("%2f")
        && !path.contains("%5c")
        && ours() == Some(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &str = "http://localhost:3913";

    fn trusted() -> TrustedOrigins {
        let origins = ["https://app.example.com", "tauri://localhost", "http://localhost:5173/"];
        TrustedOrigins::new(&origins.map(String::from)).expect("these are origins")
    }

    #[test]
    fn pages_are_trusted_by_their_whole_origin() {
        for page in [
            OWN,
            "http://localhost:3913/page",
            "https://app.example.com",
            "https://APP.example.com:443/page?a=b",
            "tauri://localhost",
            "TAURI://localhost/page",
            "http://localhost:5173/page",
        ] {
            assert!(trusted().trusts_or_own(page, OWN), "{page}");
        }
        for page in [
            "",
            "null",
            "/",
            "localhost:3913",
            "http://127.0.0.1:3913",
            "https://localhost:3913",
            "http://localhost",
            "https://app.example.com.evil",
            "https://app.example.com@evil.com",
            "https://evil.com/https://app.example.com",
            "https://sub.app.example.com",
            "tauri://localhost.evil",
            "tauri://localhost@evil",
            "tauri://evil/localhost",
            "tauri:localhost",
            "javascript:alert(1)",
            "https://app.example.com\n.evil",
        ] {
            assert!(!trusted().trusts_or_own(page, OWN), "{page}");
        }
    }

    #[test]
    fn an_answer_redirects_only_to_paths_and_trusted_origins() {
        for url in ["/", "/dash", "/dash?a=b&c=%2F#d e", "https://app.example.com/x", OWN] {
            assert!(trusted().may_redirect(url, OWN), "{url}");
        }
        for url in [
            "//evil.com",
            "/\\evil.com",
            "/a\\b",
            "/%2fevil.com",
            "/%5Cevil.com",
            "/a\r\nset-cookie: b=c",
            "/a\t/b",
            "dash",
            "https:evil.com",
            "https://evil.com",
            "javascript:alert(1)",
        ] {
            assert!(!trusted().may_redirect(url, OWN), "{url}");
        }
    }

    #[test]
    fn what_is_more_or_less_than_an_origin_is_refused_at_the_start() {
        for text in ["", "example.com", "https://a.com/path", "https://*.example.com", "tauri://"] {
            assert!(TrustedOrigins::new(&[text.to_owned()]).is_err(), "{text}");
        }
    }
}
