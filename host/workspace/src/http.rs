//! The routes of workspaces.
//!
//! Answers are `{"data": …}`, errors `{"error": {"message": …}}` with `issues` beside the message
//! where a value was refused. Each capability has a module; this one holds what they share.

mod actions;
mod awareness;
mod descriptor;
mod documents;
mod failure;
mod filters;
mod kv;
mod list;
mod live;
mod openapi;
mod parameters;
mod refused;
mod rows;

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{OriginalUri, Request};
use axum::http::{Extensions, HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, any, get};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde_json::{Value, json};

use crate::condition::{Condition, Tags};
use crate::context::Context;
use crate::generation::{Snapshot, Table};
use crate::ids::new_id;
use crate::workspace::Workspace;
use crate::workspaces::Workspaces;
use failure::Failure;

/// The largest body of a request. A row may have 1 MiB; an action's input, or an array of rows,
/// may hold several.
const MAX_BODY: usize = 8 * 1024 * 1024;

impl Workspaces {
    /// The routes of workspaces, to be nested under `/workspaces`.
    pub fn router(&self) -> Router {
        let only = |methods: MethodRouter<Self>| methods.fallback(wrong_method);
        let table = only(get(list::list).post(rows::create).delete(list::delete));
        let row = get(rows::read).put(rows::update).patch(rows::update).delete(rows::delete);
        let routes = Router::new()
            .route("/", only(get(descriptor::descriptors)))
            .route("/{workspace}", only(get(descriptor::descriptor)))
            .route("/{workspace}/", only(get(descriptor::descriptor)))
            .route("/{workspace}/tables/{table}", table.clone())
            .route("/{workspace}/tables/{table}/", table)
            .route("/{workspace}/tables/{table}/{id}", only(row))
            .route(
                "/{workspace}/tables/{table}/{id}/documents/{document}",
                only(get(documents::read).put(documents::write)),
            )
            .route("/{workspace}/kv", only(get(kv::all)))
            .route("/{workspace}/kv/", only(get(kv::all)))
            .route("/{workspace}/kv/{key}", only(get(kv::read).put(kv::set).delete(kv::delete)))
            .route("/{workspace}/awareness", only(get(awareness::states)))
            .route("/{workspace}/actions/{*path}", any(actions::action))
            .fallback(nothing_here)
            .with_state(self.clone());
        host_http::decoded(routes)
    }
}

async fn nothing_here(OriginalUri(uri): OriginalUri) -> Failure {
    let parts = "a workspace has tables, kv, awareness and actions";
    let message = format!("there is nothing at {}; {parts}", uri.path());
    Failure::new(StatusCode::NOT_FOUND, message)
}

async fn wrong_method(method: Method, OriginalUri(uri): OriginalUri) -> Failure {
    let message = format!("{method} is not a method of {}", uri.path());
    Failure::new(StatusCode::METHOD_NOT_ALLOWED, message)
}

fn workspace_of(workspaces: &Workspaces, id: &str) -> Result<Arc<Workspace>, Failure> {
    workspaces.get(id).ok_or_else(|| Failure::workspace(id))
}

/// A table of a workspace, as it is now.
struct Found {
    workspace: Arc<Workspace>,
    snapshot: Arc<Snapshot>,
    table: Arc<Table>,
}

impl Found {
    fn table(workspaces: &Workspaces, workspace: &str, table: &str) -> Result<Self, Failure> {
        let found = workspace_of(workspaces, workspace)?;
        let snapshot = found.snapshot();
        let rows = snapshot.tables.get(table).cloned();
        let rows = rows.ok_or_else(|| Failure::table(workspace, table))?;
        Ok(Self { workspace: found, snapshot, table: rows })
    }
}

/// The name that a request was given before it got here; an extension of the request.
#[derive(Debug, Clone)]
pub struct RequestId(pub Arc<str>);

/// The context of a request, taken from its extensions: the session check puts the caller there, whoever
/// finds out what they may do the [`Right`](host_caller::Right), and the code that names requests the name.
pub fn context_of(extensions: &Extensions) -> Context {
    Context {
        caller: extensions.get().cloned(),
        delivered_by: None,
        right: extensions.get().copied().unwrap_or_default(),
        request_id: extensions.get().map_or_else(new_id, |RequestId(id)| id.to_string()),
    }
}

fn context(request: &Request) -> Context {
    context_of(request.extensions())
}

/// Reads `If-Match` and `If-None-Match`.
fn condition_of(headers: &HeaderMap) -> Condition {
    Condition {
        matches: tags(headers, header::IF_MATCH),
        matches_none: tags(headers, header::IF_NONE_MATCH),
    }
}

fn tags(headers: &HeaderMap, name: HeaderName) -> Option<Tags> {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    // A compressing proxy weakens tags; here each version has exactly one text.
    let tag = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
    let tags: Vec<_> = values.flat_map(|value| value.split(',')).map(tag).collect();
    match tags.as_slice() {
        [] => None,
        [one] if one == "*" => Some(Tags::Any),
        _ => Some(Tags::Some(tags)),
    }
}

/// The body as JSON.
async fn body(request: Request, limit: usize) -> Result<Value, Failure> {
    parse(&bytes(request, limit).await?)
}

fn parse(bytes: &[u8]) -> Result<Value, Failure> {
    // Some editors and languages begin a text with a byte-order mark.
    let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
    serde_json::from_slice(bytes)
        .map_err(|error| Failure::bad_request(format!("the body is not JSON: {error}")))
}

/// The body. Only a JSON content type is accepted: a page of another site can make a browser send
/// other types without a preflight request.
async fn bytes(request: Request, limit: usize) -> Result<Bytes, Failure> {
    if !is_json(request.headers()) {
        return Err(Failure::no_json());
    }
    bytes_of(request, limit).await
}

async fn bytes_of(request: Request, limit: usize) -> Result<Bytes, Failure> {
    // A body that declares itself much too large is refused unread. One that is slightly too large is
    // read up to the limit: many clients lose an answer that arrives while they are still sending.
    let length = request.headers().get(header::CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > 2 * limit as u64) {
        return Err(Failure::too_large(limit));
    }
    match Limited::new(request.into_body(), limit).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Failure::too_large(limit)),
        Err(error) => Err(Failure::bad_request(format!("the body cannot be read: {error}"))),
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let kind = value.and_then(|value| value.split(';').next()).unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("application/json")
}

fn query_pairs(query: &str) -> Result<Vec<(String, String)>, Failure> {
    serde_urlencoded::from_str(query)
        .map_err(|error| Failure::bad_request(format!("the query string cannot be read: {error}")))
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

const JSON: HeaderValue = HeaderValue::from_static("application/json");

fn json_body(status: StatusCode, body: Bytes) -> Response {
    (status, [(header::CONTENT_TYPE, JSON)], body).into_response()
}

/// The answer to a read; 304 if the client has that version already.
fn unless_known(condition: &Condition, tag: &str, answer: impl FnOnce() -> Response) -> Response {
    let response = match condition.known(tag) {
        true => StatusCode::NOT_MODIFIED.into_response(),
        false => answer(),
    };
    tagged(response, Some(tag))
}

fn tagged(mut response: Response, tag: Option<&str>) -> Response {
    if let Some(tag) = tag.and_then(|tag| HeaderValue::from_str(tag).ok()) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
}
