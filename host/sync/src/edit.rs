//! Changes that the server itself makes to a document, and how they are written as updates.
//!
//! An update names the exact place of every new element: its author's next clock, and the elements
//! beside it. An [`Edit`] says only what should change; [`Edit::write`] fills in the rest from what
//! the document holds at that moment, so it must be applied before anything else is.

use std::collections::HashMap;

use crate::any::Any;
use crate::lib0::{Malformed, write_bytes, write_var};
use crate::update::{ANY, Id, Update, write_id, write_string};

/// Changes to a document that the server makes itself.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Edit {
    /// Values to push to the end of an array, with the array's name. Their ids follow each other in
    /// this order.
    pub pushes: Vec<(String, Any)>,
    /// Text to insert.
    pub insertions: Vec<Insertion>,
    /// Runs of elements to delete: the first one, and how many.
    pub deletes: Vec<(Id, u32)>,
}

/// Text to insert between two elements of a text at the top of the document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Insertion {
    /// The text's name in the document.
    pub root: String,
    /// The element to its left; `None` at the start.
    pub origin: Option<Id>,
    /// The element to its right; `None` at the end.
    pub right_origin: Option<Id>,
    /// What to insert; not empty.
    pub text: String,
}

impl Edit {
    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        self.pushes.is_empty() && self.insertions.is_empty() && self.deletes.is_empty()
    }

    /// Writes the edit as an update whose new elements start at `next`. `tail` gives the element
    /// that an array's pushes go behind. `None` when there is nothing to do.
    pub(crate) fn write(
        &self,
        next: Id,
        tail: impl Fn(&str) -> Option<Id>,
    ) -> Result<Option<Update>, Malformed> {
        if self.is_empty() {
            return Ok(None);
        }
        // Values for one array that follow each other become one struct, as if a client had pushed
        // them at once.
        let runs: Vec<_> = self.pushes.chunk_by(|(one, _), (next, _)| one == next).collect();
        let mut out = Vec::new();
        let structs = runs.len() + self.insertions.len();
        if structs == 0 {
            write_var(&mut out, 0);
        } else {
            write_var(&mut out, 1);
            write_var(&mut out, structs as u64);
            write_id(&mut out, next);
        }
        let mut clock = next.clock;
        let mut tails: HashMap<&str, Id> = HashMap::new();
        for run in runs {
            let Some((array, _)) = run.first() else { continue };
            match tails.get(array.as_str()).copied().or_else(|| tail(array)) {
                Some(origin) => {
                    out.push(ANY | 0x80);
                    write_id(&mut out, origin);
                }
                None => {
                    out.push(ANY);
                    out.push(1);
                    write_bytes(&mut out, array.as_bytes());
                }
            }
            write_var(&mut out, run.len() as u64);
            for (_, value) in run {
                out.extend_from_slice(value.bytes());
            }
            clock = clock.saturating_add(run.len() as u32);
            tails.insert(array, Id { clock: clock.saturating_sub(1), ..next });
        }
        for Insertion { root, origin, right_origin, text } in &self.insertions {
            write_string(&mut out, (*origin, *right_origin), root, text);
        }
        write_deletes(&mut out, &self.deletes);
        Update::scan(out.into()).map(Some)
    }
}

/// Writes a delete set. Runs that touch or overlap become one, as the format wants them.
fn write_deletes(out: &mut Vec<u8>, deletes: &[(Id, u32)]) {
    let mut sorted = deletes.to_vec();
    sorted.sort_unstable();
    let mut clients: Vec<(u64, Vec<(u32, u32)>)> = Vec::new();
    for (id, len) in sorted {
        let end = id.clock + len;
        match clients.last_mut() {
            Some((client, ranges)) if *client == id.client => match ranges.last_mut() {
                Some((_, last)) if *last >= id.clock => *last = end.max(*last),
                _ => ranges.push((id.clock, end)),
            },
            _ => clients.push((id.client, vec![(id.clock, end)])),
        }
    }
    write_var(out, clients.len() as u64);
    for (client, ranges) in clients {
        write_var(out, client);
        write_var(out, ranges.len() as u64);
        for (start, end) in ranges {
            write_var(out, start as u64);
            write_var(out, (end - start) as u64);
        }
    }
}
