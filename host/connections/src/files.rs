//! The limit on open files, of which each connection is one.

/// Assumed if the system reports no limit: the lowest default of any system (macOS).
const USUAL: u64 = 256;

/// Raises the limit on open files as far as the system allows, because the default is meant for
/// programs with few files. Returns the new limit.
pub fn open_files() -> u64 {
    rlimit::increase_nofile_limit(u64::MAX).unwrap_or_else(|error| {
        tracing::warn!(%error, "the limit on open files cannot be raised; {USUAL} are counted on");
        USUAL
    })
}
