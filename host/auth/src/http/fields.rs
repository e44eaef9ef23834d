//! The fields of a body, checked as Better Auth's schemas do: all at once, in their order, and with
//! the same words.

use axum::http::StatusCode;
use serde_json::{Map, Value};

use super::reply::Refusal;
use crate::users::is_email;

/// The fields of a body. Each is taken by its kind; [`Fields::finish`] says what was wrong.
pub(super) struct Fields<'a> {
    object: &'a Map<String, Value>,
    issues: Vec<String>,
}

impl<'a> Fields<'a> {
    /// The fields of a body that has to be an object.
    pub fn of(body: &'a Option<Value>, kinds: &[&str]) -> Result<Self, Refusal> {
        match body {
            Some(Value::Object(object)) => Ok(Self { object, issues: Vec::new() }),
            other => {
                let found = kind(other.as_ref());
                let issue = |expected: &&str| format!("[body] {}", mistaken(expected, found));
                Err(refusal(kinds.iter().map(issue).collect()))
            }
        }
    }

    /// A field as it is.
    pub fn raw(&self, name: &str) -> Option<&'a Value> {
        self.object.get(name)
    }

    fn wrong(&mut self, name: &str, what: impl std::fmt::Display) {
        self.issues.push(format!("[body.{name}] {what}"));
    }

    /// A string that has to be there.
    pub fn text(&mut self, name: &str) -> &'a str {
        match self.raw(name) {
            Some(Value::String(text)) => text,
            other => {
                self.wrong(name, mistaken("string", kind(other)));
                ""
            }
        }
    }

    /// A string that has to be there and says something.
    pub fn some_text(&mut self, name: &str) -> &'a str {
        let text = self.text(name);
        if text.is_empty() && self.raw(name).is_some_and(Value::is_string) {
            self.wrong(name, "Too small: expected string to have >=1 characters");
        }
        text
    }

    /// An e-mail address that has to be there.
    pub fn email(&mut self, name: &str) -> &'a str {
        let text = self.text(name);
        if self.raw(name).is_some_and(Value::is_string) && !is_email(text) {
            self.wrong(name, "Invalid email address");
        }
        text
    }

    /// A string that may be missing.
    pub fn optional_text(&mut self, name: &str) -> Option<&'a str> {
        self.raw(name).is_some().then(|| self.text(name))
    }

    /// A truth value that may be missing.
    pub fn optional_flag(&mut self, name: &str) -> Option<bool> {
        match self.raw(name) {
            None => None,
            Some(Value::Bool(flag)) => Some(*flag),
            other => {
                self.wrong(name, mistaken("boolean", kind(other)));
                None
            }
        }
    }

    /// Refuses the body if any of its fields was wrong.
    pub fn finish(self) -> Result<(), Refusal> {
        if self.issues.is_empty() { Ok(()) } else { Err(refusal(self.issues)) }
    }
}

/// The refusal of a query that lacks a string.
pub(super) fn missing_in_query(name: &str) -> Refusal {
    refusal(vec![format!("[query.{name}] {}", mistaken("string", "undefined"))])
}

fn refusal(issues: Vec<String>) -> Refusal {
    Refusal::told(StatusCode::BAD_REQUEST, issues.join("; "), "VALIDATION_ERROR")
}

fn mistaken(expected: &str, found: &str) -> String {
    format!("Invalid input: expected {expected}, received {found}")
}

/// What JavaScript calls a value.
fn kind(value: Option<&Value>) -> &'static str {
    match value {
        None => "undefined",
        Some(Value::Null) => "null",
        Some(Value::Bool(_)) => "boolean",
        Some(Value::Number(_)) => "number",
        Some(Value::String(_)) => "string",
        Some(Value::Array(_)) => "array",
        Some(Value::Object(_)) => "object",
    }
}
