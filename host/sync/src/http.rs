//! The routes of rooms: `/` lists them, `/{room}` is the socket (GET with an upgrade), the whole
//! document (GET) and the place to send updates to (POST).

use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Path, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use base64::Engine;
use hyper::upgrade::OnUpgrade;
use serde_json::json;
use sha1::{Digest, Sha1};

use crate::connection;
use crate::outbox::Close;
use crate::room::RoomError;
use crate::rooms::{OpenError, RoomName, Rooms};
use crate::store::Refused;
use crate::update::Update;

/// Decides who may enter which room. `token` is the bearer token of the `Authorization` header, or
/// else that of `?token=`.
#[async_trait]
pub trait Authorizer: Send + Sync + 'static {
    /// What may be done in a room, and what the room is called where it is kept.
    async fn authorize(
        &self,
        room: &str,
        token: Option<&str>,
        request: &Parts,
    ) -> Result<Access, Denied>;

    /// Which rooms may be listed, and how they are named to the one who asks.
    async fn list(&self, token: Option<&str>, request: &Parts) -> Result<NameOf, Denied>;
}

/// The name of a room to the one who asks, by the name under which it is kept; none when it is not
/// to be listed.
pub type NameOf = Box<dyn Fn(&str) -> Option<RoomName> + Send>;

/// What someone may do in a room.
pub struct Access {
    /// The room as it is kept; another name than was asked for where rooms belong to accounts.
    pub room: String,
    /// Whether updates are taken.
    pub write: bool,
    /// Resolves when the access is over; a socket is closed with what it resolves to. A request
    /// is let in or not, once. None: never.
    pub over: Option<Pin<Box<dyn Future<Output = Close> + Send>>>,
}

/// Why someone may not enter a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denied {
    /// The token is missing or not valid. HTTP: 401. WebSocket: close 4401.
    Unauthorized,
    /// It is known who asks, and they may not. HTTP: 403. WebSocket: close 4403.
    Forbidden(String),
    /// It cannot be told now. HTTP: 503. WebSocket: close 1013.
    Unavailable(String),
}

/// Everybody may do everything.
#[derive(Debug, Clone, Copy, Default)]
pub struct Open;

#[async_trait]
impl Authorizer for Open {
    async fn authorize(&self, room: &str, _: Option<&str>, _: &Parts) -> Result<Access, Denied> {
        Ok(Access { room: room.to_owned(), write: true, over: None })
    }

    async fn list(&self, _: Option<&str>, _: &Parts) -> Result<NameOf, Denied> {
        Ok(Box::new(|room| Some(RoomName { id: room.to_owned(), owner: None })))
    }
}

#[derive(Clone)]
struct Context {
    rooms: Rooms,
    authorizer: Arc<dyn Authorizer>,
}

/// The routes of rooms below a path, to be merged into a server: `/rooms` and `/rooms/` list them,
/// `/rooms/{room}` is one of them. A path rather than nesting, so that both spellings of the list
/// are there.
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
    let limit = DefaultBodyLimit::max(rooms.limits().frame_bytes);
    Router::new()
        .route(path, get(list))
        .route(&format!("{path}/"), get(list))
        .route(&format!("{path}/{{room}}"), get(enter).post(apply).layer(limit))
        .with_state(Context { rooms, authorizer })
}

impl Context {
    async fn authorize(&self, room: &str, parts: &Parts) -> Result<Access, Denied> {
        self.authorizer.authorize(room, token(parts).as_deref(), parts).await
    }
}

fn token(parts: &Parts) -> Option<String> {
    let bearer = parts.headers.get(header::AUTHORIZATION).and_then(|value| {
        let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned())
    });
    let query = || {
        let pairs = axum::extract::Query::<Vec<(String, String)>>::try_from_uri(&parts.uri);
        pairs.ok()?.0.into_iter().find(|(key, _)| key == "token").map(|(_, token)| token)
    };
    bearer.or_else(query)
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
            Ok(access) => document(&context, &room, &access.room).await,
            Err(denied) => denied.into_response(),
        };
    }
    let (upgrade, answer) = match handshake(&mut parts) {
        Ok(agreed) => agreed,
        Err(what) => return error(StatusCode::BAD_REQUEST, what),
    };
    let rooms = context.rooms.clone();
    let opened = match access {
        // Browsers do not show a refused handshake to scripts; a close code they do.
        Err(denied) => Err(denied.into()),
        Ok(access) => rooms
            .admit(address(&parts))
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

/// Agrees to speak WebSocket, or says what is missing (RFC 6455, section 4.2).
fn handshake(parts: &mut Parts) -> Result<(OnUpgrade, Response), &'static str> {
    let has =
        |name: header::HeaderName, wanted: &str| {
            parts.headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).any(
                |value| value.split(',').any(|token| token.trim().eq_ignore_ascii_case(wanted)),
            )
        };
    if !has(header::UPGRADE, "websocket") || !has(header::CONNECTION, "upgrade") {
        return Err("the only upgrade here is to websocket");
    }
    if !has(header::SEC_WEBSOCKET_VERSION, "13") {
        return Err("Sec-WebSocket-Version must be 13");
    }
    let key = parts.headers.get(header::SEC_WEBSOCKET_KEY).ok_or("Sec-WebSocket-Key is missing")?;
    let mut hash = Sha1::new();
    hash.update(key.as_bytes());
    hash.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let accept = base64::engine::general_purpose::STANDARD.encode(hash.finalize());
    let upgrade =
        parts.extensions.remove::<OnUpgrade>().ok_or("this connection cannot be upgraded")?;
    let headers = [
        (header::CONNECTION, "upgrade"),
        (header::UPGRADE, "websocket"),
        (header::SEC_WEBSOCKET_ACCEPT, &accept),
    ];
    Ok((upgrade, (StatusCode::SWITCHING_PROTOCOLS, headers).into_response()))
}

fn address(parts: &Parts) -> Option<IpAddr> {
    parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip())
}

/// `id` is how the room was asked for, `kept_as` its name where it is kept.
async fn document(context: &Context, id: &str, kept_as: &str) -> Response {
    let room = match context.rooms.open_existing(kept_as).await {
        Ok(Some(room)) => room,
        Ok(None) => return error(StatusCode::NOT_FOUND, format!("Room not found: {id}")),
        Err(failed) => return error(StatusCode::SERVICE_UNAVAILABLE, failed.to_string()),
    };
    match room.snapshot().await {
        Ok(bytes) => ([(header::CONTENT_TYPE, "application/octet-stream")], bytes).into_response(),
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
        Ok(access) if access.write => access,
        Ok(_) => return error(StatusCode::FORBIDDEN, "this room is read-only for you"),
        Err(denied) => return denied.into_response(),
    };
    // Before any of it is read. One that is only a little too large is read up to the limit: an
    // answer is lost on many clients as long as they still send.
    let limit = context.rooms.limits().frame_bytes;
    let length = parts.headers.get(header::CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > 2 * limit as u64) {
        let message = format!("the update is larger than {limit} bytes, which are allowed here");
        return error(StatusCode::PAYLOAD_TOO_LARGE, message);
    }
    let request = Request::from_parts(parts, body);
    let body = match <Bytes as axum::extract::FromRequest<_>>::from_request(request, &()).await {
        Ok(body) => body,
        Err(rejection) => return error(rejection.status(), rejection.body_text()),
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
    let room = match context.rooms.open(&access.room) {
        Ok(room) => room,
        Err(refused) => return refused.into_response(),
    };
    match room.apply(update).await {
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

impl From<Denied> for Close {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Unauthorized => Self::new(4401, "Unauthorized"),
            Denied::Forbidden(message) => Self::new(4403, message),
            Denied::Unavailable(message) => Self::new(1013, message),
        }
    }
}

fn error(status: StatusCode, message: impl Into<String>) -> Response {
    (status, Json(json!({ "error": { "message": message.into() } }))).into_response()
}

impl IntoResponse for RoomError {
    fn into_response(self) -> Response {
        let status = match &self {
            Self::Refused { source: Refused::Full { .. }, .. } => StatusCode::INSUFFICIENT_STORAGE,
            Self::Refused { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Edit { .. } => StatusCode::BAD_REQUEST,
            Self::Storage { .. } | Self::Closed { .. } => StatusCode::SERVICE_UNAVAILABLE,
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
