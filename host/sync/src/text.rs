//! The text at the top of a document, read out of its structs, and changed.
//!
//! Clients keep a document's text in a root `Y.Text`. What it says takes the *order* of its
//! elements, which the server does not keep (`store`), so it is worked out when someone asks, from
//! the whole document as one update. That happens on a thread of the asker's and touches nothing
//! that others use.
//!
//! **Order.** This is YATA as Yjs carries it out: an element goes behind its left origin, and where
//! others were put there at the same time, the scan below decides, by the rules of `Item.integrate`
//! of Yjs 13. Yjs cuts a run of elements when somebody refers to its middle. Here every place that
//! anybody refers to is known beforehand, so the runs are cut into *pieces* first, and each origin
//! is the end of a piece, each right origin the start of one. Nothing is cut while elements are
//! put in order, and a reference is the number of a piece.
//!
//! **What counts** is what Yjs would have integrated: a client's structs up to the first hole, and
//! of those what does not wait for something that is not there.
//!
//! **Bounds.** Honest documents take little more than one step for each piece. Two limits hold for
//! all others: the number of pieces ([`MAX_PIECES`]), and the steps of all scans together
//! ([`MAX_STEPS`]). A document beyond them still syncs; it just cannot be read here.
//!
//! **Changing** it makes an ordinary [`Edit`]: what old and new text have in common at either end
//! stays, so cursors and marks there survive, and what others write at the same time is merged.

use std::collections::HashMap;
use std::ops::Range;

use crate::edit::{Edit, Insertion};
use crate::lib0::Reader;
use crate::update::{
    Content, DELETED, EMBED, FORMAT, GC, Header, Id, Parent, STRING, Update, utf16_len,
};

/// Pieces of a document that is read. Each takes some 100 bytes of memory while it is; a paper of 250,000
/// keystrokes has some 30,000.
const MAX_PIECES: usize = 1_000_000;
/// Steps of all scans for the place of an element. They take about half a second.
const MAX_STEPS: usize = 50_000_000;

/// No piece.
const NONE: u32 = u32::MAX;

/// A text and where each part of it is in the document.
#[derive(Debug)]
pub struct Text {
    root: String,
    content: String,
    /// What is to be seen, in order.
    runs: Vec<Run>,
    /// The first element, to be seen or not.
    first: Option<Id>,
}

/// Elements that follow each other in the text and in their client's clock.
#[derive(Debug)]
struct Run {
    id: Id,
    /// UTF-16 code units; 1 for something embedded.
    len: u32,
    /// Its bytes in the content; none for something embedded.
    bytes: Range<usize>,
    /// The element right of the last one, to be seen or not.
    next: Option<Id>,
}

/// Why a document cannot be read or changed as text. It syncs nevertheless.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotText {
    /// It consists of too many pieces.
    #[error("the document is too large to be read as text: it has more than {MAX_PIECES} pieces")]
    Pieces,
    /// Too many clients wrote at the same place at the same time.
    #[error("the document is too tangled to be read as text")]
    Tangled,
    /// The root holds something else.
    #[error("the document's content is not plain text; use a Yjs client to read and change it")]
    Other,
}

impl Text {
    /// Reads a root text out of a whole document. Nested types or values of an array that are to be seen
    /// there are [`NotText::Other`].
    pub fn read(document: &Update, root: &str) -> Result<Self, NotText> {
        let mut sequence = Sequence::cut(document, root)?;
        sequence.integrate()?;
        sequence.text(document, root)
    }

    /// What it says, without marks and embedded things.
    pub fn content(&self) -> &str {
        &self.content
    }

    /// The edit that makes it say something else; empty when it says that already.
    pub fn replace(&self, new: &str) -> Edit {
        let old = self.content.as_str();
        let prefix = common_prefix(old, new);
        let suffix = common_suffix(&old[prefix..], &new[prefix..]);
        let end = old.len() - suffix;
        let mut edit = Edit::default();
        let inserted = &new[prefix..new.len() - suffix];
        if !inserted.is_empty() {
            let (origin, right_origin) = self.place(prefix);
            edit.insertions.push(Insertion {
                root: self.root.clone(),
                origin,
                right_origin,
                text: inserted.to_owned(),
            });
        }
        if prefix < end {
            // From the run of the first character that goes to that of the last; what is embedded
            // between them goes, too.
            let first = self.runs.partition_point(|run| run.bytes.end <= prefix);
            let last = self.runs.partition_point(|run| run.bytes.start < end);
            for run in &self.runs[first..last] {
                let gone = run.bytes.start.max(prefix)..run.bytes.end.min(end);
                if run.bytes.is_empty() {
                    edit.deletes.push((run.id, run.len));
                } else if !gone.is_empty() {
                    let before = utf16_len(&old[run.bytes.start..gone.start]);
                    let id = Id { clock: run.id.clock + before, ..run.id };
                    edit.deletes.push((id, utf16_len(&old[gone])));
                }
            }
        }
        edit
    }

    /// The elements left and right of a place in the content, which is given in bytes.
    fn place(&self, at: usize) -> (Option<Id>, Option<Id>) {
        // The run of the character before it. Something embedded has no bytes and is passed over.
        let run = self.runs.partition_point(|run| run.bytes.end < at);
        let run = self.runs[run..].iter().find(|run| !run.bytes.is_empty());
        let Some(run) = run.filter(|_| at > 0) else { return (None, self.first) };
        let units = utf16_len(&self.content[run.bytes.start..at]);
        let left = Id { clock: run.id.clock + units - 1, ..run.id };
        let inside = units < run.len;
        let right = if inside { Some(Id { clock: left.clock + 1, ..left }) } else { run.next };
        (Some(left), right)
    }
}

/// Bytes that two texts have in common at the start, whole characters.
fn common_prefix(a: &str, b: &str) -> usize {
    let same = a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count();
    a.floor_char_boundary(same).min(b.floor_char_boundary(same))
}

/// Bytes that two texts have in common at the end, whole characters.
fn common_suffix(a: &str, b: &str) -> usize {
    let same = a.bytes().rev().zip(b.bytes().rev()).take_while(|(a, b)| a == b).count();
    let a = a.len() - a.ceil_char_boundary(a.len() - same);
    let b = b.len() - b.ceil_char_boundary(b.len() - same);
    a.min(b)
}

/// Where an element is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seat {
    /// Not yet known: where its neighbours are.
    Inherited,
    /// In the text.
    Text,
    /// In another type.
    Elsewhere,
    /// Nowhere any more.
    Collected,
}

/// A struct, or a part of one that nobody refers into.
#[derive(Debug)]
struct Piece {
    clock: u32,
    len: u32,
    /// Number of its struct.
    of: u32,
    /// The piece that ends with the left origin.
    origin: u32,
    /// The piece that begins with the right origin.
    right_origin: u32,
    /// The piece that follows in the text, once this one is in it.
    next: u32,
    /// The scan that passed it last, and when.
    scan: u32,
    position: u32,
    seat: Seat,
}

/// A struct. Its header is read again when it is needed: that is cheap, and keeping it is not.
struct Item<'a> {
    client: u64,
    clock: u32,
    len: u32,
    bytes: &'a [u8],
}

/// The structs of one client up to the first hole.
struct Client {
    /// Its pieces are `pieces[first..last]`, in order of clock.
    first: usize,
    last: usize,
    /// The next piece to be integrated.
    next: usize,
}

/// All pieces of a document, and those of the text as a list.
struct Sequence<'a> {
    items: Vec<Item<'a>>,
    pieces: Vec<Piece>,
    clients: Vec<Client>,
    by_id: HashMap<u64, usize>,
    /// The first piece of the text.
    first: u32,
    scans: u32,
    steps: usize,
}

impl<'a> Sequence<'a> {
    /// Cuts a document into pieces.
    fn cut(document: &'a Update, root: &str) -> Result<Self, NotText> {
        let mut items: Vec<Item> = Vec::new();
        let mut ranges = Vec::new();
        let mut by_id = HashMap::new();
        for (client, structs) in document.sections() {
            let first = items.len();
            let mut known = 0;
            for item in structs.iter().take_while(|item| {
                let follows = item.clock == known;
                known = item.clock + item.len;
                follows
            }) {
                let bytes = document.bytes_of(item);
                items.push(Item { client, clock: item.clock, len: item.len, bytes });
            }
            by_id.insert(client, ranges.len());
            ranges.push(first..items.len());
        }
        if items.len() > MAX_PIECES {
            return Err(NotText::Pieces);
        }
        let mut cuts: Vec<Vec<u32>> = vec![Vec::new(); ranges.len()];
        for header in items.iter().map(Item::header) {
            let left = header.origin.map(|id| (id.client, id.clock + 1));
            let right = header.right_origin.map(|id| (id.client, id.clock));
            for (client, clock) in left.into_iter().chain(right) {
                if let Some(&client) = by_id.get(&client) {
                    cuts[client].push(clock);
                }
            }
        }
        let mut pieces = Vec::with_capacity(items.len());
        let mut clients = Vec::with_capacity(ranges.len());
        for (range, mut cuts) in ranges.into_iter().zip(cuts) {
            cuts.sort_unstable();
            cuts.dedup();
            let mut cuts = cuts.into_iter().peekable();
            let first = pieces.len();
            for of in range {
                let item = &items[of];
                let seat = item.seat(root);
                let end = item.clock + item.len;
                let mut clock = item.clock;
                while clock < end {
                    while cuts.next_if(|cut| *cut <= clock).is_some() {}
                    let cut = cuts.peek().map_or(end, |cut| end.min(*cut));
                    pieces.push(Piece {
                        clock,
                        len: cut - clock,
                        of: of as u32,
                        origin: NONE,
                        right_origin: NONE,
                        next: NONE,
                        scan: 0,
                        position: 0,
                        seat,
                    });
                    clock = cut;
                }
                if pieces.len() > MAX_PIECES {
                    return Err(NotText::Pieces);
                }
            }
            clients.push(Client { first, last: pieces.len(), next: first });
        }
        Ok(Self { items, pieces, clients, by_id, first: NONE, scans: 0, steps: 0 })
    }

    /// The client and the piece that hold an element.
    fn piece(&self, id: Id) -> Option<(usize, usize)> {
        let at = *self.by_id.get(&id.client)?;
        let client = &self.clients[at];
        let pieces = &self.pieces[client.first..client.last];
        let piece = pieces.partition_point(|piece| piece.clock + piece.len <= id.clock);
        (piece < pieces.len()).then_some((at, client.first + piece))
    }

    /// Puts everything in its place that does not wait for something.
    fn integrate(&mut self) -> Result<(), NotText> {
        let mut waiting: HashMap<usize, Vec<usize>> = HashMap::new();
        let mut ready: Vec<usize> = (0..self.clients.len()).collect();
        while let Some(client) = ready.pop() {
            while self.clients[client].next < self.clients[client].last {
                let at = self.clients[client].next;
                match self.resolve(at) {
                    Ok(()) => self.settle(at)?,
                    Err(Some(missing)) => {
                        waiting.entry(missing).or_default().push(client);
                        break;
                    }
                    // What it needs is not in the document.
                    Err(None) => break,
                }
                self.clients[client].next += 1;
                ready.extend(waiting.remove(&at).into_iter().flatten());
            }
        }
        Ok(())
    }

    /// Finds the pieces that a piece refers to. The error is one that is not integrated yet, or
    /// none when there is no such piece.
    fn resolve(&mut self, at: usize) -> Result<(), Option<usize>> {
        let piece = &self.pieces[at];
        let item = &self.items[piece.of as usize];
        let mut found = [NONE; 3];
        let header = item.header();
        let begins = piece.clock == item.clock;
        let origin = if begins { header.origin } else { None };
        let parent = match header.parent {
            Some(Parent::Item(id)) => Some(id),
            _ => None,
        };
        for (id, found) in [origin, header.right_origin, parent].into_iter().zip(&mut found) {
            let Some(id) = id else { continue };
            let (client, piece) = self.piece(id).ok_or(None)?;
            if piece >= self.clients[client].next {
                return Err(Some(piece));
            }
            *found = piece as u32;
        }
        let piece = &mut self.pieces[at];
        piece.origin = if begins { found[0] } else { at as u32 - 1 };
        piece.right_origin = found[1];
        Ok(())
    }

    /// Puts a piece into the text, if it belongs there.
    fn settle(&mut self, at: usize) -> Result<(), NotText> {
        let Piece { origin, right_origin, seat, .. } = self.pieces[at];
        let neighbours = [origin, right_origin].into_iter().filter(|at| *at != NONE);
        let mut seats = neighbours.map(|at| self.pieces[at as usize].seat);
        let seat = match seat {
            // The rest of a struct is where its first piece is.
            _ if seats.clone().any(|seat| seat == Seat::Collected) => Seat::Collected,
            Seat::Inherited => seats.next().unwrap_or(Seat::Elsewhere),
            seat => seat,
        };
        self.pieces[at].seat = seat;
        if seat == Seat::Text {
            let left = self.left_of(at as u32, origin, right_origin)?;
            let next = match left {
                NONE => std::mem::replace(&mut self.first, at as u32),
                left => std::mem::replace(&mut self.pieces[left as usize].next, at as u32),
            };
            self.pieces[at].next = next;
        }
        Ok(())
    }

    /// The piece of the text that a new one goes behind.
    fn left_of(&mut self, at: u32, origin: u32, right_origin: u32) -> Result<u32, NotText> {
        let after = |sequence: &Self, left: u32| match left {
            NONE => sequence.first,
            left => sequence.pieces[left as usize].next,
        };
        let mut other = after(self, origin);
        let mut left = origin;
        if other == right_origin {
            return Ok(left);
        }
        let client = self.items[self.pieces[at as usize].of as usize].client;
        self.scans += 1;
        let scan = self.scans;
        // Yjs keeps two sets: what was passed, and what of it came after `left` was moved last. Both
        // are told by the positions in the scan.
        let mut moved = 0;
        for position in 0.. {
            if other == NONE || other == right_origin {
                break;
            }
            self.steps += 1;
            if self.steps > MAX_STEPS {
                return Err(NotText::Tangled);
            }
            let there = &mut self.pieces[other as usize];
            (there.scan, there.position) = (scan, position);
            let there = &self.pieces[other as usize];
            let before = self.pieces.get(there.origin as usize).filter(|piece| piece.scan == scan);
            if there.origin == origin {
                if self.items[there.of as usize].client < client {
                    left = other;
                    moved = position + 1;
                } else if there.right_origin == right_origin {
                    break;
                }
            } else if let Some(before) = before {
                if before.position < moved {
                    left = other;
                    moved = position + 1;
                }
            } else {
                break;
            }
            other = there.next;
        }
        Ok(left)
    }

    /// Reads what is to be seen, in order.
    fn text(&self, document: &Update, root: &str) -> Result<Text, NotText> {
        let mut deleted: HashMap<u64, Vec<(u32, u32)>> = HashMap::new();
        for (id, len) in document.deletes() {
            deleted.entry(id.client).or_default().push((id.clock, id.clock + len));
        }
        deleted.values_mut().for_each(|ranges| ranges.sort_unstable());
        // Content is decoded in the order of clocks, since a cut into a long text counts its
        // characters; so the parts of each piece are found first, and lined up then.
        let mut parts: Vec<Part> = Vec::new();
        let mut parts_of: HashMap<u32, Range<usize>> = HashMap::new();
        for client in &self.clients {
            let mut ranges: &[(u32, u32)] = &[];
            let mut content: Option<(u32, Content)> = None;
            for at in client.first..client.next {
                let piece = &self.pieces[at];
                let item = &self.items[piece.of as usize];
                if at == client.first {
                    ranges = deleted.get(&item.client).map_or(&[], Vec::as_slice);
                }
                let kind = item.header().kind;
                if piece.seat != Seat::Text || matches!(kind, DELETED | FORMAT) {
                    continue;
                }
                let first = parts.len();
                for range in seen(&mut ranges, piece.clock..piece.clock + piece.len) {
                    let len = range.end - range.start;
                    let text = if kind == STRING {
                        if content.as_ref().is_none_or(|(of, _)| *of != piece.of) {
                            content = Some((piece.of, item.content()));
                        }
                        let content = content.as_mut().map(|(_, content)| content);
                        let elements = range.start - item.clock..range.end - item.clock;
                        let bytes = content.and_then(|content| content.take(elements).ok());
                        bytes.and_then(|bytes| String::from_utf8(bytes.into_owned()).ok())
                    } else if kind == EMBED {
                        None
                    } else {
                        return Err(NotText::Other);
                    };
                    parts.push(Part { clock: range.start, len, text });
                }
                if parts.len() > first {
                    parts_of.insert(at as u32, first..parts.len());
                }
            }
        }
        let id = |at: u32| {
            let piece = self.pieces.get(at as usize)?;
            Some(Id { client: self.items[piece.of as usize].client, clock: piece.clock })
        };
        let mut content = String::new();
        let mut runs: Vec<Run> = Vec::new();
        let mut at = self.first;
        while let Some(piece) = self.pieces.get(at as usize) {
            let client = self.items[piece.of as usize].client;
            for part in parts_of.get(&at).into_iter().flat_map(|range| &parts[range.clone()]) {
                let start = content.len();
                content.push_str(part.text.as_deref().unwrap_or_default());
                let end = part.clock + part.len;
                let inside = end < piece.clock + piece.len;
                let next = if inside { Some(Id { client, clock: end }) } else { id(piece.next) };
                let id = Id { client, clock: part.clock };
                runs.push(Run { id, len: part.len, bytes: start..content.len(), next });
            }
            at = piece.next;
        }
        Ok(Text { root: root.to_owned(), content, runs, first: id(self.first) })
    }
}

/// Elements of one piece that are to be seen.
struct Part {
    clock: u32,
    len: u32,
    /// None for something embedded.
    text: Option<String>,
}

/// The parts of a range that none of the sorted ranges covers. Those that end before it are dropped,
/// as the ranges that are asked about come in order.
fn seen(deleted: &mut &[(u32, u32)], range: Range<u32>) -> Vec<Range<u32>> {
    let mut parts = Vec::new();
    let mut start = range.start;
    while let Some(&(from, to)) = deleted.first()
        && from < range.end
    {
        if from > start {
            parts.push(start..from);
        }
        start = start.max(to);
        if to > range.end {
            break;
        }
        *deleted = &deleted[1..];
    }
    if start < range.end {
        parts.push(start..range.end);
    }
    parts
}

impl<'a> Item<'a> {
    fn header(&self) -> Header<'a> {
        Header::read(&mut Reader::new(self.bytes)).expect("an update's structs are scanned")
    }

    fn seat(&self, root: &str) -> Seat {
        let header = self.header();
        match header.parent {
            _ if header.kind == GC => Seat::Collected,
            Some(Parent::Root(name)) if name == root && header.key.is_none() => Seat::Text,
            Some(_) => Seat::Elsewhere,
            None => Seat::Inherited,
        }
    }

    fn content(&self) -> Content<'a> {
        let mut reader = Reader::new(self.bytes);
        let header = Header::read(&mut reader).expect("an update's structs are scanned");
        Content::of(header.kind, reader, self.bytes).expect("an update's structs are scanned")
    }
}
