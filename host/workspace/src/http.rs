//! The routes of workspaces: descriptors, tables and actions.
//!
//! Answers are `{"data": …}`, errors `{"error": {"message": …}}` with `issues` beside the message
//! where a value was refused.

use axum::Router;
use axum::body::{Bytes, HttpBody};
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use host_sync::RoomError;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde_json::{Value, json};

use crate::definition::{ActionKind, Caller, Definition, Issue};
use crate::generation::Snapshot;
use crate::logic::{ActionError, Fault};
use crate::schema::coerce;
use crate::transaction::{Context, row_id};
use crate::workspace::{Error, Work, Workspace};
use crate::workspaces::Workspaces;

/// The largest body of a request. A row may have 1 MiB; an action's input may hold several.
const MAX_BODY: usize = 8 * 1024 * 1024;
/// The largest row.
const MAX_ROW: usize = 1024 * 1024;

impl Workspaces {
    /// The routes of workspaces, to be nested under `/workspaces`.
    pub fn router(&self) -> Router {
        let only = |methods: MethodRouter<Self>| methods.fallback(wrong_method);
        Router::new()
            .route("/", only(get(descriptors)))
            .route("/{workspace}", only(get(descriptor)))
            .route("/{workspace}/tables/{table}", only(get(list).post(create)))
            .route(
                "/{workspace}/tables/{table}/{id}",
                only(get(read).put(update).patch(update).delete(delete)),
            )
            .route("/{workspace}/actions/{*path}", axum::routing::any(action))
            .fallback(nothing_here)
            .with_state(self.clone())
    }
}

async fn descriptors(State(workspaces): State<Workspaces>) -> Response {
    data(workspaces.definitions().iter().map(|definition| describe(definition)).collect())
}

async fn descriptor(State(workspaces): State<Workspaces>, Path(id): Path<String>) -> Response {
    match workspaces.get(&id) {
        Some(workspace) => data(describe(&workspace.definition())),
        None => Failure::workspace(&id).into_response(),
    }
}

/// A workspace as the original's `describeWorkspace` shows it.
fn describe(definition: &Definition) -> Value {
    let current = |versions: &[Value]| json!({ "schema": versions.last() });
    let tables = definition.tables.iter().map(|t| (t.name.clone(), current(&t.versions)));
    let kv = definition.kv.iter().map(|kv| (kv.key.clone(), current(&kv.versions)));
    let awareness =
        definition.awareness.iter().map(|a| (a.name.clone(), json!({ "schema": a.schema })));
    let actions = definition.actions.iter().map(|action| {
        let path: Vec<_> = action.path.split('/').collect();
        let mut described = json!({ "path": path, "type": action.kind });
        if !action.description.is_empty() {
            described["description"] = action.description.clone().into();
        }
        if let Some(input) = &action.input {
            described["input"] = input.clone();
        }
        if let Some(output) = &action.output {
            described["output"] = output.clone();
        }
        described
    });
    json!({
        "id": definition.id,
        "title": definition.title,
        "version": definition.version,
        "tables": tables.collect::<serde_json::Map<_, _>>(),
        "kv": kv.collect::<serde_json::Map<_, _>>(),
        "awareness": awareness.collect::<serde_json::Map<_, _>>(),
        "actions": actions.collect::<Vec<_>>(),
    })
}

async fn list(
    State(workspaces): State<Workspaces>,
    Path((workspace, table)): Path<(String, String)>,
) -> Result<Response, Failure> {
    let snapshot = find(&workspaces, &workspace, &table)?.1;
    let table = snapshot.tables.get(&table).ok_or_else(|| Failure::table(&workspace, &table))?;
    Ok(json_body(StatusCode::OK, table.list()))
}

async fn read(
    State(workspaces): State<Workspaces>,
    Path((workspace, table, id)): Path<(String, String, String)>,
) -> Result<Response, Failure> {
    let snapshot = find(&workspaces, &workspace, &table)?.1;
    let row = snapshot.tables.get(&table).and_then(|table| table.rows.get(id.as_str()));
    let row = row.ok_or_else(|| Failure::row(&table, &id))?;
    match &row.parsed {
        Ok(text) => Ok(row_body(StatusCode::OK, text)),
        Err(issues) => {
            let message = format!("row {id:?} of table {table} is not valid: {}", summary(issues));
            let mut failure = Failure::invalid(message, issues.to_vec());
            failure.row = serde_json::from_str(&row.raw).ok();
            Err(failure)
        }
    }
}

async fn create(
    State(workspaces): State<Workspaces>,
    Path((workspace, table)): Path<(String, String)>,
    request: Request,
) -> Result<Response, Failure> {
    let found = find(&workspaces, &workspace, &table)?.0;
    let context = context(&request);
    let mut row = body(request, MAX_ROW).await?;
    if let Value::Object(object) = &mut row
        && !object.contains_key("id")
    {
        object.insert("id".into(), new_id().into());
    }
    let id = row_id(&row).map_err(|error| Failure::of(error.into(), &table))?;
    let work = Work::Put { table: &table, id: &id, row };
    let done = found.transact(context, work).await.map_err(|error| Failure::of(error, &table))?;
    let status = if done.created { StatusCode::CREATED } else { StatusCode::OK };
    Ok(row_body(status, &done.text))
}

async fn update(
    State(workspaces): State<Workspaces>,
    Path((workspace, table, id)): Path<(String, String, String)>,
    request: Request,
) -> Result<Response, Failure> {
    let found = find(&workspaces, &workspace, &table)?.0;
    let context = context(&request);
    let fields = body(request, MAX_ROW).await?;
    match found.transact(context, Work::Update { table: &table, id: &id, fields }).await {
        Ok(done) => Ok(row_body(StatusCode::OK, &done.text)),
        Err(Error::Action(ActionError::NotFound)) => Err(Failure::row(&table, &id)),
        Err(error) => Err(Failure::of(error, &table)),
    }
}

async fn delete(
    State(workspaces): State<Workspaces>,
    Path((workspace, table, id)): Path<(String, String, String)>,
    request: Request,
) -> Result<Response, Failure> {
    let found = find(&workspaces, &workspace, &table)?.0;
    match found.transact(context(&request), Work::Delete { table: &table, id: &id }).await {
        Ok(_) => Ok(data(json!({ "id": id }))),
        Err(Error::Action(ActionError::NotFound)) => Err(Failure::row(&table, &id)),
        Err(error) => Err(Failure::of(error, &table)),
    }
}

async fn action(
    State(workspaces): State<Workspaces>,
    Path((workspace, path)): Path<(String, String)>,
    request: Request,
) -> Result<Response, Failure> {
    let found = workspaces.get(&workspace).ok_or_else(|| Failure::workspace(&workspace))?;
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
    let issues = generation.inputs.check(&path, &input);
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

async fn nothing_here(axum::extract::OriginalUri(uri): axum::extract::OriginalUri) -> Failure {
    let message = format!("there is nothing at {}; a workspace has tables and actions", uri.path());
    Failure::new(StatusCode::NOT_FOUND, message)
}

async fn wrong_method(method: Method, uri: axum::http::Uri) -> Failure {
    let message = format!("{method} is not a method of {}", uri.path());
    Failure::new(StatusCode::METHOD_NOT_ALLOWED, message)
}

/// The workspace and its current snapshot, if the workspace has that table.
fn find(
    workspaces: &Workspaces,
    workspace: &str,
    table: &str,
) -> Result<(std::sync::Arc<Workspace>, std::sync::Arc<Snapshot>), Failure> {
    let found = workspaces.get(workspace).ok_or_else(|| Failure::workspace(workspace))?;
    let snapshot = found.snapshot();
    if !snapshot.tables.contains_key(table) {
        return Err(Failure::table(workspace, table));
    }
    Ok((found, snapshot))
}

/// Who asks: the caller is put into the request by whoever checks accounts.
fn context(request: &Request) -> Context {
    Context { caller: request.extensions().get::<Caller>().cloned(), request_id: new_id() }
}

/// A random id: 21 characters from `[A-Za-z0-9_-]`, 126 bits.
pub fn new_id() -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-";
    let random: [u8; 21] = rand::random();
    random.iter().map(|byte| ALPHABET[(byte & 63) as usize] as char).collect()
}

/// The body as JSON. Only a JSON content type is taken: other sites can make a browser send the
/// others without asking first.
async fn body(request: Request, limit: usize) -> Result<Value, Failure> {
    if !is_json(request.headers()) {
        let message = "send JSON, and say so: content-type: application/json";
        return Err(Failure::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
    }
    let too_large = || {
        let message = format!("the body is larger than {limit} bytes, which is the limit");
        Failure::new(StatusCode::PAYLOAD_TOO_LARGE, message)
    };
    let body = request.into_body();
    // One that says how large it is need not be sent to be refused.
    if body.size_hint().lower() > limit as u64 {
        return Err(too_large());
    }
    let bytes = match Limited::new(body, limit).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => return Err(too_large()),
        Err(error) => {
            let message = format!("the body cannot be read: {error}");
            return Err(Failure::new(StatusCode::BAD_REQUEST, message));
        }
    };
    serde_json::from_slice(&bytes).map_err(|error| {
        Failure::new(StatusCode::BAD_REQUEST, format!("the body is not JSON: {error}"))
    })
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let kind = value.and_then(|value| value.split(';').next()).unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("application/json")
}

fn query_pairs(query: &str) -> Result<Vec<(String, String)>, Failure> {
    serde_urlencoded::from_str(query).map_err(|error| {
        Failure::new(StatusCode::BAD_REQUEST, format!("the query string cannot be read: {error}"))
    })
}

fn data(value: Value) -> Response {
    json_body(StatusCode::OK, json!({ "data": value }).to_string().into())
}

/// JSON text that is known to be JSON, as the data of an answer.
fn row_body(status: StatusCode, text: &str) -> Response {
    let mut body = String::with_capacity(text.len() + 9);
    body.push_str("{\"data\":");
    body.push_str(text);
    body.push('}');
    json_body(status, body.into())
}

fn json_body(status: StatusCode, body: Bytes) -> Response {
    const JSON: HeaderValue = HeaderValue::from_static("application/json");
    (status, [(header::CONTENT_TYPE, JSON)], body).into_response()
}

/// An answer that says what went wrong. The one place where errors become HTTP.
#[derive(Debug)]
pub(crate) struct Failure {
    status: StatusCode,
    message: String,
    issues: Vec<Issue>,
    /// A row as it stands in the document, where it cannot be shown as valid.
    row: Option<Value>,
    allow: Option<&'static str>,
}

impl Failure {
    fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), issues: Vec::new(), row: None, allow: None }
    }

    fn workspace(id: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, format!("there is no workspace {id:?}"))
    }

    fn table(workspace: &str, table: &str) -> Self {
        let message = format!("workspace {workspace} has no table {table:?}");
        Self::new(StatusCode::NOT_FOUND, message)
    }

    fn row(table: &str, id: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, format!("table {table} has no row {id:?}"))
    }

    fn invalid(message: impl Into<String>, issues: Vec<Issue>) -> Self {
        Self { issues, ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, message) }
    }

    fn input(path: &str, issues: Vec<Issue>) -> Self {
        Self::invalid(format!("the input of {path} is not valid: {}", summary(&issues)), issues)
    }

    /// `what` is the table or the action that was asked for something.
    fn of(error: Error, what: &str) -> Self {
        match error {
            Error::Action(ActionError::NotFound) => {
                Self::new(StatusCode::NOT_FOUND, format!("{what}: not found"))
            }
            Error::Action(ActionError::Invalid(issues)) => {
                Self::invalid(format!("{what}: not valid: {}", summary(&issues)), issues)
            }
            Error::Action(ActionError::Denied(reason)) => Self::new(StatusCode::FORBIDDEN, reason),
            Error::Action(ActionError::Failed(reason)) => {
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, reason)
            }
            Error::Fault(fault) => {
                let status = match fault {
                    Fault::TimedOut { .. } => StatusCode::GATEWAY_TIMEOUT,
                    Fault::Busy { .. } => StatusCode::SERVICE_UNAVAILABLE,
                    Fault::Trapped { .. } | Fault::Contract { .. } => {
                        StatusCode::INTERNAL_SERVER_ERROR
                    }
                };
                Self::new(status, fault.to_string())
            }
            Error::Conflict => Self::new(StatusCode::CONFLICT, error.to_string()),
            Error::Room(error) => {
                let status = match &error {
                    RoomError::Refused { .. } => StatusCode::INSUFFICIENT_STORAGE,
                    RoomError::Edit { .. } => StatusCode::BAD_REQUEST,
                    RoomError::Storage { .. } | RoomError::Closed { .. } => {
                        StatusCode::SERVICE_UNAVAILABLE
                    }
                };
                Self::new(status, error.to_string())
            }
        }
    }
}

/// The first issues in one line, for those who read only the message.
fn summary(issues: &[Issue]) -> String {
    let line = |issue: &Issue| match issue.path.as_slice() {
        [] => issue.message.clone(),
        path => format!("{}: {}", path.join("."), issue.message),
    };
    let mut text = issues.iter().take(3).map(line).collect::<Vec<_>>().join("; ");
    if issues.len() > 3 {
        text.push_str(&format!("; and {} more", issues.len() - 3));
    }
    text
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let mut error = json!({ "message": self.message });
        if !self.issues.is_empty() {
            error["issues"] = json!(self.issues);
        }
        if let Some(row) = self.row {
            error["row"] = row;
        }
        let mut response = json_body(self.status, json!({ "error": error }).to_string().into());
        if let Some(allow) = self.allow {
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allow));
        }
        response
    }
}
