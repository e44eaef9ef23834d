//! Who uses AI, by the sessions of the hub.

use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use axum::Json;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use host_ai::Caller;
use host_ai::proxy::{Callers, CallersError, Session};
use host_auth::verifier::Place;
use host_auth::{Token, Verifier};
use serde_json::json;

use crate::admitted::{Admitted, Grounds};

/// Sessions as the proxy asks for them: it finds tokens in places of its own.
pub(crate) struct Sessions {
    /// Knows them.
    pub verifier: Arc<dyn Verifier>,
    /// Knows when they end.
    pub admitted: Admitted,
}

#[async_trait]
impl Callers for Sessions {
    async fn identify(&self, token: &str) -> Result<Option<Session>, CallersError> {
        let token = Token { value: token.to_owned(), place: Place::Bearer };
        match self.verifier.verify(&token).await {
            Ok(identity) => Ok(identity.map(|identity| Session {
                caller: Caller::of(identity.user.id),
                id: identity.session,
            })),
            Err(error) => Err(CallersError(error.0)),
        }
    }

    fn over(&self, session: &Session) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let over = self.admitted.admit(Grounds {
            session: session.id.clone(),
            account: session.caller.user.clone(),
            shared: None,
            until: None,
        });
        Box::pin(async {
            over.await;
        })
    }
}

/// Lets requests to AI pass whose session is good, and tells it whose they are.
pub(crate) async fn signed_in(
    State(verifier): State<Arc<dyn Verifier>>,
    request: Request,
    next: Next,
) -> Response {
    let (mut parts, body) = request.into_parts();
    let verdict = match Token::of(&parts) {
        Some(token) => verifier.verify(&token).await,
        None => Ok(None),
    };
    let (status, message) = match verdict {
        Ok(Some(identity)) => {
            parts.extensions.insert(Caller::of(identity.user.id));
            return next.run(Request::from_parts(parts, body)).await;
        }
        Ok(None) => (StatusCode::UNAUTHORIZED, "sign in first: AI wants a session".to_owned()),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
    };
    (status, Json(json!({ "error": { "message": message } }))).into_response()
}
