//! The coordination server between devices: a relay of rooms.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};

use crate::origins::Origins;
use crate::serve::{DataFolder, Running, StartError};

/// What a hub is started with.
#[derive(Debug, Clone)]
pub struct HubConfig {
    /// Where to listen.
    pub address: SocketAddr,
    /// Folder for everything that is kept.
    pub data_dir: PathBuf,
    /// Origins of web pages that may use the server.
    pub allowed_origins: Vec<String>,
    /// Bounds on rooms.
    pub rooms: host_sync::Limits,
}

/// A hub that is running.
pub struct HubServer {
    /// The running server.
    pub running: Running,
    /// What it was started with.
    pub config: HubConfig,
}

impl HubServer {
    /// Opens the storage, and only then listens.
    pub async fn start(config: HubConfig) -> Result<Self, StartError> {
        let origins = Origins::new(&config.allowed_origins)?;
        let data = DataFolder::open(&config.data_dir)?;
        let rooms = data.rooms(config.rooms.clone())?;
        let routes = Router::new().route("/", get(discovery)).merge(host_sync::router(
            "/rooms",
            rooms.clone(),
            Arc::new(host_sync::Open),
        ));
        let running = Running::start(config.address, routes, origins, rooms, None, data).await?;
        Ok(Self { running, config })
    }
}

async fn discovery() -> Json<Value> {
    Json(json!({
        "name": "Epicenter Hub",
        "version": env!("CARGO_PKG_VERSION"),
        "mode": "hub",
    }))
}
