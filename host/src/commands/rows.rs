//! `host rows`: the rows of a table.

use anyhow::Result;
use clap::Subcommand;
use reqwest::{Method, StatusCode, Url};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::Usage;
use super::api::{Api, Found, Kind, RequestRefused, Sent, Target};
use super::input::{self, Given};
use super::output::Output;

/// Rows of one request. They are held in memory, here and as text in the server; with a thousand, a request is
/// sent every 20 ms or so.
const PAGE: u64 = 1000;

/// How often a change to a part of a field is tried while others change the same row.
const TRIES: usize = 5;

/// `host rows`
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    target: Target,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Lists the rows, or those that the options select.
    List {
        /// Name of the table.
        table: String,
        #[command(flatten)]
        filters: Filters,
        /// Fields to sort by, most significant first; `-` before a field sorts it in descending order.
        #[arg(long, value_name = "FIELDS", allow_hyphen_values = true)]
        sort: Option<String>,
        /// Most rows to list.
        #[arg(long, value_name = "COUNT")]
        limit: Option<u64>,
        /// Where to continue: the cursor that the page before ended with.
        #[arg(long)]
        cursor: Option<String>,
        /// Fields to show of each row.
        #[arg(long, value_name = "FIELDS")]
        fields: Option<String>,
        /// List the rows that are not valid, with their issues, instead of the valid ones.
        #[arg(long)]
        invalid: bool,
    },
    /// Counts the rows.
    Count {
        /// Name of the table.
        table: String,
        #[command(flatten)]
        filters: Filters,
        /// Count the rows that are not valid instead of the valid ones.
        #[arg(long)]
        invalid: bool,
    },
    /// Reads one row.
    Get {
        /// Name of the table.
        table: String,
        /// Id of the row.
        id: String,
    },
    /// Creates a row, or replaces the one with its id.
    #[command(
        override_usage = "host rows set [OPTIONS] <TABLE> [JSON|@FILE|-] [--FIELD VALUE]...",
        after_help = "Of an array of rows, either all are written or none. A row without an id is \
            given one. After the table's name, every flag but --workspace is a field (--author.name is a \
            field of a field); other options go before it."
    )]
    Set {
        /// Name of the table; then the row: as JSON, from a file or standard input, or as flags.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true, value_names = ["TABLE", "ROW"])]
        arguments: Vec<String>,
    },
    /// Sets fields of a row; the other fields stay as they are.
    #[command(
        override_usage = "host rows update [OPTIONS] <TABLE> <ID> [JSON|@FILE|-] [--FIELD VALUE]...",
        after_help = "After the table's name, every flag but --workspace is a field (--author.name is a \
            field of a field, whose other fields stay as they are); other options go before it."
    )]
    Update {
        /// Name of the table and id of the row; then the fields: as JSON, from a file or standard input, or
        /// as flags.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true, value_names = ["TABLE", "ID", "FIELDS"])]
        arguments: Vec<String>,
    },
    /// Deletes a row, or those that a filter selects.
    Delete {
        /// Name of the table.
        table: String,
        /// Id of the row.
        #[arg(required_unless_present = "filters", conflicts_with = "filters")]
        id: Option<String>,
        #[command(flatten)]
        filters: Filters,
    },
}

/// Conditions on rows.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Filters {
    /// Condition that rows must meet: `views=3`, or with an operator `views[gte]=3`. The operators are eq, ne,
    /// gt, gte, lt, lte, in, contains, prefix and exists. Of several conditions, all must hold.
    #[arg(long = "filter", value_name = "FIELD[OP]=VALUE", value_parser = condition)]
    filters: Vec<(String, String)>,
}

/// A condition as the parameter that REST has for it.
fn condition(text: &str) -> Result<(String, String), String> {
    let wrong = || "write it like views=3 or views[gte]=3".to_owned();
    let (name, value) = text.split_once('=').ok_or_else(wrong)?;
    let name = match name.split_once('[') {
        Some((field, operator)) if operator.ends_with(']') && !field.is_empty() => {
            format!("filter[{field}][{operator}")
        }
        None if !name.is_empty() && !name.contains(']') => format!("filter[{name}]"),
        _ => return Err(wrong()),
    };
    Ok((name, value.to_owned()))
}

pub(super) async fn run(args: Args) -> Result<()> {
    let output = || Output::stdout(args.target.format);
    let target = &args.target;
    match args.command {
        Command::List { table, filters, sort, limit, cursor, fields, invalid } => {
            let mut parameters = filters.filters;
            parameters.extend(sort.map(|sort| ("sort".into(), sort)));
            parameters.extend(fields.map(|fields| ("fields".into(), fields)));
            let selection = Selection { parameters, invalid };
            target
                .with(async |api| list(api, &table, selection, limit, cursor, output()).await)
                .await
        }
        Command::Count { table, filters, invalid } => {
            let selection = Selection { parameters: filters.filters, invalid };
            let count = async |api: &Api| selection.count(api, table_of(api, &table).await?).await;
            Ok(output().print(target.with(count).await?)?)
        }
        Command::Get { table, id } => {
            let row = async |api: &Api| {
                let url = row_of(api, &table, &id).await?;
                api.data::<Box<RawValue>>(Method::GET, url, Sent::Nothing).await
            };
            Ok(output().value(&target.with(row).await?)?)
        }
        Command::Set { arguments } => {
            let mut given = Given::read(arguments)?;
            let table =
                given.word().ok_or_else(|| Usage::error("which table? host rows set TABLE"))?;
            pipe(&mut given);
            let set = async |api: &Api| {
                let found = api.find_given(Kind::Table, &table, &mut given).await?;
                let url = found.url(api, &[])?;
                let schema = found.schema(Kind::Table);
                let row = given.value(&format!("table {}", found.name), &schema, None)?;
                let row = row.ok_or_else(|| Usage::error("no row is given"))?;
                api.data::<Box<RawValue>>(Method::POST, url, Sent::Json(row.to_string())).await
            };
            Ok(output().value(&target.with(set).await?)?)
        }
        Command::Update { arguments } => {
            let mut given = Given::read(arguments)?;
            let (Some(table), Some(id)) = (given.word(), given.word()) else {
                return Err(Usage::error("which row? host rows update TABLE ID"));
            };
            pipe(&mut given);
            let update = async |api: &Api| {
                let found = api.find_given(Kind::Table, &table, &mut given).await?;
                let url = found.url(api, &[&id])?;
                let schema = found.schema(Kind::Table);
                let what = format!("table {}", found.name);
                let parts = given.has_parts(&schema);
                let given = given.inline()?;
                let mut more = 1..TRIES;
                loop {
                    // A field is written whole, so parts of it are laid over what was read, and the write is
                    // made only if the row is still the version that was read.
                    let row = match parts {
                        true => Some(api.version::<Value>(url.clone()).await?),
                        false => None,
                    };
                    let before = row.as_ref().map(|(row, _)| row);
                    let fields = given.clone().value(&what, &schema, before)?;
                    let fields = fields.ok_or_else(|| Usage::error("no fields are given"))?;
                    let sent = match row {
                        Some((_, tag)) => Sent::JsonFor(fields.to_string(), tag),
                        None => Sent::Json(fields.to_string()),
                    };
                    match api.data::<Box<RawValue>>(Method::PUT, url.clone(), sent).await {
                        Err(error) if is_overtaken(&error) && more.next().is_some() => {}
                        done => return done,
                    }
                }
            };
            Ok(output().value(&target.with(update).await?)?)
        }
        Command::Delete { table, id, filters } => {
            let delete = async |api: &Api| {
                let url = match &id {
                    Some(id) => row_of(api, &table, id).await?,
                    None => {
                        let mut url = table_of(api, &table).await?;
                        url.query_pairs_mut().extend_pairs(&filters.filters);
                        url
                    }
                };
                api.data::<Box<RawValue>>(Method::DELETE, url, Sent::Nothing).await
            };
            Ok(output().value(&target.with(delete).await?)?)
        }
    }
}

/// Whether somebody else changed the row first.
fn is_overtaken(error: &anyhow::Error) -> bool {
    let refused = error.downcast_ref::<RequestRefused>();
    refused.is_some_and(|refused| refused.status == StatusCode::PRECONDITION_FAILED)
}

/// A table's route.
pub async fn table_of(api: &Api, table: &str) -> Result<Url> {
    api.find(Kind::Table, table).await?.url(api, &[])
}

async fn row_of(api: &Api, table: &str, id: &str) -> Result<Url> {
    api.find(Kind::Table, table).await?.url(api, &[id])
}

impl Found {
    /// The route of a table, or of what is below it.
    pub fn url(&self, api: &Api, below: &[&str]) -> Result<Url> {
        let table = ["workspaces", &self.workspace.id, "tables", &self.name];
        api.route(&[&table, below].concat())
    }
}

/// Reads the row from standard input when the command line has neither JSON nor fields.
fn pipe(given: &mut Given) {
    if given.words.is_empty() && given.fields.is_empty() && input::is_piped() {
        given.words.push("-".to_owned());
    }
}

/// Which rows of a table.
#[derive(Debug, Clone)]
pub struct Selection {
    /// As REST takes them.
    parameters: Vec<(String, String)>,
    invalid: bool,
}

#[derive(Deserialize)]
struct Page {
    data: Vec<Box<RawValue>>,
    next: Option<String>,
}

impl Selection {
    /// All valid rows, or all that are not valid.
    pub fn of(invalid: bool) -> Self {
        Self { parameters: Vec::new(), invalid }
    }

    /// Counts them.
    pub async fn count(&self, api: &Api, mut url: Url) -> Result<u64> {
        #[derive(Deserialize)]
        struct Counted {
            count: u64,
        }
        url.query_pairs_mut()
            .append_pair("limit", "0")
            .append_pair("count", "true")
            .append_pair("invalid", if self.invalid { "true" } else { "false" })
            .extend_pairs(&self.parameters);
        let answer = api.send(Method::GET, url, Sent::Nothing).await?;
        Ok(serde_json::from_slice::<Counted>(&answer)?.count)
    }

    /// Passes the rows to `row` one by one, at most `limit` of them. Returns the cursor of the rest, if there
    /// are more.
    pub async fn each(
        &self,
        api: &Api,
        url: &Url,
        limit: Option<u64>,
        mut cursor: Option<String>,
        mut row: impl FnMut(Box<RawValue>) -> Result<()>,
    ) -> Result<Option<String>> {
        let mut left = limit.unwrap_or(u64::MAX);
        loop {
            let mut url = url.clone();
            url.query_pairs_mut()
                .append_pair("limit", &left.min(PAGE).to_string())
                .append_pair("invalid", if self.invalid { "true" } else { "false" })
                .extend_pairs(&self.parameters)
                .extend_pairs(cursor.iter().map(|cursor| ("cursor", cursor)));
            let answer = api.send(Method::GET, url, Sent::Nothing).await?;
            let page: Page = serde_json::from_slice(&answer)?;
            left = left.saturating_sub(page.data.len() as u64);
            let none = page.data.is_empty();
            page.data.into_iter().try_for_each(&mut row)?;
            match page.next {
                Some(next) if left > 0 && !none => cursor = Some(next),
                next => return Ok(next),
            }
        }
    }
}

async fn list(
    api: &Api,
    table: &str,
    selection: Selection,
    limit: Option<u64>,
    cursor: Option<String>,
    mut output: Output<impl std::io::Write>,
) -> Result<()> {
    let url = table_of(api, table).await?;
    let next = selection.each(api, &url, limit, cursor, |row| Ok(output.member(&row)?)).await?;
    output.end()?;
    if let Some(next) = next {
        // On standard error: a program that reads the rows gets nothing but rows.
        anstream::eprintln!("there are more rows: --cursor {next}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_those_of_rest() {
        let good = [
            ("views=3", ("filter[views]", "3")),
            ("views[gte]=3", ("filter[views][gte]", "3")),
            ("title=a=b", ("filter[title]", "a=b")),
            ("title=", ("filter[title]", "")),
        ];
        for (text, (name, value)) in good {
            assert_eq!(condition(text), Ok((name.to_owned(), value.to_owned())), "{text}");
        }
        for text in ["", "views", "=3", "[gte]=3", "views[gte=3", "views]=3"] {
            assert!(condition(text).is_err(), "{text}");
        }
    }
}
