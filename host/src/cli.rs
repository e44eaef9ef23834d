//! The command line.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use host_plugins::Compile;
use host_sync::Limits;

use crate::commands::Command;
use crate::dev::{Builds, DevArgs};
use crate::{HubConfig, LocalConfig};

pub mod access;
pub mod ai;
pub mod auth;
pub mod connections;

use access::AccessArgs;
use ai::AiArgs;
use auth::AuthArgs;
use connections::ConnectionArgs;

/// Hosts workspaces that ship as WASM components: tables as REST, documents as rooms that sync in
/// real time, actions as endpoints.
///
/// Without a command it starts a server.
#[derive(Debug, Parser)]
#[command(version, about, args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// Something else than a server.
    #[command(subcommand)]
    pub command: Option<Task>,
    /// Which server to start: `local` serves the workspaces in the plugins folder, `hub` relays
    /// rooms between devices.
    #[arg(long, value_enum, default_value_t = Mode::Hub)]
    pub mode: Mode,
    /// What the server is started with.
    #[command(flatten)]
    pub serve: ServeArgs,
}

impl Cli {
    /// How the log is written.
    pub fn log_format(&self) -> LogFormat {
        match &self.command {
            None => self.serve.log_format,
            Some(Task::Dev(dev)) => dev.serve.log_format,
            Some(Task::Command(_)) => LogFormat::Text,
        }
    }
}

/// Something else than a server of the usual kind.
#[derive(Debug, Subcommand)]
pub enum Task {
    /// Starts a local server that builds plugins from their sources, again whenever they change.
    Dev(Box<DevArgs>),
    /// What ends by itself.
    #[command(flatten)]
    Command(Box<Command>),
}

/// What a server is started with.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Port to listen on; 0 takes any that is free.
    #[arg(long, env = "PORT", default_value_t = 3913)]
    pub port: u16,
    /// Address to listen on. The default is reached from this machine only.
    #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    pub host: IpAddr,
    /// Folder for everything that is kept.
    #[arg(long, value_name = "DIR", default_value = "data")]
    pub data_dir: PathBuf,
    /// Folder of the workspaces' .wasm files; it is watched for changes. Local mode only.
    #[arg(long, value_name = "DIR", default_value = "plugins")]
    pub plugins: PathBuf,
    /// Compiles plugins once, for speed, where otherwise a quicker compiler comes first: they are live
    /// later, and what strangers wrote meets one compiler less. Local mode only.
    #[arg(long)]
    pub compile_once: bool,
    /// How the log is written, on standard error: `text` for people, `json` with one object on each line
    /// for programs.
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    /// Origin of web pages that may use this server; give it again for more of them. Pages that
    /// the server itself serves always may.
    #[arg(long = "allow-origin", value_name = "ORIGIN", default_value = "tauri://localhost")]
    pub allowed_origins: Vec<String>,
    /// Who may use the server.
    #[command(flatten, next_help_heading = "Who may use the server")]
    pub access: AccessArgs,
    /// Accounts.
    #[command(flatten, next_help_heading = "Accounts of a hub")]
    pub auth: AuthArgs,
    /// Bounds on connections.
    #[command(flatten, next_help_heading = "Limits of connections")]
    pub connections: ConnectionArgs,
    /// Bounds on rooms.
    #[command(flatten, next_help_heading = "Limits of rooms")]
    pub rooms: RoomArgs,
    /// AI providers, and bounds on their use.
    #[command(flatten, next_help_heading = "AI")]
    pub ai: AiArgs,
}

/// Which server to start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// The coordination server between devices.
    Hub,
    /// The server close to the data.
    Local,
}

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Lines to read.
    Text,
    /// An object on each line.
    Json,
}

/// Bounds on rooms; `Limits` of `host-sync` says why the defaults are what they are.
#[derive(Debug, Args)]
pub struct RoomArgs {
    /// Seconds that a room stays in memory when nobody uses it.
    #[arg(long, value_name = "SECONDS", default_value_t = Limits::default().idle_timeout.as_secs_f64())]
    room_idle_timeout: f64,
    /// Rooms in memory at once.
    #[arg(long, value_name = "COUNT", default_value_t = Limits::default().rooms)]
    max_rooms: usize,
    /// Sockets at once.
    #[arg(long, value_name = "COUNT", default_value_t = Limits::default().connections)]
    max_connections: usize,
    /// Sockets at once from one address.
    #[arg(long, value_name = "COUNT", default_value_t = Limits::default().connections_per_address)]
    max_connections_per_address: usize,
    /// Bytes of one message, and of a POSTed update.
    #[arg(long, value_name = "BYTES", default_value_t = Limits::default().frame_bytes)]
    max_frame_bytes: usize,
    /// Memory of one document.
    #[arg(long, value_name = "BYTES", default_value_t = Limits::default().document_bytes)]
    max_document_bytes: usize,
    /// Memory of a document's updates that wait for earlier ones.
    #[arg(long, value_name = "BYTES", default_value_t = Limits::default().pending_bytes)]
    max_pending_bytes: usize,
    /// Presence states in one room.
    #[arg(long, value_name = "COUNT", default_value_t = Limits::default().awareness.states)]
    max_awareness_states: usize,
    /// Bytes of one presence state.
    #[arg(long, value_name = "BYTES", default_value_t = Limits::default().awareness.state_bytes)]
    max_awareness_bytes: usize,
}

impl RoomArgs {
    fn limits(&self) -> Limits {
        let mut limits = Limits {
            // A day at least fits; what is negative or no number counts as none.
            idle_timeout: Duration::try_from_secs_f64(self.room_idle_timeout).unwrap_or_default(),
            rooms: self.max_rooms,
            connections: self.max_connections,
            connections_per_address: self.max_connections_per_address,
            frame_bytes: self.max_frame_bytes,
            document_bytes: self.max_document_bytes,
            pending_bytes: self.max_pending_bytes,
            ..Limits::default()
        };
        limits.awareness.states = self.max_awareness_states;
        limits.awareness.state_bytes = self.max_awareness_bytes;
        limits
    }
}

impl ServeArgs {
    /// What the command line asks of a local server.
    pub fn local(&self) -> LocalConfig {
        LocalConfig {
            address: self.address(),
            plugins: self.plugins.clone(),
            compile: if self.compile_once { Compile::Once } else { Compile::Twice },
            data_dir: self.data_dir.clone(),
            allowed_origins: self.allowed_origins.clone(),
            access: self.access.config(),
            connections: self.connections.limits(),
            trusted_proxies: self.connections.trusted_proxies.clone(),
            rooms: self.rooms.limits(),
            ai: self.ai.config(),
            builds: Builds::default(),
        }
    }

    /// What the command line asks of a hub.
    pub fn hub(&self) -> anyhow::Result<HubConfig> {
        let mut accounts = self.auth.options(&self.data_dir)?;
        accounts.trusted_proxies.clone_from(&self.connections.trusted_proxies);
        // One list: a page that may use the server may sign people in, and the other way around.
        accounts.trusted_origins.extend(self.allowed_origins.iter().cloned());
        Ok(HubConfig {
            address: self.address(),
            data_dir: self.data_dir.clone(),
            allowed_origins: accounts.trusted_origins.clone(),
            access: self.access.config(),
            connections: self.connections.limits(),
            rooms: self.rooms.limits(),
            accounts,
            ai: self.ai.config(),
        })
    }

    fn address(&self) -> SocketAddr {
        SocketAddr::new(self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}
