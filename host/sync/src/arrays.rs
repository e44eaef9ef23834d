//! The arrays at the top of a document, read out of its structs.
//!
//! A table is a Yjs array of plain values. To know its elements one need not integrate the
//! document: an element belongs to the array that its origin belongs to, it is there unless it was
//! deleted, and the values are in the struct. Only the *order* of two elements takes Yjs' rules,
//! and it matters only when two entries of one key carry the same time. [`Arrays::compare`] works
//! it out for two elements when someone asks.
//!
//! **Integration order.** As in Yjs, a struct counts once everything that it was made beside is
//! there: its client's earlier structs, its origins and its parent. What is not yet, waits.
//!
//! **Order.** Elements that are pushed have a left origin and no right one. For those, the rules
//! of Yjs (YATA) come down to a tree: an element hangs below its origin, an array is the tree in
//! depth-first order, and siblings are ordered by client, lower first, and the later before the
//! earlier where a client made both. Comparing two elements means finding where their paths to the
//! root part. Nodes are runs of elements that hang below each other, and carry a jump pointer
//! (Myers 1983, "An applicative random-access stack"), so the search takes logarithmic time
//! however deep the tree is. A right origin (an insertion between two elements, which no writer of
//! tables makes) is waited for but plays no part in the order.

use std::cmp::Ordering;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::any::Any;
use crate::lib0::Reader;
use crate::store::{Applied, Store};
use crate::update::{ANY, Header, Id, Parent};

/// Something that happened in an array.
#[derive(Debug, Clone, PartialEq)]
pub enum ArrayChange {
    /// An element is there.
    Inserted {
        /// The array's name.
        array: Arc<str>,
        /// Names the element.
        id: Id,
        /// Its value.
        value: Any,
    },
    /// An element is gone. Also reported for elements that never were in an array.
    Deleted {
        /// Names the element.
        id: Id,
    },
}

/// The arrays of one document. See the module's text.
#[derive(Debug, Default)]
pub struct Arrays {
    clients: HashMap<u64, Nodes>,
    /// Index of each array's name.
    indices: HashMap<Arc<str>, u32>,
    names: Vec<Arc<str>>,
    /// For each array, the element that was integrated last.
    tails: Vec<Option<Id>>,
    /// For elements that have not been integrated, the clients that wait for them.
    waiting: BTreeSet<(Id, u64)>,
}

#[derive(Debug, Default)]
struct Nodes {
    /// In order of clock, without a hole.
    nodes: Vec<Node>,
    /// What the next struct waits for, so that it is queued only once.
    blocked: Option<Id>,
}

impl Nodes {
    fn integrated(&self) -> u32 {
        self.nodes.last().map_or(0, |node| node.clock + node.len)
    }
}

/// Elements of one client that hang below each other.
#[derive(Debug, Clone, Copy)]
struct Node {
    clock: u32,
    len: u32,
    /// Index of the array's name, or `OUTSIDE`.
    array: u32,
    depth: u32,
    /// The element that the first one hangs below; none at the top of the tree.
    origin: Option<Id>,
    /// An element of a node further up; none for the top.
    jump: Option<Id>,
}

/// The array of what is in no array that we read: text, maps, nested types.
const OUTSIDE: u32 = u32::MAX;

impl Arrays {
    /// Reads a whole document, and reports what is there.
    pub fn load(store: &Store, report: &mut dyn FnMut(ArrayChange)) -> Self {
        let mut arrays = Self::default();
        let everything =
            Applied { advanced: store.clients().collect(), deleted: Vec::new(), changed: true };
        arrays.apply(store, &everything, report);
        arrays
    }

    /// Follows what an update brought, and reports it one by one, because a small update can bring
    /// many elements; insertions come before deletions. The store must not have been compacted
    /// since it took in the update.
    pub fn apply(&mut self, store: &Store, applied: &Applied, report: &mut dyn FnMut(ArrayChange)) {
        let mut advanced = applied.advanced.clone();
        while let Some(client) = advanced.pop() {
            if !self.integrate(store, client, report) {
                continue;
            }
            let end = (Id { client, clock: self.integrated(client) }, 0);
            while let Some(next) = self.waiting.range((Id { client, clock: 0 }, 0)..end).next() {
                let next = *next;
                self.waiting.remove(&next);
                advanced.push(next.1);
            }
        }
        for &(first, len) in &applied.deleted {
            // What is beyond the integrated clock will be seen as deleted when it is integrated.
            let end = (first.clock + len).min(self.integrated(first.client));
            self.delete(store, first, end, report);
        }
    }

    /// Reports the values between two clocks as deleted. Structs without values are passed over,
    /// since a few bytes can stand for more elements than there is memory.
    fn delete(&self, store: &Store, first: Id, end: u32, report: &mut dyn FnMut(ArrayChange)) {
        let client = first.client;
        let mut at = first.clock;
        while let Some((bytes, block, len)) = store.block(Id { client, clock: at })
            && at < end
        {
            let header = Header::read(&mut Reader::new(bytes));
            let next = end.min(block + len);
            if header.expect("a block holds a scanned struct").kind == ANY {
                for clock in at..next {
                    report(ArrayChange::Deleted { id: Id { client, clock } });
                }
            }
            at = next;
        }
    }

    /// The element of an array that a new one should be pushed behind.
    pub fn tail(&self, array: &str) -> Option<Id> {
        self.tails[*self.indices.get(array)? as usize]
    }

    fn integrated(&self, client: u64) -> u32 {
        self.clients.get(&client).map_or(0, Nodes::integrated)
    }

    /// Integrates what a client's structs allow. False when nothing could be.
    fn integrate(
        &mut self,
        store: &Store,
        client: u64,
        report: &mut dyn FnMut(ArrayChange),
    ) -> bool {
        let blocked = self.clients.get(&client).and_then(|nodes| nodes.blocked);
        if blocked.is_some_and(|id| id.clock >= self.integrated(id.client)) {
            return false;
        }
        let mut any = false;
        loop {
            let clock = self.integrated(client);
            let Some((bytes, block, len)) = store.block(Id { client, clock }) else { return any };
            let mut reader = Reader::new(bytes);
            let header = Header::read(&mut reader).expect("a block holds a scanned struct");
            // A block that was rewritten by a compaction can begin before what is integrated.
            let origin =
                if block < clock { Some(Id { client, clock: clock - 1 }) } else { header.origin };
            let parent_item = match header.parent {
                Some(Parent::Item(id)) => Some(id),
                _ => None,
            };
            let needs = [origin, header.right_origin, parent_item];
            let missing =
                needs.into_iter().flatten().find(|id| id.clock >= self.integrated(id.client));
            if let Some(missing) = missing {
                self.clients.entry(client).or_default().blocked = Some(missing);
                self.waiting.insert((missing, client));
                return any;
            }
            any = true;
            let array = match (header.parent, origin.or(header.right_origin)) {
                (Some(Parent::Root(name)), _) if header.key.is_none() => self.name(name),
                (None, Some(neighbour)) => self.node(neighbour).map_or(OUTSIDE, |n| n.array),
                _ => OUTSIDE,
            };
            let end = block + len;
            self.place(client, clock, end - clock, origin, array);
            if array == OUTSIDE || header.kind != ANY {
                continue;
            }
            self.tails[array as usize] = Some(Id { client, clock: end - 1 });
            let count = reader.var().expect("a block holds a scanned struct");
            debug_assert_eq!(count, len as u64);
            for at in block..end {
                let id = Id { client, clock: at };
                let start = reader.position();
                reader.skip_any().expect("a block holds a scanned struct");
                if at >= clock && !store.is_deleted(id) {
                    let value = Any::scanned(&bytes[start..reader.position()]);
                    let array = self.names[array as usize].clone();
                    report(ArrayChange::Inserted { array, id, value });
                }
            }
        }
    }

    fn name(&mut self, name: &str) -> u32 {
        if let Some(at) = self.indices.get(name) {
            return *at;
        }
        let at = self.names.len() as u32;
        let name: Arc<str> = name.into();
        self.indices.insert(name.clone(), at);
        self.names.push(name);
        self.tails.push(None);
        at
    }

    fn place(&mut self, client: u64, clock: u32, len: u32, origin: Option<Id>, array: u32) {
        let previous = clock.checked_sub(1).map(|clock| Id { client, clock });
        if origin.is_some() && origin == previous {
            let nodes = self.clients.entry(client).or_default();
            if let Some(last) = nodes.nodes.last_mut()
                && last.array == array
            {
                last.len += len;
                return;
            }
        }
        let (depth, jump) = match origin.and_then(|id| self.node(id).map(|node| (id, *node))) {
            None => (0, None),
            Some((id, parent)) => (parent.depth + 1, self.jump_below(id, &parent)),
        };
        let nodes = self.clients.entry(client).or_default();
        nodes.nodes.push(Node { clock, len, array, depth, origin, jump });
    }

    /// The jump pointer of a node that hangs below `parent`, which holds `id`.
    fn jump_below(&self, id: Id, parent: &Node) -> Option<Id> {
        let Some(jump) = parent.jump else { return Some(id) };
        let first = self.node(jump)?;
        let second = first.jump.and_then(|id| self.node(id)).map_or(0, |node| node.depth);
        if parent.depth - first.depth == first.depth - second { first.jump } else { Some(id) }
    }

    fn node(&self, id: Id) -> Option<&Node> {
        let nodes = &self.clients.get(&id.client)?.nodes;
        let at = nodes.partition_point(|node| node.clock + node.len <= id.clock);
        nodes.get(at)
    }

    /// Which of two elements of one array comes first. It is a total order of all ids: those that
    /// were not integrated come last, ordered among themselves.
    pub fn compare(&self, a: Id, b: Id) -> Ordering {
        match (self.node(a), self.node(b)) {
            (Some(left), Some(right)) => self
                .compare_in_tree(Path::to(a, left), Path::to(b, right))
                .expect("what a node hangs below was integrated before it"),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => a.cmp(&b),
        }
    }

    fn compare_in_tree(&self, mut left: Path, mut right: Path) -> Option<Ordering> {
        // Bring both to the same depth, remembering the element by which each path went up.
        self.climb(&mut left, right.node.depth)?;
        self.climb(&mut right, left.node.depth)?;
        while left.id.client != right.id.client || left.node.clock != right.node.clock {
            if left.node.depth == 0 {
                // Both hang at the top: they are siblings.
                return Some(siblings(left.first(), right.first()));
            }
            let (left_jump, right_jump) = (left.node.jump, right.node.jump);
            match (left_jump, right_jump) {
                (Some(l), Some(r)) if !self.same_node(l, r)? => {
                    left = Path::to(l, self.node(l)?);
                    right = Path::to(r, self.node(r)?);
                }
                _ => {
                    self.up(&mut left)?;
                    self.up(&mut right)?;
                }
            }
        }
        // Both paths are in one node now, at `left.id` and `right.id`.
        Some(match left.id.clock.cmp(&right.id.clock) {
            Ordering::Equal => match (left.below, right.below) {
                (Some(l), Some(r)) => siblings(l, r),
                (None, Some(_)) => Ordering::Less,
                (Some(_), None) => Ordering::Greater,
                (None, None) => Ordering::Equal,
            },
            // The element further down the run is below the other one's next; it comes first
            // unless the other path left the run before it as an earlier sibling.
            Ordering::Less => match left.below {
                None => Ordering::Less,
                Some(l) => siblings(l, Id { client: left.id.client, clock: left.id.clock + 1 }),
            },
            Ordering::Greater => match right.below {
                None => Ordering::Greater,
                Some(r) => siblings(Id { client: right.id.client, clock: right.id.clock + 1 }, r),
            },
        })
    }

    /// Goes up until the path is at most at `depth`.
    fn climb(&self, path: &mut Path, depth: u32) -> Option<()> {
        while path.node.depth > depth {
            let jump = path.node.jump.and_then(|id| Some((id, self.node(id)?)));
            match jump {
                Some((id, node)) if node.depth > depth => *path = Path::to(id, node),
                _ => self.up(path)?,
            }
        }
        Some(())
    }

    fn up(&self, path: &mut Path) -> Option<()> {
        let origin = path.node.origin?;
        *path = Path { id: origin, node: *self.node(origin)?, below: Some(path.first()) };
        Some(())
    }

    fn same_node(&self, a: Id, b: Id) -> Option<bool> {
        Some(a.client == b.client && self.node(a)?.clock == self.node(b)?.clock)
    }
}

/// A place on the way from an element to the top of the tree.
#[derive(Clone, Copy)]
struct Path {
    /// The element at which the way reached this node.
    id: Id,
    node: Node,
    /// The element hanging below `id` from which the way came; none at its start.
    below: Option<Id>,
}

impl Path {
    /// A place to go on from. After a jump it is not known what is below, and not needed: jumps
    /// stop short of the node where two paths meet.
    fn to(id: Id, node: &Node) -> Self {
        Self { id, node: *node, below: None }
    }

    /// The first element of the node, by which it hangs below the next.
    fn first(&self) -> Id {
        Id { client: self.id.client, clock: self.node.clock }
    }
}

/// The order of two elements that hang below the same one.
fn siblings(a: Id, b: Id) -> Ordering {
    a.client.cmp(&b.client).then(b.clock.cmp(&a.clock))
}
