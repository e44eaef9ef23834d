//! Every limit on access, and the reason for its value.

use std::time::Duration;

use host_auth::Rule;

/// Time between two checks of what is open. Sessions end "within two seconds", so the interval plus
/// the check itself must fit into that.
pub const LOOK: Duration = Duration::from_millis(1500);
/// Minimum time between two checks on demand: checking a hundred thousand sockets takes a while.
pub const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// Sessions in one query.
pub const SESSIONS_PER_QUERY: usize = 500;

/// Default lifetime of a room token in minutes: enough to load a page and connect.
pub const TOKEN_MINUTES: f64 = 15.0;
/// Longest lifetime of a room token in minutes: a day, after which people sign in again.
pub const MAX_TOKEN_MINUTES: f64 = 24.0 * 60.0;
/// Bytes of a room token. Its longest part is the room's id: at most 512 bytes, each of which JSON
/// writes as at most six.
pub const TOKEN_BYTES: usize = 8 * 1024;

/// Bytes of a request body: an e-mail address and a few words.
pub const BODY_BYTES: usize = 4 * 1024;
/// Members of one room. The list is returned whole, and each member is looked up.
pub const MEMBERS_PER_ROOM: usize = 256;
/// How often one account may share a room or change a member: enough to add a team at once, but not
/// to search for who has an account.
pub const INVITATIONS: Rule = Rule { requests: 60, window: Duration::from_secs(10 * 60) };
/// Members of all rooms of one account together.
pub const MEMBERS_PER_OWNER: usize = 10_000;
