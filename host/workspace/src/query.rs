//! Which rows a list selects, and in which order.

use std::borrow::Cow;
use std::cmp::Ordering;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserializer;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

use crate::definition::{Issue, TableDefinition};
use crate::logic::ActionError;

/// Rows of a page when a query does not say.
pub const DEFAULT_LIMIT: usize = 1_000;
/// The most rows of a page.
pub const MAX_LIMIT: usize = 10_000;

/// Which rows, in which order. All filters must hold. Without an order: by id.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Query {
    /// Conditions; all must hold.
    pub filters: Vec<Filter>,
    /// The order, most significant first; then by id.
    pub sort: Vec<Order>,
    /// At most so many rows.
    pub limit: Option<u32>,
    /// Where the page before said that it goes on.
    pub cursor: Option<String>,
}

/// One condition on a row.
#[derive(Debug, Clone, PartialEq)]
pub struct Filter {
    /// A member of the row.
    pub field: String,
    /// How it is compared.
    pub operator: Operator,
    /// With what.
    pub value: Value,
}

/// How a field is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// Equal.
    Eq,
    /// Not equal; also when the field is missing.
    Ne,
    /// Greater.
    Gt,
    /// Greater or equal.
    Gte,
    /// Less.
    Lt,
    /// Less or equal.
    Lte,
    /// Equal to one of an array.
    In,
    /// A string that contains another, or an array that contains a value.
    Contains,
    /// A string that begins with another.
    Prefix,
    /// Present and not null, or not.
    Exists,
}

impl Operator {
    /// All of them, by the name that they have in URLs and in the contract.
    pub const NAMED: [(&'static str, Self); 10] = [
        ("eq", Self::Eq),
        ("ne", Self::Ne),
        ("gt", Self::Gt),
        ("gte", Self::Gte),
        ("lt", Self::Lt),
        ("lte", Self::Lte),
        ("in", Self::In),
        ("contains", Self::Contains),
        ("prefix", Self::Prefix),
        ("exists", Self::Exists),
    ];
}

/// One key of the sort order.
#[derive(Debug, Clone, PartialEq)]
pub struct Order {
    /// A member of the row.
    pub field: String,
    /// Highest first.
    pub descending: bool,
}

/// A part of the rows that a query selects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Rows, as JSON text.
    pub rows: Vec<String>,
    /// The cursor of the next page; none on the last.
    pub next: Option<String>,
}

impl Filter {
    fn holds(&self, row: &Value) -> bool {
        let field = row.get(&self.field).unwrap_or(&Value::Null);
        let wanted = &self.value;
        let ordered = |allowed: &[Ordering]| {
            same_kind(field, wanted) && allowed.contains(&compare(field, wanted))
        };
        use Ordering::{Equal, Greater, Less};
        match self.operator {
            Operator::Eq => equal(field, wanted),
            Operator::Ne => !equal(field, wanted),
            Operator::Gt => ordered(&[Greater]),
            Operator::Gte => ordered(&[Greater, Equal]),
            Operator::Lt => ordered(&[Less]),
            Operator::Lte => ordered(&[Less, Equal]),
            Operator::In => {
                wanted.as_array().is_some_and(|list| list.iter().any(|one| equal(field, one)))
            }
            Operator::Contains => match (field, wanted) {
                (Value::String(text), Value::String(part)) => text.contains(part.as_str()),
                (Value::Array(list), one) => list.iter().any(|member| equal(member, one)),
                _ => false,
            },
            Operator::Prefix => match (field, wanted) {
                (Value::String(text), Value::String(part)) => text.starts_with(part.as_str()),
                _ => false,
            },
            Operator::Exists => field.is_null() != wanted.as_bool().unwrap_or(true),
        }
    }
}

/// Whether all filters hold for a row, given as JSON text.
pub(crate) fn selects(filters: &[Filter], row: &str) -> bool {
    filters.is_empty() || hold(filters, &parse(row, &|field| named(filters, field)))
}

/// How many rows (id and JSON text) fulfil all filters.
pub(crate) fn count<'a>(
    filters: &[Filter],
    rows: impl Iterator<Item = (&'a str, &'a str)>,
) -> usize {
    rows.filter(|(_, text)| selects(filters, text)).count()
}

fn hold(filters: &[Filter], row: &Value) -> bool {
    filters.iter().all(|filter| filter.holds(row))
}

fn named(filters: &[Filter], field: &str) -> bool {
    filters.iter().any(|filter| filter.field == field)
}

/// The members of a row that are wanted. To pass over the others costs a fraction of making values
/// of them, and a list looks into every row of its table.
fn parse(text: &str, wanted: &dyn Fn(&str) -> bool) -> Value {
    #[derive(serde::Deserialize)]
    struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

    struct Members<'a>(&'a dyn Fn(&str) -> bool);

    impl<'de> Visitor<'de> for Members<'_> {
        type Value = Value;

        fn expecting(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
            formatter.write_str("a row")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
            let mut row = serde_json::Map::new();
            while let Some(Name(name)) = map.next_key()? {
                if self.0(&name) {
                    row.insert(name.into_owned(), map.next_value()?);
                } else {
                    map.next_value::<IgnoredAny>()?;
                }
            }
            Ok(Value::Object(row))
        }
    }

    let mut reader = serde_json::Deserializer::from_str(text);
    reader.deserialize_map(Members(wanted)).unwrap_or(Value::Null)
}

/// Checks that a query names only fields that the table has.
pub(crate) fn check_fields<'a>(
    table: &TableDefinition,
    fields: impl Iterator<Item = &'a str>,
) -> Result<(), ActionError> {
    let Some(known) = table.versions.last().and_then(|schema| schema["properties"].as_object())
    else {
        return Ok(());
    };
    let issues: Vec<_> = fields
        .filter(|field| !known.contains_key(*field) && !matches!(*field, "id" | "_v"))
        .map(|field| Issue::at(field, format!("table {} has no such field", table.name)))
        .collect();
    if issues.is_empty() { Ok(()) } else { Err(ActionError::Invalid(issues)) }
}

/// The rows of a page: id and JSON text.
pub(crate) struct Selected<'a> {
    pub rows: Vec<(&'a str, &'a str)>,
    /// The cursor of the next page; none on the last.
    pub next: Option<String>,
}

/// Selects at most `limit` rows from those (id and JSON text) that come in the order of their ids.
pub(crate) fn select<'a>(
    query: &Query,
    limit: usize,
    rows: impl Iterator<Item = (&'a str, &'a str)>,
) -> Result<Selected<'a>, ActionError> {
    let after =
        query.cursor.as_deref().map(|cursor| read_cursor(cursor, &query.sort)).transpose()?;
    if query.sort.is_empty() {
        let after = after.as_ref().map(|key| key.id.as_str());
        let mut rows = rows
            .filter(|(id, _)| after.is_none_or(|after| *id > after))
            .filter(|(_, text)| selects(&query.filters, text));
        let page: Vec<_> = rows.by_ref().take(limit).collect();
        let next = page.last().filter(|_| rows.next().is_some());
        let next = next.map(|(id, _)| Key { fields: Vec::new(), id: (*id).to_owned() }.write());
        return Ok(Selected { rows: page, next });
    }
    let mut selected: Vec<(Key, &str, &str)> = rows
        .filter_map(|(id, text)| {
            let row = parse(text, &|field| {
                named(&query.filters, field) || query.sort.iter().any(|key| key.field == field)
            });
            hold(&query.filters, &row).then(|| (Key::of(&row, id, &query.sort), id, text))
        })
        .filter(|(key, ..)| {
            after.as_ref().is_none_or(|after| key.compare(after, &query.sort).is_gt())
        })
        .collect();
    selected.sort_unstable_by(|(a, ..), (b, ..)| a.compare(b, &query.sort));
    let more = selected.len() > limit;
    selected.truncate(limit);
    let next = selected.last().filter(|_| more).map(|(key, ..)| key.write());
    Ok(Selected { rows: selected.into_iter().map(|(_, id, text)| (id, text)).collect(), next })
}

/// A row's place in the order.
#[derive(Debug)]
struct Key {
    fields: Vec<Value>,
    id: String,
}

impl Key {
    fn of(row: &Value, id: &str, sort: &[Order]) -> Self {
        let field = |order: &Order| row.get(&order.field).cloned().unwrap_or(Value::Null);
        Self { fields: sort.iter().map(field).collect(), id: id.to_owned() }
    }

    fn compare(&self, other: &Self, sort: &[Order]) -> Ordering {
        for ((a, b), order) in self.fields.iter().zip(&other.fields).zip(sort) {
            let ordering = compare(a, b);
            if ordering != Ordering::Equal {
                return if order.descending { ordering.reverse() } else { ordering };
            }
        }
        self.id.cmp(&other.id)
    }

    fn write(&self) -> String {
        let mut list = self.fields.clone();
        list.push(Value::String(self.id.clone()));
        URL_SAFE_NO_PAD.encode(Value::Array(list).to_string())
    }
}

fn read_cursor(text: &str, sort: &[Order]) -> Result<Key, ActionError> {
    let broken = || ActionError::Invalid(vec![Issue::at("cursor", "is not one of this query's")]);
    let key = URL_SAFE_NO_PAD.decode(text).map_err(|_| broken())?;
    let mut fields: Vec<Value> = serde_json::from_slice(&key).map_err(|_| broken())?;
    let Some(Value::String(id)) = fields.pop() else { return Err(broken()) };
    if fields.len() != sort.len() {
        return Err(broken());
    }
    Ok(Key { fields, id })
}

/// Numbers are equal by value; everything else as JSON is.
fn equal(a: &Value, b: &Value) -> bool {
    match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => a == b,
        _ => a == b,
    }
}

fn same_kind(a: &Value, b: &Value) -> bool {
    rank(a) == rank(b)
}

fn rank(value: &Value) -> u8 {
    match value {
        Value::Null => 0,
        Value::Bool(_) => 1,
        Value::Number(_) => 2,
        Value::String(_) => 3,
        Value::Array(_) => 4,
        Value::Object(_) => 5,
    }
}

/// A total order over JSON values: by kind first, then by value.
fn compare(a: &Value, b: &Value) -> Ordering {
    match (a, b) {
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        (Value::Number(x), Value::Number(y)) => match (x.as_i64(), y.as_i64()) {
            (Some(x), Some(y)) => x.cmp(&y),
            _ => x.as_f64().unwrap_or(0.0).total_cmp(&y.as_f64().unwrap_or(0.0)),
        },
        (Value::String(a), Value::String(b)) => a.cmp(b),
        _ => rank(a).cmp(&rank(b)).then_with(|| a.to_string().cmp(&b.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const ROWS: [(&str, &str); 4] = [
        ("a", r#"{"id":"a","n":3,"tags":["x"]}"#),
        ("b", r#"{"id":"b","n":1,"title":"hello world"}"#),
        ("c", r#"{"id":"c","n":3}"#),
        ("d", r#"{"id":"d","title":"help"}"#),
    ];

    fn ids(query: &Query) -> Vec<String> {
        let limit = query.limit.unwrap_or(100) as usize;
        let page = select(query, limit, ROWS.into_iter()).unwrap();
        page.rows.iter().map(|(id, _)| (*id).to_owned()).collect()
    }

    #[test]
    fn filters_select() {
        let cases = [
            ("n", Operator::Eq, json!(3.0), "ac"),
            ("n", Operator::Ne, json!(3), "bd"),
            ("n", Operator::Gte, json!(1), "abc"),
            ("n", Operator::Lt, json!(3), "b"),
            ("n", Operator::Lt, json!("3"), ""),
            ("n", Operator::In, json!([1, 2]), "b"),
            ("title", Operator::Contains, json!("world"), "b"),
            ("title", Operator::Prefix, json!("hel"), "bd"),
            ("tags", Operator::Contains, json!("x"), "a"),
            ("title", Operator::Exists, json!(false), "ac"),
        ];
        for (field, operator, value, expected) in cases {
            let filters = vec![Filter { field: field.into(), operator, value }];
            let found = ids(&Query { filters, ..Query::default() }).concat();
            assert_eq!(found, expected, "{field} {operator:?}");
        }
    }

    #[test]
    fn pages_go_through_all_rows_in_order() {
        let by_n = |descending| vec![Order { field: "n".into(), descending }];
        for (sort, expected) in [(vec![], "abcd"), (by_n(false), "dbac"), (by_n(true), "acbd")] {
            let mut query = Query { sort, limit: Some(1), ..Query::default() };
            let mut found = String::new();
            loop {
                let page = select(&query, 1, ROWS.into_iter()).unwrap();
                found += &ids(&query).concat();
                let Some(next) = page.next else { break };
                query.cursor = Some(next);
            }
            assert_eq!(found, expected);
        }
    }
}
