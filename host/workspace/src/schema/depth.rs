//! How deep a JSON Schema makes its validator recurse.
//!
//! Compiling a schema recurses along its references, and so does validating with it, for each level of the
//! value again. A plugin's schema must not be able to overflow a thread's stack, which ends the
//! process. So both depths are bounded here before the schema is compiled.
//!
//! - *In place* lead keywords whose schema is about the same value: `$ref`, `allOf`, `not` and so on. A chain
//!   of them that comes back to its start would never end; a long one costs a frame for each link and level.
//! - All keywords together lead at most as deep as the schema is nested plus, for each schema that something
//!   refers to, as that is nested.

use std::collections::HashMap;

use serde_json::Value;

/// The longest chain of schemas that are about one value.
pub(super) const MOST_IN_PLACE: usize = 64;
/// The most levels that the references of a schema can lead through.
pub(super) const MOST_LEVELS: usize = 2048;

/// Keywords whose one schema is about the same value.
const ONE: [&str; 4] = ["not", "if", "then", "else"];
/// Keywords with a list of such schemas.
const LIST: [&str; 3] = ["allOf", "anyOf", "oneOf"];
/// Keywords with such schemas by name.
const NAMED: [&str; 2] = ["dependentSchemas", "dependencies"];
/// Keywords that refer to another schema.
const REFERENCES: [&str; 3] = ["$ref", "$dynamicRef", "$recursiveRef"];

/// How deep a schema leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Depth {
    /// The longest chain in place.
    pub chain: usize,
    /// Levels by all keywords together, at most.
    pub levels: usize,
}

/// Measures a schema. The error says what is too deep, or cannot be followed.
pub(super) fn measure(schema: &Value) -> Result<Depth, String> {
    let mut walk = Walk { schema, anchors: HashMap::new(), known: HashMap::new() };
    let mut targets = Vec::new();
    walk.collect(schema, &mut targets);
    let mut levels = height(schema);
    let mut seen = std::collections::HashSet::new();
    for target in targets {
        let part = walk.target(&target)?;
        if seen.insert(std::ptr::from_ref(part)) {
            levels += height(part);
        }
    }
    if levels > MOST_LEVELS {
        return Err(format!(
            "its references can lead through {levels} levels; {MOST_LEVELS} is the most, so use fewer of them"
        ));
    }
    Ok(Depth { chain: walk.all(schema)?, levels })
}

struct Walk<'s> {
    schema: &'s Value,
    anchors: HashMap<&'s str, &'s Value>,
    /// The chain from each schema; none while it is being followed.
    known: HashMap<*const Value, Option<usize>>,
}

impl<'s> Walk<'s> {
    /// Collects anchors, and what is referred to.
    fn collect(&mut self, part: &'s Value, targets: &mut Vec<String>) {
        match part {
            Value::Object(members) => {
                for keyword in ["$anchor", "$dynamicAnchor"] {
                    if let Some(name) = part[keyword].as_str() {
                        self.anchors.insert(name, part);
                    }
                }
                let references = REFERENCES.iter().filter_map(|keyword| part[*keyword].as_str());
                targets.extend(references.map(str::to_owned));
                members.values().for_each(|member| self.collect(member, targets));
            }
            Value::Array(members) => members.iter().for_each(|m| self.collect(m, targets)),
            _ => {}
        }
    }

    fn target(&self, reference: &str) -> Result<&'s Value, String> {
        let base = self.schema["$id"].as_str().unwrap_or_default();
        let local = reference.strip_prefix(base).unwrap_or(reference);
        let found = match local.strip_prefix('#') {
            Some("") => Some(self.schema),
            Some(pointer) if pointer.starts_with('/') => self.schema.pointer(&decoded(pointer)),
            Some(anchor) => self.anchors.get(anchor).copied(),
            None => None,
        };
        found.ok_or_else(|| {
            format!("{reference:?} cannot be followed; refer to a part of the same schema, as \"#/$defs/name\" does")
        })
    }

    /// The longest chain in place of all schemas in this one.
    fn all(&mut self, part: &'s Value) -> Result<usize, String> {
        let mut longest = self.chain(part, 0)?;
        match part {
            Value::Object(members) => {
                for member in members.values() {
                    longest = longest.max(self.all(member)?);
                }
            }
            Value::Array(members) => {
                for member in members {
                    longest = longest.max(self.all(member)?);
                }
            }
            _ => {}
        }
        Ok(longest)
    }

    /// The longest chain in place from a schema, which is reached by so many links.
    fn chain(&mut self, part: &'s Value, links: usize) -> Result<usize, String> {
        if !part.is_object() {
            return Ok(0);
        }
        match self.known.get(&std::ptr::from_ref(part)) {
            Some(Some(chain)) => return Ok(*chain),
            Some(None) => {
                return Err(
                    "it refers to itself without looking into the value, which never ends".into()
                );
            }
            None => {}
        }
        let too_long = || {
            format!(
                "more than {MOST_IN_PLACE} references lead to each other about one value; shorten the chain"
            )
        };
        if links > MOST_IN_PLACE {
            return Err(too_long());
        }
        self.known.insert(part, None);
        let mut next: Vec<&'s Value> = Vec::new();
        for keyword in REFERENCES {
            if let Some(reference) = part[keyword].as_str() {
                next.push(self.target(reference)?);
            }
        }
        next.extend(ONE.iter().filter_map(|keyword| part.get(keyword)));
        next.extend(
            LIST.iter().flat_map(|keyword| part[*keyword].as_array().into_iter().flatten()),
        );
        let named = NAMED.iter().filter_map(|keyword| part[*keyword].as_object());
        next.extend(named.flat_map(|schemas| schemas.values()));
        let mut longest = 0;
        for schema in next {
            longest = longest.max(1 + self.chain(schema, links + 1)?);
        }
        if longest > MOST_IN_PLACE {
            return Err(too_long());
        }
        self.known.insert(part, Some(longest));
        Ok(longest)
    }
}

/// How deep a value is nested.
pub(super) fn height(value: &Value) -> usize {
    1 + match value {
        Value::Object(members) => members.values().map(height).max().unwrap_or(0),
        Value::Array(members) => members.iter().map(height).max().unwrap_or(0),
        _ => 0,
    }
}

/// A pointer in a URL fragment may have percent signs.
fn decoded(pointer: &str) -> String {
    let mut bytes = Vec::with_capacity(pointer.len());
    let mut rest = pointer.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let hex = after.get(..2).filter(|_| *first == b'%');
        let byte = hex.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        bytes.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
