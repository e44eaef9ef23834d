//! Routes for sharing a room and for room tokens.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::extract::rejection::JsonRejection;
use axum::extract::{DefaultBodyLimit, FromRequestParts, Json, Path, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use host_caller::{Account, Caller, Unavailable};
use host_http::error;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::gate::NoSession;
use crate::limits::{BODY_BYTES, INVITATIONS, MAX_TOKEN_MINUTES, TOKEN_MINUTES};
use crate::members::{Level, Member, MembersError, Owned};
use crate::owned_rooms::{OwnedRooms, owner};
use crate::room_tokens::Claim;

impl OwnedRooms {
    /// The routes next to those of rooms themselves.
    pub fn router(&self) -> Router {
        Router::new()
            .route("/rooms/{room}/members", get(list).post(invite).put(invite))
            .route("/rooms/{room}/members/{member}", delete(remove))
            .route("/rooms/{room}/token", post(issue))
            .layer(DefaultBodyLimit::max(BODY_BYTES))
            .with_state(self.clone())
    }
}

/// An authenticated request about a room.
struct Asking {
    caller: Caller,
    room: Owned,
}

impl FromRequestParts<OwnedRooms> for Asking {
    type Rejection = Response;

    /// Requires a session: a room token only allows entering the room.
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

/// The body of a request that adds a member.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Invitation {
    /// The member's account id or e-mail address.
    member: String,
    access: Level,
}

impl OwnedRooms {
    /// The member as its owner may see it: by name once that person has accepted.
    async fn shown(&self, member: Member) -> Result<Value, Unavailable> {
        let mut shown = json!({ "member": member.member, "access": member.level });
        shown["accepted"] = member.account.is_some().into();
        if let Some(id) = member.account {
            let account = self.directory.find(&id).await?;
            let (name, email) = account.map(|account| (account.name, account.email)).unzip();
            (shown["id"], shown["name"], shown["email"]) = (json!(id), json!(name), json!(email));
        }
        Ok(shown)
    }
}

/// A JSON body. Parse errors are answered like all other errors.
type Body<T> = Result<Json<T>, JsonRejection>;

async fn list(State(rooms): State<OwnedRooms>, asking: Asking) -> Result<Response, Failure> {
    asking.must_be_owner()?;
    let mut list = Vec::new();
    for member in rooms.members.of_room(&asking.room).await? {
        list.push(rooms.shown(member).await?);
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
    let member = if member.contains('@') { member.to_lowercase() } else { member };
    let Account { id, email, .. } = &asking.caller.account;
    if member == *id || member == *email {
        return Err(Failure::BadRequest("this room is yours already".into()));
    }
    if member.is_empty() {
        return Err(Failure::BadRequest(
            "a member is an e-mail address or the id of an account".into(),
        ));
    }
    let wait = rooms.invitations.count(id.clone(), &INVITATIONS, Instant::now());
    wait.map_err(Failure::TooOften)?;
    // Only a member who has accepted is known by another name. What the look-up finds about anybody
    // else must not reach the answer.
    let account = rooms.directory.find(&member).await?.map(|account| account.id);
    let account = rooms.members.put(&asking.room, &member, account.as_deref(), access).await?;
    rooms.gate.watch().look();
    Ok(data(rooms.shown(Member { member, account, level: access }).await?))
}

async fn remove(
    State(rooms): State<OwnedRooms>,
    Path((_, member)): Path<(String, String)>,
    asking: Asking,
) -> Result<Response, Failure> {
    let member = if member.contains('@') { member.to_lowercase() } else { member };
    let names = asking.caller.account.names();
    // A member may leave, or decline.
    let (names, account) = if names.contains(&member) {
        (names, Some(asking.caller.account.id.clone()))
    } else {
        asking.must_be_owner()?;
        let account = rooms.directory.find(&member).await?;
        (vec![member.clone()], account.map(|account| account.id))
    };
    if !rooms.members.remove(&asking.room, names, account.as_deref()).await? {
        return Err(Failure::NotFound("the room is not shared with this member".into()));
    }
    rooms.gate.watch().look();
    Ok(data(json!({ "member": member })))
}

/// A request for a room token.
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
    match rooms.enter(&room, &caller.account).await {
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

/// Why a request failed.
enum Failure {
    BadRequest(String),
    Body(JsonRejection),
    Forbidden(String),
    NotFound(String),
    TooOften(Duration),
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
            Self::TooOften(wait) => {
                let message = "you have shared rooms too often; try again later";
                let mut response = error(StatusCode::TOO_MANY_REQUESTS, message);
                let wait = HeaderValue::from(wait.as_secs() + 1);
                response.headers_mut().insert(header::RETRY_AFTER, wait);
                response
            }
            Self::Members(full @ MembersError::Full { .. }) => {
                error(StatusCode::CONFLICT, full.to_string())
            }
            Self::Members(failed) => {
                tracing::error!(error = %failed, "the members of a room cannot be read or written");
                error(StatusCode::SERVICE_UNAVAILABLE, "members cannot be read or written now")
            }
            Self::Unavailable(failed) => {
                tracing::warn!(error = %failed, "an account cannot be looked up");
                error(StatusCode::SERVICE_UNAVAILABLE, "accounts cannot be looked up now")
            }
        }
    }
}
