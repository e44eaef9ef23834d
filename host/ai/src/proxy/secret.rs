//! Finds a provider's key in the provider's answers, in any common encoding.
//!
//! A provider has no reason to repeat a key, but an endpoint that echoes its request does, and then
//! any account could read the shared key. The search covers the key itself, percent-encoded,
//! JSON-escaped, and in base64 at each of the three alignments. One automaton finds all of them in
//! one pass. Mixed or nested encodings are not found.

use std::fmt::Write as _;
use std::sync::Arc;

use aho_corasick::{AhoCorasick, MatchKind};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bytes::{Bytes, BytesMut};

use crate::providers::Key;

/// The shortest key that is searched for in successful answers, in bytes. Local endpoints are given
/// words as keys (`ollama`, `none`), which answers may contain legitimately.
const SECRET: usize = 12;

/// Finds one key. Cheap to clone.
#[derive(Clone)]
pub(super) struct Finder {
    automaton: AhoCorasick,
    forms: Arc<[Vec<u8>]>,
    is_secret: bool,
}

impl Finder {
    pub fn new(key: &Key) -> Self {
        let text = key.text();
        let is_secret = text.len() >= SECRET;
        let forms = if is_secret { forms(text) } else { vec![text.as_bytes().to_owned()] };
        let automaton = AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .match_kind(MatchKind::LeftmostLongest)
            .build(&forms)
            .expect("a dozen patterns of a header's length fit into an automaton");
        Self { automaton, forms: forms.into(), is_secret }
    }

    /// Whether the key is long enough not to be a common word.
    pub fn is_secret(&self) -> bool {
        self.is_secret
    }

    /// Whether `text` contains the key.
    pub fn finds(&self, text: &[u8]) -> bool {
        self.automaton.is_match(text)
    }

    /// How many bytes at the end of `text` may be the start of the key.
    fn begun(&self, text: &[u8]) -> usize {
        let begins = |form: &Vec<u8>| {
            let longest = text.len().min(form.len() - 1);
            let fits =
                |length: &usize| text[text.len() - length..].eq_ignore_ascii_case(&form[..*length]);
            (1..=longest).rev().find(fits).unwrap_or(0)
        };
        self.forms.iter().map(begins).max().unwrap_or(0)
    }
}

fn percent(text: &mut String, byte: u8) {
    let _ = write!(text, "%{byte:02X}");
}

fn unicode(text: &mut String, byte: u8) {
    let _ = write!(text, "\\u{byte:04x}");
}

fn json(text: &mut String, byte: u8) {
    match byte {
        b'"' | b'\\' | b'/' => text.extend(['\\', char::from(byte)]),
        _ => unicode(text, byte),
    }
}

/// The encodings of a key.
fn forms(key: &str) -> Vec<Vec<u8>> {
    let escaped = |kept: fn(u8) -> bool, write: fn(&mut String, u8)| {
        let mut text = String::new();
        for byte in key.bytes() {
            if kept(byte) { text.push(char::from(byte)) } else { write(&mut text, byte) }
        }
        text.into_bytes()
    };
    let unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let alphanumeric = |byte: u8| byte.is_ascii_alphanumeric();
    let mut forms = vec![
        key.as_bytes().to_owned(),
        escaped(unreserved, percent),
        escaped(alphanumeric, percent),
        escaped(|_| false, percent),
        escaped(|byte| !b"\"\\".contains(&byte), json),
        escaped(|byte| !b"\"\\/".contains(&byte), json),
        escaped(|byte| !b"\"\\<>&".contains(&byte), json),
        escaped(alphanumeric, unicode),
        escaped(|_| false, unicode),
    ];
    for before in 0..3 {
        let mut bytes = vec![0; before];
        bytes.extend_from_slice(key.as_bytes());
        let text = STANDARD_NO_PAD.encode(&bytes);
        // Characters that also hold bits of a neighbouring byte are unknown.
        let inner = &text[(before * 8).div_ceil(6)..bytes.len() * 8 / 6];
        forms.push(inner.into());
        forms.push(inner.replace('+', "-").replace('/', "_").into());
    }
    forms.sort_unstable();
    forms.dedup();
    forms
}

/// Replaces the key by asterisks in a text that arrives in pieces. The text keeps its announced
/// length, and a piece without a key is not copied.
pub(super) struct Mask {
    finder: Finder,
    /// The end of the data that may be the start of the key.
    held: Bytes,
}

impl Mask {
    pub fn new(finder: Finder) -> Self {
        Self { finder, held: Bytes::new() }
    }

    /// Processes the next piece and returns what can be sent.
    pub fn push(&mut self, piece: Bytes) -> Bytes {
        let mut text = match self.held.is_empty() {
            true => piece,
            false => [&*self.held, &*piece].concat().into(),
        };
        if self.finder.finds(&text) {
            let mut covered = BytesMut::from(text);
            let found: Vec<_> = self.finder.automaton.find_iter(&covered).collect();
            for key in found {
                covered[key.range()].fill(b'*');
            }
            text = covered.freeze();
        }
        self.held = text.split_off(text.len() - self.finder.begun(&text));
        text
    }

    /// Returns what is left at the end.
    pub fn finish(&mut self) -> Bytes {
        std::mem::take(&mut self.held)
    }

    /// Bytes held back.
    pub fn held(&self) -> usize {
        self.held.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finder(key: &str) -> Finder {
        Finder::new(&Key::new(key).expect("a key"))
    }

    #[test]
    fn a_key_is_covered_wherever_the_text_is_cut() {
        let text = b"keykey sk-12 sk-123 sk-1sk-123, sk-123";
        let covered = b"keykey sk-12 ****** sk-1******, ******";
        let finder = finder("sk-123");
        for first in 0..text.len() {
            for second in first..text.len() {
                let mut mask = Mask::new(finder.clone());
                let mut got = Vec::new();
                for piece in [&text[..first], &text[first..second], &text[second..]] {
                    got.extend(mask.push(Bytes::from_static(piece)));
                    assert!(mask.held() < 6);
                }
                got.extend(mask.finish());
                assert_eq!(got, covered, "cut at {first} and {second}");
            }
        }
    }

    #[test]
    fn a_key_is_covered_however_it_is_written() {
        const KEY: &str = "sk-proj/1+2\"3\\4&5_6";
        let json = serde_json::to_string(KEY).expect("JSON");
        let every = |write: fn(u8) -> String| KEY.bytes().map(write).collect::<String>();
        let written = [
            KEY.to_owned(),
            KEY.to_uppercase(),
            json.replace('/', "\\/"),
            json.replace('&', "\\u0026"),
            json.trim_matches('"').to_owned(),
            every(|byte| format!("%{byte:02x}")),
            every(|byte| format!("\\u{byte:04X}")),
            url::form_urlencoded::byte_serialize(KEY.as_bytes()).collect(),
        ];
        let base64 = (0..6).map(|before| {
            STANDARD_NO_PAD.encode(format!("{}{KEY}, and what follows", "x".repeat(before)))
        });
        let finder = finder(KEY);
        for text in written.into_iter().chain(base64) {
            for size in [1, 3, 64, 1000] {
                let mut mask = Mask::new(finder.clone());
                let mut got = Vec::new();
                for piece in text.as_bytes().chunks(size) {
                    got.extend(mask.push(Bytes::copy_from_slice(piece)));
                }
                got.extend(mask.finish());
                assert_eq!(got.len(), text.len());
                assert!(
                    got.ends_with(b"*") || got.iter().filter(|byte| **byte == b'*').count() > 20,
                    "{text} by {size}: {}",
                    String::from_utf8_lossy(&got)
                );
            }
        }
    }

    #[test]
    fn a_piece_without_a_key_is_passed_on_as_it_is() {
        let mut mask = Mask::new(finder("sk-the-real-key"));
        let piece = Bytes::from_static(b"data: {}\n\n");
        let passed = mask.push(piece.clone());
        assert_eq!((passed.as_ptr(), passed.len()), (piece.as_ptr(), piece.len()));
    }
}
