//! Bytes of a WebSocket: where reads end makes no difference, and no message is larger than allowed.

use arbitrary::{Arbitrary, Unstructured};
use host_sync::{Decoder, Incoming, Violation};

const LIMIT: usize = 300;

pub fn run(input: &[u8]) {
    let input = <(Vec<u8>, Vec<u8>)>::arbitrary_take_rest(Unstructured::new(input));
    let Ok((bytes, cuts)) = input else { return };
    let whole = decode(std::iter::once(&bytes[..]));
    // Reads of the lengths that the input names, again and again.
    let mut rest = &bytes[..];
    let mut lengths = cuts.iter().cycle();
    let parts = std::iter::from_fn(|| {
        let length = lengths.next().map_or(1, |length| *length as usize % 16 + 1);
        let (part, after) = rest.split_at(length.min(rest.len()));
        rest = after;
        (!part.is_empty()).then_some(part)
    });
    assert_eq!(decode(parts), whole);
}

/// All messages, up to the one that breaks the rules.
fn decode<'a>(parts: impl Iterator<Item = &'a [u8]>) -> (Vec<Incoming>, Option<Violation>) {
    let mut decoder = Decoder::new(LIMIT, &[]);
    let mut messages = Vec::new();
    for part in parts {
        decoder.push(part);
        loop {
            match decoder.next_frame() {
                Ok(None) => break,
                Ok(Some(message)) => {
                    if let Incoming::Binary(bytes) | Incoming::Ping(bytes) = &message {
                        assert!(bytes.len() <= LIMIT);
                    }
                    messages.push(message);
                }
                Err(violation) => return (messages, Some(violation)),
            }
        }
    }
    (messages, None)
}
