//! The API of all workspaces as an OpenAPI 3.1 document, and a page to read it.
//!
//! The document is made from the definitions at each request, so it is always that of the plugins
//! that serve. Every table, key and action has its own path, with the plugin's own schema: what
//! clients are generated from it are typed.
//!
//! `document` has the types of its parts, `operations` what can be asked, `schemas` the plugins' schemas,
//! `answers` the errors, and `example` something to begin from.

mod answers;
mod document;
mod example;
mod operations;
mod schemas;

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use serde_json::{Value, json};

use super::json_body;
use crate::definition::Definition;
use crate::workspaces::Workspaces;
use answers::{answers, common};
use document::{Answer, Operation, object, string};
use operations::Api;
use schemas::reference;

/// The page; it works without a network, and takes the document from beside it.
const REFERENCE: &str = include_str!("openapi/reference.html");

const ABOUT: &str = "\
Answers are `{\"data\": …}`, errors `{\"error\": {\"message\", \"issues\"?}}`. Every answer to a \
write is sent once it is on disk.

Rows and lists carry an `ETag`: send it as `If-None-Match` to get 304 while nothing changed, and \
as `If-Match` with a write to get 412 when somebody was faster.

The document of a workspace syncs with any Yjs client over WebSocket at `/rooms/{workspace}`.

A server that is started with a hub wants the session's token as a bearer token.";

impl Workspaces {
    /// The routes `/openapi` (a page) and `/openapi/json` (the document), to be merged into a
    /// server that has the workspaces under `/workspaces`.
    pub fn openapi_router(&self) -> Router {
        Router::new()
            .route("/openapi", get(page))
            .route("/openapi/json", get(openapi))
            .with_state(self.clone())
    }
}

async fn page() -> Response {
    // What the page shows comes from plugins: it may load nothing and run only its own script.
    let policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
        connect-src 'self'; base-uri 'none'; form-action 'none'";
    ([(header::CONTENT_SECURITY_POLICY, policy)], Html(REFERENCE)).into_response()
}

async fn openapi(State(workspaces): State<Workspaces>) -> Response {
    json_body(StatusCode::OK, document(&workspaces.definitions()).to_string().into())
}

/// The document of these workspaces.
fn document(definitions: &[Arc<Definition>]) -> Value {
    let mut api = Api::default();
    let descriptors = json!({ "type": "array", "items": {} });
    api.add(
        "/workspaces",
        "get",
        &["workspaces"],
        Operation {
            summary: "All workspaces, and what they consist of".into(),
            tags: vec!["workspaces".into()],
            responses: answers([(200, Answer::data("The descriptors.", descriptors))], &[]),
            ..Operation::default()
        },
    );
    for definition in definitions {
        api.workspace(definition);
    }
    let path = json!({
        "type": "array",
        "items": string(),
        "description": "From the outermost member inwards; empty if the whole value is at fault.",
    });
    let issues = json!({ "type": "array", "items": reference("Issue") });
    let error = json!({
        "type": "object",
        "required": ["message"],
        "properties": { "message": string(), "issues": issues, "row": {} },
    });
    let invalid_row = object([("id", string()), ("issues", issues), ("row", json!({}))]);
    for (name, schema) in [
        ("Issue", object([("path", path), ("message", string())])),
        ("Error", object([("error", error)])),
        ("InvalidRow", invalid_row),
    ] {
        api.schemas.0.insert(name.into(), schema);
    }
    json!({
        "openapi": "3.1.0",
        "info": { "title": "Workspaces", "version": env!("CARGO_PKG_VERSION"), "description": ABOUT },
        "servers": [{ "url": "/" }],
        "security": [{}, { "session": [] }],
        "paths": api.paths(),
        "components": {
            "schemas": api.schemas.0,
            "responses": common(),
            "securitySchemes": { "session": {
                "type": "http",
                "scheme": "bearer",
                "description": "The token of a session. A server without a hub needs none.",
            } },
        },
    })
}
