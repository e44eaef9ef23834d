//! What is known of one plugin in the folder, and what becomes of it.
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
//! Beside the state stand what an entry keeps through all of them: the version that serves, and what
//! was wrong with the newest one.

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
    /// The version that was last taken up, whatever became of it.
    taken: Option<Fingerprint>,
    pub(super) serving: Option<Serving>,
    /// Why the newest version failed.
    pub(super) error: Option<String>,
}

/// What happens to an entry next.
#[derive(Default)]
pub(super) enum State {
    /// Nothing, until its files change.
    #[default]
    Idle,
    /// A version that has not been taken up is taken up once it has stood still since then.
    Settling { version: Fingerprint, since: Instant },
    /// A job is at work on it. `paused` is how long it waited before, where it is tried again.
    Working { paused: Option<Duration> },
    /// Its mount failed, and is tried again.
    Retrying { at: Instant, paused: Duration },
    /// Another file has to give up its workspace first.
    Waiting { workspace: String },
    /// Its files are gone, since then.
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

/// What a look at the folder asks of an entry.
pub(super) enum Next {
    /// Nothing, until something happens.
    Nothing,
    /// Another look, then.
    Look(Instant),
    /// Its files are to be loaded.
    Load(Look),
    /// It is gone for good.
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

    /// Its files were found as `found`; `complete` says that they are probably whole.
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

    /// A job takes up a version.
    pub(super) fn take_up(&mut self, version: &Fingerprint) {
        // A new version begins anew; the same one is patient for longer each time.
        let same = self.taken.as_ref() == Some(version);
        let paused = match self.state {
            State::Retrying { paused, .. } if same => Some(paused),
            _ => None,
        };
        self.taken = Some(version.clone());
        self.state = State::Working { paused };
    }

    /// The version was tried too early: it is judged once it has stood still.
    pub(super) fn settle(&mut self) {
        self.state = match self.taken.take() {
            Some(version) => State::Settling { version, since: Instant::now() },
            None => State::Idle,
        };
    }

    /// The version is served, or is the one that was served already.
    pub(super) fn succeeded(&mut self) {
        self.state = State::Idle;
        self.error = None;
    }

    /// The mount of the version failed, which may be for a reason outside of it.
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
