//! A plugin: the logic of one workspace, run by a component, by scripts, or by both.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use host_workspace::{ActionError, Change, Definition, Fault, Issue, Logic, Parsed, Transaction};
use parking_lot::Mutex;
use serde::Serialize;
use serde::de::IgnoredAny;

use crate::cache::Cache;
use crate::compiling::Compiling;
use crate::component::{self, Hash, LoadError};
use crate::engine::Engine;
use crate::limits::Limits;
use crate::log::one_line;
use crate::manifest::{Grants, Manifest};
use crate::reach::Reach;
use crate::scripts::Scripts;
use crate::sources::Sources;
use crate::wasm::{Wasm, check};

/// How far whoever optimises stands back behind those who serve. 10: halfway, so that it gets an idle
/// core to itself and still gets on beside busy ones.
#[cfg(unix)]
const NICE: i32 = 10;

/// A loaded plugin, ready to be mounted.
pub struct Plugin {
    file: Arc<str>,
    definition: Arc<Definition>,
    /// Says what rows mean, where there is one; otherwise the scripts do.
    component: Option<Component>,
    scripts: Option<Scripts>,
    grants: Arc<Grants>,
    limits: Arc<Limits>,
    /// How long it waited for its turn to be compiled.
    pub(crate) waited: Duration,
    calls: AtomicU64,
    errors: AtomicU64,
    last_error: Mutex<Option<LastError>>,
}

/// A component, and what it was made of: a new version of the plugin that changes nothing of that
/// goes on with it.
#[derive(Clone)]
struct Component {
    wasm: Arc<Wasm>,
    hash: Hash,
    manifest: Manifest,
    from_cache: bool,
    hasty: Arc<Hasty>,
}

/// What was compiled in haste, until it has been compiled for speed.
struct Hasty {
    optimised: AtomicBool,
    /// The component, until somebody begins with it; and where the result is kept.
    component: Mutex<Option<Uncompiled>>,
}

type Uncompiled = (Vec<u8>, Option<Arc<Cache>>);

impl Hasty {
    fn new(component: Option<Vec<u8>>, cache: Option<Arc<Cache>>) -> Arc<Self> {
        let optimised = AtomicBool::new(component.is_none());
        let component = Mutex::new(component.map(|component| (component, cache)));
        Arc::new(Self { optimised, component })
    }
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
    /// Linear memory of all instances, and what scripts hold, in bytes.
    pub memory: usize,
}

impl Plugin {
    /// Makes a plugin of its files. What of it is the same as in the version `before` is taken over.
    pub(crate) async fn load(
        engine: &Engine,
        cache: Option<Arc<Cache>>,
        compiling: &Compiling,
        file: &str,
        sources: Sources,
        limits: &Arc<Limits>,
        before: Option<&Self>,
    ) -> Result<Self, LoadError> {
        Draft::of(engine, cache, compiling, file, sources, limits, before).await.finish()
    }

    /// Makes a plugin of the bytes of a component that is not in a folder: for tools that look at one.
    pub async fn from_bytes(
        engine: &Engine,
        file: &str,
        bytes: Vec<u8>,
        limits: Limits,
    ) -> Result<Self, LoadError> {
        let sources = Sources::component(file, bytes);
        let (compiling, limits) = (Compiling::new(1), Arc::new(limits));
        Self::load(engine, None, &compiling, file, sources, &limits, None).await
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
        self.scripts.as_ref().map(Scripts::files).unwrap_or_default()
    }

    /// Whether its component was compiled before.
    pub(crate) fn is_from_cache(&self) -> bool {
        self.component.as_ref().is_none_or(|component| component.from_cache)
    }

    /// Whether the code of its component is as fast as can be; none where it has no component.
    pub(crate) fn is_optimised(&self) -> Option<bool> {
        let component = self.component.as_ref()?;
        Some(component.hasty.optimised.load(Ordering::Relaxed))
    }

    /// Compiles for speed what was compiled in haste, and goes on with the result; returns whether there
    /// was anything to do. Takes as long as it takes, on a thread of its own that gives way to all others.
    pub async fn optimise(&self, engine: &Engine) -> Result<bool, LoadError> {
        let Some(component) = &self.component else { return Ok(false) };
        let Some((bytes, cache)) = component.hasty.component.lock().take() else {
            return Ok(false);
        };
        let (engine, hash) = (engine.clone(), component.hash);
        let (send, receive) = tokio::sync::oneshot::channel();
        let compile = move || {
            #[cfg(unix)]
            let _ = rustix::process::nice(NICE);
            // Nobody waits any more when the server ends meanwhile.
            let _ = send.send(component::optimise(&engine, cache.as_deref(), &bytes, hash));
        };
        let failed = |reason: &str| LoadError::new(&*self.file, reason);
        std::thread::Builder::new()
            .name("plugin-optimiser".into())
            .spawn(compile)
            .map_err(|error| failed(&format!("no thread to optimise it: {error}")))?;
        let compiled = receive.await.map_err(|_| failed("the optimising compiler failed on it"))?;
        component.wasm.optimise(compiled.map_err(|reason| failed(&reason))?);
        component.hasty.optimised.store(true, Ordering::Relaxed);
        Ok(true)
    }

    /// What it has done so far.
    pub fn counters(&self) -> Counters {
        Counters {
            calls: self.calls.load(Ordering::Relaxed),
            errors: self.errors.load(Ordering::Relaxed),
            last_error: self.last_error.lock().clone(),
            memory: self.component.as_ref().map_or(0, |component| component.wasm.memory())
                + self.scripts.as_ref().map_or(0, Scripts::memory),
        }
    }

    /// Drops instances that nobody used for long.
    pub(crate) fn trim(&self) {
        if let Some(component) = &self.component {
            component.wasm.trim();
        }
    }

    /// Runs an action; without a transaction it sees no data.
    pub(crate) async fn action(
        &self,
        path: &str,
        input: String,
        data: Option<Arc<Transaction>>,
    ) -> Result<Result<String, ActionError>, Fault> {
        let breach = |reason| self.breach(action_of(path), reason);
        let script = self.scripts.as_ref().filter(|scripts| scripts.has_action(path));
        let result = match (script, &self.component) {
            (Some(scripts), _) => scripts.action(path, input, data).await?,
            (None, Some(component)) => component.wasm.action(path, input, data).await?,
            (None, None) => Err(ActionError::NotFound),
        };
        let limit = self.limits.result_bytes;
        match result {
            Ok(result) if result.len() > limit => {
                Err(breach(format!("the result has {} bytes; {limit} is the most", result.len())))
            }
            Ok(result) => match serde_json::from_str::<IgnoredAny>(&result) {
                Ok(_) => Ok(Ok(result)),
                Err(error) => Err(breach(format!("the result is not JSON: {error}"))),
            },
            Err(error) => Ok(Err(self.bounded(error))),
        }
    }

    async fn parse_batch(
        &self,
        table: &str,
        rows: Vec<String>,
        request_id: &str,
    ) -> Result<Vec<Parsed>, Fault> {
        let due = rows.len();
        let parsed = match (&self.component, &self.scripts) {
            (Some(component), _) => component.wasm.parse_rows(table, &rows, request_id).await?,
            (None, Some(scripts)) => scripts.parse_rows(table, rows, request_id).await?,
            (None, None) => Vec::new(),
        };
        if parsed.len() != due {
            let reason =
                format!("it answered {} results for {due} rows; one for each is due", parsed.len());
            return Err(self.breach(parse_rows_of(table), reason));
        }
        Ok(parsed.into_iter().map(|parsed| self.parsed(parsed)).collect())
    }

    /// Holds one parsed value to the contract.
    fn parsed(&self, parsed: Parsed) -> Parsed {
        let limit = self.limits.row_bytes;
        match parsed {
            Ok(value) if value.len() > limit => Err(vec![Issue::whole(format!(
                "the plugin made {} bytes of JSON of it; {limit} is the most",
                value.len()
            ))]),
            Ok(value) => Ok(value),
            Err(issues) => Err(self.issues(issues)),
        }
    }

    fn bounded(&self, error: ActionError) -> ActionError {
        match error {
            ActionError::Invalid(issues) => ActionError::Invalid(self.issues(issues)),
            other => other,
        }
    }

    fn issues(&self, mut issues: Vec<Issue>) -> Vec<Issue> {
        issues.truncate(self.limits.issues);
        if issues.is_empty() {
            issues.push(Issue::whole("the plugin refused it and gave no reason"));
        }
        issues
    }

    fn breach(&self, call: String, reason: String) -> Fault {
        Fault::Contract { plugin: self.file.to_string(), call, reason }
    }

    /// Counts a call and how it ended.
    fn counted<T>(
        &self,
        result: Result<T, Fault>,
        call: impl FnOnce() -> String,
        request_id: &str,
    ) -> Result<T, Fault> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        if let Err(fault) = &result {
            self.note(fault, &call(), request_id);
        }
        result
    }

    /// Keeps a fault, and logs it with the fields that the plugin's own lines have, so that both are
    /// found by the same request.
    fn note(&self, fault: &Fault, call: &str, request_id: &str) {
        self.errors.fetch_add(1, Ordering::Relaxed);
        let message = one_line(&fault.to_string(), 4096);
        tracing::warn!(
            target: "plugin",
            workspace = %self.definition.id,
            plugin = %self.file,
            action = %call,
            request_id = %request_id,
            "{message}"
        );
        let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let at = u64::try_from(at).unwrap_or(u64::MAX);
        *self.last_error.lock() = Some(LastError { at, message });
    }
}

/// What came of a plugin's files: all of a plugin, or what is wrong with them.
pub(crate) struct Draft {
    pub(crate) file: Arc<str>,
    /// None where there is a fault that leaves none.
    pub(crate) definition: Option<Arc<Definition>>,
    /// What its component imports, by full names.
    pub(crate) imports: Vec<String>,
    pub(crate) grants: Arc<Grants>,
    pub(crate) limits: Arc<Limits>,
    /// Everything that is wrong; a plugin has none.
    pub(crate) faults: Vec<String>,
    /// None where TLS cannot be set up, which is a fault.
    reach: Option<Reach>,
    waited: Duration,
    component: Option<Component>,
    scripts: Option<Scripts>,
}

impl Draft {
    /// Reads the manifest, compiles the component and the scripts, asks for the definition. What is wrong
    /// with one of them does not keep the others from being looked at.
    pub(crate) async fn of(
        engine: &Engine,
        cache: Option<Arc<Cache>>,
        compiling: &Compiling,
        file: &str,
        mut sources: Sources,
        limits: &Arc<Limits>,
        before: Option<&Plugin>,
    ) -> Self {
        let file: Arc<str> = file.into();
        let mut faults = Vec::new();
        let manifest = Manifest::read(sources.manifest.as_ref()).unwrap_or_else(|fault| {
            faults.push(fault);
            Manifest::default()
        });
        let limits = manifest.apply(limits).unwrap_or_else(|fault| {
            faults.push(fault);
            limits.clone()
        });
        let grants = Arc::new(manifest.grants.clone());
        let reach =
            Reach::new(&grants, engine.models(), &limits).map_err(|fault| faults.push(fault)).ok();
        let mut draft = Self {
            file,
            definition: None,
            imports: Vec::new(),
            grants,
            limits,
            faults,
            reach,
            waited: Duration::ZERO,
            component: None,
            scripts: None,
        };
        let bytes = sources.component.take();
        let has_component = bytes.is_some();
        if let Some(bytes) = bytes {
            let hash = Hash::of(&bytes);
            let same = before
                .and_then(|before| before.component.as_ref())
                .filter(|before| before.hash == hash && before.manifest == manifest);
            draft.component = match same {
                Some(same) => Some(same.clone()),
                None => draft.compile(engine, cache, compiling, bytes, hash, manifest).await,
            };
        }
        let component = draft.component.as_ref();
        draft.definition = component.map(|component| component.wasm.definition().clone());
        if sources.has_scripts() {
            // Beside a component that is broken, scripts are compiled for the sake of their faults.
            let beside = has_component.then(|| draft.definition.take().unwrap_or_default());
            draft.interpret(engine, beside, sources).await;
        } else if !has_component {
            draft.faults.push("has neither component nor script".into());
        }
        draft
    }

    async fn compile(
        &mut self,
        engine: &Engine,
        cache: Option<Arc<Cache>>,
        compiling: &Compiling,
        bytes: Vec<u8>,
        hash: Hash,
        manifest: Manifest,
    ) -> Option<Component> {
        let turn = compiling.turn(&self.file).await;
        self.waited = turn.waited;
        let (with, name) = (engine.clone(), self.file.clone());
        let kept = cache.clone();
        let compile = move || component::load(&with, cache.as_deref(), &name, &bytes, hash);
        let loaded = match tokio::task::spawn_blocking(compile).await {
            Ok(Ok(loaded)) => loaded,
            Ok(Err(error)) => {
                self.faults.push(error.reason);
                return None;
            }
            Err(_) => {
                let fault = "the compiler failed on it; build it with another toolchain";
                self.faults.push(fault.into());
                return None;
            }
        };
        // A slow `define` holds up nobody else.
        drop(turn);
        self.imports = loaded.imports.clone();
        let (file, limits, reach) = (self.file.clone(), self.limits.clone(), self.reach.clone()?);
        match Wasm::new(engine, file, loaded.prepared, limits, reach).await {
            Ok(wasm) => Some(Component {
                wasm: Arc::new(wasm),
                hash,
                manifest,
                from_cache: loaded.from_cache,
                hasty: Hasty::new(loaded.to_optimise, kept),
            }),
            Err(faults) => {
                self.faults.extend(faults.lines().map(str::to_owned));
                None
            }
        }
    }

    async fn interpret(
        &mut self,
        engine: &Engine,
        component: Option<Arc<Definition>>,
        sources: Sources,
    ) {
        let (limits, Some(reach)) = (self.limits.clone(), self.reach.clone()) else { return };
        let sources = Arc::new(sources);
        let loaded = Scripts::load(engine, &self.file, component, sources, limits, reach);
        let checked = match loaded.await {
            Ok((scripts, definition)) => {
                self.scripts = Some(scripts);
                // The definition that stands for a broken component's is none to speak of.
                if !self.faults.is_empty() && self.component.is_none() && definition.id.is_empty() {
                    return;
                }
                check(definition).await
            }
            Err(error) => Err(error.reason),
        };
        match checked {
            Ok(definition) => self.definition = Some(definition),
            Err(faults) => self.faults.extend(faults.lines().map(str::to_owned)),
        }
    }

    /// The plugin, when nothing is wrong.
    fn finish(self) -> Result<Plugin, LoadError> {
        let Self { file, definition, component, scripts, grants, limits, faults, waited, .. } =
            self;
        let Some(definition) = definition.filter(|_| faults.is_empty()) else {
            return Err(LoadError::new(&*file, faults.join("\n")));
        };
        Ok(Plugin {
            file,
            definition,
            component,
            scripts,
            grants,
            limits,
            waited,
            calls: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            last_error: Mutex::default(),
        })
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
            let batch = self.parse_batch(table, batch, request_id).await;
            parsed.extend(self.counted(batch, || parse_rows_of(table), request_id)?);
        }
        Ok(parsed)
    }

    async fn parse_kv(&self, key: &str, value: String, request_id: &str) -> Result<Parsed, Fault> {
        let limit = self.limits.row_bytes;
        if value.len() > limit {
            return Ok(Err(too_large(&value, limit)));
        }
        let parsed = match (&self.component, &self.scripts) {
            (Some(component), _) => component.wasm.parse_kv(key, value, request_id).await,
            (None, Some(scripts)) => scripts.parse_kv(key, value, request_id).await,
            (None, None) => Ok(Ok(value)),
        };
        let parsed = self.counted(parsed, || format!("parse-kv of {key}"), request_id);
        parsed.map(|parsed| self.parsed(parsed))
    }

    async fn check_change(
        &self,
        change: Change,
        data: Arc<Transaction>,
    ) -> Result<Result<(), ActionError>, Fault> {
        let call = format!("check-change of {}", change.table);
        let request_id = data.request_id().to_owned();
        let checked = match (&self.component, &self.scripts) {
            (Some(component), _) => component.wasm.check_change(change, data).await,
            (None, Some(scripts)) => scripts.check_change(change, data).await,
            (None, None) => Ok(Ok(())),
        };
        let checked = self.counted(checked, || call, &request_id);
        checked.map(|checked| checked.map_err(|error| self.bounded(error)))
    }

    async fn run_action(
        &self,
        path: &str,
        input: String,
        data: Arc<Transaction>,
    ) -> Result<Result<String, ActionError>, Fault> {
        let request_id = data.request_id().to_owned();
        let done = self.action(path, input, Some(data)).await;
        self.counted(done, || action_of(path), &request_id)
    }
}

fn action_of(path: &str) -> String {
    format!("action {path}")
}

fn parse_rows_of(table: &str) -> String {
    format!("parse-rows of {table}")
}

fn too_large(value: &str, limit: usize) -> Vec<Issue> {
    vec![Issue::whole(format!("is {} bytes of JSON; {limit} is the most", value.len()))]
}
