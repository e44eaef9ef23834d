//! Epicenter Server: hosts workspaces that ship as WebAssembly components.
//!
//! [`LocalServer`] runs close to the data: it loads workspaces from a folder of plugins and serves
//! their tables, actions and rooms. [`HubServer`] connects devices: it relays rooms between them.
//! Both are composed of independent crates (`host-sync`, `host-workspace`, `host-plugins`), so that
//! other kinds of servers can be, too.

mod access;
mod account_database;
mod actions;
pub mod cli;
pub mod commands;
mod data_folder;
pub mod dev;
mod hub;
mod local;
pub mod log;
mod models;
mod projects;
mod serve;
mod start_error;
pub mod style;
pub mod summary;
mod typescript;

pub use access::{AccessConfig, Auth};
pub use host_people::{AccountsOptions, Smtp, SyncToken};
pub use hub::{HubConfig, HubServer};
pub use local::{LocalConfig, LocalServer};
pub use serve::Running;
pub use start_error::StartError;
