//! Whether a text is JSON, as `JSON.parse` sees it.
//!
//! Documents and presence hold JSON that others parse as it comes, so what is not JSON must not get in.
//! A parser that recurses would have to stop at a depth that browsers do not know; this one keeps a byte
//! for each bracket that is open.

use super::{MAX_NESTING, Malformed};

/// Checks that it is JSON, and no deeper than clients can write.
pub(crate) fn check_json(text: &str) -> Result<(), Malformed> {
    let mut scanner = Scanner { rest: text.as_bytes(), too_deep: false };
    match scanner.text() {
        Some(()) => Ok(()),
        None if scanner.too_deep => Err(Malformed::Nesting),
        None => Err(Malformed::Json),
    }
}

struct Scanner<'a> {
    rest: &'a [u8],
    /// More brackets are open than may be.
    too_deep: bool,
}

/// Each part passes over what it names, and gives `None` where something else stands.
impl Scanner<'_> {
    fn text(&mut self) -> Option<()> {
        // The brackets that are open.
        let mut open = Vec::new();
        loop {
            if open.len() > MAX_NESTING {
                self.too_deep = true;
                return None;
            }
            match self.next()? {
                b'{' if self.skip(b'}') => {}
                b'{' => {
                    open.push(b'{');
                    self.key()?;
                    continue;
                }
                b'[' if self.skip(b']') => {}
                b'[' => {
                    open.push(b'[');
                    continue;
                }
                b'"' => self.string()?,
                b't' => self.word(b"rue")?,
                b'f' => self.word(b"alse")?,
                b'n' => self.word(b"ull")?,
                b'-' => {
                    let first = self.byte()?;
                    self.number(first)?
                }
                first => self.number(first)?,
            }
            // A value has ended.
            loop {
                let Some(bracket) = open.last() else {
                    self.space();
                    return self.rest.is_empty().then_some(());
                };
                match (bracket, self.next()?) {
                    (b'{', b',') => {
                        self.key()?;
                        break;
                    }
                    (b'[', b',') => break,
                    (b'{', b'}') | (b'[', b']') => drop(open.pop()),
                    _ => return None,
                }
            }
        }
    }

    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    fn space(&mut self) {
        while let [b' ' | b'\n' | b'\r' | b'\t', rest @ ..] = self.rest {
            self.rest = rest;
        }
    }

    /// The next byte that is no space.
    fn next(&mut self) -> Option<u8> {
        self.space();
        self.byte()
    }

    /// Whether this is the next byte that is no space. If so, it is passed over.
    fn skip(&mut self, wanted: u8) -> bool {
        self.space();
        let found = self.rest.first() == Some(&wanted);
        if found {
            self.rest = &self.rest[1..];
        }
        found
    }

    fn key(&mut self) -> Option<()> {
        if self.next()? != b'"' {
            return None;
        }
        self.string()?;
        self.skip(b':').then_some(())
    }

    /// The rest of a string.
    fn string(&mut self) -> Option<()> {
        loop {
            match self.byte()? {
                b'"' => return Some(()),
                b'\\' => match self.byte()? {
                    b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => {}
                    b'u' => {
                        let (digits, rest) = self.rest.split_first_chunk::<4>()?;
                        if !digits.iter().all(u8::is_ascii_hexdigit) {
                            return None;
                        }
                        self.rest = rest;
                    }
                    _ => return None,
                },
                0..0x20 => return None,
                _ => {}
            }
        }
    }

    fn word(&mut self, rest: &[u8]) -> Option<()> {
        self.rest = self.rest.strip_prefix(rest)?;
        Some(())
    }

    /// The rest of a number, after its sign and its first digit.
    fn number(&mut self, first: u8) -> Option<()> {
        match first {
            b'0' => {}
            b'1'..=b'9' => self.digits(),
            _ => return None,
        }
        if let [b'.', rest @ ..] = self.rest {
            self.rest = rest;
            self.some_digits()?;
        }
        if let [b'e' | b'E', b'+' | b'-', rest @ ..] | [b'e' | b'E', rest @ ..] = self.rest {
            self.rest = rest;
            self.some_digits()?;
        }
        Some(())
    }

    fn digits(&mut self) {
        while let [b'0'..=b'9', rest @ ..] = self.rest {
            self.rest = rest;
        }
    }

    fn some_digits(&mut self) -> Option<()> {
        let before = self.rest.len();
        self.digits();
        (self.rest.len() < before).then_some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_json_when_a_parser_says_so() {
        let texts = [
            "",
            " ",
            "null",
            " null ",
            "nul",
            "true",
            "false",
            "falsey",
            "0",
            "-0",
            "01",
            "-",
            "+1",
            "1.",
            "1.5",
            ".5",
            "1e",
            "1e5",
            "1E+5",
            "1e-",
            "-1.0e-10",
            "1 2",
            "\"\"",
            "\"a",
            "\"\\",
            "\"\\n\"",
            "\"\\x\"",
            "\"\\u00\"",
            "\"\\u00e9\"",
            "\"\\u00g9\"",
            "\"\\ud800\"",
            "\"\n\"",
            "\"\u{7f}ö🙂\"",
            "[",
            "]",
            "[]",
            "[ ]",
            "[1,]",
            "[,1]",
            "[1 2]",
            "[1, 2]",
            "[[],[[]]]",
            "[}",
            "{",
            "{}",
            "{ }",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1",
            "{\"a\" : 1 , \"b\":[{}]}",
            "{\"a\":1,}",
            "{a:1}",
            "{1:1}",
            "{\"a\":1]",
            "\u{feff}1",
            "NaN",
            "[1]x",
            "\t\r\n1\u{b}",
        ];
        for text in texts {
            let parsed = serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok();
            assert_eq!(check_json(text).is_ok(), parsed, "{text:?}");
        }
    }

    #[test]
    fn it_may_be_as_deep_as_clients_can_write() {
        let deep = |levels: usize| "[{\"a\":".repeat(levels) + "1" + &"}]".repeat(levels);
        assert_eq!(check_json(&deep(MAX_NESTING / 2)), Ok(()));
        assert_eq!(check_json(&deep(MAX_NESTING / 2)[1..]), Err(Malformed::Json));
        assert_eq!(check_json(&deep(MAX_NESTING / 2 + 1)), Err(Malformed::Nesting));
        assert_eq!(check_json(&"[".repeat(1_000_000)), Err(Malformed::Nesting));
    }
}
