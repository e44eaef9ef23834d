//! The interface to a plugin's code: a component or scripts.

use std::time::Duration;

use async_trait::async_trait;
use host_workspace::{ActionError, Change, Parsed};

use crate::call::{Call, Ended, Kind};
use crate::places::Places;

/// Runs the code of one plugin. The layers above ([`crate::calls`], [`crate::answers`]) limit
/// concurrency and time, and check answers against the contract. A runtime stops code whose
/// [`Pace`](host_wasm::Pace) is over, so that none of it keeps running.
#[async_trait]
pub(crate) trait Runtime: Send + Sync {
    /// The places for a kind of call that are shared by all plugins of the server.
    fn shared_places(&self, _kind: Kind) -> Option<&Places> {
        None
    }

    /// How long after its deadline a call may still end by itself.
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

    /// Checks a change.
    async fn check_change(
        &self,
        call: Call,
        change: Change,
    ) -> Result<Result<(), ActionError>, Ended>;

    /// Runs an action with valid input; returns JSON text.
    async fn run_action(
        &self,
        call: Call,
        path: &str,
        input: String,
    ) -> Result<Result<String, ActionError>, Ended>;

    /// Bytes that it holds now.
    fn memory(&self) -> usize;

    /// Drops resources that have not been used for long.
    fn trim(&self) {}
}
