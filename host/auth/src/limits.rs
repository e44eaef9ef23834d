//! Every bound of accounts, and why it is what it is. Those of Better Auth are not for us to choose.

use std::time::Duration;

/// A number of requests, and how long a pause makes them count no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// The number.
    pub requests: u32,
    /// The pause.
    pub window: Duration,
}

const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A session that is not used for so long is over (Better Auth).
pub const SESSION: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// A session of somebody who does not want to be remembered (Better Auth).
pub const SHORT_SESSION: Duration = DAY;
/// A session is extended at most so often (Better Auth).
pub const EXTEND_EVERY: Duration = DAY;
/// What shows or deletes much wants a sign-in that is not older (Better Auth).
pub const FRESH: Duration = DAY;
/// A link in a mail can be followed for so long (Better Auth).
pub const LINK: Duration = HOUR;
/// An invitation can be taken for so long: a week, so that it survives a holiday weekend.
pub const INVITATION: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// How fast an answer that must not say whether there is an account may be (Better Auth).
pub const SAME_TIME: Duration = Duration::from_millis(500);

/// Characters of a password, as JavaScript counts them (Better Auth).
pub const PASSWORD: std::ops::RangeInclusive<usize> = 8..=128;
/// Bytes of a body. The longest that makes sense is a picture as a data URL.
pub const BODY: usize = 64 * 1024;
/// Bytes of an e-mail address (RFC 5321: 64 before the @, 255 after it).
pub const EMAIL: usize = 320;
/// Bytes of a name.
pub const NAME: usize = 1024;
/// Bytes that are kept of a `User-Agent`.
pub const USER_AGENT: usize = 512;
/// Bytes of a token: ours have 77, and 83 in a cookie.
pub const TOKEN: usize = 512;

/// Requests where a password or an address can be guessed (Better Auth).
pub const GUESSABLE: Rule = Rule { requests: 3, window: Duration::from_secs(10) };
/// Requests that send a mail to somebody (Better Auth).
pub const MAILED: Rule = Rule { requests: 3, window: Duration::from_secs(60) };
/// All other requests (Better Auth).
pub const OTHER: Rule = Rule { requests: 100, window: Duration::from_secs(10) };
/// Keys that are counted at once; an attacker with more addresses makes us forget some.
pub const COUNTED: usize = 100_000;
/// Mails that may be under way; more are not sent, and the log says so.
pub const MAILS: usize = 32;
/// Ended sessions that whoever listens may be behind with.
pub const REVOCATIONS: usize = 1024;

/// Bounds on what a local server asks its hub, and remembers of it.
pub mod hub {
    use std::num::NonZeroU32;
    use std::time::Duration;

    use governor::Quota;

    /// How long a good token of a hub of another make is believed (the specification's server).
    pub const GOOD: Duration = Duration::from_secs(5 * 60);
    /// How long it is believed that a token is bad (the specification's server).
    pub const BAD: Duration = Duration::from_secs(60);
    /// How long a good token is believed that is checked every 1.5 seconds. Longer than a check takes,
    /// so that requests do not wait for one; sessions that end are over here with the next check.
    pub const REFRESHED: Duration = Duration::from_secs(10);
    /// How long a session is checked after it was used last.
    pub const IN_USE: Duration = Duration::from_secs(60);
    /// How long a good token stays good while the hub cannot be reached: an hour without a network.
    pub const GRACE: Duration = Duration::from_secs(60 * 60);
    /// Tokens that are remembered.
    pub const REMEMBERED: u64 = 10_000;
    /// Sessions in use that are checked.
    pub const USED: usize = 10_000;
    /// Tokens of one question; a hub reads 64 KiB.
    pub const TOKENS_PER_QUESTION: usize = 500;
    /// Questions to the hub at once.
    pub const QUESTIONS: usize = 32;
    /// How long the hub may take to answer.
    pub const PATIENCE: Duration = Duration::from_secs(5);
    /// How long a hub that failed is left alone.
    pub const PAUSE: Duration = Duration::from_secs(2);
    /// How long a hub is left alone at most that says how long.
    pub const LONGEST_PAUSE: Duration = Duration::from_secs(60);
    /// Bytes of an answer. A session and a user take one KiB; a user's picture may be a data URL.
    pub const ANSWER: usize = 256 * 1024;
    /// Bytes of a token. Ours take a hundred.
    pub const TOKEN: usize = 4096;
    /// Unknown tokens that one client may try: in ten seconds at most sixty, of the hundred that a hub
    /// allows for all of our clients.
    pub const UNKNOWN: Quota = Quota::per_second(NonZeroU32::new(3).expect("not 0"))
        .allow_burst(NonZeroU32::new(30).expect("not 0"));
    /// The same where the hub does not count us.
    pub const UNKNOWN_EXEMPT: Quota = Quota::per_second(NonZeroU32::new(50).expect("not 0"))
        .allow_burst(NonZeroU32::new(500).expect("not 0"));
    /// Clients whose unknown tokens are counted before those are forgotten that tried none lately.
    pub const CLIENTS: usize = 10_000;
}
