//! What runs the plugins of a server.

use std::sync::Arc;

use host_wasm::{Allocation, Compile};

use crate::reach::ai::Models;
use crate::scripts::Threads;
use crate::wasm::Host;
use crate::wasm::contract::CONTRACT;

/// Makes this process one that compiles plugins, if that is what it was started for, and then does not return.
///
/// Plugins are compiled by processes of this program, so that none can take the server along
/// ([`host_wasm::child`]). To be called first in `main`, before any thread, by every program that loads
/// plugins; one that does not cannot load components.
pub fn compile_if_asked() {
    host_wasm::child::run_if_asked(&CONTRACT);
}

/// Runs the plugins of a server, components and scripts. Cheap to clone; one for each server.
#[derive(Clone)]
pub struct Engine {
    pub(crate) wasm: Arc<Host>,
    pub(crate) threads: Arc<Threads>,
    models: Option<Arc<dyn Models>>,
}

impl Engine {
    /// An engine whose plugins cannot ask models.
    pub fn new(allocation: Allocation, compile: Compile) -> Result<Self, wasmtime::Error> {
        #[cfg(test)]
        crate::tests::can_compile();
        let wasm = Arc::new(Host::new(allocation, compile)?);
        let threads = Arc::new(Threads::new(wasm.engine.load().clone()));
        Ok(Self { wasm, threads, models: None })
    }

    /// The same, with models that its plugins may ask where they are granted it.
    pub fn with_models(self, models: Option<Arc<dyn Models>>) -> Self {
        Self { models, ..self }
    }

    pub(crate) fn models(&self) -> Option<&Arc<dyn Models>> {
        self.models.as_ref()
    }

    /// Whether instances of components come from a pool.
    pub fn is_pooling(&self) -> bool {
        self.wasm.engine.is_pooling()
    }
}
