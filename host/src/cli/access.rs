//! The part of the command line that says who may use a server.

use clap::Args;
use host_people::SyncToken;
use url::Url;

use crate::access::{AccessConfig, Auth};

/// Who may use a server.
#[derive(Debug, Args)]
pub struct AccessArgs {
    /// Whether rooms, AI and the proxy of a hub want a session. Without this: `open` where only
    /// this machine reaches the server, `required` on every other address. A local server on
    /// another address needs --hub-url or `open`.
    #[arg(long, value_enum)]
    auth: Option<Auth>,
    /// One token that opens all rooms, and the only one that does; other routes do not know it.
    /// In the environment or in a file it is not seen in the list of processes.
    #[arg(
        long,
        value_name = "TOKEN|@FILE",
        env = "HOST_SYNC_TOKEN",
        hide_env_values = true,
        conflicts_with = "hub_url"
    )]
    sync_token: Option<SyncToken>,
    /// The hub whose sessions are wanted by every route but the root. Local mode only.
    #[arg(long, value_name = "URL")]
    hub_url: Option<Url>,
    /// Name by which the server is called, besides localhost and addresses; give it again for more
    /// of them. Only where no session is wanted: there, a web page could otherwise reach the server
    /// by a name of its own (DNS rebinding).
    #[arg(long = "allow-host", value_name = "NAME")]
    allowed_hosts: Vec<String>,
}

impl AccessArgs {
    /// What was said.
    pub fn config(&self) -> AccessConfig {
        AccessConfig {
            auth: self.auth,
            sync_token: self.sync_token.clone(),
            hub_url: self.hub_url.clone(),
            allowed_hosts: self.allowed_hosts.clone(),
        }
    }
}
