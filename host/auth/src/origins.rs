//! Which web pages may sign people in, and where answers may send them.
//!
//! A page is known by its origin. The server's own origin is trusted, and those that the operator
//! configures. Origins are compared as a whole, so `tauri://localhost.evil` is not
//! `tauri://localhost`. As in Better Auth, an origin may be a pattern: `*` matches any characters
//! except slashes, including dots, and `?` matches one. `https://*.example.com` is a pattern for
//! origins; `*.example.com` is one for hosts, with any scheme. A host of only digits, dots and
//! wildcards matches nothing but addresses: otherwise `192.168.*.*` would trust `192.168.evil.com`.

use url::{Origin, Url};

/// A base for resolving relative URLs. No host has this name (RFC 2606).
const NOWHERE: &str = "https://nowhere.invalid";

/// Not an origin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not an origin; write it like https://example.com or https://*.example.com, without a path"
)]
pub struct NotAnOrigin(pub String);

/// The origins that are trusted in addition to the server's own.
#[derive(Clone, Default)]
pub struct TrustedOrigins {
    exact: Vec<String>,
    patterns: Vec<Pattern>,
}

impl TrustedOrigins {
    /// Origins like `https://example.com`, and patterns like `https://*.example.com`.
    pub fn new(origins: &[String]) -> Result<Self, NotAnOrigin> {
        let mut trusted = Self::default();
        for text in origins {
            let wrong = || NotAnOrigin(text.clone());
            if text.contains(['*', '?']) {
                trusted.patterns.push(Pattern::parse(text).ok_or_else(wrong)?);
                continue;
            }
            let origin = origin_of(text).ok_or_else(wrong)?;
            // A pattern with a path would claim more than an origin can express.
            if !text.trim_end_matches('/').eq_ignore_ascii_case(&origin) {
                return Err(wrong());
            }
            trusted.exact.push(origin);
        }
        Ok(trusted)
    }

    /// Whether a page is trusted. `page` is an `Origin` or a `Referer`.
    pub fn trusts(&self, page: &str) -> bool {
        origin_of(page).is_some_and(|origin| self.contains(&origin))
    }

    /// Whether a page is trusted, or has our `own` origin.
    pub(crate) fn trusts_or_own(&self, page: &str, own: &str) -> bool {
        origin_of(page).is_some_and(|origin| origin == own || self.contains(&origin))
    }

    fn contains(&self, origin: &str) -> bool {
        self.exact.iter().any(|exact| exact == origin)
            || self.patterns.iter().any(|pattern| pattern.matches(origin))
    }

    /// Whether an answer may redirect to a URL: one with a trusted origin, or a path of our own.
    pub(crate) fn may_redirect(&self, url: &str, own: &str) -> bool {
        if url.starts_with('/') { is_path(url) } else { self.trusts_or_own(url, own) }
    }
}

/// A pattern of origins, or of hosts with their ports.
#[derive(Clone)]
struct Pattern {
    scheme: Option<String>,
    /// Host and port.
    authority: String,
    /// Whether the host can only be an IPv4 address.
    is_address: bool,
}

impl Pattern {
    fn parse(text: &str) -> Option<Self> {
        let text = text.to_ascii_lowercase();
        let (scheme, authority) = match text.split_once("://") {
            Some((scheme, rest)) => (Some(scheme), rest),
            None => (None, text.as_str()),
        };
        let authority = authority.trim_end_matches('/');
        let is_web = matches!(scheme, None | Some("http" | "https"));
        let host = authority.split(':').next().unwrap_or_default();
        let letter = |letter: char| letter.is_ascii_alphanumeric() || "*?.-_:[]".contains(letter);
        let sound = !authority.is_empty()
            && authority.chars().all(letter)
            && scheme.is_none_or(|scheme| !scheme.is_empty() && !scheme.contains(['*', '?']))
            // It would trust every page on the web.
            && !(is_web && host.chars().all(|letter| "*?.".contains(letter)));
        let is_address = host.bytes().any(|byte| byte.is_ascii_digit())
            && host.chars().all(|letter| letter.is_ascii_digit() || "*?.".contains(letter));
        let authority = authority.to_owned();
        sound.then(|| Self { scheme: scheme.map(str::to_owned), authority, is_address })
    }

    fn matches(&self, origin: &str) -> bool {
        let Some((scheme, authority)) = origin.split_once("://") else { return false };
        let host = authority.split(':').next().unwrap_or_default();
        self.scheme.as_deref().is_none_or(|wanted| wanted == scheme)
            && wildcard(self.authority.as_bytes(), authority.as_bytes())
            && (!self.is_address || host.parse::<std::net::Ipv4Addr>().is_ok())
    }
}

/// Whether a pattern matches. Takes time at most proportional to the product of the two lengths. An
/// authority holds no slashes, so `*` need not stop at any.
fn wildcard(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut read) = (0, 0);
    // The position of the last `*`, and how much of the text it has consumed.
    let mut star: Option<(usize, usize)> = None;
    while read < text.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, read));
                at += 1;
            }
            Some(b'?') => (at, read) = (at + 1, read + 1),
            Some(byte) if *byte == text[read] => (at, read) = (at + 1, read + 1),
            _ => match &mut star {
                Some((stood, reached)) => {
                    *reached += 1;
                    (at, read) = (*stood + 1, *reached);
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

/// The origin of a URL in lower case: `scheme://host`, with the port unless it is the scheme's
/// default.
pub(crate) fn origin_of(url: &str) -> Option<String> {
    if url.chars().any(char::is_control) {
        return None;
    }
    let parsed = Url::parse(url).ok()?;
    match parsed.origin() {
        origin @ Origin::Tuple(..) => Some(origin.ascii_serialization()),
        // The URL standard gives other schemes no origin, so use the scheme and authority.
        Origin::Opaque(_) => {
            let (scheme, rest) = url.split_once("://")?;
            let authority = rest.split(['/', '?', '#', '\\']).next()?;
            let plain = !authority.is_empty() && !authority.contains(['@', '*']);
            plain.then(|| format!("{scheme}://{authority}").to_ascii_lowercase())
        }
    }
}

/// Whether every browser and proxy reads a URL as a path on this server.
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
    fn patterns_match_as_in_better_auth() {
        for (pattern, trusted, not) in [
            (
                "https://*.example.com",
                &["https://a.example.com", "https://a.b.example.com", "https://A.Example.com/x"][..],
                &[
                    "https://example.com",
                    "http://a.example.com",
                    "https://a.example.com:8443",
                    "https://a.example.com.evil.com",
                    "https://evil.com/.example.com",
                    "https://evil.com#.example.com",
                    "https://evil.com@.example.com:1",
                ][..],
            ),
            (
                "*.example.com",
                &["https://a.example.com", "http://a.example.com", "tauri://a.example.com"],
                &["https://example.com", "https://a.example.com:1", "https://aexample.com"],
            ),
            (
                "http://localhost:*",
                &["http://localhost:5173", "http://localhost:1/x"],
                &["http://localhost", "https://localhost:1", "http://localhost.evil.com:1"],
            ),
            (
                "https://app-?.example.com",
                &["https://app-1.example.com"],
                &["https://app-12.example.com"],
            ),
            (
                "http://192.168.*.*:*",
                &["http://192.168.1.20:3000"],
                &["http://192.168.evil.com:3000", "http://192.168.1.20.evil.com:3000"],
            ),
            ("exp://*", &["exp://192.168.1.2:8081"], &["http://192.168.1.2:8081"]),
        ] {
            let origins = TrustedOrigins::new(&[pattern.to_owned()]).expect("a pattern");
            for page in trusted {
                assert!(origins.trusts(page), "{pattern}: {page}");
                assert!(origins.may_redirect(page, OWN), "{pattern}: {page}");
            }
            for page in not {
                assert!(!origins.trusts(page), "{pattern}: {page}");
                assert!(!origins.may_redirect(page, OWN), "{pattern}: {page}");
            }
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
        for text in [
            "",
            "example.com",
            "https://a.com/path",
            "tauri://",
            "*",
            "https://*",
            "https://*:*",
            "*.*",
            "https://*.example.com/path",
            "https://*.example.com@evil.com",
            "*://example.com",
        ] {
            assert!(TrustedOrigins::new(&[text.to_owned()]).is_err(), "{text}");
        }
    }
}
