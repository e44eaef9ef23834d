//! Plugins: workspaces whose meaning is a WebAssembly component, scripts, or both.
//!
//! [`Plugins`] serves what lies in a folder: it loads each file, mounts its workspace, and follows
//! what changes. A [`Plugin`] is one loaded file and implements
//! [`Logic`](host_workspace::Logic), the boundary to the rest of the server, which knows no wasm.
//!
//! The way of a plugin: `sources` says which files make it and reads them; `manifest` what it may use
//! and how much (`limits` has all the numbers). `component` makes a component of the bytes, or `cache`
//! has one compiled before (`compiling` says whose turn it is); `contract` finds out which version of the contract it was built for and
//! resolves its imports; `wasm` asks for its definition. `scripts` compiles what is written in rhai.
//! `plugin` puts both together, and `folder` follows what changes.
//!
//! The way of a call: `plugin` knows who is asked. A component finds a place and an instance in `pool`,
//! `instance` is what its guest may do, `reach` what it may use beyond its workspace (`http` and `fetch` for
//! requests, `ai` for models), `engine` holds it to its time. A script gets a thread and the
//! same transaction.

pub mod ai;
mod cache;
mod compiling;
mod component;
mod contract;
mod engine;
mod fetch;
mod folder;
mod http;
mod inspect;
mod instance;
mod limits;
mod log;
mod manifest;
mod metered;
mod mounts;
mod places;
mod plugin;
mod pool;
mod reach;
mod scripts;
mod sources;
mod status;
#[cfg(test)]
mod tests;
mod wasi;
mod wasm;
mod watch;

pub use component::LoadError;
pub use engine::{Allocation, Compile, Engine};
pub use folder::{OpenError, Plugins, PluginsConfig};
pub use inspect::{Inspection, inspect};
pub use limits::Limits;
pub use manifest::{Grants, HttpGrant};
pub use metered::Metered;
pub use mounts::Mounts;
pub use plugin::{Counters, LastError, Plugin};
pub use status::{PluginState, PluginStatus};
