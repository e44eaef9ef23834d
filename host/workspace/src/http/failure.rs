//! Errors as HTTP answers.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use host_sync::{OpenError, RoomError};
use serde_json::{Value, json};

use super::json_body;
use crate::definition::Issue;
use crate::error::{ActionError, Error, Fault, summary};

/// An answer that says what went wrong. The one place where errors become HTTP.
#[derive(Debug)]
pub(crate) struct Failure {
    pub status: StatusCode,
    pub message: String,
    pub issues: Vec<Issue>,
    /// The row as stored in the document, if it is not valid.
    pub row: Option<Box<Value>>,
    /// The allowed methods, if the request used another.
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

    /// Invalid parameters in the query string.
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
        let status = match &error {
            Error::Action(ActionError::NotFound | ActionError::Missing(_)) => StatusCode::NOT_FOUND,
            Error::Action(ActionError::Denied(_)) => StatusCode::FORBIDDEN,
            Error::Action(ActionError::Failed(_)) => StatusCode::INTERNAL_SERVER_ERROR,
            Error::Action(ActionError::Invalid(_)) | Error::Input(_) | Error::Stored(_) => {
                StatusCode::UNPROCESSABLE_ENTITY
            }
            Error::Fault(Fault::TimedOut { .. }) => StatusCode::GATEWAY_TIMEOUT,
            Error::Fault(Fault::Busy { .. }) => StatusCode::SERVICE_UNAVAILABLE,
            Error::Fault(Fault::Trapped { .. } | Fault::Contract { .. }) => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
            Error::Exist(_) | Error::Stale { .. } => StatusCode::PRECONDITION_FAILED,
            Error::Action(ActionError::Conflict(_)) | Error::Conflict | Error::NotText(_) => {
                StatusCode::CONFLICT
            }
            Error::TooMany { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Error::Open(OpenError::Id { .. }) => StatusCode::UNPROCESSABLE_ENTITY,
            Error::Open(_) => StatusCode::SERVICE_UNAVAILABLE,
            Error::Room(RoomError::Refused { .. }) => StatusCode::INSUFFICIENT_STORAGE,
            Error::Room(RoomError::Edit { .. }) => StatusCode::BAD_REQUEST,
            Error::Room(RoomError::Storage { source, .. } | RoomError::Unsaved { source, .. }) => {
                source.status()
            }
            Error::Room(RoomError::Closed { .. } | RoomError::Unfollowed { .. }) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
        };
        let message = error.describe(what);
        Self { issues: error.into_issues(), ..Self::new(status, message) }
    }
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
