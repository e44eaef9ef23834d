//! A document as the structs that it is made of.
//!
//! A server need not *integrate* a Yjs document, that is, work out the order of its elements: it
//! has to keep every struct, say which ones it has (the state vector), and hand out the ones that
//! somebody lacks. So this store keeps, for each client, the structs in the order of their clocks,
//! as the bytes that were sent, and the ranges that were deleted. Each struct has memory of its own:
//! a slice of the update would keep all of it, and a peer could send much that is known already
//! around a little that is new. Applying an update is
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

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;

use bytes::Bytes;

use crate::lib0::{MAX_CLOCK, Reader, write_var};
use crate::update::{Id, SectionWriter, StateVector, Struct, Update, rest, write_pieces};

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
    memory: Memory,
    /// The part of the memory that a compaction would save, roughly.
    garbage: usize,
}

/// Memory, in bytes.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Memory {
    all: usize,
    /// The part of it that waits beyond holes.
    pending: usize,
}

#[derive(Debug, Default)]
struct Client {
    /// Everything from clock 0, in order and without a hole.
    blocks: Vec<Block>,
    /// What lies beyond a hole, by clock. These may overlap, and the first one counts; but none
    /// lies within another, so that their ends are in order, too.
    pending: BTreeMap<u32, Block>,
    deleted: Ranges,
}

#[derive(Debug)]
struct Block {
    clock: u32,
    len: u32,
    bytes: Box<[u8]>,
}

impl Block {
    fn end(&self) -> u32 {
        self.clock + self.len
    }

    fn cost(&self) -> usize {
        self.bytes.len() + BLOCK_COST
    }

    /// What of it lies after a clock.
    fn after(self, client: u64, clock: u32) -> Self {
        if clock <= self.clock {
            return self;
        }
        let id = Id { client, clock: self.clock };
        let end = self.end();
        let bytes = rest(&self.bytes, id, clock..end).expect("a block holds a scanned struct");
        Self { clock, len: end - clock, bytes }
    }

    /// Writes pieces of it: ranges of clocks, and whether each was deleted.
    fn write(
        &self,
        writer: &mut SectionWriter,
        client: u64,
        pieces: impl IntoIterator<Item = (Range<u32>, bool)>,
    ) {
        let id = Id { client, clock: self.clock };
        write_pieces(writer, &self.bytes, id, pieces).expect("a block holds a scanned struct");
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
pub enum OverLimit {
    /// The document would grow beyond its limit.
    #[error("the document is full: it would take {size} bytes, and {limit} is the limit")]
    Document {
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

/// Bounds on one document; `Limits` has their defaults. A struct that is cut because a part of it is
/// known names what it was cut from, which may take 13 bytes that the bounds do not see.
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
    pub fn apply(&mut self, update: &Update, bounds: &Bounds) -> Result<Applied, OverLimit> {
        self.admit(update, bounds)?;
        let mut applied = Applied::default();
        for (id, structs) in update.sections().filter(|(_, structs)| !structs.is_empty()) {
            let client = self.clients.entry(id).or_insert_with(|| {
                self.memory.all += CLIENT_COST;
                Client::default()
            });
            let known = client.known();
            for item in structs {
                let bytes = update.bytes_of(item);
                applied.changed |= client.insert(id, item, bytes, &mut self.memory);
            }
            if client.known() > known {
                applied.advanced.push(id);
            }
        }
        for &(id, len) in update.deletes() {
            let client = self.clients.entry(id.client).or_insert_with(|| {
                self.memory.all += CLIENT_COST;
                Client::default()
            });
            let first = applied.deleted.len();
            self.memory.all -= client.deleted.cost();
            client.deleted.insert(id.clock, id.clock + len, |start, end| {
                applied.deleted.push((Id { client: id.client, clock: start }, end - start));
            });
            self.memory.all += client.deleted.cost();
            for (start, len) in &applied.deleted[first..] {
                self.garbage += client.bytes_in(start.clock, start.clock + len);
            }
        }
        applied.changed |= !applied.deleted.is_empty();
        Ok(applied)
    }

    /// Whether there is nothing new in the update.
    pub fn knows(&self, update: &Update) -> bool {
        self.novelty(update).0 == 0
    }

    /// Whether the update fits. What is known already is not counted against it, so that a full
    /// document can still be synced.
    fn admit(&self, update: &Update, bounds: &Bounds) -> Result<(), OverLimit> {
        let (novel, waiting) = self.novelty(update);
        let Memory { all, pending } = self.memory;
        if novel > 0 && all + novel > bounds.size {
            return Err(OverLimit::Document { size: all + novel, limit: bounds.size });
        }
        if waiting > 0 && pending + waiting > bounds.pending {
            return Err(OverLimit::Pending { size: pending + waiting, limit: bounds.pending });
        }
        Ok(())
    }

    /// Memory that an update would take, and the part of it that would wait beyond holes. What is
    /// known already takes none.
    fn novelty(&self, update: &Update) -> (usize, usize) {
        let mut novel = 0;
        let mut waiting = 0;
        let mut unknown = HashSet::new();
        for (id, structs) in update.sections().filter(|(_, structs)| !structs.is_empty()) {
            let client = self.clients.get(&id);
            if client.is_none() {
                unknown.insert(id);
            }
            let known = client.map_or(0, Client::known);
            let mut reach = known;
            let mut pending = client.into_iter().flat_map(|c| c.pending.values()).peekable();
            for item in structs.iter().filter(|item| item.clock + item.len > known) {
                while let Some(block) = pending.next_if(|block| block.clock <= reach) {
                    reach = reach.max(block.end());
                }
                if client.is_some_and(|client| client.waits(item)) {
                    continue;
                }
                let cost = (item.end - item.start) as usize + BLOCK_COST;
                novel += cost;
                if item.clock > reach {
                    waiting += cost;
                } else {
                    reach = reach.max(item.clock + item.len);
                }
            }
        }
        for (id, len) in update.deletes() {
            match self.clients.get(&id.client) {
                Some(client) if client.deleted.covers(id.clock, id.clock + len) => continue,
                Some(_) => {}
                None => drop(unknown.insert(id.client)),
            }
            novel += RANGE_COST;
        }
        (novel + unknown.len() * CLIENT_COST, waiting)
    }

    /// The clock of a client up to which everything is known.
    pub fn known(&self, client: u64) -> u32 {
        self.clients.get(&client).map_or(0, Client::known)
    }

    /// What a state vector that was scanned says of the clients of this document. That is no larger than
    /// the document, whatever the peer names; and a peer that has nothing of it is seen to have nothing.
    pub fn part_of(&self, vector: &[u8]) -> StateVector {
        let mut reader = Reader::new(vector);
        let count = reader.var().unwrap_or_default();
        let mut part = StateVector::new();
        for _ in 0..count {
            let (Ok(client), Ok(clock)) = (reader.var(), reader.clock()) else { break };
            if clock > 0 && self.clients.contains_key(&client) {
                part.insert(client, clock);
            }
        }
        part
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
        self.memory.all
    }

    /// The part of it that waits for something that has not come.
    pub fn pending(&self) -> usize {
        self.memory.pending
    }

    /// Whether nothing was ever written.
    pub fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }

    /// Whether so much was deleted that a compaction is worth its time.
    pub fn wants_compaction(&self) -> bool {
        self.garbage > 256 * 1024 && self.garbage > self.memory.all / 2
    }

    /// Everything that a peer with this state vector lacks, as one update. It carries the whole
    /// delete set, because a state vector does not say what of it the peer knows.
    pub fn diff(&self, peer: &StateVector) -> Vec<u8> {
        self.encode(self.sorted().map(|(id, client)| {
            let mut writer = SectionWriter::new(id);
            for (block, from) in client.structs(peer.get(&id).copied().unwrap_or(0)) {
                // Runs are joined here, too. It makes the update smaller, and yrs takes memory that
                // grows with the square of the structs that one client wrote one by one.
                block.write(&mut writer, id, [(from..block.end(), false)]);
            }
            writer
        }))
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
            for (block, from) in client.structs(0) {
                block.write(&mut writer, id, client.deleted.cut(from, block.end()));
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
    pub(crate) fn block(&self, id: Id) -> Option<(&[u8], u32, u32)> {
        let blocks = &self.clients.get(&id.client)?.blocks;
        let at = blocks.partition_point(|block| block.end() <= id.clock);
        blocks.get(at).map(|block| (&*block.bytes, block.clock, block.len))
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

    /// Panics unless everything that this store keeps track of is what it would be if it were
    /// worked out anew. For tests.
    #[doc(hidden)]
    pub fn check(&self) {
        let mut memory = Memory::default();
        for client in self.clients.values() {
            let mut known = 0;
            for block in &client.blocks {
                assert!(block.clock == known && block.len > 0, "blocks have no holes");
                known = block.end();
            }
            let mut reach = known;
            for (clock, block) in &client.pending {
                assert!(*clock == block.clock && block.clock > known, "only what must wait waits");
                assert!(block.end() > reach, "none lies within another");
                reach = block.end();
                memory.pending += block.cost();
            }
            assert!(reach <= MAX_CLOCK, "clocks are in range");
            let mut last = None;
            for (start, end) in &client.deleted.0 {
                assert!(start < end && last.is_none_or(|last| last < start), "ranges do not touch");
                last = Some(end);
            }
            memory.all += client.blocks.iter().map(Block::cost).sum::<usize>();
            memory.all += CLIENT_COST + client.deleted.0.len() * RANGE_COST;
        }
        memory.all += memory.pending;
        assert_eq!(self.memory, memory, "memory is counted");
    }
}

impl Client {
    fn known(&self) -> u32 {
        self.blocks.last().map_or(0, Block::end)
    }

    /// Keeps what is new of a struct. False when nothing is.
    fn insert(&mut self, client: u64, item: &Struct, bytes: &[u8], memory: &mut Memory) -> bool {
        let known = self.known();
        if item.clock + item.len <= known || self.waits(item) {
            return false;
        }
        let block = Block { clock: item.clock, len: item.len, bytes: bytes.into() };
        if block.clock > known {
            memory.all += block.cost();
            memory.pending += block.cost();
            while let Some((&clock, inner)) = self.pending.range(block.clock..).next()
                && inner.end() <= block.end()
            {
                memory.all -= inner.cost();
                memory.pending -= inner.cost();
                self.pending.remove(&clock);
            }
            self.pending.insert(block.clock, block);
            return true;
        }
        self.append(client, block, memory);
        while let Some(entry) = self.pending.first_entry()
            && *entry.key() <= self.blocks.last().map_or(0, Block::end)
        {
            let block = entry.remove();
            memory.all -= block.cost();
            memory.pending -= block.cost();
            self.append(client, block, memory);
        }
        true
    }

    /// Keeps what is new of a block that begins in what is known or right behind it.
    fn append(&mut self, client: u64, block: Block, memory: &mut Memory) {
        let known = self.known();
        if block.end() > known {
            let block = block.after(client, known);
            memory.all += block.cost();
            self.blocks.push(block);
        }
    }

    /// Whether a struct waits beyond a hole already, or a part of one that does. That several
    /// together may cover it is not looked for.
    fn waits(&self, item: &Struct) -> bool {
        let before = self.pending.range(..=item.clock).next_back();
        before.is_some_and(|(_, block)| block.end() >= item.clock + item.len)
    }

    /// The structs that have something beyond a clock, in order, each with the clock from which on
    /// it says what none before it says.
    fn structs(&self, from: u32) -> impl Iterator<Item = (&Block, u32)> {
        let first = self.blocks.partition_point(|block| block.end() <= from);
        let mut reach = from;
        self.blocks[first..].iter().chain(self.pending.values()).filter_map(move |block| {
            let from = reach.max(block.clock);
            reach = reach.max(block.end());
            (from < block.end()).then_some((block, from))
        })
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

    fn cost(&self) -> usize {
        self.0.len() * RANGE_COST
    }

    /// The pieces into which the ranges cut what lies between two clocks, and whether each is
    /// deleted.
    fn cut(&self, start: u32, end: u32) -> Vec<(Range<u32>, bool)> {
        let mut pieces = Vec::new();
        let mut at = start;
        let before = self.0.range(..=start).next_back();
        let after = self.0.range(start + 1..end);
        for (&first, &last) in before.into_iter().chain(after) {
            let last = last.min(end);
            if last <= at {
                continue;
            }
            if first > at {
                pieces.push((at..first, false));
            }
            pieces.push((first.max(at)..last, true));
            at = last;
        }
        if at < end {
            pieces.push((at..end, false));
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
