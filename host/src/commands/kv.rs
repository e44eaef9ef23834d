//! `host kv`: the key-values of a workspace.

use anyhow::Result;
use clap::Subcommand;
use reqwest::{Method, Url};
use serde_json::Value;
use serde_json::value::RawValue;

use super::api::{Api, Kind, Sent, Target};
use super::input::read_value;
use super::output::Output;

/// `host kv`
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    target: Target,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Reads a value, or all values that are set.
    Get {
        /// The key.
        key: Option<String>,
    },
    /// Sets a value.
    Set {
        /// The key.
        key: String,
        /// The value: JSON, @FILE, or - for standard input; where the key holds text, the text
        /// itself will do.
        #[arg(allow_hyphen_values = true)]
        value: String,
    },
    /// Deletes a value.
    Delete {
        /// The key.
        key: String,
    },
}

pub(super) async fn run(args: Args) -> Result<()> {
    let answer: Box<RawValue> = args
        .target
        .with(async |api| match args.command {
            Command::Get { key: None } => {
                let workspace = api.workspace().await?;
                let url = api.route(&["workspaces", &workspace.id, "kv"])?;
                api.data(Method::GET, url, Sent::Nothing).await
            }
            Command::Get { key: Some(key) } => {
                let (url, _) = declared(api, &key).await?;
                api.data(Method::GET, url, Sent::Nothing).await
            }
            Command::Set { key, value } => {
                let (url, schema) = declared(api, &key).await?;
                let value = read_value(&value, &schema)?;
                api.data(Method::PUT, url, Sent::Json(value.to_string())).await
            }
            Command::Delete { key } => {
                let (url, _) = declared(api, &key).await?;
                api.data(Method::DELETE, url, Sent::Nothing).await
            }
        })
        .await?;
    Ok(Output::stdout(args.target.format).value(&answer)?)
}

/// A key's route and the schema of its value.
async fn declared(api: &Api, key: &str) -> Result<(Url, Value)> {
    let found = api.find(Kind::Key, key).await?;
    let url = api.route(&["workspaces", &found.workspace.id, "kv", &found.name])?;
    Ok((url, found.schema(Kind::Key)))
}
