//! How many files the process may have open, of which each connection is one.

/// What is counted on where the system does not say: the least that is usual anywhere (macOS).
const USUAL: u64 = 256;

/// Raises the limit on open files as far as the system lets us, because the usual one is for
/// programs with few, and returns what it is now.
pub fn open_files() -> u64 {
    rlimit::increase_nofile_limit(u64::MAX).unwrap_or_else(|error| {
        tracing::warn!(%error, "the limit on open files cannot be raised; {USUAL} are counted on");
        USUAL
    })
}
