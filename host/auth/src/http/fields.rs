//! The fields of a body, validated as Better Auth's schemas do: all at once, in their order, and
//! with the same messages.

use axum::http::StatusCode;
use serde_json::{Map, Value};

use super::reply::Refusal;
use crate::users::is_email;

/// The fields of a body. Each getter checks one type; [`Fields::finish`] reports what was wrong.
pub(super) struct Fields<'a> {
    object: &'a Map<String, Value>,
    issues: Vec<String>,
}

impl<'a> Fields<'a> {
    /// Reads a body, which must be an object.
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

    /// The raw value of a field.
    pub fn raw(&self, name: &str) -> Option<&'a Value> {
        self.object.get(name)
    }

    fn wrong(&mut self, name: &str, what: impl std::fmt::Display) {
        self.issues.push(format!("[body.{name}] {what}"));
    }

    /// A required string.
    pub fn text(&mut self, name: &str) -> &'a str {
        match self.raw(name) {
            Some(Value::String(text)) => text,
            other => {
                self.wrong(name, mistaken("string", kind(other)));
                ""
            }
        }
    }

    /// A required string that must not be empty.
    pub fn some_text(&mut self, name: &str) -> &'a str {
        let text = self.text(name);
        if text.is_empty() && self.raw(name).is_some_and(Value::is_string) {
            self.wrong(name, "Too small: expected string to have >=1 characters");
        }
        text
    }

    /// A required e-mail address.
    pub fn email(&mut self, name: &str) -> &'a str {
        let text = self.text(name);
        if self.raw(name).is_some_and(Value::is_string) && !is_email(text) {
            self.wrong(name, "Invalid email address");
        }
        text
    }

    /// An optional string.
    pub fn optional_text(&mut self, name: &str) -> Option<&'a str> {
        self.raw(name).is_some().then(|| self.text(name))
    }

    /// An optional boolean.
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

    /// Rejects the body if any of its fields was invalid.
    pub fn finish(self) -> Result<(), Refusal> {
        if self.issues.is_empty() { Ok(()) } else { Err(refusal(self.issues)) }
    }
}

/// The error for a missing query parameter.
pub(super) fn missing_in_query(name: &str) -> Refusal {
    refusal(vec![format!("[query.{name}] {}", mistaken("string", "undefined"))])
}

fn refusal(issues: Vec<String>) -> Refusal {
    Refusal::told(StatusCode::BAD_REQUEST, issues.join("; "), "VALIDATION_ERROR")
}

fn mistaken(expected: &str, found: &str) -> String {
    format!("Invalid input: expected {expected}, received {found}")
}

/// JavaScript's name for the type of a value.
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
