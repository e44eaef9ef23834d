//! The host's state for one instance, and what its guest may do during a call.
//!
//! An instance serves one call at a time, and that [`Call`] decides what the guest may access. All
//! checks are here, in the host's own types, whatever the version of the contract.

use std::sync::Arc;

use host_wasm::{Hosted, Memory, Pace};
use host_workspace::query::{Filter, Page, Query};
use host_workspace::{ActionError, Data};
use parking_lot::Mutex;
use wasmtime::component::Resource;
use wasmtime_wasi::{ResourceTable, WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use super::outgoing::Hooks;
use super::wasi;
use crate::call::{Access, Call};
use crate::log::{Level, Log};
use crate::reach::ai::{self, Replies};
use crate::reach::{Reach, fetch};

/// The host's state for one instance.
pub(crate) struct State {
    memory: Memory,
    log: Arc<Mutex<Log>>,
    /// `None` between calls.
    call: Option<Call>,
    wasi: WasiCtx,
    http: WasiHttpCtx,
    hooks: Hooks,
    reach: Reach,
    replies: Replies,
    resources: ResourceTable,
}

/// The guest's handle of a model's answer in progress: its key in [`Replies`].
pub struct Handle(u32);

/// The host's answer. The outer error ends the call; the guest may handle the inner one.
type Answer<T> = wasmtime::Result<Result<T, ActionError>>;

impl State {
    /// Creates the state of an instance that may hold this many resources and starts with a call.
    pub(crate) fn new(
        reach: Reach,
        log: Log,
        memory: Memory,
        resources: usize,
        call: Call,
    ) -> Self {
        let log = Arc::new(Mutex::new(log));
        let mut table = ResourceTable::new();
        table.set_max_capacity(resources);
        let wasi = wasi::context(&log, &reach.grants);
        let hooks = Hooks { outbound: reach.outbound.clone(), log: log.clone() };
        let mut state = Self {
            memory,
            log,
            call: None,
            wasi,
            http: WasiHttpCtx::new(),
            hooks,
            reach,
            replies: Replies::default(),
            resources: table,
        };
        state.begin(call);
        state
    }

    /// Starts a call.
    pub(crate) fn begin(&mut self, call: Call) {
        self.memory.begin();
        self.log.lock().begin(call.name.clone(), call.request_id.clone());
        self.call = Some(call);
    }

    /// Ends the call: releases its transaction and its place, and writes the rest of its log.
    pub(crate) fn end(&mut self) {
        self.call = None;
        self.replies.clear();
        self.log.lock().end();
    }

    /// The memory limit that the call exceeded, if any.
    pub(crate) fn out_of_memory(&self) -> Option<&str> {
        self.memory.refused()
    }

    /// The guest's last words in this call.
    pub(crate) fn last_words(&self) -> Option<String> {
        let mut log = self.log.lock();
        log.end();
        log.last_words()
    }

    pub(crate) fn call(&mut self) -> wasmtime::Result<&mut Call> {
        self.call.as_mut().ok_or_else(|| wasmtime::Error::msg("no call is being served"))
    }

    pub(crate) fn log(&mut self, level: Level, message: &str) -> wasmtime::Result<()> {
        self.call()?.count()?;
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

    /// The transaction enforces the size limit of texts.
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

    pub(crate) async fn chat(&mut self, request: ai::Request) -> Answer<ai::Answer> {
        let asked = self.reach.clone().ask(self.call()?, request);
        Ok(match asked.await {
            Ok(reply) => reply.whole().await,
            Err(error) => Err(error),
        })
    }

    pub(crate) async fn fetch(&mut self, request: fetch::Request) -> Answer<fetch::Response> {
        let reach = self.reach.clone();
        let call = self.call()?;
        call.count()?;
        Ok(reach.fetch(call, request).await)
    }

    pub(crate) fn variable(&mut self, name: &str) -> Answer<Option<String>> {
        self.call()?.count()?;
        Ok(self.reach.variable(name))
    }

    pub(crate) async fn chat_stream(&mut self, request: ai::Request) -> Answer<Resource<Handle>> {
        let asked = self.reach.clone().ask(self.call()?, request);
        match asked.await {
            Ok(reply) => {
                let handle = self.replies.insert(reply);
                Ok(Ok(self.resources.push(Handle(handle))?))
            }
            Err(error) => Ok(Err(error)),
        }
    }

    pub(crate) async fn chat_next(
        &mut self,
        stream: &Resource<Handle>,
    ) -> Answer<Option<ai::Event>> {
        let Handle(handle) = *self.resources.get(stream)?;
        Ok(match self.replies.get(handle) {
            Some(reply) => reply.next().await,
            None => Err(ActionError::Failed("the answer was of a call that is over".into())),
        })
    }

    pub(crate) fn chat_end(&mut self, stream: Resource<Handle>) -> wasmtime::Result<()> {
        let Handle(handle) = self.resources.delete(stream)?;
        self.replies.remove(handle);
        Ok(())
    }

    fn with<T>(
        &mut self,
        access: Access,
        ask: impl FnOnce(&Arc<dyn Data>) -> Result<T, ActionError>,
    ) -> Answer<T> {
        Ok(self.data(access)?.and_then(|data| ask(&data)))
    }

    fn writable(&mut self, value: &str) -> Answer<Arc<dyn Data>> {
        if let Err(error) = self.call()?.check_written(value) {
            return Ok(Err(error));
        }
        self.data(Access::Write)
    }

    fn data(&mut self, access: Access) -> Answer<Arc<dyn Data>> {
        Ok(self.call()?.transaction(access)?)
    }
}

impl Hosted for State {
    fn memory(&mut self) -> &mut Memory {
        &mut self.memory
    }

    fn pace(&mut self) -> Option<&mut Pace> {
        self.call.as_mut().map(|call| &mut call.pace)
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
