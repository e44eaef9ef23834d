//! Workspaces written in rhai, and rhai actions of components.
//!
//! **Files.** Next to `blog.wasm`, each file in `blog/actions/` is an action, named by its path:
//! the header declares its input (`header`), the body implements it. `blog.actions.rhai` holds
//! several actions as functions. A folder with a `workspace.rhai` and a JSON Schema for each table
//! is a workspace of its own (`rows`): the schemas define which rows are valid, and the functions
//! `validate`, `migrate` and `check` cover what schemas cannot.
//!
//! **Access.** The same as a component's, through the same transaction (`api`, `current`): the
//! writes of an action all happen or none do, a query writes nothing, and parsing sees no data.
//!
//! **Isolation.** The interpreter has no access to the outside (`sandbox`) and runs on its own
//! threads (`threads`), never on those that serve requests. At each step it asks whether it may
//! continue: the interpreter counts steps, depth and sizes, and we check the time and the memory of
//! its thread. A script that waits for the host (a component parses a write) parks its thread and
//! uses no core. Only steps can be interrupted, so the few functions that do much in one step have
//! limits of their own. Functions cannot capture variables: captures would allow reference cycles,
//! or nesting so deep that dropping it overflows the stack, and no limit would notice. A script
//! cannot crash the server: a panic in the interpreter ends only that call.

mod api;
mod current;
#[cfg(test)]
mod damaged;
mod errors;
mod header;
mod program;
mod rows;
mod sandbox;
mod script;
mod threads;
mod value;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use host_workspace::{ActionError, Change, Definition, Parsed};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use self::current::{Current, Share, Stop};
use self::program::Program;
use self::script::Broke;
pub(crate) use self::threads::Threads;
use crate::call::{Call, Ended, Kind};
use crate::limits::Limits;
use crate::log::{Log, one_line};
use crate::metered;
use crate::places::Places;
use crate::reach::Reach;
use crate::runtime::Runtime;
use crate::sources::Sources;

/// How long a script may run past its deadline. 250 ms: it checks the clock between steps, and a
/// step on the largest strings takes a few of them.
const GRACE: Duration = Duration::from_millis(250);

/// The scripts of one plugin.
pub(crate) struct Scripts {
    plugin: Arc<str>,
    workspace: Arc<str>,
    threads: Arc<Threads>,
    limits: Arc<Limits>,
    reach: Reach,
    program: Arc<Program>,
    /// Bytes that the compiled scripts take.
    compiled: usize,
    /// Bytes that running calls hold.
    held: Arc<AtomicUsize>,
}

impl Scripts {
    /// Compiles a plugin's scripts, together with the definition of its component if it has one.
    /// Returns the definition of the whole workspace, which still has to be checked, or all errors,
    /// one to a line.
    pub(crate) async fn load(
        threads: &Arc<Threads>,
        plugin: &Arc<str>,
        component: Option<Arc<Definition>>,
        sources: Arc<Sources>,
        limits: Arc<Limits>,
        reach: Reach,
    ) -> Result<(Self, Definition), String> {
        let (done, compiled) = oneshot::channel();
        let (name, bounds) = (plugin.clone(), limits.clone());
        // On a script thread, which has the stack for it.
        let compile = move || {
            let compile = || {
                let held_before = metered::held();
                let made = Program::compile(&name, component.as_deref(), &sources, &bounds)?;
                Ok((made, usize::try_from(metered::held() - held_before).unwrap_or(0)))
            };
            let _ = done.send(std::panic::catch_unwind(AssertUnwindSafe(compile)));
        };
        let started = threads.run(Box::new(compile));
        started.map_err(|error| format!("no thread to compile its scripts on: {error}"))?;
        let ((program, definition), compiled) = match compiled.await {
            Ok(Ok(made)) => made.map_err(|faults: Vec<String>| faults.join("\n"))?,
            _ => return Err("the interpreter failed on its scripts; see the host's log".into()),
        };
        let scripts = Self {
            plugin: plugin.clone(),
            workspace: definition.id.as_str().into(),
            threads: threads.clone(),
            limits,
            reach,
            program: Arc::new(program),
            compiled,
            held: Arc::default(),
        };
        Ok((scripts, definition))
    }

    /// Whether a script implements this action.
    pub(crate) fn has_action(&self, path: &str) -> bool {
        self.program.has_action(path)
    }

    /// Their files.
    pub(crate) fn files(&self) -> &[String] {
        self.program.files()
    }

    /// Runs a script on a thread of its own. The thread owns the call's places, so a step that
    /// takes too long keeps them until it ends.
    async fn run<T: Send + 'static>(
        &self,
        call: Call,
        work: impl FnOnce(&Program) -> Result<T, Broke> + Send + 'static,
    ) -> Result<T, Ended> {
        let (lines, bytes) = (self.limits.log_lines, self.limits.log_bytes);
        let mut log = Log::new(self.plugin.clone(), self.workspace.clone(), lines, bytes);
        log.begin(call.name.clone(), call.request_id.clone());
        let cancelled = CancellationToken::new();
        let _nobody_waits = cancelled.clone().drop_guard();
        let current = Current {
            call,
            log,
            reach: self.reach.clone(),
            memory: self.limits.script_memory,
            runtime: Handle::current(),
            cancelled,
            load: self.threads.load().clone(),
            share: Share::new(self.held.clone()),
        };
        let program = self.program.clone();
        let (done, outcome) = oneshot::channel();
        let job = move || {
            let work = AssertUnwindSafe(|| current.during(|| work(&program)));
            let _ = done.send(match std::panic::catch_unwind(work) {
                Ok((Ok(answer), None)) => Ok(answer),
                Ok((_, Some(Stop::TimedOut))) => Err(Ended::TimedOut),
                Ok((_, Some(Stop::Spent(reason)))) => Err(Ended::Crashed(reason)),
                Ok((Err(reason), None)) => Err(Ended::Crashed(one_line(&reason, 4096))),
                Err(_) => Err(Ended::Crashed("the interpreter failed; see the host's log".into())),
            });
        };
        if let Err(error) = self.threads.run(Box::new(job)) {
            tracing::error!("there is no thread for a script: {error}");
            return Err(Ended::Busy(0));
        }
        outcome.await.unwrap_or(Err(Ended::TimedOut))
    }
}

#[async_trait]
impl Runtime for Scripts {
    fn shared_places(&self, kind: Kind) -> Option<&Places> {
        Some(self.threads.places(kind))
    }

    fn grace(&self) -> Duration {
        GRACE
    }

    async fn parse_rows(
        &self,
        call: Call,
        table: &str,
        rows: Vec<String>,
    ) -> Result<Vec<Parsed>, Ended> {
        let table = table.to_owned();
        self.run(call, move |program| program.parse_rows(&table, &rows)).await
    }

    async fn parse_kv(&self, call: Call, key: &str, value: String) -> Result<Parsed, Ended> {
        let key = key.to_owned();
        self.run(call, move |program| program.parse_kv(&key, value)).await
    }

    async fn check_change(
        &self,
        call: Call,
        change: Change,
    ) -> Result<Result<(), ActionError>, Ended> {
        self.run(call, move |program| program.check(&change)).await
    }

    async fn run_action(
        &self,
        call: Call,
        path: &str,
        input: String,
    ) -> Result<Result<String, ActionError>, Ended> {
        let path = path.to_owned();
        let done = self.run(call, move |program| program.act(&path, &input)).await?;
        done.map_err(Ended::Breach)
    }

    fn memory(&self) -> usize {
        self.compiled + self.held.load(Ordering::Relaxed)
    }
}
