//! A plugin by itself: `host check` says what it is, `host test` tries it.
//!
//! Both serve it as any server would, from a folder of its own that is gone afterwards: what holds
//! here holds there, and nobody's data is touched.
//!
//! **Scenarios.** A scenario is a JSON file: the plugin's file, and requests with what is expected of
//! their answers. Routes are those below `/workspaces/{workspace}`.
//!
//! ```json
//! {
//!   "plugin": "blog.wasm",
//!   "steps": [
//!     {
//!       "name": "a post has a title",
//!       "request": "POST /tables/posts",
//!       "body": { "id": "1", "title": "" },
//!       "status": 422,
//!       "error": { "issues": [{ "path": ["title"] }] }
//!     },
//!     { "request": "GET /actions/posts/popular?min=10", "data": [] }
//!   ]
//! }
//! ```
//!
//! Of `data` and `error` only what is expected is compared: an object may have more members, an
//! array has as many as are given, a number is equal by its value, and the `message` of an error
//! has to contain the text. Without a `status` any success will do.

use std::path::{Path, PathBuf};

use anstream::println;
use anyhow::{Context, Result, bail, ensure};
use reqwest::Method;
use serde::Deserialize;
use serde_json::Value;

use super::api::{Api, Folder, Sent};
use super::output::{Format, Output};
use crate::data_folder::DataFolder;
use crate::summary::{BAD, DIM, GOOD, PLAIN};

/// `host check`
#[derive(Debug, clap::Args)]
pub struct Check {
    /// The plugin's file.
    file: PathBuf,
}

/// `host test`
#[derive(Debug, clap::Args)]
pub struct Test {
    /// The scenario: requests and what is expected of their answers, as JSON.
    file: PathBuf,
}

/// A scenario file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Scenario {
    /// The plugin's file, seen from the scenario's.
    plugin: PathBuf,
    steps: Vec<Step>,
}

/// A request, and what is expected of its answer.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    /// What it shows; the request when it says nothing.
    name: Option<String>,
    /// `METHOD /route`
    request: String,
    body: Option<Value>,
    status: Option<u16>,
    data: Option<Value>,
    error: Option<Value>,
}

pub(super) async fn check(args: Check) -> Result<()> {
    let (folder, _temporary) = serve(&args.file).await?;
    let definitions = folder.workspaces().definitions();
    folder.close().await;
    let definition = definitions.first().context("the plugin defines no workspace")?;
    Ok(Output::stdout(Format::Json).print(definition)?)
}

pub(super) async fn test(args: Test) -> Result<()> {
    let name = args.file.display();
    let text = std::fs::read(&args.file).with_context(|| format!("cannot read {name}"))?;
    let scenario: Scenario =
        serde_json::from_slice(&text).with_context(|| format!("{name} is no scenario"))?;
    ensure!(!scenario.steps.is_empty(), "{name} has no steps");
    let beside = args.file.parent().unwrap_or(Path::new(""));
    let (folder, _temporary) = serve(&beside.join(&scenario.plugin)).await?;
    let api = Api::of_folder(folder)?;
    let mut failed = 0;
    let workspace = api.workspace().await?;
    for step in &scenario.steps {
        let name = step.name.as_ref().unwrap_or(&step.request);
        match step.take(&api, &workspace.id).await {
            Ok(()) => println!("{GOOD}ok{PLAIN}      {name}"),
            Err(error) => {
                failed += 1;
                println!(
                    "{BAD}not ok{PLAIN}  {name}\n        {DIM}{}{PLAIN}  {error:#}",
                    step.request
                );
            }
        }
    }
    api.close().await;
    ensure!(failed == 0, "{failed} of {} steps failed", scenario.steps.len());
    Ok(())
}

/// A folder that is gone with this.
struct Temporary(PathBuf);

impl Temporary {
    fn new() -> std::io::Result<Self> {
        // A name that nobody guesses, and an error if it is there all the same.
        let path = std::env::temp_dir().join(format!("host-{}", host_workspace::new_id()));
        std::fs::create_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Serves a plugin's file, and what lies beside it under its name, from a folder of their own.
async fn serve(file: &Path) -> Result<(Folder, Temporary)> {
    let shown = file.display();
    ensure!(file.is_file(), "there is no file {shown}");
    let stem = file.file_stem().context("a file has a name")?.to_string_lossy().into_owned();
    let temporary = Temporary::new().context("no folder to serve it from")?;
    let plugins = temporary.0.join("plugins");
    std::fs::create_dir(&plugins)?;
    let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty());
    for entry in std::fs::read_dir(parent.unwrap_or(Path::new(".")))? {
        let entry = entry?;
        let name = entry.file_name();
        let other = name.to_string_lossy().ends_with(".wasm") && Some(&*name) != file.file_name();
        let ours = name.to_string_lossy().starts_with(&format!("{stem}."));
        if ours && !other && entry.file_type()?.is_file() {
            std::fs::copy(entry.path(), plugins.join(name))
                .with_context(|| format!("cannot read {}", entry.path().display()))?;
        }
    }
    let data = DataFolder::open(&temporary.0.join("data"))?;
    let folder = Folder::open(data, &plugins).await?;
    if let Some((_, error)) = folder.failures().into_iter().next() {
        folder.close().await;
        // It names the file itself.
        bail!("{error}");
    }
    Ok((folder, temporary))
}

impl Step {
    async fn take(&self, api: &Api, workspace: &str) -> Result<()> {
        let (method, route) = self.request.split_once(' ').context("write METHOD /route")?;
        ensure!(route.starts_with('/'), "the route begins with /");
        let method: Method = method.parse().with_context(|| format!("{method:?} is no method"))?;
        let url = api.below(&format!("workspaces/{workspace}{route}"))?;
        let body = self.body.as_ref();
        let sent = body.map_or(Sent::Nothing, |body| Sent::Json(body.to_string()));
        let (status, bytes) = api.exchange(method, url, sent).await?;
        let answer: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        match self.status {
            Some(expected) => {
                ensure!(status.as_u16() == expected, "the answer is {status}: {answer}");
            }
            None if self.error.is_none() => {
                ensure!(status.is_success(), "the answer is {status}: {answer}");
            }
            None => ensure!(!status.is_success(), "the answer is {status}: {answer}"),
        }
        for (member, expected) in [("data", &self.data), ("error", &self.error)] {
            let Some(expected) = expected else { continue };
            if let Some(difference) = difference(member, expected, &answer[member]) {
                bail!(difference);
            }
        }
        Ok(())
    }
}

/// Where the actual value is not as expected, if anywhere.
fn difference(at: &str, expected: &Value, actual: &Value) -> Option<String> {
    match (expected, actual) {
        (Value::Object(expected), Value::Object(_)) => expected
            .iter()
            .find_map(|(key, value)| difference(&format!("{at}.{key}"), value, &actual[key])),
        (Value::Array(expected), Value::Array(members)) if expected.len() == members.len() => {
            let mut pairs = expected.iter().zip(members).enumerate();
            pairs.find_map(|(n, (e, a))| difference(&format!("{at}[{n}]"), e, a))
        }
        (Value::String(expected), Value::String(actual))
            if at == "error.message" && actual.contains(expected.as_str()) =>
        {
            None
        }
        (Value::Number(e), Value::Number(a)) if e.as_f64() == a.as_f64() => None,
        _ if expected == actual => None,
        _ => Some(format!("{at} is {actual}, and expected is {expected}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_what_is_expected_is_compared() {
        let actual = json!({ "id": "1", "n": 1.0, "tags": ["a", "b"], "none": null });
        for same in [
            json!({}),
            json!({ "n": 1 }),
            json!({ "tags": ["a", "b"], "none": null }),
            json!({ "missing": null }),
        ] {
            assert_eq!(difference("data", &same, &actual), None, "{same}");
        }
        for (other, at) in [
            (json!({ "id": "2" }), "data.id is \"1\", and expected is \"2\""),
            (json!({ "tags": ["a"] }), "data.tags is"),
            (json!({ "tags": ["a", "c"] }), "data.tags[1] is \"b\""),
            (json!({ "more": 1 }), "data.more is null"),
            (json!([]), "data is {"),
        ] {
            let found = difference("data", &other, &actual).expect("it differs");
            assert!(found.starts_with(at), "{found}");
        }
        let error = json!({ "message": "table posts has no row" });
        assert_eq!(difference("error", &json!({ "message": "no row" }), &error), None);
        assert!(difference("error", &json!({ "message": "no table" }), &error).is_some());
    }
}
