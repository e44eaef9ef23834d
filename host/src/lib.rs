//! A server that hosts workspaces shipped as WASM components.
//!
//! [`LocalServer`] runs close to the data: it loads workspaces from a folder of plugins and serves
//! their tables, actions and rooms. [`HubServer`] coordinates devices: it relays rooms between
//! them. Both are put together from parts that stand on their own (`host-sync`, `host-workspace`,
//! `host-plugins`), so that a server of another shape can be, too.

mod accounts;
mod actions;
mod admitted;
mod callers;
pub mod cli;
pub mod commands;
mod data_folder;
pub mod dev;
mod hosts;
mod hub;
mod local;
mod models;
mod origins;
mod people;
mod projects;
mod rooms;
mod serve;
mod session;
pub mod summary;

pub use accounts::{AccountsOptions, Smtp};
pub use hub::{HubConfig, HubServer};
pub use local::{LocalConfig, LocalServer};
pub use rooms::SyncToken;
pub use serve::{Running, StartError};
pub use session::{AccessConfig, Auth};
