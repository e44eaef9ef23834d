//! Who may use a server, as configured.

use clap::ValueEnum;
use host_auth::ServerSecret;
use host_people::SyncToken;
use url::Url;

/// Who may use a server.
#[derive(Debug, Clone, Default)]
pub struct AccessConfig {
    /// Whether a session is required; by default that depends on who can reach the server.
    pub auth: Option<Auth>,
    /// A token that opens all rooms, and the only one that does.
    pub sync_token: Option<SyncToken>,
    /// The hub whose sessions a local server requires.
    pub hub_url: Option<Url>,
    /// The secret that a hub and its local servers share.
    pub hub_secret: Option<ServerSecret>,
    /// Names that the server answers to where no session is required.
    pub allowed_hosts: Vec<String>,
}

/// Whether rooms, AI and the proxy require a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Auth {
    /// Everybody who can reach the server may do everything.
    Open,
    /// Only people who are signed in.
    Required,
}
