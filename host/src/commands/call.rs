//! `host call`: runs an action.

use anyhow::{Context, Result};
use reqwest::Method;
use serde_json::Value;
use serde_json::value::RawValue;

use super::Usage;
use super::api::{Api, Kind, Sent, Target};
use super::input::Given;
use super::output::Output;

/// `host call`
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "host call [OPTIONS] <ACTION> [JSON|@FILE|-] [--FIELD VALUE]...",
    after_help = "An action is named by its path, or by workspace and path: blog/posts/publish. After \
        the name, every flag but --workspace is a field of its input (--author.name is a field of a \
        field); other options go before it."
)]
pub struct Args {
    #[command(flatten)]
    target: Target,
    /// Path of the action; then its input: as JSON, from a file or standard input, or as flags.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true, value_names = ["ACTION", "INPUT"])]
    arguments: Vec<String>,
}

pub(super) async fn run(args: Args) -> Result<()> {
    let mut given = Given::read(args.arguments)?;
    let action = given.word().ok_or_else(|| Usage::error("which action? host call ACTION"))?;
    let answer = args.target.with(async |api| call(api, &action, given).await).await?;
    Ok(Output::stdout(args.target.format).value(&answer)?)
}

async fn call(api: &Api, name: &str, mut given: Given) -> Result<Box<RawValue>> {
    let found = api.find_given(Kind::Action, name, &mut given).await?;
    let (workspace, path) = (&found.workspace, found.name.as_str());
    let action = workspace.action(path).context("the action was found a moment ago")?;
    let input = given.value(&format!("the input of {path}"), &action.input, None)?;
    if action.input.is_null() && input.is_some() {
        return Err(Usage::error(format!("{path} takes no input")));
    }
    let mut segments = vec!["workspaces", &workspace.id, "actions"];
    segments.extend(action.path.iter().map(String::as_str));
    let mut url = api.route(&segments)?;
    if action.kind == "query" {
        for (field, value) in members(path, input)? {
            url.query_pairs_mut().append_pair(&field, &value);
        }
        return api.data(Method::GET, url, Sent::Nothing).await;
    }
    // An action that takes an input is always sent one, if only an empty object.
    let input =
        input.or_else(|| (!action.input.is_null()).then(|| Value::Object(Default::default())));
    let sent = input.map_or(Sent::Nothing, |input| Sent::Json(input.to_string()));
    api.data(Method::POST, url, sent).await
}

/// The input of a query as the pairs of a query string. The server turns each text back into a value by the
/// schema.
fn members(path: &str, input: Option<Value>) -> Result<Vec<(String, String)>> {
    let text = |value: Value| match value {
        Value::String(text) => text,
        other => other.to_string(),
    };
    match input {
        None => Ok(Vec::new()),
        Some(Value::Object(fields)) => Ok(fields
            .into_iter()
            .flat_map(|(field, value)| {
                let values = match value {
                    Value::Array(values) => values,
                    one => vec![one],
                };
                values.into_iter().map(move |value| (field.clone(), text(value)))
            })
            .collect()),
        Some(_) => Err(Usage::error(format!("{path} is a query: its input is a JSON object"))),
    }
}
