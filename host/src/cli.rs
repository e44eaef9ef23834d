//! The command line.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use host_plugins::Compile;
use host_sync::Limits;

use crate::commands::Command;
use crate::hub::HubConfig;
use crate::local::LocalConfig;
use crate::projects::Builds;

pub mod access;
pub mod ai;
pub mod auth;
pub mod connections;
#[cfg(test)]
mod reference;

use access::AccessArgs;
use ai::AiArgs;
use auth::AuthArgs;
use connections::ConnectionArgs;

/// Epicenter Server: hosts workspaces that ship as WebAssembly plugins. Their tables are a REST API, their
/// documents are rooms that sync in real time, their actions are endpoints.
///
/// Without a command, it starts a server.
#[derive(Debug, Parser)]
#[command(version, about, args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// A command to run instead of a server.
    #[command(subcommand)]
    pub command: Option<Task>,
    /// Which server to start.
    #[arg(long, value_enum, default_value_t = Mode::Hub)]
    pub mode: Mode,
    /// The options of the server.
    #[command(flatten)]
    pub serve: ServeArgs,
}

impl Cli {
    /// The format of the log.
    pub fn log_format(&self) -> LogFormat {
        match &self.command {
            None => self.serve.log_format,
            Some(Task::Dev(dev)) => dev.serve.log_format,
            Some(Task::Command(_)) => LogFormat::Text,
        }
    }
}

/// What the binary does when it does not simply serve.
#[derive(Debug, Subcommand)]
pub enum Task {
    /// Starts a local server that builds plugins from source, and again whenever a source changes.
    Dev(Box<DevArgs>),
    /// A command that does its work and exits.
    #[command(flatten)]
    Command(Box<Command>),
}

/// `host dev`
#[derive(Debug, Args)]
pub struct DevArgs {
    /// Folders of the projects to serve; each holds the sources of one plugin.
    #[arg(default_value = ".")]
    pub projects: Vec<PathBuf>,
    /// The options of the server.
    #[command(flatten)]
    pub serve: ServeArgs,
}

/// The options of a server.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Port to listen on; 0 picks a free one.
    #[arg(long, env = "PORT", default_value_t = 3913)]
    pub port: u16,
    /// Address to listen on. The default accepts connections from this machine only.
    #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    pub host: IpAddr,
    /// Folder for everything that the server stores.
    #[arg(long, value_name = "DIR", default_value = "data")]
    pub data_dir: PathBuf,
    /// Folder with the plugins of the workspaces, which is watched for changes. Local mode only.
    #[arg(long, value_name = "DIR", default_value = "plugins")]
    pub plugins: PathBuf,
    /// Compile each plugin only once, with the optimizing compiler. By default a fast compiler goes first, so
    /// that a plugin is live sooner; with this flag, code written by strangers meets one compiler less. Local mode
    /// only.
    #[arg(long)]
    pub compile_once: bool,
    /// Format of the log, which goes to standard error.
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    /// Origin of web pages that may use this server; repeat it for more than one. Pages that the server
    /// itself serves are always allowed.
    #[arg(long = "allow-origin", value_name = "ORIGIN", default_value = "tauri://localhost")]
    pub allowed_origins: Vec<String>,
    /// Access.
    #[command(flatten, next_help_heading = "Who may use the server")]
    pub access: AccessArgs,
    /// Accounts.
    #[command(flatten, next_help_heading = "Accounts of a hub")]
    pub auth: AuthArgs,
    /// Limits of connections.
    #[command(flatten, next_help_heading = "Limits of connections")]
    pub connections: ConnectionArgs,
    /// Limits of rooms.
    #[command(flatten, next_help_heading = "Limits of rooms")]
    pub rooms: RoomArgs,
    /// AI providers, and limits on their use.
    #[command(flatten, next_help_heading = "AI")]
    pub ai: AiArgs,
}

/// Which server to start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// The server between devices: rooms, accounts, and AI with keys that stay on it.
    Hub,
    /// The server close to the data: serves the workspaces in the plugins folder.
    Local,
}

/// The format of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Lines for people to read.
    Text,
    /// One JSON object on each line, for programs.
    Json,
}

/// Limits of rooms. `host_sync::Limits` gives the reason for each default.
#[derive(Debug, Args)]
pub struct RoomArgs {
    /// Seconds that an unused room stays in memory.
    #[arg(long, value_name = "SECONDS", default_value_t = Limits::default().idle_timeout.as_secs_f64())]
    room_idle_timeout: f64,
    /// Most rooms in memory at once.
    #[arg(long, value_name = "COUNT", default_value_t = Limits::default().rooms)]
    max_rooms: usize,
    /// Most sockets open at once.
    #[arg(long, value_name = "COUNT", default_value_t = Limits::default().connections)]
    max_connections: usize,
    /// Most sockets open at once from one address.
    #[arg(long, value_name = "COUNT", default_value_t = Limits::default().connections_per_address)]
    max_connections_per_address: usize,
    /// Most sockets open at once of one account.
    #[arg(long, value_name = "COUNT", default_value_t = Limits::default().connections_per_account)]
    max_connections_per_account: usize,
    /// Largest message, and largest POSTed update, in bytes.
    #[arg(long, value_name = "BYTES", default_value_t = Limits::default().frame_bytes)]
    max_frame_bytes: usize,
    /// Most memory that one document may take, in bytes.
    #[arg(long, value_name = "BYTES", default_value_t = Limits::default().document_bytes)]
    max_document_bytes: usize,
    /// Most memory for a document's updates that wait for earlier ones, in bytes.
    #[arg(long, value_name = "BYTES", default_value_t = Limits::default().pending_bytes)]
    max_pending_bytes: usize,
    /// Most presence states in one room.
    #[arg(long, value_name = "COUNT", default_value_t = Limits::default().awareness.states)]
    max_awareness_states: usize,
    /// Largest presence state, in bytes.
    #[arg(long, value_name = "BYTES", default_value_t = Limits::default().awareness.state_bytes)]
    max_awareness_bytes: usize,
    /// Most bytes of all presence states in one room together.
    #[arg(long, value_name = "BYTES", default_value_t = Limits::default().awareness.bytes)]
    max_room_awareness_bytes: usize,
    /// Most bytes that are held for all connections together: answers that wait to be read, and messages that have
    /// not come as a whole. Beyond that, the connection that owes most is ended.
    #[arg(long, value_name = "BYTES", default_value_t = Limits::default().held_bytes)]
    max_held_bytes: usize,
    /// The same for the connections of one address.
    #[arg(long, value_name = "BYTES", default_value_t = Limits::default().held_bytes_per_address)]
    max_held_bytes_per_address: usize,
}

impl RoomArgs {
    fn limits(&self) -> Limits {
        let mut limits = Limits {
            // A negative number, or one that is too large for a duration, counts as zero.
            idle_timeout: Duration::try_from_secs_f64(self.room_idle_timeout).unwrap_or_default(),
            rooms: self.max_rooms,
            connections: self.max_connections,
            connections_per_address: self.max_connections_per_address,
            connections_per_account: self.max_connections_per_account,
            frame_bytes: self.max_frame_bytes,
            document_bytes: self.max_document_bytes,
            pending_bytes: self.max_pending_bytes,
            held_bytes: self.max_held_bytes,
            held_bytes_per_address: self.max_held_bytes_per_address,
            ..Limits::default()
        };
        limits.awareness.states = self.max_awareness_states;
        limits.awareness.state_bytes = self.max_awareness_bytes;
        limits.awareness.bytes = self.max_room_awareness_bytes;
        limits
    }
}

impl ServeArgs {
    /// The configuration of a local server.
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

    /// The configuration of a hub.
    pub fn hub(&self) -> anyhow::Result<HubConfig> {
        let mut accounts = self.auth.options(&self.data_dir)?;
        accounts.trusted_proxies.clone_from(&self.connections.trusted_proxies);
        accounts.server_secret = self.access.config().hub_secret;
        // One list: a page that may use the server may also sign people in, and vice versa.
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
