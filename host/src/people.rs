//! Rooms that belong to people.
//!
//! Where a session is wanted, a room's id names a room *of the account that is signed in*: two
//! people's `blog` are two documents, and each sees their own devices in `_epicenter_discovery`.
//! The owner may share a room with other accounts, to read or to write; they address it with
//! `?owner=ID`, the id of the owner's account:
//!
//! ```text
//! ws://…/rooms/blog?token=…             my blog
//! ws://…/rooms/blog?token=…&owner=ID    the blog that ID shares with me
//! ```
//!
//! A query and not a part of the path, because a room's id may be any text, so that no path would be
//! left for `/rooms/{room}/members`; and because y-websocket (`params`) and every other client can
//! send one.
//!
//! **Where they are kept.** The room `blog` of the account `ID` is kept as `account:ID/blog`. The
//! id is percent-encoded, so the first `/` ends it, and no two rooms share a name. Nobody can ask
//! for such a name: here, whatever is asked for gets an owner in front; elsewhere (`rooms`) these
//! names are refused, so that the same data folder can be served openly, later, without giving
//! away what belongs to somebody.
//!
//! **Who may enter** is decided by the session, or by a room token (`tokens`), and holds as long as
//! what it was decided by (`admitted`). A room token never gives more than its holder has.

pub mod members;
pub mod tokens;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use axum::Router;
use axum::extract::{DefaultBodyLimit, FromRequestParts, Json, Path as UrlPath, State};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use host_auth::{Directory, Identity, Token, Verifier, VerifyError};
use host_sync::{Authorizer, Denied, NameOf, RoomAccess, RoomName, Rooms};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde::Deserialize;
use serde_json::json;

use crate::admitted::{Admitted, Grounds};
use crate::session::{error, unauthorized};
use members::{Level, Members, MembersError};
use tokens::{Claim, RoomTokens};

/// What the names of all rooms that belong to an account begin with, where they are kept.
pub const PREFIX: &str = "account:";
/// Minutes that a room token lasts when nobody says otherwise: enough to load a page and connect.
const TOKEN_MINUTES: f64 = 15.0;
/// Minutes that it may last: a day, after which somebody signs in again.
const MAX_TOKEN_MINUTES: f64 = 24.0 * 60.0;

/// Bytes of a request's body: an e-mail address, and some words.
const BODY_BYTES: usize = 4 * 1024;

/// A room of an account.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owned {
    /// The account's id.
    pub owner: String,
    /// The room's id, as its owner calls it.
    pub room: String,
}

impl Owned {
    /// The name under which it is kept.
    fn kept_as(&self) -> String {
        format!("{PREFIX}{}/{}", utf8_percent_encode(&self.owner, NON_ALPHANUMERIC), self.room)
    }

    /// The room that is kept under a name, if it belongs to an account.
    fn of(kept_as: &str) -> Option<Self> {
        let (owner, room) = kept_as.strip_prefix(PREFIX)?.split_once('/')?;
        let owner = percent_decode_str(owner).decode_utf8().ok()?.into_owned();
        Some(Self { owner, room: room.to_owned() })
    }
}

/// What it takes to have rooms that belong to people. Clones share everything.
#[derive(Clone)]
pub struct People {
    verifier: Arc<dyn Verifier>,
    directory: Arc<dyn Directory>,
    members: Members,
    tokens: RoomTokens,
    admitted: Admitted,
    /// Bytes of a name under which a room is kept.
    name_bytes: usize,
}

/// Who asks, and for which room.
struct Asking {
    identity: Identity,
    room: Owned,
}

/// What somebody may do in a room, and on which grounds.
struct Granted {
    room: Owned,
    level: Level,
    grounds: Grounds,
}

impl People {
    /// Opens what is kept of them in the data folder.
    pub fn open(
        folder: &Path,
        rooms: &Rooms,
        verifier: Arc<dyn Verifier>,
        directory: Arc<dyn Directory>,
    ) -> anyhow::Result<Self> {
        use anyhow::Context;
        let file = |name: &str| folder.join(name);
        let members = Members::open(&file("members.db"))
            .with_context(|| file("members.db").display().to_string())?;
        let tokens = RoomTokens::open(&file("room-tokens.key"))
            .with_context(|| file("room-tokens.key").display().to_string())?;
        let admitted = Admitted::new(rooms, verifier.clone(), Some(members.clone()));
        let name_bytes = rooms.limits().room_id_bytes;
        Ok(Self { verifier, directory, members, tokens, admitted, name_bytes })
    }

    /// The routes beside those of rooms: who a room is shared with, and tokens for it.
    pub fn router(&self) -> Router {
        Router::new()
            .route("/rooms/{room}/members", get(list).post(invite).put(invite))
            .route("/rooms/{room}/members/{member}", delete(remove))
            .route("/rooms/{room}/token", post(issue))
            .layer(DefaultBodyLimit::max(BODY_BYTES))
            .with_state(self.clone())
    }

    /// What a token allows in a room. `owner` is whom the request names.
    async fn grant(
        &self,
        token: &Token,
        owner: Option<String>,
        room: &str,
    ) -> Result<Granted, Denied> {
        if RoomTokens::is_one(&token.value) {
            return self.grant_by_room_token(token, owner, room).await;
        }
        let identity = self.verifier.verify(token).await.map_err(unavailable)?;
        let identity = identity.ok_or(Denied::Unauthorized)?;
        let account = identity.user.id;
        let room = Owned { owner: owner.unwrap_or_else(|| account.clone()), room: room.to_owned() };
        let level = self.level(&room, &account).await?;
        let shared = (room.owner != account).then(|| (room.clone(), level));
        let grounds = Grounds { session: identity.session, account, shared, until: None };
        Ok(Granted { room, level, grounds })
    }

    async fn grant_by_room_token(
        &self,
        token: &Token,
        owner: Option<String>,
        room: &str,
    ) -> Result<Granted, Denied> {
        let claim = self.tokens.read(&token.value).ok_or(Denied::Unauthorized)?;
        // The token names its room for good; to name the owner, too, is not needed.
        if claim.room != room || owner.is_some_and(|owner| owner != claim.owner) {
            return Err(Denied::Forbidden("the token is for another room".into()));
        }
        let session = [claim.session.clone()];
        if self.verifier.live(&session).await.map_err(unavailable)?.is_empty() {
            return Err(Denied::Unauthorized);
        }
        let until = claim.expires_at();
        let room = Owned { owner: claim.owner, room: claim.room };
        let level = self.level(&room, &claim.account).await?.min(claim.access);
        let shared = (room.owner != claim.account).then(|| (room.clone(), level));
        let [session] = session;
        let grounds = Grounds { session, account: claim.account, shared, until };
        Ok(Granted { room, level, grounds })
    }

    /// What an account may do in a room.
    async fn level(&self, room: &Owned, account: &str) -> Result<Level, Denied> {
        if room.owner == account {
            return Ok(Level::Write);
        }
        let level = self.members.level(room, account).await.map_err(unavailable)?;
        level.ok_or_else(|| Denied::Forbidden("this room is not shared with you".into()))
    }
}

#[async_trait]
impl Authorizer for People {
    async fn authorize(
        &self,
        room: &str,
        _: Option<&str>,
        request: &Parts,
    ) -> Result<RoomAccess, Denied> {
        let token = Token::of(request).ok_or(Denied::Unauthorized)?;
        let granted = self.grant(&token, owner(request), room).await?;
        // What is no socket is over before anything else is.
        let is_socket = request.headers.contains_key(header::UPGRADE);
        Ok(RoomAccess {
            room: granted.room.kept_as(),
            write: granted.level == Level::Write,
            over: is_socket.then(|| self.admitted.admit(granted.grounds)),
        })
    }

    async fn list(&self, _: Option<&str>, request: &Parts) -> Result<NameOf, Denied> {
        let token = Token::of(request).ok_or(Denied::Unauthorized)?;
        let identity = self.verifier.verify(&token).await.map_err(unavailable)?;
        let account = identity.ok_or(Denied::Unauthorized)?.user.id;
        let shared = self.members.of_account(&account).await.map_err(unavailable)?;
        let shared: std::collections::HashSet<Owned> = shared.into_iter().collect();
        Ok(Box::new(move |kept_as| {
            let found = Owned::of(kept_as)?;
            if found.owner == account {
                return Some(RoomName { id: found.room, owner: None });
            }
            shared
                .contains(&found)
                .then(|| RoomName { id: found.room.clone(), owner: Some(found.owner.clone()) })
        }))
    }
}

fn owner(request: &Parts) -> Option<String> {
    let pairs = axum::extract::Query::<Vec<(String, String)>>::try_from_uri(&request.uri).ok()?.0;
    pairs.into_iter().find(|(name, _)| name == "owner").map(|(_, owner)| owner)
}

fn unavailable(error: impl std::fmt::Display) -> Denied {
    tracing::warn!(%error, "it cannot be checked who may enter a room");
    Denied::Unavailable("it cannot be checked now who may enter; try again soon".into())
}

impl FromRequestParts<People> for Asking {
    type Rejection = Response;

    /// Needs a session: what a room token allows ends at the room's door.
    async fn from_request_parts(parts: &mut Parts, people: &People) -> Result<Self, Response> {
        #[derive(Deserialize)]
        struct Names {
            room: String,
        }
        let token = Token::of(parts).ok_or_else(|| unauthorized(None))?;
        let identity = match people.verifier.verify(&token).await {
            Ok(identity) => identity.ok_or_else(|| unauthorized(Some(&token)))?,
            Err(failed) => return Err(Failure::from(failed).into_response()),
        };
        let UrlPath(Names { room }) = UrlPath::from_request_parts(parts, people)
            .await
            .map_err(IntoResponse::into_response)?;
        let owner = owner(parts).unwrap_or_else(|| identity.user.id.clone());
        let room = Owned { owner, room };
        if room.room.is_empty() || room.kept_as().len() > people.name_bytes {
            let message = "the room's id is empty, or too long";
            return Err(error(StatusCode::BAD_REQUEST, message));
        }
        Ok(Self { identity, room })
    }
}

impl Asking {
    fn is_owner(&self) -> bool {
        self.room.owner == self.identity.user.id
    }

    fn must_be_owner(&self) -> Result<(), Failure> {
        let forbidden = || Failure::Forbidden("only the owner of a room can share it".into());
        self.is_owner().then_some(()).ok_or_else(forbidden)
    }
}

/// Who is to be a member.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Invitation {
    /// The id of an account, or its e-mail address.
    member: String,
    access: Level,
}

/// A body of JSON that is said to be such; what is wrong with it is said as all errors are.
type Body<T> = Result<Json<T>, axum::extract::rejection::JsonRejection>;

async fn list(State(people): State<People>, asking: Asking) -> Result<Response, Failure> {
    asking.must_be_owner()?;
    let mut list = Vec::new();
    for (account, access) in people.members.of_room(&asking.room).await? {
        let user = people.directory.find(&account).await?;
        let (name, email) = user.map(|user| (user.name, user.email)).unzip();
        list.push(json!({ "id": account, "name": name, "email": email, "access": access }));
    }
    Ok(data(json!(list)))
}

async fn invite(
    State(people): State<People>,
    asking: Asking,
    body: Body<Invitation>,
) -> Result<Response, Failure> {
    asking.must_be_owner()?;
    let Json(Invitation { member, access }) = body.map_err(Failure::Body)?;
    let user = people.directory.find(&member).await?;
    let user = user.ok_or_else(|| Failure::NotFound(format!("there is no account {member}")))?;
    if user.id == asking.room.owner {
        return Err(Failure::BadRequest("this room is yours already".into()));
    }
    people.members.put(&asking.room, &user.id, access).await?;
    people.admitted.look();
    Ok(data(json!({
        "id": user.id, "name": user.name, "email": user.email, "access": access,
    })))
}

async fn remove(
    State(people): State<People>,
    UrlPath((_, member)): UrlPath<(String, String)>,
    asking: Asking,
) -> Result<Response, Failure> {
    // The account may be gone, and its membership still here: then the id is all that there is.
    let id = people.directory.find(&member).await?.map_or(member, |user| user.id);
    // A guest may leave.
    if id != asking.identity.user.id {
        asking.must_be_owner()?;
    }
    if !people.members.remove(&asking.room, &id).await? {
        return Err(Failure::NotFound("the room is not shared with this account".into()));
    }
    people.admitted.look();
    Ok(data(json!({ "id": id })))
}

/// What kind of token is wanted.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    access: Level,
    minutes: Option<f64>,
}

async fn issue(
    State(people): State<People>,
    asking: Asking,
    body: Body<Wanted>,
) -> Result<Response, Failure> {
    let Json(Wanted { access, minutes }) = body.map_err(Failure::Body)?;
    let minutes = minutes.unwrap_or(TOKEN_MINUTES);
    if !(minutes > 0.0 && minutes <= MAX_TOKEN_MINUTES) {
        let message = format!("minutes must be above 0 and at most {MAX_TOKEN_MINUTES}");
        return Err(Failure::BadRequest(message));
    }
    let Asking { identity, room } = asking;
    match people.level(&room, &identity.user.id).await {
        Ok(level) if level >= access => {}
        Ok(_) => return Err(Failure::Forbidden("this room is read-only for you".into())),
        Err(denied) => return Ok(denied.into_response()),
    }
    let ends = SystemTime::now() + Duration::from_secs_f64(minutes * 60.0);
    let expires = ends.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let claim = Claim {
        account: identity.user.id,
        session: identity.session,
        owner: room.owner,
        room: room.room,
        access,
        expires,
    };
    let token = people.tokens.sign(&claim);
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

/// Why something was not done.
enum Failure {
    BadRequest(String),
    Body(axum::extract::rejection::JsonRejection),
    Forbidden(String),
    NotFound(String),
    Members(MembersError),
    Verify(VerifyError),
}

impl From<MembersError> for Failure {
    fn from(error: MembersError) -> Self {
        Self::Members(error)
    }
}

impl From<VerifyError> for Failure {
    fn from(error: VerifyError) -> Self {
        Self::Verify(error)
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
                tracing::error!(error = %failed, "the members of a room");
                error(StatusCode::SERVICE_UNAVAILABLE, "members cannot be read or written now")
            }
            Self::Verify(failed) => {
                tracing::warn!(error = %failed, "a session");
                error(StatusCode::SERVICE_UNAVAILABLE, "sessions cannot be checked now")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_rooms_are_kept_under_one_name() {
        let names = ["a", "b", "a/b", "b/a", "", "/", "account:a", "%2F", "a%2Fb", "ü", ":", "a:b"];
        let mut kept = std::collections::HashSet::new();
        for owner in names {
            for room in names {
                let owned = Owned { owner: owner.into(), room: room.into() };
                let name = owned.kept_as();
                assert_eq!(Owned::of(&name), Some(owned));
                assert!(kept.insert(name.clone()), "{name}");
            }
        }
    }
}
