//! A decoder for `text/event-stream`.
//!
//! We use our own because providers are not trusted: the available crates buffer an endless line
//! without limit, rescan it for each piece that arrives, or panic at a byte order mark. This one
//! reads each byte once and holds one event, up to a limit. It keeps only the data of an event,
//! because the providers repeat the name there.
//!
//! Source: <https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream>

use std::collections::VecDeque;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The state of a partly received event.
#[derive(Debug)]
pub struct Decoder {
    /// The current, unfinished line.
    line: Vec<u8>,
    /// The data of the current event, each line followed by a line feed.
    data: Vec<u8>,
    /// Whether the last byte was a carriage return. A line feed after it does not end another line.
    after_return: bool,
    first_line: bool,
    bound: usize,
}

/// An event exceeds the limit.
#[derive(Debug, PartialEq, Eq)]
pub struct Oversized;

impl Decoder {
    /// Creates a decoder for events of up to `bound` bytes.
    pub fn new(bound: usize) -> Self {
        Self { line: Vec::new(), data: Vec::new(), after_return: false, first_line: true, bound }
    }

    /// Decodes bytes and appends the data of each complete event to `events`.
    pub fn push(
        &mut self,
        mut bytes: &[u8],
        events: &mut VecDeque<String>,
    ) -> Result<(), Oversized> {
        if self.after_return && !bytes.is_empty() {
            self.after_return = false;
            bytes = bytes.strip_prefix(b"\n").unwrap_or(bytes);
        }
        while let Some(end) = bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
            self.extend(&bytes[..end])?;
            let rest = &bytes[end..];
            bytes = match rest.strip_prefix(b"\r\n") {
                Some(rest) => rest,
                None => {
                    self.after_return = rest == b"\r";
                    &rest[1..]
                }
            };
            self.end_line(events);
        }
        self.extend(bytes)
    }

    fn extend(&mut self, bytes: &[u8]) -> Result<(), Oversized> {
        if self.line.len() + self.data.len() + bytes.len() > self.bound {
            return Err(Oversized);
        }
        self.line.extend_from_slice(bytes);
        Ok(())
    }

    fn end_line(&mut self, events: &mut VecDeque<String>) {
        let mut line = self.line.as_slice();
        if std::mem::take(&mut self.first_line) {
            line = line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line);
        }
        if line.is_empty() {
            // The last line feed is not part of the data.
            if self.data.pop().is_some() {
                events.push_back(String::from_utf8_lossy(&self.data).into_owned());
            }
            self.data.clear();
        } else if let Some(value) = line.strip_prefix(b"data:") {
            self.data.extend_from_slice(value.strip_prefix(b" ").unwrap_or(value));
            self.data.push(b'\n');
        } else if line == b"data" {
            self.data.push(b'\n');
        } else if let Some(error) = line.strip_prefix(b"error:") {
            // Older versions of llama.cpp report an error in a field of its own.
            self.data.extend_from_slice(b"{\"error\":");
            self.data.extend_from_slice(error);
            self.data.extend_from_slice(b"}\n");
        }
        self.line.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(stream: &[u8], chunk: usize) -> Vec<String> {
        let mut decoder = Decoder::new(1024);
        let mut events = VecDeque::new();
        for piece in stream.chunks(chunk) {
            decoder.push(piece, &mut events).expect("it fits");
        }
        events.into()
    }

    #[test]
    fn events_are_the_same_however_the_bytes_are_cut() {
        let cases: &[(&str, &[&str])] = &[
            ("data: a\n\ndata: b\n\n", &["a", "b"]),
            ("data: a\r\n\r\ndata: b\r\n\r\n", &["a", "b"]),
            ("data: a\r\rdata: b\r\r", &["a", "b"]),
            ("event: x\ndata:a\nid: 3\n\n", &["a"]),
            ("data: a\ndata: b\n\n", &["a\nb"]),
            ("data:  two spaces\n\n", &[" two spaces"]),
            (": a comment\n\n\n\nretry: 3\n\ndata: a\n\n", &["a"]),
            ("data\n\ndata:\n\n", &["", ""]),
            ("\u{feff}data: a\n\n", &["a"]),
            ("error: {\"code\":500}\n\n", &["{\"error\": {\"code\":500}}"]),
            ("data: naïve 😀\n\n", &["naïve 😀"]),
            ("data: cut", &[]),
            ("data: cut\n", &[]),
        ];
        for (stream, events) in cases {
            for chunk in 1..=stream.len() {
                assert_eq!(&decode(stream.as_bytes(), chunk), events, "{stream:?} by {chunk}");
            }
        }
    }

    #[test]
    fn what_is_no_text_is_replaced() {
        assert_eq!(decode(b"data: \xff\xfe\n\n", 3), ["\u{fffd}\u{fffd}"]);
    }

    #[test]
    fn an_event_is_bounded_whether_in_one_line_or_in_many() {
        for line in [&b"aaaaaaaaaa"[..], b"data: aaaa\n"] {
            let mut decoder = Decoder::new(1000);
            let mut events = VecDeque::new();
            let pushed = (0..1000).try_for_each(|_| decoder.push(line, &mut events));
            assert_eq!(pushed, Err(Oversized));
        }
    }
}
