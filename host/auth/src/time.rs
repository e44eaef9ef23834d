//! Timestamps as the database and the wire write them: UTC, in milliseconds.

use std::fmt;
use std::time::{Duration, SystemTime};

use serde::{Serialize, Serializer};

/// A timestamp in milliseconds, like JavaScript's `Date`. Written like `2026-11-22T14:36:42.063Z`,
/// so its text sorts by time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(i64);

/// From the start of the year 1 to the end of the year 9998, the range that can be written.
const FIRST: i64 = -62_135_596_800_000;
const LAST: i64 = 253_370_764_799_999;

impl Time {
    /// The current time.
    pub fn now() -> Self {
        SystemTime::now().into()
    }

    /// The time this many milliseconds after the Unix epoch.
    pub fn from_millis(millis: i64) -> Self {
        Self(millis.clamp(FIRST, LAST))
    }

    /// Milliseconds since the Unix epoch.
    pub fn millis(self) -> i64 {
        self.0
    }

    /// Parses what `Display` writes, and other forms of RFC 3339.
    pub fn parse(text: &str) -> Option<Self> {
        Some(Self::from_millis(text.parse::<jiff::Timestamp>().ok()?.as_millisecond()))
    }
}

impl From<SystemTime> for Time {
    fn from(time: SystemTime) -> Self {
        let millis = |span: Duration| i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
        Self::from_millis(match time.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(after) => millis(after),
            Err(before) => -millis(before.duration()),
        })
    }
}

impl From<Time> for SystemTime {
    fn from(time: Time) -> Self {
        let span = Duration::from_millis(time.0.unsigned_abs());
        if time.0 < 0 { SystemTime::UNIX_EPOCH - span } else { SystemTime::UNIX_EPOCH + span }
    }
}

impl std::ops::Add<Duration> for Time {
    type Output = Time;

    fn add(self, span: Duration) -> Time {
        let span = i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
        Self::from_millis(self.0.saturating_add(span))
    }
}

impl std::ops::Sub<Duration> for Time {
    type Output = Time;

    fn sub(self, span: Duration) -> Time {
        let span = i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
        Self::from_millis(self.0.saturating_sub(span))
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = jiff::Timestamp::from_millisecond(self.0).map_err(|_| fmt::Error)?;
        write!(f, "{}", time.strftime("%Y-%m-%dT%H:%M:%S.%3fZ"))
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_as_javascript_writes_it() {
        for text in
            ["2026-11-22T14:36:42.063Z", "1970-01-01T00:00:00.000Z", "1969-12-31T23:59:59.999Z"]
        {
            let time = Time::parse(text).expect("it is a time");
            assert_eq!(time.to_string(), text);
            assert_eq!(Time::from(SystemTime::from(time)), time);
        }
        assert_eq!(
            Time::parse("2026-11-22T15:36:42.0639+01:00").map(|time| time.to_string()),
            Some("2026-11-22T14:36:42.063Z".into())
        );
        assert_eq!(Time::parse("yesterday"), None);
        assert!(!Time::from_millis(i64::MAX).to_string().is_empty());
        assert!(!Time::from_millis(i64::MIN).to_string().is_empty());
    }
}
