//! Actions: queries are got, mutations are posted.

use axum::extract::{Path, Request, State};
use axum::http::{Method, StatusCode, header};
use axum::response::Response;
use serde_json::{Map, Value};

use super::{
    Failure, MAX_BODY, bytes, bytes_of, context, parse, query_pairs, row_body, workspace_of,
};
use crate::definition::{ActionDefinition, ActionKind, Issue};
use crate::generation::Generation;
use crate::schema::coerce;
use crate::transaction::Context;
use crate::work::Work;
use crate::workspace::Workspace;
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
    let result = run(&found, &generation, context, &path, &input).await?;
    Ok(row_body(StatusCode::OK, &result))
}

/// The input that a request carries. Where an input may be without members, to send nothing is to
/// send that: programs that have nothing to say send no body, and no type of it.
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

/// Runs an action that is there, if its input is valid. The result is JSON text.
async fn run(
    found: &Workspace,
    generation: &Generation,
    context: Context,
    path: &str,
    input: &Value,
) -> Result<String, Failure> {
    let issues = generation.schemas.check_input(path, input);
    if !issues.is_empty() {
        return Err(Failure::input(path, issues));
    }
    let input = input.to_string();
    let kind = generation.definition().action(path).map(|action| action.kind);
    let result = match kind {
        Some(ActionKind::Query) => found.query(context, path, &input).await,
        _ => {
            let done = found.transact(context, Work::Run { path, input }).await;
            done.map(|done| done.text)
        }
    };
    result.map_err(|error| Failure::of(error, path))
}

/// Why an action was not run, or failed: what REST would say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// What is wrong.
    pub message: String,
    /// What is wrong with the input.
    pub issues: Vec<Issue>,
}

impl Workspaces {
    /// An action by its whole name: `blog/posts/publish`.
    pub fn action(&self, name: &str) -> Option<ActionDefinition> {
        let (workspace, path) = name.split_once('/')?;
        self.get(workspace)?.definition().action(path).cloned()
    }

    /// Runs an action by its whole name, with all that REST would hold it to. The result is JSON text.
    pub async fn run_action(
        &self,
        context: Context,
        name: &str,
        input: &Value,
    ) -> Result<String, Refused> {
        let refused = |message: String| Refused { message, issues: Vec::new() };
        let (workspace, path) = name.split_once('/').unwrap_or((name, ""));
        let found = self.get(workspace);
        let found = found.ok_or_else(|| refused(format!("there is no workspace {workspace:?}")))?;
        let generation = found.generation();
        if generation.definition().action(path).is_none() {
            return Err(refused(format!("workspace {workspace} has no action {path:?}")));
        }
        let result = run(&found, &generation, context, path, input).await;
        result.map_err(|Failure { message, issues, .. }| Refused { message, issues })
    }
}
