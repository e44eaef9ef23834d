//! Who may use what wants a session: a layer that asks, and tells what is behind it who it is.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use clap::ValueEnum;
use host_auth::{Identity, Token, Verifier};
use serde_json::json;
use url::Url;

use crate::rooms::SyncToken;

/// Who may use a server.
#[derive(Debug, Clone, Default)]
pub struct AccessConfig {
    /// Whether sessions are wanted; without, it depends on who reaches the server.
    pub auth: Option<Auth>,
    /// A token that opens all rooms, and the only one that does.
    pub sync_token: Option<SyncToken>,
    /// The hub whose sessions a local server wants.
    pub hub_url: Option<Url>,
    /// Names by which the server is called, where no session is wanted.
    pub allowed_hosts: Vec<String>,
}

/// Whether rooms, AI and the proxy want a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Auth {
    /// Whoever reaches the server may do everything.
    Open,
    /// Only who is signed in.
    Required,
}

/// Lets requests to these routes through only with a session. Behind it, requests carry the
/// [`Identity`], and what workspaces and AI know a caller by.
pub fn required(routes: Router, verifier: Arc<dyn Verifier>) -> Router {
    routes.layer(axum::middleware::from_fn_with_state(verifier, check))
}

async fn check(
    State(verifier): State<Arc<dyn Verifier>>,
    request: Request,
    next: Next,
) -> Response {
    let (parts, body) = request.into_parts();
    let token = Token::of(&parts);
    let mut request = Request::from_parts(parts, body);
    let Some(token) = token else { return unauthorized(None) };
    match verifier.verify(&token).await {
        Ok(Some(identity)) => {
            identify(&mut request, identity, &token);
            next.run(request).await
        }
        Ok(None) => unauthorized(Some(&token)),
        Err(failed) => {
            tracing::warn!(error = %failed, "a session");
            error(StatusCode::SERVICE_UNAVAILABLE, failed.to_string())
        }
    }
}

fn identify(request: &mut Request, identity: Identity, token: &Token) {
    let user = &identity.user;
    let extensions = request.extensions_mut();
    let session = host_ai::providers::Key::new(&token.value);
    extensions.insert(host_ai::Caller { user: user.id.clone(), session });
    extensions.insert(host_workspace::Credential(token.value.as_str().into()));
    extensions.insert(host_workspace::Caller {
        id: user.id.clone(),
        email: user.email.clone(),
        name: user.name.clone(),
    });
    extensions.insert(identity);
}

/// 401, in the words of the specification's server.
pub fn unauthorized(token: Option<&Token>) -> Response {
    let message = match token {
        None => "Unauthorized: Bearer token required",
        Some(_) => "Unauthorized: Invalid session token",
    };
    let mut response = error(StatusCode::UNAUTHORIZED, message);
    response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    response
}

/// An answer that says what is wrong.
pub fn error(status: StatusCode, message: impl Into<String>) -> Response {
    (status, Json(json!({ "error": { "message": message.into() } }))).into_response()
}
