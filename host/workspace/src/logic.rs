//! The boundary to what gives a workspace its meaning.
//!
//! This crate keeps rows, serves them and calls [`Logic`] to learn what they mean. `host-plugins`
//! implements it over WASM components; tests implement it in plain Rust.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use host_caller::Account;

use crate::definition::{Definition, Issue};
use crate::transaction::Transaction;

/// The outcome of parsing one value: its current form as JSON text, or why it is not valid.
pub type Parsed = Result<String, Vec<Issue>>;

/// The meaning of one workspace. Calls may run at the same time; each is bounded in time and
/// memory by the implementation, which reports a broken bound as a [`Fault`].
#[async_trait]
pub trait Logic: Send + Sync + 'static {
    /// What the workspace consists of; always the same, and checked.
    fn definition(&self) -> &Arc<Definition>;

    /// Validates rows of a table and migrates them to the current version; as many results as
    /// rows. `rows` may be of any number: the implementation cuts them into batches. `request_id`
    /// names the request that they are for; empty when they are for none.
    async fn parse_rows(
        &self,
        table: &str,
        rows: Vec<String>,
        request_id: &str,
    ) -> Result<Vec<Parsed>, Fault>;

    /// The same for the value of a kv key.
    async fn parse_kv(&self, key: &str, value: String, request_id: &str) -> Result<Parsed, Fault>;

    /// Asked before a row changes, in tables that ask for it. The transaction may be read, and
    /// refuses writes while it is lent to this call. An error refuses the change.
    async fn check_change(
        &self,
        change: Change,
        data: Arc<Transaction>,
    ) -> Result<Result<(), ActionError>, Fault>;

    /// Runs an action with input that is valid for its schema. The result is JSON text.
    async fn run_action(
        &self,
        path: &str,
        input: String,
        data: Arc<Transaction>,
    ) -> Result<Result<String, ActionError>, Fault>;
}

/// What happens to a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Operation {
    Create,
    Update,
    Delete,
}

/// One change to a table, about to happen.
#[derive(Debug, Clone)]
pub struct Change {
    /// The table's name.
    pub table: String,
    /// What happens.
    pub operation: Operation,
    /// The row's id.
    pub id: String,
    /// The row before, as JSON; none for a create and when it is invalid.
    pub old: Option<String>,
    /// The row after, as JSON; none for a delete.
    pub new: Option<String>,
    /// The account of the caller; none while the server runs without accounts.
    pub caller: Option<Account>,
}

/// Why an action, or a call of a guest into its tables, did not do what was asked. The same four
/// cases as `error` of the contract.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ActionError {
    /// The row, key, table or action does not exist. REST: 404.
    #[error("not found")]
    NotFound,
    /// The value was refused. REST: 422 with the issues.
    #[error("invalid")]
    Invalid(Vec<Issue>),
    /// Not allowed, or not granted. REST: 403.
    #[error("{0}")]
    Denied(String),
    /// Anything else. REST: 500 with the text.
    #[error("{0}")]
    Failed(String),
}

/// A plugin that broke a bound or its contract. The instance is gone; the caller gets one clear
/// error and nothing else is disturbed. REST: 500, and 503 for [`Fault::Busy`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The call did not end in its time.
    #[error("plugin {plugin}: {call} took longer than {} ms", limit.as_millis())]
    TimedOut {
        /// The plugin's file name.
        plugin: String,
        /// Which call: `parse-rows of posts`, `action posts/publish`.
        call: String,
        /// The limit that it broke.
        limit: Duration,
    },
    /// The guest trapped: panicked, ran out of memory, overflowed its stack.
    #[error("plugin {plugin}: {call} crashed: {reason}")]
    Trapped {
        /// The plugin's file name.
        plugin: String,
        /// Which call.
        call: String,
        /// The trap, in words.
        reason: String,
    },
    /// The guest answered something that the contract does not allow.
    #[error("plugin {plugin}: {call} broke the contract: {reason}")]
    Contract {
        /// The plugin's file name.
        plugin: String,
        /// Which call.
        call: String,
        /// What it did, and what it should have done.
        reason: String,
    },
    /// Too many calls are waiting for an instance of this plugin.
    #[error("plugin {plugin} is busy: {waiting} calls are waiting")]
    Busy {
        /// The plugin's file name.
        plugin: String,
        /// How many wait.
        waiting: usize,
    },
}
