//! The way of a write, from a request's body to the index.
//!
//! A row is JSON text to the caller and to the plugin, and lib0's "any" encoding to the document. Each
//! conversion costs about as much as everything else that happens to a small row, so each is done once,
//! and none on the room's task, which all writers of a document share:
//!
//! 1. The body is parsed at the edge (`http`), where a row without an id gets one.
//! 2. The plugin is sent the row as text, and answers with the row's current form. Usually that is the
//!    text that it was sent, which was parsed at the edge. Only a different text is parsed again
//!    ([`Sent::parse`]).
//! 3. The value is checked and encoded here, as [`Written`], on the writer's own task.
//! 4. On the room's task `Index::write` puts key and time around the encoded value, notes under which
//!    id the entry will stand, and hands the bytes to the room.
//! 5. The room tells the index of the new entry by its id, with its bytes. They are those that were
//!    noted, so its text is known, and so is its parse: nothing is decoded, and the plugin is not asked
//!    a second time. `generation` takes both from the index, by that id.
//!
//! **What is stored is what is shown.** A document has JavaScript's numbers: 1.0 comes back as 1,
//! for every client that syncs as well. [`Written::value`] is therefore the text of what the *document*
//! gives back, taken from the encoding itself where there is a number that may change. The plugin has
//! not seen such a value yet, so its answer is not passed on as the parse of it: it is asked again, as
//! for a row that came by sync. Integers beyond 2^53 would come back as other numbers, and are refused.
//!
//! **Why ids and bytes.** An edit may be refused after it was noted, and its id may then be reused, by
//! the server or by a client that lies about its own. Text and parse depend only on the bytes, so the
//! note counts only for an entry with that id *and* those bytes. A note is dropped once its edit was told.

use std::borrow::Cow;
use std::sync::Arc;

use host_sync::Any;
use serde_json::Value;

use crate::definition::Issue;
use crate::error::ActionError;

/// The largest integer that a document counts exactly.
const EXACT: u64 = (1 << 53) - 1;

/// A value that is to be written, in all the forms that are needed on the way.
#[derive(Debug, Clone)]
pub(crate) struct Written {
    /// JSON text as the plugin gave it: the current form.
    pub text: Arc<str>,
    /// JSON text as the document gives it back.
    pub value: Arc<str>,
    /// Whether `text` is what the plugin makes of `value`; otherwise it has to be asked.
    pub current: bool,
    /// As it stands in the document.
    pub encoded: Any,
}

/// A value on its way to the plugin.
pub(crate) struct Sent<'a> {
    /// JSON text, as the plugin gets it.
    pub text: String,
    /// What that parses to; none where it comes from a plugin and nobody has looked.
    value: Option<&'a Value>,
}

impl<'a> Sent<'a> {
    /// A value that was parsed at the edge.
    pub fn of(value: &'a Value) -> Self {
        Self { text: value.to_string(), value: Some(value) }
    }

    /// Text that nobody has parsed.
    pub fn unread(text: String) -> Self {
        Self { text, value: None }
    }

    /// What the plugin's answer parses to.
    pub fn parse(&self, answer: &str) -> Result<Cow<'a, Value>, ActionError> {
        match self.value {
            Some(value) if self.text == answer => Ok(Cow::Borrowed(value)),
            _ => serde_json::from_str(answer)
                .map(Cow::Owned)
                .map_err(|error| ActionError::Failed(format!("the plugin gave no JSON: {error}"))),
        }
    }
}

impl Written {
    /// A value as it stood in the document, to be put back. The plugin is asked for its parse.
    pub fn stored(text: Arc<str>, value: &Value) -> Self {
        Self { text: text.clone(), value: text, current: false, encoded: Any::of(value) }
    }

    /// A value and the text that the plugin gave of it. The error is a number that no document can hold.
    pub fn new(text: &str, value: &Value) -> Result<Self, Issue> {
        let exact = check_numbers(value)?;
        let encoded = Any::of(value);
        let stored = match exact {
            true => Cow::Borrowed(value),
            // One that is nested too deep to be read back is refused by the room.
            false => encoded.json().map_or(Cow::Borrowed(value), Cow::Owned),
        };
        let current = *stored == *value;
        let (text, stored): (Arc<str>, _) = (text.into(), stored.to_string());
        // Most plugins give the row as we would write it: one text in memory is enough.
        let value = if *stored == *text { text.clone() } else { stored.into() };
        Ok(Self { text, value, current, encoded })
    }
}

/// Refuses integers that a document does not hold exactly. True when every number comes back from a
/// document as it is here; fractions may not.
fn check_numbers(value: &Value) -> Result<bool, Issue> {
    match value {
        Value::Number(number) => match number.as_u64().or(number.as_i64().map(i64::unsigned_abs)) {
            Some(integer) if integer > EXACT => {
                Err(Issue::whole(format!("is beyond {EXACT}, as far as a document counts exactly")))
            }
            integer => Ok(integer.is_some()),
        },
        Value::Array(list) => list.iter().enumerate().try_fold(true, |exact, (at, member)| {
            Ok(exact & check_numbers(member).map_err(|issue| issue.within(at))?)
        }),
        Value::Object(object) => object.iter().try_fold(true, |exact, (name, member)| {
            Ok(exact & check_numbers(member).map_err(|issue| issue.within(name))?)
        }),
        _ => Ok(true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a reader of the document sees in place of a value, and whether the plugin's answer holds.
    fn stored(text: &str) -> (String, bool) {
        let value: Value = serde_json::from_str(text).unwrap();
        let written = Written::new(text, &value).unwrap();
        assert_eq!(written.encoded.json().unwrap().to_string(), *written.value, "{text}");
        (written.value.to_string(), written.current)
    }

    #[test]
    fn the_value_is_what_a_document_gives_back() {
        let cases = [
            (r#"{"b":1,"a":[true,null,"ö"]}"#, r#"{"b":1,"a":[true,null,"ö"]}"#, true),
            ("{ \"a\": 1 }", r#"{"a":1}"#, true),
            ("1.0", "1", false),
            ("[0.5,-0.25,0.1]", "[0.5,-0.25,0.1]", true),
            ("-0.0", "0", false),
            ("1e2", "100", false),
            ("9007199254740991", "9007199254740991", true),
            ("-9007199254740991", "-9007199254740991", true),
            ("2147483648", "2147483648", true),
            ("1e300", "1e+300", true),
            (r#"{"a":1,"b":2,"a":3}"#, r#"{"a":3,"b":2}"#, true),
        ];
        for (text, expected, current) in cases {
            assert_eq!(stored(text), (expected.to_owned(), current), "{text}");
        }
    }

    #[test]
    fn a_number_that_a_document_would_change_is_refused_by_its_place() {
        for text in ["9007199254740992", "-9007199254740993", "18446744073709551615"] {
            let value = serde_json::from_str(&format!("{{\"a\":[0.5,{text}]}}")).unwrap();
            let issue = Written::new("", &value).unwrap_err();
            assert_eq!(issue.path, ["a", "1"], "{text}");
        }
    }

    #[test]
    fn an_answer_that_was_sent_so_is_not_parsed_again() {
        let value = serde_json::json!({ "id": "a" });
        let sent = Sent::of(&value);
        assert!(matches!(sent.parse(r#"{"id":"a"}"#), Ok(Cow::Borrowed(_))));
        assert!(matches!(sent.parse(r#"{"id":"a","n":0}"#), Ok(Cow::Owned(_))));
        assert!(sent.parse("{").is_err());
    }
}
