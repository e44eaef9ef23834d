//! Who may use a server, and which rooms are whose.
//!
//! [`Gate`] admits requests that carry a session, for as long as the session lasts. Three
//! authorizers control access to rooms: [`OpenRooms`] and [`SharedToken`] where rooms have no
//! owner, and [`OwnedRooms`] where each belongs to an account, which may share it with [`members`].
//! [`Origins`] and [`Hosts`] turn away web pages that may not use the server.

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
