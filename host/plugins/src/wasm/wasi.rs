//! The minimal WASI that language runtimes need to start.
//!
//! No preopened directories, arguments, sockets or name look-up. The environment has only the
//! granted variables. Clocks tick in milliseconds, too coarse to time another tenant's work. Random
//! bytes are real. What a guest writes to stdout and stderr becomes log lines of the plugin.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};
use wasmtime_wasi::{HostMonotonicClock, HostWallClock, WasiCtx};

use crate::log::{Log, Stdio};
use crate::reach::manifest::Grants;

/// Bytes that a guest may write at once. One page, as in a pipe: more would only cost memory.
const WRITE_AT_ONCE: usize = 64 << 10;

/// Random bytes in one call. A guest seeds itself with 32; an unlimited count would exhaust the
/// host's memory.
const RANDOM_AT_ONCE: u64 = 64 << 10;

/// The WASI context of one instance. Its output goes to `log`, and its environment has the
/// variables that it was granted.
pub(crate) fn context(log: &Arc<Mutex<Log>>, grants: &Grants) -> WasiCtx {
    WasiCtx::builder()
        .envs(&grants.environment())
        .stdout(LogStream { log: log.clone(), stream: Stdio::Out })
        .stderr(LogStream { log: log.clone(), stream: Stdio::Err })
        .wall_clock(CoarseClock(Instant::now()))
        .monotonic_clock(CoarseClock(Instant::now()))
        .max_random_size(RANDOM_AT_ONCE)
        // These are also the defaults; stated here in case the defaults change.
        .allow_tcp(false)
        .allow_udp(false)
        .allow_ip_name_lookup(false)
        .build()
}

/// Time in whole milliseconds. The monotonic clock starts when the instance is created, at one
/// rather than zero, which Go takes for a broken clock.
struct CoarseClock(Instant);

impl HostWallClock for CoarseClock {
    fn resolution(&self) -> Duration {
        Duration::from_millis(1)
    }

    fn now(&self) -> Duration {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Duration::new(now.as_secs(), now.subsec_millis() * 1_000_000)
    }
}

impl HostMonotonicClock for CoarseClock {
    fn resolution(&self) -> u64 {
        1_000_000
    }

    fn now(&self) -> u64 {
        let elapsed = u64::try_from(self.0.elapsed().as_millis()).unwrap_or(u64::MAX);
        elapsed.saturating_add(1).saturating_mul(1_000_000)
    }
}

#[derive(Clone)]
struct LogStream {
    log: Arc<Mutex<Log>>,
    stream: Stdio,
}

impl IsTerminal for LogStream {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for LogStream {
    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }

    // Only WASI 0.3 uses this, and it is not linked.
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(tokio::io::sink())
    }
}

#[async_trait::async_trait]
impl Pollable for LogStream {
    async fn ready(&mut self) {}
}

#[async_trait::async_trait]
impl OutputStream for LogStream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.log.lock().stdio(self.stream, &bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_AT_ONCE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_monotonic_clock_of_a_new_instance_is_not_at_zero() {
        let now = HostMonotonicClock::now(&CoarseClock(Instant::now()));
        assert!(now >= 1_000_000, "{now}");
    }
}
