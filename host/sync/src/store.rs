//! A document as the structs that it is made of.
//!
//! A server need not *integrate* a Yjs document, that is, work out the order of its elements: it
//! has to keep every struct, say which ones it has (the state vector), and hand out the ones that
//! somebody lacks. So this store keeps, for each client, the structs in the order of their clocks,
//! as slices of the bytes that were sent, and the ranges that were deleted. Applying an update is
//! a look at the end of a list; answering a peer is a copy. Nothing that a peer can send makes it
//! do more than that, which is why no client can crash it, hang it or blow it up. `arrays` reads
//! meaning out of the structs for documents that hold tables.
//!
//! What arrives beyond a hole in its client's clock waits here as Yjs lets it wait. Peers are
//! given it with the hole marked, and hold it back themselves until the hole closes.
//!
//! **Compaction** rewrites the store into one update: content that was deleted is dropped (as Yjs
//! does), runs are joined. It happens when enough has piled up that its cost is paid for by what
//! came in since the last one, so that each byte is rewritten a bounded number of times.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;

use crate::lib0::write_var;
use crate::update::{Id, SectionWriter, StateVector, Struct, Update, cut, write_pieces};

/// Memory that a struct takes beside its bytes, for the accounting of document sizes.
const BLOCK_COST: usize = 48;
/// Memory that a client takes.
const CLIENT_COST: usize = 160;
/// Memory that a deleted range takes.
const RANGE_COST: usize = 24;

/// A document. See the module's text.
#[derive(Debug, Default)]
pub struct Store {
    clients: HashMap<u64, Client>,
    /// Memory, in bytes.
    size: usize,
    /// The part of it that waits beyond holes.
    pending: usize,
    /// The part of it that a compaction would save, roughly.
    garbage: usize,
}

#[derive(Debug, Default)]
struct Client {
    /// Everything from clock 0, in order and without a hole.
    blocks: Vec<Block>,
    /// What lies beyond a hole, by clock, without overlap.
    pending: BTreeMap<u32, Block>,
    deleted: Ranges,
}

#[derive(Debug, Clone)]
struct Block {
    clock: u32,
    len: u32,
    bytes: Bytes,
}

impl Block {
    fn end(&self) -> u32 {
        self.clock + self.len
    }

    fn cost(&self) -> usize {
        self.bytes.len() + BLOCK_COST
    }
}

/// What an update brought that was new.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Clients whose known clock grew.
    pub advanced: Vec<u64>,
    /// Ranges that had not been deleted before; their content may be unknown yet.
    pub deleted: Vec<(Id, u32)>,
    /// Whether anything was new; structs beyond a hole count.
    pub changed: bool,
}

/// Why an update was not applied. Nothing of it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The document would grow beyond its limit.
    #[error("the document is full: it would take {size} bytes, and {limit} is the limit")]
    Full {
        /// What it would take.
        size: usize,
        /// The limit.
        limit: usize,
    },
    /// Too much waits for something that has not come.
    #[error("{size} bytes of updates wait for earlier ones that never came; {limit} is the limit")]
    Pending {
        /// What would wait.
        size: usize,
        /// The limit.
        limit: usize,
    },
}

/// Bounds on one document; `Limits` has their defaults.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Memory of the document, in bytes.
    pub size: usize,
    /// Memory of structs beyond holes, in bytes.
    pub pending: usize,
}

impl Bounds {
    /// No bounds, for what was admitted before.
    pub const NONE: Self = Self { size: usize::MAX, pending: usize::MAX };
}

impl Store {
    /// Takes in what is new of an update.
    pub fn apply(&mut self, update: &Update, bounds: &Bounds) -> Result<Applied, Refused> {
        self.admit(update, bounds)?;
        let mut applied = Applied::default();
        for (id, structs) in update.sections().filter(|(_, structs)| !structs.is_empty()) {
            let client = self.clients.entry(id).or_insert_with(|| {
                self.size += CLIENT_COST;
                Client::default()
            });
            let known = client.known();
            let (blocks_before, pending_before) = (client.blocks.len(), client.pending.len());
            for item in structs {
                let (added, waiting) = client.insert(id, item, update);
                self.size = self.size.wrapping_add_signed(added);
                self.pending = self.pending.wrapping_add_signed(waiting);
            }
            applied.changed |= (client.blocks.len(), client.pending.len())
                != (blocks_before, pending_before)
                || client.known() != known;
            if client.known() > known {
                applied.advanced.push(id);
            }
        }
        for &(id, len) in update.deletes() {
            let client = self.clients.entry(id.client).or_insert_with(|| {
                self.size += CLIENT_COST;
                Client::default()
            });
            let first = applied.deleted.len();
            client.deleted.insert(id.clock, id.clock + len, |start, end| {
                applied.deleted.push((Id { client: id.client, clock: start }, end - start));
            });
            for (start, len) in &applied.deleted[first..] {
                self.size += RANGE_COST;
                self.garbage += client.bytes_in(start.clock, start.clock + len);
            }
        }
        applied.changed |= !applied.deleted.is_empty();
        Ok(applied)
    }

    /// Whether the update fits. What is known already is not counted against it, so that a full
    /// document can still be synced.
    fn admit(&self, update: &Update, bounds: &Bounds) -> Result<(), Refused> {
        let mut novel = 0;
        let mut waiting = 0;
        for (id, structs) in update.sections() {
            let mut reach = self.known(id);
            for item in structs.iter().filter(|item| item.clock + item.len > self.known(id)) {
                let cost = (item.end - item.start) as usize + BLOCK_COST;
                novel += cost;
                if item.clock > reach {
                    waiting += cost;
                } else {
                    reach = reach.max(item.clock + item.len);
                }
            }
            if !self.clients.contains_key(&id) {
                novel += CLIENT_COST;
            }
        }
        for (id, len) in update.deletes() {
            match self.clients.get(&id.client) {
                Some(client) if client.deleted.covers(id.clock, id.clock + len) => {}
                Some(_) => novel += RANGE_COST,
                None => novel += RANGE_COST + CLIENT_COST,
            }
        }
        if novel > 0 && self.size + novel > bounds.size {
            return Err(Refused::Full { size: self.size + novel, limit: bounds.size });
        }
        if waiting > 0 && self.pending + waiting > bounds.pending {
            return Err(Refused::Pending { size: self.pending + waiting, limit: bounds.pending });
        }
        Ok(())
    }

    /// The clock of a client up to which everything is known.
    pub fn known(&self, client: u64) -> u32 {
        self.clients.get(&client).map_or(0, Client::known)
    }

    /// Everything that is known, by client.
    pub fn state_vector(&self) -> StateVector {
        self.clients
            .iter()
            .map(|(id, client)| (*id, client.known()))
            .filter(|(_, known)| *known > 0)
            .collect()
    }

    /// Memory of the document, in bytes, as the bounds count it.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Whether nothing was ever written.
    pub fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }

    /// Whether so much was deleted that a compaction is worth its time.
    pub fn wants_compaction(&self) -> bool {
        self.garbage > 256 * 1024 && self.garbage > self.size / 2
    }

    /// Everything that a peer with this state vector lacks, as one update. It carries the whole
    /// delete set, because a state vector does not say what of it the peer knows.
    pub fn diff(&self, peer: &StateVector) -> Vec<u8> {
        let sections = self.sorted().map(|(id, client)| {
            let from = peer.get(&id).copied().unwrap_or(0);
            let mut writer = SectionWriter::new(id);
            let first = client.blocks.partition_point(|block| block.end() <= from);
            for block in client.blocks[first..].iter().chain(client.pending.values()) {
                if block.end() <= from {
                    continue;
                }
                if block.clock >= from {
                    writer.push_raw(block.clock, block.len, &block.bytes);
                } else {
                    let id = Id { client: id, clock: block.clock };
                    let rest = from - block.clock..block.len;
                    write_scanned(&mut writer, block, id, [(rest, false)]);
                }
            }
            writer
        });
        self.encode(sections)
    }

    /// Rewrites the document into one update without what was deleted, and keeps it so. Returns
    /// that update: the whole document.
    pub fn compact(&mut self) -> Bytes {
        let bytes = Bytes::from(self.joined());
        let update = Update::scan(bytes.clone()).expect("a compacted document scans");
        let mut compacted = Self::default();
        let applied = compacted.apply(&update, &Bounds::NONE);
        debug_assert!(applied.is_ok());
        // What the delete set still names takes no bytes any more.
        compacted.garbage = 0;
        *self = compacted;
        bytes
    }

    /// Everything as one update, runs joined, without the content of what was deleted.
    fn joined(&self) -> Vec<u8> {
        self.encode(self.sorted().map(|(id, client)| {
            let mut writer = SectionWriter::new(id);
            for block in client.blocks.iter().chain(client.pending.values()) {
                let at = Id { client: id, clock: block.clock };
                write_scanned(&mut writer, block, at, client.deleted.cut(block.clock, block.len));
            }
            writer
        }))
    }

    fn encode(&self, sections: impl Iterator<Item = SectionWriter>) -> Vec<u8> {
        let mut body = Vec::new();
        let count = sections.filter_map(|writer| writer.finish(&mut body).then_some(())).count();
        let mut out = Vec::with_capacity(body.len() + 16);
        write_var(&mut out, count as u64);
        out.extend_from_slice(&body);
        drop(body);
        let deleted = self.sorted().filter(|(_, client)| !client.deleted.0.is_empty());
        write_var(&mut out, deleted.clone().count() as u64);
        for (id, client) in deleted {
            write_var(&mut out, id);
            write_var(&mut out, client.deleted.0.len() as u64);
            for (start, end) in &client.deleted.0 {
                write_var(&mut out, *start as u64);
                write_var(&mut out, (end - start) as u64);
            }
        }
        out
    }

    /// Clients, highest first, the order in which Yjs writes them.
    fn sorted(&self) -> impl Iterator<Item = (u64, &Client)> + Clone {
        let mut clients: Vec<_> = self.clients.iter().map(|(id, client)| (*id, client)).collect();
        clients.sort_unstable_by_key(|(id, _)| std::cmp::Reverse(*id));
        clients.into_iter()
    }

    /// The bytes of the struct that holds a clock, and the struct's first clock and length. None
    /// when the clock is not known, or waits beyond a hole.
    pub(crate) fn block(&self, id: Id) -> Option<(&Bytes, u32, u32)> {
        let blocks = &self.clients.get(&id.client)?.blocks;
        let at = blocks.partition_point(|block| block.end() <= id.clock);
        blocks.get(at).map(|block| (&block.bytes, block.clock, block.len))
    }

    /// Whether an element was deleted.
    pub fn is_deleted(&self, id: Id) -> bool {
        let client = self.clients.get(&id.client);
        client.is_some_and(|client| client.deleted.covers(id.clock, id.clock + 1))
    }

    /// All clients, in no order.
    pub(crate) fn clients(&self) -> impl Iterator<Item = u64> {
        self.clients.keys().copied()
    }
}

/// Writes pieces of a block; its bytes were scanned when they came in.
fn write_scanned(
    writer: &mut SectionWriter,
    block: &Block,
    id: Id,
    pieces: impl IntoIterator<Item = (std::ops::Range<u32>, bool)>,
) {
    write_pieces(writer, &block.bytes, id, pieces).expect("a block holds a scanned struct");
}

impl Client {
    fn known(&self) -> u32 {
        self.blocks.last().map_or(0, Block::end)
    }

    /// Keeps what is new of a struct. Returns how much memory that took, in all and beyond holes.
    fn insert(&mut self, client: u64, item: &Struct, update: &Update) -> (isize, isize) {
        let whole = Block { clock: item.clock, len: item.len, bytes: update.bytes_of(item) };
        let known = self.known();
        if whole.end() <= known {
            return (0, 0);
        }
        if item.clock > known {
            let added = self.wait(client, whole);
            return (added, added);
        }
        let mut added = 0;
        let mut waiting = 0;
        let block = whole.from(client, known);
        added += block.cost() as isize;
        self.blocks.push(block);
        while let Some(entry) = self.pending.first_entry()
            && *entry.key() <= self.blocks.last().map_or(0, Block::end)
        {
            let block = entry.remove();
            added -= block.cost() as isize;
            waiting -= block.cost() as isize;
            let known = self.known();
            if block.end() > known {
                let block = block.from(client, known);
                added += block.cost() as isize;
                self.blocks.push(block);
            }
        }
        (added, waiting)
    }

    /// Keeps the parts of a block beyond a hole that are not there yet.
    fn wait(&mut self, client: u64, block: Block) -> isize {
        let mut added = 0;
        let mut from = block.clock;
        let before = self.pending.range(..=from).next_back().map_or(0, |(_, block)| block.end());
        from = from.max(before);
        while from < block.end() {
            let next = self.pending.range(from..).next().map(|(_, next)| (next.clock, next.end()));
            let (to, resume) = match next {
                Some((clock, end)) if clock < block.end() => (clock, end),
                _ => (block.end(), block.end()),
            };
            if to > from {
                let id = Id { client, clock: block.clock };
                let part = block.part(id, from - block.clock..to - block.clock);
                added += part.cost() as isize;
                self.pending.insert(part.clock, part);
            }
            from = resume;
        }
        added
    }

    /// Bytes of content between two clocks, roughly.
    fn bytes_in(&self, start: u32, end: u32) -> usize {
        let mut at = self.blocks.partition_point(|block| block.end() <= start);
        let mut bytes = 0;
        while let Some(block) = self.blocks.get(at)
            && block.clock < end
        {
            let overlap = block.end().min(end) - block.clock.max(start);
            bytes += block.cost() * overlap as usize / block.len as usize;
            at += 1;
        }
        bytes
    }
}

impl Block {
    /// The rest of it from a clock on.
    fn from(self, client: u64, clock: u32) -> Block {
        if clock <= self.clock {
            return self;
        }
        let rest = clock - self.clock..self.len;
        self.part(Id { client, clock: self.clock }, rest)
    }

    fn part(&self, id: Id, part: std::ops::Range<u32>) -> Block {
        if part == (0..self.len) {
            return self.clone();
        }
        let bytes = cut(&self.bytes, id, part.clone()).expect("a block holds a scanned struct");
        Block { clock: self.clock + part.start, len: part.end - part.start, bytes }
    }
}

/// Disjoint ranges of clocks that do not touch: start and end.
#[derive(Debug, Default, Clone)]
struct Ranges(BTreeMap<u32, u32>);

impl Ranges {
    /// Adds a range and says which parts of it were new.
    fn insert(&mut self, start: u32, end: u32, mut new: impl FnMut(u32, u32)) {
        let mut first = start;
        let mut last = end;
        let mut from = start;
        if let Some((&before, &before_end)) = self.0.range(..=start).next_back()
            && before_end >= start
        {
            if before_end >= end {
                return;
            }
            first = before;
            from = before_end;
        }
        while from <= end
            && let Some((&next, &next_end)) = self.0.range(from.max(first + 1)..=end).next()
        {
            if next > from {
                new(from, next);
            }
            from = from.max(next_end);
            last = last.max(next_end);
            self.0.remove(&next);
        }
        if from < end {
            new(from, end);
        }
        self.0.insert(first, last);
    }

    fn covers(&self, start: u32, end: u32) -> bool {
        self.0.range(..=start).next_back().is_some_and(|(_, last)| *last >= end)
    }

    /// The pieces into which the ranges cut a struct, and whether each is deleted.
    fn cut(&self, clock: u32, len: u32) -> Vec<(std::ops::Range<u32>, bool)> {
        let end = clock + len;
        let mut pieces = Vec::new();
        let mut at = clock;
        let before = self.0.range(..=clock).next_back();
        let after = self.0.range(clock.saturating_add(1)..end);
        for (&start, &stop) in before.into_iter().chain(after) {
            let (start, stop) = (start.max(clock), stop.min(end));
            if stop <= at {
                continue;
            }
            if start > at {
                pieces.push((at - clock..start - clock, false));
            }
            pieces.push((start - clock..stop - clock, true));
            at = stop;
        }
        if at < end {
            pieces.push((at - clock..len, false));
        }
        pieces
    }
}

/// Joins updates into one that means the same.
pub fn merge<'a>(updates: impl IntoIterator<Item = &'a Update>) -> Vec<u8> {
    let mut store = Store::default();
    for update in updates {
        // Nothing can be refused without bounds.
        let _ = store.apply(update, &Bounds::NONE);
    }
    store.joined()
}
