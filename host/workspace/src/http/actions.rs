//! Actions: a query is called with GET, a mutation with POST.

use axum::extract::{Path, Request, State};
use axum::http::{Method, StatusCode, header};
use axum::response::Response;
use serde_json::{Map, Value};

use super::{
    Failure, MAX_BODY, bytes, bytes_of, context, parse, query_pairs, row_body, workspace_of,
};
use crate::definition::ActionKind;
use crate::schema::coerce;
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
            Some(_) => {
                let nothing = Value::Object(Map::new());
                let may_be_nothing = generation.schemas.check_input(&path, &nothing).is_empty();
                posted(request, may_be_nothing.then_some(nothing)).await?
            }
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
    let result = found.run(context, &path, &input).await;
    let result = result.map_err(|error| Failure::of(error, &path))?;
    Ok(row_body(StatusCode::OK, &result))
}

/// The input that a request carries. Where an empty object is valid input, an empty body stands for it:
/// programs with nothing to send leave out both the body and its content type.
async fn posted(request: Request, nothing: Option<Value>) -> Result<Value, Failure> {
    let body = match request.headers().contains_key(header::CONTENT_TYPE) || nothing.is_none() {
        true => bytes(request, MAX_BODY).await?,
        false => {
            let body = bytes_of(request, MAX_BODY).await?;
            if !body.is_empty() {
                return Err(Failure::no_json());
            }
            body
        }
    };
    match nothing {
        Some(nothing) if body.is_empty() => Ok(nothing),
        _ => parse(&body),
    }
}
