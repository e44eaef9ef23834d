//! Admits requests that carry a session, for as long as the session lasts.

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

/// Verifies sessions and watches those that something depends on. Clones share all state.
#[derive(Clone)]
pub struct Gate {
    verifier: Arc<dyn Verifier>,
    watch: Watch,
}

/// Why a request is refused.
#[derive(Debug, Clone)]
pub(crate) enum NoSession {
    /// It carries no token.
    Missing,
    /// Its token is unknown, or the session has ended.
    Invalid,
    /// Sessions cannot be verified at the moment.
    Unavailable(Unavailable),
}

impl Gate {
    /// Starts watching sessions until the rooms are shut down.
    pub fn new(rooms: &Rooms, verifier: Arc<dyn Verifier>) -> Self {
        Self::with_members(rooms, verifier, None)
    }

    /// Also watches memberships, and whether the owners of shared rooms still exist.
    pub(crate) fn with_members(
        rooms: &Rooms,
        verifier: Arc<dyn Verifier>,
        members: Option<(Members, Arc<dyn Directory>)>,
    ) -> Self {
        let watch = Watch::new(rooms, verifier.clone(), members);
        Self { verifier, watch }
    }

    /// Admits requests to these routes only with a session. Admitted requests carry their
    /// [`Caller`] in their extensions.
    pub fn guard(&self, routes: Router) -> Router {
        routes.layer(axum::middleware::from_fn_with_state(self.clone(), pass))
    }

    /// The credential of a request.
    pub(crate) fn credential(&self, request: &Parts) -> Result<Credential, NoSession> {
        self.verifier.credential(request).ok_or(NoSession::Missing)
    }

    /// The caller that a credential belongs to.
    pub(crate) async fn verify(&self, credential: &Credential) -> Result<Caller, NoSession> {
        match self.verifier.verify(credential).await {
            Ok(caller) => caller.ok_or(NoSession::Invalid),
            Err(error) => Err(NoSession::Unavailable(error)),
        }
    }

    /// The caller of a request.
    pub(crate) async fn caller(&self, request: &Parts) -> Result<Caller, NoSession> {
        self.verify(&self.credential(request)?).await
    }

    /// Whether a session, by its id, is still valid.
    pub(crate) async fn is_live(&self, session: &str) -> Result<bool, Unavailable> {
        let session = [session.to_owned()];
        Ok(!self.verifier.live(&session).await?.is_empty())
    }

    /// Watches the grounds of something that is open.
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
    /// Runs a request for as long as the caller's session lasts. A request that arrives whole and
    /// is answered whole needs no watching; one with a body still to come or a streamed answer
    /// does.
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
    /// The specification prescribes the wording of a 401.
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

/// The answer when access cannot be checked.
pub(crate) fn unavailable(error: impl std::fmt::Display) -> Denied {
    tracing::warn!(%error, "access to a room cannot be checked");
    Denied::Unavailable("access cannot be checked now; try again soon".into())
}
