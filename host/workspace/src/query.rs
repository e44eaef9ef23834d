//! Which rows a list selects, and in which order.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::hash::{DefaultHasher, Hash, Hasher};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::definition::{Issue, TableDefinition};
use crate::error::ActionError;
use crate::fields::{Field, Fields};
use crate::schema::property;

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
    /// Whether the field holds times, which are compared as such.
    time: bool,
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

    /// The types of the fields that it can compare, as schemas name them.
    pub(crate) fn takes(self) -> &'static [&'static str] {
        match self {
            Self::Eq | Self::Ne | Self::In | Self::Exists => {
                &["string", "number", "boolean", "null", "array", "object"]
            }
            Self::Gt | Self::Gte | Self::Lt | Self::Lte => &["string", "number", "boolean"],
            Self::Contains => &["string", "array"],
            Self::Prefix => &["string"],
        }
    }
}

/// One key of the sort order.
#[derive(Debug, Clone, PartialEq)]
pub struct Order {
    /// A member of the row.
    pub field: String,
    /// Highest first.
    pub descending: bool,
    /// Whether the field holds times, which are compared as such.
    time: bool,
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
    /// A condition on a member of the row.
    pub fn new(field: impl Into<String>, operator: Operator, value: Value) -> Self {
        Self { field: field.into(), operator, value, time: false }
    }

    /// The same on rows of a table.
    pub(crate) fn on(self, table: &TableDefinition) -> Self {
        Self { time: holds_times(table, &self.field), ..self }
    }

    fn holds(&self, row: Fields) -> bool {
        let of_text = matches!(self.operator, Operator::Prefix | Operator::Contains);
        let read = |field| member(field, self.time && !of_text);
        let field = read(row.get(&self.field));
        let wanted = read(Field::of(&self.value));
        let ordered = |allowed: &[Ordering]| {
            field.comparable(&wanted) && allowed.contains(&field.compare(&wanted))
        };
        use Ordering::{Equal, Greater, Less};
        match self.operator {
            Operator::Eq => field == wanted,
            Operator::Ne => field != wanted,
            Operator::Gt => ordered(&[Greater]),
            Operator::Gte => ordered(&[Greater, Equal]),
            Operator::Lt => ordered(&[Less]),
            Operator::Lte => ordered(&[Less, Equal]),
            Operator::In => {
                let mut list = self.value.as_array().into_iter().flatten();
                list.any(|one| field == read(Field::of(one)))
            }
            Operator::Contains => match (&field, &wanted) {
                (Field::Text(text), Field::Text(part)) => text.contains(&**part),
                (Field::Other(list), one) => {
                    let mut list = list.as_array().into_iter().flatten();
                    list.any(|member| Field::of(member) == *one)
                }
                _ => false,
            },
            Operator::Prefix => match (&field, &wanted) {
                (Field::Text(text), Field::Text(part)) => text.starts_with(&**part),
                _ => false,
            },
            Operator::Exists => (field == Field::Null) != self.value.as_bool().unwrap_or(true),
        }
    }
}

/// Whether all filters hold for a row.
pub(crate) fn selects(filters: &[Filter], row: Fields) -> bool {
    filters.iter().all(|filter| filter.holds(row))
}

/// How many rows fulfil all filters.
pub(crate) fn count<'a>(
    filters: &[Filter],
    rows: impl Iterator<Item = (&'a str, Fields<'a>)>,
) -> usize {
    rows.filter(|(_, row)| selects(filters, *row)).count()
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

/// The rows of a page, by id.
pub(crate) struct Selected<'a> {
    pub rows: Vec<(&'a str, Fields<'a>)>,
    /// The cursor of the next page; none on the last.
    pub next: Option<String>,
}

/// Selects at most `limit` rows from those that come in the order of their ids. `of` names what the
/// rows are taken from.
pub(crate) fn select<'a>(
    query: &Query,
    of: &str,
    limit: usize,
    rows: impl Iterator<Item = (&'a str, Fields<'a>)>,
) -> Result<Selected<'a>, ActionError> {
    let list = query.list(of);
    let cursor = query.cursor.as_deref();
    let after = cursor.map(|cursor| read_cursor(cursor, list, &query.sort)).transpose()?;
    let rows = rows.filter(|(_, row)| selects(&query.filters, *row));
    if query.sort.is_empty() {
        let mut rows = rows.filter(|(id, _)| after.as_ref().is_none_or(|after| *id > &*after.id));
        let page: Vec<_> = rows.by_ref().take(limit).collect();
        let next = page.last().filter(|_| rows.next().is_some());
        let next = next.map(|(id, row)| Key::of(id, *row, &[]).write(list));
        return Ok(Selected { rows: page, next });
    }
    let mut first = First { sort: &query.sort, room: limit.saturating_add(1), rows: Vec::new() };
    for (id, row) in rows {
        if after.as_ref().is_none_or(|after| after.is_before(id, row, &query.sort)) {
            first.offer(id, row);
        }
    }
    let mut selected = first.sorted();
    let more = selected.len() > limit;
    selected.truncate(limit);
    let next = selected.last().filter(|_| more).map(|(key, ..)| key.write(list));
    Ok(Selected { rows: selected.into_iter().map(|(_, id, row)| (id, row)).collect(), next })
}

/// Keeps the first few of many rows: to sort all for a page of them would cost much more.
struct First<'a, 'q> {
    sort: &'q [Order],
    room: usize,
    /// Less than twice as many as there is room for. Once there are enough, the row at `room - 1`
    /// comes after all that stand before it, and what comes after that row is not taken.
    rows: Vec<(Key<'a>, &'a str, Fields<'a>)>,
}

impl<'a> First<'a, '_> {
    fn offer(&mut self, id: &'a str, row: Fields<'a>) {
        let (room, sort) = (self.room, self.sort);
        // Most rows of a large table end here, before anything is kept of them.
        if self.rows.get(room - 1).is_some_and(|(last, ..)| last.is_before(id, row, sort)) {
            return;
        }
        self.rows.push((Key::of(id, row, sort), id, row));
        if self.rows.len() == room || self.rows.len() == room.saturating_mul(2) {
            self.rows.select_nth_unstable_by(room - 1, |(a, ..), (b, ..)| a.compare(b, sort));
            self.rows.truncate(room);
        }
    }

    fn sorted(mut self) -> Vec<(Key<'a>, &'a str, Fields<'a>)> {
        self.rows.sort_unstable_by(|(a, ..), (b, ..)| a.compare(b, self.sort));
        self.rows
    }
}

/// A row's place in the order.
#[derive(Debug)]
struct Key<'a> {
    fields: Vec<Field<'a>>,
    id: Cow<'a, str>,
}

impl<'a> Key<'a> {
    fn of(id: &'a str, row: Fields<'a>, sort: &[Order]) -> Self {
        Self { fields: sort.iter().map(|by| by.of(row)).collect(), id: id.into() }
    }

    fn compare(&self, other: &Key, sort: &[Order]) -> Ordering {
        let fields = self.fields.iter().zip(&other.fields).zip(sort);
        let fields = fields.map(|((a, b), by)| by.turn(a.compare(b)));
        first_difference(fields).then_with(|| self.id.cmp(&other.id))
    }

    /// Whether a row comes after it; looks at no more members than that takes.
    fn is_before(&self, id: &str, row: Fields, sort: &[Order]) -> bool {
        let fields = self.fields.iter().zip(sort);
        let fields = fields.map(|(a, by)| by.turn(a.compare(&by.of(row))));
        first_difference(fields).then_with(|| (*self.id).cmp(id)).is_lt()
    }

    /// The cursor of what comes after it in a list.
    fn write(&self, list: u32) -> String {
        let mut key = vec![list.into()];
        key.extend(self.fields.iter().cloned().map(Field::into_value));
        key.push((*self.id).into());
        URL_SAFE_NO_PAD.encode(Value::Array(key).to_string())
    }
}

impl Query {
    /// The same over rows of a table.
    pub(crate) fn on(mut self, table: &TableDefinition) -> Self {
        self.filters = self.filters.into_iter().map(|filter| filter.on(table)).collect();
        self.sort = self.sort.into_iter().map(|order| order.on(table)).collect();
        self
    }

    /// Names the list that its pages are of. A place in it means nothing in another: there it
    /// would pass over rows, or show some again, and nobody would notice.
    fn list(&self, of: &str) -> u32 {
        let filters = self.filters.iter().map(|Filter { field, operator, value, .. }| {
            json!([field, format!("{operator:?}"), value]).to_string()
        });
        let mut filters: Vec<_> = filters.collect();
        // They mean the same in any order.
        filters.sort_unstable();
        let sort: Vec<_> = self.sort.iter().map(|by| (&by.field, by.descending)).collect();
        let mut hasher = DefaultHasher::new();
        (of, filters, sort).hash(&mut hasher);
        hasher.finish() as u32
    }
}

/// Whether a field of a table holds times.
fn holds_times(table: &TableDefinition, field: &str) -> bool {
    let schema = table.versions.last().unwrap_or(&Value::Null);
    let holds = |schema: &Value| schema["format"] == "date-time";
    let property = property(schema, field);
    let alternatives = ["anyOf", "oneOf"].iter().filter_map(|name| property[*name].as_array());
    holds(property) || alternatives.flatten().any(holds)
}

#[inline]
fn member(field: Field, time: bool) -> Field {
    if time { field.into_time() } else { field }
}

impl Order {
    /// An order by a member of the row.
    pub fn new(field: impl Into<String>, descending: bool) -> Self {
        Self { field: field.into(), descending, time: false }
    }

    /// The same of rows of a table.
    pub(crate) fn on(self, table: &TableDefinition) -> Self {
        Self { time: holds_times(table, &self.field), ..self }
    }

    /// What is compared of a row.
    fn of<'a>(&self, row: Fields<'a>) -> Field<'a> {
        member(row.get(&self.field), self.time)
    }

    fn turn(&self, ordering: Ordering) -> Ordering {
        if self.descending { ordering.reverse() } else { ordering }
    }
}

fn first_difference(mut fields: impl Iterator<Item = Ordering>) -> Ordering {
    fields.find(|ordering| ordering.is_ne()).unwrap_or(Ordering::Equal)
}

fn read_cursor(text: &str, list: u32, sort: &[Order]) -> Result<Key<'static>, ActionError> {
    let wrong = |message: &str| ActionError::Invalid(vec![Issue::at("cursor", message)]);
    let broken = || wrong("is none that was given here");
    let key = URL_SAFE_NO_PAD.decode(text).map_err(|_| broken())?;
    let mut fields: Vec<Value> = serde_json::from_slice(&key).map_err(|_| broken())?;
    let Some(Value::String(id)) = fields.pop() else { return Err(broken()) };
    if fields.is_empty() {
        return Err(broken());
    }
    if fields.remove(0) != list {
        return Err(wrong(
            "is of a list with another order or other filters; begin this one without a cursor",
        ));
    }
    if fields.len() != sort.len() {
        return Err(broken());
    }
    let fields = fields.into_iter().zip(sort).map(|(field, by)| member(field.into(), by.time));
    Ok(Key { fields: fields.collect(), id: id.into() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::Members;
    use serde_json::json;

    const ROWS: [(&str, &str); 4] = [
        ("a", r#"{"id":"a","n":3,"tags":["x"]}"#),
        ("b", r#"{"id":"b","n":1,"title":"hello world"}"#),
        ("c", r#"{"id":"c","n":3}"#),
        ("d", r#"{"id":"d","title":"help"}"#),
    ];

    /// The ids of a page, and the cursor of the next.
    fn page(query: &Query, limit: usize, rows: &[(&str, &str)]) -> (Vec<String>, Option<String>) {
        let members: Vec<_> = rows.iter().map(|_| Members::default()).collect();
        let rows = rows.iter().zip(&members);
        let rows = rows.map(|((id, text), members)| (*id, Fields::new(text, members)));
        let page = select(query, "rows", limit, rows).unwrap();
        (page.rows.iter().map(|(id, _)| (*id).to_owned()).collect(), page.next)
    }

    fn ids(query: &Query) -> Vec<String> {
        page(query, 100, &ROWS).0
    }

    #[test]
    fn dates_compare_as_times_where_the_schema_says_that_they_are() {
        let rows = [
            ("a", r#"{"id":"a","at":"2024-05-01T10:00:00+02:00"}"#),
            ("b", r#"{"id":"b","at":"2024-05-01T09:00:00Z"}"#),
            ("c", r#"{"id":"c","at":"2024-05-01T08:00:00.000Z"}"#),
            ("d", r#"{"id":"d","at":"soon"}"#),
            ("e", r#"{"id":"e","at":null}"#),
        ];
        let at =
            json!({ "anyOf": [{ "type": "string", "format": "date-time" }, { "type": "null" }] });
        let of = |at: Value| TableDefinition {
            name: "events".into(),
            versions: vec![json!({ "properties": { "at": at } })],
            ..TableDefinition::default()
        };
        let (times, texts) = (of(at), of(json!({ "type": "string" })));
        let ids =
            |query: Query, table: &TableDefinition| page(&query.on(table), 100, &rows).0.concat();
        let filter = |operator, value: Value| Query {
            filters: vec![Filter::new("at", operator, value)],
            ..Query::default()
        };
        let cases = [
            (Operator::Eq, json!("2024-05-01T08:00:00Z"), "ac", ""),
            (Operator::Gt, json!("2024-05-01T08:30:00Z"), "b", "abd"),
            (Operator::Lte, json!("2024-05-01T04:00:00-04:00"), "ac", ""),
            (Operator::In, json!(["2024-05-01T11:00:00+02:00"]), "b", ""),
            (Operator::Prefix, json!("2024-05-01T10"), "a", "a"),
            (Operator::Contains, json!("+02"), "a", "a"),
        ];
        for (operator, value, as_times, as_texts) in cases {
            assert_eq!(
                ids(filter(operator, value.clone()), &times),
                as_times,
                "{operator:?} {value}"
            );
            assert_eq!(
                ids(filter(operator, value.clone()), &texts),
                as_texts,
                "{operator:?} {value}"
            );
        }
        let sorted = Query { sort: vec![Order::new("at", false)], ..Query::default() };
        assert_eq!(ids(sorted.clone(), &times), "eacbd", "what says no time comes last");
        // The pages of it, one row each.
        let mut query = sorted.on(&times);
        let mut found = String::new();
        loop {
            let (ids, next) = page(&query, 1, &rows);
            found += &ids.concat();
            let Some(next) = next else { break };
            query.cursor = Some(next);
        }
        assert_eq!(found, "eacbd");
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
            let filters = vec![Filter::new(field, operator, value)];
            let found = ids(&Query { filters, ..Query::default() }).concat();
            assert_eq!(found, expected, "{field} {operator:?}");
        }
    }

    #[test]
    fn a_cursor_goes_on_in_its_own_list_only() {
        let by = |field: &str| vec![Order::new(field, false)];
        let is = |value: Value| vec![Filter::new("n", Operator::Gte, value)];
        let queries = [
            Query::default(),
            Query { sort: by("n"), ..Query::default() },
            Query { sort: by("title"), ..Query::default() },
            Query { filters: is(json!(0)), ..Query::default() },
            Query { filters: is(json!(1)), ..Query::default() },
        ];
        let goes_on = |query: &Query, cursor: String, of: &str| {
            let query = Query { cursor: Some(cursor), ..query.clone() };
            select(&query, of, 1, std::iter::empty()).map(drop)
        };
        for (first, query) in queries.iter().enumerate() {
            let cursor = page(query, 1, &ROWS).1.unwrap();
            for (second, other) in queries.iter().enumerate() {
                let result = goes_on(other, cursor.clone(), "rows");
                assert_eq!(result.is_ok(), first == second, "{query:?} then {other:?}");
            }
            assert!(goes_on(query, cursor, "other rows").is_err());
        }
    }

    #[test]
    fn pages_go_through_all_rows_in_order() {
        let by_n = |descending| vec![Order::new("n", descending)];
        for (sort, expected) in [(vec![], "abcd"), (by_n(false), "dbac"), (by_n(true), "acbd")] {
            let mut query = Query { sort, ..Query::default() };
            let mut found = String::new();
            loop {
                let (ids, next) = page(&query, 1, &ROWS);
                found += &ids.concat();
                let Some(next) = next else { break };
                query.cursor = Some(next);
            }
            assert_eq!(found, expected);
        }
    }

    /// What a query selects, by parsing every row and sorting all of them.
    fn naive(query: &Query, rows: &[(&str, &str)]) -> Vec<String> {
        let parsed = rows.iter().map(|(id, text)| {
            let row: Value = serde_json::from_str(text).unwrap();
            ((*id).to_owned(), row)
        });
        let holds = |row: &Value, filter: &Filter| {
            let (field, wanted) = (&row[filter.field.as_str()], &filter.value);
            let number = field.as_f64().zip(wanted.as_f64());
            let text = field.as_str().zip(wanted.as_str());
            let equal = |a: &Value, b: &Value| match a.as_f64().zip(b.as_f64()) {
                Some((a, b)) => a == b,
                None => a == b,
            };
            let greater = |or_equal: bool| match (number, text) {
                (Some((a, b)), _) => a > b || or_equal && a == b,
                (_, Some((a, b))) => a > b || or_equal && a == b,
                _ => or_equal && field == wanted,
            };
            match filter.operator {
                Operator::Eq => equal(field, wanted),
                Operator::Ne => !equal(field, wanted),
                Operator::Gt => greater(false),
                Operator::Gte => greater(true),
                Operator::Prefix => text.is_some_and(|(a, b)| a.starts_with(b)),
                Operator::Exists => !field.is_null(),
                _ => unreachable!("the others have cases of their own"),
            }
        };
        let mut rows: Vec<_> = parsed
            .filter(|(_, row)| query.filters.iter().all(|filter| holds(row, filter)))
            .collect();
        // Stable, and the rows come in the order of their ids.
        for order in query.sort.iter().rev() {
            rows.sort_by(|(_, a), (_, b)| {
                let field = |row: &Value| {
                    let value = &row[order.field.as_str()];
                    let text = value.as_str().map(str::to_owned);
                    let kind = [value.is_boolean(), value.is_number(), text.is_some()];
                    (kind, value.as_bool(), value.as_f64(), text)
                };
                let (a, b) = (field(a), field(b));
                // Null is none of the kinds. An earlier kind sorts first.
                let kind =
                    |kinds: [bool; 3]| kinds.iter().position(|is| *is).map_or(0, |at| at + 1);
                let ordering = kind(a.0)
                    .cmp(&kind(b.0))
                    .then(a.1.cmp(&b.1))
                    .then(a.2.partial_cmp(&b.2).unwrap())
                    .then(a.3.cmp(&b.3));
                if order.descending { ordering.reverse() } else { ordering }
            });
        }
        rows.into_iter().map(|(id, _)| id).collect()
    }

    #[test]
    fn selects_as_one_would_who_parses_and_sorts_everything() {
        use rand::seq::IndexedRandom;
        use rand::{RngExt, SeedableRng};
        let values = [
            "null",
            "true",
            "false",
            "-1",
            "0",
            "0.0",
            "2",
            "10",
            "1e1",
            r#""""#,
            r#""b""#,
            r#""\u0062""#,
            r#""ba""#,
            r#""\"""#,
            r#""10""#,
        ];
        let names = [r#""a""#, r#""b""#, r#""ab""#, r#""\u0061""#];
        let seed: u64 = rand::random();
        let mut random = rand::rngs::StdRng::seed_from_u64(seed);
        for round in 0..2_000 {
            let rows: Vec<(String, String)> = (0..random.random_range(0..40))
                .map(|number| {
                    let members: Vec<_> = (0..random.random_range(0..5))
                        .map(|_| {
                            let name = names.choose(&mut random).unwrap();
                            format!("{name}:{}", values.choose(&mut random).unwrap())
                        })
                        .collect();
                    (format!("{number:02}"), format!("{{{}}}", members.join(",")))
                })
                .collect();
            let rows: Vec<_> = rows.iter().map(|(id, text)| (id.as_str(), text.as_str())).collect();
            let field = |random: &mut rand::rngs::StdRng| {
                ["a", "b", "ab"].choose(random).copied().unwrap_or_default().to_owned()
            };
            let filters = (0..random.random_range(0..3)).map(|_| Filter {
                time: false,
                field: field(&mut random),
                operator: *[
                    Operator::Eq,
                    Operator::Ne,
                    Operator::Gt,
                    Operator::Gte,
                    Operator::Prefix,
                    Operator::Exists,
                ]
                .choose(&mut random)
                .unwrap(),
                value: serde_json::from_str(values.choose(&mut random).unwrap()).unwrap(),
            });
            let filters: Vec<_> = filters
                .filter(|filter| {
                    // What `exists` says of other values than true is the parameters' to refuse.
                    filter.operator != Operator::Exists || filter.value == true
                })
                .filter(|filter| !(filter.value.is_boolean() && filter.operator == Operator::Gt))
                .filter(|filter| !(filter.value.is_boolean() && filter.operator == Operator::Gte))
                .collect();
            let sort = (0..random.random_range(0..3))
                .map(|_| Order::new(field(&mut random), random.random()))
                .collect();
            let mut query = Query { filters, sort, ..Query::default() };
            let expected = naive(&query, &rows);
            let limit = random.random_range(1..10);
            let mut found = Vec::new();
            loop {
                let (ids, next) = page(&query, limit, &rows);
                assert!(ids.len() == limit || next.is_none(), "a page that is not full");
                found.extend(ids);
                let Some(next) = next else { break };
                query.cursor = Some(next);
            }
            assert_eq!(found, expected, "{query:?} of {rows:?}, seed {seed}, round {round}");
        }
    }
}
