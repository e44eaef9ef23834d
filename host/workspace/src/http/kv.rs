//! Key-values.

use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::json;

use super::{
    Failure, body, condition_of, context, data, json_body, row_body, tagged, unless_known,
    workspace_of,
};
use crate::error::ActionError;
use crate::error::Error;
use crate::error::summary;
use crate::transaction::MAX_ROW;
use crate::work::Work;
use crate::workspace::Workspace;
use crate::workspaces::Workspaces;

/// The values of all keys that are set and valid.
pub(super) async fn all(
    State(workspaces): State<Workspaces>,
    Path(workspace): Path<String>,
) -> Result<Response, Failure> {
    let snapshot = workspace_of(&workspaces, &workspace)?.snapshot();
    let mut body = String::from("{\"data\":{");
    for (key, row) in &snapshot.kv {
        let Ok(text) = &row.parsed else { continue };
        if !body.ends_with('{') {
            body.push(',');
        }
        body.push_str(&format!("{}:{text}", json!(**key)));
    }
    body.push_str("}}");
    Ok(json_body(StatusCode::OK, body.into()))
}

pub(super) async fn read(
    State(workspaces): State<Workspaces>,
    Path((workspace, key)): Path<(String, String)>,
    request: Request,
) -> Result<Response, Failure> {
    let snapshot = declared(&workspaces, &workspace, &key)?.snapshot();
    let row = snapshot.kv.get(key.as_str()).ok_or_else(|| unset(&key))?;
    match &row.parsed {
        Ok(text) => {
            let condition = condition_of(request.headers());
            Ok(unless_known(&condition, &row.tag(), || row_body(StatusCode::OK, text)))
        }
        Err(issues) => {
            let message = format!("the value of key {key:?} is not valid: {}", summary(issues));
            let mut failure = Failure::invalid(message, issues.to_vec());
            failure.row = serde_json::from_str(&row.raw).ok().map(Box::new);
            Err(failure)
        }
    }
}

pub(super) async fn set(
    State(workspaces): State<Workspaces>,
    Path((workspace, key)): Path<(String, String)>,
    request: Request,
) -> Result<Response, Failure> {
    let found = declared(&workspaces, &workspace, &key)?;
    let (context, condition) = (context(&request), condition_of(request.headers()));
    let value = body(request, MAX_ROW).await?;
    let work = Work::KvSet { key: &key, value, condition };
    let done = found.transact(context, work).await.map_err(|error| Failure::of(error, &key))?;
    let snapshot = found.snapshot();
    let row = snapshot.kv.get(key.as_str());
    // Another writer may have changed it since, as with rows.
    let ours = row.filter(|row| row.parsed.as_ref().is_ok_and(|now| **now == *done.text));
    Ok(tagged(row_body(StatusCode::OK, &done.text), ours.map(|row| row.tag()).as_deref()))
}

pub(super) async fn delete(
    State(workspaces): State<Workspaces>,
    Path((workspace, key)): Path<(String, String)>,
    request: Request,
) -> Result<Response, Failure> {
    let found = declared(&workspaces, &workspace, &key)?;
    let condition = condition_of(request.headers());
    let work = Work::KvDelete { key: &key, condition };
    match found.transact(context(&request), work).await {
        Ok(_) => Ok(data(json!({ "key": key }))),
        Err(Error::Action(ActionError::NotFound)) => Err(unset(&key)),
        Err(error) => Err(Failure::of(error, &key)),
    }
}

/// The workspace, if it has that key.
fn declared(
    workspaces: &Workspaces,
    workspace: &str,
    key: &str,
) -> Result<std::sync::Arc<Workspace>, Failure> {
    let found = workspace_of(workspaces, workspace)?;
    if found.definition().kv.iter().any(|kv| kv.key == key) {
        return Ok(found);
    }
    let message = format!("workspace {workspace} has no key {key:?}");
    Err(Failure::new(StatusCode::NOT_FOUND, message))
}

fn unset(key: &str) -> Failure {
    Failure::new(StatusCode::NOT_FOUND, format!("key {key:?} has no value"))
}
