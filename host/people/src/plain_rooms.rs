//! Access to rooms without an owner: for everybody, for everybody with the shared token, or for
//! everybody with a session.
//!
//! In all three a room's id names the same room for everybody. Rooms that belong to an account
//! ([`owned_rooms`](crate::owned_rooms)) are neither opened nor listed.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use async_trait::async_trait;
use axum::http::request::Parts;
use host_sync::{Authorizer, Denied, NameOf, RoomAccess, RoomName};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::gate::Gate;
use crate::members::PREFIX;
use crate::watch::{Grounds, stays_open};

/// A token that opens all rooms. Only its digest is stored.
#[derive(Clone)]
pub struct SyncToken([u8; 32]);

impl SyncToken {
    fn new(token: &str) -> Self {
        Self(Sha256::digest(token.as_bytes()).into())
    }

    /// Whether the token matches. Digests are compared, so neither the timing nor the stored value
    /// reveals anything about the token.
    fn is(&self, token: &str) -> bool {
        Self::new(token).0.ct_eq(&self.0).into()
    }
}

/// Parses the command-line form: the token, or `@` and the path of its file.
impl FromStr for SyncToken {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(Self::new(&host_auth::read_argument(text)?))
    }
}

impl fmt::Debug for SyncToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SyncToken")
    }
}

/// Lets everybody enter every room.
pub struct OpenRooms;

/// Lets everybody with the token enter every room.
pub struct SharedToken(pub SyncToken);

/// Lets everybody with a session enter every room, for as long as the session lasts.
pub struct SignedIn(pub Gate);

#[async_trait]
impl Authorizer for OpenRooms {
    async fn authorize(
        &self,
        room: &str,
        _: Option<&str>,
        _: &Parts,
    ) -> Result<RoomAccess, Denied> {
        access(room)
    }

    async fn list(&self, _: Option<&str>, _: &Parts) -> Result<NameOf, Denied> {
        Ok(names())
    }
}

#[async_trait]
impl Authorizer for SharedToken {
    async fn authorize(
        &self,
        room: &str,
        token: Option<&str>,
        _: &Parts,
    ) -> Result<RoomAccess, Denied> {
        self.check(token)?;
        access(room)
    }

    async fn list(&self, token: Option<&str>, _: &Parts) -> Result<NameOf, Denied> {
        self.check(token)?;
        Ok(names())
    }
}

impl SharedToken {
    fn check(&self, token: Option<&str>) -> Result<(), Denied> {
        token.is_some_and(|token| self.0.is(token)).then_some(()).ok_or(Denied::Unauthorized)
    }
}

#[async_trait]
impl Authorizer for SignedIn {
    async fn authorize(
        &self,
        room: &str,
        _: Option<&str>,
        request: &Parts,
    ) -> Result<RoomAccess, Denied> {
        let caller = self.0.caller(request).await?;
        let mut access = access(room)?;
        access.account = Some(Arc::new(caller.account.clone()));
        if stays_open(request) {
            access.over = Some(self.0.watch().closed(Grounds::of(&caller)));
        }
        Ok(access)
    }

    async fn list(&self, _: Option<&str>, request: &Parts) -> Result<NameOf, Denied> {
        self.0.caller(request).await?;
        Ok(names())
    }
}

fn access(room: &str) -> Result<RoomAccess, Denied> {
    if room.starts_with(PREFIX) {
        let message = format!("rooms whose ids begin with {} belong to accounts", PREFIX);
        return Err(Denied::Forbidden(message));
    }
    Ok(RoomAccess::open(room))
}

fn names() -> NameOf {
    Box::new(|room| {
        let free = !room.starts_with(PREFIX);
        free.then(|| RoomName { id: room.to_owned(), owner: None })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shared_token_is_itself_and_never_shown() {
        let token: SyncToken = "secret".parse().unwrap();
        assert!(token.is("secret"));
        for other in ["", "secre", "secret ", "Secret", "secrets"] {
            assert!(!token.is(other), "{other}");
        }
        assert!(!format!("{token:?}").contains("secret"));
    }

    #[test]
    fn a_shared_token_may_lie_in_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        std::fs::write(&file, "secret\n").unwrap();
        let token: SyncToken = format!("@{}", file.display()).parse().unwrap();
        assert!(token.is("secret"));
        std::fs::write(&file, "\n").unwrap();
        assert!(format!("@{}", file.display()).parse::<SyncToken>().is_err());
        assert!("".parse::<SyncToken>().is_err());
        assert!("@/nowhere/at/all".parse::<SyncToken>().is_err());
    }
}
