//! Listing and ending sessions.

use std::collections::HashSet;

use axum::http::{HeaderValue, Method, header};
use serde_json::{Value, json};

use super::exchange::Exchange;
use super::fields::Fields;
use super::reply::{Answer, Refusal, Reply};
use crate::hub::{LiveAnswer, LiveQuestion};
use crate::limits;
use crate::time::Time;

/// `GET /get-session`
pub(super) async fn get(exchange: &mut Exchange) -> Answer {
    exchange.set_header(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    exchange.set_header(header::PRAGMA, HeaderValue::from_static("no-cache"));
    if exchange.method() == Method::POST {
        return Err(Refusal::METHOD_NOT_ALLOWED_DEFER_SESSION_REQUIRED);
    }
    let extend = !matches!(exchange.query("disableRefresh"), Some(said) if said != "false");
    match exchange.find_session(extend).await {
        Ok(Some((session, user))) => Reply::json(&json!({ "session": session, "user": user })),
        Ok(None) => Reply::json(&Value::Null),
        Err(Refusal { status, .. }) if status.is_server_error() => {
            Err(Refusal::FAILED_TO_GET_SESSION)
        }
        Err(refusal) => Err(refusal),
    }
}

/// `GET /list-sessions`
pub(super) async fn list(exchange: &mut Exchange) -> Answer {
    let (_, user) = exchange.fresh_session().await?;
    let now = Time::now();
    let mut sessions = exchange.users().database.sessions(&user.id).await?;
    sessions.retain(|session| session.expires_at > now);
    Reply::json(&sessions)
}

/// `POST /revoke-session`
pub(super) async fn revoke(exchange: &mut Exchange) -> Answer {
    let body = exchange.body.take();
    let mut fields = Fields::of(&body, &["object"])?;
    let token = fields.text("token");
    fields.finish()?;
    let (session, user) = exchange.session().await?;
    // A session of another user is left alone, and the answer does not reveal whether it exists.
    let theirs = exchange.users().database.session(token).await?;
    if theirs.is_some_and(|(session, _)| session.user_id == user.id) {
        exchange.users().end_session(token).await?;
    }
    if token == session.token {
        exchange.expire_cookies();
    }
    Reply::status()
}

/// `POST /revoke-sessions`
pub(super) async fn revoke_all(exchange: &mut Exchange) -> Answer {
    let (_, user) = exchange.session().await?;
    exchange.users().end_sessions(&user.id).await?;
    exchange.expire_cookies();
    Reply::status()
}

/// `POST /revoke-other-sessions`
pub(super) async fn revoke_others(exchange: &mut Exchange) -> Answer {
    let (session, user) = exchange.session().await?;
    exchange.users().end_other_sessions(&user.id, &session.token).await?;
    Reply::status()
}

/// `POST /epicenter/live-sessions`: which of many tokens are valid. This endpoint is ours, not
/// Better Auth's. It serves local servers, and reveals nothing that `get-session` would not reveal
/// for each token.
pub(super) async fn live(exchange: &mut Exchange) -> Answer {
    let body = exchange.body.take().unwrap_or_default();
    let question: LiveQuestion = serde_json::from_value(body).map_err(|_| Refusal::INVALID_JSON)?;
    if question.tokens.len() > limits::hub::TOKENS_PER_QUESTION {
        return Err(Refusal::TOO_LARGE);
    }
    let tokens: Vec<_> =
        question.tokens.iter().map(|token| exchange.inner().bearer(token)).collect();
    let known: Vec<_> = tokens.iter().flatten().cloned().collect();
    let live = exchange.users().database.live_tokens(&known, Time::now()).await?;
    let live: HashSet<_> = live.into_iter().collect();
    let is_live = |token: &Option<String>| token.as_ref().is_some_and(|token| live.contains(token));
    Reply::json(&LiveAnswer { live: tokens.iter().map(is_live).collect() })
}

/// `POST /update-session`: sessions have no fields that clients may set.
pub(super) async fn update(exchange: &mut Exchange) -> Answer {
    let body = exchange.body.take();
    Fields::of(&body, &["record"])?.finish()?;
    exchange.session().await?;
    Err(Refusal::NO_FIELDS)
}
