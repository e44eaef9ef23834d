//! The engine that runs a server's plugins.

use std::sync::Arc;

use host_wasm::{Allocation, Compile};

use crate::reach::ai::Models;
use crate::scripts::Threads;
use crate::wasm::Host;
use crate::wasm::contract::CONTRACT;

/// Turns this process into a compiler of plugins if it was started as one, and then does not
/// return.
///
/// Plugins are compiled in separate processes of this program, so that a crash cannot take down the
/// server ([`host_wasm::child`]). Every program that loads plugins must call this first in `main`,
/// before it starts a thread. A program that does not cannot load components.
pub fn compile_if_asked() {
    host_wasm::child::run_if_asked(&CONTRACT);
}

/// Runs the plugins of a server, components and scripts. Cheap to clone; create one for each
/// server.
#[derive(Clone)]
pub struct Engine {
    pub(crate) wasm: Arc<Host>,
    pub(crate) threads: Arc<Threads>,
    models: Option<Arc<dyn Models>>,
}

impl Engine {
    /// Creates an engine whose plugins cannot use models.
    pub fn new(allocation: Allocation, compile: Compile) -> Result<Self, wasmtime::Error> {
        #[cfg(test)]
        crate::tests::can_compile();
        let wasm = Arc::new(Host::new(allocation, compile)?);
        let threads = Arc::new(Threads::new(wasm.engine.load().clone()));
        Ok(Self { wasm, threads, models: None })
    }

    /// The same, with models for plugins that are granted AI.
    pub fn with_models(self, models: Option<Arc<dyn Models>>) -> Self {
        Self { models, ..self }
    }

    pub(crate) fn models(&self) -> Option<&Arc<dyn Models>> {
        self.models.as_ref()
    }

    /// Whether component instances come from a pool.
    pub fn is_pooling(&self) -> bool {
        self.wasm.engine.is_pooling()
    }
}
