//! Who may enter which room where rooms do not belong to people: everybody, everybody with the
//! shared token, or everybody with a session.
//!
//! In all three a room's id is its name, for all the same. What belongs to an account (`people`)
//! is neither given nor shown to them.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use async_trait::async_trait;
use axum::http::header;
use axum::http::request::Parts;
use host_auth::{Identity, Token, Verifier};
use host_sync::{Authorizer, Denied, NameOf, RoomAccess, RoomName};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::admitted::{Admitted, Grounds};
use crate::people;

/// A token that opens all rooms. It is never shown.
#[derive(Clone)]
pub struct SyncToken([u8; 32]);

impl SyncToken {
    fn new(token: &str) -> Self {
        Self(Sha256::digest(token.as_bytes()).into())
    }

    /// Whether it is this token. Digests are compared, so that neither the time that it takes nor
    /// anything that is kept says something of the token.
    fn is(&self, token: &str) -> bool {
        Self::new(token).0.ct_eq(&self.0).into()
    }
}

/// As on the command line: the token, or `@` and the file that it is in.
impl FromStr for SyncToken {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let token = match text.strip_prefix('@') {
            Some(file) => {
                std::fs::read_to_string(file).map_err(|error| format!("{file}: {error}"))?
            }
            None => text.to_owned(),
        };
        match token.trim() {
            "" => Err("the token is empty".into()),
            token => Ok(Self::new(token)),
        }
    }
}

impl fmt::Debug for SyncToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SyncToken")
    }
}

/// Everybody may enter every room.
pub struct OpenRooms;

/// Everybody with the token may enter every room.
pub struct SharedToken(pub SyncToken);

/// Everybody with a session may enter every room, for as long as the session lasts.
pub struct Sessions {
    /// Knows sessions.
    pub verifier: Arc<dyn Verifier>,
    /// Looks after the sockets.
    pub admitted: Admitted,
}

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
impl Authorizer for Sessions {
    async fn authorize(
        &self,
        room: &str,
        _: Option<&str>,
        request: &Parts,
    ) -> Result<RoomAccess, Denied> {
        let Identity { user, session, .. } = self.check(request).await?;
        let mut access = access(room)?;
        if request.headers.contains_key(header::UPGRADE) {
            let grounds = Grounds { session, account: user.id, shared: None, until: None };
            access.over = Some(self.admitted.admit(grounds));
        }
        Ok(access)
    }

    async fn list(&self, _: Option<&str>, request: &Parts) -> Result<NameOf, Denied> {
        self.check(request).await?;
        Ok(names())
    }
}

impl Sessions {
    async fn check(&self, request: &Parts) -> Result<Identity, Denied> {
        let token = Token::of(request).ok_or(Denied::Unauthorized)?;
        let identity = self.verifier.verify(&token).await;
        identity
            .map_err(|failed| Denied::Unavailable(failed.to_string()))?
            .ok_or(Denied::Unauthorized)
    }
}

fn access(room: &str) -> Result<RoomAccess, Denied> {
    if room.starts_with(people::PREFIX) {
        let message = format!("rooms whose ids begin with {} belong to accounts", people::PREFIX);
        return Err(Denied::Forbidden(message));
    }
    Ok(RoomAccess { room: room.to_owned(), write: true, over: None })
}

fn names() -> NameOf {
    Box::new(|room| {
        let free = !room.starts_with(people::PREFIX);
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
