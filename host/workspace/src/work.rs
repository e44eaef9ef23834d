//! What writers do, each in one transaction.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::definition::Issue;
use crate::logic::ActionError;
use crate::query::Filter;
use crate::tag::Condition;
use crate::transaction::{MAX_WRITES, Transaction, row_id};
use crate::workspace::Error;

/// Something to be done in a transaction. It is done again when somebody was faster.
pub(crate) enum Work<'a> {
    /// Create a row or replace it whole.
    Put { table: &'a str, id: &'a str, row: Value, condition: Condition },
    /// Create or replace many rows, all or none.
    PutAll { table: &'a str, rows: Vec<Value> },
    /// Lay fields over a row.
    Update { table: &'a str, id: &'a str, fields: Value, condition: Condition },
    /// Delete a row.
    Delete { table: &'a str, id: &'a str, condition: Condition },
    /// Delete the valid rows for which all filters hold.
    DeleteAll { table: &'a str, filters: Vec<Filter> },
    /// Replace the text of a document that is attached to a row.
    SetText { table: &'a str, id: &'a str, document: &'a str, text: String, condition: Condition },
    /// Set the value of a key.
    KvSet { key: &'a str, value: Value, condition: Condition },
    /// Forget the value of a key.
    KvDelete { key: &'a str, condition: Condition },
    /// Run a mutation with valid input.
    Run { path: &'a str, input: String },
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Done {
    /// The row, the rows, or the action's result, as JSON text.
    pub text: String,
    /// Whether all rows that were written are new.
    pub created: bool,
}

impl Work<'_> {
    pub async fn run(&self, transaction: &Arc<Transaction>) -> Result<Done, Error> {
        match self {
            Self::Put { table, id, row, condition } => {
                let before = transaction.read(table, id);
                if !condition.holds(transaction.tag(table, id).as_deref()) {
                    return Err(Error::stale(id));
                }
                let created = before.is_none();
                let text = transaction.set(table, id, row.clone(), before).await?;
                Ok(Done { text, created })
            }
            Self::PutAll { table, rows } => put_all(transaction, table, rows).await,
            Self::Update { table, id, fields, condition } => {
                demand(transaction, table, id, condition)?;
                let text = transaction.merge(table, id, fields.clone()).await?;
                Ok(Done { text, created: false })
            }
            Self::Delete { table, id, condition } => {
                demand(transaction, table, id, condition)?;
                match transaction.remove(table, id).await? {
                    true => Ok(Done::default()),
                    false => Err(ActionError::NotFound.into()),
                }
            }
            Self::DeleteAll { table, filters } => {
                let ids = transaction.ids(table, filters)?;
                at_most(ids.len())?;
                for id in &ids {
                    transaction.remove(table, id).await?;
                }
                Ok(Done { text: json!({ "deleted": ids.len() }).to_string(), created: false })
            }
            Self::SetText { table, id, document, text, condition } => {
                let guid = transaction.put_text(table, id, document, text, condition).await?;
                let text = json!({ "text": text, "guid": guid }).to_string();
                Ok(Done { text, created: false })
            }
            Self::KvSet { key, value, condition } => {
                if !condition.holds(transaction.kv_tag(key).as_deref()) {
                    return Err(Error::stale(key));
                }
                let text = transaction.kv_put(key, value.to_string()).await?;
                Ok(Done { text, created: false })
            }
            Self::KvDelete { key, condition } => {
                let tag = transaction.kv_tag(key).ok_or(ActionError::NotFound)?;
                if !condition.holds(Some(&tag)) {
                    return Err(Error::stale(key));
                }
                transaction.kv_delete(key).await?;
                Ok(Done::default())
            }
            Self::Run { path, input } => {
                let logic = transaction.logic();
                let result = logic.run_action(path, input.clone(), transaction.clone()).await?;
                Ok(Done { text: result?, created: false })
            }
        }
    }
}

/// Holds a condition against a row that is there; that one is not is another's to say.
fn demand(
    transaction: &Transaction,
    table: &str,
    id: &str,
    condition: &Condition,
) -> Result<(), Error> {
    match transaction.tag(table, id) {
        Some(tag) if !condition.holds(Some(&tag)) => Err(Error::stale(id)),
        _ => Ok(()),
    }
}

fn at_most(rows: usize) -> Result<(), Error> {
    if rows > MAX_WRITES { Err(Error::TooMany { rows, limit: MAX_WRITES }) } else { Ok(()) }
}

/// Issues begin their path with the position of the row.
async fn put_all(
    transaction: &Arc<Transaction>,
    table: &str,
    rows: &[Value],
) -> Result<Done, Error> {
    at_most(rows.len())?;
    let mut issues = Vec::new();
    let mut ids = Vec::with_capacity(rows.len());
    let mut known = HashMap::with_capacity(rows.len());
    for (at, row) in rows.iter().enumerate() {
        match row_id(row) {
            Ok(id) => {
                if let Some(first) = known.insert(id.clone(), at) {
                    let message = format!("is also that of row {first}");
                    issues.push(Issue::at("id", message).within(at));
                }
                ids.push(id);
            }
            Err(error) => issues.extend(of_row(at, error)?),
        }
    }
    if !issues.is_empty() {
        return Err(ActionError::Invalid(issues).into());
    }
    let parsed = transaction.parse(table, rows).await?;
    for (at, row) in parsed.iter().enumerate() {
        let row = row.as_ref().err().into_iter().flatten();
        issues.extend(row.map(|issue| issue.clone().within(at)));
    }
    if !issues.is_empty() {
        return Err(ActionError::Invalid(issues).into());
    }
    let mut text = String::from("[");
    let mut created = !ids.is_empty();
    for (at, (id, row)) in ids.iter().zip(parsed.into_iter().flatten()).enumerate() {
        let before = transaction.read(table, id);
        created &= before.is_none();
        if at > 0 {
            text.push(',');
        }
        text.push_str(&row);
        if let Err(error) = transaction.take(table, id, row, before).await.map_err(Error::from) {
            return Err(match error {
                Error::Action(error) => ActionError::Invalid(of_row(at, error)?).into(),
                other => other,
            });
        }
    }
    text.push(']');
    Ok(Done { text, created })
}

/// What is wrong with one row of many, if that is what the error says.
fn of_row(at: usize, error: ActionError) -> Result<Vec<Issue>, ActionError> {
    match error {
        ActionError::Invalid(issues) => {
            Ok(issues.into_iter().map(|issue| issue.within(at)).collect())
        }
        other => Err(other),
    }
}
