//! Every limit on connections, with its default and the reason for it.

use std::time::Duration;

/// Limits on connections.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections at once. `None` allows as many as the limit on open files leaves, and at most
    /// [`Limits::MOST`].
    pub connections: Option<usize>,
    /// Connections at once from one address. `None` allows half of all, so that no single address
    /// can take every place. An office, or a proxy that is not configured as trusted, has one
    /// address for everybody.
    pub connections_per_address: Option<usize>,
    /// From accepting a connection to the whole head of its first request. A client sends it at
    /// once; a lossy network may retransmit for a few seconds.
    pub head: Duration,
    /// From one response to the whole head of the next request. Proxies keep connections for a
    /// minute, and if we close one first, that costs them a request.
    pub idle: Duration,
    /// How long a peer may stall in the middle of sending or reading. Mobile networks drop out for
    /// a few seconds at a time.
    pub patience: Duration,
    /// Bytes per second that a peer must move to keep its patience from shrinking. The slowest
    /// networks still in use (2G) carry several times that.
    pub bytes_per_second: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: None,
            connections_per_address: None,
            head: Duration::from_secs(15),
            idle: Duration::from_secs(75),
            patience: Duration::from_secs(30),
            bytes_per_second: 1024,
        }
    }
}

/// Files reserved from connections: an eighth, because the server's outgoing requests grow with its
/// load, but at least what databases, plugins and watchers need, and at most what they ever use.
const RESERVED: std::ops::RangeInclusive<u64> = 64..=4096;

impl Limits {
    /// Connections at once if the file limit allows more; each takes about 8 KiB.
    pub const MOST: usize = 100_000;

    /// The number of connections that a file limit allows.
    pub fn maximum(&self, files: u64) -> Maximum {
        let reserved = (files / 8).clamp(*RESERVED.start(), *RESERVED.end()).min(files / 2);
        let left = usize::try_from(files - reserved).unwrap_or(usize::MAX).max(1);
        let connections = self.connections.unwrap_or(Self::MOST).clamp(1, left);
        let per_address = self.connections_per_address.unwrap_or(connections.div_ceil(2));
        Maximum { connections, per_address: per_address.clamp(1, connections) }
    }
}

/// The limits on the number of connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Maximum {
    /// In total.
    pub connections: usize,
    /// From one address.
    pub per_address: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_bound_connections_and_some_are_left() {
        let given = |connections, connections_per_address| Limits {
            connections,
            connections_per_address,
            ..Limits::default()
        };
        for (files, limits, connections, per_address) in [
            (256, given(None, None), 192, 96),
            (1024, given(None, None), 896, 448),
            (1 << 20, given(None, None), Limits::MOST, Limits::MOST / 2),
            (1024, given(Some(10), None), 10, 5),
            (1024, given(Some(10), Some(20)), 10, 10),
            (1024, given(Some(100_000), Some(3)), 896, 3),
            (1024, given(Some(0), Some(0)), 1, 1),
            (16, given(None, None), 8, 4),
            (0, given(None, None), 1, 1),
        ] {
            let expected = Maximum { connections, per_address };
            assert_eq!(limits.maximum(files), expected, "{files} {limits:?}");
        }
    }
}
