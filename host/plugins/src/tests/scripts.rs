//! Scripts, as requests see them: beside a component, and as a workspace of their own.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use host_sync::{Rooms, Sqlite};
use host_workspace::Workspaces;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::guest::Guest;
use super::logged;
use super::served::request;
use crate::ai::Models;
use crate::{Allocation, Limits, Plugins, PluginsConfig};

/// A folder of plugins, and the routes that it serves.
pub(super) struct Served {
    _dir: TempDir,
    plugins: Plugins,
    router: Router,
}

const NOTES: &str = r#"{
    "type": "object",
    "required": ["id", "text"],
    "properties": { "id": { "type": "string" }, "text": { "type": "string" }, "stars": { "type": "integer" } }
}"#;

impl Served {
    pub(super) async fn start(files: &[(&str, &str)]) -> Self {
        let limits = Limits { action: Duration::from_secs(2), ..Limits::default() };
        Self::start_with(limits, files).await
    }

    async fn start_with(limits: Limits, files: &[(&str, &str)]) -> Self {
        Self::start_as(limits, None, files).await
    }

    pub(super) async fn start_with_models(
        models: Option<Arc<dyn Models>>,
        files: &[(&str, &str)],
    ) -> Self {
        Self::start_as(Limits::default(), models, files).await
    }

    async fn start_as(
        limits: Limits,
        models: Option<Arc<dyn Models>>,
        files: &[(&str, &str)],
    ) -> Self {
        let dir = TempDir::new().unwrap();
        let folder = dir.path().join("plugins");
        for (file, text) in files {
            let path = folder.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            match file.ends_with(".wasm") {
                true => fs::write(path, Guest::default().module()).unwrap(),
                false => fs::write(path, text).unwrap(),
            }
        }
        let storage = Sqlite::open(&dir.path().join("rooms.db")).unwrap();
        let rooms = Rooms::new(Arc::new(storage), host_sync::Limits::default(), Arc::new(()));
        let workspaces = Workspaces::new(rooms);
        let mut config = PluginsConfig::new(folder, dir.path().join("cache"));
        config.allocation = Allocation::OnDemand;
        config.limits = limits;
        config.models = models;
        let plugins = Plugins::open(config, workspaces.clone()).await.unwrap();
        Self { _dir: dir, plugins, router: workspaces.router() }
    }

    /// A workspace of its own, `notes`, with one table and this script.
    async fn notes(script: &str) -> Self {
        Self::start(&[("notes/workspace.rhai", script), ("notes/tables/notes.json", NOTES)]).await
    }

    pub(super) async fn get(&self, uri: &str) -> (u16, Value) {
        self.ask("GET", uri, json!(null)).await
    }

    async fn post(&self, uri: &str, body: Value) -> (u16, Value) {
        self.ask("POST", uri, body).await
    }

    async fn ask(&self, method: &str, uri: &str, body: Value) -> (u16, Value) {
        let (status, text) = request(&self.router, method, uri, &body.to_string()).await;
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    /// Why a plugin is not served in its newest version.
    pub(super) fn error(&self) -> String {
        let status = self.plugins.status();
        status.into_iter().find_map(|plugin| plugin.error).unwrap_or_default()
    }
}

pub(super) fn query(body: &str) -> String {
    format!("//! A test.\n//! ---\n//! kind = \"query\"\n{body}")
}

fn mutation(body: &str) -> String {
    format!("//! A test.\n//! ---\n//! kind = \"mutation\"\n{body}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_script_beside_a_component_is_one_more_action_of_its_workspace() {
    let served = Served::start(&[
        ("notes.wasm", ""),
        (
            "notes/actions/notes/add.rhai",
            "//! Adds a note.\n//! ---\n//! kind = \"mutation\"\n//! input.text = \"string\"\n\
             //! input.stars = { type = \"integer\", default = 3 }\n\
             let row = tables::put(\"notes\", #{ id: context::random_id(), text: input.text, stars: input.stars });\n\
             log::info(`added ${row.id}`);\nrow",
        ),
        (
            "notes.actions.rhai",
            "/// Notes with so many stars.\n/// ---\n/// kind = \"query\"\n/// path = \"notes/best\"\n\
             /// input.min = { type = \"integer\", default = 4 }\n\
             fn best(input) { tables::list(\"notes\", #{ filter: #{ stars: #{ gte: input.min } }, sort: \"-stars\" }) }",
        ),
    ])
    .await;
    assert_eq!(served.error(), "");
    let (status, body) = served.post("/notes/actions/notes/add", json!({ "text": "Tea" })).await;
    assert_eq!((status, &body["data"]["stars"]), (200, &json!(3)), "{body}");
    let (status, body) =
        served.post("/notes/actions/notes/add", json!({ "text": "Cake", "stars": 5 })).await;
    assert_eq!(status, 200, "{body}");
    let (_, body) = served.get("/notes/actions/notes/best").await;
    assert_eq!(body["data"].as_array().map(Vec::len), Some(1), "{body}");
    assert_eq!(body["data"][0]["text"], "Cake");
    let (_, body) = served.get("/notes/actions/notes/best?min=1").await;
    assert_eq!(body["data"][1]["text"], "Tea", "{body}");
    // What its schema does not allow never reaches the script.
    let (status, body) = served.post("/notes/actions/notes/add", json!({ "txt": "Tea" })).await;
    assert_eq!(status, 422, "{body}");
    let status = &served.plugins.status()[0];
    assert_eq!(status.scripts, ["notes.actions.rhai", "notes/actions/notes/add.rhai"]);
    assert!(status.calls >= 4, "{status:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_of_scripts_and_schemas_is_a_workspace_of_its_own() {
    let script = "//! ---\n//! title = \"Notes\"\n//! kv.theme = { enum = [\"light\", \"dark\"] }\n\
        fn validate(table, row) { if row.text.len() > 5 { invalid(\"text\", \"is too long\") } }\n\
        fn check(change) { if change.operation == \"delete\" { denied(\"notes stay\") } \
        else if change.row.text == \"\" { \"say something\" } }\n\
        /// How many there are.\n/// ---\n/// kind = \"query\"\nfn count() { tables::count(\"notes\") }";
    let served = Served::notes(script).await;
    assert_eq!(served.error(), "");
    let table = "/notes/tables/notes";
    let (status, body) = served.post(table, json!({ "id": "a", "text": "Tea" })).await;
    assert_eq!(status, 201, "{body}");
    let (status, body) = served.post(table, json!({ "id": "b" })).await;
    assert_eq!(status, 422, "{body}");
    let (status, body) = served.post(table, json!({ "id": "b", "text": "Too long" })).await;
    assert_eq!(status, 422, "{body}");
    assert_eq!(body["error"]["issues"], json!([{ "path": ["text"], "message": "is too long" }]));
    let (status, body) = served.ask("DELETE", "/notes/tables/notes/a", json!(null)).await;
    assert_eq!(status, 403, "{body}");
    assert!(body.to_string().contains("notes stay"), "{body}");
    let (status, body) = served.post(table, json!({ "id": "b", "text": "" })).await;
    assert_eq!(status, 422, "{body}");
    assert!(body.to_string().contains("say something"), "{body}");
    let (status, body) = served.get("/notes/actions/count").await;
    assert_eq!((status, &body["data"]), (200, &json!(1)), "{body}");
    let (status, _) = served.ask("PUT", "/notes/kv/theme", json!("dark")).await;
    assert!(status < 300, "{status}");
    let (status, _) = served.ask("PUT", "/notes/kv/theme", json!("pink")).await;
    assert_eq!(status, 422);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_of_older_versions_are_migrated_step_by_step() {
    let served = Served::start(&[
        (
            "notes/workspace.rhai",
            "fn migrate(table, row, version) {\n  if version == 1 { row.text = row.remove(\"title\"); } else { row.stars = 0; }\n  row\n}",
        ),
        (
            "notes/tables/notes/1.json",
            r#"{"type":"object","required":["id","title"],"additionalProperties":false,
                "properties":{"id":{"type":"string"},"title":{"type":"string"}}}"#,
        ),
        (
            "notes/tables/notes/2.json",
            r#"{"type":"object","required":["id","text"],"additionalProperties":false,
                "properties":{"id":{"type":"string"},"text":{"type":"string"}}}"#,
        ),
        (
            "notes/tables/notes/3.json",
            r#"{"type":"object","required":["id","text","stars"],
                "properties":{"id":{"type":"string"},"text":{"type":"string"},"stars":{"type":"integer"}}}"#,
        ),
    ])
    .await;
    assert_eq!(served.error(), "");
    let cases = [
        (json!({ "id": "a", "title": "Tea" }), 201, "Tea"),
        (json!({ "id": "a", "text": "Cake" }), 200, "Cake"),
        (json!({ "id": "a", "text": "Cake", "_v": 2 }), 200, "Cake"),
        (json!({ "id": "a", "text": "Jam", "stars": 2, "_v": 3 }), 200, "Jam"),
    ];
    for (row, expected, text) in cases {
        let (status, body) = served.post("/notes/tables/notes", row.clone()).await;
        assert_eq!((status, &body["data"]["text"]), (expected, &json!(text)), "{row} {body}");
        assert_eq!(body["data"]["_v"], 3, "{body}");
    }
    for row in
        [json!({ "id": "a", "text": "Cake", "_v": 4 }), json!({ "id": "a", "title": "x", "_v": 2 })]
    {
        let (status, body) = served.post("/notes/tables/notes", row).await;
        assert_eq!(status, 422, "{body}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_action_of_a_script_happens_entirely_or_not_at_all() {
    let put = "tables::put(\"notes\", #{ id: \"a\", text: \"x\" });";
    let served = Served::start(&[
        ("notes/workspace.rhai", "fn nothing() {}"),
        ("notes/tables/notes.json", NOTES),
        ("notes/actions/thrown.rhai", &mutation(&format!("{put} throw \"no\";"))),
        ("notes/actions/denied.rhai", &mutation(&format!("{put} throw denied(\"not you\");"))),
        ("notes/actions/missing.rhai", &mutation(&format!("{put} throw not_found();"))),
        ("notes/actions/refused.rhai", &mutation(&format!("{put} tables::put(\"notes\", #{{ id: \"b\" }})"))),
        ("notes/actions/broken.rhai", &mutation(&format!("{put}\nlet x = [];\nx.y.z"))),
        ("notes/actions/query.rhai", &query(put)),
        (
            "notes/actions/caught.rhai",
            &mutation(&format!(
                "{put} try {{ tables::put(\"notes\", #{{ id: \"b\" }}); }} catch (e) {{ return e.error; }}"
            )),
        ),
    ])
    .await;
    assert_eq!(served.error(), "");
    let cases = [
        ("thrown", 500, "no"),
        ("denied", 403, "not you"),
        ("missing", 404, ""),
        ("refused", 422, "text"),
        ("broken", 500, "notes/actions/broken.rhai:6:"),
    ];
    for (action, expected, text) in cases {
        let (status, body) = served.post(&format!("/notes/actions/{action}"), json!(null)).await;
        assert_eq!(status, expected, "{action}: {body}");
        assert!(body.to_string().contains(text), "{action}: {body}");
        assert_eq!(served.get("/notes/tables/notes/a").await.0, 404, "{action}");
    }
    let (status, body) = served.get("/notes/actions/query").await;
    assert_eq!(status, 403, "{body}");
    let (status, body) = served.post("/notes/actions/caught", json!(null)).await;
    assert_eq!((status, &body["data"]), (200, &json!("invalid")), "{body}");
    assert_eq!(served.get("/notes/tables/notes/a").await.0, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_script_that_cannot_be_loaded_says_where_it_is_wrong() {
    let cases = [
        (query("let x = ;"), "notes/actions/a.rhai:4:9: "),
        (query("let x = y;"), "notes/actions/a.rhai:4:9: "),
        (query("eval(\"1\")"), "notes/actions/a.rhai:4:1: "),
        (query("import \"/etc/passwd\" as x;"), "notes/actions/a.rhai:4:1: "),
        (query("let f = Fn(\"g\"); f.curry(1)"), "notes/actions/a.rhai:4:"),
        ("1 + 1".into(), "notes/actions/a.rhai:1: does not say what it is"),
        ("//! ---\n//! kind = \"quarry\"".into(), "notes/actions/a.rhai:2: "),
    ];
    for (script, expected) in cases {
        let served = Served::start(&[("notes.wasm", ""), ("notes/actions/a.rhai", &script)]).await;
        let error = served.error();
        assert!(error.starts_with(expected), "{script}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_action_that_is_there_twice_is_an_error_that_names_both() {
    let function = "/// X.\n/// ---\n/// kind = \"query\"\nfn a() {}";
    let served = Served::start(&[
        ("notes.wasm", ""),
        ("notes/actions/a.rhai", &query("1")),
        ("notes.actions.rhai", function),
    ])
    .await;
    let error = served.error();
    assert!(
        error.starts_with("notes/actions/a.rhai:1: the action a is defined by notes.actions.rhai"),
        "{error}"
    );
}

/// Each of these ends in one error, and what comes after it works.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_scripts_end_in_one_clear_error() {
    let cases: &[(&str, &str)] = &[
        ("loop {}", "it took more than 200000 steps"),
        ("fn f(n) { f(n + 1) } f(0)", "recursed too deeply"),
        ("let s = \"x\"; loop { s += s; }", "a value is too large: length of string"),
        (
            "let s = \"x\"; s.pad(1000000, 'x'); s.replace(\"x\", s); s.len()",
            "a value is too large",
        ),
        ("let s = \"\"; s.pad(1000000, ' '); s.split(' ').len()", "a value is too large"),
        ("let a = [1]; loop { a += a; }", "a value is too large: size of array"),
        ("let a = []; loop { a = [a]; }", "steps"),
        ("let m = #{}; for i in 0..10000000 { m[`k${i}`] = i; }", "steps"),
        (
            "let s = \"x\"; s.pad(1000000, 'x'); let a = []; for i in 0..7 { a.push(s + i); }\n\
             let all = #{}; let b = a + []; let c = []; \n\
             fn hold(s, n) { let t = s + n; hold(t, n + 1) } hold(s, 0)",
            "",
        ),
        ("let n = 0; for i in 0..9223372036854775807 { n += 1; }", "steps"),
        ("for i in 0..10 { for j in 0..1000000 { print(j); } }", "more than 100 times"),
        ("for i in 0..200 { tables::count(\"notes\"); }", "more than 100 times"),
        ("let f = |x| x; let g = f; loop { g.call(1); }", "steps"),
        ("sleep(100)", "function not found: sleep"),
        ("exit(1)", "function not found: exit"),
        ("1 / 0", "division by zero"),
        ("[1, 2][10]", "out of bounds"),
        ("tables::put(\"notes\", #{ id: \"a\", text: \"x\", f: |x| x })", "which is not JSON"),
        (
            "tables::list(\"notes\", #{ where: 1 })",
            "a query may have filter, sort, limit and cursor",
        ),
        ("try { loop {} } catch { 1 }", "steps"),
    ];
    let names: Vec<String> = (0..cases.len()).map(|n| format!("notes/actions/a{n}.rhai")).collect();
    let scripts: Vec<String> = cases.iter().map(|(script, _)| mutation(script)).collect();
    let mut files: Vec<(&str, &str)> =
        names.iter().zip(&scripts).map(|(name, script)| (&**name, &**script)).collect();
    let fine = mutation("\"fine\"");
    files.push(("notes.wasm", ""));
    files.push(("notes/actions/fine.rhai", &fine));
    let limits = Limits {
        action: Duration::from_secs(20),
        script_steps: 200_000,
        script_string: 4 << 20,
        script_items: 20_000,
        script_memory: 16 << 20,
        host_calls: 100,
        ..Limits::default()
    };
    let served = Served::start_with(limits, &files).await;
    assert_eq!(served.error(), "");
    for (n, (script, expected)) in cases.iter().enumerate() {
        let (status, body) = served.post(&format!("/notes/actions/a{n}"), json!(null)).await;
        // What grows in depth is measured anew at each step, which a slow machine may not finish.
        if status != 504 || !script.contains("a = [a]") {
            assert!(status == 500 || status == 422, "{script}: {status} {body}");
            assert!(body.to_string().contains(expected), "{script}: {body}");
        }
        let (status, body) = served.post("/notes/actions/fine", json!(null)).await;
        assert_eq!((status, &body["data"]), (200, &json!("fine")), "after {script}: {body}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_script_is_held_to_its_time_and_its_memory() {
    let limits = |action| Limits {
        action,
        script_steps: u64::MAX >> 1,
        script_string: 64 << 20,
        script_memory: 16 << 20,
        ..Limits::default()
    };
    let bomb =
        "let a = []; for i in 0..100 { let s = \"\"; s.pad(100000, 'x'); a.push(s + i); } a.len()";
    let spin = [("notes.wasm", ""), ("notes/actions/spin.rhai", &mutation("loop {}"))];
    let served = Served::start_with(limits(Duration::from_millis(300)), &spin).await;
    let (status, body) = served.post("/notes/actions/spin", json!(null)).await;
    assert_eq!(status, 504, "{body}");
    assert!(body.to_string().contains("action spin took longer than 300 ms"), "{body}");
    let served = Served::start_with(
        limits(Duration::from_secs(30)),
        &[
            ("notes.wasm", ""),
            ("notes/actions/small.rhai", &mutation("let s = \"\"; s.pad(1000000, 'x'); s.len()")),
            ("notes/actions/bomb.rhai", &mutation(&format!("fn f(n) {{ {bomb}; f(n + 1) }} f(0)"))),
        ],
    )
    .await;
    let (status, body) = served.post("/notes/actions/small", json!(null)).await;
    assert_eq!(status, 200, "{body}");
    let (status, body) = served.post("/notes/actions/bomb", json!(null)).await;
    assert_eq!(status, 500, "{body}");
    assert!(body.to_string().contains("out of memory, a script may use 16 MiB"), "{body}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scripts_that_write_never_wait_for_each_other_for_ever() {
    let limits = Limits { actions: 4, checks: 1, parses: 1, ..Limits::default() };
    let put = mutation("tables::put(\"notes\", #{ id: context::random_id(), text: \"x\" }).text");
    let served = Served::start_with(
        limits,
        &[
            ("notes/workspace.rhai", "fn validate(table, row) {} fn check(change) { }"),
            ("notes/tables/notes.json", NOTES),
            ("notes/actions/put.rhai", &put),
        ],
    )
    .await;
    let calls = (0..40).map(|_| {
        let router = served.router.clone();
        tokio::spawn(async move { request(&router, "POST", "/notes/actions/put", "null").await })
    });
    for call in calls.collect::<Vec<_>>() {
        let (status, body) = call.await.unwrap();
        assert_eq!(status, 200, "{body}");
    }
    let (_, body) = served.get("/notes/tables/notes?count=true&limit=100").await;
    assert_eq!(body["data"].as_array().map(Vec::len), Some(40), "{body}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scripts_that_spin_leave_room_for_others() {
    let limits =
        Limits { action: Duration::from_secs(3), script_steps: u64::MAX >> 1, ..Limits::default() };
    let spin = mutation("loop {}");
    let served = Served::start_with(
        limits,
        &[
            ("slow/workspace.rhai", "fn nothing() {}"),
            ("slow/actions/spin.rhai", &spin),
            ("notes/workspace.rhai", "fn nothing() {}"),
            ("notes/tables/notes.json", NOTES),
            ("notes/actions/fine.rhai", &query("1")),
        ],
    )
    .await;
    let spinning: Vec<_> = (0..32)
        .map(|_| {
            let router = served.router.clone();
            tokio::spawn(
                async move { request(&router, "POST", "/slow/actions/spin", "null").await },
            )
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let mut done = 0;
    while spinning.iter().any(|call| !call.is_finished()) && done < 200 {
        let (status, body) = served.get("/notes/actions/fine").await;
        assert_eq!(status, 200, "{body}");
        done += 1;
    }
    // A place for each kind of thread is left over, and a core for whoever is quick.
    assert!(done >= 50, "{done} quick calls beside 32 that spin");
    for call in spinning {
        let (status, body) = call.await.unwrap();
        assert!(status == 504 || status == 503, "{status} {body}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scripts_read_and_write_the_documents_of_rows() {
    let schema = r#"{
        "type": "object",
        "required": ["id"],
        "properties": {
            "id": { "type": "string" },
            "body": { "type": "string" },
            "edited": { "type": "integer" }
        }
    }"#;
    let head = "//! ---\n//! documents.notes.body = { guid = \"body\", updated_at = \"edited\" }\n";
    let append = mutation(
        "let text = documents::get_text(\"notes\", input.id, \"body\") + input.text;\n\
         documents::set_text(\"notes\", input.id, \"body\", text);\n\
         if input.text == \"!\" { throw denied(\"enough\"); }\n\
         documents::get_text(\"notes\", input.id, \"body\")",
    );
    let append =
        append.replace("kind", "input.id = \"string\"\n//! input.text = \"string\"\n//! kind");
    let peek = query("documents::set_text(\"notes\", \"1\", \"body\", \"no\")");
    let lost = query("documents::get_text(\"notes\", \"1\", \"title\")");
    let served = Served::start(&[
        ("notes/workspace.rhai", head),
        ("notes/tables/notes.json", schema),
        ("notes/actions/append.rhai", &append),
        ("notes/actions/peek.rhai", &peek),
        ("notes/actions/lost.rhai", &lost),
    ])
    .await;
    assert_eq!(served.error(), "");
    let (status, body) = served.post("/notes/tables/notes", json!({ "id": "1" })).await;
    assert_eq!(status, 201, "{body}");
    let add = async |text: &str| {
        served.post("/notes/actions/append", json!({ "id": "1", "text": text })).await
    };
    assert_eq!(add("Tea").await, (200, json!({ "data": "Tea" })));
    assert_eq!(add(" é").await, (200, json!({ "data": "Tea é" })));
    // What an action writes before it fails is not written.
    assert_eq!(add("!").await.0, 403);
    let (_, body) = served.get("/notes/tables/notes/1/documents/body").await;
    assert_eq!(body["data"]["text"], "Tea é", "{body}");
    let (_, body) = served.get("/notes/tables/notes/1").await;
    assert!(body["data"]["edited"].as_u64().is_some_and(|at| at > 0), "{body}");
    assert!(body["data"]["body"].is_string(), "{body}");
    assert_eq!(served.get("/notes/actions/peek").await.0, 403);
    assert_eq!(served.get("/notes/actions/lost").await.0, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_about_several_rows_are_a_line_each_and_refuse_as_scripts_can_catch() {
    let head = "//! ---\n\
        //! unique.notes = [\"text\", [\"stars\", \"of\"]]\n\
        //! references.notes.of = { table = \"notes\", on_delete = \"cascade\" }\n";
    let schema = NOTES.replace("\"stars\":", "\"of\": { \"type\": \"string\" }, \"stars\":");
    let twice = mutation(
        "let said = \"\"; try { tables::put(\"notes\", #{ id: \"2\", text: \"tea\" }); } \
         catch (error) { said = `${error.error} ${error.issues[0].path[0]}`; } said",
    );
    let served = Served::start(&[
        ("notes/workspace.rhai", head),
        ("notes/tables/notes.json", &schema),
        ("notes/actions/twice.rhai", &twice),
    ])
    .await;
    assert_eq!(served.error(), "");
    let post = async |row: Value| served.post("/notes/tables/notes", row).await.0;
    assert_eq!(post(json!({ "id": "1", "text": "tea" })).await, 201);
    assert_eq!(post(json!({ "id": "2", "text": "tea" })).await, 409);
    assert_eq!(post(json!({ "id": "2", "text": "milk", "of": "3" })).await, 409);
    assert_eq!(post(json!({ "id": "2", "text": "milk", "of": "1" })).await, 201);
    let caught = served.post("/notes/actions/twice", json!({})).await;
    assert_eq!(caught, (200, json!({ "data": "conflict text" })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_need_a_table_and_its_fields() {
    let cases = [
        ("unique.posts = [\"text\"]", "unique.posts: there is no such table"),
        ("unique.notes = [\"txt\"]", "names \"txt\", which is no field of the table"),
        ("references.notes.text = \"posts\"", "table \"posts\", which the workspace does not have"),
        ("references.notes.text = { table = \"notes\", on_delete = \"drop\" }", "on_delete"),
    ];
    for (settings, expected) in cases {
        let served = Served::notes(&format!("//! ---\n//! {settings}\n")).await;
        assert!(served.error().contains(expected), "{settings}: {}", served.error());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn documents_need_a_table_and_its_columns() {
    let cases = [
        ("notes.body = { guid = \"body\", updated_at = \"stars\" }", "no property \"body\""),
        ("posts.body = { guid = \"id\", updated_at = \"stars\" }", "there is no such table"),
        ("notes.body = { guid = \"text\" }", "missing field `updated_at`"),
    ];
    for (settings, expected) in cases {
        let served = Served::notes(&format!("//! ---\n//! documents.{settings}\n")).await;
        assert!(served.error().contains(expected), "{settings}: {}", served.error());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_memory_of_scripts_is_known_while_they_run_and_while_they_do_not() {
    let script =
        "//! ---\n//! kind = \"query\"\nlet s = \"\"; s.pad(2000000, 'x'); loop { s.len(); }";
    let files = [("notes/workspace.rhai", "fn nothing() {}"), ("notes/actions/hold.rhai", script)];
    let served = Arc::new(Served::start(&files).await);
    let memory = |served: &Served| served.plugins.status()[0].memory;
    let idle = memory(&served);
    assert!(idle > 1_000 && idle < 1_000_000, "{idle}");
    let running = {
        let served = served.clone();
        tokio::spawn(async move { served.get("/notes/actions/hold").await })
    };
    while !running.is_finished() && memory(&served) < idle + 2_000_000 {
        tokio::task::yield_now().await;
    }
    assert!(!running.is_finished(), "it ended, and nobody saw what it held");
    let (status, answer) = running.await.unwrap();
    assert!(status >= 500, "{status} {answer}");
    // The thread gives back what it held after it has answered.
    while memory(&served) != idle {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_script_reaches_what_its_manifest_names_and_nothing_else() {
    let ask = query("http::get(\"http://example.com/tea\")");
    let read = query("environment::get(input.name)")
        .replace("//! kind", "//! input.name = \"string\"\n//! kind");
    let garbled = query("http::send(#{ uri: \"http://example.com/\" })");
    let files = [
        ("notes/workspace.rhai", "fn check(change) { http::get(\"http://example.com/\") }"),
        ("notes/tables/notes.json", NOTES),
        ("notes/actions/ask.rhai", &ask),
        ("notes/actions/read.rhai", &read),
        ("notes/actions/garbled.rhai", &garbled),
    ];
    let served = Served::start(&files).await;
    assert_eq!(served.error(), "");
    let none = "this plugin may not ask example.com; `hosts` under `[http]` in its manifest says whom it may";
    let outside = "requests can be sent in actions only";
    let unnamed = "this plugin may not read PATH; `env = [\"PATH\"]` in its manifest allows it";
    let denied = |message: &str| (403, json!({ "error": { "message": message } }));
    assert_eq!(served.get("/notes/actions/ask").await, denied(none));
    assert_eq!(served.get("/notes/actions/read?name=PATH").await, denied(unnamed));
    let refused = served.post("/notes/tables/notes", json!({ "id": "a", "text": "x" })).await;
    assert_eq!(refused, denied(outside));
    let (status, body) = served.get("/notes/actions/garbled").await;
    assert_eq!(status, 500, "{body}");
    assert!(body.to_string().contains("a request has method, url, headers and body"), "{body}");

    let manifest = ("notes/workspace.toml", "env = [\"PATH\", \"HOST_TEST_NOT_SET\"]");
    let served = Served::start(&[&files[..], &[manifest]].concat()).await;
    assert_eq!(served.error(), "");
    let path = std::env::var("PATH").unwrap();
    let given = served.get("/notes/actions/read?name=PATH").await;
    assert_eq!(given, (200, json!({ "data": path })));
    let absent = served.get("/notes/actions/read?name=HOST_TEST_NOT_SET").await;
    assert_eq!(absent, (200, json!({ "data": null })));
    assert_eq!(served.get("/notes/actions/read?name=HOME").await.0, 403);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_author_is_told_where_the_host_refused_and_where_a_table_is_misspelt() {
    logged::listen();
    let update = mutation("let id = \"none\";\n  tables::update(\"notes\", id, #{ text: \"x\" })");
    let caught =
        mutation("try { tables::update(\"notes\", \"none\", #{}); } catch { return \"caught\"; }");
    let misspelt = query("let all = tables::list(\"nots\");\nall.len()");
    let served = Served::start(&[
        ("notes/workspace.rhai", "fn nothing() {}"),
        ("notes/tables/notes.json", NOTES),
        ("notes/tables/tags.json", NOTES),
        ("notes/actions/told-update.rhai", &update),
        ("notes/actions/told-caught.rhai", &caught),
        ("notes/actions/told-misspelt.rhai", &misspelt),
    ])
    .await;
    assert_eq!(served.error(), "");
    let (status, body) = served.post("/notes/actions/told-update", json!(null)).await;
    assert_eq!(status, 404, "{body}");
    let line = logged::line_with("told-update.rhai").unwrap_or_default();
    assert!(line.starts_with("notes/actions/told-update.rhai:5:11: "), "{line}");

    let (status, body) = served.post("/notes/actions/told-caught", json!(null)).await;
    assert_eq!((status, &body["data"]), (200, &json!("caught")));
    assert_eq!(logged::line_with("told-caught.rhai"), None);

    let (status, body) = served.get("/notes/actions/told-misspelt").await;
    assert_eq!(status, 500, "{body}");
    let place = "notes/actions/told-misspelt.rhai:4:19: there is no table \\\"nots\\\"; there is notes, tags";
    assert!(body.to_string().contains(place), "{body}");
}
