//! Workspaces, and actions beside a component, written in rhai.
//!
//! **What there is.** Beside `blog.wasm`, each file in `blog/actions/` is an action, named by its path:
//! its head says what it takes (`header`), its body is what it does. `blog.actions.rhai` holds several
//! as functions. A folder with a `workspace.rhai` and a JSON Schema for each table is a workspace of its
//! own (`rows`): the schemas say which rows are valid, and functions `validate`, `migrate` and `check`
//! what schemas cannot say.
//!
//! **What it may.** The same as a component, by the same transaction (`api`, `call`): all writes of
//! an action happen or none, a query writes nothing, parsing sees no data.
//!
//! **How it is held.** The interpreter is given no way out (`sandbox`) and runs on threads of its own
//! (`threads`), never on those that serve others. At each step it is asked whether it may go on: steps,
//! depth and sizes are counted by the interpreter, the clock and the memory of its thread by us. A
//! script that waits for the host (a write is parsed by the component) parks its thread and takes no
//! core. Only steps can be interrupted, so the few functions that do much in one step have a bound of
//! their own. Functions cannot capture variables: with captures, values can hold each other for ever,
//! or nest until dropping them ends the stack, and no limit sees it. What it cannot do is crash: a
//! panic of the interpreter ends that one call.

mod api;
mod call;
mod header;
mod rows;
mod sandbox;
mod threads;
mod value;

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use host_workspace::definition::ActionDefinition;
use host_workspace::{ActionError, Change, Definition, Fault, Parsed, Transaction};
use rhai::{AST, Dynamic, Engine, EvalAltResult, Scope};
use serde_json::Value;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use self::api::{error_of, is_by_host, log, misuse_of};
use self::call::{Call, GRACE, Share, Stop};
use self::header::{ActionSettings, Mistake};
use self::rows::Rows;
pub(crate) use self::threads::Threads;
use self::value::{to_json, to_script};
use crate::component::LoadError;
use crate::engine;
use crate::instance::{self, Access};
use crate::limits::Limits;
use crate::log::{Log, one_line};
use crate::metered;
use crate::places::{Full, Places};
use crate::pool::Kind;
use crate::reach::Reach;
use crate::sources::{Sources, Text};

/// The scripts of one plugin, compiled.
pub(crate) struct Scripts {
    plugin: Arc<str>,
    workspace: Arc<str>,
    host: engine::Engine,
    limits: Arc<Limits>,
    reach: Reach,
    program: Arc<Program>,
    actions: Places,
    checks: Places,
    parses: Places,
    files: Vec<String>,
    /// Bytes that they take as they are, compiled.
    compiled: usize,
    /// Bytes that their calls hold now.
    held: Arc<AtomicUsize>,
}

/// What a thread needs to run any of them.
struct Program {
    engine: Engine,
    actions: HashMap<String, Action>,
    rows: Option<Rows>,
}

struct Action {
    script: Arc<Script>,
    entry: Entry,
    /// What members of the input are when they are left out.
    defaults: Vec<(String, Value)>,
}

/// A file.
struct Script {
    path: String,
    ast: AST,
}

enum Entry {
    /// The file itself, with the variable `input`.
    Body,
    /// One of its functions.
    Function { name: String, takes_input: bool },
}

/// Why a script ended without an answer: what it did wrong, and where.
type Broke = String;

/// What a call of the host into a script brought.
enum Outcome<T> {
    Answer(T),
    Fault(Fault),
}

impl Scripts {
    /// Compiles what belongs to a plugin, beside what its component defines if it has one. Gives
    /// the whole workspace's definition, which is still to be checked; or all that is wrong. Blocks,
    /// and needs the stack of a script.
    fn compile(
        host: &engine::Engine,
        plugin: Arc<str>,
        component: Option<&Definition>,
        sources: &Sources,
        limits: Arc<Limits>,
        reach: Reach,
    ) -> Result<(Self, Definition), Vec<String>> {
        let held_before = metered::held();
        let engine = sandbox::engine(&limits);
        let mut faults = Vec::new();
        let (mut definition, rows) = match component {
            Some(definition) => (definition.clone(), None),
            None => match Rows::compile(&engine, sources) {
                Ok((definition, rows)) => (definition, Some(rows)),
                Err(mistakes) => {
                    faults.extend(mistakes);
                    (Definition::default(), None)
                }
            },
        };
        let mut program = Program { engine, actions: HashMap::new(), rows };
        let mut owners: HashMap<String, String> = HashMap::new();
        if component.is_some() {
            let paths = definition.actions.iter().map(|action| action.path.clone());
            owners.extend(paths.map(|path| (path, plugin.to_string())));
        }
        let mut files = Vec::new();
        let mut found = Vec::new();
        if let Some(rows) = &program.rows {
            files.push(rows.script.path.clone());
            let text = sources.workspace.as_ref().map_or("", |w| &w.text);
            functions(&rows.script, text, &mut found, &mut faults);
        }
        if let Some(text) = &sources.functions {
            files.push(text.path.clone());
            match compile(&program.engine, text, &Scope::new()) {
                Ok(script) => functions(&script, &text.text, &mut found, &mut faults),
                Err(mistake) => faults.push(mistake),
            }
        }
        for (path, text) in &sources.actions {
            files.push(text.path.clone());
            match body(&program.engine, path, text) {
                Ok(action) => found.push(action),
                Err(mistake) => faults.push(mistake),
            }
        }
        for (path, line, (action, defined)) in found {
            if let Some(owner) = owners.insert(action.path.clone(), path.clone()) {
                faults.push(format!(
                    "{path}:{line}: the action {} is defined by {owner} already; give one of them \
                     another name",
                    action.path
                ));
                continue;
            }
            program.actions.insert(action.path.clone(), defined);
            definition.actions.push(action);
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        let places = |count| Places::new(count, limits.waiting);
        let scripts = Self {
            plugin,
            workspace: definition.id.as_str().into(),
            host: host.clone(),
            program: Arc::new(program),
            actions: places(limits.actions),
            checks: places(limits.checks),
            parses: places(limits.parses),
            limits,
            reach,
            files,
            compiled: usize::try_from(metered::held() - held_before).unwrap_or(0),
            held: Arc::default(),
        };
        Ok((scripts, definition))
    }

    /// The same, where it belongs: on a thread for scripts.
    pub(crate) async fn load(
        host: &engine::Engine,
        plugin: &Arc<str>,
        component: Option<Arc<Definition>>,
        sources: Arc<Sources>,
        limits: Arc<Limits>,
        reach: Reach,
    ) -> Result<(Self, Definition), LoadError> {
        let (done, compiled) = oneshot::channel();
        let (engine, name) = (host.clone(), plugin.clone());
        let compile = move || {
            let component = component.as_deref();
            let compile = || Self::compile(&engine, name, component, &sources, limits, reach);
            let _ = done.send(std::panic::catch_unwind(AssertUnwindSafe(compile)));
        };
        let failed = |reason: String| LoadError::new(&**plugin, reason);
        let started = host.threads().run(Box::new(compile));
        started.map_err(|error| failed(format!("no thread to compile its scripts on: {error}")))?;
        match compiled.await {
            Ok(Ok(compiled)) => compiled.map_err(|faults| failed(faults.join("\n"))),
            _ => Err(failed("the interpreter failed on its scripts; see the host's log".into())),
        }
    }

    /// Whether this action is one of them.
    pub(crate) fn has_action(&self, path: &str) -> bool {
        self.program.actions.contains_key(path)
    }

    /// Bytes of memory that they take: compiled, and in the calls that run.
    pub(crate) fn memory(&self) -> usize {
        self.compiled + self.held.load(Ordering::Relaxed)
    }

    /// Their files.
    pub(crate) fn files(&self) -> &[String] {
        &self.files
    }

    /// Runs an action with valid input.
    pub(crate) async fn action(
        &self,
        path: &str,
        input: String,
        data: Option<Arc<Transaction>>,
    ) -> Result<Result<String, ActionError>, Fault> {
        let call = format!("action {path}");
        let path = path.to_owned();
        let limit = self.limits.result_bytes;
        let work = move |program: &Program| {
            let Some(action) = program.actions.get(&path) else {
                return Ok(Ok(Err(ActionError::NotFound)));
            };
            action.run(&program.engine, &input).map(|done| match done {
                Err(error) => Ok(Err(error)),
                Ok(value) => match to_json(value) {
                    Err(reason) => Err(format!("the result {reason}")),
                    Ok(json) => match json.to_string() {
                        text if text.len() > limit => {
                            Err(format!("the result has {} bytes; {limit} is the most", text.len()))
                        }
                        text => Ok(Ok(text)),
                    },
                },
            })
        };
        match self.run(Kind::Action, call.clone(), data, "", work).await? {
            Ok(answer) => Ok(answer),
            Err(reason) => Err(Fault::Contract { plugin: self.plugin.to_string(), call, reason }),
        }
    }

    /// Validates and migrates rows of a table of a workspace without a component.
    pub(crate) async fn parse_rows(
        &self,
        table: &str,
        rows: Vec<String>,
        request: &str,
    ) -> Result<Vec<Parsed>, Fault> {
        let name = table.to_owned();
        self.run(Kind::Parse, format!("parse-rows of {table}"), None, request, move |program| {
            rows.into_iter().map(|row| program.parse_row(&name, &row)).collect()
        })
        .await
    }

    /// The same for the value of a key.
    pub(crate) async fn parse_kv(
        &self,
        key: &str,
        value: String,
        request: &str,
    ) -> Result<Parsed, Fault> {
        let name = key.to_owned();
        self.run(Kind::Parse, format!("parse-kv of {key}"), None, request, move |program| {
            Ok(program.parse_kv(&name, value))
        })
        .await
    }

    /// Asks the workspace's own script about a change.
    pub(crate) async fn check_change(
        &self,
        change: Change,
        data: Arc<Transaction>,
    ) -> Result<Result<(), ActionError>, Fault> {
        let call = format!("check-change of {}", change.table);
        self.run(Kind::Check, call, Some(data), "", move |program| program.check(&change)).await
    }

    /// Runs a script on a thread of its own, within its limits.
    async fn run<T: Send + 'static>(
        &self,
        kind: Kind,
        name: String,
        data: Option<Arc<Transaction>>,
        request: &str,
        work: impl FnOnce(&Program) -> Result<T, Broke> + Send + 'static,
    ) -> Result<T, Fault> {
        let (places, access, limit) = match kind {
            Kind::Action => (&self.actions, Access::Write, self.limits.action),
            Kind::Check => (&self.checks, Access::Read, self.limits.check),
            Kind::Parse | Kind::Define => (&self.parses, Access::Nothing, self.limits.parse),
        };
        let plugin = self.plugin.to_string();
        let busy = |Full(waiting)| Fault::Busy { plugin: plugin.clone(), waiting };
        let place = places.enter(limit).await.map_err(busy)?;
        let of_server = self.host.threads().places(kind).enter(limit).await.map_err(busy)?;
        let deadline = Instant::now() + limit;
        let call = instance::Call::new(name.clone(), access, data, request, deadline);
        let mut log = Log::new(
            self.plugin.clone(),
            self.workspace.clone(),
            self.limits.log_lines,
            self.limits.log_bytes,
        );
        log.begin(name.clone(), call.request_id.clone());
        let cancelled = CancellationToken::new();
        let _nobody_waits = cancelled.clone().drop_guard();
        let (limits, heavy) = (self.limits.clone(), self.host.heavy().clone());
        let reach = self.reach.clone();
        let (program, runtime) = (self.program.clone(), Handle::current());
        let held = self.held.clone();
        let (done, outcome) = oneshot::channel();
        let job = {
            let (plugin, name) = (plugin.clone(), name.clone());
            move || {
                let _places = (place, of_server);
                let with = (limits, reach);
                let share = Share::new(held);
                let made = Call::new(call, log, with, runtime, cancelled, heavy, share);
                let work = AssertUnwindSafe(|| made.during(|| work(&program)));
                let outcome = match std::panic::catch_unwind(work) {
                    Ok((Ok(answer), None)) => Outcome::Answer(answer),
                    Ok((_, Some(Stop::TimedOut))) => {
                        Outcome::Fault(Fault::TimedOut { plugin, call: name, limit })
                    }
                    Ok((_, Some(Stop::Spent(reason)))) => {
                        Outcome::Fault(Fault::Trapped { plugin, call: name, reason })
                    }
                    Ok((Err(reason), None)) => {
                        let reason = one_line(&reason, 4096);
                        Outcome::Fault(Fault::Trapped { plugin, call: name, reason })
                    }
                    Err(_) => {
                        let reason = "the interpreter failed; see the host's log".into();
                        Outcome::Fault(Fault::Trapped { plugin, call: name, reason })
                    }
                };
                let _ = done.send(outcome);
            }
        };
        if let Err(error) = self.host.threads().run(Box::new(job)) {
            tracing::error!("no thread for a script: {error}");
            return Err(busy(Full(0)));
        }
        let until = deadline + GRACE;
        match tokio::time::timeout_at(until.into(), outcome).await {
            Ok(Ok(Outcome::Answer(answer))) => Ok(answer),
            Ok(Ok(Outcome::Fault(fault))) => Err(fault),
            // One step takes longer than it may; its thread keeps its places until it ends.
            _ => Err(Fault::TimedOut { plugin, call: name, limit }),
        }
    }
}

impl Action {
    fn run(&self, engine: &Engine, input: &str) -> Result<Result<Dynamic, ActionError>, Broke> {
        let mut input: Value = serde_json::from_str(input)
            .map_err(|error| format!("the input is no JSON: {error}"))?;
        if let Some(members) = input.as_object_mut() {
            for (name, default) in &self.defaults {
                members.entry(name).or_insert_with(|| default.clone());
            }
        }
        let input = to_script(input);
        let mut scope = Scope::new();
        let done = match &self.entry {
            Entry::Body => {
                scope.push_dynamic("input", input);
                engine.eval_ast_with_scope(&mut scope, &self.script.ast)
            }
            Entry::Function { name, takes_input: true } => {
                engine.call_fn(&mut scope, &self.script.ast, name, (input,))
            }
            Entry::Function { name, takes_input: false } => {
                engine.call_fn(&mut scope, &self.script.ast, name, ())
            }
        };
        self.script.ended(engine, done)
    }
}

impl Script {
    /// Tells what a script threw from what it broke.
    fn ended(
        &self,
        engine: &Engine,
        done: Result<Dynamic, Box<EvalAltResult>>,
    ) -> Result<Result<Dynamic, ActionError>, Broke> {
        let error = match done {
            Ok(value) => return Ok(Ok(value)),
            Err(error) => error,
        };
        match error.unwrap_inner() {
            EvalAltResult::ErrorRuntime(value, at) => match misuse_of(value) {
                Some(reason) => Err(format!("{}{}: {reason}", self.path, place(*at))),
                None => {
                    let error = error_of(value.clone());
                    // The caller is told what, and the author where; what an author throws is meant.
                    if is_by_host(value) {
                        log(&format!("{}{}: {error}", self.path, place(*at)));
                    }
                    Ok(Err(error))
                }
            },
            inner => Err(self.broke(engine, inner)),
        }
    }

    /// An error with its file, line and column.
    fn broke(&self, engine: &Engine, error: &EvalAltResult) -> Broke {
        let at = error.position();
        let reason = match error {
            EvalAltResult::ErrorTooManyOperations(_) => {
                format!("it took more than {} steps", engine.max_operations())
            }
            EvalAltResult::ErrorStackOverflow(_) => {
                format!("it recursed too deeply, beyond {} calls", engine.max_call_levels())
            }
            EvalAltResult::ErrorDataTooLarge(what, _) => {
                format!("a value is too large: {}", what.to_lowercase())
            }
            other => {
                let text = other.to_string();
                let place = format!(" ({at})");
                let text = text.strip_suffix(&place).unwrap_or(&text);
                let mut letters = text.chars();
                let first = letters.next().map(|letter| letter.to_lowercase().to_string());
                first.unwrap_or_default() + letters.as_str()
            }
        };
        format!("{}{}: {reason}", self.path, place(at))
    }
}

/// `:3:5`, as compilers write it.
fn place(at: rhai::Position) -> String {
    match (at.line(), at.position()) {
        (Some(line), Some(column)) => format!(":{line}:{column}"),
        (Some(line), None) => format!(":{line}"),
        (None, _) => String::new(),
    }
}

fn compile(engine: &Engine, text: &Text, scope: &Scope) -> Result<Arc<Script>, String> {
    let compiled = engine.compile_with_scope(scope, &text.text);
    let ast = compiled.map_err(|error| {
        format!("{}{}: {}", text.path, place(error.position()), error.err_type())
    })?;
    Ok(Arc::new(Script { path: text.path.clone(), ast }))
}

type Found = (String, usize, (ActionDefinition, Action));

/// The action that a file is.
fn body(engine: &Engine, path: &str, text: &Text) -> Result<Found, String> {
    let mut scope = Scope::new();
    scope.push_dynamic("input", Dynamic::UNIT);
    let script = compile(engine, text, &scope)?;
    let head = header::head(&text.text);
    let settings = settings(&text.path, head.settings())?.ok_or_else(|| {
        format!(
            "{}:1: does not say what it is; begin it with `//! What it does.`, `//! ---` and \
             `//! kind = \"query\"` or `\"mutation\"`",
            text.path
        )
    })?;
    let action = define(path.to_owned(), head.description(), settings, script, Entry::Body);
    Ok((text.path.clone(), 1, action))
}

/// Adds the actions among the functions of a file: those whose comment has settings.
fn functions(script: &Arc<Script>, text: &str, found: &mut Vec<Found>, faults: &mut Vec<String>) {
    for function in header::functions(text) {
        if !function.comment.has_settings() {
            continue;
        }
        let mut settings = match settings(&script.path, function.comment.settings()) {
            Ok(Some(settings)) => settings,
            Ok(None) => continue,
            Err(mistake) => {
                faults.push(mistake);
                continue;
            }
        };
        let path = settings.path.take().unwrap_or_else(|| function.name.to_owned());
        let entry =
            Entry::Function { name: function.name.to_owned(), takes_input: function.takes_input };
        let description = function.comment.description();
        let action = define(path, description, settings, script.clone(), entry);
        found.push((script.path.clone(), function.line, action));
    }
}

fn settings(
    path: &str,
    settings: Result<Option<ActionSettings>, Mistake>,
) -> Result<Option<ActionSettings>, String> {
    settings.map_err(|Mistake { line, reason }| format!("{path}:{line}: {reason}"))
}

fn define(
    path: String,
    description: String,
    mut settings: ActionSettings,
    script: Arc<Script>,
    entry: Entry,
) -> (ActionDefinition, Action) {
    let (input, defaults) = settings.input();
    let kind = settings.kind();
    let definition =
        ActionDefinition { path, kind, description, input, output: settings.output.take() };
    (definition, Action { script, entry, defaults })
}
