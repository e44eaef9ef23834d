//! The component of a plugin: the calls into its guest.

use std::sync::Arc;

use host_workspace::{ActionError, Change, Definition, Fault, Parsed, Transaction};

use crate::contract::Prepared;
use crate::engine::Engine;
use crate::limits::Limits;
use crate::pool::{Kind, Pool, bounded};
use crate::reach::Reach;

pub(crate) struct Wasm {
    pool: Pool,
    definition: Arc<Definition>,
}

impl Wasm {
    /// Asks a component twice, in two instances, what it defines; the answers must be equal and
    /// hold against the rules of the contract.
    pub(crate) async fn new(
        engine: &Engine,
        plugin: Arc<str>,
        prepared: Prepared,
        limits: Arc<Limits>,
        reach: Reach,
    ) -> Result<Self, String> {
        let pool = Pool::new(engine.clone(), prepared, plugin, limits, reach);
        let first = define(&pool).await?;
        if define(&pool).await? != first {
            return Err(
                "define answered differently when it was asked again; it must always give the same \
                 definition"
                    .into(),
            );
        }
        let definition = check(first).await?;
        Ok(Self { pool: pool.named(&definition.id), definition })
    }

    /// What the component alone defines.
    pub(crate) fn definition(&self) -> &Arc<Definition> {
        &self.definition
    }

    /// Goes on with other code of the same component.
    pub(crate) fn optimise(&self, prepared: Prepared) {
        self.pool.optimise(prepared);
    }

    /// Bytes of linear memory that all instances have now.
    pub(crate) fn memory(&self) -> usize {
        self.pool.memory()
    }

    /// Drops instances that nobody used for long.
    pub(crate) fn trim(&self) {
        self.pool.trim();
    }

    pub(crate) async fn parse_rows(
        &self,
        table: &str,
        rows: &[String],
        request: &str,
    ) -> Result<Vec<Parsed>, Fault> {
        let call = format!("parse-rows of {table}");
        let mut turn = self.pool.turn(Kind::Parse, call, None, request).await?;
        let deadline = turn.deadline();
        let (guest, store) = turn.parts();
        let outcome = bounded(deadline, guest.parse_rows(store, table, rows)).await;
        turn.end(outcome)
    }

    pub(crate) async fn parse_kv(
        &self,
        key: &str,
        value: String,
        request: &str,
    ) -> Result<Parsed, Fault> {
        let call = format!("parse-kv of {key}");
        let mut turn = self.pool.turn(Kind::Parse, call, None, request).await?;
        let deadline = turn.deadline();
        let (guest, store) = turn.parts();
        let outcome = bounded(deadline, guest.parse_kv(store, key, value)).await;
        turn.end(outcome)
    }

    pub(crate) async fn check_change(
        &self,
        change: Change,
        data: Arc<Transaction>,
    ) -> Result<Result<(), ActionError>, Fault> {
        let call = format!("check-change of {}", change.table);
        let mut turn = self.pool.turn(Kind::Check, call, Some(data), "").await?;
        let deadline = turn.deadline();
        let (guest, store) = turn.parts();
        let outcome = bounded(deadline, guest.check_change(store, change)).await;
        turn.end(outcome)
    }

    pub(crate) async fn action(
        &self,
        path: &str,
        input: String,
        data: Option<Arc<Transaction>>,
    ) -> Result<Result<String, ActionError>, Fault> {
        let call = format!("action {path}");
        let mut turn = self.pool.turn(Kind::Action, call, data, "").await?;
        let deadline = turn.deadline();
        let (guest, store) = turn.parts();
        let outcome = bounded(deadline, guest.run_action(store, path, input)).await;
        turn.end(outcome)
    }
}

async fn define(pool: &Pool) -> Result<Definition, String> {
    let asked = async {
        let mut turn = pool.turn(Kind::Define, "define".into(), None, "").await?;
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

/// Holds a definition against the rules of the contract. The schemas are compiled for it, which
/// takes time and is third-party code fed with foreign data: not on an async thread, and a panic in
/// it is this plugin's error.
pub(crate) async fn check(definition: Definition) -> Result<Arc<Definition>, String> {
    match tokio::task::spawn_blocking(move || definition.check()).await {
        Ok(Ok(definition)) => Ok(definition),
        Ok(Err(error)) => Err(of_definition(&error.to_string())),
        Err(_) => Err("the definition could not be checked; a schema in it is at fault".into()),
    }
}

/// Each fault, a line each, says what it is one of.
fn of_definition(faults: &str) -> String {
    let faults: Vec<_> =
        faults.lines().map(|fault| format!("the definition is not valid: {fault}")).collect();
    faults.join("\n")
}
