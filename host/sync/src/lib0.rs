//! The lib0 encoding that Yjs and its protocols are written in.
//!
//! Everything here reads hostile bytes: each read is checked against what is left, varints must be
//! canonical, and no length is believed before that many bytes are there. Whatever passes over values
//! does not recurse, so that they may be nested as deep as any client can read; what makes JSON of them
//! stops at [`MAX_DEPTH`].

mod json;

pub(crate) use json::check_json;

/// Why bytes could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The bytes end before the value does.
    #[error("ends too early")]
    Truncated,
    /// A number is longer than 53 bits, or not in its shortest form.
    #[error("a number is too large or not in its shortest form")]
    Number,
    /// A string is not UTF-8.
    #[error("a string is not UTF-8")]
    Utf8,
    /// A count or a length is larger than what follows could hold.
    #[error("a count is larger than the bytes that follow")]
    Count,
    /// A value of an unknown kind.
    #[error("a value of an unknown kind")]
    Kind,
    /// A client has two lists of structs.
    #[error("a client has two lists of structs")]
    Repeated,
    /// Text that must be JSON is not.
    #[error("text that must be JSON is not")]
    Json,
    /// A value that is to become JSON is nested too deep for that.
    #[error("values are nested deeper than {MAX_DEPTH}")]
    Depth,
    /// Values are nested deeper than clients can read.
    #[error("values are nested deeper than the {MAX_NESTING} that clients can read")]
    Nesting,
    /// Values are nested deeper than any client writes them.
    #[error("values are nested deeper than {MAX_WRITABLE}")]
    Bottomless,
    /// A clock is beyond what a document can hold, or a length is zero.
    #[error("a clock or length is out of range")]
    Clock,
    /// Bytes follow the end.
    #[error("bytes follow the end")]
    Trailing,
}

/// How deep values in a document may be nested. Yjs recurses when it reads them, and V8's stack ends at
/// some 4,400: a value deeper than that would break everybody who shares the document.
pub const MAX_NESTING: usize = 4000;

/// How deep an honest client can nest values: V8's stack ends at some 7,200 when Yjs writes them.
pub const MAX_WRITABLE: usize = 8000;

/// How deep values may be nested to be read as JSON, as rows are. A document may hold deeper ones.
pub const MAX_DEPTH: u32 = 64;

/// The largest clock that a client can reach. Yjs counts in doubles and yrs in `u32`; half of that
/// leaves room to add without overflow.
pub const MAX_CLOCK: u32 = 1 << 31;

type Result<T> = std::result::Result<T, Malformed>;

/// A cursor over bytes.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// Reads from the start.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// How many bytes have been read.
    pub fn position(&self) -> usize {
        self.at
    }

    /// How many bytes are left.
    pub fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// Fails unless everything was read.
    pub fn end(&self) -> Result<()> {
        if self.left() == 0 { Ok(()) } else { Err(Malformed::Trailing) }
    }

    /// One byte.
    #[inline]
    pub fn u8(&mut self) -> Result<u8> {
        let byte = *self.bytes.get(self.at).ok_or(Malformed::Truncated)?;
        self.at += 1;
        Ok(byte)
    }

    /// An unsigned varint of at most 53 bits.
    #[inline]
    pub fn var(&mut self) -> Result<u64> {
        let first = self.u8()?;
        if first < 0x80 {
            return Ok(first as u64);
        }
        let mut value = (first & 0x7f) as u64;
        let mut shift = 7;
        loop {
            let byte = self.u8()?;
            value |= ((byte & 0x7f) as u64) << shift;
            if byte < 0x80 {
                return if byte == 0 || value >= 1 << 53 {
                    Err(Malformed::Number)
                } else {
                    Ok(value)
                };
            }
            shift += 7;
            if shift > 49 {
                return Err(Malformed::Number);
            }
        }
    }

    /// A varint that must fit a clock or a length of a document.
    #[inline]
    pub fn clock(&mut self) -> Result<u32> {
        let value = self.var()?;
        if value > MAX_CLOCK as u64 { Err(Malformed::Clock) } else { Ok(value as u32) }
    }

    /// A count of things that take at least `each` bytes.
    #[inline]
    pub fn count(&mut self, each: usize) -> Result<usize> {
        let count = self.var()?;
        if count > (self.left() / each) as u64 { Err(Malformed::Count) } else { Ok(count as usize) }
    }

    /// So many bytes.
    #[inline]
    pub fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        if count > self.left() {
            return Err(Malformed::Truncated);
        }
        let bytes = &self.bytes[self.at..self.at + count];
        self.at += count;
        Ok(bytes)
    }

    /// Bytes with their length before them.
    #[inline]
    pub fn bytes(&mut self) -> Result<&'a [u8]> {
        let count = self.var()?;
        if count > self.left() as u64 {
            return Err(Malformed::Truncated);
        }
        self.take(count as usize)
    }

    /// A string with its length before it.
    #[inline]
    pub fn string(&mut self) -> Result<&'a str> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Malformed::Utf8)
    }

    /// A string with its length before it, which is JSON. Yjs parses such strings as they come; one
    /// that is not JSON would break every client that reads the document.
    pub fn json_string(&mut self) -> Result<()> {
        check_json(self.string()?)
    }

    /// A signed varint: six bits and the sign in the first byte.
    fn signed(&mut self) -> Result<i64> {
        let first = self.u8()?;
        let mut value = (first & 0x3f) as u64;
        let mut shift = 6;
        let mut byte = first;
        while byte & 0x80 != 0 {
            byte = self.u8()?;
            if shift > 55 {
                return Err(Malformed::Number);
            }
            value |= ((byte & 0x7f) as u64) << shift;
            shift += 7;
        }
        // Yjs and yrs write larger ones as floats, and lib0 cannot read them.
        if value > 1 << 53 {
            return Err(Malformed::Number);
        }
        let value = value as i64;
        Ok(if first & 0x40 != 0 { -value } else { value })
    }

    /// Passes over one value of lib0's "any" encoding. It does not recurse.
    pub fn skip_any(&mut self) -> Result<()> {
        // The containers around the one that is read: how many values each still has, and whether those
        // have keys.
        let mut outer = Vec::new();
        let (mut left, mut keyed) = (1, false);
        let mut deepest = 0;
        loop {
            while left == 0 {
                match outer.pop() {
                    Some(container) => (left, keyed) = container,
                    None if deepest > MAX_NESTING => return Err(Malformed::Nesting),
                    None => return Ok(()),
                }
            }
            left -= 1;
            if keyed {
                self.string()?;
            }
            match self.u8()? {
                127 | 126 | 121 | 120 => {}
                125 => drop(self.signed()?),
                124 => drop(self.take(4)?),
                123 | 122 => drop(self.take(8)?),
                119 => drop(self.string()?),
                kind @ (118 | 117) => {
                    outer.push((left, keyed));
                    deepest = deepest.max(outer.len());
                    if deepest > MAX_WRITABLE {
                        return Err(Malformed::Bottomless);
                    }
                    keyed = kind == 118;
                    left = self.count(if keyed { 2 } else { 1 })?;
                }
                116 => drop(self.bytes()?),
                _ => return Err(Malformed::Kind),
            }
        }
    }

    /// One value of lib0's "any" encoding as JSON, the way `JSON.stringify` sees it: `undefined`
    /// members are left out, what JSON cannot say is null, bytes are an array of numbers.
    pub fn json(&mut self, depth: u32) -> Result<serde_json::Value> {
        use serde_json::Value;
        if depth == 0 {
            return Err(Malformed::Depth);
        }
        Ok(match self.u8()? {
            127 | 126 => Value::Null,
            125 => self.signed()?.into(),
            124 => float(f32::from_be_bytes(self.array()?) as f64),
            123 => float(f64::from_be_bytes(self.array()?)),
            122 => i64::from_be_bytes(self.array()?).into(),
            121 => Value::Bool(false),
            120 => Value::Bool(true),
            119 => Value::String(self.string()?.to_owned()),
            118 => {
                let count = self.count(2)?;
                let mut object = serde_json::Map::with_capacity(count.min(64));
                for _ in 0..count {
                    let key = self.string()?;
                    let undefined = self.bytes.get(self.at) == Some(&127);
                    let value = self.json(depth - 1)?;
                    if !undefined {
                        object.insert(key.to_owned(), value);
                    }
                }
                Value::Object(object)
            }
            117 => {
                let count = self.count(1)?;
                let mut array = Vec::with_capacity(count.min(64));
                for _ in 0..count {
                    array.push(self.json(depth - 1)?);
                }
                Value::Array(array)
            }
            116 => self.bytes()?.iter().copied().map(Value::from).collect(),
            _ => return Err(Malformed::Kind),
        })
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }
}

/// A float as JSON: whole numbers without a fraction, as JavaScript prints them, up to the highest
/// that JavaScript calls safe.
fn float(value: f64) -> serde_json::Value {
    const SAFE: f64 = ((1u64 << 53) - 1) as f64;
    if value.fract() == 0.0 && value.abs() <= SAFE {
        return (value as i64).into();
    }
    serde_json::Number::from_f64(value).map_or(serde_json::Value::Null, Into::into)
}

/// Appends an unsigned varint.
#[inline]
pub fn write_var(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends bytes with their length before them.
pub fn write_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    write_var(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Appends a JSON value in lib0's "any" encoding, choosing the number forms that lib0 chooses.
pub fn write_any(out: &mut Vec<u8>, value: &serde_json::Value) {
    use serde_json::Value;
    match value {
        Value::Null => out.push(126),
        Value::Bool(true) => out.push(120),
        Value::Bool(false) => out.push(121),
        Value::Number(number) => write_number(out, number),
        Value::String(string) => {
            out.push(119);
            write_bytes(out, string.as_bytes());
        }
        Value::Object(object) => {
            out.push(118);
            write_var(out, object.len() as u64);
            for (key, value) in object {
                write_bytes(out, key.as_bytes());
                write_any(out, value);
            }
        }
        Value::Array(array) => {
            out.push(117);
            write_var(out, array.len() as u64);
            for value in array {
                write_any(out, value);
            }
        }
    }
}

fn write_number(out: &mut Vec<u8>, number: &serde_json::Number) {
    const BITS_31: i64 = 0x7fff_ffff;
    match number.as_i64() {
        Some(integer) if (-BITS_31..=BITS_31).contains(&integer) => {
            out.push(125);
            let magnitude = integer.unsigned_abs();
            let sign = if integer < 0 { 0x40 } else { 0 };
            let more = if magnitude > 0x3f { 0x80 } else { 0 };
            out.push(more | sign | (magnitude & 0x3f) as u8);
            if magnitude > 0x3f {
                write_var(out, magnitude >> 6);
            }
        }
        _ => {
            // JSON's numbers are JavaScript's; what does not fit a double is rounded there, too.
            let double = number.as_f64().unwrap_or(f64::NAN);
            if (double as f32) as f64 == double {
                out.push(124);
                out.extend_from_slice(&(double as f32).to_be_bytes());
            } else {
                out.push(123);
                out.extend_from_slice(&double.to_be_bytes());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn any_round_trips_json() {
        for value in [
            json!(null),
            json!(true),
            json!(0),
            json!(-1),
            json!(63),
            json!(64),
            json!(-65),
            json!(2147483647),
            json!(-2147483647),
            json!(2147483648i64),
            json!(1700000000000i64),
            json!(0.5),
            json!(0.1),
            json!("ö🙂"),
            json!({"b": [1, {"a": []}], "a": ""}),
        ] {
            let mut out = Vec::new();
            write_any(&mut out, &value);
            let mut reader = Reader::new(&out);
            assert_eq!(reader.json(MAX_DEPTH).unwrap(), value);
            reader.end().unwrap();
            let mut reader = Reader::new(&out);
            reader.skip_any().unwrap();
            reader.end().unwrap();
        }
    }

    #[test]
    fn any_equals_what_yrs_writes() {
        use yrs::updates::encoder::{Encoder, EncoderV1};
        for text in ["1", "-64", "\"x\"", "{\"a\":[true,null]}", "70000"] {
            let value: serde_json::Value = serde_json::from_str(text).unwrap();
            let mut ours = Vec::new();
            write_any(&mut ours, &value);
            let mut theirs = EncoderV1::new();
            theirs.write_any(&yrs::Any::from_json(text).unwrap());
            assert_eq!(ours, theirs.to_vec(), "{text}");
        }
    }

    #[test]
    fn hostile_bytes_are_errors() {
        let cases: [(&[u8], Malformed); 7] = [
            (&[], Malformed::Truncated),
            (&[119, 5, b'a'], Malformed::Truncated),
            (&[119, 0xff, 0xff, 0xff, 0xff, 0x0f], Malformed::Truncated),
            (&[117, 9, 126], Malformed::Count),
            (&[119, 1, 0xff], Malformed::Utf8),
            (&[119, 0x80, 0x00], Malformed::Number),
            (&[99], Malformed::Kind),
        ];
        for (bytes, expected) in cases {
            assert_eq!(Reader::new(bytes).skip_any(), Err(expected), "{bytes:?}");
        }
    }

    #[test]
    fn values_are_passed_over_as_deep_as_clients_read_and_are_json_less_deep() {
        let lists = |levels: usize| [[117, 1].repeat(levels), vec![126]].concat();
        // Each level has a value before the inner one and one after it, under keys.
        let objects = |levels: usize| {
            let open = [118, 3, 1, b'a', 126, 1, b'b'].repeat(levels);
            [open, vec![126], [1, b'c', 117, 0].repeat(levels)].concat()
        };
        let wide = |levels: usize| {
            let open = [117, 0xc8, 1].repeat(levels);
            [open, vec![126], [120].repeat(levels * 199)].concat()
        };
        for value in [lists(MAX_NESTING), objects(MAX_NESTING - 1), wide(MAX_NESTING)] {
            let mut reader = Reader::new(&value);
            reader.skip_any().unwrap();
            reader.end().unwrap();
            assert_eq!(Reader::new(&value).json(MAX_DEPTH), Err(Malformed::Depth));
            let cut = &value[..value.len() - 1];
            assert!(Reader::new(cut).skip_any().is_err());
        }
        for value in [lists(MAX_NESTING + 1), lists(MAX_WRITABLE)] {
            assert_eq!(Reader::new(&value).skip_any(), Err(Malformed::Nesting));
        }
        for value in [lists(MAX_WRITABLE + 1), lists(1_000_000), objects(1_000_000)] {
            assert_eq!(Reader::new(&value).skip_any(), Err(Malformed::Bottomless));
        }
        let deepest = MAX_DEPTH as usize - 1;
        assert!(Reader::new(&lists(deepest)).json(MAX_DEPTH).is_ok());
        assert!(Reader::new(&lists(deepest + 1)).json(MAX_DEPTH).is_err());
    }
}
