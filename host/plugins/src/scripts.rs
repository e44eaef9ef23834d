//! Workspaces, and actions beside a component, written in rhai.
//!
//! **What there is.** Beside `blog.wasm`, each file in `blog/actions/` is an action, named by its path:
//! its head says what it takes (`header`), its body is what it does. `blog.actions.rhai` holds several
//! as functions. A folder with a `workspace.rhai` and a JSON Schema for each table is a workspace of its
//! own (`rows`): the schemas say which rows are valid, and functions `validate`, `migrate` and `check`
//! what schemas cannot say.
//!
//! **What it may.** The same as a component, by the same transaction (`api`, `current`): all writes of
//! an action happen or none, a query writes nothing, parsing sees no data.
//!
//! **How it is held.** The interpreter is given no way out (`sandbox`) and runs on threads of its own
//! (`threads`), never on those that serve others. At each step it is asked whether it may go on: steps,
//! depth and sizes are counted by the interpreter, time and the memory of its thread by us. A
//! script that waits for the host (a write is parsed by the component) parks its thread and takes no
//! core. Only steps can be interrupted, so the few functions that do much in one step have a bound of
//! their own. Functions cannot capture variables: with captures, values can hold each other for ever,
//! or nest until dropping them ends the stack, and no limit sees it. What it cannot do is crash: a
//! panic of the interpreter ends that one call.

mod api;
mod current;
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

/// How long a script may go on after its deadline. 250 ms: it looks at the clock between steps, and
/// a step on the largest strings takes some of them.
const GRACE: Duration = Duration::from_millis(250);

/// The scripts of one plugin.
pub(crate) struct Scripts {
    plugin: Arc<str>,
    workspace: Arc<str>,
    threads: Arc<Threads>,
    limits: Arc<Limits>,
    reach: Reach,
    program: Arc<Program>,
    /// Bytes that they take as they are, compiled.
    compiled: usize,
    /// Bytes that their calls hold now.
    held: Arc<AtomicUsize>,
}

impl Scripts {
    /// Compiles what belongs to a plugin, beside what its component defines if it has one. Gives
    /// the whole workspace's definition, which is still to be checked; or all that is wrong, a line
    /// each.
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
        // Where it belongs: on a thread for scripts, which has the stack for it.
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

    /// Whether this action is one of them.
    pub(crate) fn has_action(&self, path: &str) -> bool {
        self.program.has_action(path)
    }

    /// Their files.
    pub(crate) fn files(&self) -> &[String] {
        self.program.files()
    }

    /// Runs a script on a thread of its own. Its places go with it: a step that takes longer than it may
    /// keeps them until it ends.
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
