//! Who may use a server, and which rooms are whose.
//!
//! [`Gate`] lets requests in that carry a session, for as long as the session lasts. Three
//! authorizers decide about rooms: [`OpenRooms`] and [`SharedToken`] where rooms belong to nobody in
//! particular, [`OwnedRooms`] where each belongs to an account, which may share it with [`members`].
//! [`Origins`] and [`Hosts`] turn away web pages that have no business here.

mod accounts;
mod gate;
mod hosts;
pub mod limits;
pub mod members;
mod origins;
mod owned_rooms;
mod plain_rooms;
mod room_tokens;
mod routes;
mod watch;

pub use accounts::{AccountsError, AccountsOptions, Private, Smtp};
pub use gate::Gate;
pub use hosts::{Hosts, settle_host};
pub use origins::{Origins, guard};
pub use owned_rooms::OwnedRooms;
pub use plain_rooms::{OpenRooms, SharedToken, SignedIn, SyncToken};
