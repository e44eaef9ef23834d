//! Values in the encoding in which a document keeps them.

use bytes::Bytes;
use serde_json::Value;

use crate::lib0::{MAX_DEPTH, Malformed, Reader, write_any, write_bytes, write_var};

/// A value in lib0's "any" encoding, as it stands in an update. It is encoded once, where there is
/// time, and the room's task only copies bytes; likewise a value that came in an update is decoded
/// only by a reader who wants to know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Any(Bytes);

impl Any {
    /// Encodes a JSON value.
    pub fn of(value: &Value) -> Self {
        let mut out = Vec::new();
        write_any(&mut out, value);
        Self(out.into())
    }

    /// An object of members that are encoded already.
    pub fn object(members: &[(&str, &Self)]) -> Self {
        let size: usize = members.iter().map(|(name, value)| name.len() + value.0.len() + 9).sum();
        let mut out = Vec::with_capacity(size);
        out.push(118);
        write_var(&mut out, members.len() as u64);
        for (name, value) in members {
            write_bytes(&mut out, name.as_bytes());
            out.extend_from_slice(&value.0);
        }
        Self(out.into())
    }

    /// A value that was scanned as part of an update.
    pub(crate) fn scanned(bytes: &[u8]) -> Self {
        Self(Bytes::copy_from_slice(bytes))
    }

    /// The encoding.
    pub fn bytes(&self) -> &Bytes {
        &self.0
    }

    /// The value as everyone who reads the document sees it. That is not always the JSON it was made
    /// of: a document has JavaScript's numbers, to which 1.0 is 1. The error is that it is nested
    /// too deep to be read.
    pub fn json(&self) -> Result<Value, Malformed> {
        Reader::new(&self.0).json(MAX_DEPTH)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_object_of_encoded_members_is_the_object_encoded() {
        let (key, value) = (json!("a"), json!({ "list": [1, 0.5, null], "text": "ö" }));
        let object = Any::object(&[("key", &Any::of(&key)), ("val", &Any::of(&value))]);
        assert_eq!(object, Any::of(&json!({ "key": key, "val": value })));
    }
}
