//! Plugins: workspaces whose meaning is a WebAssembly component, scripts, or both.
//!
//! [`Plugins`] serves what lies in a folder: it loads each file, mounts its workspace, and follows
//! what changes. A [`Plugin`] is one loaded file and implements
//! [`Logic`](host_workspace::Logic), the boundary to the rest of the server, which knows no wasm.
//!
//! From the bottom up:
//!
//! 1. `limits` has all the numbers; `log` is what a plugin says, `places` who may come in, `call` one call
//!    with what it may do.
//! 2. `reach` is what a plugin may use beyond its workspace: the `manifest` that grants it, `http` and
//!    `fetch` for requests, `ai` for models.
//! 3. `runtime` is what runs a plugin's code. `wasm` does for components, over `host-wasm`, which
//!    compiles them and pools their instances; `scripts` does for rhai.
//! 4. `calls` and `answers` hold whatever runs to its places, its time and its contract.
//! 5. `sources` says which files make a plugin, and `plugin` makes one of them.
//! 6. `folder` follows what changes, with `watch`; `inspect` looks at plugins without serving them.

mod answers;
mod call;
mod calls;
mod engine;
mod folder;
mod inspect;
mod limits;
mod log;
mod metered;
mod mounts;
mod places;
mod plugin;
mod random;
mod reach;
mod runtime;
mod scripts;
mod sources;
mod status;
#[cfg(test)]
mod tests;
mod wasm;
mod watch;

pub use calls::{Counters, LastError};
pub use engine::{Engine, compile_if_asked};
pub use folder::{OpenError, Plugins, PluginsConfig};
pub use host_wasm::{Allocation, Compile};
pub use inspect::{Inspection, inspect};
pub use limits::Limits;
pub use metered::Metered;
pub use mounts::Mounts;
pub use plugin::{LoadError, Plugin};
pub use reach::ai;
pub use reach::manifest::{Grants, HttpGrant};
pub use status::{PluginState, PluginStatus};
