//! How often an address may ask for what costs or can be guessed.
//!
//! Requests of one address to one endpoint are counted; after a pause as long as the window the
//! count begins anew. These are the numbers and the way of Better Auth. Counts are in memory: a
//! server that starts again has forgotten them.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use host_http::network;
use parking_lot::Mutex;

use crate::limits;

/// So many requests, and how long a pause makes them count no more.
struct Rule {
    requests: u32,
    window: Duration,
}

/// Passwords and addresses can be guessed.
const GUESSABLE: Rule = Rule { requests: 3, window: Duration::from_secs(10) };
/// Mails reach others.
const MAILS: Rule = Rule { requests: 3, window: Duration::from_secs(60) };
/// All else.
const OTHER: Rule = Rule { requests: 100, window: Duration::from_secs(10) };

fn rule(path: &str) -> &'static Rule {
    let guessable = ["/sign-in", "/sign-up", "/change-password", "/change-email"];
    if guessable.iter().any(|start| path.starts_with(start)) {
        &GUESSABLE
    } else if matches!(path, "/request-password-reset" | "/send-verification-email") {
        &MAILS
    } else {
        &OTHER
    }
}

struct Count {
    requests: u32,
    last: Instant,
}

/// Counts requests.
#[derive(Default)]
pub(crate) struct RateLimit(Mutex<HashMap<(IpAddr, &'static str), Count>>);

impl RateLimit {
    /// Counts a request to a known path. When there are too many, it says how long to wait.
    pub fn count(&self, address: IpAddr, path: &'static str, now: Instant) -> Result<(), Duration> {
        let rule = rule(path);
        let mut counts = self.0.lock();
        if counts.len() >= limits::COUNTED_ADDRESSES {
            counts.retain(|(_, path), count| {
                now.saturating_duration_since(count.last) < self::rule(path).window
            });
            // All of them recent: forgetting lets somebody try again, growing would let them all in.
            if counts.len() >= limits::COUNTED_ADDRESSES {
                counts.clear();
            }
        }
        let count =
            counts.entry((network(address), path)).or_insert(Count { requests: 0, last: now });
        let passed = now.saturating_duration_since(count.last);
        if passed >= rule.window {
            count.requests = 0;
        } else if count.requests >= rule.requests {
            return Err(rule.window - passed);
        }
        count.requests += 1;
        count.last = now;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn a_fourth_guess_waits() {
        let limit = RateLimit::default();
        let start = Instant::now();
        let second = Duration::from_secs(1);
        let [here, there] = ["192.0.2.1", "192.0.2.2"].map(address);
        for guess in 0..3 {
            assert_eq!(limit.count(here, "/sign-in/email", start + guess * second), Ok(()));
        }
        let now = start + 3 * second;
        assert_eq!(limit.count(here, "/sign-in/email", now), Err(9 * second));
        assert_eq!(limit.count(there, "/sign-in/email", now), Ok(()), "another address");
        assert_eq!(limit.count(here, "/ok", now), Ok(()), "another path");
        assert_eq!(limit.count(here, "/sign-in/email", start + 12 * second), Ok(()));
        for (path, requests) in [("/send-verification-email", 3), ("/get-session", 100)] {
            for _ in 0..requests {
                assert_eq!(limit.count(here, path, now), Ok(()), "{path}");
            }
            assert!(limit.count(here, path, now).is_err(), "{path}");
        }
    }

    #[test]
    fn one_subscriber_has_one_count() {
        let limit = RateLimit::default();
        let now = Instant::now();
        for last in 0..3 {
            let address = address(&format!("2001:db8:1:2::{last}"));
            assert_eq!(limit.count(address, "/sign-up/email", now), Ok(()));
        }
        assert!(limit.count(address("2001:db8:1:2:3:4:5:6"), "/sign-up/email", now).is_err());
        assert_eq!(limit.count(address("2001:db8:1:3::1"), "/sign-up/email", now), Ok(()));
        for _ in 0..3 {
            assert_eq!(limit.count(address("::ffff:192.0.2.1"), "/sign-up/email", now), Ok(()));
        }
        assert!(limit.count(address("192.0.2.1"), "/sign-up/email", now).is_err());
    }

    #[test]
    fn memory_is_bounded() {
        let limit = RateLimit::default();
        let now = Instant::now();
        for number in 0..=limits::COUNTED_ADDRESSES as u32 {
            let _ = limit.count(std::net::Ipv4Addr::from_bits(number).into(), "/ok", now);
        }
        assert!(limit.0.lock().len() <= limits::COUNTED_ADDRESSES);
    }
}
