//! Rules about several rows: values that are unique, and rows that refer to rows.
//!
//! A table's definition declares them, and they hold over the rows in their current form. Whoever asks
//! the server is refused what would break them. Sync asks nobody: what it brings has happened already on
//! a device that knew less than we do. So a rule has two sides.
//!
//! **By REST and in actions** a write looks up who has the value it wants ([`Transaction`]). What it found
//! is part of its read set by the *value* ([`Claim`]), not by the table: two writers conflict when they
//! want the same value, and all others pass each other. A write that refers to a row needs that row to
//! be there when it commits, changed or not.
//!
//! **By sync** a row that breaks a rule stays in the document, unless its table enforces its rules
//! (`authority`), and becomes invalid, with an issue at the field, like a row that its plugin cannot
//! parse. It is valid again once what it collides with is gone, or what it refers to has come; nobody
//! has to write it again. Which rows break a rule depends on nothing but the rows, so that all servers
//! that have the same document say the same:
//!
//! - of the rows with one unique value the first counts, by `ts`, then by id;
//! - a row that refers to a row breaks the rule while that is not there. A row that is there but is
//!   itself invalid will do, or one fault would spread through all that hangs below it.
//!
//! **A value** is a JSON value compared as filters compare it: 1 and 1.0 are one, "a" and "A" are two.
//! A row in which one of the fields is null or missing has no value, as in SQL.
//!
//! **What it costs.** A table with rules keeps one ordered set of who holds what ([`Holders`]), shared
//! between snapshots. A row that changes is looked at again, and the rows whose verdict hangs on it: the
//! first holder of a value before and after, and the rows that refer to a row that comes or goes.
//!
//! [`Transaction`]: crate::transaction::Transaction

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt::Write;
use std::ops::Bound;
use std::sync::Arc;

use imbl::OrdSet;
use serde_json::Value;

use crate::definition::{Definition, Issue, OnDelete, TableDefinition};
use crate::fields::{Field, Fields};

/// Claims that the index remembers, for writers that began before. One that began earlier works again.
const RECENT: usize = 16 * 1024;

/// A value of a table's rule, which rows may hold.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Claim {
    /// The table's name.
    pub table: Arc<str>,
    /// Which of its rules.
    pub rule: Rule,
    /// The value, in the one text that equal values have.
    pub value: Arc<str>,
}

/// A rule of a table, by its position in the definition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Rule {
    /// Of `unique`.
    Unique(u8),
    /// Of `references`.
    Reference(u8),
}

/// Who holds what in one table: for each rule and value the rows, by `ts`, then by id.
#[derive(Debug, Clone, Default)]
pub(crate) struct Holders(OrdSet<Holder>);

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Holder {
    rule: Rule,
    value: Arc<str>,
    time: Time,
    id: Arc<str>,
}

/// An entry's `ts`, in the order of numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Time(i64);

impl Time {
    fn of(ts: f64) -> Self {
        // As `f64::total_cmp` has it: negative numbers have their other bits turned.
        let bits = ts.to_bits() as i64;
        Self(bits ^ (((bits >> 63) as u64) >> 1) as i64)
    }
}

impl Holders {
    /// Notes or forgets what a row holds.
    pub fn set(&mut self, rule: Rule, value: Arc<str>, ts: f64, id: &Arc<str>, holds: bool) {
        let holder = Holder { rule, value, time: Time::of(ts), id: id.clone() };
        if holds {
            self.0.insert(holder);
        } else {
            self.0.remove(&holder);
        }
    }

    /// The rows that hold a value, the first that got it first.
    pub fn of<'a>(&'a self, rule: Rule, value: &'a str) -> impl Iterator<Item = &'a Arc<str>> {
        let first = Holder { rule, value: value.into(), time: Time(i64::MIN), id: Arc::from("") };
        let from = self.0.range((Bound::Included(first), Bound::Unbounded));
        from.take_while(move |holder| holder.rule == rule && *holder.value == *value)
            .map(|holder| &holder.id)
    }
}

/// A reference from somewhere to a table.
#[derive(Debug, Clone)]
pub(crate) struct Referrer {
    /// The table whose rows refer.
    pub table: Arc<str>,
    /// Which of its rules.
    pub rule: Rule,
    /// The field that refers.
    pub field: String,
    /// What becomes of a row whose target is deleted.
    pub on_delete: OnDelete,
}

/// The rules of a workspace.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    /// By the table that is referred to.
    referrers: HashMap<String, Vec<Referrer>>,
}

impl Rules {
    pub fn of(definition: &Definition) -> Self {
        let mut referrers: HashMap<String, Vec<Referrer>> = HashMap::new();
        for table in &definition.tables {
            for (at, reference) in table.references.iter().enumerate() {
                referrers.entry(reference.table.clone()).or_default().push(Referrer {
                    table: table.name.as_str().into(),
                    rule: Rule::Reference(at as u8),
                    field: reference.field.clone(),
                    on_delete: reference.on_delete,
                });
            }
        }
        Self { referrers }
    }

    /// Whose rows refer to rows of a table.
    pub fn referrers(&self, table: &str) -> &[Referrer] {
        self.referrers.get(table).map_or(&[], Vec::as_slice)
    }
}

/// What a row holds of its table's rules.
pub(crate) fn held(table: &TableDefinition, row: Fields<'_>) -> Vec<(Rule, Arc<str>)> {
    let unique = table.unique.iter().enumerate().filter_map(|(at, fields)| {
        let values: Vec<_> = fields.iter().map(|field| row.get(field)).collect();
        Some((Rule::Unique(at as u8), unique_value(&values)?))
    });
    let references = table.references.iter().enumerate().filter_map(|(at, reference)| {
        Some((Rule::Reference(at as u8), reference_value(&row.get(&reference.field))?))
    });
    unique.chain(references).collect()
}

/// The text of the values that are to be unique together; none where one of them is null.
fn unique_value(values: &[Field<'_>]) -> Option<Arc<str>> {
    let mut text = String::new();
    for value in values {
        if matches!(value, Field::Null) {
            return None;
        }
        write_field(&mut text, value);
        text.push(',');
    }
    Some(text.into())
}

/// The text of a value that refers to a row; none where it is null.
fn reference_value(value: &Field<'_>) -> Option<Arc<str>> {
    match value {
        Field::Null => None,
        Field::Text(id) => Some(reference_to(id)),
        Field::Time(time) => Some(reference_to(&time.1)),
        // Refers to no row, since ids are strings.
        other => {
            let mut text = String::from("!");
            write_field(&mut text, other);
            Some(text.into())
        }
    }
}

/// The text of a value that refers to the row of that id.
pub(crate) fn reference_to(id: &str) -> Arc<str> {
    format!("={id}").into()
}

/// The row that a value refers to; none where it is no id.
pub(crate) fn target(value: &str) -> Option<&str> {
    value.strip_prefix('=')
}

/// Writes a value so that equal values give one text.
fn write_field(text: &mut String, field: &Field<'_>) {
    let simple = match field {
        Field::Null => Value::Null,
        Field::Bool(value) => (*value).into(),
        // With either sign.
        Field::Number(number) if *number == 0.0 => 0.0.into(),
        Field::Number(number) => (*number).into(),
        Field::Text(value) => Value::String(value.to_string()),
        Field::Time(time) => Value::String(time.1.to_string()),
        Field::Other(value) => return write_value(text, value),
    };
    let _ = write!(text, "{simple}");
}

fn write_value(text: &mut String, value: &Value) {
    match value {
        Value::Array(members) => {
            text.push('[');
            for member in members {
                write_value(text, member);
                text.push(',');
            }
            text.push(']');
        }
        Value::Object(object) => {
            let mut members: Vec<_> = object.iter().collect();
            members.sort_unstable_by_key(|(name, _)| name.as_str());
            text.push('{');
            for (name, member) in members {
                write_field(text, &Field::Text(name.as_str().into()));
                text.push(':');
                write_value(text, member);
                text.push(',');
            }
            text.push('}');
        }
        simple => write_field(text, &Field::of(simple)),
    }
}

/// What is wrong with a row that holds a value which another row has.
pub(crate) fn taken(table: &TableDefinition, rule: u8, by: &str) -> Issue {
    let fields = table.unique.get(usize::from(rule)).map_or(&[][..], Vec::as_slice);
    let message = match fields {
        [_] => format!("is already that of row {by:?}, and no two rows may have the same"),
        _ => format!(
            "{} together are already those of row {by:?}, and no two rows may have the same",
            fields.join(" and ")
        ),
    };
    match fields {
        [field, ..] => Issue::at(field.as_str(), message),
        [] => Issue::whole(message),
    }
}

/// What is wrong with a row that refers to a row that is not there.
pub(crate) fn dangling(table: &TableDefinition, rule: u8, value: &str) -> Issue {
    let Some(reference) = table.references.get(usize::from(rule)) else {
        return Issue::whole("refers to nothing");
    };
    let message = match target(value) {
        Some(id) => format!("there is no row {id:?} in table {}", reference.table),
        None => format!("must be the id of a row of table {}, a string", reference.table),
    };
    Issue::at(reference.field.as_str(), message)
}

/// What is wrong with deleting a row to which others refer.
pub(crate) fn referred(referrer: &Referrer, rows: usize, example: &str) -> Issue {
    let Referrer { table, field, .. } = referrer;
    let rest = match rows {
        1 => String::new(),
        rows => format!(" and {} more", rows - 1),
    };
    Issue::whole(format!(
        "row {example:?} of table {table}{rest} refers to it by {field:?}; delete or change what \
         refers to it first"
    ))
}

/// Which values were taken or let go lately, by the version of the index at which that happened.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    at: HashMap<Claim, u64>,
    order: VecDeque<(u64, Claim)>,
    /// What happened up to this version may have been forgotten.
    forgotten: u64,
}

impl Claims {
    /// Notes that who holds these values changes with a version.
    pub fn changed(&mut self, claims: HashSet<Claim>, version: u64) {
        for claim in claims {
            self.order.push_back((version, claim.clone()));
            self.at.insert(claim, version);
        }
        while self.order.len() > RECENT {
            let Some((version, claim)) = self.order.pop_front() else { break };
            self.forgotten = version;
            // It may have changed again since.
            if self.at.get(&claim) == Some(&version) {
                self.at.remove(&claim);
            }
        }
    }

    /// Whether nobody of us has changed who holds these values after a version.
    pub fn hold(&self, claims: &HashSet<Claim>, version: u64) -> bool {
        let since = |claim| self.at.get(claim).is_some_and(|at| *at > version);
        claims.is_empty() || (self.forgotten <= version && !claims.iter().any(since))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn text(value: Value) -> Option<Arc<str>> {
        unique_value(&[Field::of(&value)])
    }

    #[test]
    fn equal_values_have_one_text_and_others_another() {
        let same = [
            (json!(1), json!(1.0)),
            (json!(0), json!(-0.0)),
            (json!({"a": 1, "b": [2]}), json!({"b": [2.0], "a": 1})),
        ];
        for (one, other) in same {
            assert_eq!(text(one.clone()), text(other.clone()), "{one} and {other}");
        }
        let different = [
            json!("1"),
            json!(1),
            json!(true),
            json!("true"),
            json!("a"),
            json!("A"),
            json!([1, 2]),
            json!([2, 1]),
            json!([[1], 2]),
            json!({"a": 1}),
            json!({"a": "1"}),
        ];
        for (at, one) in different.iter().enumerate() {
            for other in &different[at + 1..] {
                assert_ne!(text(one.clone()), text(other.clone()), "{one} and {other}");
            }
        }
        assert_eq!(text(json!(null)), None);
        let pair = |a: &str, b: &str| unique_value(&[Field::Text(a.into()), Field::Text(b.into())]);
        assert_ne!(pair("a", "bc"), pair("ab", "c"));
        assert_ne!(pair("a\",\"b", "c"), pair("a", "b\",\"c"));
    }

    #[test]
    fn of_a_value_s_holders_the_first_by_time_then_by_id_comes_first() {
        let mut holders = Holders::default();
        let value: Arc<str> = "\"x\",".into();
        let rule = Rule::Unique(0);
        for (ts, id) in [(2.0, "a"), (1.0, "c"), (1.0, "b"), (-1.0, "z"), (1e300, "0")] {
            holders.set(rule, value.clone(), ts, &id.into(), true);
        }
        holders.set(Rule::Unique(1), value.clone(), 0.0, &"another rule".into(), true);
        holders.set(rule, "\"y\",".into(), 0.0, &"another value".into(), true);
        let order = |holders: &Holders| {
            holders.of(rule, &value).map(|id| id.to_string()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(order(&holders), "z b c a 0");
        holders.set(rule, value.clone(), 1.0, &"b".into(), false);
        assert_eq!(order(&holders), "z c a 0");
    }

    #[test]
    fn a_claim_holds_until_somebody_changes_it_and_not_beyond_what_is_remembered() {
        let claim = |value: usize| Claim {
            table: "t".into(),
            rule: Rule::Unique(0),
            value: value.to_string().into(),
        };
        let of = |value| HashSet::from([claim(value)]);
        let mut claims = Claims::default();
        claims.changed(of(0), 5);
        assert!(claims.hold(&of(0), 5));
        assert!(!claims.hold(&of(0), 4));
        assert!(claims.hold(&of(1), 0));
        for value in 1..=RECENT {
            claims.changed(of(value), 6);
        }
        assert!(!claims.hold(&of(0), 4), "what happened to it is forgotten, so nobody can say");
        assert!(claims.hold(&of(0), 6));
        assert!(claims.hold(&HashSet::new(), 0), "who looked at nothing does not care");
    }
}
