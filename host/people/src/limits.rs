//! Every bound on who may enter, and why it is what it is.

use std::time::Duration;

use host_auth::Rule;

/// Time between two looks at what is open. Sessions end "within two seconds", so a look and what it
/// takes have to fit into that.
pub const LOOK: Duration = Duration::from_millis(1500);
/// Time between two looks that somebody asked for: a look at a hundred thousand sockets takes a while.
pub const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// Sessions that one query asks about.
pub const SESSIONS_PER_QUERY: usize = 500;

/// Minutes that a room token lasts unless the request says otherwise: enough to load a page and
/// connect.
pub const TOKEN_MINUTES: f64 = 15.0;
/// Minutes that a room token may last: a day, after which people sign in again.
pub const MAX_TOKEN_MINUTES: f64 = 24.0 * 60.0;
/// Bytes of a room token. Its longest part is the room's id, of at most 512 bytes, each of which JSON
/// writes as six at most.
pub const TOKEN_BYTES: usize = 8 * 1024;

/// Bytes of a request's body: an e-mail address, and a few words.
pub const BODY_BYTES: usize = 4 * 1024;
/// Members of one room. Their list is answered whole, and each of them is looked up.
pub const MEMBERS_PER_ROOM: usize = 256;
/// How often one account may share a room or change a member: a team in one go, but no search for who
/// has an account here.
pub const INVITATIONS: Rule = Rule { requests: 60, window: Duration::from_secs(10 * 60) };
/// Members of all rooms of one account together.
pub const MEMBERS_PER_OWNER: usize = 10_000;
