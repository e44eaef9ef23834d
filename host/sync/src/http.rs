//! The routes of rooms: `/` lists them, `/{room}` is the socket (GET with an upgrade), the whole
//! document (GET) and the place to send updates to (POST).

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{ConnectInfo, Path, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use host_caller::Right;
use host_http::{ClientAddress, bearer, error, network, query_token};
use serde_json::json;

use crate::author::Author;
use crate::authorizer::{Authorizer, Denied, RoomAccess};
use crate::bodies::{NotReceived, Sending, receive};
use crate::connection;
use crate::room::RoomError;
use crate::rooms::{OpenError, Rooms};
use crate::storage::StorageError;
use crate::store::OverLimit;
use crate::update::Update;
use crate::websocket::{Close, handshake};

#[derive(Clone)]
struct Context {
    rooms: Rooms,
    authorizer: Arc<dyn Authorizer>,
}

/// The routes of rooms, to be merged into a server: `/rooms` and `/rooms/` list them,
/// `/rooms/{room}` is one room. They take their path here, and are not nested, because axum does
/// not serve a nested router under both spellings of its root.
///
/// ```
/// # use std::sync::Arc;
/// use host_sync::{Limits, Open, Rooms, Sqlite};
///
/// # async fn serve(folder: &std::path::Path) -> Result<axum::Router, Box<dyn std::error::Error>> {
/// let storage = Sqlite::open(&folder.join("rooms.db"))?;
/// let rooms = Rooms::new(Arc::new(storage), Limits::default(), Arc::new(()));
/// let app = axum::Router::new().merge(host_sync::router("/rooms", rooms, Arc::new(Open)));
/// # Ok(app)
/// # }
/// ```
pub fn router(path: &str, rooms: Rooms, authorizer: Arc<dyn Authorizer>) -> Router {
    Router::new()
        .route(path, get(list))
        .route(&format!("{path}/"), get(list))
        .route(&format!("{path}/{{room}}"), get(enter).post(apply))
        .with_state(Context { rooms, authorizer })
}

impl Context {
    async fn authorize(&self, room: &str, parts: &Parts) -> Result<RoomAccess, Denied> {
        self.authorizer.authorize(room, token(parts).as_deref(), parts).await
    }
}

fn token(parts: &Parts) -> Option<String> {
    bearer(&parts.headers).or_else(|| query_token(&parts.uri))
}

async fn list(State(context): State<Context>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    match context.authorizer.list(token(&parts).as_deref(), &parts).await {
        Ok(name_of) => Json(json!({ "rooms": context.rooms.list(name_of) })).into_response(),
        Err(denied) => denied.into_response(),
    }
}

async fn enter(
    State(context): State<Context>,
    Path(room): Path<String>,
    request: Request,
) -> Response {
    let (mut parts, _) = request.into_parts();
    let access = context.authorize(&room, &parts).await;
    let is_upgrade = parts.headers.contains_key(header::UPGRADE);
    if !is_upgrade {
        return match access {
            Ok(access) => document(&context, &room, &access.room, address(&parts)).await,
            Err(denied) => denied.into_response(),
        };
    }
    let (upgrade, answer) = match handshake(&mut parts) {
        Ok(agreed) => agreed,
        Err(what) => return error(StatusCode::BAD_REQUEST, what),
    };
    let rooms = context.rooms.clone();
    let opened = match access {
        // Browsers hide a refused handshake from scripts, but show them a close code.
        Err(denied) => Err(denied.into()),
        Ok(access) => rooms
            .admit(address(&parts), access.account.as_ref().map(|account| &*account.id))
            .and_then(|admission| Ok((admission, rooms.open(&access.room)?, access)))
            .map_err(|refused| Close::new(1013, refused.to_string())),
    };
    context.rooms.spawn(async move {
        match opened {
            Ok((admission, room, access)) => {
                connection::serve(upgrade, room, admission, access, &rooms).await
            }
            Err(close) => connection::refuse(upgrade, close, rooms.limits()).await,
        }
    });
    answer
}

/// Whose a request is: that of the client, also behind a proxy that is trusted to name it.
fn address(parts: &Parts) -> Option<IpAddr> {
    let client = parts.extensions.get::<ClientAddress>().map(|client| client.0);
    let peer = || parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip());
    client.or_else(peer).map(network)
}

/// `id` is the room's name in the request, `stored_as` its name in storage.
async fn document(
    context: &Context,
    id: &str,
    stored_as: &str,
    address: Option<IpAddr>,
) -> Response {
    let room = match context.rooms.open_existing(stored_as).await {
        Ok(Some(room)) => room,
        Ok(None) => return error(StatusCode::NOT_FOUND, format!("Room not found: {id}")),
        Err(failed) => return error(failed.status(), failed.to_string()),
    };
    match room.snapshot().await {
        Ok(bytes) => {
            let purse = context.rooms.purse(address);
            let body = Body::new(Sending::new(bytes, &purse));
            ([(header::CONTENT_TYPE, "application/octet-stream")], body).into_response()
        }
        Err(failed) => failed.into_response(),
    }
}

async fn apply(
    State(context): State<Context>,
    Path(id): Path<String>,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let access = match context.authorize(&id, &parts).await {
        Ok(access) if access.right >= Right::Write => access,
        Ok(_) => return error(StatusCode::FORBIDDEN, "this room is read-only for you"),
        Err(denied) => return denied.into_response(),
    };
    // A body that is far too large is refused unread. One that is only a little too large is read up
    // to the limit, because many clients lose an answer that comes while they are still sending.
    let limit = context.rooms.limits().frame_bytes;
    let length = parts.headers.get(header::CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > 2 * limit as u64) {
        let message = format!("the update is larger than the limit of {limit} bytes");
        return error(StatusCode::PAYLOAD_TOO_LARGE, message);
    }
    let purse = context.rooms.purse(address(&parts));
    let RoomAccess { room, account, right, over } = access;
    let author = Author::new(account, right, "http");
    let over = async move {
        match over {
            Some(over) => over.await,
            None => std::future::pending().await,
        }
    };
    let body = tokio::select! {
        biased;
        body = receive(body, limit, &purse) => body,
        close = over => {
            let unauthorized = close.code == 4401;
            let status =
                if unauthorized { StatusCode::UNAUTHORIZED } else { StatusCode::FORBIDDEN };
            return error(status, close.reason);
        }
    };
    let body = match body {
        Ok(body) => body,
        Err(failed) => {
            let status = match failed {
                NotReceived::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
                NotReceived::Ended => StatusCode::SERVICE_UNAVAILABLE,
                NotReceived::Broken(_) => StatusCode::BAD_REQUEST,
            };
            return error(status, failed.to_string());
        }
    };
    if body.is_empty() {
        return error(StatusCode::BAD_REQUEST, "Empty update body");
    }
    let update = match Update::scan(body) {
        Ok(update) => update,
        Err(malformed) => {
            return error(StatusCode::BAD_REQUEST, format!("Invalid Yjs update: {malformed}"));
        }
    };
    let room = match context.rooms.open(&room) {
        Ok(room) => room,
        Err(refused) => return refused.into_response(),
    };
    match room.apply(update, author).await {
        Ok(()) => Json(json!({ "ok": true })).into_response(),
        Err(failed) => failed.into_response(),
    }
}

impl IntoResponse for Denied {
    fn into_response(self) -> Response {
        match self {
            Self::Unauthorized => {
                let mut response = error(StatusCode::UNAUTHORIZED, "Unauthorized");
                let bearer = HeaderValue::from_static("Bearer");
                response.headers_mut().insert(header::WWW_AUTHENTICATE, bearer);
                response
            }
            Self::Forbidden(message) => error(StatusCode::FORBIDDEN, message),
            Self::Unavailable(message) => error(StatusCode::SERVICE_UNAVAILABLE, message),
        }
    }
}

impl StorageError {
    /// What HTTP calls it.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Full(_) => StatusCode::INSUFFICIENT_STORAGE,
            Self::Damaged(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Unusable(_) | Self::Failed(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

impl IntoResponse for RoomError {
    fn into_response(self) -> Response {
        let status = match &self {
            Self::Refused { source: OverLimit::Document { .. }, .. } => {
                StatusCode::INSUFFICIENT_STORAGE
            }
            Self::Refused { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Edit { .. } => StatusCode::BAD_REQUEST,
            Self::Storage { source, .. } | Self::Unsaved { source, .. } => source.status(),
            Self::Closed { .. } | Self::Unfollowed { .. } => StatusCode::SERVICE_UNAVAILABLE,
        };
        error(status, self.to_string())
    }
}

impl IntoResponse for OpenError {
    fn into_response(self) -> Response {
        let status = match self {
            Self::Id { .. } => StatusCode::BAD_REQUEST,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        };
        error(status, self.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_507_damage_500_and_any_other_failure_of_storage_503() {
        let text = || "text".to_owned();
        for (source, status) in [
            (StorageError::Full(text()), 507),
            (StorageError::Damaged(text()), 500),
            (StorageError::Failed(text()), 503),
        ] {
            let refused = RoomError::Storage { room: text(), source: source.clone() };
            let unsaved = RoomError::Unsaved { room: text(), source };
            for error in [refused, unsaved] {
                assert_eq!(error.into_response().status().as_u16(), status);
            }
        }
    }
}
