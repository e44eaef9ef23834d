//! Plugins: workspaces whose logic is a WebAssembly component, scripts, or both.
//!
//! [`Plugins`] serves a folder: it loads each file, mounts its workspace, and follows changes. A
//! [`Plugin`] is one loaded file and implements [`Logic`](host_workspace::Logic), the boundary to
//! the rest of the server, which knows nothing about wasm.
//!
//! From the bottom up:
//!
//! 1. `limits` has all the numbers; `log` handles a plugin's log lines, `places` limits concurrent
//!    calls, `call` is one call and its permissions.
//! 2. `reach` is what a plugin may use beyond its workspace: the `manifest` that grants it, `http`
//!    and `fetch` for requests, `ai` for models.
//! 3. `runtime` is the interface to a plugin's code. `wasm` implements it for components, on top of
//!    `host-wasm`, which compiles them and pools their instances; `scripts` implements it for rhai.
//! 4. `calls` and `answers` enforce places, time limits and the contract for any runtime.
//! 5. `sources` knows which files make a plugin, and `plugin` loads one from them.
//! 6. `folder` follows changes, using `watch`; `inspect` describes plugins without serving them.

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
