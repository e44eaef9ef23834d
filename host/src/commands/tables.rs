//! `host tables`: lists the tables.

use anyhow::Result;
use serde_json::json;

use super::api::{Api, Target};
use super::output::Output;
use super::rows::Selection;

/// `host tables`
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    target: Target,
}

pub(super) async fn run(args: Args) -> Result<()> {
    let tables = args.target.with(tables).await?;
    Ok(Output::stdout(args.target.format).print(tables)?)
}

async fn tables(api: &Api) -> Result<Vec<serde_json::Value>> {
    let mut tables = Vec::new();
    for workspace in api.workspaces().await? {
        for (name, table) in &workspace.tables {
            let url = api.route(&["workspaces", &workspace.id, "tables", name])?;
            let count = async |invalid| Selection::of(invalid).count(api, url.clone()).await;
            let fields = table["schema"]["properties"].as_object().into_iter().flatten();
            tables.push(json!({
                "workspace": workspace.id,
                "table": name,
                "rows": count(false).await?,
                "invalid": count(true).await?,
                "fields": fields.map(|(field, _)| field).collect::<Vec<_>>(),
            }));
        }
    }
    Ok(tables)
}
