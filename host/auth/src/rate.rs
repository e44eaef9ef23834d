//! Rate limits for operations that are costly or allow guessing.
//!
//! Requests are counted by key, such as an address and an endpoint. After a pause as long as the
//! window, the count starts again. That is how Better Auth counts, and clients can see it: in which
//! request is refused, and in `Retry-After`. Crates such as `governor` use a leaky bucket, which
//! would admit a fourth guess sooner, so the counting is our own. Counts are kept in memory and
//! lost on a restart.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::limits::{self, GUESSABLE, MAILED, OTHER, Rule};

/// The rule for an endpoint of Better Auth.
pub(crate) fn rule(path: &str) -> &'static Rule {
    let guessable = ["/sign-in", "/sign-up", "/change-password", "/change-email"];
    if guessable.iter().any(|start| path.starts_with(start)) {
        &GUESSABLE
    } else if matches!(path, "/request-password-reset" | "/send-verification-email") {
        &MAILED
    } else {
        &OTHER
    }
}

struct Count {
    requests: u32,
    last: Instant,
    window: Duration,
}

/// Counts requests by a key.
pub struct RateLimit<K>(Mutex<HashMap<K, Count>>);

impl<K> Default for RateLimit<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash> RateLimit<K> {
    /// Counts a request. If there were too many, the error is how long to wait.
    pub fn count(&self, key: K, rule: &Rule, now: Instant) -> Result<(), Duration> {
        let mut counts = self.0.lock();
        if counts.len() >= limits::COUNTED {
            counts.retain(|_, count| now.saturating_duration_since(count.last) < count.window);
            // All entries are recent. Dropping them gives some clients another try; growing would
            // exhaust memory.
            if counts.len() >= limits::COUNTED {
                counts.clear();
            }
        }
        let new = Count { requests: 0, last: now, window: rule.window };
        let count = counts.entry(key).or_insert(new);
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
    use std::net::IpAddr;

    use super::*;

    /// Counts with the same rules as the routes.
    struct Limit(RateLimit<(IpAddr, &'static str)>);

    impl Limit {
        fn count(&self, address: IpAddr, path: &'static str, now: Instant) -> Result<(), Duration> {
            self.0.count((host_http::network(address), path), rule(path), now)
        }
    }

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn a_fourth_guess_waits() {
        let limit = Limit(RateLimit::default());
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
        let limit = Limit(RateLimit::default());
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
        let limit = Limit(RateLimit::default());
        let now = Instant::now();
        for number in 0..=limits::COUNTED as u32 {
            let _ = limit.count(std::net::Ipv4Addr::from_bits(number).into(), "/ok", now);
        }
        assert!(limit.0.0.lock().len() <= limits::COUNTED);
    }
}
