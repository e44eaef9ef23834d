//! The query strings of lists.

use super::filters::{flag, known};
use super::{Failure, filters, query_pairs};
use crate::definition::{Issue, TableDefinition};
use crate::query::{MAX_LIMIT, Order, Query};

/// What the query string of a list asks for.
#[derive(Debug, Default)]
pub(super) struct Parameters {
    /// The table's name.
    pub table: String,
    pub query: Query,
    /// The members of each row that are wanted; none for all.
    pub fields: Option<Vec<String>>,
    /// Whether to count all rows that the filters select.
    pub count: bool,
    /// Whether the invalid rows are wanted, and not the others.
    pub invalid: bool,
}

impl Parameters {
    pub const OF_LISTS: &[&str] =
        &["limit", "cursor", "sort", "filter", "fields", "count", "invalid", "refused"];

    /// Reads a query string; none when there are no parameters. Names that are not
    /// `allowed` are refused: a misspelt filter must not select everything.
    pub fn read(
        table: Option<&TableDefinition>,
        query: &str,
        allowed: &[&str],
    ) -> Result<Option<Self>, Failure> {
        let mut pairs = query_pairs(query)?;
        // `token` is for the code that checks sessions.
        pairs.retain(|(name, _)| name != "token");
        let Some(table) = table.filter(|_| !pairs.is_empty()) else { return Ok(None) };
        let mut parameters = Self { table: table.name.clone(), ..Self::default() };
        let mut issues = Vec::new();
        for (at, (name, value)) in pairs.iter().enumerate() {
            let kind = name.split('[').next().unwrap_or_default();
            let read = if !allowed.contains(&kind) {
                Err(format!("is no parameter here; there are {}", allowed.join(", ")))
            } else if kind != "filter" && pairs[..at].iter().any(|(other, _)| other == name) {
                Err("is given twice".into())
            } else {
                parameters.read_one(table, name, value)
            };
            issues.extend(read.err().map(|message| Issue::at(name, message)));
        }
        if issues.is_empty() {
            let Query { filters, sort, .. } = &parameters.query;
            if parameters.invalid
                && !(filters.is_empty() && sort.is_empty() && parameters.fields.is_none())
            {
                let message = "goes without filter, sort and fields: an invalid row has no fields";
                issues.push(Issue::at("invalid", message));
            }
        }
        if issues.is_empty() { Ok(Some(parameters)) } else { Err(Failure::parameters(issues)) }
    }

    fn read_one(&mut self, table: &TableDefinition, name: &str, value: &str) -> Result<(), String> {
        match name {
            "limit" => match value.parse() {
                Ok(limit) if limit <= MAX_LIMIT as u32 => self.query.limit = Some(limit),
                _ => {
                    return Err(format!(
                        "must be a number from 0 to {MAX_LIMIT}, and is {value:?}"
                    ));
                }
            },
            "cursor" => self.query.cursor = Some(value.to_owned()),
            "sort" => {
                self.query.sort = value
                    .split(',')
                    .map(|key| match key.strip_prefix('-') {
                        Some(field) => Order::new(field, true).on(table),
                        None => Order::new(key, false).on(table),
                    })
                    .collect();
                known(table, self.query.sort.iter().map(|order| order.field.as_str()))?;
            }
            "fields" => {
                known(table, value.split(','))?;
                self.fields = Some(value.split(',').map(str::to_owned).collect());
            }
            "count" => self.count = flag(value)?,
            "invalid" => self.invalid = flag(value)?,
            // Rows that were refused are no rows of the table; see `refused`.
            "refused" => drop(flag(value)?),
            _ => self.query.filters.push(filters::read(table, name, value)?),
        }
        Ok(())
    }
}
