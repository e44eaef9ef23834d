//! A plugin: the logic of one workspace, run by a component, by scripts, or by both.

mod draft;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use host_workspace::{ActionError, Change, Data, Definition, Fault, Logic, Parsed};

use crate::answers;
use crate::call::{Task, too_large};
use crate::calls::{Calls, Counters};
use crate::engine::Engine;
use crate::limits::Limits;
use crate::reach::manifest::{Grants, Manifest};
use crate::runtime::Runtime;
use crate::scripts::Scripts;
use crate::sources::Sources;
use crate::wasm::Wasm;

pub(crate) use self::draft::{Draft, Workshop};

/// Why a file is not a plugin: what is wrong and how to fix it, one fault to a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}: {reason}")]
pub struct LoadError {
    /// The file's name.
    pub file: String,
    /// What is wrong and how to fix it.
    pub reason: String,
}

impl LoadError {
    pub(crate) fn new(file: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { file: file.into(), reason: reason.into() }
    }
}

/// A loaded plugin, ready to be mounted.
pub struct Plugin {
    file: Arc<str>,
    definition: Arc<Definition>,
    code: Code,
    calls: Calls,
    grants: Arc<Grants>,
    limits: Arc<Limits>,
    /// How long it waited before it was compiled.
    pub(crate) waited: Duration,
}

/// The code of a plugin.
enum Code {
    /// A component defines the meaning of rows; scripts may add actions.
    Component(Box<Component>, Option<Scripts>),
    Scripts(Scripts),
}

/// A component and the manifest that it was loaded under. A new version of the plugin that changes
/// neither reuses it.
#[derive(Clone)]
struct Component {
    wasm: Arc<Wasm>,
    manifest: Manifest,
}

impl Plugin {
    /// Loads a plugin from its files. Parts that equal those of the version `before` are reused.
    pub(crate) async fn load(
        workshop: &Workshop,
        file: &str,
        sources: Sources,
        before: Option<&Self>,
    ) -> Result<Self, LoadError> {
        Draft::of(workshop, file, sources, before).await.finish()
    }

    /// Loads a plugin from the bytes of a component outside a folder, for tools that inspect one.
    pub async fn from_bytes(
        engine: &Engine,
        file: &str,
        bytes: Vec<u8>,
        limits: Limits,
    ) -> Result<Self, LoadError> {
        let sources = Sources::component(file, bytes, limits);
        Self::load(&Workshop::new(engine.clone(), None, 1), file, sources, None).await
    }

    /// The name of the plugin's main file.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// What it may use beyond its own workspace.
    pub fn grants(&self) -> &Grants {
        &self.grants
    }

    /// The files of its scripts.
    pub fn scripts(&self) -> &[String] {
        self.code.scripts().map(Scripts::files).unwrap_or_default()
    }

    /// Whether its compiled component came from the cache.
    pub(crate) fn is_from_cache(&self) -> bool {
        self.code.component().is_none_or(|component| component.wasm.from_cache)
    }

    /// Whether its component runs optimised code; `None` if it has no component.
    pub(crate) fn is_optimised(&self) -> Option<bool> {
        Some(self.code.component()?.wasm.is_optimised())
    }

    /// Replaces code from the baseline compiler with optimised code. Returns whether it did. May
    /// take long, on a thread that yields to all others.
    pub async fn optimise(&self) -> Result<bool, LoadError> {
        let Some(component) = self.code.component() else { return Ok(false) };
        component.wasm.optimise().await.map_err(|reason| LoadError::new(&*self.file, reason))
    }

    /// Its statistics so far.
    pub fn counters(&self) -> Counters {
        self.calls.counters(self.code.runtimes().map(Runtime::memory).sum())
    }

    /// Drops resources that have not been used for long.
    pub(crate) fn trim(&self) {
        self.code.runtimes().for_each(Runtime::trim);
    }

    /// Runs an action, which sees no data without a transaction.
    pub(crate) async fn action(
        &self,
        path: &str,
        input: String,
        data: Option<Arc<dyn Data>>,
    ) -> Result<Result<String, ActionError>, Fault> {
        let runtime = self.code.of_action(path);
        let task = Task::Action { path };
        let act = async |call| {
            answers::result(runtime.run_action(call, path, input).await?, &self.limits)
        };
        self.calls.make(runtime, task, data, "", act).await
    }
}

impl Code {
    fn component(&self) -> Option<&Component> {
        match self {
            Self::Component(component, _) => Some(component),
            Self::Scripts(_) => None,
        }
    }

    fn scripts(&self) -> Option<&Scripts> {
        match self {
            Self::Component(_, scripts) => scripts.as_ref(),
            Self::Scripts(scripts) => Some(scripts),
        }
    }

    /// The runtime that defines the meaning of rows.
    fn of_rows(&self) -> &dyn Runtime {
        match self {
            Self::Component(component, _) => &*component.wasm,
            Self::Scripts(scripts) => scripts,
        }
    }

    /// The runtime of an action.
    fn of_action(&self, path: &str) -> &dyn Runtime {
        match self.scripts().filter(|scripts| scripts.has_action(path)) {
            Some(scripts) => scripts,
            None => self.of_rows(),
        }
    }

    fn runtimes(&self) -> impl Iterator<Item = &dyn Runtime> {
        let component = self.component().map(|component| &*component.wasm as &dyn Runtime);
        component.into_iter().chain(self.scripts().map(|scripts| scripts as &dyn Runtime))
    }
}

#[async_trait]
impl Logic for Plugin {
    fn definition(&self) -> &Arc<Definition> {
        &self.definition
    }

    async fn parse_rows(
        &self,
        table: &str,
        rows: Vec<String>,
        request_id: &str,
    ) -> Result<Vec<Parsed>, Fault> {
        let limits = &self.limits;
        let runtime = self.code.of_rows();
        let mut parsed = Vec::with_capacity(rows.len());
        let mut rows = rows.into_iter().peekable();
        while let Some(row) = rows.next() {
            if row.len() > limits.row_bytes {
                parsed.push(Err(too_large(row.len(), limits.row_bytes)));
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
            let due = batch.len();
            let parse = async |call| {
                answers::rows(runtime.parse_rows(call, table, batch).await?, due, limits)
            };
            let task = Task::ParseRows { table };
            parsed.extend(self.calls.make(runtime, task, None, request_id, parse).await?);
        }
        Ok(parsed)
    }

    async fn parse_kv(&self, key: &str, value: String, request_id: &str) -> Result<Parsed, Fault> {
        let limit = self.limits.row_bytes;
        if value.len() > limit {
            return Ok(Err(too_large(value.len(), limit)));
        }
        let runtime = self.code.of_rows();
        let parse = async |call| {
            let parsed = runtime.parse_kv(call, key, value).await?;
            Ok(answers::value(parsed, &self.limits))
        };
        self.calls.make(runtime, Task::ParseKv { key }, None, request_id, parse).await
    }

    async fn check_change(
        &self,
        change: Change,
        data: Arc<dyn Data>,
    ) -> Result<Result<(), ActionError>, Fault> {
        let runtime = self.code.of_rows();
        let table = change.table.clone();
        let task = Task::CheckChange { table: &table };
        let check = async |call| {
            let checked = runtime.check_change(call, change).await?;
            Ok(checked.map_err(|error| answers::refusal(error, &self.limits)))
        };
        self.calls.make(runtime, task, Some(data), "", check).await
    }

    async fn run_action(
        &self,
        path: &str,
        input: String,
        data: Arc<dyn Data>,
    ) -> Result<Result<String, ActionError>, Fault> {
        self.action(path, input, Some(data)).await
    }
}
