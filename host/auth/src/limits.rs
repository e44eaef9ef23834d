//! Every limit on accounts, and the reason for its value. We cannot choose those of Better Auth.

use std::time::Duration;

/// A number of requests, and the pause after which the count starts again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// The number of requests.
    pub requests: u32,
    /// The pause.
    pub window: Duration,
}

const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A session expires after this time without use (Better Auth).
pub const SESSION: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// Lifetime of a session without "remember me" (Better Auth).
pub const SHORT_SESSION: Duration = DAY;
/// A session is extended at most this often (Better Auth).
pub const EXTEND_EVERY: Duration = DAY;
/// Sensitive operations require a session that is not older than this (Better Auth).
pub const FRESH: Duration = DAY;
/// Lifetime of a link in a mail (Better Auth).
pub const LINK: Duration = HOUR;
/// Lifetime of an invitation: a week, so that it survives a holiday weekend.
pub const INVITATION: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// Minimum response time where the answer must not reveal whether an account exists (Better Auth).
pub const SAME_TIME: Duration = Duration::from_millis(500);

/// Characters of a password, as JavaScript counts them (Better Auth).
pub const PASSWORD: std::ops::RangeInclusive<usize> = 8..=128;
/// Bytes of a body. The largest reasonable content is a picture as a data URL.
pub const BODY: usize = 64 * 1024;
/// Bytes of an e-mail address (RFC 5321: 64 before the @, 255 after it).
pub const EMAIL: usize = 320;
/// Bytes of a name.
pub const NAME: usize = 1024;
/// Bytes stored of a `User-Agent`.
pub const USER_AGENT: usize = 512;
/// Bytes of a token. Ours have 77, and 83 in a cookie.
pub const TOKEN: usize = 512;

/// Endpoints where a password or an address can be guessed (Better Auth).
pub const GUESSABLE: Rule = Rule { requests: 3, window: Duration::from_secs(10) };
/// Endpoints that send a mail (Better Auth).
pub const MAILED: Rule = Rule { requests: 3, window: Duration::from_secs(60) };
/// All other endpoints (Better Auth).
pub const OTHER: Rule = Rule { requests: 100, window: Duration::from_secs(10) };
/// Keys counted at once. An attacker with more addresses makes us forget some.
pub const COUNTED: usize = 100_000;
/// Mails in flight. Beyond that, mails are dropped and logged.
pub const MAILS: usize = 32;
/// Revocations that a subscriber may lag behind.
pub const REVOCATIONS: usize = 1024;

/// Limits on what a local server asks its hub and caches of the answers.
pub mod hub {
    use std::num::NonZeroU32;
    use std::time::Duration;

    use governor::Quota;

    /// How long a valid token is cached when the hub is another Better Auth server (the
    /// specification's value).
    pub const GOOD: Duration = Duration::from_secs(5 * 60);
    /// How long an invalid token is cached (the specification's value).
    pub const BAD: Duration = Duration::from_secs(60);
    /// How long a valid token is cached when it is checked every 1.5 seconds. Longer than a check
    /// takes, so that requests do not wait for one; sessions that end are dropped by the next
    /// check.
    pub const REFRESHED: Duration = Duration::from_secs(10);
    /// How long a session is checked after its last use.
    pub const IN_USE: Duration = Duration::from_secs(60);
    /// How long a valid token stays valid while the hub is unreachable: an hour without a network.
    pub const GRACE: Duration = Duration::from_secs(60 * 60);
    /// Tokens in the cache.
    pub const REMEMBERED: u64 = 10_000;
    /// Sessions in use that are checked.
    pub const USED: usize = 10_000;
    /// Tokens in one request; a hub reads 64 KiB.
    pub const TOKENS_PER_QUESTION: usize = 500;
    /// Concurrent requests to the hub.
    pub const QUESTIONS: usize = 32;
    /// How long the hub may take to answer.
    pub const PATIENCE: Duration = Duration::from_secs(5);
    /// How long a hub is not asked after a failure.
    pub const PAUSE: Duration = Duration::from_secs(2);
    /// Longest `Retry-After` of a hub that is honoured.
    pub const LONGEST_PAUSE: Duration = Duration::from_secs(60);
    /// Bytes of a response. A session and a user take one KiB; a user's picture may be a data URL.
    pub const ANSWER: usize = 256 * 1024;
    /// Bytes of a token. Ours take about a hundred.
    pub const TOKEN: usize = 4096;
    /// Unknown tokens that one client may try: at most sixty in ten seconds, of the hundred that a
    /// hub allows for all of our clients.
    pub const UNKNOWN: Quota = Quota::per_second(NonZeroU32::new(3).expect("not 0"))
        .allow_burst(NonZeroU32::new(30).expect("not 0"));
    /// The same where the hub does not limit us.
    pub const UNKNOWN_EXEMPT: Quota = Quota::per_second(NonZeroU32::new(50).expect("not 0"))
        .allow_burst(NonZeroU32::new(500).expect("not 0"));
    /// Clients whose unknown tokens are counted before idle ones are forgotten.
    pub const CLIENTS: usize = 10_000;
}
