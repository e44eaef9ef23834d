//! Usage: tokens by user, provider, model and day, in SQLite.
//!
//! A run counts once its provider has started to answer, even if it is cut off or abandoned,
//! because the provider counts it too. It is written before the client sees the end; an abandoned
//! run is written in the background, and [`Usage::close`] waits for that. Entries that arrive
//! during a write are combined into one transaction, so many short requests are cheap.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use axum::extract::{Extension, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use host_caller::{Caller, account_id};
use host_files::{Database, M};
use parking_lot::{Mutex, MutexGuard};
use rusqlite::{Connection, params};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio_util::task::TaskTracker;

use crate::tokens::Tokens;

/// Tokens accepted for one answer. No answer has a billion, and sums of such counts do not
/// overflow.
const TOKENS: u64 = 1_000_000_000;

/// Rows of one report: some years of one user with a handful of models.
const ROWS: u32 = 10_000;

/// How many lines may wait while the disk accepts no writes; further ones are not counted. Enough for thousands of
/// users during an outage.
const PENDING: usize = 10_000;

/// The migrations of the schema, one for each version.
const MIGRATIONS: &[M<'static>] = &[M::up(
    "CREATE TABLE IF NOT EXISTS usage (
        user TEXT NOT NULL,
        day TEXT NOT NULL,
        provider TEXT NOT NULL,
        model TEXT NOT NULL,
        requests INTEGER NOT NULL,
        input INTEGER NOT NULL,
        output INTEGER NOT NULL,
        cached_input INTEGER NOT NULL,
        reasoning INTEGER NOT NULL,
        PRIMARY KEY (user, day, provider, model)
    ) WITHOUT ROWID",
)];

/// The usage database. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Usage(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    database: Mutex<Connection>,
    /// Entries not written yet. It is taken with the database locked, so whoever holds that lock
    /// knows that everything added before has been written.
    pending: Mutex<HashMap<Line, Sum>>,
    writes: TaskTracker,
}

/// User, provider and model.
type Line = (String, String, String);

/// The number of answers, and their tokens.
type Sum = (i64, Tokens);

/// The usage of one user, model and day (UTC).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Spent {
    /// The day, such as `2026-11-23`.
    pub day: String,
    /// The provider's name.
    pub provider: String,
    /// The model, as a chat requested it or a proxied answer names it. Empty if neither does, as
    /// for files.
    pub model: String,
    /// The number of answers.
    pub requests: i64,
    /// Input tokens.
    pub input_tokens: i64,
    /// Output tokens.
    pub output_tokens: i64,
    /// Input tokens that were served from the provider's cache.
    pub cached_input_tokens: i64,
    /// Reasoning tokens, if the provider reports them.
    pub reasoning_tokens: i64,
}

/// The days of a report, both inclusive, as `2026-11-23`.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Days {
    from: Option<String>,
    to: Option<String>,
}

impl Usage {
    /// Opens the file and creates it if it is missing.
    pub fn open(path: &Path) -> Result<Self, host_files::OpenError> {
        // A power failure may lose the last few seconds of counts, but does not damage the file.
        let database = Database { path, migrations: MIGRATIONS, durable: false }.open()?;
        let writes = TaskTracker::new();
        Ok(Self(Arc::new(Inner {
            database: Mutex::new(database),
            pending: Mutex::default(),
            writes,
        })))
    }

    /// Starts the tally of one run.
    pub fn tally(&self, account: &str, provider: &str, model: &str) -> Tally {
        Tally {
            usage: self.clone(),
            key: Some((account.to_owned(), provider.to_owned(), model.to_owned())),
            tokens: Tokens::default(),
            begun: false,
        }
    }

    /// An account's usage, newest day first.
    pub async fn report(&self, account: &str, days: Days) -> rusqlite::Result<Vec<Spent>> {
        let (inner, user) = (self.0.clone(), account.to_owned());
        let read = move || {
            let database = inner.written();
            let mut query = database.prepare_cached(
                "SELECT day, provider, model, requests, input, output, cached_input, reasoning
                 FROM usage WHERE user = ?1 AND day BETWEEN ?2 AND ?3
                 ORDER BY day DESC, provider, model LIMIT ?4",
            )?;
            let from = days.from.as_deref().unwrap_or("");
            let to = days.to.as_deref().unwrap_or("9999");
            let rows = query.query_map(params![user, from, to, ROWS], |row| {
                Ok(Spent {
                    day: row.get(0)?,
                    provider: row.get(1)?,
                    model: row.get(2)?,
                    requests: row.get(3)?,
                    input_tokens: row.get(4)?,
                    output_tokens: row.get(5)?,
                    cached_input_tokens: row.get(6)?,
                    reasoning_tokens: row.get(7)?,
                })
            })?;
            rows.collect()
        };
        self.0.writes.spawn_blocking(read).await.expect("reading does not panic")
    }

    /// Waits until everything is written.
    pub async fn close(&self) {
        self.0.writes.close();
        self.0.writes.wait().await;
        drop(self.0.written());
    }
}

impl Inner {
    /// Writes pending entries in the background. After the runtime has shut down, nothing can be
    /// written.
    fn write(self: &Arc<Self>) -> Option<tokio::task::JoinHandle<()>> {
        let runtime = tokio::runtime::Handle::try_current().ok()?;
        let inner = self.clone();
        Some(self.writes.spawn_blocking_on(move || drop(inner.written()), &runtime))
    }

    /// Locks the database after writing everything that is pending.
    fn written(&self) -> MutexGuard<'_, Connection> {
        let mut database = self.database.lock();
        let pending = std::mem::take(&mut *self.pending.lock());
        if !pending.is_empty()
            && let Err(error) = write(&mut database, &pending)
        {
            tracing::error!(%error, "the token usage cannot be saved; it is tried again with the next");
            let mut next = self.pending.lock();
            for (line, (requests, tokens)) in pending {
                if next.len() < PENDING || next.contains_key(&line) {
                    let sum = next.entry(line).or_default();
                    sum.0 += requests;
                    sum.1 += tokens;
                }
            }
        }
        database
    }
}

fn write(database: &mut Connection, sums: &HashMap<Line, Sum>) -> rusqlite::Result<()> {
    let count = |tokens: u64| i64::try_from(tokens).unwrap_or(i64::MAX);
    let transaction = database.transaction()?;
    for ((user, provider, model), (requests, tokens)) in sums {
        let mut insert = transaction.prepare_cached(
            "INSERT INTO usage VALUES (?1, date('now'), ?2, ?3, ?8, ?4, ?5, ?6, ?7)
             ON CONFLICT DO UPDATE SET
                requests = requests + excluded.requests,
                input = input + excluded.input,
                output = output + excluded.output,
                cached_input = cached_input + excluded.cached_input,
                reasoning = reasoning + excluded.reasoning",
        )?;
        insert.execute(params![
            user,
            provider,
            model,
            count(tokens.input),
            count(tokens.output),
            count(tokens.cached_input.unwrap_or(0)),
            count(tokens.reasoning.unwrap_or(0)),
            requests,
        ])?;
    }
    transaction.commit()
}

/// Counts the tokens of one run, even if it is dropped halfway.
#[derive(Debug)]
pub struct Tally {
    usage: Usage,
    /// User, provider and model; `None` once written.
    key: Option<Line>,
    tokens: Tokens,
    begun: bool,
}

impl Tally {
    /// Sets the model, if only the answer names it.
    pub fn name(&mut self, name: String) {
        if let Some((_, _, model)) = &mut self.key {
            *model = name;
        }
    }

    /// Records that the provider has started to answer, from which point the run counts.
    pub fn begin(&mut self) {
        self.begun = true;
    }

    /// Sets the usage so far.
    pub fn note(&mut self, tokens: Tokens) {
        self.tokens = tokens;
    }

    /// Writes the usage.
    pub async fn count(&mut self, tokens: Tokens) {
        self.note(tokens);
        if self.add().is_some()
            && let Some(written) = self.usage.0.write()
        {
            // It logs its own errors: a lost count is no reason to withhold the answer.
            let _ = written.await;
        }
    }

    /// Adds the usage to the pending entries. Returns whether it is the first of them, or `None` if
    /// there was nothing to add.
    fn add(&mut self) -> Option<bool> {
        let key = self.key.take().filter(|_| self.begun)?;
        let mut pending = self.usage.0.pending.lock();
        let first = pending.is_empty();
        let (requests, tokens) = pending.entry(key).or_default();
        *requests += 1;
        *tokens += self.tokens.at_most(TOKENS);
        Some(first)
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        // Whoever added the earlier entry has started the write, which includes this one.
        if self.add() == Some(true) {
            drop(self.usage.0.write());
        }
    }
}

/// `GET /ai/usage`: the caller's usage.
pub fn router(usage: Usage) -> Router {
    Router::new().route("/ai/usage", get(report)).with_state(usage)
}

async fn report(
    State(usage): State<Usage>,
    caller: Option<Extension<Caller>>,
    days: Result<Query<Days>, axum::extract::rejection::QueryRejection>,
) -> Response {
    let days = match days {
        Ok(Query(days)) => days,
        Err(error) => return host_http::error(StatusCode::BAD_REQUEST, error.body_text()),
    };
    match usage.report(account_id(caller.as_deref()), days).await {
        Ok(spent) => Json(json!({ "data": spent })).into_response(),
        Err(error) => {
            tracing::error!(%error, "the token usage cannot be read");
            host_http::error(StatusCode::INTERNAL_SERVER_ERROR, "the token usage cannot be read")
        }
    }
}
