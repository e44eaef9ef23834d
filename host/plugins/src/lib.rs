//! Plugins: workspaces whose meaning is a WebAssembly component.
//!
//! [`Plugins`] serves what lies in a folder: it loads each file, mounts its workspace, and follows
//! what changes. A [`Plugin`] is one loaded file and implements
//! [`Logic`](host_workspace::Logic), the boundary to the rest of the server, which knows no wasm.
//!
//! The way of a file: `component` turns its bytes into a component, or `cache` has one compiled
//! before; `contract` finds out which version of the contract it was built for and resolves its
//! imports; `plugin` asks for its definition. The way of a call: `pool` finds it a place and an
//! instance, `instance` is what its guest may do, `engine` holds it to its time, `limits` has
//! all the numbers.

mod cache;
mod component;
mod contract;
mod engine;
mod folder;
mod instance;
mod limits;
mod log;
mod mounts;
mod plugin;
mod pool;
mod status;
#[cfg(test)]
mod tests;
mod wasi;
mod watch;

pub use component::LoadError;
pub use engine::{Allocation, Engine};
pub use folder::{OpenError, Plugins, PluginsConfig};
pub use limits::Limits;
pub use mounts::Mounts;
pub use plugin::{Counters, LastError, Plugin};
pub use status::{PluginState, PluginStatus};
