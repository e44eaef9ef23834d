//! Rooms that belong to accounts.
//!
//! Where a session is required, a room's id names a room *of the signed-in account*: two people's
//! `blog` are two documents, and each sees their own devices in `_epicenter_discovery`. The owner
//! may share a room with other accounts, to read or to write. They address it with `?owner=ID`, the
//! id of the owner's account:
//!
//! ```text
//! ws://…/rooms/blog?token=…             my blog
//! ws://…/rooms/blog?token=…&owner=ID    the blog that ID shares with me
//! ```
//!
//! The owner is a query parameter rather than part of the path for two reasons. A room's id may be
//! any text, which would leave no path for `/rooms/{room}/members`. And every client, including
//! y-websocket (`params`), can send one.
//!
//! **Storage.** The room `blog` of the account `ID` is stored as `account:ID/blog`. Nobody can
//! request such a name: here every name gets an owner prefix, and where rooms have no owner
//! (`plain_rooms`) these names are refused. So the same data folder can later be served openly
//! without exposing anybody's rooms.
//!
//! **Access** is granted by a session or a room token (`room_tokens`), and lasts as long as its
//! grounds do (`watch`). A room token never grants more than its holder has.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use axum::http::request::Parts;
use host_auth::{Credential, Directory, RateLimit, Verifier};
use host_caller::{Account, Right};
use host_sync::{Authorizer, Denied, NameOf, RoomAccess, RoomName, Rooms};

use crate::gate::{Gate, unavailable};
use crate::members::{Level, Members, Owned};
use crate::room_tokens::RoomTokens;
use crate::watch::{Grounds, stays_open};

/// Access to rooms of accounts. Clones share all state.
#[derive(Clone)]
pub struct OwnedRooms {
    pub(crate) gate: Gate,
    pub(crate) directory: Arc<dyn Directory>,
    pub(crate) members: Members,
    pub(crate) tokens: RoomTokens,
    /// Limits how often each account may share a room.
    pub(crate) invitations: Arc<RateLimit<String>>,
    /// Maximum bytes of a stored room name.
    pub(crate) name_bytes: usize,
}

/// An access right, and the grounds for it.
struct Granted {
    room: Owned,
    account: Account,
    right: Right,
    grounds: Grounds,
}

impl OwnedRooms {
    /// Opens the members and the key of room tokens in the data folder.
    pub fn open(
        folder: &Path,
        rooms: &Rooms,
        verifier: Arc<dyn Verifier>,
        directory: Arc<dyn Directory>,
    ) -> anyhow::Result<Self> {
        use anyhow::Context;
        let file = |name: &str| folder.join(name);
        let members = Members::open(&file("members.db"))?;
        let tokens = RoomTokens::open(&file("room-tokens.key"))
            .with_context(|| file("room-tokens.key").display().to_string())?;
        let shared = (members.clone(), directory.clone());
        let gate = Gate::with_members(rooms, verifier, Some(shared));
        let name_bytes = rooms.limits().room_id_bytes;
        Ok(Self { gate, directory, members, tokens, invitations: Arc::default(), name_bytes })
    }

    /// The access that a credential grants to a room. `owner` is the one named by the request.
    async fn grant(
        &self,
        credential: &Credential,
        owner: Option<String>,
        room: &str,
    ) -> Result<Granted, Denied> {
        let token = credential.token.as_str();
        if RoomTokens::is_one(token) {
            return self.grant_by_room_token(token, owner, room).await;
        }
        let caller = self.gate.verify(credential).await?;
        let mut grounds = Grounds::of(&caller);
        let account = &grounds.account;
        let room = Owned { owner: owner.unwrap_or_else(|| account.clone()), room: room.to_owned() };
        let level = self.enter(&room, &caller.account).await?;
        let is_owner = room.owner == *account;
        grounds.shared = (!is_owner).then(|| (room.clone(), level));
        let right = right(is_owner, level);
        Ok(Granted { room, account: caller.account, right, grounds })
    }

    async fn grant_by_room_token(
        &self,
        token: &str,
        owner: Option<String>,
        room: &str,
    ) -> Result<Granted, Denied> {
        let claim = self.tokens.read(token).ok_or(Denied::Unauthorized)?;
        // The token names its room and owner, so the request need not repeat the owner.
        if claim.room != room || owner.is_some_and(|owner| owner != claim.owner) {
            return Err(Denied::Forbidden("the token is for another room".into()));
        }
        if !self.gate.is_live(&claim.session).await.map_err(unavailable)? {
            return Err(Denied::Unauthorized);
        }
        let until = claim.expires_at();
        let room = Owned { owner: claim.owner, room: claim.room };
        let level = self.level(&room, &claim.account).await?.min(claim.access);
        let is_owner = room.owner == claim.account;
        let shared = (!is_owner).then(|| (room.clone(), level));
        let (account, right) = (Account::of_id(&claim.account), right(is_owner, level));
        let grounds = Grounds { session: claim.session, account: claim.account, shared, until };
        Ok(Granted { room, account, right, grounds })
    }

    /// The access of an account that enters a room. If the room was shared with it, this accepts.
    pub(crate) async fn enter(&self, room: &Owned, account: &Account) -> Result<Level, Denied> {
        if room.owner == account.id {
            return Ok(Level::Write);
        }
        let level =
            self.members.accept(room, &account.id, account.names()).await.map_err(unavailable)?;
        self.unless_deleted(room, level).await
    }

    /// The access of an account to a room that it has entered before.
    async fn level(&self, room: &Owned, account: &str) -> Result<Level, Denied> {
        if room.owner == account {
            return Ok(Level::Write);
        }
        let level = self.members.level(room, account).await.map_err(unavailable)?;
        self.unless_deleted(room, level).await
    }

    /// Closes the rooms of an account when it ends.
    async fn unless_deleted(&self, room: &Owned, level: Option<Level>) -> Result<Level, Denied> {
        let forbidden = || Denied::Forbidden("this room is not shared with you".into());
        let level = level.ok_or_else(forbidden)?;
        let owner = [room.owner.clone()];
        if self.directory.existing(&owner).await.map_err(unavailable)?.is_empty() {
            self.members.forget_owner(&room.owner).await.map_err(unavailable)?;
            return Err(forbidden());
        }
        Ok(level)
    }
}

#[async_trait]
impl Authorizer for OwnedRooms {
    async fn authorize(
        &self,
        room: &str,
        _: Option<&str>,
        request: &Parts,
    ) -> Result<RoomAccess, Denied> {
        let credential = self.gate.credential(request)?;
        let granted = self.grant(&credential, owner(request), room).await?;
        Ok(RoomAccess {
            room: granted.room.kept_as(),
            account: Some(Arc::new(granted.account)),
            right: granted.right,
            over: stays_open(request).then(|| self.gate.watch().closed(granted.grounds)),
        })
    }

    async fn list(&self, _: Option<&str>, request: &Parts) -> Result<NameOf, Denied> {
        let account = self.gate.caller(request).await?.account.id;
        let shared = self.members.of_account(&account).await.map_err(unavailable)?;
        let shared: HashSet<Owned> = shared.into_iter().collect();
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

/// What somebody may do who was granted a level. An owner's own room token may grant less than they have.
fn right(is_owner: bool, level: Level) -> Right {
    match level {
        Level::Read => Right::Read,
        Level::Write if is_owner => Right::Owner,
        Level::Write => Right::Write,
    }
}

/// The owner named by a request.
pub(crate) fn owner(request: &Parts) -> Option<String> {
    let pairs = axum::extract::Query::<Vec<(String, String)>>::try_from_uri(&request.uri).ok()?.0;
    pairs.into_iter().find(|(name, _)| name == "owner").map(|(_, owner)| owner)
}
