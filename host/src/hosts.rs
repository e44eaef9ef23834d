//! Which names the server answers to.
//!
//! A page may point a name of its own at this machine once the browser has loaded it (DNS
//! rebinding). Then our answers are of the page's own origin, and no rule about origins holds it
//! off. But the browser says by which name it asks, so where being able to reach the server is all
//! that it takes to use it, names that we do not know are refused. An address is no name and cannot
//! be pointed elsewhere. Where a session is wanted there is nothing to hold off: a session of ours
//! is not sent along to another name.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use axum::http::HeaderValue;
use axum::http::uri::Authority;

/// The names.
#[derive(Clone)]
pub(crate) struct Hosts(Option<Arc<HashSet<String>>>);

impl Hosts {
    /// Any name will do.
    pub fn any() -> Self {
        Self(None)
    }

    /// Only addresses, `localhost`, and these.
    pub fn only<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        Self(Some(Arc::new(names.into_iter().map(plain).collect())))
    }

    /// Whether a request may be for this `Host`; the name, if not.
    pub fn check(&self, host: Option<&HeaderValue>) -> Result<(), String> {
        // A browser always says it.
        let (Some(names), Some(host)) = (&self.0, host) else { return Ok(()) };
        let shown = String::from_utf8_lossy(host.as_bytes()).into_owned();
        let Ok(authority) = Authority::try_from(host.as_bytes()) else { return Err(shown) };
        let name = plain(authority.host());
        let is_address = || name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
        let is_localhost = || name == "localhost" || name.ends_with(".localhost");
        if is_localhost() || is_address() || names.contains(&name) { Ok(()) } else { Err(name) }
    }
}

/// Names are the same in any case, and with the dot of the root.
fn plain(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

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
