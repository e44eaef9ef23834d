//! From the bytes of a file to code that runs.
//!
//! Here a file is only passed on. What is read is code: that of the cache, which was made here before, and that
//! of a compiler ([`crate::child`]), which has rehearsed what is done with it.

use std::sync::Arc;

use wasmtime::component::Component;

use crate::cache::Cache;
use crate::child::{Compiler, Haste};
use crate::engine::Engine;
use crate::hash::Hash;
use crate::limits::ANNOUNCED;

/// A file, compiled.
pub struct Loaded {
    /// Its code, for the engine that [`Loaded::is_optimised`] says.
    pub component: Component,
    /// Whether it was compiled before.
    pub from_cache: bool,
    /// The file, where its code is not the fastest that there is.
    pub to_optimise: Option<Vec<u8>>,
}

impl Loaded {
    /// Whether the optimising compiler made the code, or the baseline compiler.
    pub fn is_optimised(&self) -> bool {
        self.to_optimise.is_none()
    }
}

/// Has a file compiled as quickly as can be, or takes what was compiled from the same bytes before. The error
/// says what is wrong with the file.
pub async fn load(
    engine: &Engine,
    cache: Option<&Arc<Cache>>,
    file: &str,
    bytes: Vec<u8>,
    hash: Hash,
) -> Result<Loaded, String> {
    if let Some(cache) = cache.cloned() {
        let engine = engine.clone();
        let kept = tokio::task::spawn_blocking(move || cache.get(&engine, hash)).await;
        if let Ok(Some(component)) = kept {
            return Ok(Loaded { component, from_cache: true, to_optimise: None });
        }
    }
    if bytes.len() > ANNOUNCED {
        tracing::info!("compiling {file}, {:.1} MB", bytes.len() as f64 / 1e6);
    }
    let (compiler, component) = compile(engine, cache, Haste::Now, &bytes, hash).await?;
    let to_optimise = (compiler == Compiler::Baseline).then_some(bytes);
    Ok(Loaded { component, from_cache: false, to_optimise })
}

/// Has a file compiled by the optimising compiler, behind everything else that the machine does, and keeps
/// the code.
pub async fn optimise(
    engine: &Engine,
    cache: Option<&Arc<Cache>>,
    bytes: &[u8],
    hash: Hash,
) -> Result<Component, String> {
    let (_, component) = compile(engine, cache, Haste::Later, bytes, hash).await?;
    Ok(component)
}

/// Has a file compiled, and keeps the code if it is the best.
async fn compile(
    engine: &Engine,
    cache: Option<&Arc<Cache>>,
    haste: Haste,
    bytes: &[u8],
    hash: Hash,
) -> Result<(Compiler, Component), String> {
    let (compiler, code) = engine.children().compile(haste, bytes).await?;
    let (engine, cache) = (engine.clone(), cache.cloned());
    let read = move || {
        let component = read(&engine, compiler, &code)?;
        if let Some(cache) = cache.filter(|_| compiler == Compiler::Optimising) {
            cache.put(&engine, hash, &code);
        }
        Ok((compiler, component))
    };
    let component = tokio::task::spawn_blocking(read).await;
    component.unwrap_or_else(|_| Err("its code cannot be read; build it again".into()))
}

/// Reads the code that a compiler sent.
#[allow(unsafe_code)]
fn read(engine: &Engine, compiler: Compiler, code: &[u8]) -> Result<Component, String> {
    let engine = match compiler {
        Compiler::Optimising => engine.optimising(),
        Compiler::Baseline => engine.baseline().ok_or("there is no baseline compiler here")?,
    };
    // SAFETY: `deserialize` requires bytes that `precompile_component` returned, unchanged. The only caller
    // has them from a process that is this program, through a socket that nobody else has; it
    // sends what `precompile_component` has given it. That they fit this engine's settings, wasmtime checks.
    let component = unsafe { Component::deserialize(engine, code) };
    component.map_err(|error| format!("not a valid component: {error:#}"))
}
