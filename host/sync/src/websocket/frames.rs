use bytes::Bytes;

const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// Why a socket is closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Close {
    /// WebSocket close code.
    pub code: u16,
    /// For people; at most 123 bytes of it are sent.
    pub reason: String,
}

impl Close {
    /// A close with a code and a reason.
    pub fn new(code: u16, reason: impl Into<String>) -> Self {
        Self { code, reason: reason.into() }
    }
}

/// What a peer sent.
#[derive(Debug, PartialEq, Eq)]
pub enum Incoming {
    /// A binary message.
    Binary(Bytes),
    /// A text message; nobody reads it.
    Text,
    /// A ping with its payload.
    Ping(Bytes),
    /// A pong.
    Pong,
    /// The code to close with in return.
    Close(u16),
}

/// What a peer did that the protocol does not allow: the close code, and what it was.
#[derive(Debug, PartialEq, Eq)]
pub struct Violation(pub u16, pub &'static str);

/// Reads messages out of bytes.
#[derive(Debug)]
pub struct Decoder {
    /// Bytes that came and are not taken yet; without memory while there are none.
    buffer: Vec<u8>,
    taken: usize,
    /// The fragments of a message that is not complete.
    fragments: Option<(u8, Vec<u8>)>,
    /// Bytes of a message.
    limit: usize,
}

impl Decoder {
    /// Begins with what was read before.
    pub fn new(limit: usize, first: &[u8]) -> Self {
        Self { buffer: first.to_vec(), taken: 0, fragments: None, limit }
    }

    /// Adds bytes that came.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next message that is there as a whole.
    pub fn next_frame(&mut self) -> Result<Option<Incoming>, Violation> {
        loop {
            let Some((last, kind, payload)) = self.frame()? else {
                self.buffer.drain(..std::mem::take(&mut self.taken));
                if self.buffer.is_empty() {
                    self.buffer = Vec::new();
                }
                return Ok(None);
            };
            let bytes = &self.buffer[payload];
            if kind >= CLOSE {
                if !last || bytes.len() > 125 {
                    return Err(Violation(1002, "a control frame is too long or in fragments"));
                }
                return Ok(Some(match kind {
                    CLOSE => Incoming::Close(close_code(bytes)?),
                    PING => Incoming::Ping(Bytes::copy_from_slice(bytes)),
                    PONG => Incoming::Pong,
                    _ => return Err(Violation(1002, "a frame of an unknown kind")),
                }));
            }
            let (kind, message) = match (&mut self.fragments, kind) {
                (None, BINARY | TEXT) if last => (kind, Bytes::copy_from_slice(bytes)),
                (None, BINARY | TEXT) => {
                    self.fragments = Some((kind, bytes.to_vec()));
                    continue;
                }
                (Some((_, fragments)), CONTINUATION) => {
                    if fragments.len() + bytes.len() > self.limit {
                        return Err(Violation(1009, "a message is too large"));
                    }
                    fragments.extend_from_slice(bytes);
                    if !last {
                        continue;
                    }
                    let (kind, message) = self.fragments.take().expect("just matched");
                    (kind, message.into())
                }
                _ => return Err(Violation(1002, "a frame out of order or of an unknown kind")),
            };
            let incoming = if kind == BINARY { Incoming::Binary(message) } else { Incoming::Text };
            return Ok(Some(incoming));
        }
    }

    /// The next frame: whether it is its message's last, its kind, and where its payload is.
    fn frame(&mut self) -> Result<Option<(bool, u8, std::ops::Range<usize>)>, Violation> {
        let bytes = &self.buffer[self.taken..];
        let [first, second, rest @ ..] = bytes else { return Ok(None) };
        if first & 0x70 != 0 {
            return Err(Violation(1002, "a frame uses an extension that was not agreed on"));
        }
        if second & 0x80 == 0 {
            return Err(Violation(1002, "a frame is not masked"));
        }
        let (extended, length) = match second & 0x7f {
            126 => match rest.first_chunk() {
                Some(length) => (2, u16::from_be_bytes(*length) as u64),
                None => return Ok(None),
            },
            127 => match rest.first_chunk() {
                Some(length) => (8, u64::from_be_bytes(*length)),
                None => return Ok(None),
            },
            length => (0, length as u64),
        };
        // Before anything is kept of it: a length may lie.
        if length > self.limit as u64 {
            return Err(Violation(1009, "a message is too large"));
        }
        let Some(mask) = rest[extended..].first_chunk::<4>() else { return Ok(None) };
        let (mask, start) = (*mask, self.taken + 2 + extended + 4);
        let (last, kind, end) = (first & 0x80 != 0, first & 0x0f, start + length as usize);
        let Some(payload) = self.buffer.get_mut(start..end) else { return Ok(None) };
        for (byte, mask) in payload.iter_mut().zip(mask.iter().cycle()) {
            *byte ^= mask;
        }
        self.taken = end;
        Ok(Some((last, kind, start..end)))
    }
}

/// The code that answers a close: the peer's own, where it gave one.
fn close_code(payload: &[u8]) -> Result<u16, Violation> {
    let Some((code, reason)) = payload.split_first_chunk() else {
        return if payload.is_empty() {
            Ok(1000)
        } else {
            Err(Violation(1002, "half a close code"))
        };
    };
    let code = u16::from_be_bytes(*code);
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err(Violation(1002, "a close code that is not to be sent"));
    }
    if std::str::from_utf8(reason).is_err() {
        return Err(Violation(1007, "the reason of a close is not UTF-8"));
    }
    Ok(code)
}

/// A binary message, as it goes to every socket.
pub(crate) fn binary(message: &[u8]) -> Bytes {
    frame(BINARY, &[message])
}

pub(crate) fn ping() -> Bytes {
    Bytes::from_static(&[0x80 | PING, 0])
}

pub(crate) fn pong(payload: &[u8]) -> Bytes {
    frame(PONG, &[payload])
}

/// A close with a code and a reason, of which the protocol allows 123 bytes.
pub(crate) fn close(close: &Close) -> Bytes {
    let Close { code, reason } = close;
    let end = reason.floor_char_boundary(123);
    frame(CLOSE, &[&code.to_be_bytes(), &reason.as_bytes()[..end]])
}

fn frame(kind: u8, parts: &[&[u8]]) -> Bytes {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut out = Vec::with_capacity(length + 10);
    out.push(0x80 | kind);
    match length {
        0..=125 => out.push(length as u8),
        126..=0xffff => {
            out.push(126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        _ => {
            out.push(127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    for part in parts {
        out.extend_from_slice(part);
    }
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(head: &[u8], payload: &[u8]) -> Vec<u8> {
        let mask = [1, 2, 3, 4];
        let mut out = [head, &mask].concat();
        out.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        out
    }

    fn decode(limit: usize, bytes: &[u8]) -> Result<Vec<Incoming>, Violation> {
        // Byte by byte: where reads end must not matter.
        let mut decoder = Decoder::new(limit, &[]);
        let mut messages = Vec::new();
        for byte in bytes {
            decoder.push(&[*byte]);
            while let Some(message) = decoder.next_frame()? {
                messages.push(message);
            }
        }
        assert!(decoder.buffer.capacity() == 0 || !decoder.buffer.is_empty(), "no idle memory");
        Ok(messages)
    }

    #[test]
    fn messages_are_read_whole_or_in_fragments_with_control_frames_between() {
        let long = vec![7; 300];
        let stream = [
            masked(&[0x82, 0x83], b"abc"),
            masked(&[0x02, 0x82], b"de"),
            masked(&[0x89, 0x81], b"p"),
            masked(&[0x80, 0x81], b"f"),
            masked(&[0x82, 0xfe, 1, 44], &long),
            masked(&[0x82, 0xff, 0, 0, 0, 0, 0, 0, 0, 1], b"x"),
            masked(&[0x8a, 0x80], b""),
            masked(&[0x81, 0x81], b"t"),
            masked(&[0x88, 0x82], &[3, 232]),
        ];
        let expected = [
            Incoming::Binary("abc".into()),
            Incoming::Ping("p".into()),
            Incoming::Binary("def".into()),
            Incoming::Binary(long.into()),
            Incoming::Binary("x".into()),
            Incoming::Pong,
            Incoming::Text,
            Incoming::Close(1000),
        ];
        assert_eq!(decode(300, &stream.concat()).unwrap(), expected);
    }

    #[test]
    fn what_the_protocol_forbids_is_refused_with_its_code() {
        let cases: [(u16, Vec<u8>); 12] = [
            (1002, masked(&[0x88, 0x81], &[3])),
            (1002, masked(&[0x88, 0x82], &[3, 237])),
            (1007, masked(&[0x88, 0x83], &[3, 232, 0xff])),
            (1002, vec![0x82, 3, 1, 2, 3]),
            (1002, masked(&[0xc2, 0x80], b"")),
            (1002, masked(&[0x80, 0x80], b"")),
            (1002, masked(&[0x83, 0x80], b"")),
            (1002, masked(&[0x8b, 0x80], b"")),
            (1002, masked(&[0x09, 0x80], b"")),
            (1009, vec![0x82, 0xff, 255, 255, 255, 255, 255, 255, 255, 255]),
            (1009, vec![0x82, 0xfe, 4, 0]),
            (1009, [masked(&[0x02, 0x88], &[0; 8]), masked(&[0x80, 0x89], &[0; 9])].concat()),
        ];
        for (code, bytes) in cases {
            let refused = decode(16, &bytes).unwrap_err();
            assert_eq!(refused.0, code, "{bytes:?}: {}", refused.1);
        }
    }

    #[test]
    fn frames_have_the_shortest_length_and_reasons_end_at_a_character() {
        assert_eq!(binary(b"ab")[..], [0x82, 2, b'a', b'b']);
        assert_eq!(binary(&[0; 126])[..4], [0x82, 126, 0, 126]);
        assert_eq!(binary(&[0; 65536])[..10], [0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
        let close = close(&Close::new(1009, "ö".repeat(100)));
        assert_eq!(close[..4], [0x88, 124, 3, 241]);
        assert!(std::str::from_utf8(&close[4..]).is_ok());
    }
}
