//! Random histories of documents that yrs integrates, and updates made by hand.
#![allow(dead_code, reason = "each test uses a part")]

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use host_sync::Id;
use host_sync::lib0::{write_any, write_bytes, write_var};
use yrs::types::ToJson;
use yrs::types::text::YChange;
use yrs::updates::decoder::Decode;
use yrs::{
    Any, Array, ArrayPrelim, Doc, GetString, In, Map, MapPrelim, OffsetKind, Options, ReadTxn,
    Text, TextPrelim, Transact, Xml, XmlElementPrelim, XmlFragment, XmlTextPrelim,
};

pub const ARRAYS: [&str; 3] = ["table:posts", "table:tags", "kv"];

/// Numbers that are the same for the same seed (splitmix64).
#[derive(Clone)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below another; zero below zero.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    pub fn one_in(&mut self, many: usize) -> bool {
        self.below(many) == 0
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    pub fn shuffle<T>(&mut self, list: &mut [T]) {
        for at in (1..list.len()).rev() {
            list.swap(at, self.below(at + 1));
        }
    }
}

/// The first seed and how many: `SYNC_SEED` and `SYNC_ROUNDS` make longer runs.
pub fn seeds(rounds: u64) -> std::ops::Range<u64> {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let first = number("SYNC_SEED").unwrap_or(1);
    first..first + number("SYNC_ROUNDS").unwrap_or(rounds)
}

/// What clients do in a history.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shape {
    /// Elements are pushed behind others and deleted: what writers of tables do.
    Pushes,
    /// All that yrs offers.
    Everything,
    /// A text is written, cut, marked and embedded into.
    Texts,
}

/// Several clients that edit a document and hear of each other now and then.
pub struct History {
    pub random: Random,
    pub docs: Vec<Doc>,
    /// What the clients sent, in the order in which they did.
    pub log: Arc<Mutex<Vec<Vec<u8>>>>,
    shape: Shape,
    /// Elements that were pushed by hand: array and id.
    pushed: Vec<(usize, Id)>,
    number: i64,
}

impl History {
    pub fn new(seed: u64, clients: usize, shape: Shape) -> Self {
        let mut history = Self {
            random: Random::new(seed),
            docs: Vec::new(),
            log: Arc::default(),
            shape,
            pushed: Vec::new(),
            number: 0,
        };
        for _ in 0..clients {
            // Ids of any size and order.
            let shift = history.random.below(50) as u32;
            let id = (history.random.next() >> 12) >> shift;
            if history.docs.iter().all(|doc| doc.client_id().get() | 1 != id | 1) {
                history.join(id, &[0, 0]);
            }
        }
        history
    }

    /// Another client, which has read a document.
    pub fn join(&mut self, id: u64, document: &[u8]) {
        let doc = doc(id);
        apply(&doc, document);
        let log = self.log.clone();
        let log = move |_: &yrs::TransactionMut, event: &yrs::UpdateEvent| {
            log.lock().unwrap().push(event.update.clone());
        };
        doc.observe_update_v1("log", log).unwrap();
        self.docs.push(doc);
    }

    pub fn log(&self) -> Vec<Vec<u8>> {
        self.log.lock().unwrap().clone()
    }

    /// One client does something, or hears of something.
    pub fn step(&mut self) {
        let at = self.random.below(self.docs.len());
        if self.random.one_in(4) {
            return self.hear(at);
        }
        match self.shape {
            Shape::Pushes => self.push_or_delete(at),
            Shape::Everything | Shape::Texts => self.edit(at),
        }
    }

    fn hear(&mut self, at: usize) {
        let from = self.random.below(self.docs.len());
        let to = self.docs[at].clone();
        let vector = to.transact().state_vector();
        let diff = self.docs[from].transact().encode_diff_v1(&vector);
        apply(&to, &diff);
    }

    fn value(&mut self) -> serde_json::Value {
        self.number += 1;
        let number = self.number;
        match self.random.below(4) {
            0 => serde_json::json!(number),
            1 => serde_json::json!([number, {"a": [null, true, 0.5, "ö🙂"]}]),
            _ => serde_json::json!({"key": format!("k{}", number % 7), "ts": number, "val": {}}),
        }
    }

    fn push_or_delete(&mut self, at: usize) {
        let doc = self.docs[at].clone();
        let name = self.random.below(ARRAYS.len());
        let array = doc.get_or_insert_array(ARRAYS[name]);
        let len = array.len(&doc.transact());
        if len > 0 && self.random.one_in(3) {
            let index = self.random.below(len as usize) as u32;
            let count = (1 + self.random.below(3) as u32).min(len - index);
            return array.remove_range(&mut doc.transact_mut(), index, count);
        }
        // Written by hand because yrs, other than Yjs, gives a pushed element a right origin when
        // deleted ones are behind it. The client is another one than the document's own.
        let vector = doc.transact().state_vector();
        let client = doc.client_id().get() ^ 1;
        let clock = vector.get(&yrs::ClientID::new(client));
        let known: Vec<Id> = (self.pushed.iter())
            .filter(|(array, id)| *array == name && id.clock < known(&vector, id.client))
            .map(|(_, id)| *id)
            .collect();
        let origin = match self.random.below(10) {
            0 => None,
            1..=3 if !known.is_empty() => Some(*self.random.pick(&known)),
            _ => ids(&doc, ARRAYS[name]).last().copied(),
        };
        let values: Vec<_> = (0..1 + self.random.below(3)).map(|_| self.value()).collect();
        let update = push(client, clock, origin, ARRAYS[name], &values);
        let ids = (clock..).take(values.len()).map(|clock| (name, Id { client, clock }));
        self.pushed.extend(ids);
        apply(&doc, &update);
    }

    fn edit(&mut self, at: usize) {
        let doc = self.docs[at].clone();
        let array = doc.get_or_insert_array(*self.random.pick(&ARRAYS));
        let text = doc.get_or_insert_text("text");
        let map = doc.get_or_insert_map("map");
        let xml = doc.get_or_insert_xml_fragment("xml");
        let value = self.value();
        let any = |value: &serde_json::Value| Any::from_json(&value.to_string()).unwrap();
        let random = &mut self.random;
        let mut txn = doc.transact_mut();
        // Several edits in one transaction now and then.
        for _ in 0..1 + random.below(2) {
            let text_len = text.len(&txn) as usize;
            let choice = match self.shape {
                Shape::Texts => *random.pick(&[6, 6, 7, 7, 8, 8, 9, 10]),
                _ => random.below(16),
            };
            match choice {
                0..=2 => drop(array.push_back(&mut txn, any(&value))),
                3 => {
                    let index = random.below(array.len(&txn) as usize + 1) as u32;
                    array.insert(&mut txn, index, any(&value));
                }
                4 => {
                    let index = random.below(array.len(&txn) as usize + 1) as u32;
                    array.insert_range(&mut txn, index, (0..4).map(|at| Any::from(at as f64)));
                }
                5 if array.len(&txn) > 0 => {
                    let index = random.below(array.len(&txn) as usize) as u32;
                    let count = (1 + random.below(4) as u32).min(array.len(&txn) - index);
                    array.remove_range(&mut txn, index, count);
                }
                6 | 7 => {
                    let piece = *random.pick(&["a", "héllo", "🙂", "x🙂ö🙂z", "日本"]);
                    let index = place(random, &text, &txn);
                    text.insert(&mut txn, index, piece);
                }
                8 if text_len > 0 => {
                    let mut ends = [place(random, &text, &txn), place(random, &text, &txn)];
                    ends.sort_unstable();
                    let count = (ends[1] - ends[0]).min(12);
                    let whole = count == ends[1] - ends[0];
                    if count > 0 && whole {
                        text.remove_range(&mut txn, ends[0], count);
                    }
                }
                9 if text_len > 0 => {
                    let mut ends = [place(random, &text, &txn), place(random, &text, &txn)];
                    ends.sort_unstable();
                    let value = if random.one_in(3) { Any::Null } else { Any::from(true) };
                    let name = *random.pick(&["bold", "em"]);
                    if ends[0] < ends[1] {
                        text.format(
                            &mut txn,
                            ends[0],
                            ends[1] - ends[0],
                            [(name.into(), value)].into(),
                        );
                    }
                }
                10 => {
                    let index = place(random, &text, &txn);
                    text.insert_embed(&mut txn, index, any(&value));
                }
                11 => {
                    let key = format!("k{}", random.below(4));
                    if random.one_in(4) {
                        map.remove(&mut txn, &key);
                    } else {
                        map.insert(&mut txn, key, any(&value));
                    }
                }
                12 => {
                    let nested = MapPrelim::from([
                        ("list", In::from(ArrayPrelim::from([1, 2, 3]))),
                        ("text", In::from(TextPrelim::new("ab🙂"))),
                    ]);
                    if random.one_in(2) {
                        map.insert(&mut txn, format!("n{}", random.below(2)), nested);
                    } else {
                        array.push_back(&mut txn, nested);
                    }
                }
                13 => {
                    if let Some(yrs::Out::YMap(nested)) = map.get(&txn, "n0")
                        && let Some(yrs::Out::YArray(list)) = nested.get(&txn, "list")
                    {
                        let len = list.len(&txn);
                        list.push_back(&mut txn, any(&value));
                        if len > 2 {
                            list.remove(&mut txn, random.below(len as usize) as u32);
                        }
                    }
                }
                14 => {
                    let index = random.below(xml.len(&txn) as usize + 1) as u32;
                    let node = xml.insert(&mut txn, index, XmlElementPrelim::empty("p"));
                    node.insert_attribute(&mut txn, "id", value.to_string());
                    node.insert(&mut txn, 0, XmlTextPrelim::new("t🙂"));
                }
                15 if xml.len(&txn) > 0 => {
                    let index = random.below(xml.len(&txn) as usize) as u32;
                    xml.remove_range(&mut txn, index, 1);
                }
                _ => {
                    let bytes: Arc<[u8]> = Arc::from(&b"bytes"[..]);
                    array.push_back(&mut txn, Any::Buffer(bytes));
                }
            }
        }
    }
}

/// A place in a text that is not within a surrogate pair: yrs cannot cut those.
fn place(random: &mut Random, text: &yrs::TextRef, txn: &impl ReadTxn) -> u32 {
    let mut at = 0;
    let mut places = vec![0];
    for chunk in text.diff(txn, YChange::identity) {
        match chunk.insert {
            yrs::Out::Any(Any::String(text)) => {
                for character in text.chars() {
                    at += character.len_utf16() as u32;
                    places.push(at);
                }
            }
            _ => {
                at += 1;
                places.push(at);
            }
        }
    }
    *random.pick(&places)
}

/// A document that counts text as Yjs does.
pub fn doc(client: u64) -> Doc {
    let mut options = Options::with_client_id(yrs::ClientID::new(client));
    options.offset_kind = OffsetKind::Utf16;
    // A reader does not write; what it would tidy is up to those who do.
    options.cleanup_formatting = false;
    let doc = Doc::with_options(options);
    for name in ARRAYS {
        doc.get_or_insert_array(name);
    }
    doc.get_or_insert_text("text");
    doc.get_or_insert_map("map");
    doc.get_or_insert_xml_fragment("xml");
    doc
}

/// A document that only reads.
pub fn reader() -> Doc {
    doc((1 << 53) - 2)
}

pub fn apply(doc: &Doc, update: &[u8]) {
    let update = yrs::Update::decode_v1(update).expect("yrs reads it");
    doc.transact_mut().apply_update(update).expect("yrs applies it");
}

fn known(vector: &yrs::StateVector, client: u64) -> u32 {
    vector.get(&yrs::ClientID::new(client))
}

/// A document's state vector in our form.
pub fn vector(doc: &Doc) -> HashMap<u64, u32> {
    let vector = doc.transact().state_vector();
    vector.iter().map(|(client, clock)| (client.get(), *clock)).filter(|(_, k)| *k > 0).collect()
}

/// Everything that a document says.
pub fn content(doc: &Doc) -> BTreeMap<String, serde_json::Value> {
    let mut content = BTreeMap::new();
    let text = doc.get_or_insert_text("text");
    let map = doc.get_or_insert_map("map");
    let xml = doc.get_or_insert_xml_fragment("xml");
    for name in ARRAYS {
        let array = doc.get_or_insert_array(name);
        content.insert(name.into(), json(&array.to_json(&doc.transact())));
    }
    let txn = doc.transact();
    let chunks = text.diff(&txn, YChange::identity).into_iter().map(|chunk| {
        let attributes = chunk.attributes.into_iter().flat_map(|attributes| *attributes);
        let attributes: BTreeMap<_, _> =
            attributes.map(|(name, value)| (name.to_string(), json(&value))).collect();
        serde_json::json!([json(&chunk.insert.to_json(&txn)), attributes])
    });
    content.insert("text".into(), chunks.collect());
    content.insert("map".into(), json(&map.to_json(&txn)));
    content.insert("xml".into(), xml.get_string(&txn).into());
    content
}

fn json(any: &Any) -> serde_json::Value {
    serde_json::to_value(any).unwrap()
}

/// The ids of an array's elements, in order.
pub fn ids(doc: &Doc, array: &str) -> Vec<Id> {
    use yrs::IndexedSequence;
    let array = doc.get_or_insert_array(array);
    let txn = doc.transact();
    (0..array.len(&txn))
        .map(|index| {
            let index = array.sticky_index(&txn, index, yrs::Assoc::After).expect("an element");
            let id = index.id().expect("an element's id");
            Id { client: id.client.get(), clock: id.clock }
        })
        .collect()
}

/// An update that pushes values behind an element.
pub fn push(
    client: u64,
    clock: u32,
    origin: Option<Id>,
    array: &str,
    values: &[serde_json::Value],
) -> Vec<u8> {
    let mut out = vec![1, 1];
    write_var(&mut out, client);
    write_var(&mut out, clock as u64);
    write_push(&mut out, origin, array, values);
    out.push(0);
    out
}

/// A struct that pushes values behind an element.
pub fn write_push(
    out: &mut Vec<u8>,
    origin: Option<Id>,
    array: &str,
    values: &[serde_json::Value],
) {
    match origin {
        Some(id) => {
            out.push(0x88);
            write_var(out, id.client);
            write_var(out, id.clock as u64);
        }
        None => {
            out.extend_from_slice(&[8, 1]);
            write_bytes(out, array.as_bytes());
        }
    }
    write_var(out, values.len() as u64);
    values.iter().for_each(|value| write_any(out, value));
}

/// An update that deletes a range.
pub fn delete(client: u64, clock: u32, len: u32) -> Vec<u8> {
    let mut out = vec![0, 1];
    for number in [client, 1, clock as u64, len as u64] {
        write_var(&mut out, number);
    }
    out
}
