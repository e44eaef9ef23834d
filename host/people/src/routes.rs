//! The routes about a room: who it is shared with, and tokens for it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::extract::rejection::JsonRejection;
use axum::extract::{DefaultBodyLimit, FromRequestParts, Json, Path, State};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use host_caller::{Caller, Unavailable};
use host_http::error;
use serde::Deserialize;
use serde_json::json;

use crate::gate::NoSession;
use crate::limits::{BODY_BYTES, MAX_TOKEN_MINUTES, TOKEN_MINUTES};
use crate::members::{Level, MembersError, Owned};
use crate::owned_rooms::{OwnedRooms, owner};
use crate::room_tokens::Claim;

impl OwnedRooms {
    /// The routes beside those of rooms themselves.
    pub fn router(&self) -> Router {
        Router::new()
            .route("/rooms/{room}/members", get(list).post(invite).put(invite))
            .route("/rooms/{room}/members/{member}", delete(remove))
            .route("/rooms/{room}/token", post(issue))
            .layer(DefaultBodyLimit::max(BODY_BYTES))
            .with_state(self.clone())
    }
}

/// Somebody's request about a room.
struct Asking {
    caller: Caller,
    room: Owned,
}

impl FromRequestParts<OwnedRooms> for Asking {
    type Rejection = Response;

    /// Needs a session: a room token is for entering the room, and for nothing else.
    async fn from_request_parts(parts: &mut Parts, rooms: &OwnedRooms) -> Result<Self, Response> {
        #[derive(Deserialize)]
        struct Names {
            room: String,
        }
        let caller = rooms.gate.caller(parts).await.map_err(NoSession::into_response)?;
        let Path(Names { room }) =
            Path::from_request_parts(parts, rooms).await.map_err(IntoResponse::into_response)?;
        let owner = owner(parts).unwrap_or_else(|| caller.account.id.clone());
        let room = Owned { owner, room };
        if room.room.is_empty() || room.kept_as().len() > rooms.name_bytes {
            let message = "the room's id is empty, or too long";
            return Err(error(StatusCode::BAD_REQUEST, message));
        }
        Ok(Self { caller, room })
    }
}

impl Asking {
    fn is_owner(&self) -> bool {
        self.room.owner == self.caller.account.id
    }

    fn must_be_owner(&self) -> Result<(), Failure> {
        let forbidden = || Failure::Forbidden("only the owner of a room can share it".into());
        self.is_owner().then_some(()).ok_or_else(forbidden)
    }
}

/// A new member.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Invitation {
    /// The id of an account, or its e-mail address.
    member: String,
    access: Level,
}

/// A JSON body; a fault in it is answered like all errors.
type Body<T> = Result<Json<T>, JsonRejection>;

async fn list(State(rooms): State<OwnedRooms>, asking: Asking) -> Result<Response, Failure> {
    asking.must_be_owner()?;
    let mut list = Vec::new();
    for (account, access) in rooms.members.of_room(&asking.room).await? {
        let user = rooms.directory.find(&account).await?;
        let (name, email) = user.map(|user| (user.name, user.email)).unzip();
        list.push(json!({ "id": account, "name": name, "email": email, "access": access }));
    }
    Ok(data(json!(list)))
}

async fn invite(
    State(rooms): State<OwnedRooms>,
    asking: Asking,
    body: Body<Invitation>,
) -> Result<Response, Failure> {
    asking.must_be_owner()?;
    let Json(Invitation { member, access }) = body.map_err(Failure::Body)?;
    let user = rooms.directory.find(&member).await?;
    let user = user.ok_or_else(|| Failure::NotFound(format!("there is no account {member}")))?;
    if user.id == asking.room.owner {
        return Err(Failure::BadRequest("this room is yours already".into()));
    }
    rooms.members.put(&asking.room, &user.id, access).await?;
    rooms.gate.watch().look();
    Ok(data(json!({
        "id": user.id, "name": user.name, "email": user.email, "access": access,
    })))
}

async fn remove(
    State(rooms): State<OwnedRooms>,
    Path((_, member)): Path<(String, String)>,
    asking: Asking,
) -> Result<Response, Failure> {
    // The account may have been deleted while its membership remains: then the id is all there is.
    let id = rooms.directory.find(&member).await?.map_or(member, |user| user.id);
    // A member may leave.
    if id != asking.caller.account.id {
        asking.must_be_owner()?;
    }
    if !rooms.members.remove(&asking.room, &id).await? {
        return Err(Failure::NotFound("the room is not shared with this account".into()));
    }
    rooms.gate.watch().look();
    Ok(data(json!({ "id": id })))
}

/// A request for a token.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    access: Level,
    minutes: Option<f64>,
}

async fn issue(
    State(rooms): State<OwnedRooms>,
    asking: Asking,
    body: Body<Wanted>,
) -> Result<Response, Failure> {
    let Json(Wanted { access, minutes }) = body.map_err(Failure::Body)?;
    let minutes = minutes.unwrap_or(TOKEN_MINUTES);
    if !(minutes > 0.0 && minutes <= MAX_TOKEN_MINUTES) {
        let message = format!("minutes must be above 0 and at most {MAX_TOKEN_MINUTES}");
        return Err(Failure::BadRequest(message));
    }
    let Asking { caller, room } = asking;
    match rooms.level(&room, &caller.account.id).await {
        Ok(level) if level >= access => {}
        Ok(_) => return Err(Failure::Forbidden("this room is read-only for you".into())),
        Err(denied) => return Ok(denied.into_response()),
    }
    let ends = SystemTime::now() + Duration::from_secs_f64(minutes * 60.0);
    let expires = ends.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let claim = Claim {
        account: caller.account.id,
        session: caller.session.to_string(),
        owner: room.owner,
        room: room.room,
        access,
        expires,
    };
    let token = rooms.tokens.sign(&claim);
    Ok(data(json!({
        "token": token,
        "room": claim.room,
        "owner": claim.owner,
        "access": access,
        "expiresAt": expires * 1000,
    })))
}

fn data(data: serde_json::Value) -> Response {
    ([(header::CACHE_CONTROL, "no-store")], Json(json!({ "data": data }))).into_response()
}

/// Why a request is not carried out.
enum Failure {
    BadRequest(String),
    Body(JsonRejection),
    Forbidden(String),
    NotFound(String),
    Members(MembersError),
    Unavailable(Unavailable),
}

impl From<MembersError> for Failure {
    fn from(error: MembersError) -> Self {
        Self::Members(error)
    }
}

impl From<Unavailable> for Failure {
    fn from(error: Unavailable) -> Self {
        Self::Unavailable(error)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        match self {
            Self::BadRequest(message) => error(StatusCode::BAD_REQUEST, message),
            Self::Body(rejection) => error(rejection.status(), rejection.body_text()),
            Self::Forbidden(message) => error(StatusCode::FORBIDDEN, message),
            Self::NotFound(message) => error(StatusCode::NOT_FOUND, message),
            Self::Members(full @ MembersError::Full { .. }) => {
                error(StatusCode::CONFLICT, full.to_string())
            }
            Self::Members(failed) => {
                tracing::error!(error = %failed, "the members of a room cannot be read or written");
                error(StatusCode::SERVICE_UNAVAILABLE, "members cannot be read or written now")
            }
            Self::Unavailable(failed) => {
                tracing::warn!(error = failed.0, "an account cannot be looked up");
                error(StatusCode::SERVICE_UNAVAILABLE, "accounts cannot be looked up now")
            }
        }
    }
}
