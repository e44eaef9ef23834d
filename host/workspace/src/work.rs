//! What writers do, each in one transaction.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde_json::{Value, json};

use crate::condition::Condition;
use crate::definition::Issue;
use crate::error::{ActionError, Error};
use crate::logic::{Data, Source};
use crate::query::Filter;
use crate::transaction::{MAX_WRITES, Transaction, row_id};
use crate::written::Sent;

/// Something to do in a transaction. It is retried if another writer was faster.
pub(crate) enum Work<'a> {
    /// Create a row or replace it whole.
    Put { table: &'a str, id: &'a str, row: Value, condition: Condition },
    /// Create or replace many rows, all or none; with `new`, none of them may exist yet.
    PutAll { table: &'a str, rows: Vec<Value>, new: bool },
    /// Lay fields over a row.
    Update { table: &'a str, id: &'a str, fields: Value, condition: Condition },
    /// Delete a row.
    Delete { table: &'a str, id: &'a str, condition: Condition },
    /// Delete the valid rows for which all filters hold.
    DeleteAll { table: &'a str, filters: Vec<Filter> },
    /// Delete the rows that are not valid, up to the limit of one request.
    DeleteInvalid { table: &'a str },
    /// Replace the text of a document that is attached to a row.
    SetText { table: &'a str, id: &'a str, document: &'a str, text: String, condition: Condition },
    /// Set the value of a key.
    KvSet { key: &'a str, value: Value, condition: Condition },
    /// Forget the value of a key.
    KvDelete { key: &'a str, condition: Condition },
    /// Run an action, if its input is valid.
    Run { path: &'a str, input: &'a Value },
}

/// The outcome of a piece of work.
#[derive(Debug, Default)]
pub(crate) struct Done {
    /// The row, the rows, or the action's result, as JSON text.
    pub text: String,
    /// Whether all rows that were written are new.
    pub created: bool,
}

impl Work<'_> {
    /// By what it is done, for the log. `version` is that of the workspace.
    pub fn by(&self, version: &str) -> String {
        match self {
            Self::Run { path, .. } => format!("action {path} {version}").trim_end().to_owned(),
            _ => "rest".to_owned(),
        }
    }

    /// How it reached the server.
    pub fn source(&self) -> Source {
        match self {
            Self::Run { .. } => Source::Action,
            _ => Source::Rest,
        }
    }

    pub async fn run(&self, transaction: &Arc<Transaction>) -> Result<Done, Error> {
        match self {
            Self::Put { table, id, row, condition } => {
                let before = transaction.read(table, id);
                if !condition.holds(transaction.tag(table, id).as_deref()) {
                    return Err(Error::stale(id));
                }
                let created = before.is_none();
                let text = transaction.set(table, id, row, before).await?;
                Ok(Done { text, created })
            }
            Self::PutAll { table, rows, new } => put_all(transaction, table, rows, *new).await,
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
                delete_all(transaction, table, &ids).await
            }
            Self::DeleteInvalid { table } => {
                // No filter could make them fewer, so one request deletes what it can.
                let ids = transaction.invalid_ids(table, MAX_WRITES)?;
                delete_all(transaction, table, &ids).await
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
                let text = transaction.kv_put(key, Sent::of(value)).await?;
                Ok(Done { text, created: false })
            }
            Self::KvDelete { key, condition } => {
                let tag = transaction.kv_tag(key).ok_or(ActionError::NotFound)?;
                if !condition.holds(Some(&tag)) {
                    return Err(Error::stale(key));
                }
                transaction.clone().kv_delete(key).await?;
                Ok(Done::default())
            }
            Self::Run { path, input } => {
                let issues = transaction.generation().schemas.check_input(path, input);
                if !issues.is_empty() {
                    return Err(Error::Input(issues));
                }
                let (logic, input) = (transaction.logic(), input.to_string());
                let result = logic.run_action(path, input, transaction.clone()).await?;
                Ok(Done { text: result?, created: false })
            }
        }
    }
}

/// Checks a condition against a row that exists; a missing row is reported elsewhere.
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

async fn delete_all(
    transaction: &Arc<Transaction>,
    table: &str,
    ids: &[String],
) -> Result<Done, Error> {
    for id in ids {
        transaction.remove(table, id).await?;
    }
    Ok(Done { text: json!({ "deleted": ids.len() }).to_string(), created: false })
}

/// What is wrong with the rows of a request, by position.
#[derive(Default)]
struct Wrong(BTreeMap<usize, Vec<Issue>>);

impl Wrong {
    fn add(&mut self, at: usize, issues: impl IntoIterator<Item = Issue>) {
        self.0.entry(at).or_default().extend(issues);
    }

    /// Takes the issues that an error has about a row; any other error is about the whole request.
    fn add_error(&mut self, at: usize, error: Error) -> Result<(), Error> {
        match error {
            Error::Action(ActionError::Invalid(issues)) => {
                self.add(at, issues);
                Ok(())
            }
            other => Err(other),
        }
    }

    /// The issues; each begins its path with the position of its row.
    fn issues(self) -> Vec<Issue> {
        let rows = self.0.into_iter();
        rows.flat_map(|(at, issues)| issues.into_iter().map(move |issue| issue.within(at)))
            .collect()
    }

    fn into_result(self) -> Result<(), Error> {
        match self.issues() {
            issues if issues.is_empty() => Ok(()),
            issues => Err(ActionError::Invalid(issues).into()),
        }
    }
}

/// Writes all rows or none. Reports as many problems at once as possible: those that parsing finds in any
/// row or, if there are none, those that the check finds in any row.
async fn put_all(
    transaction: &Arc<Transaction>,
    table: &str,
    rows: &[Value],
    new: bool,
) -> Result<Done, Error> {
    at_most(rows.len())?;
    let mut wrong = Wrong::default();
    let mut known = HashMap::with_capacity(rows.len());
    // Those that have an id, with their position.
    let mut sound = Vec::with_capacity(rows.len());
    for (at, row) in rows.iter().enumerate() {
        match row_id(row) {
            Ok(id) => {
                if let Some(first) = known.insert(id.clone(), at) {
                    wrong.add(at, [Issue::at("id", format!("is also that of row {first}"))]);
                }
                sound.push((at, id, row));
            }
            Err(error) => wrong.add_error(at, error.into())?,
        }
    }
    if new {
        let mut there = Wrong::default();
        for (at, id, _) in &sound {
            if transaction.read(table, id).is_some() {
                there.add(*at, [Issue::at("id", format!("row {id:?} is there already"))]);
            }
        }
        let there = there.issues();
        if !there.is_empty() {
            return Err(Error::Exist(there));
        }
    }
    let sent: Vec<_> = sound.iter().map(|(_, _, row)| Sent::of(row)).collect();
    let parsed = transaction.parse(table, &sent).await?;
    for ((at, ..), parsed) in sound.iter().zip(&parsed) {
        wrong.add(*at, parsed.as_ref().err().into_iter().flatten().cloned());
    }
    wrong.into_result()?;
    let (mut wrong, mut conflicts) = (Wrong::default(), Wrong::default());
    let mut text = String::from("[");
    let mut created = !rows.is_empty();
    for (((at, id, _), sent), row) in sound.iter().zip(&sent).zip(parsed.into_iter().flatten()) {
        let before = transaction.read(table, id);
        created &= before.is_none();
        if text.len() > 1 {
            text.push(',');
        }
        text.push_str(&row);
        match transaction.take(table, id, sent, &row, before).await {
            Ok(()) => {}
            Err(Error::Action(ActionError::Conflict(issues))) => conflicts.add(*at, issues),
            Err(error) => wrong.add_error(*at, error)?,
        }
    }
    wrong.into_result()?;
    match conflicts.issues() {
        issues if issues.is_empty() => {}
        issues => return Err(ActionError::Conflict(issues).into()),
    }
    text.push(']');
    Ok(Done { text, created })
}
