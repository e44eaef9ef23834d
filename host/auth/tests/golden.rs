//! Replays recordings of Better Auth and expects the same answers.
//!
//! A recording is a session with a real server: requests, answers, and what was written to and
//! found in its database. It is replayed in order. Ids, tokens and signatures differ from run to
//! run, so the recorded ones are replaced by ours as they appear. Times and addresses are compared
//! by their form, and everything else exactly, down to the order of fields.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::SystemTime;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;
use rusqlite::types::ValueRef;
use serde::Deserialize;
use serde_json::{Map, Value};
use tower::ServiceExt;

mod harness;

/// Not part of Better Auth, but of the server that was recorded.
const OF_ITS_SERVER: &[&str] = &["protected macro", "404 outside basepath"];

/// Better Auth fails here with a 500; we report the error.
const BETTER: (&str, StatusCode) = ("update-user name null", StatusCode::BAD_REQUEST);

/// Where 1.4.19 answers with a different status than 1.7.25, which we follow.
const CHANGED_SINCE_1_4: &[&str] = &[
    "wrong method POST get-session",
    "signup bad json",
    "origin: signin w/o cookie, bad origin",
    "update-session",
];

#[derive(Deserialize)]
struct Step {
    name: String,
    request: Option<Asked>,
    response: Option<Answered>,
    sql: Option<String>,
    result: Option<String>,
}

#[derive(Deserialize)]
struct Asked {
    method: String,
    path: String,
    headers: Option<BTreeMap<String, String>>,
    body: Option<Value>,
}

#[derive(Deserialize)]
struct Answered {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

fn recording(version: &str) -> Vec<Step> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recordings");
    let path = folder.join(format!("better-auth-{version}.jsonl"));
    let text = std::fs::read_to_string(path).expect("the recording is in the repository");
    text.lines().map(|line| serde_json::from_str(line).expect("a line is a step")).collect()
}

/// Replaces what differs from run to run.
#[derive(Default)]
struct Replacements(Vec<(String, String)>);

impl Replacements {
    fn apply(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, (theirs, ours)| text.replace(theirs, ours))
    }

    fn add(&mut self, theirs: &str, ours: &str) {
        if theirs != ours && !self.0.iter().any(|(known, _)| known == theirs) {
            self.0.push((theirs.to_owned(), ours.to_owned()));
        }
    }

    /// Learns ids and tokens: values in the same place that look like one.
    fn learn(&mut self, theirs: &Value, ours: &Value) {
        match (theirs, ours) {
            (Value::String(theirs), Value::String(ours)) if is_id(theirs) && is_id(ours) => {
                self.add(theirs, ours);
            }
            (Value::Object(theirs), Value::Object(ours)) => {
                for (name, value) in theirs {
                    self.learn(value, ours.get(name).unwrap_or(&Value::Null));
                }
            }
            (Value::Array(theirs), Value::Array(ours)) => {
                theirs.iter().zip(ours).for_each(|(theirs, ours)| self.learn(theirs, ours));
            }
            _ => {}
        }
    }

    /// Learns the token and signature of a cookie, bare and percent-encoded.
    fn learn_cookie(&mut self, theirs: &str, ours: &str) {
        let value = |line: &str| {
            let (_, rest) = line.split_once('=')?;
            let (token, signature) = rest.split(';').next()?.split_once('.')?;
            Some((token.to_owned(), signature.to_owned()))
        };
        let (Some(theirs), Some(ours)) = (value(theirs), value(ours)) else { return };
        self.add(&theirs.0, &ours.0);
        self.add(&theirs.1, &ours.1);
        self.add(&decoded(&theirs.1), &decoded(&ours.1));
    }
}

fn is_id(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

fn decoded(text: &str) -> String {
    percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// A value with its times, addresses and hashes replaced by their form.
fn by_form(value: Value) -> Value {
    match value {
        Value::String(text) if is_time(&text) => "<time>".into(),
        Value::String(text) if is_hash(&text) => "<hash>".into(),
        Value::Array(values) => values.into_iter().map(by_form).collect(),
        Value::Object(fields) => {
            let form = |(name, value): (String, Value)| match (name.as_str(), value) {
                ("ipAddress", Value::String(_)) => (name, "<address>".into()),
                (_, value) => (name, by_form(value)),
            };
            Value::Object(fields.into_iter().map(form).collect())
        }
        other => other,
    }
}

fn is_time(text: &str) -> bool {
    text.len() == 24 && text.ends_with('Z') && host_auth::Time::parse(text).is_some()
}

fn is_hash(text: &str) -> bool {
    let hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    text.split_once(':')
        .is_some_and(|(salt, key)| salt.len() == 32 && key.len() == 128 && hex(salt) && hex(key))
}

struct Replay {
    app: Router,
    host: String,
    database: rusqlite::Connection,
    replacements: Replacements,
    _folder: tempfile::TempDir,
}

impl Replay {
    async fn new(steps: &[Step]) -> Self {
        // The server's own name was used when the page was its own.
        let own = steps.iter().find(|step| step.name == "origin: POST w/ cookie, self origin");
        let own = own.and_then(|step| step.request.as_ref()?.headers.as_ref()?.get("origin"));
        let host =
            own.and_then(|origin| origin.strip_prefix("http://")).expect("its origin").into();
        let folder = tempfile::tempdir().expect("a folder");
        let accounts = harness::accounts(folder.path(), |config| {
            // As in the recorded server; by default ours would end the sessions.
            config.reset_ends_sessions = false;
            config.trusted_origins =
                vec!["http://localhost:5173".into(), "tauri://localhost".into()];
        })
        .await;
        let database = rusqlite::Connection::open(folder.path().join("auth.db")).expect("it opens");
        let replacements = Replacements::default();
        Self { app: accounts.router(), host, database, replacements, _folder: folder }
    }

    async fn ask(&self, asked: &Asked) -> (StatusCode, HeaderMap, String) {
        let mut request = Request::builder()
            .method(asked.method.as_str())
            .uri(self.replacements.apply(&asked.path))
            .header("host", &self.host);
        let headers = asked.headers.clone().unwrap_or_default();
        if asked.body.is_some() && !headers.contains_key("content-type") {
            request = request.header("content-type", "application/json");
        }
        for (name, value) in headers.iter().filter(|(_, value)| !value.is_empty()) {
            request = request.header(name, self.replacements.apply(value));
        }
        let body = match &asked.body {
            None => String::new(),
            Some(Value::String(text)) => text.clone(),
            Some(value) => value.to_string(),
        };
        let request = request.body(Body::from(self.replacements.apply(&body)));
        let response = self.app.clone().oneshot(request.expect("a request")).await;
        let (parts, body) = response.expect("the router answers").into_parts();
        let body = body.collect().await.expect("the body ends").to_bytes();
        (parts.status, parts.headers, String::from_utf8(body.to_vec()).expect("it is text"))
    }

    /// Runs SQL with its times shifted to now, and returns the rows as JSON.
    fn run(&self, sql: &str, then: SystemTime) -> Vec<Value> {
        let mut sql = self.replacements.apply(sql);
        let quoted: Vec<_> = sql.split('\'').map(str::to_owned).collect();
        for time in quoted.iter().filter(|part| is_time(part)) {
            let recorded: SystemTime = host_auth::Time::parse(time).expect("a time").into();
            // Times were recorded to the second; what had expired then must have expired now.
            let now = SystemTime::now() - std::time::Duration::from_secs(2);
            let moved = match recorded.duration_since(then) {
                Ok(later) => now + later,
                Err(earlier) => now - earlier.duration(),
            };
            sql = sql.replace(time.as_str(), &host_auth::Time::from(moved).to_string());
        }
        let mut statement = self.database.prepare(&sql).expect("the SQL of the recording");
        let names: Vec<_> = statement.column_names().into_iter().map(str::to_owned).collect();
        let mut rows = statement.query([]).expect("it runs");
        let mut found = Vec::new();
        while let Some(row) = rows.next().expect("a row") {
            let mut fields = Map::new();
            for (column, name) in names.iter().enumerate() {
                let value = match row.get_ref(column).expect("a column") {
                    ValueRef::Null => Value::Null,
                    ValueRef::Integer(number) => number.into(),
                    ValueRef::Real(number) => number.into(),
                    ValueRef::Text(text) | ValueRef::Blob(text) => {
                        String::from_utf8_lossy(text).into_owned().into()
                    }
                };
                fields.insert(name.clone(), value);
            }
            found.push(Value::Object(fields));
        }
        found
    }
}

fn header<'a>(headers: &'a [(String, String)], name: &str) -> Vec<&'a str> {
    let named = headers.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name));
    named.map(|(_, value)| value.as_str()).collect()
}

fn texts(headers: &HeaderMap, name: &str) -> Vec<String> {
    let values = headers.get_all(name).iter();
    values.map(|value| value.to_str().expect("it is text").to_owned()).collect()
}

/// When something was recorded, according to the next answer.
fn recorded_at(steps: &[Step]) -> SystemTime {
    let dates = steps.iter().filter_map(|step| step.response.as_ref()).filter_map(|answered| {
        let date = *header(&answered.headers, "date").first()?;
        let date = jiff::fmt::rfc2822::parse(date).ok()?;
        Some(SystemTime::from(date.timestamp()))
    });
    dates.into_iter().next().unwrap_or_else(SystemTime::now)
}

#[tokio::test]
async fn every_answer_is_that_of_better_auth_1_7_25() {
    let steps = recording("1.7.25");
    let mut replay = Replay::new(&steps).await;
    let mut compared = 0;
    for (at, step) in steps.iter().enumerate() {
        let name = &step.name;
        if let Some(sql) = &step.sql {
            let found = replay.run(sql, recorded_at(&steps[at..]));
            let expected = step.result.as_deref().unwrap_or_default().trim();
            let expected: Value = if expected.is_empty() {
                Value::Array(Vec::new())
            } else {
                serde_json::from_str(expected).expect("rows as JSON")
            };
            let found = Value::Array(found);
            replay.replacements.learn(&expected, &found);
            let expected = replay.replacements.apply(&expected.to_string());
            let expected: Value = serde_json::from_str(&expected).expect("still JSON");
            assert_eq!(by_form(found), by_form(expected), "{sql}");
            continue;
        }
        let (Some(asked), Some(answered)) = (&step.request, &step.response) else {
            panic!("{name} is neither a request nor SQL");
        };
        if OF_ITS_SERVER.iter().any(|start| name.starts_with(start)) {
            continue;
        }
        let (status, headers, body) = replay.ask(asked).await;
        if *name == BETTER.0 {
            assert_eq!(status, BETTER.1, "{name}");
            continue;
        }
        assert_eq!(status.as_u16(), answered.status, "{name}: {body}");
        let theirs = header(&answered.headers, "set-cookie");
        let ours = texts(&headers, "set-cookie");
        assert_eq!(ours.len(), theirs.len(), "{name} sets {ours:?} and not {theirs:?}");
        for (theirs, ours) in theirs.iter().zip(&ours) {
            replay.replacements.learn_cookie(theirs, ours);
        }
        if !answered.body.starts_with('<') && !answered.body.is_empty() {
            let expected: Value = serde_json::from_str(&answered.body).expect("JSON was recorded");
            let found: Value = serde_json::from_str(&body).expect("we answer JSON");
            replay.replacements.learn(&expected, &found);
            let expected = replay.replacements.apply(&expected.to_string());
            let expected: Value = serde_json::from_str(&expected).expect("still JSON");
            // Compared as text, because the order of fields matters.
            assert_eq!(by_form(found).to_string(), by_form(expected).to_string(), "{name}");
        } else {
            assert_eq!(body.is_empty(), answered.body.is_empty(), "{name}: {body}");
        }
        let compared_headers = [
            "set-cookie",
            "set-auth-token",
            "access-control-expose-headers",
            "location",
            "pragma",
            "content-type",
        ];
        for header_name in compared_headers {
            let theirs = header(&answered.headers, header_name);
            let theirs: Vec<_> =
                theirs.iter().map(|value| replay.replacements.apply(value)).collect();
            assert_eq!(texts(&headers, header_name), theirs, "{header_name} of {name}");
        }
        assert_eq!(texts(&headers, "cache-control"), ["no-store"], "{name}");
        compared += 1;
    }
    assert!(compared > 110, "only {compared} answers were compared");
}

#[tokio::test]
async fn clients_of_1_4_19_get_the_status_that_they_know() {
    let steps = recording("1.4.19");
    let mut replay = Replay::new(&steps).await;
    for (at, step) in steps.iter().enumerate() {
        let name = &step.name;
        if let Some(sql) = &step.sql {
            replay.run(sql, recorded_at(&steps[at..]));
            continue;
        }
        let (Some(asked), Some(answered)) = (&step.request, &step.response) else {
            panic!("{name} is neither a request nor SQL");
        };
        if OF_ITS_SERVER.iter().any(|start| name.starts_with(start)) {
            continue;
        }
        let (status, headers, body) = replay.ask(asked).await;
        for (theirs, ours) in
            header(&answered.headers, "set-cookie").iter().zip(texts(&headers, "set-cookie"))
        {
            replay.replacements.learn_cookie(theirs, &ours);
        }
        if let (Ok(theirs), Ok(ours)) =
            (serde_json::from_str(&answered.body), serde_json::from_str(&body))
        {
            replay.replacements.learn(&theirs, &ours);
        }
        if *name == BETTER.0 || CHANGED_SINCE_1_4.contains(&name.as_str()) {
            assert_ne!(status.as_u16(), answered.status, "{name} is no exception");
            continue;
        }
        assert_eq!(status.as_u16(), answered.status, "{name}: {body}");
    }
}
