//! Actions: queries are got, mutations are posted.

use axum::extract::{Path, Request, State};
use axum::http::{Method, StatusCode};
use axum::response::Response;
use serde_json::Value;

use super::{Failure, MAX_BODY, body, context, query_pairs, row_body, workspace_of};
use crate::definition::ActionKind;
use crate::schema::coerce;
use crate::work::Work;
use crate::workspaces::Workspaces;

pub(super) async fn action(
    State(workspaces): State<Workspaces>,
    Path((workspace, path)): Path<(String, String)>,
    request: Request,
) -> Result<Response, Failure> {
    let found = workspace_of(&workspaces, &workspace)?;
    let generation = found.generation();
    let Some(action) = generation.definition().action(&path) else {
        return Err(Failure::new(
            StatusCode::NOT_FOUND,
            format!("workspace {workspace} has no action {path:?}"),
        ));
    };
    let context = context(&request);
    let input = match (action.kind, request.method()) {
        (ActionKind::Query, &Method::GET) => match &action.input {
            None => Value::Null,
            Some(schema) => {
                let query = request.uri().query().unwrap_or_default();
                let pairs = query_pairs(query)?;
                coerce(schema, pairs).map_err(|issues| Failure::input(&path, issues))?
            }
        },
        (ActionKind::Mutation, &Method::POST) => match &action.input {
            None => Value::Null,
            Some(_) => body(request, MAX_BODY).await?,
        },
        (kind, method) => {
            let (kind, wanted) = match kind {
                ActionKind::Query => ("query", "GET"),
                ActionKind::Mutation => ("mutation", "POST"),
            };
            let message = format!("{path} is a {kind}: call it with {wanted}, not {method}");
            let mut failure = Failure::new(StatusCode::METHOD_NOT_ALLOWED, message);
            failure.allow = Some(wanted);
            return Err(failure);
        }
    };
    let issues = generation.schemas.check_input(&path, &input);
    if !issues.is_empty() {
        return Err(Failure::input(&path, issues));
    }
    let input = input.to_string();
    let result = match action.kind {
        ActionKind::Query => found.query(context, &path, &input).await,
        ActionKind::Mutation => {
            let done = found.transact(context, Work::Run { path: &path, input }).await;
            done.map(|done| done.text)
        }
    };
    Ok(row_body(StatusCode::OK, &result.map_err(|error| Failure::of(error, &path))?))
}
