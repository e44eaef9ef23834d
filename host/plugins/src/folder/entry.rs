//! The state of one plugin in the folder, and its transitions.
//!
//! ```text
//!             files change            stood still          loaded and mounted
//!  (new) ───► Settling ─────────────► Working ───────────► Idle
//!                ▲                       │ ▲                 │
//!                │     tried too early   │ │ time is up      │ files change
//!                ├───────────────────────┤ └── Retrying ◄────┤ (also from Retrying, Waiting)
//!                │                       ├───────▲ mount failed
//!                │                       ├──► Idle (does not load: stays as it is until it changes)
//!                │                       └──► Waiting (another file has its workspace)
//!             files are back
//!             Missing ◄── files are gone (from all but Working)
//! ```
//!
//! In all states, an entry also keeps the version that is served and the error of the latest one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use host_wasm::Hash;
use host_workspace::Logic;

use super::{GRACE, Look, RETRY, SETTLE};
use crate::mounts::Mounts;
use crate::plugin::Plugin;
use crate::sources::Fingerprint;
use crate::status::{PluginState, PluginStatus};

#[derive(Default)]
pub(super) struct Entry {
    pub(super) state: State,
    /// The version that was last tried, whatever the outcome.
    taken: Option<Fingerprint>,
    pub(super) serving: Option<Serving>,
    /// Why the latest version failed.
    pub(super) error: Option<String>,
}

/// The state of an entry.
#[derive(Default)]
pub(super) enum State {
    /// Waits until its files change.
    #[default]
    Idle,
    /// Waits until a new version has been stable since this time.
    Settling { version: Fingerprint, since: Instant },
    /// A job is running. `paused` is the delay before this attempt, if it is a retry.
    Working { paused: Option<Duration> },
    /// Its mount failed and will be retried.
    Retrying { at: Instant, paused: Duration },
    /// Waits for another file to release the workspace.
    Waiting { workspace: String },
    /// Its files have been missing since this time.
    Missing { since: Instant },
}

/// A version that is served.
pub(super) struct Serving {
    pub(super) plugin: Arc<Plugin>,
    pub(super) workspace: String,
    pub(super) hash: Hash,
    pub(super) size: u64,
    pub(super) loaded_at: u64,
    pub(super) took: Duration,
    pub(super) from_cache: bool,
}

/// What the folder's task must do for an entry.
pub(super) enum Next {
    /// Nothing, until something happens.
    Nothing,
    /// Look again at this time.
    Look(Instant),
    /// Load its files.
    Load(Look),
    /// Remove it; its files are gone.
    Forget,
}

impl Entry {
    pub(super) fn is_working(&self) -> bool {
        matches!(self.state, State::Working { .. })
    }

    pub(super) fn is_missing(&self) -> bool {
        matches!(self.state, State::Missing { .. })
    }

    pub(super) fn waits_for(&self, workspace: &str) -> bool {
        matches!(&self.state, State::Waiting { workspace: waited } if waited == workspace)
    }

    /// Its files were found as `found`; `complete` means that they are probably complete.
    pub(super) fn found(&mut self, found: &Fingerprint, complete: bool, now: Instant) -> Next {
        if self.is_working() {
            return Next::Nothing;
        }
        if complete {
            return Next::Load(Look::Early);
        }
        match &self.state {
            State::Settling { version, since } if version == found => {
                return if now.duration_since(*since) >= SETTLE {
                    Next::Load(Look::Settled)
                } else {
                    Next::Look(*since + SETTLE)
                };
            }
            State::Idle | State::Waiting { .. } if self.taken.as_ref() == Some(found) => {
                return Next::Nothing;
            }
            State::Retrying { at, .. } if self.taken.as_ref() == Some(found) => {
                return if now >= *at { Next::Load(Look::Settled) } else { Next::Look(*at) };
            }
            _ => {}
        }
        self.state = State::Settling { version: found.clone(), since: now };
        Next::Look(now + SETTLE)
    }

    /// Its files were not found.
    pub(super) fn not_found(&mut self, now: Instant) -> Next {
        match self.state {
            State::Working { .. } => Next::Nothing,
            State::Missing { since } if now.duration_since(since) >= GRACE => Next::Forget,
            State::Missing { since } => Next::Look(since + GRACE),
            _ => {
                self.state = State::Missing { since: now };
                Next::Look(now + GRACE)
            }
        }
    }

    /// A job starts on a version.
    pub(super) fn take_up(&mut self, version: &Fingerprint) {
        // A new version starts without a delay; retries of the same one wait longer each time.
        let same = self.taken.as_ref() == Some(version);
        let paused = match self.state {
            State::Retrying { paused, .. } if same => Some(paused),
            _ => None,
        };
        self.taken = Some(version.clone());
        self.state = State::Working { paused };
    }

    /// The version was tried too early and will be tried again once it is stable.
    pub(super) fn settle(&mut self) {
        self.state = match self.taken.take() {
            Some(version) => State::Settling { version, since: Instant::now() },
            None => State::Idle,
        };
    }

    /// The version is served, possibly because it already was.
    pub(super) fn succeeded(&mut self) {
        self.state = State::Idle;
        self.error = None;
    }

    /// The mount failed, possibly for an external reason.
    pub(super) fn retry(&mut self) {
        let (first, longest) = RETRY;
        let paused = match self.state {
            State::Working { paused: Some(paused) } => (paused * 2).min(longest),
            _ => first,
        };
        self.state = State::Retrying { at: Instant::now() + paused, paused };
    }

    pub(super) fn status(&self, file: &str, mounts: &dyn Mounts) -> PluginStatus {
        let serving = self.serving.as_ref();
        let counts = serving.and_then(|serving| mounts.rows(&serving.workspace));
        let counters = serving.map(|serving| serving.plugin.counters()).unwrap_or_default();
        let version = serving.map(|serving| serving.plugin.definition().version.clone());
        PluginStatus {
            file: file.into(),
            state: match (serving, &self.error) {
                (Some(_), _) => PluginState::Serving,
                (None, Some(_)) => PluginState::Failed,
                (None, None) => PluginState::Loading,
            },
            workspace: serving.map(|serving| serving.workspace.clone()),
            version: version.filter(|version| !version.is_empty()),
            hash: serving.map(|serving| serving.hash.to_string()),
            size: serving.map(|serving| serving.size),
            loaded_at: serving.map(|serving| serving.loaded_at),
            took_ms: serving.map(|serving| super::ms(serving.took)),
            from_cache: serving.map(|serving| serving.from_cache),
            optimised: serving.and_then(|serving| serving.plugin.is_optimised()),
            loading: self.is_working(),
            rows: counts.map(|counts| counts.rows),
            invalid: counts.map(|counts| counts.invalid),
            calls: counters.calls,
            errors: counters.errors,
            last_error: counters.last_error,
            memory: counters.memory,
            scripts: serving.map(|serving| serving.plugin.scripts().to_vec()).unwrap_or_default(),
            grants: serving.map(|serving| serving.plugin.grants().clone()),
            error: self.error.clone(),
            stale: serving.is_some() && self.error.is_some(),
        }
    }
}
