//! What an endpoint answers, and Better Auth's errors.

use std::borrow::Cow;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::users::{PasswordError, UsersError};

pub(super) type Answer = Result<Reply, Refusal>;

/// A successful answer.
pub(super) enum Reply {
    /// 200 with JSON.
    Json(Vec<u8>),
    /// 302.
    Redirect(String),
    /// 200 with a page.
    Page(String),
}

impl Reply {
    pub fn json(value: &impl Serialize) -> Answer {
        serde_json::to_vec(value).map(Self::Json).map_err(|_| Refusal::INTERNAL)
    }

    pub fn status() -> Answer {
        Self::json(&serde_json::json!({ "status": true }))
    }
}

impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        match self {
            Self::Json(body) => {
                ([(header::CONTENT_TYPE, "application/json")], body).into_response()
            }
            Self::Redirect(url) => match location(&url) {
                Some(url) => {
                    // The body is empty; it is recorded that this is said all the same.
                    let kind = HeaderValue::from_static("application/json");
                    let headers = [(header::LOCATION, url), (header::CONTENT_TYPE, kind)];
                    (StatusCode::FOUND, headers).into_response()
                }
                None => Refusal::INVALID_CALLBACK_URL.into_response(),
            },
            Self::Page(page) => {
                // The page has a style of its own and nothing else.
                let policy =
                    "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'";
                let headers = [
                    (header::CONTENT_TYPE, "text/html"),
                    (header::CONTENT_SECURITY_POLICY, policy),
                ];
                (headers, page).into_response()
            }
        }
    }
}

/// A URL as the value of a `Location` header, which must be ASCII.
pub(super) fn location(url: &str) -> Option<HeaderValue> {
    let encoded = percent_encoding::utf8_percent_encode(url, percent_encoding::CONTROLS);
    HeaderValue::from_str(&encoded.to_string()).ok()
}

/// An error: a status and, unless the body is empty, a message and usually a code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub status: StatusCode,
    pub body: Option<(Cow<'static, str>, Option<&'static str>)>,
}

impl Refusal {
    pub const fn new(status: StatusCode, message: &'static str, code: &'static str) -> Self {
        Self { status, body: Some((Cow::Borrowed(message), Some(code))) }
    }

    pub const fn uncoded(status: StatusCode, message: &'static str) -> Self {
        Self { status, body: Some((Cow::Borrowed(message), None)) }
    }

    pub const fn empty(status: StatusCode) -> Self {
        Self { status, body: None }
    }

    pub fn told(status: StatusCode, message: String, code: &'static str) -> Self {
        Self { status, body: Some((Cow::Owned(message), Some(code))) }
    }

    /// The same error with another status.
    pub fn with_status(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }

    /// The code, for a redirect to the error page.
    pub fn code(&self) -> &'static str {
        self.body.as_ref().and_then(|(_, code)| *code).unwrap_or("UNKNOWN")
    }
}

macro_rules! refusals {
    ($($name:ident: $status:ident $message:literal;)*) => {
        impl Refusal {
            $(pub const $name: Self = Self::new(StatusCode::$status, $message, stringify!($name));)*
        }
    };
}

// Codes and messages are those of Better Auth 1.7. The last three are ours.
refusals! {
    UNAUTHORIZED: UNAUTHORIZED "Unauthorized";
    USER_NOT_FOUND: BAD_REQUEST "User not found";
    INVALID_PASSWORD: BAD_REQUEST "Invalid password";
    INVALID_EMAIL: BAD_REQUEST "Invalid email";
    INVALID_EMAIL_OR_PASSWORD: UNAUTHORIZED "Invalid email or password";
    INVALID_USER: UNAUTHORIZED "Invalid user";
    INVALID_TOKEN: BAD_REQUEST "Invalid token";
    TOKEN_EXPIRED: UNAUTHORIZED "Token expired";
    PROVIDER_NOT_FOUND: NOT_FOUND "Provider not found";
    EMAIL_NOT_VERIFIED: FORBIDDEN "Email not verified";
    PASSWORD_TOO_SHORT: BAD_REQUEST "Password too short";
    PASSWORD_TOO_LONG: BAD_REQUEST "Password too long";
    USER_ALREADY_EXISTS_USE_ANOTHER_EMAIL: UNPROCESSABLE_ENTITY "User already exists. Use another email.";
    EMAIL_CAN_NOT_BE_UPDATED: BAD_REQUEST "Email can not be updated";
    CHANGE_EMAIL_DISABLED: BAD_REQUEST "Change email is disabled";
    CREDENTIAL_ACCOUNT_NOT_FOUND: BAD_REQUEST "Credential account not found";
    SESSION_EXPIRED: BAD_REQUEST "Session expired. Re-authenticate to perform this action.";
    SESSION_NOT_FRESH: FORBIDDEN "Session is not fresh";
    FAILED_TO_UNLINK_LAST_ACCOUNT: BAD_REQUEST "You can't unlink your last account";
    ACCOUNT_NOT_FOUND: BAD_REQUEST "Account not found";
    CROSS_SITE_NAVIGATION_LOGIN_BLOCKED: FORBIDDEN "Cross-site navigation login blocked. This request appears to be a CSRF attack.";
    VERIFICATION_EMAIL_NOT_ENABLED: BAD_REQUEST "Verification email isn't enabled";
    EMAIL_ALREADY_VERIFIED: BAD_REQUEST "Email is already verified";
    EMAIL_MISMATCH: BAD_REQUEST "Email mismatch";
    INVALID_ORIGIN: FORBIDDEN "Invalid origin";
    MISSING_OR_NULL_ORIGIN: FORBIDDEN "Missing or null Origin";
    INVALID_CALLBACK_URL: FORBIDDEN "Invalid callbackURL";
    INVALID_REDIRECT_URL: FORBIDDEN "Invalid redirectURL";
    INVALID_ERROR_CALLBACK_URL: FORBIDDEN "Invalid errorCallbackURL";
    INVALID_NEW_USER_CALLBACK_URL: FORBIDDEN "Invalid newUserCallbackURL";
    RESET_PASSWORD_DISABLED: BAD_REQUEST "Reset password isn't enabled";
    METHOD_NOT_ALLOWED_DEFER_SESSION_REQUIRED: METHOD_NOT_ALLOWED "POST method requires deferSessionRefresh to be enabled in session config";
    EMAIL_PASSWORD_SIGN_UP_DISABLED: BAD_REQUEST "Email and password sign up is not enabled";
    FAILED_TO_GET_SESSION: INTERNAL_SERVER_ERROR "Failed to get session";
    INVITATION_REQUIRED: FORBIDDEN "An invitation is required to sign up";
    INVALID_INVITATION: FORBIDDEN "The invitation is not for this email, was used, or has expired";
    SERVER_BUSY: SERVICE_UNAVAILABLE "The server is busy. Please try again in a few seconds.";
}

impl Refusal {
    pub const TOO_MANY: Self =
        Self::uncoded(StatusCode::TOO_MANY_REQUESTS, "Too many requests. Please try again later.");
    pub const NO_FIELDS: Self = Self::uncoded(StatusCode::BAD_REQUEST, "No fields to update");
    pub const INVALID_JSON: Self =
        Self::new(StatusCode::BAD_REQUEST, "Invalid JSON in request body", "BAD_REQUEST");
    pub const TOO_LARGE: Self = Self::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "The request body is too large",
        "PAYLOAD_TOO_LARGE",
    );
    pub const INTERNAL: Self = Self::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "Internal Server Error",
        "INTERNAL_SERVER_ERROR",
    );
}

impl From<UsersError> for Refusal {
    fn from(error: UsersError) -> Self {
        match error {
            UsersError::Taken => Self::USER_ALREADY_EXISTS_USE_ANOTHER_EMAIL,
            // Another request was faster, or the account is gone: either way the caller's session
            // is void.
            UsersError::Gone => Self::UNAUTHORIZED,
            UsersError::Busy(_) => Self::SERVER_BUSY,
            UsersError::Database(error) => {
                tracing::error!("the database of accounts failed: {error}");
                Self::INTERNAL
            }
        }
    }
}

impl From<crate::database::DatabaseError> for Refusal {
    fn from(error: crate::database::DatabaseError) -> Self {
        UsersError::from(error).into()
    }
}

impl From<PasswordError> for Refusal {
    fn from(error: PasswordError) -> Self {
        match error {
            PasswordError::Short => Self::PASSWORD_TOO_SHORT,
            PasswordError::Long => Self::PASSWORD_TOO_LONG,
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        #[derive(Serialize)]
        struct Shown<'a> {
            message: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            code: Option<&'static str>,
        }
        let shown = |(message, code): &(Cow<'static, str>, Option<&'static str>)| {
            serde_json::to_vec(&Shown { message, code: *code }).unwrap_or_default()
        };
        let body = self.body.as_ref().map(shown).unwrap_or_default();
        (self.status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
    }
}
