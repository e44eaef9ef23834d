//! The names that the server answers to.
//!
//! Once a browser has loaded a page, the page's owner can point its host name at this machine (DNS
//! rebinding). The page and our answers then share an origin, so no origin check stops it. But the
//! browser sends that name as `Host`. So where reaching the server is enough to use it, requests
//! for unknown names are refused. An IP address is not a name and cannot be pointed elsewhere.
//! Where a session is required nothing needs to be refused: a browser does not send our session to
//! another name.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::http::{HeaderValue, StatusCode, Version, header};
use axum::response::Response;
use host_http::error;

/// Sets `Host` to the address of the request (RFC 9112, sections 3.2 and 3.3): HTTP/1.1 requires
/// exactly one, and a target in absolute form overrides it.
#[expect(clippy::result_large_err, reason = "made once for each request, and passed on as it is")]
pub fn settle_host(request: &mut Parts) -> Result<(), Response> {
    let refused = |message: &str| Err(error(StatusCode::BAD_REQUEST, message));
    match request.headers.get_all(header::HOST).iter().count() {
        0 if request.version >= Version::HTTP_11 => return refused("the Host header is missing"),
        0 | 1 => {}
        _ => return refused("there is more than one Host header"),
    }
    if let Some(authority) = request.uri.authority() {
        let host = authority.as_str().rsplit('@').next().unwrap_or_default();
        match HeaderValue::from_str(host) {
            Ok(host) => drop(request.headers.insert(header::HOST, host)),
            Err(_) => return refused("the host of the request target is not valid"),
        }
    }
    Ok(())
}

/// The names that the server answers to.
#[derive(Clone)]
pub struct Hosts(Option<Arc<HashSet<String>>>);

impl Hosts {
    /// Any name.
    pub fn any() -> Self {
        Self(None)
    }

    /// IP addresses, `localhost` and these names.
    pub fn only<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        Self(Some(Arc::new(names.into_iter().map(plain).collect())))
    }

    /// Checks the `Host` of a request. The error is the refused name.
    pub fn check(&self, host: Option<&HeaderValue>) -> Result<(), String> {
        // A browser always sends it.
        let (Some(names), Some(host)) = (&self.0, host) else { return Ok(()) };
        let shown = String::from_utf8_lossy(host.as_bytes()).into_owned();
        let Ok(authority) = Authority::try_from(host.as_bytes()) else { return Err(shown) };
        let name = plain(authority.host());
        let is_address = || name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
        let is_localhost = || name == "localhost" || name.ends_with(".localhost");
        if is_localhost() || is_address() || names.contains(&name) { Ok(()) } else { Err(name) }
    }
}

/// Names ignore case and the trailing dot of the root.
fn plain(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_one_host_and_it_is_the_one_that_was_addressed() {
        let cases: &[(&str, Version, &[&str], Option<&str>)] = &[
            ("/", Version::HTTP_11, &["a.com"], Some("a.com")),
            ("/", Version::HTTP_11, &[], None),
            ("/", Version::HTTP_11, &["a.com", "b.com"], None),
            ("/", Version::HTTP_11, &["a.com", "a.com"], None),
            ("/", Version::HTTP_10, &[], Some("")),
            ("/", Version::HTTP_10, &["a.com", "b.com"], None),
            ("http://b.com:1/x", Version::HTTP_11, &["a.com"], Some("b.com:1")),
            ("http://me@b.com/x", Version::HTTP_11, &["a.com"], Some("b.com")),
            ("http://b.com/x", Version::HTTP_11, &[], None),
            ("http://b.com/x", Version::HTTP_10, &[], Some("b.com")),
        ];
        for (uri, version, hosts, expected) in cases {
            let mut request = axum::http::Request::builder().uri(*uri).version(*version);
            for host in *hosts {
                request = request.header(header::HOST, *host);
            }
            let (mut parts, ()) = request.body(()).expect("a request").into_parts();
            let settled = settle_host(&mut parts).map(|()| {
                let host = parts.headers.get(header::HOST);
                host.map_or("", |host| host.to_str().expect("text")).to_owned()
            });
            match (settled, expected) {
                (Ok(host), Some(expected)) => assert_eq!(host, *expected, "{uri} {hosts:?}"),
                (Err(refused), None) => assert_eq!(refused.status(), 400),
                (settled, _) => panic!("{uri} {hosts:?}: {}", settled.is_ok()),
            }
        }
    }

    #[test]
    fn only_names_that_are_known_and_addresses_are_answered() {
        let hosts = Hosts::only(["Hub.Example.com"]);
        let good = [
            "localhost",
            "localhost:3913",
            "LOCALHOST.",
            "app.localhost:1",
            "127.0.0.1:3913",
            "[::1]:3913",
            "192.168.1.5",
            "hub.example.com",
            "HUB.example.com.:443",
        ];
        let bad = [
            "evil.com",
            "evil.com:3913",
            "localhost.evil.com",
            "127.0.0.1.evil.com",
            "notlocalhost",
            "x.hub.example.com",
            "",
            " ",
            "a b",
            "0x7f.1",
            "[::1",
            "evil.com#localhost",
        ];
        for host in good {
            assert_eq!(hosts.check(Some(&host.parse().unwrap())), Ok(()), "{host}");
        }
        for host in bad {
            assert!(hosts.check(Some(&host.parse().unwrap())).is_err(), "{host}");
            assert!(Hosts::any().check(Some(&host.parse().unwrap())).is_ok());
        }
        assert!(hosts.check(None).is_ok());
    }
}
