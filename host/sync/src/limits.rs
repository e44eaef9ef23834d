//! Every bound of the sync server, with its default and the reason for it.

use std::time::Duration;

use crate::awareness::AwarenessBounds;
use crate::store::Bounds;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// Commands that may wait for a room; beyond that their senders wait.
pub(crate) const MAILBOX: usize = 256;
/// Bytes of updates that may be unsaved before the room takes no more from sockets.
pub(crate) const UNSAVED_BYTES: usize = 16 * MIB;
/// The interval at which updates are written that nobody waits for. All rooms keep the same beat, so
/// that they share one flush of the disk; a flush costs as much CPU as forty deliveries. What
/// somebody waits for (a sync status, an HTTP write) is written at once.
pub(crate) const BEAT: Duration = Duration::from_millis(250);
/// Bytes of unsaved updates that are written without waiting for the beat.
pub(crate) const BEAT_BYTES: usize = 256 * KIB;
/// A socket to which nothing was sent for so long is sent presence of nobody. `y-websocket` gives up a
/// connection on which it heard no message for 30 seconds, pings aside. At worst something was sent just
/// after one beat, so that it is twice this until the second: that leaves a slow network its time.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(12);
/// Bytes of a state vector. Each client that ever wrote takes about eight, so this is for half a million
/// of them.
pub(crate) const VECTOR_BYTES: usize = 4 * MIB;
/// Bytes of pings and pongs that wait for one socket; beyond that it is not answered. Whoever asks that
/// often has not read the answers before.
pub(crate) const CONTROL_BYTES: usize = 4 * KIB;
/// Bytes of acknowledgements that wait for one write in a room. Beyond that a socket's newer one takes the
/// place of its older one.
pub(crate) const STATUS_BYTES: usize = 256 * KIB;
/// A message that is over [`Limits::frame_bytes`] is passed over up to so many times that; whoever
/// announces one beyond that is not waited for.
pub(crate) const PASSED_OVER: u64 = 16;
/// Until a write that failed is tried again. Most failures are short; one that lasts is met with ever fewer tries, so
/// that many rooms do not keep a broken disk busy, and yet all go on within seconds once it works.
pub(crate) const RETRY_FIRST: Duration = Duration::from_millis(250);
/// The longest time between two tries.
pub(crate) const RETRY_MOST: Duration = Duration::from_secs(4);
/// How long a write may wait for storage that fails, before whoever wants an answer gets an error. The first tries
/// have failed by then, and a client's own patience is seldom less.
pub(crate) const FAILING: Duration = Duration::from_secs(3);
/// The same for storage that does not answer. A slow disk under load may take seconds for a flush, and then it works.
pub(crate) const STALLED: Duration = Duration::from_secs(10);
/// Between two tries to compact a room that cannot be compacted, doubled each time. It would rewrite the
/// whole room, and nothing depends on it but space.
pub(crate) const COMPACT_AGAIN: Duration = Duration::from_secs(30);
/// The longest time between two such tries.
pub(crate) const COMPACT_AGAIN_MOST: Duration = Duration::from_secs(3600);
/// Bytes of a log below which it is not compacted. Rewriting a small document often would cost more
/// than reading a small log. A larger log is compacted once it has outgrown its snapshot.
pub(crate) const COMPACT_BYTES: usize = 256 * KIB;

/// Bounds on rooms and connections.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Bytes of one WebSocket frame, and of a POSTed update. A client that was offline for long
    /// sends all that it did in one frame; 32 MiB is a novel a day for a year.
    pub frame_bytes: usize,
    /// Memory of one document. Clients hold it, too, and browsers suffer beyond this.
    pub document_bytes: usize,
    /// Memory of updates that wait for earlier ones. Honest clients reorder a few messages.
    pub pending_bytes: usize,
    /// Rooms in memory at once. An empty room takes a few KiB.
    pub rooms: usize,
    /// Sockets in all. Each takes a file descriptor and about 8 KiB.
    pub connections: usize,
    /// Sockets from one address; an office behind one address has a few hundred people.
    pub connections_per_address: usize,
    /// Sockets of one account, and so rooms that it keeps open: a person with ten devices and a hundred open
    /// documents on each.
    pub connections_per_account: usize,
    /// Presence states in one room, and bytes of one of them and of all: a cursor, a name and a colour
    /// take a few hundred bytes, and everybody who joins is sent all of it.
    pub awareness: AwarenessBounds,
    /// Bytes that are held for all connections together: answers that wait to be read, and messages that
    /// have not come as a whole. Beyond it whoever owes most is ended. It has room for the largest
    /// message from several clients at once, and leaves a server of 512 MiB most of its memory.
    pub held_bytes: usize,
    /// The same for one address: half, so that no address can have all of it.
    pub held_bytes_per_address: usize,
    /// Bytes of a room's id.
    pub room_id_bytes: usize,
    /// Bytes that wait for one socket before it counts as fallen behind and is sent one diff when
    /// it has caught up.
    pub queue_bytes: usize,
    /// How long a room stays in memory when nobody uses it. From the specification.
    pub idle_timeout: Duration,
    /// Between two pings; a socket that sent nothing from one to the next is closed.
    pub ping_interval: Duration,
    /// How long a socket may take to accept a close at shutdown.
    pub close_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            frame_bytes: 32 * MIB,
            document_bytes: 256 * MIB,
            pending_bytes: 8 * MIB,
            rooms: 100_000,
            connections: 100_000,
            connections_per_address: 10_000,
            connections_per_account: 1_000,
            awareness: AwarenessBounds { states: 4096, state_bytes: 64 * KIB, bytes: 8 * MIB },
            held_bytes: 128 * MIB,
            held_bytes_per_address: 64 * MIB,
            room_id_bytes: 512,
            queue_bytes: MIB,
            idle_timeout: Duration::from_secs(60),
            ping_interval: Duration::from_secs(30),
            close_timeout: Duration::from_secs(2),
        }
    }
}

impl Limits {
    /// The bounds on one document.
    pub fn document(&self) -> Bounds {
        Bounds { size: self.document_bytes, pending: self.pending_bytes }
    }
}
