//! The versions of the contract that this host supports.
//!
//! A plugin names the version that it was built for in its imports and exports
//! (`epicenter:workspace/guest@0.1.0`). Each released version is frozen: its WIT has a folder in
//! `wit/` and its bindings a module here, which only converts between the version's types and those
//! of `host-workspace`. What a guest may do is implemented once, in [`super::state`]. To add a
//! version, add the folder, a module, and a variant to [`Version`], [`Linkers`], [`Prepared`] and
//! [`Guest`]; the compiler points out the places.

mod v0_1_0;
mod v0_2_0;

use host_wasm::Code;
use host_workspace::{ActionError, Change, Definition, Parsed};
use wasmtime::Store;
use wasmtime::component::{Component, Linker, types};

use super::state::State;

/// The package name of all versions.
const PACKAGE: &str = "epicenter:workspace";

/// The marker of a file that was built for the contract.
pub(crate) static CONTRACT: host_wasm::Contract =
    host_wasm::Contract { version_of_export, wit, world: "workspace", rehearsal };

/// Prepares a component before it is called.
fn rehearsal(engine: &wasmtime::Engine) -> wasmtime::Result<host_wasm::Rehearsal> {
    let linkers = Linkers::new(engine)?;
    Ok(Box::new(move |component| linkers.prepare(recognise(component)?, component).map(drop)))
}

/// A supported version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    V0_1_0,
    V0_2_0,
}

/// The supported versions, with their numbers and WIT.
const SPOKEN: &[(Version, &str, &str)] = &[
    (Version::V0_1_0, "0.1.0", include_str!("../../../../wit/0.1.0/workspace.wit")),
    (Version::V0_2_0, "0.2.0", include_str!("../../../../wit/0.2.0/workspace.wit")),
];

/// What this host offers to plugins besides the contract, as prefixes of interface names.
const WASI: &[&str] = &[
    "wasi:cli/",
    "wasi:clocks/",
    "wasi:filesystem/",
    "wasi:http/types",
    "wasi:http/outgoing-handler",
    "wasi:io/",
    "wasi:random/",
    "wasi:sockets/",
];

/// Detects the version of the contract that a component was built for, without running any of it.
/// The error says what is wrong with the file and how to fix it.
pub(crate) fn recognise(component: &Component) -> Result<Version, String> {
    let (engine, ty) = (component.engine(), component.component_type());
    let mut versions = Vec::new();
    let mut guest = false;
    let names = ty.imports(engine).map(|(name, _)| (name, false));
    for (name, is_export) in names.chain(ty.exports(engine).map(|(name, _)| (name, true))) {
        let Some((interface, version)) = ours(name) else {
            continue;
        };
        guest |= is_export && interface == "guest";
        if !versions.contains(&version) {
            versions.push(version);
        }
    }
    if versions.is_empty() {
        return Err(format!(
            "a component, but not of a workspace: it exports no {PACKAGE}/guest; build it against \
             wit/ of this project, version {}",
            all_spoken()
        ));
    }
    let (version, text, _) = spoken(single(&versions)?)?;
    if !guest {
        return Err(format!("does not export {PACKAGE}/guest@{text}; every plugin must"));
    }
    Ok(*version)
}

/// The version that a core module was built for, taken from the canonical ABI's name for an export
/// of the guest: `epicenter:workspace/guest@0.1.0#define`.
fn version_of_export(name: &str) -> Option<&str> {
    let (interface, version) = ours(name.split_once('#')?.0)?;
    (interface == "guest").then_some(version)
}

/// The only version that a plugin names; an error if there are several.
fn single<T: AsRef<str>>(versions: &[T]) -> Result<&str, String> {
    match versions {
        [version] => Ok(version.as_ref()),
        several => Err(format!(
            "mixes the versions {} of {PACKAGE}; build all of it against one that this host speaks: {}",
            several.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(" and "),
            all_spoken()
        )),
    }
}

/// The WIT of the only version that a plugin names.
fn wit(versions: &[String]) -> Result<&'static str, String> {
    spoken(single(versions)?).map(|(_, _, wit)| *wit)
}

/// The version with that number; the error also lists the supported ones.
fn spoken(found: &str) -> Result<&'static (Version, &'static str, &'static str), String> {
    SPOKEN.iter().find(|(_, text, _)| *text == found).ok_or_else(|| {
        let spoken = all_spoken();
        format!(
            "built for {PACKAGE}@{found}, but this host speaks {spoken}; build it against that version, \
             or use a host that speaks {found}"
        )
    })
}

fn all_spoken() -> String {
    SPOKEN.iter().map(|(_, text, _)| *text).collect::<Vec<_>>().join(", ")
}

/// Splits `epicenter:workspace/guest@0.1.0` into `guest` and `0.1.0`.
fn ours(name: &str) -> Option<(&str, &str)> {
    let rest = name.strip_prefix(PACKAGE)?.strip_prefix('/')?;
    Some(rest.split_once('@').unwrap_or((rest, "(none)")))
}

/// One linker for each version, created once.
pub(crate) struct Linkers {
    v0_1_0: Linker<State>,
    v0_2_0: Linker<State>,
}

impl Linkers {
    pub(crate) fn new(engine: &wasmtime::Engine) -> wasmtime::Result<Self> {
        let mut wasi = Linker::new(engine);
        wasmtime_wasi::p2::add_to_linker_async(&mut wasi)?;
        wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut wasi)?;
        let (mut v0_1_0, mut v0_2_0) = (wasi.clone(), wasi);
        v0_1_0::add_to_linker(&mut v0_1_0)?;
        v0_2_0::add_to_linker(&mut v0_2_0)?;
        Ok(Self { v0_1_0, v0_2_0 })
    }

    /// Resolves the component's imports, once for all of its instances.
    pub(crate) fn prepare(
        &self,
        version: Version,
        component: &Component,
    ) -> Result<Prepared, String> {
        let linker = match version {
            Version::V0_1_0 => &self.v0_1_0,
            Version::V0_2_0 => &self.v0_2_0,
        };
        let engine = linker.engine();
        for (name, item) in component.component_type().imports(engine) {
            let known = ours(name).is_some() || WASI.iter().any(|prefix| name.starts_with(prefix));
            // Importing only types requires nothing from the host.
            if !known && !matches!(item.ty, types::ComponentItem::Type(_)) {
                return Err(format!(
                    "imports {name}, which this host does not provide; it provides tables, kv, \
                     documents, log, context, ai, http and \
                     environment of {PACKAGE}, and WASI 0.2 without files and sockets"
                ));
            }
        }
        match version {
            Version::V0_1_0 => linker
                .instantiate_pre(component)
                .and_then(v0_1_0::WorkspacePre::new)
                .map(Prepared::V0_1_0),
            Version::V0_2_0 => linker
                .instantiate_pre(component)
                .and_then(v0_2_0::WorkspacePre::new)
                .map(Prepared::V0_2_0),
        }
        .map_err(|error| format!("does not fit the contract: {error:#}"))
    }
}

/// A component that is ready to instantiate.
pub(crate) enum Prepared {
    V0_1_0(v0_1_0::WorkspacePre<State>),
    V0_2_0(v0_2_0::WorkspacePre<State>),
}

impl Code for Prepared {
    type Data = State;
    type Guest = Guest;

    fn engine(&self) -> &wasmtime::Engine {
        match self {
            Self::V0_1_0(prepared) => prepared.engine(),
            Self::V0_2_0(prepared) => prepared.engine(),
        }
    }

    async fn instantiate(&self, store: &mut Store<State>) -> wasmtime::Result<Guest> {
        match self {
            Self::V0_1_0(prepared) => prepared.instantiate_async(store).await.map(Guest::V0_1_0),
            Self::V0_2_0(prepared) => prepared.instantiate_async(store).await.map(Guest::V0_2_0),
        }
    }
}

/// The exports of one instance, in the host's own types.
pub(crate) enum Guest {
    V0_1_0(v0_1_0::Workspace),
    V0_2_0(v0_2_0::Workspace),
}

impl Guest {
    /// The definition, or an error if part of it is unreadable.
    pub(crate) async fn define(
        &self,
        store: &mut Store<State>,
    ) -> wasmtime::Result<Result<Definition, String>> {
        match self {
            Self::V0_1_0(guest) => v0_1_0::define(guest, store).await,
            Self::V0_2_0(guest) => v0_2_0::define(guest, store).await,
        }
    }

    pub(crate) async fn parse_rows(
        &self,
        store: &mut Store<State>,
        table: &str,
        rows: &[String],
    ) -> wasmtime::Result<Vec<Parsed>> {
        match self {
            Self::V0_1_0(guest) => v0_1_0::parse_rows(guest, store, table, rows).await,
            Self::V0_2_0(guest) => v0_2_0::parse_rows(guest, store, table, rows).await,
        }
    }

    pub(crate) async fn parse_kv(
        &self,
        store: &mut Store<State>,
        key: &str,
        value: String,
    ) -> wasmtime::Result<Parsed> {
        match self {
            Self::V0_1_0(guest) => v0_1_0::parse_kv(guest, store, key, value).await,
            Self::V0_2_0(guest) => v0_2_0::parse_kv(guest, store, key, value).await,
        }
    }

    pub(crate) async fn check_change(
        &self,
        store: &mut Store<State>,
        change: Change,
    ) -> wasmtime::Result<Result<(), ActionError>> {
        match self {
            Self::V0_1_0(guest) => v0_1_0::check_change(guest, store, change).await,
            Self::V0_2_0(guest) => v0_2_0::check_change(guest, store, change).await,
        }
    }

    pub(crate) async fn run_action(
        &self,
        store: &mut Store<State>,
        path: &str,
        input: String,
    ) -> wasmtime::Result<Result<String, ActionError>> {
        match self {
            Self::V0_1_0(guest) => v0_1_0::run_action(guest, store, path, input).await,
            Self::V0_2_0(guest) => v0_2_0::run_action(guest, store, path, input).await,
        }
    }
}
