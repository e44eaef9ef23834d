//! What runs a plugin's code: a component, or scripts.

use std::time::Duration;

use async_trait::async_trait;
use host_workspace::{ActionError, Change, Parsed};

use crate::call::{Call, Ended, Kind};
use crate::places::Places;

/// Runs the code of one plugin. Who may call it, for how long, and whether its answers are what the
/// contract allows is looked after above ([`crate::calls`], [`crate::answers`]); a runtime stops code
/// whose [`Pace`](host_wasm::Pace) is over, so that nothing of it goes on running.
#[async_trait]
pub(crate) trait Runtime: Send + Sync {
    /// Places for a kind of call that it shares with the plugins of the whole server.
    fn shared_places(&self, _kind: Kind) -> Option<&Places> {
        None
    }

    /// How long after its deadline a call may still come to an end by itself.
    fn grace(&self) -> Duration {
        Duration::ZERO
    }

    /// Validates rows and migrates them to the current version.
    async fn parse_rows(
        &self,
        call: Call,
        table: &str,
        rows: Vec<String>,
    ) -> Result<Vec<Parsed>, Ended>;

    /// The same for the value of a key.
    async fn parse_kv(&self, call: Call, key: &str, value: String) -> Result<Parsed, Ended>;

    /// Judges a change.
    async fn check_change(
        &self,
        call: Call,
        change: Change,
    ) -> Result<Result<(), ActionError>, Ended>;

    /// Runs an action with valid input; gives JSON text.
    async fn run_action(
        &self,
        call: Call,
        path: &str,
        input: String,
    ) -> Result<Result<String, ActionError>, Ended>;

    /// Bytes that it holds now.
    fn memory(&self) -> usize;

    /// Lets go of what nobody has used for long.
    fn trim(&self) {}
}
