//! The y-websocket protocol: one message a binary frame, and our answer to each.
//!
//! | type | payload |
//! |---|---|
//! | 0 sync | 0 = step 1 (a state vector), 1 = step 2 (an update), 2 = update; then its bytes |
//! | 1 awareness | presence states, see `awareness` |
//! | 2 auth | 0, and why something that the peer sent was not taken in; only we send it |
//! | 3 query awareness | nothing |
//! | 102 sync status | bytes that we send back once everything before them is on disk |
//! | 103 refusals | from a client, nothing: it wants to be told. From us, JSON: what of its writes a rule refused |
//!
//! Other types are ignored, so that clients may speak dialects.

use bytes::Bytes;

use crate::lib0::{Malformed, Reader, write_bytes, write_var};

const SYNC: u64 = 0;
const AWARENESS: u64 = 1;
const AUTH: u64 = 2;
const QUERY_AWARENESS: u64 = 3;
const SYNC_STATUS: u64 = 102;
const REFUSALS: u64 = 103;

const STEP_1: u64 = 0;
const STEP_2: u64 = 1;
const UPDATE: u64 = 2;

const PERMISSION_DENIED: u64 = 0;

/// What a client sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// A state vector; wants everything that it lacks.
    Step1(Bytes),
    /// An update: the answer to our own step 1, or a change.
    Update(Bytes),
    /// Presence states.
    Awareness(Bytes),
    /// Wants all presence states.
    QueryAwareness,
    /// Wants this back once everything before it is on disk.
    SyncStatus(Bytes),
    /// Wants to be told which of its writes are refused.
    Refusals,
    /// Something that we do not speak.
    Unknown(u64),
}

impl Message {
    /// Reads a frame. The parts share its memory.
    pub fn read(frame: &Bytes) -> Result<Self, Malformed> {
        let mut reader = Reader::new(frame);
        let kind = reader.var()?;
        let message = match kind {
            SYNC => {
                let step = reader.var()?;
                let payload = payload(frame, &mut reader)?;
                match step {
                    STEP_1 => Self::Step1(payload),
                    STEP_2 | UPDATE => Self::Update(payload),
                    _ => return Err(Malformed::Kind),
                }
            }
            AWARENESS => Self::Awareness(payload(frame, &mut reader)?),
            QUERY_AWARENESS => Self::QueryAwareness,
            REFUSALS => Self::Refusals,
            // The bytes go back as they came, so we keep the whole frame.
            SYNC_STATUS => {
                reader.bytes()?;
                Self::SyncStatus(frame.clone())
            }
            other => return Ok(Self::Unknown(other)),
        };
        reader.end()?;
        Ok(message)
    }
}

fn payload(frame: &Bytes, reader: &mut Reader) -> Result<Bytes, Malformed> {
    let payload = reader.bytes()?;
    Ok(frame.slice_ref(payload))
}

fn frame(head: &[u64], payload: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(payload.len() + 8);
    for number in head {
        write_var(&mut out, *number);
    }
    write_bytes(&mut out, payload);
    out.into()
}

/// Asks a peer for what we lack.
pub fn step_1(state_vector: &[u8]) -> Bytes {
    frame(&[SYNC, STEP_1], state_vector)
}

/// Answers a step 1.
pub fn step_2(update: &[u8]) -> Bytes {
    frame(&[SYNC, STEP_2], update)
}

/// Passes on a change.
pub fn update(update: &[u8]) -> Bytes {
    frame(&[SYNC, UPDATE], update)
}

/// Passes on presence states.
pub fn awareness(states: &[u8]) -> Bytes {
    frame(&[AWARENESS], states)
}

/// Says that something was not taken in, and why. It is the one message of the protocol that has words
/// in it: `y-websocket` prints them as a warning, and an application can listen for it.
pub fn refused(reason: &str) -> Bytes {
    frame(&[AUTH, PERMISSION_DENIED], reason.as_bytes())
}

/// Tells a client that asked for it what of its writes was refused, as JSON text.
pub fn refusal(json: &str) -> Bytes {
    frame(&[REFUSALS], json.as_bytes())
}

/// Presence of nobody. It changes nothing, and whoever hears it knows that we are here: a ping of
/// WebSocket does not reach the clients' code.
pub fn nothing() -> Bytes {
    awareness(&[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_read_as_they_are_written() {
        let read = |frame: Bytes| Message::read(&frame).unwrap();
        assert_eq!(read(step_1(b"sv")), Message::Step1("sv".into()));
        assert_eq!(read(step_2(b"u")), Message::Update("u".into()));
        assert_eq!(read(update(b"u")), Message::Update("u".into()));
        assert_eq!(read(awareness(b"a")), Message::Awareness("a".into()));
        let status = Bytes::from_static(&[102, 2, 7, 8]);
        assert_eq!(read(status.clone()), Message::SyncStatus(status));
        assert_eq!(read(Bytes::from_static(&[3])), Message::QueryAwareness);
        assert_eq!(read(Bytes::from_static(&[9, 1, 2, 3])), Message::Unknown(9));
    }

    #[test]
    fn broken_frames_are_errors() {
        for bytes in [&[][..], &[0], &[0, 0], &[0, 3, 0], &[0, 2, 5, 1], &[1, 200], &[3, 0], &[102]]
        {
            assert!(Message::read(&Bytes::copy_from_slice(bytes)).is_err(), "{bytes:?}");
        }
    }
}
