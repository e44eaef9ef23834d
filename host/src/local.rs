//! The server close to the data: workspaces from plugins, their tables, actions and rooms.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use host_ai::{Ai, AiConfig};
use host_auth::HubSessions;
use host_people::{Gate, Hosts, OpenRooms, Origins, SharedToken, SignedIn};
use host_plugins::ai::Models;
use host_plugins::{Compile, Plugins, PluginsConfig};
use host_workspace::Workspaces;
use serde_json::{Value, json};

use crate::access::{AccessConfig, Auth};
use crate::actions::WorkspaceActions;
use crate::data_folder::DataFolder;
use crate::models::ChatModels;
use crate::projects::Builds;
use crate::serve::{Listen, Running};
use crate::start_error::StartError;

/// The configuration of a local server.
#[derive(Debug, Clone)]
pub struct LocalConfig {
    /// Where to listen.
    pub address: SocketAddr,
    /// Folder of the plugins.
    pub plugins: PathBuf,
    /// How plugins are compiled.
    pub compile: Compile,
    /// Folder for everything that is stored.
    pub data_dir: PathBuf,
    /// Origins of web pages that may use the server.
    pub allowed_origins: Vec<String>,
    /// Who may use the server.
    pub access: AccessConfig,
    /// Limits of connections.
    pub connections: host_connections::Limits,
    /// Proxies that are trusted to name the client of a request.
    pub trusted_proxies: Vec<IpAddr>,
    /// Limits of rooms.
    pub rooms: host_sync::Limits,
    /// AI providers for chats and plugins, and the limits on their use.
    pub ai: AiConfig,
    /// Builds whose state `GET /` shows; empty except for `host dev`.
    pub builds: Builds,
}

/// A local server that is running.
pub struct LocalServer {
    /// The running server.
    pub running: Running,
    /// Its plugins.
    pub plugins: Plugins,
    /// The workspaces that they serve.
    pub workspaces: Workspaces,
    /// Its configuration.
    pub config: LocalConfig,
}

#[derive(Clone)]
struct Context {
    plugins: Plugins,
    workspaces: Workspaces,
    builds: Builds,
}

impl LocalServer {
    /// Opens the storage, loads the plugins, and only then listens, so that the server is complete
    /// when it answers its first request.
    pub async fn start(config: LocalConfig) -> Result<Self, StartError> {
        let auth = wanted(&config)?;
        let hosts = match auth {
            Auth::Open => Hosts::only(config.access.allowed_hosts.iter().map(String::as_str)),
            Auth::Required => Hosts::any(),
        };
        let origins = Origins::new(&config.allowed_origins, hosts)?;
        let data = DataFolder::open_after_others(&config.data_dir).await?;
        let rooms = data.rooms(config.rooms.clone())?;
        let workspaces = Workspaces::new(rooms.clone());
        let cache = data.path().join("cache");
        let ai_config = AiConfig { hub: config.access.hub_url.clone(), ..config.ai.clone() };
        let ai = Ai::open(&ai_config, data.path())?;
        let ai = ai.with_actions(Arc::new(WorkspaceActions(workspaces.clone())));
        let models: Arc<dyn Models> = Arc::new(ChatModels(ai.chat.clone()));
        let with = PluginsConfig::new(&config.plugins, cache).with_models(models);
        let with = PluginsConfig { compile: config.compile, ..with };
        let plugins = Plugins::open(with, workspaces.clone()).await?;
        let builds = config.builds.clone();
        let context = Context { plugins: plugins.clone(), workspaces: workspaces.clone(), builds };
        let root = Router::new().route("/", get(discovery)).with_state(context.clone());
        let rest = Router::new()
            .route("/plugins", get(status))
            .with_state(context)
            .nest_service("/workspaces", workspaces.router())
            .merge(workspaces.openapi_router())
            .merge(ai.router());
        let room_routes = |authorizer| host_sync::router("/rooms", rooms.clone(), authorizer);
        let access = &config.access;
        let routes = match (&access.hub_url, &access.sync_token) {
            (Some(hub), _) => {
                let gate = Gate::new(
                    &rooms,
                    Arc::new(HubSessions::new(hub.clone(), access.hub_secret.clone())?),
                );
                root.merge(gate.guard(rest)).merge(room_routes(Arc::new(SignedIn(gate))))
            }
            (None, Some(token)) => {
                root.merge(rest).merge(room_routes(Arc::new(SharedToken(token.clone()))))
            }
            (None, None) => root.merge(rest).merge(room_routes(Arc::new(OpenRooms))),
        };
        let listen = Listen {
            address: config.address,
            limits: &config.connections,
            proxies: &config.trusted_proxies,
        };
        let running = Running::start(listen, routes, origins, rooms, Some(plugins.clone()), data)
            .await?
            .with_ai(ai);
        Ok(Self { running, plugins, workspaces, config })
    }
}

/// Whether sessions are required: those of the hub, if one is configured. Other machines may use
/// the server without a session only if the operator says so.
fn wanted(config: &LocalConfig) -> Result<Auth, StartError> {
    let AccessConfig { auth, hub_url, .. } = &config.access;
    match (hub_url, auth) {
        (Some(_), _) => Ok(Auth::Required),
        (None, Some(Auth::Required)) => Err(StartError::NoHub),
        (None, Some(Auth::Open)) => Ok(Auth::Open),
        (None, None) if config.address.ip().is_loopback() => Ok(Auth::Open),
        (None, None) => Err(StartError::Unprotected { address: config.address }),
    }
}

/// Answers `GET /`: what the server is and serves. This route needs no token, so it shows plugin
/// authors what went wrong, but nothing about the contents of tables.
async fn discovery(State(context): State<Context>) -> Json<Value> {
    let definitions = context.workspaces.definitions();
    let actions = definitions.iter().flat_map(|definition| {
        definition.actions.iter().map(|action| format!("{}/{}", definition.id, action.path))
    });
    let plugins = context.plugins.status().into_iter().map(|plugin| {
        json!({
            "file": plugin.file,
            "state": plugin.state,
            "workspace": plugin.workspace,
            "stale": plugin.stale,
            "error": plugin.error,
        })
    });
    let mut discovery = json!({
        "name": "Epicenter Local",
        "version": env!("CARGO_PKG_VERSION"),
        "mode": "local",
        "workspaces": definitions.iter().map(|definition| &definition.id).collect::<Vec<_>>(),
        "actions": actions.collect::<Vec<_>>(),
        "plugins": plugins.collect::<Vec<_>>(),
    });
    let builds = context.builds.status();
    if !builds.is_empty() {
        discovery["builds"] = json!(builds);
    }
    Json(discovery)
}

async fn status(State(context): State<Context>) -> Json<Value> {
    Json(json!({ "data": context.plugins.status() }))
}
