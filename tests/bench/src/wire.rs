//! The messages and updates of the load: written by hand and read by hand.
//!
//! Every writer pushes strings to one array, each behind its own last one, so an update is one
//! element, one step of the writer's clock. A receiver reads which clocks an update carries, and
//! that is how deliveries are counted however a server merges them.

use anyhow::{Result, bail};

/// The array that the writers push to.
pub const ARRAY: &str = "load";
/// Bytes of the string in each update: about what a small change of an editor takes.
pub const TEXT: usize = 24;

/// How a server's messages differ from those of y-websocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// As y-websocket speaks.
    Plain,
    /// Each message begins with the document's name, and the first one is a token.
    Hocuspocus,
}

/// A message from a server.
#[derive(Debug)]
pub enum Message<'a> {
    /// It asks for what it lacks.
    Step1,
    /// The answer to our step 1.
    Step2(&'a [u8]),
    /// A change.
    Update(&'a [u8]),
    /// Presence, acknowledgements and the like.
    Other,
}

impl Dialect {
    /// What a client sends first: it has nothing and wants everything.
    pub fn hello(self, room: &str) -> Vec<Vec<u8>> {
        let mut messages = Vec::new();
        if self == Self::Hocuspocus {
            let mut token = self.begin(room);
            token.extend([2, 0]);
            write_bytes(&mut token, b"token");
            messages.push(token);
        }
        let mut step_1 = self.begin(room);
        step_1.extend([0, 0, 1, 0]);
        messages.push(step_1);
        messages
    }

    /// The answer to a server's step 1 of one who has nothing.
    pub fn nothing(self, room: &str) -> Vec<u8> {
        let mut message = self.begin(room);
        message.extend([0, 1, 2, 0, 0]);
        message
    }

    /// An update as a message.
    pub fn update(self, room: &str, update: &[u8]) -> Vec<u8> {
        let mut message = self.begin(room);
        message.extend([0, 2]);
        write_bytes(&mut message, update);
        message
    }

    fn begin(self, room: &str) -> Vec<u8> {
        let mut message = Vec::new();
        if self == Self::Hocuspocus {
            write_bytes(&mut message, room.as_bytes());
        }
        message
    }

    /// Reads a message.
    pub fn read(self, message: &[u8]) -> Result<Message<'_>> {
        let mut reader = Reader(message);
        if self == Self::Hocuspocus {
            reader.bytes()?;
        }
        // Type 4 is how Hocuspocus answers when it wants no answer.
        if !matches!(reader.var()?, 0 | 4) {
            return Ok(Message::Other);
        }
        Ok(match reader.var()? {
            0 => Message::Step1,
            1 => Message::Step2(reader.bytes()?),
            2 => Message::Update(reader.bytes()?),
            other => bail!("the server sent a sync message of kind {other}"),
        })
    }
}

/// Writes the update with which a client pushes the element of a clock.
pub fn write_update(out: &mut Vec<u8>, client: u64, clock: u32, text: &[u8; TEXT]) {
    out.extend([1, 1]);
    write_var(out, client);
    write_var(out, clock as u64);
    match clock.checked_sub(1) {
        Some(before) => {
            out.push(8 | 0x80);
            write_var(out, client);
            write_var(out, before as u64);
        }
        None => {
            out.extend([8, 1]);
            write_bytes(out, ARRAY.as_bytes());
        }
    }
    out.extend([1, 119]);
    write_bytes(out, text);
    out.push(0);
}

/// The text of an element: whose it is, which one, and when it was written, in microseconds.
pub fn text(client: u64, clock: u32, micros: u64) -> [u8; TEXT] {
    let mut text = [0; TEXT];
    for (at, byte) in text.iter_mut().enumerate() {
        let (value, digit) = match at / 8 {
            0 => (client, at),
            1 => (clock as u64, at - 8),
            _ => (micros, at - 16),
        };
        *byte = b"0123456789abcdef"[(value >> (28 - 4 * digit) & 15) as usize];
    }
    text
}

/// A digest of a client's elements, in order.
pub fn digest(before: u64, text: &[u8]) -> u64 {
    text.chunks(8).fold(before, |digest, chunk| {
        let mut bytes = [0; 8];
        bytes[..chunk.len()].copy_from_slice(chunk);
        (digest.rotate_left(5) ^ u64::from_le_bytes(bytes)).wrapping_mul(0x517c_c1b7_2722_0a95)
    })
}

/// Reads the elements that an update brings: client, clock and text of each, in its order.
pub fn read_update(
    update: &[u8],
    mut element: impl FnMut(u64, u32, &[u8]) -> Result<()>,
) -> Result<()> {
    let mut reader = Reader(update);
    for _ in 0..reader.var()? {
        let structs = reader.var()?;
        let client = reader.var()?;
        let mut clock = reader.var()? as u32;
        for _ in 0..structs {
            reader.head()?;
            for _ in 0..reader.var()? {
                element(client, clock, reader.text()?)?;
                clock += 1;
            }
        }
    }
    Ok(())
}

/// The same update with each run of structs, one behind the other, written as one. Until it has
/// joined them itself, yrs takes memory that grows with the square of their number.
pub fn join_runs(update: &[u8]) -> Result<Vec<u8>> {
    let mut reader = Reader(update);
    let mut out = Vec::with_capacity(update.len());
    let sections = reader.var()?;
    write_var(&mut out, sections);
    for _ in 0..sections {
        let structs = reader.var()?;
        let client = reader.var()?;
        let first = reader.var()?;
        let mut clock = first;
        // Of each run: what stands before the number of elements, that number, and the elements.
        let mut runs: Vec<(&[u8], u64, Vec<u8>)> = Vec::new();
        for _ in 0..structs {
            let start = reader.0;
            let origin = reader.head()?;
            let head = &start[..start.len() - reader.0.len()];
            let count = reader.var()?;
            let start = reader.0;
            for _ in 0..count {
                reader.text()?;
            }
            let texts = &start[..start.len() - reader.0.len()];
            match runs.last_mut() {
                Some((_, length, run)) if origin == Some((client, clock - 1)) => {
                    *length += count;
                    run.extend_from_slice(texts);
                }
                _ => runs.push((head, count, texts.to_vec())),
            }
            clock += count;
        }
        write_var(&mut out, runs.len() as u64);
        write_var(&mut out, client);
        write_var(&mut out, first);
        for (head, count, texts) in runs {
            out.extend_from_slice(head);
            write_var(&mut out, count);
            out.extend_from_slice(&texts);
        }
    }
    out.extend_from_slice(reader.0);
    Ok(out)
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn u8(&mut self) -> Result<u8> {
        let Some((first, rest)) = self.0.split_first() else { bail!("a message ends too early") };
        self.0 = rest;
        Ok(*first)
    }

    fn var(&mut self) -> Result<u64> {
        let mut value = 0;
        let mut shift = 0;
        loop {
            let byte = self.u8()?;
            value |= ((byte & 0x7f) as u64) << shift;
            shift += 7;
            if byte < 0x80 {
                return Ok(value);
            }
            if shift > 56 {
                bail!("a message has a number that is too large");
            }
        }
    }

    fn id(&mut self) -> Result<(u64, u64)> {
        Ok((self.var()?, self.var()?))
    }

    /// What stands before a struct's content. Returns its origin, if that is its only neighbour.
    fn head(&mut self) -> Result<Option<(u64, u64)>> {
        let info = self.u8()?;
        let origin = if info & 0x80 != 0 { Some(self.id()?) } else { None };
        let right = if info & 0x40 != 0 { Some(self.id()?) } else { None };
        match info & 0x1f {
            8 => {}
            // What follows a hole waits for something that did not come.
            10 => bail!("the server sent an update with a hole"),
            other => bail!("the server sent a struct of kind {other}, which nobody wrote"),
        }
        if info & 0xc0 == 0 {
            if self.var()? == 1 {
                self.bytes()?;
            } else {
                self.id()?;
            }
        }
        Ok(origin.filter(|_| right.is_none()))
    }

    /// An element, which is a string.
    fn text(&mut self) -> Result<&'a [u8]> {
        if self.u8()? != 119 {
            bail!("the server sent an element that is no text, which nobody wrote");
        }
        self.bytes()
    }

    fn bytes(&mut self) -> Result<&'a [u8]> {
        let length = self.var()? as usize;
        if length > self.0.len() {
            bail!("a message ends too early");
        }
        let (bytes, rest) = self.0.split_at(length);
        self.0 = rest;
        Ok(bytes)
    }
}

fn write_var(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn write_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    write_var(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use yrs::updates::decoder::Decode;
    use yrs::{Array, Doc, ReadTxn, StateVector, Transact, Update};

    #[test]
    fn yrs_reads_what_is_written_and_what_it_merges_is_read() {
        let doc = Doc::new();
        let array = doc.get_or_insert_array(ARRAY);
        for clock in 0..3 {
            for client in [7, 1000] {
                let mut update = Vec::new();
                write_update(&mut update, client, clock, &text(client, clock, 99));
                doc.transact_mut().apply_update(Update::decode_v1(&update).unwrap()).unwrap();
            }
        }
        assert_eq!(array.len(&doc.transact()), 6);
        let merged = doc.transact().encode_diff_v1(&StateVector::default());
        let mut read = Vec::new();
        read_update(&merged, |client, clock, bytes| {
            assert_eq!(bytes, text(client, clock, 99));
            read.push((client, clock));
            Ok(())
        })
        .unwrap();
        read.sort_unstable();
        assert_eq!(read, [(7, 0), (7, 1), (7, 2), (1000, 0), (1000, 1), (1000, 2)]);
    }

    #[test]
    fn runs_are_joined_and_mean_the_same() {
        let mut update = vec![1, 3, 7, 0];
        for clock in 0..3 {
            let mut one = Vec::new();
            write_update(&mut one, 7, clock, &text(7, clock, 5));
            // Without the counts before the struct and the delete set behind it.
            update.extend_from_slice(&one[4..one.len() - 1]);
        }
        update.push(0);
        let joined = join_runs(&update).unwrap();
        assert_eq!(joined[..4], [1, 1, 7, 0]);
        let read = |update: &[u8]| {
            let mut read = Vec::new();
            read_update(update, |client, clock, text| {
                read.push((client, clock, text.to_vec()));
                Ok(())
            })
            .unwrap();
            read
        };
        assert_eq!(read(&joined), read(&update));
        let doc = Doc::new();
        let array = doc.get_or_insert_array(ARRAY);
        doc.transact_mut().apply_update(Update::decode_v1(&joined).unwrap()).unwrap();
        assert_eq!(array.len(&doc.transact()), 3);
    }

    #[test]
    fn an_element_names_its_writer_its_clock_and_its_time() {
        assert_eq!(&text(0xabc, 1, 0x10), b"00000abc0000000100000010");
    }
}
