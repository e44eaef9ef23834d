//! What runs the plugins of a server.

use std::sync::Arc;

use host_wasm::{Allocation, Compile};

use crate::reach::ai::Models;
use crate::scripts::Threads;
use crate::wasm::Host;

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
