//! The members of rows, found without parsing rows again.
//!
//! A query looks into every row of its table, and the rows hardly change between one query and the
//! next. So a row remembers, from the first query on, where in its JSON text each member is: twelve
//! bytes for each, nothing for rows that nobody ever queried. A member is read from there when it is
//! compared, which costs about as much as to compare it.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::sync::OnceLock;

use jiff::Timestamp;
use serde::Deserializer;
use serde::de::{MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

/// Where the members of one row's text are.
#[derive(Debug, Default)]
pub(crate) struct Members(OnceLock<Option<Box<[Member]>>>);

/// Offsets into the row's text.
#[derive(Debug, Clone, Copy)]
struct Member {
    /// Of the name's first byte, behind the quote.
    name: u32,
    value: u32,
    /// Of what follows the value.
    end: u32,
}

/// A row's text and what is known of its members.
#[derive(Clone, Copy)]
pub(crate) struct Fields<'a> {
    text: &'a str,
    members: &'a Members,
}

/// A member, as it is compared.
#[derive(Debug, Clone)]
pub(crate) enum Field<'a> {
    /// Also a member that is missing.
    Null,
    Bool(bool),
    /// Numbers are what they are in the documents, in which JavaScript wrote them.
    Number(f64),
    /// A text that says when, of a field whose schema has `format: date-time`. Boxed, so that all other fields
    /// are as small as a text: a query moves one for each row that it looks at.
    Time(Box<(Timestamp, Cow<'a, str>)>),
    Text(Cow<'a, str>),
    /// An array or an object.
    Other(Cow<'a, Value>),
}

impl<'a> Fields<'a> {
    /// `members` belong to this text, and to no other.
    pub fn new(text: &'a str, members: &'a Members) -> Self {
        Self { text, members }
    }

    /// The row as JSON text.
    pub fn text(self) -> &'a str {
        self.text
    }

    /// A member's value.
    pub fn get(self, name: &str) -> Field<'a> {
        match self.members.0.get_or_init(|| find(self.text)) {
            Some(members) => {
                let value = members.iter().rev().find(|member| member.is(name, self.text));
                value.map_or(Field::Null, |member| Field::read(member.value(self.text)))
            }
            None => parse(self.text).get(name).map_or(Field::Null, |value| value.clone().into()),
        }
    }

    /// An object of the members that are wanted, in the row's own order.
    pub fn project(self, wanted: &[String]) -> String {
        let Some(members) = self.members.0.get_or_init(|| find(self.text)) else {
            let mut row = parse(self.text);
            if let Some(row) = row.as_object_mut() {
                row.retain(|name, _| wanted.contains(name));
            }
            return row.to_string();
        };
        let mut object = String::from("{");
        for member in members {
            let Some(name) = wanted.iter().find(|name| member.is(name, self.text)) else {
                continue;
            };
            let comma = if object.len() > 1 { "," } else { "" };
            object.extend([comma, "\"", name, "\":", member.value(self.text)]);
        }
        object.push('}');
        object
    }
}

impl Member {
    fn is(&self, name: &str, text: &str) -> bool {
        let rest = &text.as_bytes()[self.name as usize..];
        rest.starts_with(name.as_bytes())
            && rest.get(name.len()) == Some(&b'"')
            // It would go on beyond the member's own name.
            && !name.contains('"')
    }

    fn value<'a>(&self, text: &'a str) -> &'a str {
        &text[self.value as usize..self.end as usize]
    }
}

fn parse(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or(Value::Null)
}

/// Finds the members of an object. None where a name is written with escapes, and so is not found as
/// it is asked for. Of members with the same name the last counts.
fn find(text: &str) -> Option<Box<[Member]>> {
    struct Object<'a>(&'a str);

    impl<'de> Visitor<'de> for Object<'de> {
        type Value = Option<Vec<Member>>;

        fn expecting(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
            formatter.write_str("a row")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut members = Some(Vec::new());
            while let Some((name, value)) = map.next_entry::<&RawValue, &RawValue>()? {
                let (name, value) = (name.get(), value.get());
                // A row is smaller than 4 GiB by far.
                let at = |part: &str| (part.as_ptr() as usize - self.0.as_ptr() as usize) as u32;
                let member = Member {
                    name: at(name) + 1,
                    value: at(value),
                    end: at(value) + value.len() as u32,
                };
                members = members.filter(|_| !name.contains('\\'));
                if let Some(members) = &mut members {
                    members.push(member);
                }
            }
            Ok(members)
        }
    }

    let mut reader = serde_json::Deserializer::from_str(text);
    reader.deserialize_map(Object(text)).ok().flatten().map(Vec::into_boxed_slice)
}

impl<'a> Field<'a> {
    /// Reads JSON text.
    fn read(json: &'a str) -> Self {
        match json.as_bytes() {
            [b'"', inner @ .., b'"'] if !inner.contains(&b'\\') => {
                Self::Text(json[1..json.len() - 1].into())
            }
            // Most numbers are short integers, which need no parser.
            digits @ [b'0'..=b'9', ..]
                if digits.len() < 16 && digits.iter().all(u8::is_ascii_digit) =>
            {
                let number = digits.iter().fold(0, |n, digit| n * 10 + u64::from(digit - b'0'));
                Self::Number(number as f64)
            }
            b"true" => Self::Bool(true),
            b"false" => Self::Bool(false),
            _ => parse(json).into(),
        }
    }

    /// A value that is not a row's.
    pub fn of(value: &'a Value) -> Self {
        match value {
            Value::String(text) => Self::Text(text.into()),
            Value::Array(_) | Value::Object(_) => Self::Other(Cow::Borrowed(value)),
            simple => simple.clone().into(),
        }
    }

    /// The same as a time, where it is a text that says when: `10:00:00+02:00` is `08:00:00Z`.
    pub fn into_time(self) -> Self {
        match self {
            Self::Text(text) => match text.parse() {
                Ok(time) => Self::Time(Box::new((time, text))),
                Err(_) => Self::Text(text),
            },
            other => other,
        }
    }

    /// The same, not bound to the row.
    pub fn into_value(self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Bool(value) => value.into(),
            Self::Number(number) => number.into(),
            Self::Time(time) => time.1.into_owned().into(),
            Self::Text(text) => text.into_owned().into(),
            Self::Other(value) => value.into_owned(),
        }
    }

    /// Whether both are of one kind, so that one can be greater than the other.
    pub fn comparable(&self, other: &Self) -> bool {
        self.rank() == other.rank()
    }

    /// A total order: by kind first, then by value.
    pub fn compare(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Bool(a), Self::Bool(b)) => a.cmp(b),
            // JSON knows no number that is none; those that are equal are so with either sign.
            (Self::Number(a), Self::Number(b)) => a.partial_cmp(b).unwrap_or(Ordering::Equal),
            (Self::Time(a), Self::Time(b)) => a.0.cmp(&b.0),
            (Self::Text(a), Self::Text(b)) => a.cmp(b),
            (Self::Other(a), Self::Other(b)) if self.comparable(other) => {
                a.to_string().cmp(&b.to_string())
            }
            _ => self.rank().cmp(&other.rank()),
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Self::Null => 0,
            Self::Bool(_) => 1,
            Self::Number(_) => 2,
            Self::Time(..) => 3,
            Self::Text(_) => 4,
            Self::Other(value) if value.is_array() => 5,
            Self::Other(_) => 6,
        }
    }
}

impl PartialEq for Field<'_> {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::Number(a), Self::Number(b)) => a == b,
            (Self::Time(a), Self::Time(b)) => a.0 == b.0,
            (Self::Text(a), Self::Text(b)) => a == b,
            (Self::Other(a), Self::Other(b)) => same(a, b),
            _ => false,
        }
    }
}

/// Whether two values are equal, numbers within them compared as numbers: 1 and 1.0 are one.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            let mut members = a.iter();
            a.len() == b.len() && members.all(|(name, a)| b.get(name).is_some_and(|b| same(a, b)))
        }
        _ => a == b,
    }
}

impl From<Value> for Field<'_> {
    fn from(value: Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(value) => Self::Bool(value),
            Value::Number(number) => Self::Number(number.as_f64().unwrap_or_default()),
            Value::String(text) => Self::Text(text.into()),
            other => Self::Other(Cow::Owned(other)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn members_are_those_of_the_text() {
        let rows = [
            r#"{"a":1,"b":"x","c":[1,{"a":2}],"d":{"b":"}"},"e":null,"f":true,"g":-2.5e3}"#,
            r#" { "a" : "\"\u0041" , "ab":"", "b":12345678901234567890 } "#,
            r#"{"\u0061":1,"b":"a name that is written with an escape"}"#,
            r#"{"a":1,"b":2,"a":3}"#,
            r#"{"a\"":1,"b":"é","":0}"#,
            "{}",
            "[]",
        ];
        for row in rows {
            let value: Value = serde_json::from_str(row).unwrap();
            let members = Members::default();
            let fields = Fields::new(row, &members);
            for name in ["a", "ab", "b", "c", "d", "e", "f", "g", "a\"", "a\":1,\"b", "", "id"] {
                let expected: Field = value.get(name).cloned().unwrap_or_default().into();
                assert_eq!(fields.get(name), expected, "{name:?} of {row}");
            }
            let mut wanted = value.clone();
            if let Some(object) = wanted.as_object_mut() {
                object.retain(|name, _| name == "b" || name == "c");
                let projected = fields.project(&["b".into(), "c".into()]);
                assert_eq!(serde_json::from_str::<Value>(&projected).unwrap(), wanted, "{row}");
            }
        }
    }

    #[test]
    fn what_is_equal_is_so_within_arrays_and_objects_too() {
        let field = |value: Value| -> Field { value.into() };
        assert_eq!(
            field(json!([1, { "a": 2.0, "b": [] }])),
            field(json!([1.0, { "b": [], "a": 2 }]))
        );
        for other in
            [json!([1]), json!([1, { "a": 2 }]), json!([1, { "a": 2, "c": [] }]), json!({})]
        {
            assert_ne!(field(json!([1, { "a": 2, "b": [] }])), field(other));
        }
    }

    #[test]
    fn kinds_come_one_after_the_other() {
        let values = [
            json!(null),
            json!(false),
            json!(true),
            json!(-3),
            json!(2.5),
            json!(10),
            json!("10"),
            json!("9"),
            json!([2]),
            json!({"a": 1}),
        ];
        for (at, a) in values.iter().enumerate() {
            for (other, b) in values.iter().enumerate() {
                let (x, y): (Field, Field) = (a.clone().into(), b.clone().into());
                assert_eq!(x.compare(&y), at.cmp(&other), "{a} and {b}");
            }
        }
    }
}
