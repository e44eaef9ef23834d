//! Errors that scripts throw, catch and return.

use host_workspace::{ActionError, Issue};
use rhai::{Dynamic, EvalAltResult, Position};
use serde_json::{Value, json};

use super::value::{to_json, to_script};

/// An error as a script sees it, whether thrown or caught.
pub(super) fn error(error: ActionError) -> Dynamic {
    let (name, issues) = match &error {
        ActionError::NotFound | ActionError::Missing(_) => ("not-found", Vec::new()),
        ActionError::Invalid(issues) => ("invalid", issues.clone()),
        ActionError::Conflict(issues) => ("conflict", issues.clone()),
        ActionError::Denied(_) => ("denied", Vec::new()),
        ActionError::Failed(_) => ("failed", Vec::new()),
    };
    to_script(json!({ "error": name, "message": error.to_string(), "issues": issues }))
}

/// The host's error for an impossible request by a script.
pub(super) fn thrown(refused: ActionError) -> Box<EvalAltResult> {
    let mut error = error(refused);
    // Marks it as the host's. A script that rethrows it drops the mark, and then the position is that
    // of the second throw.
    error.set_tag(1);
    EvalAltResult::ErrorRuntime(error, Position::NONE).into()
}

/// Whether the host threw it.
pub(super) fn is_by_host(value: &Dynamic) -> bool {
    value.tag() == 1
}

/// An error of the script itself: an invalid request. It can be caught like any other, and
/// otherwise ends the call with the position where it happened.
pub(super) fn misuse(reason: impl Into<String>) -> Box<EvalAltResult> {
    let error = to_script(json!({ "error": MISUSE, "message": reason.into() }));
    EvalAltResult::ErrorRuntime(error, Position::NONE).into()
}

const MISUSE: &str = "misuse";

/// The message, if such an error was thrown.
pub(super) fn misuse_of(value: &Dynamic) -> Option<String> {
    let map = value.as_map_ref().ok()?;
    let is = map.get("error")?.as_immutable_string_ref().is_ok_and(|name| name.as_str() == MISUSE);
    is.then(|| map.get("message").map(Dynamic::to_string).unwrap_or_default())
}

/// Whether it is one of the contract's errors.
pub(super) fn is_error(value: &Dynamic) -> bool {
    let Ok(map) = value.as_map_ref() else { return false };
    let name = map.get("error").and_then(|name| name.clone().into_immutable_string().ok());
    matches!(name.as_deref(), Some("not-found" | "invalid" | "conflict" | "denied" | "failed"))
}

/// The error of an action when a script throws a value that nobody catches.
pub(super) fn error_of(value: Dynamic) -> ActionError {
    let json = match to_json(value) {
        Ok(json) => json,
        Err(reason) => return ActionError::Failed(format!("it threw what {reason}")),
    };
    let message = || match &json["message"] {
        Value::String(message) => message.clone(),
        other => other.to_string(),
    };
    match json["error"].as_str() {
        Some("not-found") => ActionError::NotFound,
        Some("denied") => ActionError::Denied(message()),
        Some("failed") => ActionError::Failed(message()),
        Some("invalid") => ActionError::Invalid(issues_of(&json["issues"])),
        Some("conflict") => ActionError::Conflict(issues_of(&json["issues"])),
        _ => ActionError::Failed(match json {
            Value::String(text) => text,
            other => other.to_string(),
        }),
    }
}

/// The issues in a script's list; if it is empty, one that says so.
fn issues_of(list: &Value) -> Vec<Issue> {
    let issues: Vec<Issue> = list.as_array().into_iter().flatten().map(issue_of).collect();
    if issues.is_empty() {
        vec![Issue::whole("the script refused it and gave no reason")]
    } else {
        issues
    }
}

pub(super) fn issue_of(value: &Value) -> Issue {
    let Some(message) = value["message"].as_str() else {
        return Issue::whole(value.as_str().map_or_else(|| value.to_string(), str::to_owned));
    };
    let segment = |segment: &Value| match segment {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let path = match &value["path"] {
        Value::Array(path) => path.iter().map(segment).collect(),
        Value::Null => Vec::new(),
        one => vec![segment(one)],
    };
    Issue { path, message: message.into() }
}

/// The result of a validating hook: nothing or true, a text, an issue or a list of issues.
pub(super) fn verdict(value: Dynamic) -> Result<Vec<Issue>, String> {
    match to_json(value)? {
        Value::Null | Value::Bool(true) => Ok(Vec::new()),
        Value::Bool(false) => Ok(vec![Issue::whole("is not valid")]),
        Value::Array(list) => Ok(list.iter().map(issue_of).collect()),
        Value::Object(error) if error.get("error").is_some_and(|name| name == "invalid") => {
            Ok(issues_of(&Value::Object(error)["issues"]))
        }
        one => Ok(vec![issue_of(&one)]),
    }
}

/// Converts a script's value to JSON. Values without a JSON form are errors.
pub(super) fn json_of(value: Dynamic) -> Result<Value, Box<EvalAltResult>> {
    to_json(value).map_err(|reason| thrown(ActionError::Invalid(vec![Issue::whole(reason)])))
}
