//! A server with one workspace, whose logic is plain Rust, and tables of requests against it.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode, header};
use axum::response::Response;
use host_sync::{Any, Edit, Id, Limits, Rooms, Sqlite, Storage};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::Notify;
use tower::ServiceExt;
use yrs::updates::decoder::Decode;
use yrs::{Array, Transact, types::ToJson};

use crate::definition::{ActionDefinition, ActionKind, AwarenessField, KvDefinition};
use crate::definition::{Definition, Issue, TableDefinition};
use crate::query::Query;
use crate::{ActionError, Change, Data, Fault, Logic, Operation, Parsed, Workspaces};

/// A blog with accounts: posts in two versions, and accounts whose changes are checked.
pub struct Blog {
    definition: Arc<Definition>,
    /// What a migrated post says it was migrated by; another one is another plugin.
    migration: &'static str,
    /// Posts with a longer title are not valid.
    longest_title: usize,
    /// How many rows it has parsed.
    pub parsed: AtomicUsize,
    /// Lets `posts/number` go on, which says when it waits.
    pub gate: Option<Arc<(Notify, Notify)>>,
}

impl Blog {
    pub fn new() -> Self {
        let object = |properties: Value| json!({ "type": "object", "properties": properties });
        let table = |name: &str, versions: Vec<Value>, checks_changes| TableDefinition {
            name: name.into(),
            versions,
            documents: Vec::new(),
            checks_changes,
            ..TableDefinition::default()
        };
        let action = |path: &str, kind, input: Option<Value>| ActionDefinition {
            path: path.into(),
            kind,
            description: String::new(),
            input,
            output: None,
        };
        let string = || json!({ "type": "string" });
        let integer = || json!({ "type": "integer" });
        let post = object(json!({
            "id": string(),
            "title": string(),
            "views": integer(),
            "published": { "type": "boolean" },
            "tags": { "type": "array", "items": string() },
            "by": { "$ref": "#/$defs/author" },
        }));
        let mut current = post;
        current["$defs"] = json!({ "author": { "type": ["string", "null"] } });
        let account = object(json!({ "id": string(), "balance": integer() }));
        let one = |name: &str, schema: Value| {
            let mut schema = object(json!({ name: schema }));
            schema["required"] = json!([name]);
            Some(schema)
        };
        let definition = Definition {
            id: "blog".into(),
            title: String::new(),
            version: "1".into(),
            tables: vec![
                table(
                    "posts",
                    vec![object(json!({ "id": string(), "title": string() })), current],
                    false,
                ),
                table("accounts", vec![account], true),
            ],
            kv: vec![
                KvDefinition {
                    key: "theme".into(),
                    versions: vec![json!({ "enum": ["light", "dark"] })],
                },
                KvDefinition { key: "limits".into(), versions: vec![json!({})] },
            ],
            awareness: vec![
                AwarenessField { name: "name".into(), schema: string() },
                AwarenessField {
                    name: "cursor".into(),
                    schema: object(json!({ "x": integer(), "y": integer() })),
                },
            ],
            actions: vec![
                action("posts/popular", ActionKind::Query, one("min", integer())),
                action("posts/publish", ActionKind::Mutation, one("id", string())),
                action("posts/number", ActionKind::Mutation, None),
                action("posts/half", ActionKind::Mutation, one("how", string())),
                action("posts/sneak", ActionKind::Query, None),
                action("accounts/transfer", ActionKind::Mutation, one("amount", integer())),
                action("size", ActionKind::Mutation, one("text", string())),
                action("theme/flip", ActionKind::Mutation, None),
            ],
        };
        Self {
            definition: definition.check().unwrap(),
            migration: "first",
            longest_title: 100,
            parsed: AtomicUsize::new(0),
            gate: None,
        }
    }

    /// Another version of the plugin.
    pub fn migrating(mut self, migration: &'static str) -> Self {
        self.migration = migration;
        self
    }

    /// A stricter version of the plugin.
    pub fn with_titles_up_to(mut self, longest_title: usize) -> Self {
        self.longest_title = longest_title;
        self
    }

    /// A version of the plugin that has other tables.
    pub fn redefined(mut self, change: impl FnOnce(&mut Definition)) -> Self {
        let mut definition = Definition::clone(&self.definition);
        change(&mut definition);
        self.definition = definition.check().unwrap();
        self
    }

    fn parse_post(&self, row: &str) -> Parsed {
        let mut row: Value = serde_json::from_str(row).unwrap();
        let Some(title) = row["title"].as_str() else {
            return Err(vec![Issue::at("title", "must be a string")]);
        };
        if title.is_empty() || title.len() > self.longest_title {
            let longest = self.longest_title;
            return Err(vec![Issue::at("title", format!("must have 1 to {longest} letters"))]);
        }
        match &row["views"] {
            Value::Null => {
                row["views"] = 0.into();
                row["by"] = self.migration.into();
            }
            views if !views.is_u64() => return Err(vec![Issue::at("views", "must be a number")]),
            _ => {}
        }
        Ok(row.to_string())
    }

    fn fault(&self, call: &str) -> Fault {
        let (plugin, call) = ("blog".to_owned(), call.to_owned());
        Fault::Trapped { plugin, call, reason: "it was told to".into() }
    }
}

#[async_trait]
impl Logic for Blog {
    fn definition(&self) -> &Arc<Definition> {
        &self.definition
    }

    async fn parse_rows(
        &self,
        table: &str,
        rows: Vec<String>,
        _: &str,
    ) -> Result<Vec<Parsed>, Fault> {
        // A plugin takes its time, so that others come in between.
        tokio::task::yield_now().await;
        self.parsed.fetch_add(rows.len(), Ordering::Relaxed);
        if rows.iter().any(|row| row.contains("\"trap\"")) {
            return Err(self.fault("parse-rows"));
        }
        Ok(match table {
            "posts" => rows.iter().map(|row| self.parse_post(row)).collect(),
            _ => rows.into_iter().map(Ok).collect(),
        })
    }

    async fn parse_kv(&self, key: &str, value: String, _: &str) -> Result<Parsed, Fault> {
        Ok(match (key, value.as_str()) {
            ("theme", "\"light\"" | "\"dark\"") | ("limits", _) => Ok(value),
            _ => Err(vec![Issue::whole("must be light or dark")]),
        })
    }

    async fn check_change(
        &self,
        change: Change,
        data: Arc<dyn Data>,
    ) -> Result<Result<(), ActionError>, Fault> {
        tokio::task::yield_now().await;
        if change.operation == Operation::Delete && change.id == "bank" {
            return Ok(Err(ActionError::Denied("the bank stays".into())));
        }
        let written = data.clone().put("posts", r#"{"id":"sneaked","title":"in a check"}"#).await;
        assert!(matches!(written, Err(ActionError::Denied(_))), "a check wrote");
        let new = change.new.map(|row| serde_json::from_str::<Value>(&row).unwrap());
        if new.is_some_and(|row| row["balance"].as_i64().is_some_and(|balance| balance < 0)) {
            let issue = Issue::at("balance", "must not be negative");
            return Ok(Err(ActionError::Invalid(vec![issue])));
        }
        Ok(Ok(()))
    }

    async fn run_action(
        &self,
        path: &str,
        input: String,
        data: Arc<dyn Data>,
    ) -> Result<Result<String, ActionError>, Fault> {
        tokio::task::yield_now().await;
        let input: Value = serde_json::from_str(&input).unwrap();
        if path == "posts/half" && input["how"] == "trap" {
            let _ = data.clone().put("posts", r#"{"id":"half","title":"t"}"#).await;
            return Err(self.fault("posts/half"));
        }
        if let Some(gate) = self.gate.as_ref().filter(|_| path == "posts/number") {
            gate.0.notify_one();
            gate.1.notified().await;
        }
        Ok(act(path, &input, &data).await)
    }
}

async fn act(path: &str, input: &Value, data: &Arc<dyn Data>) -> Result<String, ActionError> {
    match path {
        "posts/popular" => {
            let rows = data.list("posts", &Query::default())?.rows;
            let rows = rows.into_iter().map(|row| serde_json::from_str::<Value>(&row).unwrap());
            let popular = rows.filter(|row| row["views"].as_i64() >= input["min"].as_i64());
            Ok(popular.collect::<Value>().to_string())
        }
        "posts/publish" => {
            let id = input["id"].as_str().unwrap();
            data.clone().update("posts", id, r#"{"published":true}"#).await
        }
        // A new post, numbered by how many there are.
        "posts/number" => {
            let number = data.count("posts", &[])? + 1;
            let row = json!({ "id": format!("n{number}"), "title": "numbered" });
            data.clone().put("posts", &row.to_string()).await
        }
        "posts/half" if input["how"].as_str().is_some_and(|how| how.starts_with("text")) => {
            assert_eq!(data.text("posts", "a", "body").await?, "");
            data.clone().set_text("posts", "a", "body", "written").await?;
            let text = data.text("posts", "a", "body").await?;
            assert_eq!(text, "written", "a mutation sees its own writes");
            match input["how"].as_str() {
                Some("text-fail") => Err(ActionError::Failed("half way".into())),
                _ => Ok(json!(text).to_string()),
            }
        }
        "posts/half" => {
            data.clone().put("posts", r#"{"id":"half","title":"t"}"#).await?;
            assert!(data.get("posts", "half")?.is_some(), "a mutation sees its own writes");
            assert_eq!(data.kv_get("theme"), Ok(None));
            data.clone().kv_set("theme", "\"dark\"").await?;
            match input["how"].as_str() {
                Some("fail") => Err(ActionError::Failed("half way".into())),
                Some("deny") => Err(ActionError::Denied("not you".into())),
                _ => data.clone().put("posts", r#"{"id":"other","title":""}"#).await,
            }
        }
        "posts/sneak" => data.clone().put("posts", r#"{"id":"sneaked","title":"t"}"#).await,
        "accounts/transfer" => {
            let amount = input["amount"].as_i64().unwrap();
            for (id, change) in [("a", -amount), ("b", amount)] {
                let account = data.get("accounts", id)?.ok_or(ActionError::NotFound)?;
                let account: Value = serde_json::from_str(&account).unwrap();
                let balance = account["balance"].as_i64().unwrap() + change;
                data.clone()
                    .update("accounts", id, &json!({ "balance": balance }).to_string())
                    .await?;
            }
            Ok("null".into())
        }
        "size" => Ok(input["text"].as_str().unwrap().len().to_string()),
        "theme/flip" => {
            let dark = data.kv_get("theme")?.as_deref() == Some("\"dark\"");
            data.clone().kv_set("theme", if dark { "\"light\"" } else { "\"dark\"" }).await?;
            Ok("null".into())
        }
        _ => Err(ActionError::NotFound),
    }
}

/// A server with the blog, on storage of its own.
pub struct Server {
    pub workspaces: Workspaces,
    pub rooms: Rooms,
    router: Router,
    folder: TempDir,
}

impl Server {
    pub async fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), Blog::new()).await
    }

    async fn start_in(folder: TempDir, blog: Blog) -> Self {
        let storage = Sqlite::open(&folder.path().join("rooms.db")).unwrap();
        Self::start_on(Arc::new(storage), folder, blog).await
    }

    /// Starts on other storage than its own.
    pub async fn start_on(storage: Arc<dyn Storage>, folder: TempDir, blog: Blog) -> Self {
        let rooms = Rooms::new(storage, Limits::default(), Arc::new(()));
        let workspaces = Workspaces::new(rooms.clone());
        workspaces.mount(Arc::new(blog)).await.unwrap();
        let router = Router::new().nest("/workspaces", workspaces.router());
        Self { workspaces, rooms, router, folder }
    }

    /// Stops, and starts again from what is on disk.
    pub async fn restart(self, blog: Blog) -> Self {
        self.rooms.shutdown().await;
        Self::start_in(self.folder, blog).await
    }

    /// Replaces the plugin.
    pub async fn reload(&self, blog: Blog) {
        self.workspaces.mount(Arc::new(blog)).await.unwrap();
    }

    /// Pushes entries as a client that syncs would, who asks nobody.
    pub async fn synced(&self, array: &str, entries: impl IntoIterator<Item = Value>) {
        self.synced_by(host_sync::Author::server(), array, entries).await;
    }

    /// The same, by somebody.
    pub async fn synced_by(
        &self,
        author: Arc<host_sync::Author>,
        array: &str,
        entries: impl IntoIterator<Item = Value>,
    ) {
        let pushes = entries.into_iter().map(|entry| (array.to_owned(), Any::of(&entry))).collect();
        let room = self.rooms.open("blog").unwrap();
        room.edit(author, move |_| (Edit { pushes, ..Edit::default() }, ())).await.unwrap();
        if let Some(workspace) = self.workspaces.get("blog") {
            workspace.generation().catch_up().await;
        }
    }

    /// The entries of a table, as another implementation of Yjs reads the document.
    pub async fn entries(&self, table: &str) -> Vec<Value> {
        let document = self.rooms.open("blog").unwrap().snapshot().await.unwrap();
        let doc = yrs::Doc::new();
        let array = doc.get_or_insert_array(format!("table:{table}"));
        let mut transaction = doc.transact_mut();
        transaction.apply_update(yrs::Update::decode_v1(&document).unwrap()).unwrap();
        let values = array.iter(&transaction).map(|value| value.to_json(&transaction));
        values.map(|value| serde_json::to_value(value).unwrap()).collect()
    }

    /// The elements in the document that are entries of a key.
    pub fn ids(&self, array: &str, key: &str) -> Vec<Id> {
        let entry =
            self.workspaces.get("blog").unwrap().index().lock().winner(&(array.into(), key.into()));
        entry.into_iter().map(|entry| entry.id).collect()
    }

    pub fn router(&self) -> Router {
        self.router.clone()
    }

    pub async fn send(&self, request: Request<Body>) -> Response {
        self.router.clone().oneshot(request).await.unwrap()
    }

    /// The answer to one request.
    pub async fn ask(&self, request: Ask) -> Answer {
        let response = self.send(request.request()).await;
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let text = String::from_utf8(body.to_vec()).unwrap();
        Answer { status: parts.status, headers: parts.headers, text }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.ask(ask("GET", path)).await
    }

    /// Stores posts, each as it stands.
    pub async fn with_posts(self, posts: impl IntoIterator<Item = Value>) -> Self {
        for post in posts {
            let answer = self.ask(ask("POST", "/tables/posts").json(post)).await;
            assert!(answer.status.is_success(), "{}", answer.text);
        }
        self
    }

    /// Sends requests one after the other and compares each answer with what it should be.
    pub async fn check(&self, scenarios: impl IntoIterator<Item = Scenario>) {
        let mut wrong = String::new();
        for scenario in scenarios {
            let name = scenario.name;
            let answer = self.ask(scenario.ask.clone()).await;
            let mut complain = |what: String| {
                let _ = writeln!(wrong, "{name}: {what}\n    {} {}", answer.status, answer.text);
            };
            if answer.status.as_u16() != scenario.status {
                complain(format!("expected {}", scenario.status));
            }
            for text in scenario.has {
                if !answer.text.contains(text) {
                    complain(format!("expected {text}"));
                }
            }
            for text in scenario.lacks {
                if answer.text.contains(text) {
                    complain(format!("did not expect {text}"));
                }
            }
            for (header, value) in scenario.headers {
                if answer.header(header) != *value {
                    complain(format!("expected {header}: {value}, not {}", answer.header(header)));
                }
            }
        }
        assert!(wrong.is_empty(), "\n{wrong}");
    }
}

/// A request.
#[derive(Clone)]
pub struct Ask {
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    body: String,
}

/// A request to the blog; a path that begins with `/workspaces` is meant as a whole.
pub fn ask(method: &str, path: &str) -> Ask {
    let whole = path.starts_with("/workspaces");
    let path = if whole { path.to_owned() } else { format!("/workspaces/blog{path}") };
    Ask { method: method.into(), path, headers: Vec::new(), body: String::new() }
}

impl Ask {
    pub fn json(self, body: Value) -> Self {
        self.header("content-type", "application/json").text(&body.to_string())
    }

    pub fn text(mut self, body: &str) -> Self {
        self.body = body.into();
        self
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    pub fn request(self) -> Request<Body> {
        let mut request = Request::builder().method(self.method.as_str()).uri(self.path);
        for (name, value) in self.headers {
            request = request.header(name, value);
        }
        request.body(Body::from(self.body)).unwrap()
    }
}

pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("not JSON: {}", self.text))
    }

    /// The `data` of the answer.
    pub fn data(&self) -> Value {
        self.json()["data"].clone()
    }

    pub fn header(&self, name: &str) -> String {
        self.headers.get(name).map_or_else(String::new, |v| v.to_str().unwrap().to_owned())
    }

    pub fn tag(&self) -> String {
        self.header(header::ETAG.as_str())
    }
}

/// A request, and what its answer must be.
pub struct Scenario {
    name: &'static str,
    ask: Ask,
    status: u16,
    has: &'static [&'static str],
    lacks: &'static [&'static str],
    headers: &'static [(&'static str, &'static str)],
}

/// A scenario: its name, its request and the expected status.
pub fn case(name: &'static str, ask: Ask, status: u16) -> Scenario {
    Scenario { name, ask, status, has: &[], lacks: &[], headers: &[] }
}

impl Scenario {
    pub fn has(mut self, has: &'static [&'static str]) -> Self {
        self.has = has;
        self
    }

    pub fn lacks(mut self, lacks: &'static [&'static str]) -> Self {
        self.lacks = lacks;
        self
    }

    pub fn headers(mut self, headers: &'static [(&'static str, &'static str)]) -> Self {
        self.headers = headers;
        self
    }
}

/// An entry of a table, as clients write it.
pub fn entry(id: &str, row: Value, ts: u64) -> Value {
    json!({ "key": id, "val": row, "ts": ts })
}
