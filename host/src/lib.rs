//! A server that hosts workspaces shipped as WASM components.
//!
//! [`LocalServer`] runs close to the data: it loads workspaces from a folder of plugins and serves
//! their tables, actions and rooms. [`HubServer`] coordinates devices: it relays rooms between
//! them. Both are put together from parts that stand on their own (`host-sync`, `host-workspace`,
//! `host-plugins`), so that a server of another shape can be, too.

pub mod cli;
mod hub;
mod local;
mod origins;
mod serve;
pub mod summary;

pub use hub::{HubConfig, HubServer};
pub use local::{LocalConfig, LocalServer};
pub use serve::{Running, StartError};
