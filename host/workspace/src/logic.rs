//! The boundary to what gives a workspace its meaning.
//!
//! This crate keeps rows, serves them and calls [`Logic`] to learn what they mean. `host-plugins`
//! implements it over WASM components; tests implement it in plain Rust.

use std::sync::Arc;

use async_trait::async_trait;
use host_caller::{Account, Right};
use serde::Serialize;

use crate::context::Context;
use crate::definition::{Definition, Issue};
use crate::error::{ActionError, Fault};
use crate::query::{Filter, Page, Query};

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

    /// Asked before a row changes, in tables that ask for it. The data may be read, and
    /// refuses writes while it is lent to this call. An error refuses the change.
    async fn check_change(
        &self,
        change: Change,
        data: Arc<dyn Data>,
    ) -> Result<Result<(), ActionError>, Fault>;

    /// Runs an action with input that is valid for its schema. The result is JSON text.
    async fn run_action(
        &self,
        path: &str,
        input: String,
        data: Arc<dyn Data>,
    ) -> Result<Result<String, ActionError>, Fault>;
}

/// What a check or an action may read and write: the workspace as it was when the call began, with the
/// call's own writes laid over it.
#[async_trait]
pub trait Data: Send + Sync + 'static {
    /// The row, migrated to the current version.
    fn get(&self, table: &str, id: &str) -> Result<Option<String>, ActionError>;

    /// A page of the valid rows that a query selects.
    fn list(&self, table: &str, query: &Query) -> Result<Page, ActionError>;

    /// How many valid rows fulfil all filters.
    fn count(&self, table: &str, filters: &[Filter]) -> Result<u64, ActionError>;

    /// Creates a row or replaces it whole. Returns it as it will be stored.
    async fn put(self: Arc<Self>, table: &str, row: &str) -> Result<String, ActionError>;

    /// Sets members of a row and leaves the others. Returns the row as it will be stored.
    async fn update(
        self: Arc<Self>,
        table: &str,
        id: &str,
        fields: &str,
    ) -> Result<String, ActionError>;

    /// Deletes a row, valid or not. False when there was none.
    async fn delete(self: Arc<Self>, table: &str, id: &str) -> Result<bool, ActionError>;

    /// The value of a key, migrated to the current version.
    fn kv_get(&self, key: &str) -> Result<Option<String>, ActionError>;

    /// Sets the value of a key.
    async fn kv_set(self: Arc<Self>, key: &str, value: &str) -> Result<(), ActionError>;

    /// Forgets the value of a key. False when there was none.
    async fn kv_delete(self: Arc<Self>, key: &str) -> Result<bool, ActionError>;

    /// The text of a document that is attached to a row.
    async fn text(&self, table: &str, id: &str, document: &str) -> Result<String, ActionError>;

    /// Replaces the text of a document that is attached to a row, and sets the row's time of the last
    /// edit.
    async fn set_text(
        self: Arc<Self>,
        table: &str,
        id: &str,
        document: &str,
        text: &str,
    ) -> Result<(), ActionError>;

    /// Who asks, and what for.
    fn context(&self) -> &Context;

    /// Unix ms; the same during the whole call.
    fn now(&self) -> u64;

    /// Whether there is a table of that name; the error has the names that there are.
    fn find_table(&self, name: &str) -> Result<(), Vec<String>>;
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
    /// What they may do in the workspace.
    pub right: Right,
    /// How the change reached the server.
    pub source: Source,
}

/// How a change reaches the server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// A REST request for the row.
    #[default]
    Rest,
    /// An action.
    Action,
    /// Sync, which has put it into the document already.
    Sync,
}
