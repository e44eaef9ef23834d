//! `host test`: tries a plugin by itself.
//!
//! The plugin is served as by any server, from a temporary folder: what holds here holds there, and nobody's data
//! is touched.
//!
//! **Scenarios.** A scenario is a JSON file with the plugin's file, and requests with what is expected of their
//! answers. Routes are those below `/workspaces/{workspace}`.
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
//! Only what is expected of `data` and `error` is compared: an object may have more members, an array must have as
//! many as are given, numbers are equal by value, and the `message` of an error has to contain the text. Without a
//! `status`, any success will do.

use std::path::{Path, PathBuf};

use anstream::println;
use anyhow::{Context, Result, bail, ensure};
use reqwest::Method;
use serde::Deserialize;
use serde_json::Value;
use tempfile::TempDir;

use super::api::{Api, Folder, Sent};
use crate::data_folder::DataFolder;
use crate::style::{BAD, DIM, GOOD, PLAIN};

/// `host test`
#[derive(Debug, clap::Args)]
pub struct Test {
    /// File with the scenario: requests and what is expected of their answers, as JSON.
    file: PathBuf,
}

/// A scenario file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Scenario {
    /// The plugin's file, relative to the scenario's folder.
    plugin: PathBuf,
    steps: Vec<Step>,
}

/// A request, and what is expected of its answer.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    /// What the step shows; the request by default.
    name: Option<String>,
    /// `METHOD /route`
    request: String,
    body: Option<Value>,
    status: Option<u16>,
    data: Option<Value>,
    error: Option<Value>,
}

pub(super) async fn test(args: Test) -> Result<()> {
    let name = args.file.display();
    let text = std::fs::read(&args.file).with_context(|| format!("cannot read {name}"))?;
    let scenario: Scenario =
        serde_json::from_slice(&text).with_context(|| format!("{name} is not a scenario"))?;
    ensure!(!scenario.steps.is_empty(), "{name} has no steps");
    let beside = args.file.parent().unwrap_or(Path::new(""));
    let (folder, _copy) = serve(&beside.join(&scenario.plugin)).await?;
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

/// A copy of a plugin, with everything that belongs to it, in a temporary folder.
pub(super) struct Copy {
    /// The plugins folder, with nothing else in it.
    pub(super) plugins: PathBuf,
    temporary: TempDir,
}

impl Copy {
    /// Copies the file of a plugin and the files beside it with its name, or the folder of a plugin in scripts.
    pub(super) fn of(plugin: &Path) -> Result<Self> {
        let shown = plugin.display();
        let full = plugin.canonicalize().with_context(|| format!("there is no file {shown}"))?;
        // A link may give the file another name, and that is the one that was asked for.
        let name = plugin.file_name().or(full.file_name()).context("a file has a name")?;
        let temporary =
            TempDir::with_prefix("host-").context("a temporary folder cannot be created")?;
        let plugins = temporary.path().join("plugins");
        std::fs::create_dir(&plugins)?;
        let copy = Self { plugins, temporary };
        if full.is_dir() {
            copy.folder(&full, &copy.plugins.join(name))?;
            return Ok(copy);
        }
        let name = name.to_string_lossy().into_owned();
        let stem = name.strip_suffix(".wasm");
        let stem = stem
            .with_context(|| format!("{shown} is not a plugin: a plugin's name ends in .wasm"))?;
        copy.file(&full, &name)?;
        for beside in [format!("{stem}.toml"), format!("{stem}.actions.rhai")] {
            let file = plugin.with_file_name(&beside);
            if file.is_file() {
                copy.file(&file, &beside)?;
            }
        }
        let folder = plugin.with_file_name(stem);
        // A folder with a `workspace.rhai` is another workspace.
        if !folder.join("workspace.rhai").exists() && folder.join("actions").is_dir() {
            copy.folder(&folder, &copy.plugins.join(stem))?;
        }
        Ok(copy)
    }

    fn file(&self, from: &Path, name: &str) -> Result<()> {
        std::fs::copy(from, self.plugins.join(name))
            .map(drop)
            .with_context(|| format!("cannot read {}", from.display()))
    }

    /// Copies the parts of a folder that a plugin is made of: `workspace.rhai` and `.toml`, `actions` and `tables`.
    fn folder(&self, from: &Path, to: &Path) -> Result<()> {
        std::fs::create_dir_all(to)?;
        for name in ["workspace.rhai", "workspace.toml"] {
            if from.join(name).is_file() {
                std::fs::copy(from.join(name), to.join(name))?;
            }
        }
        for name in ["actions", "tables"] {
            if from.join(name).is_dir() {
                copy_all(&from.join(name), &to.join(name), 9)?;
            }
        }
        Ok(())
    }
}

/// Copies a folder of scripts or schemas, down to `depth` folders below it.
fn copy_all(from: &Path, to: &Path, depth: usize) -> Result<()> {
    std::fs::create_dir_all(to)?;
    let entries = std::fs::read_dir(from);
    for entry in entries.with_context(|| format!("cannot read {}", from.display()))? {
        let entry = entry?;
        let (path, to) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() && depth > 0 {
            copy_all(&path, &to, depth - 1)?;
        } else if path.is_file() {
            std::fs::copy(&path, to).with_context(|| format!("cannot read {}", path.display()))?;
        }
    }
    Ok(())
}

/// Serves a copy of a plugin.
async fn serve(plugin: &Path) -> Result<(Folder, Copy)> {
    let copy = Copy::of(plugin)?;
    let data = DataFolder::open(&copy.temporary.path().join("data"))?;
    let folder = Folder::open(data, &copy.plugins).await?;
    let failures = folder.failures();
    if !failures.is_empty() {
        folder.close().await;
        let faults: Vec<_> =
            failures.iter().map(|(file, error)| format!("{file}: {error}")).collect();
        bail!("{}", faults.join("\n"));
    }
    Ok((folder, copy))
}

impl Step {
    async fn take(&self, api: &Api, workspace: &str) -> Result<()> {
        let (method, route) =
            self.request.split_once(' ').context("a request is written METHOD /route")?;
        ensure!(route.starts_with('/'), "a route begins with /");
        let method: Method =
            method.parse().with_context(|| format!("{method:?} is not a method"))?;
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

/// The first place where the actual value is not as expected, if there is one.
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
        _ => Some(format!("{at} is {actual}, expected {expected}")),
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
            (json!({ "id": "2" }), "data.id is \"1\", expected \"2\""),
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
