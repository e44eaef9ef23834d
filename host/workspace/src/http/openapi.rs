//! The API of all workspaces as an OpenAPI 3.1 document, and a page to read it.
//!
//! The document is made from the definitions at each request, so it is always that of the plugins
//! that serve. Every table, key and action has its own path, with the plugin's own schema: what
//! clients are generated from it are typed. A schema's `$defs` become components of their own,
//! since references are relative to the document.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use serde_json::{Map, Value, json};

use super::filters::takes;
use super::json_body;
use crate::definition::{ActionDefinition, ActionKind, Definition, TableDefinition};
use crate::query::{MAX_LIMIT, Operator};
use crate::schema::{Kinds, Schema, accepts, items, property};
use crate::workspaces::Workspaces;

/// The page; it works without a network, and takes the document from beside it.
const REFERENCE: &str = include_str!("openapi/reference.html");

const ABOUT: &str = "\
Answers are `{\"data\": …}`, errors `{\"error\": {\"message\", \"issues\"?}}`. Every answer to a \
write is sent once it is on disk.

Rows and lists carry an `ETag`: send it as `If-None-Match` to get 304 while nothing changed, and \
as `If-Match` with a write to get 412 when somebody was faster.

The document of a workspace syncs with any Yjs client over WebSocket at `/rooms/{workspace}`.

A server that is started with a hub wants the session's token as a bearer token.";

const SORT: &str = "Fields to sort by, most significant first; `-` before one is highest first.";
const LIVE: &str = "With `Accept: text/event-stream` the list is live: `reset`, a `put` for each \
row and without a filter an `invalid` for each that is not valid, `ready`; then `put`, `delete` and `invalid` as rows change, each time up to a `ready` whose \
id resumes the stream (`Last-Event-ID`). It takes `filter` and `fields`.";

impl Workspaces {
    /// The routes `/openapi` (a page) and `/openapi/json` (the document), to be merged into a
    /// server that has the workspaces under `/workspaces`.
    pub fn openapi_router(&self) -> Router {
        Router::new()
            .route("/openapi", get(reference))
            .route("/openapi/json", get(openapi))
            .with_state(self.clone())
    }
}

async fn reference() -> Response {
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
    api.add("/workspaces", "get", json!({
        "operationId": "workspaces",
        "summary": "All workspaces: what they consist of",
        "tags": ["workspaces"],
        "responses": answers(json!({ "200": ok("Descriptors.", json!({ "type": "array", "items": {} })) }), &[]),
    }));
    for definition in definitions {
        api.workspace(definition);
    }
    let issue = json!({
        "type": "object",
        "required": ["path", "message"],
        "properties": {
            "path": {
                "type": "array",
                "items": { "type": "string" },
                "description": "From the outermost member inwards; empty when the whole value is at fault.",
            },
            "message": { "type": "string" },
        },
    });
    let issues = json!({ "type": "array", "items": { "$ref": "#/components/schemas/Issue" } });
    let error = json!({
        "type": "object",
        "required": ["error"],
        "properties": { "error": {
            "type": "object",
            "required": ["message"],
            "properties": { "message": { "type": "string" }, "issues": issues, "row": {} },
        } },
    });
    let invalid_row = json!({
        "type": "object",
        "required": ["id", "issues", "row"],
        "properties": { "id": { "type": "string" }, "issues": issues, "row": {} },
    });
    for (name, schema) in [("Issue", issue), ("Error", error), ("InvalidRow", invalid_row)] {
        api.schemas.insert(name.into(), schema);
    }
    let errors = ERRORS.iter().map(|(_, name, description)| {
        let content = json!({ "schema": { "$ref": "#/components/schemas/Error" } });
        let error = json!({
            "description": description,
            "content": { "application/json": content },
        });
        ((*name).to_owned(), error)
    });
    let mut responses: Map<_, _> = errors.collect();
    responses.insert("NotModified".into(), json!({ "description": "You have this version." }));
    json!({
        "openapi": "3.1.0",
        "info": { "title": "Workspaces", "version": env!("CARGO_PKG_VERSION"), "description": ABOUT },
        "servers": [{ "url": "/" }],
        "security": [{}, { "session": [] }],
        "paths": api.paths,
        "components": {
            "schemas": api.schemas,
            "responses": responses,
            "securitySchemes": { "session": {
                "type": "http",
                "scheme": "bearer",
                "description": "The token of a session. A server without a hub wants none.",
            } },
        },
    })
}

#[derive(Default)]
struct Api {
    paths: Map<String, Value>,
    schemas: Map<String, Value>,
}

impl Api {
    fn add(&mut self, path: &str, method: &str, operation: Value) {
        let path = self.paths.entry(path).or_insert_with(|| json!({}));
        path[method] = operation;
    }

    fn workspace(&mut self, definition: &Definition) {
        let id = &definition.id;
        let base = format!("/workspaces/{id}");
        self.add(&base, "get", json!({
            "operationId": name(&[id]),
            "summary": format!("What {} consists of", definition.title),
            "tags": [id],
            "responses": answers(json!({ "200": ok("The descriptor.", json!({ "type": "object" })) }), &[404]),
        }));
        for table in &definition.tables {
            self.table(id, table);
            for document in &table.documents {
                self.document(id, &table.name, &document.name);
            }
        }
        self.kv(definition);
        let fields = definition.awareness.iter();
        let fields: Map<_, _> = fields
            .map(|field| {
                let schema = format!("{id}.awareness.{}", field.name);
                (field.name.clone(), self.schema(&schema, field.schema.clone()))
            })
            .collect();
        self.add(
            &format!("{base}/awareness"),
            "get",
            json!({
                "operationId": name(&[id, "awareness"]),
                "summary": "Who is there: presence states by client",
                "tags": [id, "awareness"],
                "responses": answers(json!({ "200": ok("The valid fields of each state.", json!({
                    "type": "object",
                    "additionalProperties": { "type": "object", "properties": fields },
                })) }), &[404]),
            }),
        );
        for action in &definition.actions {
            self.action(id, action);
        }
    }

    fn table(&mut self, workspace: &str, table: &TableDefinition) {
        let Some(schema) = table.versions.last() else { return };
        let tags = json!([workspace, "tables"]);
        let full = format!("{workspace}.{}", table.name);
        let row = self.schema(&full, schema.clone());
        let mut new = as_input(schema);
        if let Some(required) = new.get_mut("required").and_then(Value::as_array_mut) {
            required.retain(|field| field != "id");
        }
        if let Some(id) = new.pointer_mut("/properties/id").and_then(Value::as_object_mut) {
            id.insert("minLength".into(), 1.into());
            id.insert("maxLength".into(), 512.into());
        }
        let new = self.schema(&format!("{full}.new"), new);
        let mut some = as_input(schema);
        if let Some(some) = some.as_object_mut() {
            some.remove("required");
        }
        let some = self.schema(&format!("{full}.fields"), some);
        let operation = |verb: &str| name(&[workspace, &table.name, verb]);
        let rows = json!({ "type": "array", "items": row });
        let tagged = |description: &str, schema: &Value| {
            let mut answer = ok(description, schema.clone());
            answer["headers"] = json!({ "ETag": { "schema": { "type": "string" } } });
            answer
        };

        let path = format!("/workspaces/{workspace}/tables/{}", table.name);
        let mut listed = tagged("The rows.", &json!({}));
        // Live lists are left to the description: clients that are generated from two content types
        // take every list for rows or text.
        listed["content"] = json!({
            "application/json": { "schema": {
                "type": "object",
                "required": ["data"],
                "properties": {
                    "data": { "type": "array", "items": { "anyOf": [
                        row, some, { "$ref": "#/components/schemas/InvalidRow" },
                    ] } },
                    "next": { "type": "string", "description": "The cursor of the next page." },
                    "count": { "type": "integer", "description": "How many rows are selected in all." },
                },
            } },
        });
        self.add(&path, "get", json!({
            "operationId": operation("list"),
            "summary": format!("List {}", table.name),
            "description": format!("All valid rows, or those that the parameters select. {LIVE}"),
            "tags": tags,
            // For the reference page. As a type of the answer, programs that try all of them would wait
            // for its end.
            "x-live": true,
            "parameters": list_parameters(schema),
            "responses": answers(json!({
                "200": listed,
                "304": { "$ref": "#/components/responses/NotModified" },
            }), &[400, 404]),
        }));
        let written = json!({ "anyOf": [row, rows] });
        let example = example_row(table, schema);
        self.add(&path, "post", json!({
            "operationId": operation("create"),
            "summary": format!("Create or replace {}", table.name),
            "description": "One row, or an array of rows, which are written all or none. A row \
                without an id gets one. `If-None-Match: *` creates only, each of an array; its \
                issues name those that are there. Other conditions are for one row.",
            "tags": tags,
            "parameters": [header_parameter("If-Match"), header_parameter("If-None-Match")],
            "requestBody": { "required": true, "content": { "application/json": {
                "schema": { "anyOf": [new, { "type": "array", "items": new, "maxItems": 10_000 }] },
                "example": example,
            } } },
            "responses": answers(json!({
                "200": tagged("Written; one of them was there.", &written),
                "201": tagged("Created.", &written),
            }), &[&[400, 412, 413, 415, 422], WRITES, PLUGIN].concat()),
        }));
        self.add(
            &path,
            "delete",
            json!({
                "operationId": operation("deleteMany"),
                "summary": format!("Delete the {} that a filter selects", table.name),
                "description": "All of them or none; or the invalid rows, of more than 10,000 the \
                    first. One of `filter` and `invalid` has to be given.",
                "tags": tags,
                "parameters": [
                    filter_parameter(schema),
                    query_parameter("invalid", "Delete the rows that are not valid.", json!({ "type": "boolean" })),
                ],
                "responses": answers(json!({ "200": ok("How many it were.", json!({
                    "type": "object",
                    "required": ["deleted"],
                    "properties": { "deleted": { "type": "integer" } },
                })) }), &[&[400, 413, 422], WRITES, PLUGIN].concat()),
            }),
        );

        let path = format!("{path}/{{id}}");
        let id = json!({
            "name": "id", "in": "path", "required": true,
            "schema": { "type": "string", "minLength": 1, "maxLength": 512 },
        });
        self.add(&path, "get", json!({
            "operationId": operation("get"),
            "summary": format!("Read one of {}", table.name),
            "description": "An invalid row is answered with 422, its issues, and the row as it stands.",
            "tags": tags,
            "parameters": [id, header_parameter("If-None-Match")],
            "responses": answers(json!({
                "200": tagged("The row.", &row),
                "304": { "$ref": "#/components/responses/NotModified" },
            }), &[404, 422]),
        }));
        for method in ["put", "patch"] {
            self.add(
                &path,
                method,
                json!({
                    "operationId": operation(if method == "put" { "update" } else { "patch" }),
                    "summary": format!("Set fields of one of {}", table.name),
                    "description": "The fields that are not given stay. A row that is not valid as it \
                        is stored cannot be changed in part (422); POST replaces it.",
                    "tags": tags,
                    "parameters": [id, header_parameter("If-Match")],
                    "requestBody": { "required": true, "content": { "application/json": {
                        "schema": some,
                        "example": example,
                    } } },
                    "responses": answers(
                        json!({ "200": tagged("The row.", &row) }),
                        &[&[400, 412, 413, 415, 422], WRITES, PLUGIN].concat(),
                    ),
                }),
            );
        }
        self.add(
            &path,
            "delete",
            json!({
                "operationId": operation("delete"),
                "summary": format!("Delete one of {}", table.name),
                "tags": tags,
                "parameters": [id, header_parameter("If-Match")],
                "responses": answers(json!({ "200": ok("Deleted.", json!({
                    "type": "object",
                    "required": ["id"],
                    "properties": { "id": { "type": "string" } },
                })) }), &[&[412, 422], WRITES, PLUGIN].concat()),
            }),
        );
    }

    /// The document of that name, of each row.
    fn document(&mut self, workspace: &str, table: &str, document: &str) {
        let path = format!("/workspaces/{workspace}/tables/{table}/{{id}}/documents/{document}");
        let tags = json!([workspace, "tables"]);
        let operation = |verb: &str| name(&[workspace, table, document, verb]);
        let id = json!({
            "name": "id", "in": "path", "required": true,
            "schema": { "type": "string", "minLength": 1, "maxLength": 512 },
        });
        let text = json!({
            "type": "object",
            "required": ["text"],
            "properties": { "text": { "type": "string" } },
        });
        let mut answer = ok(
            "The text, and the room that it syncs in.",
            json!({
                "type": "object",
                "required": ["text", "guid"],
                "properties": { "text": { "type": "string" }, "guid": { "type": ["string", "null"] } },
            }),
        );
        answer["headers"] = json!({ "ETag": { "schema": { "type": "string" } } });
        let mut read = answer.clone();
        let plain = json!({ "schema": { "type": "string" } });
        read["content"]["text/plain"] = plain.clone();
        self.add(&path, "get", json!({
            "operationId": operation("get"),
            "summary": format!("Read the {document} of one of {table}"),
            "description": "The document's root text `content`, without marks. It syncs at `/rooms/{guid}`.",
            "tags": tags,
            "parameters": [id, header_parameter("If-None-Match")],
            "responses": answers(json!({
                "200": read,
                "304": { "$ref": "#/components/responses/NotModified" },
            }), &[404, 422, 500]),
        }));
        self.add(&path, "put", json!({
            "operationId": operation("set"),
            "summary": format!("Replace the {document} of one of {table}"),
            "description": "By as little as turns the old text into the new one; what others write \
                meanwhile is merged. Sets the row's time of the last edit.",
            "tags": tags,
            "parameters": [id, header_parameter("If-Match")],
            "requestBody": { "required": true, "content": {
                "application/json": { "schema": text, "example": { "text": "Hello" } },
                "text/plain": plain,
            } },
            "responses": answers(
                json!({ "200": answer }),
                &[&[400, 412, 413, 415, 422], WRITES, PLUGIN].concat(),
            ),
        }));
    }

    fn kv(&mut self, definition: &Definition) {
        let id = &definition.id;
        let tags = json!([id, "kv"]);
        let mut properties = Map::new();
        for kv in &definition.kv {
            let Some(current) = kv.versions.last() else { continue };
            let schema = self.schema(&format!("{id}.kv.{}", kv.key), current.clone());
            properties.insert(kv.key.clone(), schema.clone());
            let path = format!("/workspaces/{id}/kv/{}", kv.key);
            let answer = |description: &str, errors: &[u16]| {
                answers(json!({ "200": ok(description, schema.clone()) }), errors)
            };
            self.add(
                &path,
                "get",
                json!({
                    "operationId": name(&[id, "kv", &kv.key, "get"]),
                    "summary": format!("Read {}", kv.key),
                    "tags": tags,
                    "responses": answer("The value.", &[404, 422]),
                }),
            );
            self.add(
                &path,
                "put",
                json!({
                    "operationId": name(&[id, "kv", &kv.key, "set"]),
                    "summary": format!("Set {}", kv.key),
                    "tags": tags,
                    "parameters": [header_parameter("If-Match")],
                    "requestBody": { "required": true, "content": { "application/json": {
                        "schema": schema,
                        "example": Example { root: current }.of(current, 0),
                    } } },
                    "responses": answer(
                        "The value.",
                        &[&[400, 412, 413, 415, 422], WRITES, PLUGIN].concat(),
                    ),
                }),
            );
            self.add(
                &path,
                "delete",
                json!({
                    "operationId": name(&[id, "kv", &kv.key, "delete"]),
                    "summary": format!("Forget {}", kv.key),
                    "tags": tags,
                    "parameters": [header_parameter("If-Match")],
                    "responses": answers(json!({ "200": ok("Forgotten.", json!({
                        "type": "object",
                        "properties": { "key": { "type": "string" } },
                    })) }), &[&[412], WRITES].concat()),
                }),
            );
        }
        let values = json!({ "type": "object", "properties": properties });
        self.add(
            &format!("/workspaces/{id}/kv"),
            "get",
            json!({
                "operationId": name(&[id, "kv"]),
                "summary": "All values that are set and valid",
                "tags": tags,
                "responses": answers(json!({ "200": ok("By key.", values) }), &[404]),
            }),
        );
    }

    fn action(&mut self, workspace: &str, action: &ActionDefinition) {
        let full = format!("{workspace}.actions.{}", action.path.replace('/', "."));
        let namespace = action.path.split_once('/').map_or(workspace, |(namespace, _)| namespace);
        let (method, kind) = match action.kind {
            ActionKind::Query => ("get", "query"),
            ActionKind::Mutation => ("post", "mutation"),
        };
        let output = match &action.output {
            Some(output) => self.schema(&format!("{full}.output"), output.clone()),
            None => json!({}),
        };
        let mut errors = match action.kind {
            ActionKind::Query => vec![403, 404, 422],
            ActionKind::Mutation => [&[422], WRITES].concat(),
        };
        errors.extend(PLUGIN);
        match (&action.input, action.kind) {
            (None, _) => {}
            (Some(_), ActionKind::Query) => errors.push(400),
            (Some(_), ActionKind::Mutation) => errors.extend([400, 413, 415]),
        }
        let mut operation = json!({
            "operationId": name(&[workspace, &action.path]),
            "summary": if action.description.is_empty() { &action.path } else { &action.description },
            "tags": [namespace, kind],
            "responses": answers(json!({ "200": ok("The result.", output) }), &errors),
        });
        match (&action.input, action.kind) {
            (None, _) => {}
            (Some(input), ActionKind::Query) => {
                let required = input["required"].as_array();
                let fields = input["properties"].as_object().into_iter().flatten();
                let parameter = |(field, _): (&String, _)| {
                    let schema = format!("{full}.input.{field}");
                    json!({
                        "name": field, "in": "query",
                        "required": required.is_some_and(|required| required.contains(&json!(field))),
                        "schema": self.schema(&clean(&schema), within(input, property(input, field))),
                    })
                };
                operation["parameters"] = fields.map(parameter).collect();
            }
            (Some(input), ActionKind::Mutation) => {
                let nothing = Schema::compile(input).is_ok_and(|input| input.allows(&json!({})));
                operation["requestBody"] = json!({ "required": !nothing, "content": { "application/json": {
                    "schema": self.schema(&format!("{full}.input"), input.clone()),
                    "example": Example { root: input }.of(input, 0),
                } } });
            }
        }
        self.add(&format!("/workspaces/{workspace}/actions/{}", action.path), method, operation);
    }

    /// Takes a schema into the components, and what it defines within itself; returns a reference.
    fn schema(&mut self, name: &str, mut schema: Value) -> Value {
        if let Some(members) = schema.as_object_mut() {
            members.remove("$schema");
            members.remove("$id");
            for definitions in ["$defs", "definitions"] {
                let Some(Value::Object(definitions)) = members.remove(definitions) else {
                    continue;
                };
                for (key, mut definition) in definitions {
                    refer(&mut definition, name);
                    self.schemas.insert(format!("{name}.{}", clean(&key)), definition);
                }
            }
        }
        refer(&mut schema, name);
        self.schemas.insert(name.to_owned(), schema);
        json!({ "$ref": format!("#/components/schemas/{name}") })
    }
}

/// Makes the references of a schema within itself ones to the component of that name.
fn refer(schema: &mut Value, name: &str) {
    match schema {
        Value::Object(members) => {
            for (key, value) in members {
                match (key.as_str(), &*value) {
                    // These hold values, not schemas.
                    ("const" | "enum" | "default" | "example" | "examples", _) => {}
                    ("$ref", Value::String(target)) => {
                        let Some(pointer) = target.strip_prefix('#') else { continue };
                        let defined = ["/$defs/", "/definitions/"]
                            .iter()
                            .find_map(|definitions| pointer.strip_prefix(definitions));
                        let target = match defined {
                            Some(key) => format!("{name}.{}", clean(key)),
                            None => format!("{name}{pointer}"),
                        };
                        *value = format!("#/components/schemas/{target}").into();
                    }
                    _ => refer(value, name),
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(|value| refer(value, name)),
        _ => {}
    }
}

/// The schema of a row that somebody sends. Generators of clients take a field with a default for
/// one that is always there, which is so in answers only.
fn as_input(schema: &Value) -> Value {
    let mut schema = schema.clone();
    let fields = schema.get_mut("properties").and_then(Value::as_object_mut);
    for field in fields.into_iter().flat_map(|fields| fields.values_mut()) {
        if let Some(field) = field.as_object_mut() {
            field.remove("default");
        }
    }
    schema
}

/// A part of a schema, with the definitions that it may refer to.
fn within(root: &Value, part: &Value) -> Value {
    let mut part = part.clone();
    for definitions in ["$defs", "definitions"] {
        if let (Some(part), Some(all)) = (part.as_object_mut(), root.get(definitions)) {
            part.entry(definitions).or_insert_with(|| all.clone());
        }
    }
    part
}

/// Names of components have few characters to choose from.
fn clean(name: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    name.chars().map(|c| if allowed(c) { c } else { '_' }).collect()
}

/// The name of an operation, which clients make into that of a function.
fn name(parts: &[&str]) -> String {
    clean(&parts.join("_")).replace(['.', '-'], "_")
}

fn ok(description: &str, data: Value) -> Value {
    json!({
        "description": description,
        "content": { "application/json": { "schema": {
            "type": "object",
            "required": ["data"],
            "properties": { "data": data },
        } } },
    })
}

/// The errors that there are: status, name and what it means.
const ERRORS: &[(u16, &str, &str)] = &[
    (
        400,
        "BadRequest",
        "The query string, a header or the body cannot be read, or asks for what is not there.",
    ),
    (401, "Unauthorized", "The server wants a session, and none that is valid was sent."),
    (403, "Forbidden", "The caller, or the page that asks, may not do this."),
    (404, "NotFound", "There is no such workspace, table, row, key, document or action."),
    (409, "Conflict", "Others keep changing the same rows; try again."),
    (412, "PreconditionFailed", "What is there is not what `If-Match` or `If-None-Match` demands."),
    (413, "TooLarge", "The body is too large, or it would change too many rows."),
    (415, "UnsupportedMediaType", "The body is of another type."),
    (422, "Invalid", "A value is not valid; `issues` say where and why."),
    (500, "Failed", "The workspace's plugin failed."),
    (
        503,
        "Unavailable",
        "The server has too much to do, stops, or cannot reach what it needs; try again.",
    ),
    (504, "TimedOut", "The workspace's plugin took too long."),
    (507, "Full", "The document is as large as it may become."),
];

/// What every operation may answer.
const EVERYWHERE: &[u16] = &[401, 503];
/// What may come of changing the document.
const WRITES: &[u16] = &[403, 404, 409, 507];
/// What may come of asking the plugin.
const PLUGIN: &[u16] = &[500, 504];

/// The answers of an operation. All errors that it knows are named: clients that are generated
/// tell them apart, and tests find those that it does not know.
fn answers(mut answers: Value, errors: &[u16]) -> Value {
    for (status, name, _) in ERRORS {
        if EVERYWHERE.contains(status) || errors.contains(status) {
            let error = json!({ "$ref": format!("#/components/responses/{name}") });
            answers[status.to_string()] = error;
        }
    }
    answers
}

fn header_parameter(name: &str) -> Value {
    json!({ "name": name, "in": "header", "schema": { "type": "string" } })
}

fn query_parameter(name: &str, description: &str, schema: Value) -> Value {
    json!({ "name": name, "in": "query", "description": description, "schema": schema })
}

fn list_parameters(schema: &Value) -> Value {
    let fields: Vec<_> =
        schema["properties"].as_object().into_iter().flatten().map(|f| f.0).collect();
    let orders: Vec<_> = fields.iter().flat_map(|f| [f.to_string(), format!("-{f}")]).collect();
    let named = |names: Value| match fields.is_empty() {
        true => json!({ "type": "string" }),
        false => json!({ "type": "string", "enum": names }),
    };
    let several = |name: &str, description: &str, items: Value| {
        json!({
            "name": name, "in": "query", "description": description,
            "style": "form", "explode": false,
            "schema": { "type": "array", "items": items, "minItems": 1 },
        })
    };
    let one = query_parameter;
    let boolean = || json!({ "type": "boolean" });
    let limit = json!({ "type": "integer", "minimum": 0, "maximum": MAX_LIMIT });
    json!([
        one("limit", "At most so many rows; without it, all.", limit),
        one(
            "cursor",
            "Where the page before said that it goes on (`next`).",
            json!({ "type": "string" })
        ),
        several("sort", SORT, named(json!(orders))),
        filter_parameter(schema),
        several("fields", "The fields of each row that are wanted.", named(json!(fields))),
        one("count", "Whether to count all rows that are selected.", boolean()),
        one("invalid", "The invalid rows with their issues, in place of the others.", boolean()),
        header_parameter("If-None-Match"),
    ])
}

fn filter_parameter(schema: &Value) -> Value {
    let fields = schema["properties"].as_object().into_iter().flatten();
    let fields: Map<_, _> =
        fields.map(|(field, part)| (field.clone(), filter_of(schema, part))).collect();
    let operators: Vec<_> = Operator::NAMED.iter().map(|(name, _)| *name).collect();
    let description = format!(
        "`filter[field]=value`, or `filter[field][operator]=value` with {}. All must hold. Arrays \
         and objects are written as JSON, the list of `in` also with commas. Where a field may be a \
         text or something else, a text in quotes is one: `\"null\"`.",
        operators.join(", ")
    );
    json!({
        "name": "filter", "in": "query", "description": description,
        "style": "deepObject", "explode": true,
        "schema": { "type": "object", "properties": fields, "additionalProperties": false },
    })
}

/// What a field can be compared with: a value that it is to equal, or an object of operators.
fn filter_of(root: &Value, part: &Value) -> Value {
    let kinds = Kinds::of(root, part);
    let types = |names: Vec<&str>| json!({ "type": names });
    let equal = || types(kinds.names());
    let member = || types(Kinds::of(root, items(root, part)).names());
    let operand = |operator: Operator| match operator {
        Operator::Eq | Operator::Ne => equal(),
        Operator::In => json!({ "type": "array", "items": equal(), "minItems": 1 }),
        Operator::Contains => match (kinds.have("string"), kinds.have("array")) {
            (true, true) => json!({ "anyOf": [{ "type": "string" }, member()] }),
            (false, true) => member(),
            _ => json!({ "type": "string" }),
        },
        Operator::Prefix => json!({ "type": "string" }),
        Operator::Exists => json!({ "type": "boolean" }),
        Operator::Gt | Operator::Gte | Operator::Lt | Operator::Lte => {
            let names = kinds.names().into_iter();
            types(names.filter(|name| !matches!(*name, "null" | "array" | "object")).collect())
        }
    };
    let usable = Operator::NAMED
        .iter()
        .filter(|(_, operator)| takes(*operator).iter().any(|kind| kinds.have(kind)));
    let operators: Map<_, _> =
        usable.map(|(name, operator)| ((*name).to_owned(), operand(*operator))).collect();
    let operators = json!({
        "type": "object",
        "properties": operators,
        "additionalProperties": false,
        "minProperties": 1,
    });
    // An object is one of operators, and an array would be taken for several values.
    let simple = kinds.names().into_iter().filter(|name| !matches!(*name, "array" | "object"));
    match simple.collect::<Vec<_>>() {
        simple if simple.is_empty() => operators,
        simple => json!({ "anyOf": [types(simple), operators] }),
    }
}

/// A row for people to begin from. It has no id, so that it makes a new row each time, and no document: two
/// rows that name the same room would have one text.
fn example_row(table: &TableDefinition, schema: &Value) -> Value {
    let mut example = Example { root: schema }.of(schema, 0);
    let Some(row) = example.as_object_mut() else { return example };
    row.remove("id");
    let required = schema["required"].as_array().map_or(&[][..], |required| required);
    let columns = table.documents.iter().flat_map(|d| [&d.guid_column, &d.updated_at_column]);
    for column in columns {
        if !required.iter().any(|name| name == column.as_str()) {
            row.remove(column);
            continue;
        }
        let kinds = Kinds::of(schema, &schema["properties"][column.as_str()]);
        let nothing = if kinds.have("null") {
            Value::Null
        } else if kinds.have("string") {
            "".into()
        } else {
            0.into()
        };
        row.insert(column.clone(), nothing);
    }
    example
}

/// Makes values that a schema describes, for people to begin from.
struct Example<'a> {
    root: &'a Value,
}

impl Example<'_> {
    fn of(&self, schema: &Value, depth: usize) -> Value {
        let given = schema.get("const").or_else(|| schema.get("default"));
        let given = given.or_else(|| schema["examples"].get(0)).or_else(|| schema["enum"].get(0));
        // An empty text is a common default, and one that plugins like to refuse.
        if let Some(given) = given.filter(|given| given.as_str() != Some("")) {
            return given.clone();
        }
        if depth > 4 {
            return Value::Null;
        }
        if let Some(pointer) = schema["$ref"].as_str().and_then(|target| target.strip_prefix('#')) {
            return self
                .root
                .pointer(pointer)
                .map_or(Value::Null, |schema| self.of(schema, depth + 1));
        }
        let alternatives = ["anyOf", "oneOf", "allOf"].iter().find_map(|key| schema[*key].get(0));
        if let Some(first) = alternatives {
            return self.of(first, depth + 1);
        }
        let kinds = ["object", "array", "string", "integer", "number", "boolean"];
        match kinds.into_iter().find(|kind| accepts(schema, kind)) {
            Some("object") => {
                let fields = schema["properties"].as_object().into_iter().flatten();
                let fields = fields.filter(|(field, _)| *field != "_v");
                fields
                    .map(|(f, schema)| (f.clone(), self.of(schema, depth + 1)))
                    .collect::<Map<_, _>>()
                    .into()
            }
            Some("array") => {
                let least = schema["minItems"].as_u64().unwrap_or(0).min(8);
                (0..least).map(|_| self.of(&schema["items"], depth + 1)).collect()
            }
            Some("string") => example_text(schema).into(),
            Some("integer" | "number") => {
                schema.get("minimum").cloned().unwrap_or_else(|| 1.into())
            }
            Some("boolean") => false.into(),
            _ => Value::Null,
        }
    }
}

/// A text of the schema's format. One without a format has the length that is asked for.
fn example_text(schema: &Value) -> String {
    let text = match schema["format"].as_str() {
        Some("date-time") => "2026-01-31T12:00:00Z",
        Some("date") => "2026-01-31",
        Some("time") => "12:00:00Z",
        Some("duration") => "PT15M",
        Some("email" | "idn-email") => "ada@example.com",
        Some("hostname" | "idn-hostname") => "example.com",
        Some("ipv4") => "192.0.2.1",
        Some("ipv6") => "2001:db8::1",
        Some("uuid") => "123e4567-e89b-42d3-a456-426614174000",
        Some("uri" | "uri-reference" | "iri" | "iri-reference" | "url") => "https://example.com/",
        _ => {
            let length = |name: &str| schema[name].as_u64().and_then(|n| usize::try_from(n).ok());
            // Longer than this an example explains nothing any more.
            let least = length("minLength").unwrap_or(0).min(64);
            let most = length("maxLength").unwrap_or(usize::MAX);
            return "text".chars().cycle().take(least.max(4).min(most)).collect();
        }
    };
    text.to_owned()
}
