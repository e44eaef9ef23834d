//! From the bytes of a file to a component that is ready to be instantiated.
//!
//! A file is a component, or a core module in which wit-bindgen left a description of its interfaces
//! (custom sections `component-type…`); such a module is wrapped into a component here, so that
//! `cargo build --target wasm32-unknown-unknown` is all that a Rust author needs. A module without a
//! description whose exports have the names that the contract gives them
//! (`epicenter:workspace/guest@0.1.0#define`) is described by the contract of that version: so no tool
//! has to come after compilers that write no custom sections, as Go's. A module built for
//! WASI preview 1 is wrapped with the adapter to the WASI that [`crate::wasi`] provides. Everything
//! else gets one error that says what the file is and what would mend it.
//!
//! All of this takes milliseconds to seconds and runs on threads for blocking work. Reading foreign
//! bytes may find a bug in a parser: a panic there ends as an error of this file.

use std::borrow::Cow;

use sha2::{Digest, Sha256};
use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
};
use wasmparser::{Encoding, Parser, Payload};
use wasmtime::component::Component;
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

use crate::cache::Cache;
use crate::contract::{self, Prepared};
use crate::engine::{Compiler, Engine};

/// Why a file is not a plugin: what is wrong with it and what would mend it, one fault a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}: {reason}")]
pub struct LoadError {
    /// The file's name.
    pub file: String,
    /// What is wrong and what would mend it.
    pub reason: String,
}

impl LoadError {
    pub(crate) fn new(file: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { file: file.into(), reason: reason.into() }
    }
}

/// A component whose imports are resolved.
pub(crate) struct Loaded {
    pub(crate) prepared: Prepared,
    pub(crate) from_cache: bool,
    /// The component, where the code of it is not the fastest that there is.
    pub(crate) to_optimise: Option<Vec<u8>>,
    /// The interfaces that it imports, by their full names.
    pub(crate) imports: Vec<String>,
}

/// The SHA-256 of a file, by which its content is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hash([u8; 32]);

impl Hash {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self::new(Sha256::new_with_prefix(bytes))
    }

    pub(crate) fn new(hasher: Sha256) -> Self {
        Self(hasher.finalize().into())
    }
}

impl std::fmt::Display for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// Compiles the file as quickly as can be, or takes what was compiled from the same bytes before. Blocks.
pub(crate) fn load(
    engine: &Engine,
    cache: Option<&Cache>,
    file: &str,
    bytes: &[u8],
    hash: Hash,
) -> Result<Loaded, LoadError> {
    let failed = |reason: String| LoadError::new(file, reason);
    if let Some(component) = cache.and_then(|cache| cache.get(engine, hash)) {
        let (prepared, imports) = prepare(engine.optimising(), &component).map_err(failed)?;
        return Ok(Loaded { prepared, from_cache: true, to_optimise: None, imports });
    }
    // What takes a second or more is announced, so that nobody wonders why nothing happens.
    if bytes.len() > 1 << 20 {
        tracing::info!("compiling {file}, {:.1} MB", bytes.len() as f64 / 1e6);
    }
    let bytes = wrapped(bytes).map_err(failed)?;
    // The baseline compiler does not know all of WebAssembly: what it refuses may still be good.
    if let Some(baseline) = engine.baseline()
        && let Ok(component) = Component::from_binary(&baseline.wasmtime, &bytes)
    {
        let (prepared, imports) = prepare(baseline, &component).map_err(failed)?;
        let to_optimise = Some(bytes.into_owned());
        return Ok(Loaded { prepared, from_cache: false, to_optimise, imports });
    }
    let component = compile(engine, cache, &bytes, hash).map_err(failed)?;
    let (prepared, imports) = prepare(engine.optimising(), &component).map_err(failed)?;
    Ok(Loaded { prepared, from_cache: false, to_optimise: None, imports })
}

/// Compiles a component that was loaded, so that it runs fast from now on. Blocks, for long.
pub(crate) fn optimise(
    engine: &Engine,
    cache: Option<&Cache>,
    component: &[u8],
    hash: Hash,
) -> Result<Prepared, String> {
    let component = compile(engine, cache, component, hash)?;
    prepare(engine.optimising(), &component).map(|(prepared, _)| prepared)
}

/// Makes fast code, and keeps it.
fn compile(
    engine: &Engine,
    cache: Option<&Cache>,
    component: &[u8],
    hash: Hash,
) -> Result<Component, String> {
    let component = Component::from_binary(&engine.optimising().wasmtime, component)
        .map_err(|error| format!("not a valid component: {error:#}"))?;
    if let Some(cache) = cache {
        cache.put(engine, hash, &component);
    }
    Ok(component)
}

/// Resolves its imports, and names them.
fn prepare(compiler: &Compiler, component: &Component) -> Result<(Prepared, Vec<String>), String> {
    let version = contract::recognise(&compiler.wasmtime, component)?;
    let prepared = compiler.linkers.prepare(version, component)?;
    let ty = component.component_type();
    let imports = ty.imports(&compiler.wasmtime).map(|(name, _)| name.to_owned()).collect();
    Ok((prepared, imports))
}

/// The file as a component.
fn wrapped(bytes: &[u8]) -> Result<Cow<'_, [u8]>, String> {
    match sort(bytes)? {
        Sort::Component => Ok(bytes.into()),
        Sort::Module { described_by: None, imports_wasi } => {
            wrap(bytes, imports_wasi).map(Cow::Owned)
        }
        Sort::Module { described_by: Some(version), imports_wasi } => {
            wrap(&describe(bytes, &version)?, imports_wasi).map(Cow::Owned)
        }
    }
}

enum Sort {
    Component,
    /// A core module that says which interfaces it implements.
    Module {
        /// The version of the contract that its exports name, where that is all that it says.
        described_by: Option<String>,
        imports_wasi: bool,
    },
}

/// What sort of file it is, by its first bytes and its sections.
fn sort(bytes: &[u8]) -> Result<Sort, String> {
    if bytes.is_empty() {
        return Err("the file is empty; build the plugin again".into());
    }
    if !bytes.starts_with(b"\0asm") {
        let start = bytes.trim_ascii_start();
        if start.starts_with(b"(module")
            || start.starts_with(b"(component")
            || start.starts_with(b";;")
        {
            return Err("WebAssembly text; turn it into a binary with `wasm-tools parse`".into());
        }
        return Err(
            "not a WebAssembly file; a plugin is a component, or a core module built with an SDK"
                .into(),
        );
    }
    let mut described = false;
    let mut versions = Vec::new();
    let mut imports_wasi = false;
    let mut encoding = None;
    let mut depth = 0_usize;
    for payload in Parser::new(0).parse_all(bytes) {
        let payload = payload.map_err(|error| {
            let message = error.message();
            if message.contains("unexpected end") {
                "the file is cut short; copy or build it again".into()
            } else {
                format!("not a valid WebAssembly file: {error}")
            }
        })?;
        match payload {
            Payload::Version { encoding: found, .. } if depth == 0 => encoding = Some(found),
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::CustomSection(section) if depth == 0 => {
                described |= section.name().starts_with("component-type");
            }
            Payload::ImportSection(imports) if depth == 0 => {
                for import in imports.into_imports().flatten() {
                    imports_wasi |= import.module == WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME;
                }
            }
            Payload::ExportSection(exports) if depth == 0 => {
                for export in exports.into_iter().flatten() {
                    let version = contract::version_of_export(export.name);
                    versions.extend(version.map(str::to_owned));
                }
            }
            _ => {}
        }
    }
    versions.sort();
    versions.dedup();
    match encoding {
        Some(Encoding::Component) => Ok(Sort::Component),
        Some(Encoding::Module) if described => {
            Ok(Sort::Module { described_by: None, imports_wasi })
        }
        Some(Encoding::Module) if !versions.is_empty() => {
            let version = contract::single(&versions)?;
            Ok(Sort::Module { described_by: Some(version.to_owned()), imports_wasi })
        }
        Some(Encoding::Module) => Err(
            "a core module that does not say which interfaces it implements; build it with an SDK or \
             wit-bindgen, and keep the custom section `component-type` when stripping"
                .into(),
        ),
        None => Err("the file is cut short; copy or build it again".into()),
    }
}

/// Adds the description of its interfaces to a core module that was built for a version of the contract.
fn describe(module: &[u8], version: &str) -> Result<Vec<u8>, String> {
    let wit = contract::wit(version)?;
    let mut module = module.to_vec();
    let mut describe = || {
        let mut resolve = Resolve::default();
        let package = resolve.push_source("workspace.wit", wit)?;
        let world = resolve.select_world(&[package], Some("workspace"))?;
        embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8, false)
    };
    match describe() {
        Ok(()) => Ok(module),
        Err(error) => Err(format!("a core module that cannot be described: {error:#}")),
    }
}

/// Wraps a core module into a component.
fn wrap(module: &[u8], imports_wasi: bool) -> Result<Vec<u8>, String> {
    let mut encoder = ComponentEncoder::default();
    let mut wrap = || {
        let mut encoder = encoder.validate(true).module(module)?;
        if imports_wasi {
            encoder = encoder.adapter(
                WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME,
                WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
            )?;
        }
        encoder.encode()
    };
    wrap()
        .map_err(|error| format!("a core module that cannot be turned into a component: {error:#}"))
}
