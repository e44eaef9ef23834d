//! What went wrong, as HTTP says it.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use host_sync::{OpenError, RoomError};
use serde_json::{Value, json};

use super::json_body;
use crate::definition::Issue;
use crate::logic::{ActionError, Fault};
use crate::workspace::Error;

/// An answer that says what went wrong. The one place where errors become HTTP.
#[derive(Debug)]
pub(crate) struct Failure {
    pub status: StatusCode,
    pub message: String,
    pub issues: Vec<Issue>,
    /// A row as it stands in the document, where it cannot be shown as valid.
    pub row: Option<Box<Value>>,
    /// The methods that are, where one is not.
    pub allow: Option<&'static str>,
}

impl Failure {
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), issues: Vec::new(), row: None, allow: None }
    }

    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    pub fn too_large(limit: usize) -> Self {
        let message = format!("the body is larger than {limit} bytes, which is the limit");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, message)
    }

    pub fn no_json() -> Self {
        let message = "send JSON, and say so: content-type: application/json";
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message)
    }

    /// Of the query string.
    pub fn parameters(issues: Vec<Issue>) -> Self {
        Self { issues: issues.clone(), ..Self::bad_request(summary(&issues)) }
    }

    pub fn workspace(id: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, format!("there is no workspace {id:?}"))
    }

    pub fn table(workspace: &str, table: &str) -> Self {
        let message = format!("workspace {workspace} has no table {table:?}");
        Self::new(StatusCode::NOT_FOUND, message)
    }

    pub fn row(table: &str, id: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, format!("table {table} has no row {id:?}"))
    }

    pub fn invalid(message: impl Into<String>, issues: Vec<Issue>) -> Self {
        Self { issues, ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, message) }
    }

    pub fn input(path: &str, issues: Vec<Issue>) -> Self {
        Self::invalid(format!("the input of {path} is not valid: {}", summary(&issues)), issues)
    }

    /// `what` is the table or the action that was asked for something.
    pub fn of(error: Error, what: &str) -> Self {
        match error {
            Error::Action(ActionError::NotFound) => {
                Self::new(StatusCode::NOT_FOUND, format!("{what}: not found"))
            }
            Error::Action(ActionError::Invalid(issues)) => {
                Self::invalid(format!("{what}: not valid: {}", summary(&issues)), issues)
            }
            Error::Action(ActionError::Denied(reason)) => Self::new(StatusCode::FORBIDDEN, reason),
            Error::Action(ActionError::Failed(reason)) => {
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, reason)
            }
            Error::Fault(fault) => {
                let status = match fault {
                    Fault::TimedOut { .. } => StatusCode::GATEWAY_TIMEOUT,
                    Fault::Busy { .. } => StatusCode::SERVICE_UNAVAILABLE,
                    Fault::Trapped { .. } | Fault::Contract { .. } => {
                        StatusCode::INTERNAL_SERVER_ERROR
                    }
                };
                Self::new(status, fault.to_string())
            }
            Error::Stored(issues) => {
                let message = format!("{what}: not valid as it is stored: {}", summary(&issues));
                Self::invalid(message, issues)
            }
            Error::Exist(issues) => {
                let message = format!("{what}: {}", summary(&issues));
                Self { issues, ..Self::new(StatusCode::PRECONDITION_FAILED, message) }
            }
            Error::Conflict | Error::NotText(_) => {
                Self::new(StatusCode::CONFLICT, error.to_string())
            }
            Error::Stale { .. } => Self::new(StatusCode::PRECONDITION_FAILED, error.to_string()),
            Error::TooMany { .. } => Self::new(StatusCode::PAYLOAD_TOO_LARGE, error.to_string()),
            Error::Open(OpenError::Id { .. }) => Self::invalid(error.to_string(), Vec::new()),
            Error::Open(_) => Self::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
            Error::Room(error) => {
                let status = match &error {
                    RoomError::Refused { .. } => StatusCode::INSUFFICIENT_STORAGE,
                    RoomError::Edit { .. } => StatusCode::BAD_REQUEST,
                    RoomError::Storage { .. } | RoomError::Closed { .. } => {
                        StatusCode::SERVICE_UNAVAILABLE
                    }
                };
                Self::new(status, error.to_string())
            }
        }
    }
}

/// The first issues in one line, for those who read only the message.
pub fn summary(issues: &[Issue]) -> String {
    let line = |issue: &Issue| match issue.path.as_slice() {
        [] => issue.message.clone(),
        path => format!("{}: {}", path.join("."), issue.message),
    };
    let mut text = issues.iter().take(3).map(line).collect::<Vec<_>>().join("; ");
    if issues.len() > 3 {
        text.push_str(&format!("; and {} more", issues.len() - 3));
    }
    text
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let mut error = json!({ "message": self.message });
        if !self.issues.is_empty() {
            error["issues"] = json!(self.issues);
        }
        if let Some(row) = self.row {
            error["row"] = *row;
        }
        let mut response = json_body(self.status, json!({ "error": error }).to_string().into());
        if let Some(allow) = self.allow {
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allow));
        }
        response
    }
}
