//! One instance of a plugin, and what its guest may do during a call.
//!
//! An instance serves one call at a time. The call decides what the guest may touch: `define` and the
//! parsing of rows see no data, `check-change` may read, an action may do what its transaction
//! allows. All of that is checked here, in the host's own types, whatever the version of the contract.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use host_caller::Account;
use host_workspace::transaction::{Filter, Page, Query};
use host_workspace::{ActionError, Issue, Transaction};
use parking_lot::Mutex;
use rand::RngExt;
use wasmtime::Store;
use wasmtime::component::Resource;
use wasmtime_wasi::{ResourceTable, WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use crate::ai::{self, Replies};
use crate::contract::{Guest, Prepared};
use crate::engine::Heavy;
use crate::fetch;
use crate::http::Hooks;
use crate::limits::Limits;
use crate::log::{Level, Log};
use crate::reach::Reach;
use crate::wasi;

/// A guest with its memory, between calls or in one.
pub(crate) struct Instance {
    pub(crate) store: Store<State>,
    pub(crate) guest: Guest,
    /// What it is an instance of.
    pub(crate) code: Arc<Prepared>,
    /// Calls served.
    pub(crate) calls: u64,
}

/// What a call may do with the workspace's data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Access {
    Nothing,
    Read,
    /// As far as the transaction allows: a query's refuses writes itself.
    Write,
}

/// One call of the host into the guest.
pub(crate) struct Call {
    /// `parse-rows of posts`, `action posts/publish`.
    pub(crate) name: String,
    pub(crate) access: Access,
    pub(crate) data: Option<Arc<Transaction>>,
    /// Unix ms; the same for the whole call.
    pub(crate) now: u64,
    pub(crate) request_id: Arc<str>,
    pub(crate) started: Instant,
    pub(crate) deadline: Instant,
    /// Present once the call has run for long.
    pub(crate) heavy: Option<Heavy>,
    host_calls: usize,
}

impl Call {
    pub(crate) fn new(
        name: String,
        access: Access,
        data: Option<Arc<Transaction>>,
        request: &str,
        deadline: Instant,
    ) -> Self {
        let (now, request_id) = match &data {
            Some(data) => (data.now(), data.request_id().into()),
            None => (unix_ms(), request.into()),
        };
        let started = Instant::now();
        Self { name, access, data, now, request_id, started, deadline, heavy: None, host_calls: 0 }
    }

    pub(crate) fn caller(&self) -> Option<&Account> {
        self.data.as_ref().and_then(|data| data.caller())
    }

    /// Counts what the guest asks of the host, which it may `limit` times.
    pub(crate) fn count(&mut self, limit: usize) -> wasmtime::Result<()> {
        self.host_calls += 1;
        if self.host_calls > limit {
            return Err(wasmtime::Error::msg(format!(
                "it called the host more than {limit} times in one call"
            )));
        }
        Ok(())
    }

    /// The transaction, when this call may use it so. Counts the call's use of it, of which there
    /// may be `limit`.
    pub(crate) fn transaction(&mut self, access: Access, limit: usize) -> Answer<Arc<Transaction>> {
        self.count(limit)?;
        let denied = |reason: &str| Ok(Err(ActionError::Denied(reason.into())));
        match &self.data {
            _ if self.access == Access::Nothing => {
                denied("tables and kv can be used in actions and in check-change only")
            }
            _ if self.access < access => denied(
                "check-change may read tables and kv, and not write them; write in the action",
            ),
            Some(data) => Ok(Ok(data.clone())),
            None => denied("this call has no workspace to read from"),
        }
    }
}

/// What the host keeps for one instance.
pub(crate) struct State {
    pub(crate) memory: Memory,
    log: Arc<Mutex<Log>>,
    limits: Arc<Limits>,
    call: Call,
    wasi: WasiCtx,
    http: WasiHttpCtx,
    hooks: Hooks,
    reach: Reach,
    replies: Replies,
    resources: ResourceTable,
}

/// What `tables` and `kv` answer: the outer error ends the call, the inner one is the guest's to
/// handle.
type Answer<T> = wasmtime::Result<Result<T, ActionError>>;

impl State {
    pub(crate) fn new(
        limits: Arc<Limits>,
        reach: Reach,
        log: Log,
        memory: Memory,
        call: Call,
    ) -> Self {
        let log = Arc::new(Mutex::new(log));
        let mut resources = ResourceTable::new();
        resources.set_max_capacity(limits.resources);
        let wasi = wasi::context(&log, &reach.grants);
        let hooks = Hooks { outbound: reach.outbound.clone(), log: log.clone() };
        let mut state = Self {
            memory,
            log,
            limits,
            call,
            wasi,
            http: WasiHttpCtx::new(),
            hooks,
            reach,
            replies: Replies::default(),
            resources,
        };
        state.begin_log();
        state
    }

    /// Starts another call.
    pub(crate) fn begin(&mut self, call: Call) {
        self.call = call;
        self.memory.refused = None;
        self.begin_log();
    }

    /// Ends the call: lets go of its transaction, and writes the rest of its log.
    pub(crate) fn end(&mut self) {
        self.call.data = None;
        self.call.access = Access::Nothing;
        self.call.heavy = None;
        self.replies.clear();
        self.log.lock().end();
    }

    /// What the guest said last in this call.
    pub(crate) fn last_words(&self) -> Option<String> {
        let mut log = self.log.lock();
        log.end();
        log.last_words()
    }

    pub(crate) fn call(&self) -> &Call {
        &self.call
    }

    pub(crate) fn call_mut(&mut self) -> &mut Call {
        &mut self.call
    }

    fn begin_log(&mut self) {
        self.log.lock().begin(self.call.name.clone(), self.call.request_id.clone());
    }

    pub(crate) fn log(&mut self, level: Level, message: &str) -> wasmtime::Result<()> {
        self.call.count(self.limits.host_calls)?;
        self.log.lock().write(level, message);
        Ok(())
    }

    pub(crate) fn table_get(&mut self, table: &str, id: &str) -> Answer<Option<String>> {
        self.with(Access::Read, |data| data.get(table, id))
    }

    pub(crate) fn table_list(&mut self, table: &str, query: &Query) -> Answer<Page> {
        self.with(Access::Read, |data| data.list(table, query))
    }

    pub(crate) fn table_count(&mut self, table: &str, filters: &[Filter]) -> Answer<u64> {
        self.with(Access::Read, |data| data.count(table, filters))
    }

    pub(crate) async fn table_put(&mut self, table: &str, row: &str) -> Answer<String> {
        match self.writable(row)? {
            Ok(data) => Ok(data.put(table, row).await),
            Err(error) => Ok(Err(error)),
        }
    }

    pub(crate) async fn table_update(
        &mut self,
        table: &str,
        id: &str,
        fields: &str,
    ) -> Answer<String> {
        match self.writable(fields)? {
            Ok(data) => Ok(data.update(table, id, fields).await),
            Err(error) => Ok(Err(error)),
        }
    }

    pub(crate) async fn table_delete(&mut self, table: &str, id: &str) -> Answer<bool> {
        match self.writable("")? {
            Ok(data) => Ok(data.delete(table, id).await),
            Err(error) => Ok(Err(error)),
        }
    }

    pub(crate) fn kv_get(&mut self, key: &str) -> Answer<Option<String>> {
        self.with(Access::Read, |data| data.kv_get(key))
    }

    pub(crate) async fn kv_set(&mut self, key: &str, value: &str) -> Answer<()> {
        match self.writable(value)? {
            Ok(data) => Ok(data.kv_set(key, value).await),
            Err(error) => Ok(Err(error)),
        }
    }

    pub(crate) async fn kv_delete(&mut self, key: &str) -> Answer<bool> {
        match self.writable("")? {
            Ok(data) => Ok(data.kv_delete(key).await),
            Err(error) => Ok(Err(error)),
        }
    }

    pub(crate) async fn text(&mut self, table: &str, id: &str, document: &str) -> Answer<String> {
        match self.data(Access::Read)? {
            Ok(data) => Ok(data.text(table, id, document).await),
            Err(error) => Ok(Err(error)),
        }
    }

    /// The transaction knows how long a text may be.
    pub(crate) async fn set_text(
        &mut self,
        table: &str,
        id: &str,
        document: &str,
        text: &str,
    ) -> Answer<()> {
        match self.data(Access::Write)? {
            Ok(data) => Ok(data.set_text(table, id, document, text).await),
            Err(error) => Ok(Err(error)),
        }
    }

    pub(crate) async fn chat(&mut self, request: ai::Request) -> Result<ai::Answer, ActionError> {
        self.reach.ask(&self.call, request).await?.whole().await
    }

    pub(crate) async fn fetch(&mut self, request: fetch::Request) -> Answer<fetch::Response> {
        self.call.count(self.limits.host_calls)?;
        Ok(self.reach.fetch(&self.call, request).await)
    }

    pub(crate) fn variable(&mut self, name: &str) -> Answer<Option<String>> {
        self.call.count(self.limits.host_calls)?;
        Ok(self.reach.variable(name))
    }

    pub(crate) async fn chat_stream(
        &mut self,
        request: ai::Request,
    ) -> Answer<Resource<ai::Handle>> {
        match self.reach.ask(&self.call, request).await {
            Ok(reply) => {
                let handle = self.replies.insert(reply);
                Ok(Ok(self.resources.push(ai::Handle(handle))?))
            }
            Err(error) => Ok(Err(error)),
        }
    }

    pub(crate) async fn chat_next(
        &mut self,
        stream: &Resource<ai::Handle>,
    ) -> Answer<Option<ai::Event>> {
        let ai::Handle(handle) = *self.resources.get(stream)?;
        Ok(match self.replies.get(handle) {
            Some(reply) => reply.next().await,
            None => Err(ActionError::Failed("the answer was of a call that is over".into())),
        })
    }

    pub(crate) fn chat_end(&mut self, stream: Resource<ai::Handle>) -> wasmtime::Result<()> {
        let ai::Handle(handle) = self.resources.delete(stream)?;
        self.replies.remove(handle);
        Ok(())
    }

    fn with<T>(
        &mut self,
        access: Access,
        ask: impl FnOnce(&Arc<Transaction>) -> Result<T, ActionError>,
    ) -> Answer<T> {
        Ok(self.data(access)?.and_then(|data| ask(&data)))
    }

    fn writable(&mut self, value: &str) -> Answer<Arc<Transaction>> {
        if let Err(error) = check_size(value, self.limits.row_bytes) {
            return Ok(Err(error));
        }
        self.data(Access::Write)
    }

    fn data(&mut self, access: Access) -> Answer<Arc<Transaction>> {
        self.call.transaction(access, self.limits.host_calls)
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.resources }
    }
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { hooks: &mut self.hooks, table: &mut self.resources, ctx: &mut self.http }
    }
}

/// Holds an instance to its share of memory, and its plugin to its own.
pub(crate) struct Memory {
    used: usize,
    max: usize,
    max_elements: usize,
    of_plugin: Arc<AtomicUsize>,
    max_of_plugin: usize,
    /// Which limit this call ran into.
    pub(crate) refused: Option<String>,
}

impl Memory {
    /// `of_plugin` counts the bytes of all instances of the plugin.
    pub(crate) fn new(limits: &Limits, of_plugin: Arc<AtomicUsize>) -> Self {
        Self {
            used: 0,
            max: limits.memory,
            max_elements: limits.table_elements,
            of_plugin,
            max_of_plugin: limits.plugin_memory,
            refused: None,
        }
    }

    /// Bytes of linear memory that the instance has.
    pub(crate) fn used(&self) -> usize {
        self.used
    }
}

impl wasmtime::ResourceLimiter for Memory {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let growth = desired.saturating_sub(current);
        let mib = |bytes: usize| bytes >> 20;
        if self.used.saturating_add(growth) > self.max {
            self.refused = Some(format!("an instance may use {} MiB of memory", mib(self.max)));
            return Ok(false);
        }
        let before = self.of_plugin.fetch_add(growth, Ordering::Relaxed);
        if before.saturating_add(growth) > self.max_of_plugin {
            self.of_plugin.fetch_sub(growth, Ordering::Relaxed);
            self.refused = Some(format!(
                "all instances of a plugin may use {} MiB of memory",
                mib(self.max_of_plugin)
            ));
            return Ok(false);
        }
        self.used += growth;
        Ok(true)
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let fits = desired <= self.max_elements;
        if !fits {
            self.refused = Some(format!("a table may have {} elements", self.max_elements));
        }
        Ok(fits)
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.of_plugin.fetch_sub(self.used, Ordering::Relaxed);
    }
}

/// Refuses a value that is too large to be written, before anything is done with it.
pub(crate) fn check_size(value: &str, limit: usize) -> Result<(), ActionError> {
    if value.len() <= limit {
        return Ok(());
    }
    let message = format!("is {} bytes of JSON; {limit} is the most", value.len());
    Err(ActionError::Invalid(vec![Issue::whole(message)]))
}

/// A new random id: 21 characters of 6 bits.
pub(crate) fn random_id() -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let bits: [u8; 21] = rand::rng().random();
    bits.iter().map(|bits| char::from(ALPHABET[usize::from(bits & 63)])).collect()
}

/// 64 random bits.
pub(crate) fn random_u64() -> u64 {
    rand::rng().random()
}

fn unix_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}
