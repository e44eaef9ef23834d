//! Rows by their id, and rows that are created.

use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Value, json};

use super::{
    Failure, Found, MAX_BODY, body, bytes, condition_of, context, data, new_id, parse, refused,
    row_body, tagged, unless_known,
};
use crate::error::ActionError;
use crate::error::Error;
use crate::error::summary;
use crate::transaction::{MAX_ROW, row_id};
use crate::work::Work;
use crate::workspace::Workspace;
use crate::workspaces::Workspaces;

pub(super) async fn read(
    State(workspaces): State<Workspaces>,
    Path((workspace, table, id)): Path<(String, String, String)>,
    request: Request,
) -> Result<Response, Failure> {
    let found = Found::table(&workspaces, &workspace, &table)?;
    let row = found.table.rows.get(id.as_str()).ok_or_else(|| Failure::row(&table, &id))?;
    match &row.parsed {
        Ok(text) => {
            let condition = condition_of(request.headers());
            Ok(unless_known(&condition, &row.tag(), || row_body(StatusCode::OK, text)))
        }
        Err(issues) => {
            let message = format!("row {id:?} of table {table} is not valid: {}", summary(issues));
            let mut failure = Failure::invalid(message, issues.to_vec());
            failure.row = serde_json::from_str(&row.raw).ok().map(Box::new);
            Err(failure)
        }
    }
}

/// Creates or replaces a row, or all rows of an array.
pub(super) async fn create(
    State(workspaces): State<Workspaces>,
    Path((workspace, table)): Path<(String, String)>,
    request: Request,
) -> Result<Response, Failure> {
    let found = Found::table(&workspaces, &workspace, &table)?.workspace;
    let (context, condition) = (context(&request), condition_of(request.headers()));
    if refused::is_wanted(request.uri().query().unwrap_or_default()) {
        let body = body(request, MAX_BODY).await?;
        return refused::settle(&found, &table, context, body).await;
    }
    let bytes = bytes(request, MAX_BODY).await?;
    let large = bytes.len() > MAX_ROW;
    match parse(&bytes)? {
        Value::Array(rows) => {
            let rows = rows.into_iter().map(with_id).collect();
            let new = condition.of_many().map_err(Failure::bad_request)?;
            let done = found.transact(context, Work::PutAll { table: &table, rows, new }).await;
            let done = done.map_err(|error| Failure::of(error, &table))?;
            let status = if done.created { StatusCode::CREATED } else { StatusCode::OK };
            Ok(row_body(status, &done.text))
        }
        _ if large => Err(Failure::too_large(MAX_ROW)),
        row => {
            let row = with_id(row);
            let id = row_id(&row).map_err(|error| Failure::of(error.into(), &table))?;
            let work = Work::Put { table: &table, id: &id, row, condition };
            let done = found.transact(context, work).await;
            let done = done.map_err(|error| Failure::of(error, &table))?;
            let status = if done.created { StatusCode::CREATED } else { StatusCode::OK };
            Ok(written(&found, &table, &id, row_body(status, &done.text), &done.text))
        }
    }
}

pub(super) async fn update(
    State(workspaces): State<Workspaces>,
    Path((workspace, table, id)): Path<(String, String, String)>,
    request: Request,
) -> Result<Response, Failure> {
    let found = Found::table(&workspaces, &workspace, &table)?.workspace;
    let (context, condition) = (context(&request), condition_of(request.headers()));
    let fields = body(request, MAX_ROW).await?;
    let work = Work::Update { table: &table, id: &id, fields, condition };
    let done = found.transact(context, work).await.map_err(|error| of_row(error, &table, &id))?;
    Ok(written(&found, &table, &id, row_body(StatusCode::OK, &done.text), &done.text))
}

pub(super) async fn delete(
    State(workspaces): State<Workspaces>,
    Path((workspace, table, id)): Path<(String, String, String)>,
    request: Request,
) -> Result<Response, Failure> {
    let found = Found::table(&workspaces, &workspace, &table)?.workspace;
    let (context, condition) = (context(&request), condition_of(request.headers()));
    let work = Work::Delete { table: &table, id: &id, condition };
    found.transact(context, work).await.map_err(|error| of_row(error, &table, &id))?;
    Ok(data(json!({ "id": id })))
}

/// Gives a row an id if it has none.
fn with_id(mut row: Value) -> Value {
    if let Value::Object(fields) = &mut row
        && !fields.contains_key("id")
    {
        fields.insert("id".into(), new_id().into());
    }
    row
}

/// Adds the tag of a row that was written. Another writer may have changed it since, and
/// that version must not pass for ours: there is a tag only while the row reads as we wrote it.
fn written(found: &Workspace, table: &str, id: &str, answer: Response, text: &str) -> Response {
    let snapshot = found.snapshot();
    let row = snapshot.tables.get(table).and_then(|table| table.rows.get(id));
    let ours = row.filter(|row| row.parsed.as_ref().is_ok_and(|now| **now == *text));
    tagged(answer, ours.map(|row| row.tag()).as_deref())
}

fn of_row(error: Error, table: &str, id: &str) -> Failure {
    match error {
        Error::Action(ActionError::NotFound) => Failure::row(table, id),
        Error::Stored(issues) => {
            let message = format!(
                "row {id:?} of table {table} is not valid as it is stored: {}; PUT and PATCH set \
                 fields of valid rows, POST replaces the whole row",
                summary(&issues)
            );
            Failure::invalid(message, issues)
        }
        error => Failure::of(error, table),
    }
}
