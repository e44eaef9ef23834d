//! The component of a plugin: compiling, linking, reading its definition, and calling it.

pub(crate) mod contract;
mod outgoing;
pub(crate) mod state;
mod wasi;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use host_wasm::{Cache, Compile, Compiling, EngineConfig, Hash, Instance, Pool, PoolLimits};
use host_workspace::{ActionError, Change, Definition, Parsed};
use parking_lot::Mutex;
use wasmtime::component::Component;
use wasmtime::{PoolConcurrencyLimitError, Trap};
use wasmtime_wasi::I32Exit;

use self::contract::{Linkers, Prepared};
#[cfg(test)]
pub(crate) use self::outgoing::Hooks;
use self::state::State;
use crate::call::{Call, Ended, Kind, Task, bounded};
use crate::limits::{ELEMENTS_MAX, Limits, MEMORY_MAX};
use crate::log::{Log, one_line};
use crate::reach::Reach;
use crate::runtime::Runtime;

/// Compiles components and links them with the host functions that they may call.
pub(crate) struct Host {
    pub(crate) engine: host_wasm::Engine,
    optimising: Linkers,
    baseline: Option<Linkers>,
}

impl Host {
    pub(crate) fn new(
        allocation: host_wasm::Allocation,
        compile: Compile,
    ) -> Result<Self, wasmtime::Error> {
        let (memory, table_elements) = (MEMORY_MAX, ELEMENTS_MAX);
        let config = EngineConfig { allocation, compile, memory, table_elements };
        let engine = host_wasm::Engine::new(config)?;
        let optimising = Linkers::new(engine.optimising())?;
        let baseline = engine.baseline().map(Linkers::new).transpose()?;
        Ok(Self { engine, optimising, baseline })
    }

    /// Resolves the imports of a component.
    fn prepare(&self, component: &Component, is_optimised: bool) -> Result<Prepared, String> {
        let linkers = match &self.baseline {
            Some(baseline) if !is_optimised => baseline,
            _ => &self.optimising,
        };
        linkers.prepare(contract::recognise(component)?, component)
    }
}

/// What a component is loaded from.
pub(crate) struct Source {
    pub(crate) file: Arc<str>,
    pub(crate) bytes: Vec<u8>,
    pub(crate) hash: Hash,
    pub(crate) cache: Option<Arc<Cache>>,
}

/// A component, compiled and linked.
pub(crate) struct Linked {
    source: Source,
    prepared: Prepared,
    from_cache: bool,
    /// The file, unless its code is already optimised.
    to_optimise: Option<Vec<u8>>,
    /// The full names of the interfaces that it imports.
    pub(crate) imports: Vec<String>,
    /// How long it waited before it was compiled.
    pub(crate) waited: Duration,
}

/// Compiles a component as fast as possible.
pub(crate) async fn link(
    host: &Arc<Host>,
    compiling: &Compiling,
    mut source: Source,
) -> Result<Linked, String> {
    let turn = compiling.turn(&source.file).await;
    let waited = turn.waited;
    let bytes = std::mem::take(&mut source.bytes);
    let Source { file, hash, cache, .. } = &source;
    let loaded = host_wasm::load(&host.engine, cache.as_ref(), file, bytes, *hash).await?;
    let host = host.clone();
    let link = move || {
        let prepared = host.prepare(&loaded.component, loaded.is_optimised())?;
        let ty = loaded.component.component_type();
        let imports = ty.imports(loaded.component.engine()).map(|(name, _)| name.to_owned());
        let imports = imports.collect();
        let (from_cache, to_optimise) = (loaded.from_cache, loaded.to_optimise);
        Ok(Linked { source, prepared, from_cache, to_optimise, imports, waited })
    };
    let linked = tokio::task::spawn_blocking(link).await;
    linked.unwrap_or_else(|_| Err("it cannot be linked; build it with another toolchain".into()))
}

/// The component of a plugin and its instances.
pub(crate) struct Wasm {
    host: Arc<Host>,
    source: Source,
    /// Empty until the component has been asked for it.
    workspace: Arc<str>,
    limits: Arc<Limits>,
    reach: Reach,
    pool: Pool<Prepared>,
    definition: Arc<Definition>,
    pub(crate) from_cache: bool,
    optimised: AtomicBool,
    /// The file compiled by the baseline compiler, until optimising starts.
    to_optimise: Mutex<Option<Vec<u8>>>,
}

impl Wasm {
    /// Asks a component for its definition twice, in two instances. The answers must be equal and
    /// follow the rules of the contract.
    pub(crate) async fn new(
        host: Arc<Host>,
        linked: Linked,
        limits: Arc<Limits>,
        reach: Reach,
    ) -> Result<Self, String> {
        let Linked { source, prepared, from_cache, to_optimise, .. } = linked;
        let pool_limits = PoolLimits {
            memory: limits.memory,
            memory_of_all: limits.plugin_memory,
            table_elements: limits.table_elements,
            transfer: limits.transfer_bytes,
            warm: limits.warm,
            warm_memory: limits.warm_memory,
            reuses: limits.reuses,
            idle: limits.idle,
        };
        let mut wasm = Self {
            pool: Pool::new(host.engine.clone(), prepared, pool_limits),
            host,
            source,
            workspace: "".into(),
            limits,
            reach,
            definition: Arc::default(),
            from_cache,
            optimised: AtomicBool::new(to_optimise.is_none()),
            to_optimise: Mutex::new(to_optimise),
        };
        let first = wasm.define().await?;
        if wasm.define().await? != first {
            return Err(
                "define answered differently when it was asked again; it must always give the same \
                 definition"
                    .into(),
            );
        }
        wasm.definition = checked(first).await?;
        wasm.workspace = wasm.definition.id.as_str().into();
        // Log lines during `define` have no workspace yet.
        wasm.pool.clear();
        Ok(wasm)
    }

    /// The definition by the component alone.
    pub(crate) fn definition(&self) -> &Arc<Definition> {
        &self.definition
    }

    /// The digest of its file.
    pub(crate) fn hash(&self) -> Hash {
        self.source.hash
    }

    /// Whether its code is optimised.
    pub(crate) fn is_optimised(&self) -> bool {
        self.optimised.load(Ordering::Relaxed)
    }

    /// Switches to optimised code; returns whether there was anything to do. May take long, on a
    /// thread of its own that yields to all others.
    pub(crate) async fn optimise(&self) -> Result<bool, String> {
        let Some(bytes) = self.to_optimise.lock().take() else { return Ok(false) };
        let Source { hash, cache, .. } = &self.source;
        let engine = &self.host.engine;
        let component = host_wasm::optimise(engine, cache.as_ref(), &bytes, *hash).await?;
        let host = self.host.clone();
        let prepare = move || host.prepare(&component, true);
        let prepared = tokio::task::spawn_blocking(prepare).await;
        let prepared = prepared.map_err(|_| "the optimised code cannot be linked")?;
        self.pool.replace(prepared?);
        self.optimised.store(true, Ordering::Relaxed);
        Ok(true)
    }

    async fn define(&self) -> Result<Definition, String> {
        let call = Call::new(&Task::Define, self.limits.clone(), None, "", Vec::new());
        let deadline = call.pace.deadline;
        let asked = async {
            let mut turn = self.turn(call);
            let answer = async {
                let (guest, store) = turn.instance.guest().await?;
                guest.define(store).await
            };
            let answer = answer.await;
            turn.end(answer)
        };
        match bounded(deadline, asked).await {
            Ok(definition) => {
                definition.map_err(|error| format!("the definition is not valid: {error}"))
            }
            Err(Ended::Crashed(reason)) => Err(format!("define crashed: {reason}")),
            Err(Ended::TimedOut) => {
                Err(format!("define took longer than {} ms", self.limits.define.as_millis()))
            }
            Err(Ended::Busy(_)) => Err("no instance is free to ask for the definition".into()),
            Err(Ended::Breach(reason)) => Err(format!("define broke the contract: {reason}")),
        }
    }

    /// An instance for a call, reused or new.
    fn turn(&self, call: Call) -> Turn<'_> {
        // `define` always gets a new instance, so that its two answers are independent.
        let warm = if call.kind == Kind::Define { None } else { self.pool.warm() };
        let instance = match warm {
            Some(mut instance) => {
                instance.store.data_mut().begin(call);
                instance
            }
            None => {
                let (lines, bytes) = (self.limits.log_lines, self.limits.log_bytes);
                let log = Log::new(self.source.file.clone(), self.workspace.clone(), lines, bytes);
                let (reach, resources) = (self.reach.clone(), self.limits.resources);
                self.pool.blank(|memory| State::new(reach, log, memory, resources, call))
            }
        };
        Turn { pool: &self.pool, instance }
    }
}

/// The use of an instance by one call. Dropping it drops the instance; [`Turn::end`] returns it to
/// the pool.
struct Turn<'p> {
    pool: &'p Pool<Prepared>,
    instance: Instance<Prepared>,
}

impl Turn<'_> {
    /// Ends the call. An instance whose call failed is dropped.
    fn end<T>(mut self, answer: wasmtime::Result<T>) -> Result<T, Ended> {
        let error = match answer {
            Ok(answer) => {
                self.instance.store.data_mut().end();
                self.pool.keep(self.instance);
                return Ok(answer);
            }
            Err(error) => error,
        };
        if error.downcast_ref::<Trap>() == Some(&Trap::Interrupt) {
            return Err(Ended::TimedOut);
        }
        if error.is::<PoolConcurrencyLimitError>() {
            return Err(Ended::Busy(0));
        }
        let state = self.instance.store.data();
        let mut reason = match state.out_of_memory() {
            Some(refused) => format!("out of memory, {refused}"),
            None => reason(&error),
        };
        if let Some(words) = state.last_words() {
            reason = format!("{reason}; its last words: {words}");
        }
        Err(Ended::Crashed(reason))
    }
}

#[async_trait]
impl Runtime for Wasm {
    async fn parse_rows(
        &self,
        call: Call,
        table: &str,
        rows: Vec<String>,
    ) -> Result<Vec<Parsed>, Ended> {
        let mut turn = self.turn(call);
        let answer = async {
            let (guest, store) = turn.instance.guest().await?;
            guest.parse_rows(store, table, &rows).await
        };
        let answer = answer.await;
        turn.end(answer)
    }

    async fn parse_kv(&self, call: Call, key: &str, value: String) -> Result<Parsed, Ended> {
        let mut turn = self.turn(call);
        let answer = async {
            let (guest, store) = turn.instance.guest().await?;
            guest.parse_kv(store, key, value).await
        };
        let answer = answer.await;
        turn.end(answer)
    }

    async fn check_change(
        &self,
        call: Call,
        change: Change,
    ) -> Result<Result<(), ActionError>, Ended> {
        let mut turn = self.turn(call);
        let answer = async {
            let (guest, store) = turn.instance.guest().await?;
            guest.check_change(store, change).await
        };
        let answer = answer.await;
        turn.end(answer)
    }

    async fn run_action(
        &self,
        call: Call,
        path: &str,
        input: String,
    ) -> Result<Result<String, ActionError>, Ended> {
        let mut turn = self.turn(call);
        let answer = async {
            let (guest, store) = turn.instance.guest().await?;
            guest.run_action(store, path, input).await
        };
        let answer = answer.await;
        turn.end(answer)
    }

    fn memory(&self) -> usize {
        self.pool.memory()
    }

    fn trim(&self) {
        self.pool.trim();
    }
}

/// Checks a definition against the rules of the contract. This compiles the schemas, which takes
/// time and runs third-party code on untrusted data: it must not run on an async thread, and a
/// panic in it becomes an error of this plugin.
pub(crate) async fn checked(definition: Definition) -> Result<Arc<Definition>, String> {
    match tokio::task::spawn_blocking(move || definition.check()).await {
        Ok(Ok(definition)) => Ok(definition),
        Ok(Err(error)) => {
            // Each fault is on its own line and names what is faulty.
            let faults = error.to_string();
            let faults =
                faults.lines().map(|fault| format!("the definition is not valid: {fault}"));
            Err(faults.collect::<Vec<_>>().join("\n"))
        }
        Err(_) => Err("the definition could not be checked; a schema in it is at fault".into()),
    }
}

/// Describes a trap in words that help an author find the cause.
fn reason(error: &wasmtime::Error) -> String {
    if let Some(exit) = error.downcast_ref::<I32Exit>() {
        // WASI 0.2 reports whether the guest exited successfully, but not the code.
        let how = if exit.0 == 0 { "exit(0)" } else { "exit, with a code that means failure" };
        return format!("it called {how}");
    }
    match error.downcast_ref::<Trap>() {
        Some(Trap::UnreachableCodeReached) => "it panicked (unreachable)".into(),
        Some(Trap::StackOverflow) => "it recursed too deeply (call stack exhausted)".into(),
        Some(Trap::MemoryOutOfBounds) => "it used memory that is not its own".into(),
        Some(trap) => trap.to_string(),
        None => one_line(&error.root_cause().to_string(), 1024),
    }
}
