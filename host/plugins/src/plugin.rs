//! A plugin: the logic of one workspace, run by a component.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use host_workspace::{ActionError, Change, Definition, Fault, Issue, Logic, Parsed, Transaction};
use parking_lot::Mutex;
use serde::Serialize;
use serde::de::IgnoredAny;

use crate::component::{self, Hash, LoadError, Loaded};
use crate::engine::Engine;
use crate::limits::Limits;
use crate::log::one_line;
use crate::pool::{Kind, Pool, bounded};

/// A loaded plugin, ready to be mounted.
pub struct Plugin {
    file: Arc<str>,
    definition: Arc<Definition>,
    pool: Pool,
    calls: AtomicU64,
    errors: AtomicU64,
    last_error: Mutex<Option<LastError>>,
}

/// The newest fault of a plugin.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LastError {
    /// When, in Unix ms.
    pub at: u64,
    /// What happened.
    pub message: String,
}

/// What a plugin has done since it was loaded.
#[derive(Debug, Clone, Default)]
pub struct Counters {
    /// Calls into the guest.
    pub calls: u64,
    /// Calls that ended with a [`Fault`].
    pub errors: u64,
    /// The newest of them.
    pub last_error: Option<LastError>,
    /// Linear memory of all instances, in bytes.
    pub memory: usize,
}

impl Plugin {
    /// Asks a component twice, in two instances, what it defines; the answers must be equal and
    /// hold against the rules of the contract.
    pub(crate) async fn new(
        engine: &Engine,
        file: &str,
        loaded: Loaded,
        limits: Arc<Limits>,
    ) -> Result<Self, LoadError> {
        let file: Arc<str> = file.into();
        let pool = Pool::new(engine.clone(), loaded.prepared, file.clone(), limits);
        let failed = |reason: String| LoadError::new(&*file, reason);
        let first = define(&pool).await.map_err(failed)?;
        if define(&pool).await.map_err(failed)? != first {
            return Err(failed(
                "define answered differently when it was asked again; it must always give the same \
                 definition"
                    .into(),
            ));
        }
        // The schemas are compiled as they are checked, which takes time and is third-party code fed
        // with foreign data: not on an async thread, and a panic in it is this plugin's error.
        let checked = tokio::task::spawn_blocking(move || first.check()).await;
        let definition = match checked {
            Ok(Ok(definition)) => definition,
            Ok(Err(error)) => return Err(failed(format!("the definition is not valid: {error}"))),
            Err(_) => {
                return Err(failed(
                    "the definition could not be checked; a schema in it is at fault".into(),
                ));
            }
        };
        Ok(Self {
            file: file.clone(),
            pool: pool.named(&definition.id),
            definition,
            calls: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            last_error: Mutex::default(),
        })
    }

    /// Makes a plugin of the bytes of a file that is not in a folder: for tools that look at one.
    pub async fn from_bytes(
        engine: &Engine,
        file: &str,
        bytes: Vec<u8>,
        limits: Limits,
    ) -> Result<Self, LoadError> {
        let (name, with) = (file.to_owned(), engine.clone());
        let compile = move || component::load(&with, None, &name, &bytes, Hash::of(&bytes));
        let loaded = tokio::task::spawn_blocking(compile)
            .await
            .unwrap_or_else(|_| Err(LoadError::new(file, "the compiler failed on it")))?;
        Self::new(engine, file, loaded, Arc::new(limits)).await
    }

    /// The plugin's file name.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// What it has done so far.
    pub fn counters(&self) -> Counters {
        Counters {
            calls: self.calls.load(Ordering::Relaxed),
            errors: self.errors.load(Ordering::Relaxed),
            last_error: self.last_error.lock().clone(),
            memory: self.pool.memory(),
        }
    }

    /// Drops instances that nobody used for long.
    pub(crate) fn trim(&self) {
        self.pool.trim();
    }

    /// Runs an action; without a transaction it sees no data.
    pub(crate) async fn action(
        &self,
        path: &str,
        input: String,
        data: Option<Arc<Transaction>>,
    ) -> Result<Result<String, ActionError>, Fault> {
        let call = || format!("action {path}");
        let mut turn = self.pool.turn(Kind::Action, call(), data).await?;
        let deadline = turn.deadline();
        let (guest, store) = turn.parts();
        let outcome = bounded(deadline, guest.run_action(store, path, input)).await;
        let limits = self.pool.limits();
        match turn.end(outcome)? {
            Ok(result) if result.len() > limits.result_bytes => Err(self.breach(
                call(),
                format!(
                    "the result has {} bytes; {} is the most",
                    result.len(),
                    limits.result_bytes
                ),
            )),
            Ok(result) => match serde_json::from_str::<IgnoredAny>(&result) {
                Ok(_) => Ok(Ok(result)),
                Err(error) => Err(self.breach(call(), format!("the result is not JSON: {error}"))),
            },
            Err(ActionError::Invalid(issues)) => Ok(Err(ActionError::Invalid(self.issues(issues)))),
            Err(error) => Ok(Err(error)),
        }
    }

    async fn parse_batch(&self, table: &str, rows: &[String]) -> Result<Vec<Parsed>, Fault> {
        let call = || format!("parse-rows of {table}");
        let mut turn = self.pool.turn(Kind::Parse, call(), None).await?;
        let deadline = turn.deadline();
        let (guest, store) = turn.parts();
        let outcome = bounded(deadline, guest.parse_rows(store, table, rows)).await;
        let parsed = turn.end(outcome)?;
        if parsed.len() != rows.len() {
            return Err(self.breach(
                call(),
                format!(
                    "it answered {} results for {} rows; one for each is due",
                    parsed.len(),
                    rows.len()
                ),
            ));
        }
        Ok(parsed.into_iter().map(|parsed| self.parsed(parsed)).collect())
    }

    /// Holds one parsed value to the contract.
    fn parsed(&self, parsed: Parsed) -> Parsed {
        let limit = self.pool.limits().row_bytes;
        match parsed {
            Ok(value) if value.len() > limit => Err(vec![Issue::whole(format!(
                "the plugin made {} bytes of JSON of it; {limit} is the most",
                value.len()
            ))]),
            Ok(value) => Ok(value),
            Err(issues) => Err(self.issues(issues)),
        }
    }

    fn issues(&self, mut issues: Vec<Issue>) -> Vec<Issue> {
        issues.truncate(self.pool.limits().issues);
        if issues.is_empty() {
            issues.push(Issue::whole("the plugin refused it and gave no reason"));
        }
        issues
    }

    fn breach(&self, call: String, reason: String) -> Fault {
        Fault::Contract { plugin: self.file.to_string(), call, reason }
    }

    /// Counts a call and how it ended.
    fn counted<T>(&self, result: Result<T, Fault>) -> Result<T, Fault> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        if let Err(fault) = &result {
            self.note(fault);
        }
        result
    }

    fn note(&self, fault: &Fault) {
        self.errors.fetch_add(1, Ordering::Relaxed);
        let message = one_line(&fault.to_string(), 4096);
        tracing::warn!(target: "plugin", workspace = %self.definition.id, plugin = %self.file, "{message}");
        let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let at = u64::try_from(at).unwrap_or(u64::MAX);
        *self.last_error.lock() = Some(LastError { at, message });
    }
}

async fn define(pool: &Pool) -> Result<Definition, String> {
    let asked = async {
        let mut turn = pool.turn(Kind::Define, "define".into(), None).await?;
        let deadline = turn.deadline();
        let (guest, store) = turn.parts();
        let outcome = bounded(deadline, guest.define(store)).await;
        turn.end(outcome)
    };
    match asked.await {
        Ok(definition) => {
            definition.map_err(|error| format!("the definition is not valid: {error}"))
        }
        Err(Fault::Trapped { call, reason, .. }) => Err(format!("{call} crashed: {reason}")),
        Err(Fault::TimedOut { call, limit, .. }) => {
            Err(format!("{call} took longer than {} ms", limit.as_millis()))
        }
        Err(fault) => Err(fault.to_string()),
    }
}

#[async_trait]
impl Logic for Plugin {
    fn definition(&self) -> &Arc<Definition> {
        &self.definition
    }

    async fn parse_rows(&self, table: &str, rows: Vec<String>) -> Result<Vec<Parsed>, Fault> {
        let limits = self.pool.limits();
        let mut parsed = Vec::with_capacity(rows.len());
        let mut rows = rows.into_iter().peekable();
        while let Some(row) = rows.next() {
            if row.len() > limits.row_bytes {
                parsed.push(Err(too_large(&row, limits.row_bytes)));
                continue;
            }
            let mut bytes = row.len();
            let mut batch = vec![row];
            while batch.len() < limits.batch_rows
                && let Some(next) = rows.next_if(|next| {
                    next.len() <= limits.row_bytes && bytes + next.len() <= limits.batch_bytes
                })
            {
                bytes += next.len();
                batch.push(next);
            }
            parsed.extend(self.counted(self.parse_batch(table, &batch).await)?);
        }
        Ok(parsed)
    }

    async fn parse_kv(&self, key: &str, value: String) -> Result<Parsed, Fault> {
        let limit = self.pool.limits().row_bytes;
        if value.len() > limit {
            return Ok(Err(too_large(&value, limit)));
        }
        let asked = async {
            let mut turn = self.pool.turn(Kind::Parse, format!("parse-kv of {key}"), None).await?;
            let deadline = turn.deadline();
            let (guest, store) = turn.parts();
            let outcome = bounded(deadline, guest.parse_kv(store, key, value)).await;
            turn.end(outcome)
        };
        self.counted(asked.await).map(|parsed| self.parsed(parsed))
    }

    async fn check_change(
        &self,
        change: Change,
        data: Arc<Transaction>,
    ) -> Result<Result<(), Vec<Issue>>, Fault> {
        let asked = async {
            let call = format!("check-change of {}", change.table);
            let mut turn = self.pool.turn(Kind::Check, call, Some(data)).await?;
            let deadline = turn.deadline();
            let (guest, store) = turn.parts();
            let outcome = bounded(deadline, guest.check_change(store, change)).await;
            turn.end(outcome)
        };
        self.counted(asked.await).map(|checked| checked.map_err(|issues| self.issues(issues)))
    }

    async fn run_action(
        &self,
        path: &str,
        input: String,
        data: Arc<Transaction>,
    ) -> Result<Result<String, ActionError>, Fault> {
        self.counted(self.action(path, input, Some(data)).await)
    }
}

fn too_large(value: &str, limit: usize) -> Vec<Issue> {
    vec![Issue::whole(format!("is {} bytes of JSON; {limit} is the most", value.len()))]
}
