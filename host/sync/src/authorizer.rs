use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use axum::http::request::Parts;
use host_caller::{Account, Right};

use crate::rooms::RoomName;
use crate::websocket::Close;

/// Decides who may enter which room. `token` is the bearer token of the `Authorization` header, or
/// the one in `?token=` if there is no such header.
#[async_trait]
pub trait Authorizer: Send + Sync + 'static {
    /// What the caller may do in a room, and under which name the room is stored.
    async fn authorize(
        &self,
        room: &str,
        token: Option<&str>,
        request: &Parts,
    ) -> Result<RoomAccess, Denied>;

    /// Which rooms the caller may list, and what they are called in the list.
    async fn list(&self, token: Option<&str>, request: &Parts) -> Result<NameOf, Denied>;
}

/// Maps the name under which a room is stored to the name that the caller sees; `None` hides the
/// room.
pub type NameOf = Box<dyn Fn(&str) -> Option<RoomName> + Send>;

/// What a caller may do in a room.
pub struct RoomAccess {
    /// The name under which the room is stored. Where rooms belong to accounts it differs from the
    /// name in the request.
    pub room: String,
    /// Who the caller is; `None` where there are no accounts.
    pub account: Option<Arc<Account>>,
    /// What they may do.
    pub right: Right,
    /// Resolves when the access ends; the socket is then closed with this code and reason, and an
    /// update whose body has not arrived is refused. `None` means that it never ends.
    pub over: Option<Pin<Box<dyn Future<Output = Close> + Send>>>,
}

impl RoomAccess {
    /// Access to a room that is everybody's.
    pub fn open(room: &str) -> Self {
        Self { room: room.to_owned(), account: None, right: Right::Owner, over: None }
    }
}

/// Why a caller may not enter a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denied {
    /// The token is missing or invalid. HTTP: 401. WebSocket: close 4401.
    Unauthorized,
    /// The caller is known and has no access. HTTP: 403. WebSocket: close 4403.
    Forbidden(String),
    /// The token cannot be checked right now. HTTP: 503. WebSocket: close 1013.
    Unavailable(String),
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

/// Lets everybody do everything.
#[derive(Debug, Clone, Copy, Default)]
pub struct Open;

#[async_trait]
impl Authorizer for Open {
    async fn authorize(
        &self,
        room: &str,
        _: Option<&str>,
        _: &Parts,
    ) -> Result<RoomAccess, Denied> {
        Ok(RoomAccess::open(room))
    }

    async fn list(&self, _: Option<&str>, _: &Parts) -> Result<NameOf, Denied> {
        Ok(Box::new(|room| Some(RoomName { id: room.to_owned(), owner: None })))
    }
}
