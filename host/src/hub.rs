//! The server between devices: rooms, accounts, and AI.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use axum::routing::get;
use axum::{Json, Router};
use host_ai::proxy::{self, ProxyConfig};
use host_ai::{Ai, AiConfig};
use host_auth::Accounts;
use host_people::{AccountsOptions, Gate, Hosts, OpenRooms, Origins, OwnedRooms, SharedToken};
use host_sync::{Authorizer, Rooms};
use serde_json::{Value, json};

use crate::access::{AccessConfig, Auth};
use crate::data_folder::DataFolder;
use crate::serve::{Listen, Running};
use crate::start_error::StartError;

/// The configuration of a hub.
#[derive(Debug, Clone)]
pub struct HubConfig {
    /// Where to listen.
    pub address: SocketAddr,
    /// Folder for everything that is stored.
    pub data_dir: PathBuf,
    /// Origins of web pages that may use the server.
    pub allowed_origins: Vec<String>,
    /// Who may use the server.
    pub access: AccessConfig,
    /// Limits of connections.
    pub connections: host_connections::Limits,
    /// Limits of rooms.
    pub rooms: host_sync::Limits,
    /// Accounts.
    pub accounts: AccountsOptions,
    /// AI providers, and the limits on their use.
    pub ai: AiConfig,
}

/// A hub that is running.
pub struct HubServer {
    /// The running server.
    pub running: Running,
    /// Its configuration.
    pub config: HubConfig,
}

impl HubServer {
    /// Opens the storage, and only then listens. The process must have installed a TLS provider.
    pub async fn start(config: HubConfig) -> Result<Self, StartError> {
        let auth = config.auth();
        let origins = Origins::new(&config.allowed_origins, config.hosts(auth))?;
        let data = DataFolder::open_after_others(&config.data_dir).await?;
        let accounts = config.accounts.open(data.path(), config.address).await?;
        let rooms = data.rooms(config.rooms.clone())?;
        let ai = Ai::open(&config.ai, data.path())?;
        let gate = || Gate::new(&rooms, Arc::new(accounts.clone()));
        let gate = (auth == Auth::Required).then(gate);
        let proxy = ProxyConfig {
            providers: ai.providers.clone(),
            usage: ai.usage.clone(),
            callers: gate.clone().map(|gate| Arc::new(gate) as _),
            limits: config.ai.limits.clone(),
        };
        let mut chat = ai.router();
        if let Some(gate) = gate {
            chat = gate.guard(chat);
        }
        let routes = Router::new()
            .route("/", get(discovery))
            .merge(accounts.router())
            .merge(chat)
            .merge(proxy::router("/proxy", proxy))
            .merge(room_routes(&config, &data, &rooms, Arc::new(accounts))?);
        let listen = Listen {
            address: config.address,
            limits: &config.connections,
            proxies: &config.accounts.trusted_proxies,
        };
        let running = Running::start(listen, routes, origins, rooms, None, data).await?;
        let running = running.with_ai(ai);
        Ok(Self { running, config })
    }
}

impl HubConfig {
    /// Whether sessions are required. By default they are, unless only users of this machine can
    /// reach the hub. A public URL means that others can, through a proxy.
    pub(crate) fn auth(&self) -> Auth {
        let default = if self.is_public() { Auth::Required } else { Auth::Open };
        self.access.auth.unwrap_or(default)
    }

    pub(crate) fn is_public(&self) -> bool {
        !self.address.ip().is_loopback() || self.accounts.base_url.is_some()
    }

    fn hosts(&self, auth: Auth) -> Hosts {
        let own = self.accounts.base_url.as_ref().and_then(|url| url.host_str());
        let names = self.access.allowed_hosts.iter().map(String::as_str).chain(own);
        match auth {
            Auth::Open => Hosts::only(names),
            Auth::Required => Hosts::any(),
        }
    }
}

/// The routes of rooms: `--sync-token` and `--auth` say who may enter.
fn room_routes(
    config: &HubConfig,
    data: &DataFolder,
    rooms: &Rooms,
    accounts: Arc<Accounts>,
) -> Result<Router, StartError> {
    let authorizer: Arc<dyn Authorizer> = match (&config.access.sync_token, config.auth()) {
        (Some(token), _) => Arc::new(SharedToken(token.clone())),
        (None, Auth::Open) => Arc::new(OpenRooms),
        (None, Auth::Required) => {
            let owned = OwnedRooms::open(data.path(), rooms, accounts.clone(), accounts)
                .map_err(StartError::People)?;
            let routes = owned.router();
            return Ok(routes.merge(host_sync::router("/rooms", rooms.clone(), Arc::new(owned))));
        }
    };
    Ok(host_sync::router("/rooms", rooms.clone(), authorizer))
}

async fn discovery() -> Json<Value> {
    Json(json!({
        "name": "Epicenter Hub",
        "version": env!("CARGO_PKG_VERSION"),
        "mode": "hub",
    }))
}
