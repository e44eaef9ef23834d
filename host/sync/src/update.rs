//! Yjs updates (v1) as structure: scanned, cut and written, never integrated.
//!
//! An update is a list of *structs* for each client (runs of that client's clock) and a *delete
//! set* (ranges of clocks whose content is gone). [`Update::scan`] reads bytes that a client sent
//! and accepts just what the format allows, so that everything behind it can rely on it. It costs
//! about as much as reading the bytes once and builds nothing but the positions of the structs.
//!
//! What is *not* checked is meaning: an origin may name an item that nobody has. That is for the
//! readers of a document to wait for, as Yjs does, and harms nobody here.

use bytes::Bytes;

use crate::lib0::{MAX_CLOCK, Malformed, Reader, write_var};

/// Names one element of a document: the client that made it and that client's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id {
    /// The client. At most 53 bits.
    pub client: u64,
    /// Its clock.
    pub clock: u32,
}

/// A run of one client's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Struct {
    /// Clock of its first element.
    pub clock: u32,
    /// Number of elements; at least one.
    pub len: u32,
    /// Where its bytes begin in the update.
    pub start: u32,
    /// Where they end.
    pub end: u32,
}

/// The structs of one client in an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Section {
    /// The client.
    pub client: u64,
    /// Its structs are `structs[first..last]`, in ascending order of clock.
    pub first: usize,
    /// One past the last.
    pub last: usize,
}

/// Bytes of an update whose structure has been checked.
#[derive(Debug, Clone)]
pub struct Update {
    bytes: Bytes,
    sections: Vec<Section>,
    structs: Vec<Struct>,
    deletes: Vec<(Id, u32)>,
}

impl Update {
    /// Checks the structure of an update that somebody sent.
    pub fn scan(bytes: Bytes) -> Result<Self, Malformed> {
        // Positions are kept in 32 bits.
        if bytes.len() > u32::MAX as usize {
            return Err(Malformed::Count);
        }
        let mut reader = Reader::new(&bytes);
        let mut sections: Vec<Section> = Vec::new();
        let mut structs: Vec<Struct> = Vec::new();
        let mut deletes = Vec::new();
        for _ in 0..reader.count(3)? {
            let count = reader.count(2)?;
            let client = reader.var()?;
            let mut clock = reader.clock()?;
            let first = structs.len();
            for _ in 0..count {
                let start = reader.position() as u32;
                let kind = Header::read(&mut reader)?.kind;
                let len = skip_content(&mut reader, kind)?;
                let next = clock.checked_add(len).filter(|next| *next <= MAX_CLOCK);
                let next = next.ok_or(Malformed::Clock)?;
                if len == 0 {
                    return Err(Malformed::Clock);
                }
                if kind != SKIP {
                    structs.push(Struct { clock, len, start, end: reader.position() as u32 });
                }
                clock = next;
            }
            sections.push(Section { client, first, last: structs.len() });
        }
        if !distinct(&sections) {
            return Err(Malformed::Repeated);
        }
        for _ in 0..reader.count(2)? {
            let client = reader.var()?;
            for _ in 0..reader.count(2)? {
                let clock = reader.clock()?;
                let len = reader.clock()?;
                if len == 0 || clock.checked_add(len).is_none_or(|end| end > MAX_CLOCK) {
                    return Err(Malformed::Clock);
                }
                deletes.push((Id { client, clock }, len));
            }
        }
        reader.end()?;
        Ok(Self { bytes, sections, structs, deletes })
    }

    /// The bytes that were scanned.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        self.structs.is_empty() && self.deletes.is_empty()
    }

    /// The structs, by client.
    pub fn sections(&self) -> impl Iterator<Item = (u64, &[Struct])> {
        self.sections.iter().map(|s| (s.client, &self.structs[s.first..s.last]))
    }

    /// The bytes of one of its structs.
    pub fn bytes_of(&self, item: &Struct) -> &[u8] {
        &self.bytes[item.start as usize..item.end as usize]
    }

    /// The delete set: first element and number of elements.
    pub fn deletes(&self) -> &[(Id, u32)] {
        &self.deletes
    }
}

/// Whether each client has one section. Yjs keeps sections in a map when it reads them, so that of
/// two only the last would count; and lists that begin anew could go over the same ground without
/// end.
fn distinct(sections: &[Section]) -> bool {
    // All known writers write the highest client first.
    sections.is_sorted_by(|a, b| a.client > b.client) || {
        let mut seen = std::collections::HashSet::with_capacity(sections.len());
        sections.iter().all(|section| seen.insert(section.client))
    }
}

pub(crate) const GC: u8 = 0;
pub(crate) const DELETED: u8 = 1;
const JSON: u8 = 2;
const BINARY: u8 = 3;
pub(crate) const STRING: u8 = 4;
pub(crate) const EMBED: u8 = 5;
pub(crate) const FORMAT: u8 = 6;
const TYPE: u8 = 7;
pub(crate) const ANY: u8 = 8;
const DOC: u8 = 9;
pub(crate) const SKIP: u8 = 10;

const HAS_ORIGIN: u8 = 0x80;
const HAS_RIGHT_ORIGIN: u8 = 0x40;
const HAS_KEY: u8 = 0x20;

/// Where an item without origins lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Parent<'a> {
    /// A type at the top of the document, by name.
    Root(&'a str),
    /// A type that is itself an item.
    Item(Id),
}

/// What stands before the content of a struct.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header<'a> {
    info: u8,
    /// One of the kinds above.
    pub kind: u8,
    /// The element that was left of it when it was made.
    pub origin: Option<Id>,
    /// The element that was right of it.
    pub right_origin: Option<Id>,
    /// Said only when there is neither origin; else it is that of the origin.
    pub parent: Option<Parent<'a>>,
    /// The key, when it is an entry of a map; said only together with the parent.
    pub key: Option<&'a str>,
}

impl<'a> Header<'a> {
    #[inline]
    pub fn read(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        let info = reader.u8()?;
        let kind = info & 0x1f;
        let mut header =
            Self { info, kind, origin: None, right_origin: None, parent: None, key: None };
        if kind == GC || kind == SKIP {
            return if info == kind { Ok(header) } else { Err(Malformed::Kind) };
        }
        if info & HAS_ORIGIN != 0 {
            header.origin = Some(Id { client: reader.var()?, clock: reader.clock()? });
        }
        if info & HAS_RIGHT_ORIGIN != 0 {
            header.right_origin = Some(Id { client: reader.var()?, clock: reader.clock()? });
        }
        if info & (HAS_ORIGIN | HAS_RIGHT_ORIGIN) == 0 {
            header.parent = Some(match reader.u8()? {
                1 => Parent::Root(reader.string()?),
                0 => Parent::Item(Id { client: reader.var()?, clock: reader.clock()? }),
                _ => return Err(Malformed::Kind),
            });
            if info & HAS_KEY != 0 {
                header.key = Some(reader.string()?);
            }
        }
        Ok(header)
    }

    /// Writes the header as that of a struct of another kind at the same place.
    fn write_as(&self, kind: u8, out: &mut Vec<u8>) {
        out.push(self.info & 0xe0 | kind);
        if let Some(id) = self.origin {
            write_id(out, id);
        }
        if let Some(id) = self.right_origin {
            write_id(out, id);
        }
        match self.parent {
            Some(Parent::Root(name)) => {
                out.push(1);
                crate::lib0::write_bytes(out, name.as_bytes());
            }
            Some(Parent::Item(id)) => {
                out.push(0);
                write_id(out, id);
            }
            None => {}
        }
        if let Some(key) = self.key {
            crate::lib0::write_bytes(out, key.as_bytes());
        }
    }

    /// The header of the rest of a struct that is cut after `left`: the part before it becomes
    /// its origin, and the parent is that of the origin.
    fn after(&self, left: Id) -> Header<'static> {
        Header {
            info: self.info | HAS_ORIGIN,
            kind: self.kind,
            origin: Some(left),
            right_origin: self.right_origin,
            parent: None,
            key: None,
        }
    }
}

pub(crate) fn write_id(out: &mut Vec<u8>, id: Id) {
    write_var(out, id.client);
    write_var(out, id.clock as u64);
}

/// Writes a struct that is text in a type at the top of the document.
pub(crate) fn write_string(
    out: &mut Vec<u8>,
    (origin, right_origin): (Option<Id>, Option<Id>),
    root: &str,
    text: &str,
) {
    let known = |id: Option<Id>, bit| if id.is_some() { bit } else { 0 };
    let info = known(origin, HAS_ORIGIN) | known(right_origin, HAS_RIGHT_ORIGIN);
    let alone = info == 0;
    let parent = alone.then_some(Parent::Root(root));
    let header = Header { info, kind: STRING, origin, right_origin, parent, key: None };
    header.write_as(STRING, out);
    crate::lib0::write_bytes(out, text.as_bytes());
}

/// Passes over a struct's content; returns its number of elements.
fn skip_content(reader: &mut Reader, kind: u8) -> Result<u32, Malformed> {
    Ok(match kind {
        GC | DELETED | SKIP => reader.clock()?,
        JSON => {
            let count = reader.count(1)?;
            for _ in 0..count {
                let mut text = *reader;
                // Yjs writes what JSON has no word for as its name.
                if reader.bytes()? != b"undefined" {
                    text.json_string()?;
                }
            }
            count as u32
        }
        BINARY => {
            reader.bytes()?;
            1
        }
        STRING => utf16_len(reader.string()?),
        EMBED => {
            reader.json_string()?;
            1
        }
        FORMAT => {
            reader.string()?;
            reader.json_string()?;
            1
        }
        TYPE => {
            match reader.u8()? {
                0 | 1 | 2 | 4 | 6 => {}
                3 | 5 => drop(reader.string()?),
                _ => return Err(Malformed::Kind),
            }
            1
        }
        ANY => {
            let count = reader.count(1)?;
            for _ in 0..count {
                reader.skip_any()?;
            }
            count as u32
        }
        DOC => {
            reader.string()?;
            reader.skip_any()?;
            1
        }
        _ => return Err(Malformed::Kind),
    })
}

/// Yjs counts text in UTF-16 code units.
pub(crate) fn utf16_len(text: &str) -> u32 {
    // A count over bytes: each character but continuation bytes is one unit, four-byte ones two.
    text.bytes().map(|b| (b & 0xc0 != 0x80) as u32 + (b >= 0xf0) as u32).sum()
}

/// Writes pieces of a struct whose bytes were scanned before, each as a struct of its own or joined
/// to the run that is open in `writer`. Pieces are ranges of clocks within the struct, ascending;
/// one that is marked as deleted is written without its content.
pub(crate) fn write_pieces(
    writer: &mut SectionWriter,
    bytes: &[u8],
    id: Id,
    pieces: impl IntoIterator<Item = (std::ops::Range<u32>, bool)>,
) -> Result<(), Malformed> {
    let mut reader = Reader::new(bytes);
    let header = Header::read(&mut reader)?;
    let kind = header.kind;
    let droppable = matches!(kind, ANY | STRING | JSON | BINARY | EMBED);
    let mut content = Content::of(kind, reader, bytes)?;
    for (piece, deleted) in pieces {
        let clock = piece.start;
        let len = piece.end - piece.start;
        let place = if clock == id.clock || kind == GC {
            header
        } else {
            header.after(Id { client: id.client, clock: clock - 1 })
        };
        if deleted && droppable {
            writer.push(&place, DELETED, clock, len, &[]);
        } else {
            let elements = clock - id.clock..piece.end - id.clock;
            writer.push(&place, kind, clock, len, &content.take(elements)?);
        }
    }
    Ok(())
}

/// The content of a struct, taken in ascending pieces.
pub(crate) enum Content<'a> {
    /// GC and deleted runs: nothing but a length.
    Nothing,
    /// Text, and the position that has been reached in bytes and in UTF-16 code units.
    Text { text: &'a str, byte: usize, unit: u32 },
    /// Values or JSON strings, one after the other, and the next one's number.
    Values { reader: Reader<'a>, bytes: &'a [u8], any: bool, next: u32 },
    /// A single element.
    Whole(&'a [u8]),
}

impl<'a> Content<'a> {
    pub fn of(kind: u8, mut reader: Reader<'a>, bytes: &'a [u8]) -> Result<Self, Malformed> {
        Ok(match kind {
            GC | DELETED => Self::Nothing,
            STRING => Self::Text { text: reader.string()?, byte: 0, unit: 0 },
            ANY | JSON => {
                reader.var()?;
                Self::Values { reader, bytes, any: kind == ANY, next: 0 }
            }
            _ => Self::Whole(&bytes[reader.position()..]),
        })
    }

    /// The bytes of one piece. A character of two UTF-16 units that is cut in half becomes U+FFFD
    /// on either side, as in Yjs.
    pub fn take(
        &mut self,
        piece: std::ops::Range<u32>,
    ) -> Result<std::borrow::Cow<'a, [u8]>, Malformed> {
        match self {
            Self::Nothing => Ok((&[][..]).into()),
            Self::Whole(bytes) => Ok((*bytes).into()),
            Self::Values { reader, bytes, any, next } => {
                let mut reach = |element: u32| {
                    while *next < element {
                        if *any {
                            reader.skip_any()?
                        } else {
                            reader.string().map(drop)?
                        }
                        *next += 1;
                    }
                    Ok(reader.position())
                };
                let start = reach(piece.start)?;
                let end = reach(piece.end)?;
                Ok(bytes[start..end].into())
            }
            Self::Text { text, byte, unit } => {
                let mut characters = text[*byte..].chars();
                let mut last = 0;
                let mut reach = |to: u32, byte: &mut usize, unit: &mut u32| {
                    while *unit < to
                        && let Some(character) = characters.next()
                    {
                        last = character.len_utf8();
                        *byte += last;
                        *unit += character.len_utf16() as u32;
                    }
                    last
                };
                reach(piece.start, byte, unit);
                let start = *byte;
                let half_start = *unit > piece.start;
                let last = reach(piece.end, byte, unit);
                let half_end = *byte > start && *unit > piece.end;
                let end = if half_end { *byte - last } else { *byte };
                if !half_start && !half_end {
                    return Ok(text.as_bytes()[start..end].into());
                }
                let mut cut = String::with_capacity(end - start + 6);
                if half_start {
                    cut.push('\u{fffd}');
                }
                cut.push_str(&text[start..end]);
                if half_end {
                    cut.push('\u{fffd}');
                }
                Ok(cut.into_bytes().into())
            }
        }
    }
}

/// The rest of a struct, from a clock on, as a struct of its own.
pub(crate) fn rest(
    bytes: &[u8],
    id: Id,
    rest: std::ops::Range<u32>,
) -> Result<Box<[u8]>, Malformed> {
    let mut writer = SectionWriter::new(id.client);
    write_pieces(&mut writer, bytes, id, [(rest, false)])?;
    writer.close();
    Ok(writer.out.into())
}

/// Writes the structs of one client, joining neighbours that are one run: made one after the
/// other at the same place, of the same kind of content. Yjs joins them the same way.
pub(crate) struct SectionWriter {
    client: u64,
    first: Option<u32>,
    next: u32,
    count: u64,
    out: Vec<u8>,
    open: Option<Run>,
}

struct Run {
    kind: u8,
    right_origin: Option<Id>,
    len: u32,
    content: Vec<u8>,
}

impl SectionWriter {
    pub fn new(client: u64) -> Self {
        Self { client, first: None, next: 0, count: 0, out: Vec::new(), open: None }
    }

    fn push(&mut self, header: &Header, kind: u8, clock: u32, len: u32, content: &[u8]) {
        self.reach(clock);
        let previous = Id { client: self.client, clock: clock.wrapping_sub(1) };
        let continues = kind == GC || header.origin == Some(previous);
        self.next = clock + len;
        if let Some(run) = &mut self.open
            && continues
            && run.kind == kind
            && run.right_origin == header.right_origin
        {
            run.len += len;
            run.content.extend_from_slice(content);
            return;
        }
        self.close();
        header.write_as(kind, &mut self.out);
        match kind {
            GC | DELETED | STRING | ANY | JSON => {
                self.open = Some(Run {
                    kind,
                    right_origin: header.right_origin,
                    len,
                    content: content.to_vec(),
                });
            }
            _ => {
                self.out.extend_from_slice(content);
                self.count += 1;
            }
        }
    }

    /// Fills a hole before the next struct.
    fn reach(&mut self, clock: u32) {
        if self.first.is_none() {
            self.first = Some(clock);
            self.next = clock;
        }
        if clock > self.next {
            self.close();
            self.out.push(SKIP);
            write_var(&mut self.out, (clock - self.next) as u64);
            self.count += 1;
            self.next = clock;
        }
    }

    fn close(&mut self) {
        let Some(run) = self.open.take() else { return };
        match run.kind {
            GC | DELETED => write_var(&mut self.out, run.len as u64),
            STRING => write_var(&mut self.out, run.content.len() as u64),
            _ => write_var(&mut self.out, run.len as u64),
        }
        self.out.extend_from_slice(&run.content);
        self.count += 1;
    }

    /// Appends the section to an update. False when there was nothing to append.
    pub fn finish(mut self, out: &mut Vec<u8>) -> bool {
        self.close();
        let Some(first) = self.first else { return false };
        write_var(out, self.count);
        write_var(out, self.client);
        write_var(out, first as u64);
        out.extend_from_slice(&self.out);
        true
    }
}

/// A state vector: for each client, the clock up to which everything is known.
pub type StateVector = std::collections::HashMap<u64, u32>;

/// Reads a state vector that somebody sent.
pub fn read_state_vector(bytes: &[u8]) -> Result<StateVector, Malformed> {
    let mut reader = Reader::new(bytes);
    let count = reader.count(2)?;
    let mut vector = StateVector::with_capacity(count);
    for _ in 0..count {
        let client = reader.var()?;
        vector.insert(client, reader.clock()?);
    }
    reader.end()?;
    Ok(vector)
}

/// Checks the form of a state vector that somebody sent.
pub fn scan_state_vector(bytes: &[u8]) -> Result<(), Malformed> {
    let mut reader = Reader::new(bytes);
    for _ in 0..reader.count(2)? {
        reader.var()?;
        reader.clock()?;
    }
    reader.end()
}

/// Writes a state vector, highest client first as Yjs does.
pub fn write_state_vector(vector: &StateVector) -> Vec<u8> {
    let mut sorted: Vec<_> = vector.iter().filter(|(_, clock)| **clock > 0).collect();
    sorted.sort_unstable_by(|a, b| b.cmp(a));
    let mut out = Vec::with_capacity(sorted.len() * 8 + 2);
    write_var(&mut out, sorted.len() as u64);
    for (client, clock) in sorted {
        write_var(&mut out, *client);
        write_var(&mut out, *clock as u64);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(hex: &str) -> Result<Update, Malformed> {
        let bytes: Vec<u8> = (0..hex.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
            .collect();
        Update::scan(bytes.into())
    }

    #[test]
    fn shapes_that_crash_integrators_are_refused_or_harmless() {
        // A skip that wraps the clock.
        assert!(scan("010228feffffff0f0a03007800").is_err());
        // A client count that nothing backs.
        assert!(scan("ffffffff010000").is_err());
        // Nothing at all, and an empty update.
        assert!(scan("").is_err());
        assert!(scan("0000").is_ok());
        // Trailing bytes.
        assert_eq!(scan("000000").unwrap_err(), Malformed::Trailing);
    }

    #[test]
    fn text_is_counted_and_cut_in_utf16() {
        let text = "a🙂ö🙂z";
        assert_eq!(utf16_len(text), 7);
        let cases: [(&[u32], &[&str]); 5] = [
            (&[0, 7], &[text]),
            (&[0, 1, 3, 7], &["a", "🙂", "ö🙂z"]),
            (&[0, 2, 7], &["a\u{fffd}", "\u{fffd}ö🙂z"]),
            (&[0, 2, 3, 5, 6], &["a\u{fffd}", "\u{fffd}", "ö\u{fffd}", "\u{fffd}"]),
            (&[1, 2, 3], &["\u{fffd}", "\u{fffd}"]),
        ];
        for (cuts, expected) in cases {
            let mut content = Content::Text { text, byte: 0, unit: 0 };
            for (cut, expected) in cuts.windows(2).zip(expected) {
                let piece = content.take(cut[0]..cut[1]).unwrap();
                assert_eq!(std::str::from_utf8(&piece).unwrap(), *expected, "{cuts:?}");
            }
        }
    }
}
