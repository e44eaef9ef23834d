//! The format of the log.
//!
//! Names of rooms, accounts and files come from outside, and so do error messages. None of them may
//! start a log line or move the reader's cursor: a line made up by a client would look like one of
//! ours. JSON escapes such text anyway. In the text format each event is one write, and line breaks
//! inside it are indented, so that the lines of an event stay together and only the first starts
//! with a time.

use std::io::{self, Write};

/// Starts each line of an event except the first.
const CONTINUED: &[u8] = b"\n    | ";

/// Writes events so that no text in them can be mistaken for another event.
pub struct Events<W> {
    out: W,
    /// Whether the formatter writes colours, which are escape sequences as well.
    colours: bool,
}

impl<W: Write> Events<W> {
    /// Writes events to `out`.
    pub fn new(out: W, colours: bool) -> Self {
        Self { out, colours }
    }

    /// If the log cannot be written, because its reader has gone or the disk is full, the server
    /// must keep running. Reporting the error to standard error would panic if that is the log.
    fn write_out(&mut self, event: &[u8]) {
        let _ = self.out.write_all(event);
    }
}

impl<W: Write> Write for Events<W> {
    /// Receives a whole event, which ends with a line feed.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = event.strip_suffix(b"\n").unwrap_or(event);
        let harmless = |byte: &u8| match byte {
            b'\t' => true,
            0x1b => self.colours,
            byte => !byte.is_ascii_control(),
        };
        if text.iter().all(harmless) {
            self.write_out(event);
            return Ok(event.len());
        }
        let mut safe = Vec::with_capacity(event.len() + 64);
        for byte in text {
            match byte {
                b'\n' => safe.extend_from_slice(CONTINUED),
                byte if harmless(byte) => safe.push(*byte),
                byte => safe.extend(byte.escape_ascii()),
            }
        }
        safe.extend_from_slice(&event[text.len()..]);
        self.write_out(&safe);
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let _ = self.out.flush();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_outside_stays_within_its_event() {
        for (event, colours, expected) in [
            ("a room=blog\n", false, "a room=blog\n"),
            (
                "a room=x\n2026-12-01T00:00:00Z ERROR forged\n",
                false,
                "a room=x\n    | 2026-12-01T00:00:00Z ERROR forged\n",
            ),
            ("a room=x\r\u{1b}[2J\u{7}\n", false, "a room=x\\r\\x1b[2J\\x07\n"),
            ("\u{1b}[32mINFO\u{1b}[0m a\tb\n", true, "\u{1b}[32mINFO\u{1b}[0m a\tb\n"),
            ("\u{fc} \u{1f980}\n", false, "\u{fc} \u{1f980}\n"),
        ] {
            let mut out = Vec::new();
            Events::new(&mut out, colours).write_all(event.as_bytes()).expect("written");
            assert_eq!(String::from_utf8(out).expect("text"), expected);
        }
    }
}
