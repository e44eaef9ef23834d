//! The flags that decide who may use a server.

use clap::Args;
use host_auth::ServerSecret;
use host_people::SyncToken;
use url::Url;

use crate::access::{AccessConfig, Auth};

/// Who may use a server.
#[derive(Debug, Args)]
pub struct AccessArgs {
    /// Whether a hub requires a session for rooms, AI and the proxy. By default `open` on an address that
    /// only this machine reaches, and `required` on every other. A local server on another address needs
    /// --hub-url or `open`.
    #[arg(long, value_enum)]
    auth: Option<Auth>,
    /// Shared token that opens all rooms, in place of sessions; other routes do not accept it. Put it in
    /// the environment or in a file, where the list of processes does not show it.
    #[arg(
        long,
        value_name = "TOKEN|@FILE",
        env = "HOST_SYNC_TOKEN",
        hide_env_values = true,
        conflicts_with = "hub_url"
    )]
    sync_token: Option<SyncToken>,
    /// Hub whose sessions every route but the root requires. Local mode only.
    #[arg(long, value_name = "URL")]
    hub_url: Option<Url>,
    /// Secret that a hub and its local servers share; give it to both. The hub then does not count what
    /// a local server asks about the sessions of its clients. Put it into the environment or a file to
    /// keep it out of the list of processes.
    #[arg(long, value_name = "SECRET|@FILE", env = "HOST_HUB_SECRET", hide_env_values = true)]
    hub_secret: Option<ServerSecret>,
    /// Host name under which the server is reached, besides localhost and IP addresses; repeat it for more
    /// than one. It counts only where no session is required: there, a web page could otherwise reach the
    /// server by a name of its own (DNS rebinding).
    #[arg(long = "allow-host", value_name = "NAME")]
    allowed_hosts: Vec<String>,
}

impl AccessArgs {
    /// The configuration that these flags describe.
    pub fn config(&self) -> AccessConfig {
        AccessConfig {
            auth: self.auth,
            sync_token: self.sync_token.clone(),
            hub_url: self.hub_url.clone(),
            hub_secret: self.hub_secret.clone(),
            allowed_hosts: self.allowed_hosts.clone(),
        }
    }
}
