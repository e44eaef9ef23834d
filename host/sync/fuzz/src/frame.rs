//! Frames as a connection sends them, one after the other, each with its length in two bytes.

use bytes::Bytes;
use host_sync::awareness::{Awareness, AwarenessBounds, States};
use host_sync::protocol::Message;
use host_sync::store::{Bounds, Store};
use host_sync::update::{Update, read_state_vector, write_state_vector};

pub fn run(bytes: &[u8]) {
    let bounds = AwarenessBounds { states: 4, state_bytes: 64, bytes: 200 };
    let mut store = Store::default();
    let mut awareness = Awareness::default();
    let mut rest = bytes;
    let mut owner = 0;
    while let Some((head, tail)) = rest.split_at_checked(2) {
        let len = u16::from_le_bytes([head[0], head[1]]) as usize % 512;
        let (frame, after) = tail.split_at(len.min(tail.len()));
        rest = after;
        // Frames come from three connections in turn, the last of which is gone.
        owner = (owner + 1) % 3;
        let Ok(message) = Message::read(&Bytes::copy_from_slice(frame)) else { continue };
        match message {
            Message::Step1(vector) => {
                if let Ok(vector) = read_state_vector(&vector) {
                    let diff = Update::scan(store.diff(&vector).into()).expect("our diff scans");
                    let known = store.state_vector();
                    // What waits beyond holes may be joined by it, once.
                    store.apply(&diff, &Bounds::NONE).unwrap();
                    store.check();
                    assert_eq!(store.state_vector(), known);
                    assert!(!store.apply(&diff, &Bounds::NONE).unwrap().changed);
                    assert_eq!(read_state_vector(&write_state_vector(&known)).unwrap(), known);
                }
            }
            Message::Update(update) => {
                if let Ok(update) = Update::scan(update) {
                    let _ = store.apply(&update, &Bounds { size: 1 << 16, pending: 1 << 12 });
                    store.check();
                }
            }
            Message::Awareness(states) => {
                let Ok(states) = States::scan(states) else { continue };
                awareness.apply(owner, &states, &bounds, |owner| owner != 2);
                let present = awareness.present().count();
                assert!(present <= bounds.states);
                assert_eq!(awareness.is_empty(), present == 0);
                let mut copy = Awareness::default();
                let all = States::scan(awareness.encode_all().into()).expect("our states read");
                assert_eq!(copy.apply(1, &all, &bounds, |_| true).refused, None);
                assert_eq!(copy.present().count(), present);
            }
            Message::QueryAwareness | Message::Refusals => {
                let left = awareness.leave(owner);
                let encoded = awareness.encode_of(&left.iter().copied().collect());
                assert!(left.is_empty() || encoded.len() > left.len());
            }
            Message::SyncStatus(bytes) => assert_eq!(bytes, frame),
            Message::Unknown(_) => {}
        }
    }
}
