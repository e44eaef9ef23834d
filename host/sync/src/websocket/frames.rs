use bytes::Bytes;

use crate::limits::PASSED_OVER;

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
    /// A message over the limit, of which nothing is kept.
    TooLarge,
    /// The code to close with in return.
    Close(u16),
}

/// What a peer did that the protocol does not allow: the close code, and what it was.
#[derive(Debug, PartialEq, Eq)]
pub struct Violation(pub u16, pub &'static str);

/// Bytes of a payload that is not copied without need.
const LARGE: usize = 64 * 1024;

fn whole(kind: u8, message: Bytes) -> Incoming {
    if kind == BINARY { Incoming::Binary(message) } else { Incoming::Text }
}

/// Reads messages out of bytes.
#[derive(Debug)]
pub struct Decoder {
    /// Bytes that came and are not taken yet; without memory while there are none.
    buffer: Vec<u8>,
    taken: usize,
    /// Bytes that are to come and are passed over.
    skip: u64,
    /// A message of which there is more to come.
    message: Option<Message>,
    /// Bytes of a message.
    limit: usize,
}

/// A message that came in part.
#[derive(Debug)]
enum Message {
    /// Its kind, and what came of it.
    Kept(u8, Vec<u8>),
    /// It is over the limit; so many bytes of it were announced.
    PassedOver(u64),
}

/// What stands before a frame's payload.
struct Head {
    /// Whether it is its message's last.
    last: bool,
    kind: u8,
    mask: [u8; 4],
    /// Where the payload begins in the buffer.
    start: usize,
    /// Bytes of the payload.
    length: u64,
}

impl Decoder {
    /// Begins with what was read before.
    pub fn new(limit: usize, first: &[u8]) -> Self {
        Self { buffer: first.to_vec(), taken: 0, skip: 0, message: None, limit }
    }

    /// Adds bytes that came.
    pub fn push(&mut self, bytes: &[u8]) {
        let skipped = self.skip.min(bytes.len() as u64);
        self.skip -= skipped;
        self.buffer.extend_from_slice(&bytes[skipped as usize..]);
    }

    /// Whether more of a message is to come.
    pub fn is_amid(&self) -> bool {
        self.skip > 0 || self.message.is_some() || !self.buffer.is_empty()
    }

    /// Bytes that are held of a message that has not come as a whole.
    pub fn held(&self) -> usize {
        let message = match &self.message {
            Some(Message::Kept(_, bytes)) => bytes.len(),
            _ => 0,
        };
        self.buffer.len() + message
    }

    /// The next message that is there as a whole, or word of one that is too large.
    pub fn next_frame(&mut self) -> Result<Option<Incoming>, Violation> {
        loop {
            let Some(head) = self.head()? else { return Ok(self.wait()) };
            if head.kind < CLOSE && self.is_over(&head) {
                if self.pass_over(&head)? {
                    return Ok(Some(Incoming::TooLarge));
                }
                continue;
            }
            let Some(payload) = self.payload(&head) else { return Ok(self.wait()) };
            let bytes = &self.buffer[payload.clone()];
            let (kind, message) = match (self.message.take(), head.kind) {
                (message, CLOSE..) => {
                    self.message = message;
                    return Ok(Some(match head.kind {
                        CLOSE => Incoming::Close(close_code(bytes)?),
                        PING => Incoming::Ping(Bytes::copy_from_slice(bytes)),
                        _ => Incoming::Pong,
                    }));
                }
                (Some(Message::Kept(kind, mut message)), _) => {
                    message.extend_from_slice(bytes);
                    (kind, message)
                }
                (_, kind) if head.last => return Ok(Some(whole(kind, self.take_out(payload)))),
                (_, kind) => (kind, bytes.to_vec()),
            };
            if head.last {
                return Ok(Some(whole(kind, message.into())));
            }
            self.message = Some(Message::Kept(kind, message));
        }
    }

    /// A payload that is there. A large one keeps the memory into which it was read, where nothing else
    /// is in it.
    fn take_out(&mut self, payload: std::ops::Range<usize>) -> Bytes {
        if payload.len() < LARGE || payload.end < self.buffer.len() {
            return Bytes::copy_from_slice(&self.buffer[payload]);
        }
        self.taken = 0;
        Bytes::from(std::mem::take(&mut self.buffer)).slice(payload)
    }

    /// Nothing more can be taken. What was taken makes room.
    fn wait(&mut self) -> Option<Incoming> {
        self.buffer.drain(..std::mem::take(&mut self.taken));
        if self.buffer.is_empty() {
            self.buffer = Vec::new();
        }
        None
    }

    /// The head of the next frame, once all of it is there.
    fn head(&self) -> Result<Option<Head>, Violation> {
        let bytes = &self.buffer[self.taken..];
        let [first, second, rest @ ..] = bytes else { return Ok(None) };
        if first & 0x70 != 0 {
            return Err(Violation(1002, "a frame uses an extension that was not agreed on"));
        }
        if second & 0x80 == 0 {
            return Err(Violation(1002, "a frame is not masked"));
        }
        let (last, kind, short) = (first & 0x80 != 0, first & 0x0f, second & 0x7f);
        match (kind, &self.message) {
            (CLOSE | PING | PONG, _) if last && short <= 125 => {}
            (CLOSE | PING | PONG, _) => {
                return Err(Violation(1002, "a control frame is too long or in fragments"));
            }
            (TEXT | BINARY, None) | (CONTINUATION, Some(_)) => {}
            _ => return Err(Violation(1002, "a frame out of order or of an unknown kind")),
        }
        let (extended, length) = match short {
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
        let Some(mask) = rest[extended..].first_chunk::<4>() else { return Ok(None) };
        let start = self.taken + 2 + extended + 4;
        Ok(Some(Head { last, kind, mask: *mask, start, length }))
    }

    /// Bytes that were announced of the message to which a frame belongs, with those of the frame.
    fn announced(&self, head: &Head) -> u64 {
        let before = match &self.message {
            None => 0,
            Some(Message::Kept(_, bytes)) => bytes.len() as u64,
            Some(Message::PassedOver(announced)) => *announced,
        };
        before.saturating_add(head.length)
    }

    /// Whether a frame's message is over the limit. That is known before anything is kept of the frame:
    /// a length may lie.
    fn is_over(&self, head: &Head) -> bool {
        self.announced(head) > self.limit as u64
            || matches!(self.message, Some(Message::PassedOver(_)))
    }

    /// Passes over a frame's payload. True for the first of its message.
    fn pass_over(&mut self, head: &Head) -> Result<bool, Violation> {
        let announced = self.announced(head);
        if announced > (self.limit as u64).saturating_mul(PASSED_OVER) {
            return Err(Violation(1009, "a message is too large even to be passed over"));
        }
        let is_first = !matches!(self.message, Some(Message::PassedOver(_)));
        self.message = (!head.last).then_some(Message::PassedOver(announced));
        let there = head.length.min((self.buffer.len() - head.start) as u64);
        self.taken = head.start + there as usize;
        self.skip = head.length - there;
        Ok(is_first)
    }

    /// Where a frame's payload is, once all of it is there.
    fn payload(&mut self, head: &Head) -> Option<std::ops::Range<usize>> {
        let payload = head.start..head.start + head.length as usize;
        let bytes = self.buffer.get_mut(payload.clone())?;
        for (byte, mask) in bytes.iter_mut().zip(head.mask.iter().cycle()) {
            *byte ^= mask;
        }
        self.taken = payload.end;
        Some(payload)
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
        let cases: [(u16, Vec<u8>); 14] = [
            (1002, masked(&[0x88, 0x81], &[3])),
            (1002, masked(&[0x88, 0x82], &[3, 237])),
            (1007, masked(&[0x88, 0x83], &[3, 232, 0xff])),
            (1002, vec![0x82, 3, 1, 2, 3]),
            (1002, masked(&[0xc2, 0x80], b"")),
            (1002, masked(&[0x80, 0x80], b"")),
            (1002, masked(&[0x83, 0x80], b"")),
            (1002, masked(&[0x8b, 0x80], b"")),
            (1002, masked(&[0x09, 0x80], b"")),
            (1009, masked(&[0x82, 0xff, 255, 255, 255, 255, 255, 255, 255, 255], b"")),
            (1009, vec![0x82, 0xfe, 1, 1, 1, 2, 3, 4]),
            (1009, [masked(&[0x02, 0xfe, 1, 0], &[0; 256]), masked(&[0x80, 0x81], &[0])].concat()),
            (1002, [masked(&[0x02, 0x91], &[0; 17]), masked(&[0x82, 0x81], &[0])].concat()),
            (1002, vec![0x88, 0xfe]),
        ];
        for (code, bytes) in cases {
            let refused = decode(16, &bytes).unwrap_err();
            assert_eq!(refused.0, code, "{bytes:?}: {}", refused.1);
        }
    }

    #[test]
    fn a_message_over_the_limit_is_passed_over_and_what_follows_is_read() {
        let stream = [
            masked(&[0x82, 0x91], &[1; 17]),
            masked(&[0x82, 0x90], &[2; 16]),
            masked(&[0x02, 0x88], &[3; 8]),
            masked(&[0x00, 0x89], &[4; 9]),
            masked(&[0x89, 0x81], b"p"),
            masked(&[0x00, 0x80], b""),
            masked(&[0x80, 0xfe, 0, 200], &[5; 200]),
            masked(&[0x82, 0x81], b"x"),
        ];
        let expected = [
            Incoming::TooLarge,
            Incoming::Binary(vec![2; 16].into()),
            Incoming::TooLarge,
            Incoming::Ping("p".into()),
            Incoming::Binary("x".into()),
        ];
        assert_eq!(decode(16, &stream.concat()).unwrap(), expected);
        let mut decoder = Decoder::new(16, &stream.concat());
        for expected in expected {
            assert_eq!(decoder.next_frame().unwrap(), Some(expected), "in one piece");
        }
        assert_eq!(decoder.next_frame().unwrap(), None);
        assert!(!decoder.is_amid() && decoder.held() == 0);
    }

    #[test]
    fn a_large_message_is_read_whether_or_not_another_follows() {
        let large = vec![7; LARGE];
        let frame = masked(&[0x82, 0xff, 0, 0, 0, 0, 0, 1, 0, 0], &large);
        for after in [&[][..], &masked(&[0x82, 0x81], b"x")] {
            let mut decoder = Decoder::new(LARGE, &[&frame[..], after].concat());
            assert_eq!(decoder.next_frame(), Ok(Some(Incoming::Binary(large.clone().into()))));
            let next = (!after.is_empty()).then(|| Incoming::Binary("x".into()));
            assert_eq!(decoder.next_frame(), Ok(next));
            assert_eq!(decoder.next_frame(), Ok(None));
            assert!(!decoder.is_amid() && decoder.held() == 0);
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
