//! From the bytes of a file to compiled code. All of this takes milliseconds to seconds, and blocks.

use wasmtime::component::Component;

use crate::cache::Cache;
use crate::component::{Contract, wrapped};
use crate::engine::Engine;
use crate::hash::Hash;
use crate::limits::ANNOUNCED;

/// A file, compiled.
pub struct Loaded {
    /// Its code, for the engine that [`Loaded::is_optimised`] says.
    pub component: Component,
    /// Whether it was compiled before.
    pub from_cache: bool,
    /// The component, where its code is not the fastest that there is.
    pub to_optimise: Option<Vec<u8>>,
}

impl Loaded {
    /// Whether the optimising compiler made the code, or the baseline compiler.
    pub fn is_optimised(&self) -> bool {
        self.to_optimise.is_none()
    }
}

/// Compiles a file as quickly as can be, or takes what was compiled from the same bytes before.
pub fn load(
    engine: &Engine,
    cache: Option<&Cache>,
    contract: &Contract,
    file: &str,
    bytes: &[u8],
    hash: Hash,
) -> Result<Loaded, String> {
    if let Some(component) = cache.and_then(|cache| cache.get(engine, hash)) {
        return Ok(Loaded { component, from_cache: true, to_optimise: None });
    }
    if bytes.len() > ANNOUNCED {
        tracing::info!("compiling {file}, {:.1} MB", bytes.len() as f64 / 1e6);
    }
    let bytes = wrapped(bytes, contract)?;
    // The baseline compiler does not know all of WebAssembly: what it refuses may still be good.
    if let Some(baseline) = engine.baseline()
        && let Ok(component) = Component::from_binary(baseline, &bytes)
    {
        let to_optimise = Some(bytes.into_owned());
        return Ok(Loaded { component, from_cache: false, to_optimise });
    }
    let component = optimise(engine, cache, &bytes, hash)?;
    Ok(Loaded { component, from_cache: false, to_optimise: None })
}

/// Compiles a component with the optimising compiler, and keeps the code.
pub fn optimise(
    engine: &Engine,
    cache: Option<&Cache>,
    component: &[u8],
    hash: Hash,
) -> Result<Component, String> {
    let component = Component::from_binary(engine.optimising(), component)
        .map_err(|error| format!("not a valid component: {error:#}"))?;
    if let Some(cache) = cache {
        cache.put(engine, hash, &component);
    }
    Ok(component)
}
