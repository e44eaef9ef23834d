//! Lets requests in that carry a session, for as long as the session lasts.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use axum::Router;
use axum::body::HttpBody;
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use host_auth::{Credential, Directory, Verifier};
use host_caller::{Caller, Callers, Ended, Unavailable};
use host_http::{Early, error, until};
use host_sync::{Denied, Rooms};

use crate::members::Members;
use crate::watch::{Grounds, Watch};

/// Knows sessions, and watches those that something depends on. Clones share everything.
#[derive(Clone)]
pub struct Gate {
    verifier: Arc<dyn Verifier>,
    watch: Watch,
}

/// Why a request is not let in.
#[derive(Debug, Clone)]
pub(crate) enum NoSession {
    /// It carries no token.
    Missing,
    /// Its token is nobody's, or its session has ended.
    Invalid,
    /// Sessions cannot be checked.
    Unavailable(Unavailable),
}

impl Gate {
    /// Starts to watch sessions, until the rooms are shut down.
    pub fn new(rooms: &Rooms, verifier: Arc<dyn Verifier>) -> Self {
        Self::with_members(rooms, verifier, None)
    }

    /// Watches memberships as well, and whether the owners of shared rooms exist.
    pub(crate) fn with_members(
        rooms: &Rooms,
        verifier: Arc<dyn Verifier>,
        members: Option<(Members, Arc<dyn Directory>)>,
    ) -> Self {
        let watch = Watch::new(rooms, verifier.clone(), members);
        Self { verifier, watch }
    }

    /// Lets requests to these routes through only with a session. They carry their [`Caller`] in
    /// their extensions.
    pub fn guard(&self, routes: Router) -> Router {
        routes.layer(axum::middleware::from_fn_with_state(self.clone(), pass))
    }

    /// What a request is allowed by.
    pub(crate) fn credential(&self, request: &Parts) -> Result<Credential, NoSession> {
        self.verifier.credential(request).ok_or(NoSession::Missing)
    }

    /// Whose session a credential is of.
    pub(crate) async fn verify(&self, credential: &Credential) -> Result<Caller, NoSession> {
        match self.verifier.verify(credential).await {
            Ok(caller) => caller.ok_or(NoSession::Invalid),
            Err(error) => Err(NoSession::Unavailable(error)),
        }
    }

    /// Who makes a request.
    pub(crate) async fn caller(&self, request: &Parts) -> Result<Caller, NoSession> {
        self.verify(&self.credential(request)?).await
    }

    /// Whether a session, by its id, has not ended.
    pub(crate) async fn is_live(&self, session: &str) -> Result<bool, Unavailable> {
        let session = [session.to_owned()];
        Ok(!self.verifier.live(&session).await?.is_empty())
    }

    /// Watches what something open depends on.
    pub(crate) fn watch(&self) -> &Watch {
        &self.watch
    }
}

async fn pass(State(gate): State<Gate>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    match gate.caller(&parts).await {
        Ok(caller) => {
            parts.extensions.insert(caller.clone());
            gate.run(caller, Request::from_parts(parts, body), next).await
        }
        Err(refused) => refused.into_response(),
    }
}

impl Gate {
    /// Runs a request as long as the caller's session lasts. What is sent at once and answered at once
    /// needs no watching; a body that is awaited and an answer that is streamed do.
    async fn run(self, caller: Caller, request: Request, next: Next) -> Response {
        let too_late = Arc::new(AtomicBool::new(false));
        let (gate, of, late) = (self.clone(), caller.clone(), too_late.clone());
        let listen = move || -> Ended {
            let ended = gate.ended(&of);
            Box::pin(async move {
                ended.await;
                late.store(true, Ordering::Relaxed);
            })
        };
        let request = request.map(|body| match body.is_end_stream() {
            true => body,
            false => until(body, Early::Broken, listen),
        });
        let answer = next.run(request).await;
        if too_late.load(Ordering::Relaxed) {
            return NoSession::Invalid.into_response();
        }
        if answer.body().size_hint().exact().is_some() {
            return answer;
        }
        let kind = answer.headers().get(header::CONTENT_TYPE);
        let events = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
        let early = if events { Early::Completely } else { Early::Broken };
        answer.map(|body| until(body, early, move || self.ended(&caller)))
    }
}

#[async_trait]
impl Callers for Gate {
    async fn identify(&self, token: &str) -> Result<Option<Caller>, Unavailable> {
        self.verifier.verify(&Credential::bearer(token)).await
    }

    fn ended(&self, caller: &Caller) -> Ended {
        let closed = self.watch.closed(Grounds::of(caller));
        Box::pin(async move {
            closed.await;
        })
    }
}

impl IntoResponse for NoSession {
    /// 401 is worded as in the specification.
    fn into_response(self) -> Response {
        let message = match self {
            Self::Missing => "Unauthorized: Bearer token required",
            Self::Invalid => "Unauthorized: Invalid session token",
            Self::Unavailable(failed) => {
                if let Unavailable::TooOften(after) = failed {
                    let mut response = error(StatusCode::TOO_MANY_REQUESTS, failed.to_string());
                    let after = HeaderValue::from(after.as_secs() + 1);
                    response.headers_mut().insert(header::RETRY_AFTER, after);
                    return response;
                }
                tracing::warn!(error = %failed, "a session cannot be checked");
                return error(StatusCode::SERVICE_UNAVAILABLE, failed.to_string());
            }
        };
        let mut response = error(StatusCode::UNAUTHORIZED, message);
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        response
    }
}

impl From<NoSession> for Denied {
    fn from(refused: NoSession) -> Self {
        match refused {
            NoSession::Missing | NoSession::Invalid => Self::Unauthorized,
            NoSession::Unavailable(error @ Unavailable::TooOften(_)) => {
                Self::Unavailable(error.to_string())
            }
            NoSession::Unavailable(error) => unavailable(error),
        }
    }
}

/// Nobody can be let in now.
pub(crate) fn unavailable(error: impl std::fmt::Display) -> Denied {
    tracing::warn!(%error, "access to a room cannot be checked");
    Denied::Unavailable("access cannot be checked now; try again soon".into())
}
