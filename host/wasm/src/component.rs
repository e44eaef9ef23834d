//! From the bytes of a file to a component.
//!
//! A file is a component, or a core module in which wit-bindgen left a description of its interfaces
//! (custom sections `component-type…`). Such a module is wrapped into a component here, so that
//! `cargo build --target wasm32-unknown-unknown` is all that a Rust author needs. A module without a
//! description, whose exports have the names that the contract gives them
//! (`epicenter:workspace/guest@0.1.0#define`), is described by that version of the contract: so
//! compilers that write no custom sections, as Go's, need no tool after them. A module built for WASI
//! preview 1 is wrapped with the adapter to WASI 0.2. Everything else gets one error that says what
//! the file is and what would mend it.
//!
//! The parsers that are used here may fail in ways that end a process: they run in [`crate::child`] alone.

use std::borrow::Cow;

use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
};
use wasmparser::{Encoding, Parser, Payload};
use wasmtime::component::Component;
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// How files show that they were built for the host's contract.
#[derive(Debug, Clone, Copy)]
pub struct Contract {
    /// The version that the name of a core module's export says it was built for.
    pub version_of_export: fn(&str) -> Option<&str>,
    /// The WIT of the one version among those that exports name, or why there is none.
    pub wit: fn(&[String]) -> Result<&'static str, String>,
    /// The world that a guest implements.
    pub world: &'static str,
    /// What can tell for an engine whether a component fits the contract.
    pub rehearsal: fn(&wasmtime::Engine) -> wasmtime::Result<Rehearsal>,
}

/// Resolves a component's imports and finds its exports, as it is done before it is run; the error says
/// what does not fit.
pub type Rehearsal = Box<dyn Fn(&Component) -> Result<(), String> + Send>;

/// The file as a component.
pub(crate) fn wrapped<'b>(bytes: &'b [u8], contract: &Contract) -> Result<Cow<'b, [u8]>, String> {
    match sort(bytes, contract)? {
        Sort::Component => Ok(bytes.into()),
        Sort::Module { described_by: None, imports_wasi } => {
            wrap(bytes, imports_wasi).map(Cow::Owned)
        }
        Sort::Module { described_by: Some(wit), imports_wasi } => {
            wrap(&describe(bytes, wit, contract.world)?, imports_wasi).map(Cow::Owned)
        }
    }
}

enum Sort {
    Component,
    /// A core module that says which interfaces it implements.
    Module {
        /// The WIT of the contract that its exports name, where it has no description of its own.
        described_by: Option<&'static str>,
        imports_wasi: bool,
    },
}

/// What sort of file it is, by its first bytes and its sections.
fn sort(bytes: &[u8], contract: &Contract) -> Result<Sort, String> {
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
                    let version = (contract.version_of_export)(export.name);
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
            let described_by = Some((contract.wit)(&versions)?);
            Ok(Sort::Module { described_by, imports_wasi })
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
fn describe(module: &[u8], wit: &str, world: &str) -> Result<Vec<u8>, String> {
    let mut module = module.to_vec();
    let mut describe = || {
        let mut resolve = Resolve::default();
        let package = resolve.push_source("contract.wit", wit)?;
        let world = resolve.select_world(&[package], Some(world))?;
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
