//! Where a request comes from.
//!
//! A connection has the address of its peer. Where that is a proxy that the operator trusts, a header
//! says on whose behalf it asks. Headers are read from the end, where the nearest proxy wrote: each
//! address is believed only if the one after it is a trusted proxy, so what a client puts in front
//! counts for nothing.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use axum::http::{HeaderMap, header};

const FORWARDED_FOR: &str = "x-forwarded-for";

/// Where a request comes from. The listener puts it into the extensions of each request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientAddress(pub IpAddr);

/// The address of the client: the peer, or whoever the trusted proxies say it was.
/// `X-Forwarded-For` counts where there is one, and else `Forwarded` (RFC 7239).
pub fn client_address(peer: IpAddr, headers: &HeaderMap, proxies: &[IpAddr]) -> IpAddr {
    let mut address = peer.to_canonical();
    if !proxies.contains(&address) {
        return address;
    }
    let lines = |name| headers.get_all(name).iter().filter_map(|line| line.to_str().ok());
    let mut hops: Vec<Option<IpAddr>> =
        lines(FORWARDED_FOR).flat_map(|line| line.split(',')).map(hop).collect();
    if hops.is_empty() {
        let elements = lines(header::FORWARDED.as_str()).flat_map(|line| line.split(','));
        hops = elements.map(|element| forwarded_for(element).and_then(hop)).collect();
    }
    while proxies.contains(&address)
        && let Some(Some(hop)) = hops.pop()
    {
        address = hop;
    }
    address
}

/// All addresses of one subscriber: in IPv6 that is a network of 64 bits.
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into()
        }
        address => address,
    }
}

/// The `for` of one element of `Forwarded`.
fn forwarded_for(element: &str) -> Option<&str> {
    let mut pairs = element.split(';').filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.find(|(name, _)| name.trim().eq_ignore_ascii_case("for"))?;
    Some(value.trim().trim_matches('"'))
}

/// An address, with or without a port; one of IPv6 may stand in brackets.
fn hop(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse().or_else(|_| text.parse().map(|address: SocketAddr| address.ip()));
    address.ok().map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn asked(peer: &str, headers: &[(&'static str, &str)]) -> IpAddr {
        let headers = headers.iter().map(|(name, value)| {
            (header::HeaderName::from_static(name), value.parse().expect("a header"))
        });
        client_address(ip(peer), &headers.collect(), &[ip("10.0.0.1"), ip("10.0.0.2")])
    }

    #[test]
    fn only_trusted_proxies_say_where_a_request_comes_from() {
        for (peer, forwarded, expected) in [
            ("192.0.2.1", "203.0.113.7", "192.0.2.1"),
            ("10.0.0.1", "203.0.113.7", "203.0.113.7"),
            ("::ffff:10.0.0.1", "203.0.113.7", "203.0.113.7"),
            ("10.0.0.1", "198.51.100.1, 203.0.113.7", "203.0.113.7"),
            ("10.0.0.1", "198.51.100.1, 203.0.113.7, 10.0.0.2", "203.0.113.7"),
            ("10.0.0.1", "198.51.100.1, nonsense", "10.0.0.1"),
            ("10.0.0.1", "", "10.0.0.1"),
            ("10.0.0.1", "203.0.113.7:4711", "203.0.113.7"),
            ("10.0.0.1", "[2001:db8::7]:4711", "2001:db8::7"),
            ("10.0.0.1", "[2001:db8::7]", "2001:db8::7"),
            ("10.0.0.1", "2001:db8::7", "2001:db8::7"),
            ("10.0.0.1", "203.0.113.7:4711, 10.0.0.2:80", "203.0.113.7"),
        ] {
            assert_eq!(asked(peer, &[("x-forwarded-for", forwarded)]), ip(expected), "{forwarded}");
        }
    }

    #[test]
    fn forwarded_counts_where_there_is_nothing_else() {
        for (forwarded, expected) in [
            ("for=203.0.113.7", "203.0.113.7"),
            ("proto=https; For=\"203.0.113.7:4711\";by=10.0.0.1", "203.0.113.7"),
            ("for=198.51.100.1, for=\"[2001:db8::7]:4711\"", "2001:db8::7"),
            ("for=203.0.113.7, for=10.0.0.2;proto=http", "203.0.113.7"),
            ("for=203.0.113.7, for=_hidden", "10.0.0.1"),
            ("for=unknown", "10.0.0.1"),
            ("proto=https", "10.0.0.1"),
        ] {
            assert_eq!(asked("10.0.0.1", &[("forwarded", forwarded)]), ip(expected), "{forwarded}");
        }
        let both = [("forwarded", "for=198.51.100.1"), ("x-forwarded-for", "203.0.113.7")];
        assert_eq!(asked("10.0.0.1", &both), ip("203.0.113.7"));
    }

    #[test]
    fn a_subscriber_of_ipv6_has_a_network() {
        assert_eq!(network(ip("2001:db8::1:2:3:4")), network(ip("2001:db8::4:3:2:1")));
        assert_ne!(network(ip("2001:db8::1")), network(ip("2001:db8:0:1::1")));
        assert_eq!(network(ip("::ffff:192.0.2.1")), ip("192.0.2.1"));
        assert_ne!(network(ip("192.0.2.1")), network(ip("192.0.2.2")));
    }
}
