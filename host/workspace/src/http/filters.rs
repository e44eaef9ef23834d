//! Filters of query strings: `filter[field]=value`, or `filter[field][operator]=value`.
//!
//! A value arrives as text, and the table's schema determines its type. An operator that does not apply
//! to any of the field's types is refused: it would select nothing, which looks like a real answer.
//! Arrays and objects are written as JSON. Where a field may hold a string or something else, such as
//! null, quotes make the value a string: `"null"`.

use serde_json::{Value, json};

use crate::definition::TableDefinition;
use crate::error::ActionError;
use crate::query::{Filter, Operator, check_fields};
use crate::schema::{Kinds, coerce_one, items};

/// Reads one parameter.
pub(super) fn read(table: &TableDefinition, name: &str, value: &str) -> Result<Filter, String> {
    let inner = name.strip_prefix("filter[").and_then(|rest| rest.strip_suffix(']'));
    let inner = inner.ok_or("write filter[field][operator]=value")?;
    let (field, name) = inner.split_once("][").unwrap_or((inner, "eq"));
    let operator = Operator::NAMED.iter().find(|(known, _)| *known == name);
    let Some((_, operator)) = operator else {
        let names: Vec<_> = Operator::NAMED.iter().map(|(name, _)| *name).collect();
        return Err(format!("there is no such operator; there are {}", names.join(", ")));
    };
    known(table, std::iter::once(field))?;
    let version = json!({ "type": "integer" });
    let root = table.versions.last().unwrap_or(&Value::Null);
    let schema = match &root["properties"][field] {
        Value::Null if field == "_v" => &version,
        schema => schema,
    };
    let kinds = Kinds::of(root, schema);
    let wanted = operator.takes();
    if !wanted.iter().any(|kind| kinds.have(kind)) {
        let wanted = wanted.join(", ");
        return Err(format!("field {field:?} is {kinds}, and {name} compares {wanted} only"));
    }
    let value = match operator {
        Operator::Exists => flag(value)?.into(),
        Operator::In => read_list(kinds, value)?,
        Operator::Contains if kinds.have("array") => {
            read_one(Kinds::of(root, items(root, schema)), value)?
        }
        Operator::Contains | Operator::Prefix => value.into(),
        _ => read_one(kinds, value)?,
    };
    Ok(Filter::new(field, *operator, value).on(table))
}

fn read_one(kinds: Kinds, text: &str) -> Result<Value, String> {
    if kinds.are_any() || kinds.are_only("string") {
        return Ok(text.into());
    }
    if kinds.have("string")
        && text.starts_with('"')
        && let Ok(quoted @ Value::String(_)) = serde_json::from_str(text)
    {
        return Ok(quoted);
    }
    let value = coerce_one(&json!({ "type": kinds.names() }), text.to_owned())?;
    if kinds.allow(&value) {
        return Ok(value);
    }
    let is_nested = kinds.have("array") || kinds.have("object");
    let hint = if is_nested { "; arrays and objects are written as JSON" } else { "" };
    Err(format!("must be {kinds}, and is {text:?}{hint}"))
}

/// A JSON array, whose strings may contain commas, or values separated by commas.
fn read_list(kinds: Kinds, text: &str) -> Result<Value, String> {
    if !text.starts_with('[') {
        return text.split(',').map(|one| read_one(kinds, one)).collect();
    }
    let list: Vec<Value> = serde_json::from_str(text)
        .map_err(|error| format!("begins as a JSON array, and is none: {error}"))?;
    match list.iter().find(|one| !kinds.allow(one)) {
        Some(other) => Err(format!("must be a list of {kinds}, and has {other} in it")),
        None => Ok(list.into()),
    }
}

/// Whether a table has these fields; the error names those that it lacks.
pub(super) fn known<'a>(
    table: &TableDefinition,
    fields: impl Iterator<Item = &'a str>,
) -> Result<(), String> {
    match check_fields(table, fields) {
        Err(ActionError::Invalid(issues)) => Err(issues
            .iter()
            .map(|issue| format!("{:?}: {}", issue.path.concat(), issue.message))
            .collect::<Vec<_>>()
            .join("; ")),
        _ => Ok(()),
    }
}

/// A flag; its name alone also sets it.
pub(super) fn flag(value: &str) -> Result<bool, String> {
    match value {
        "" | "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(format!("must be true or false, and is {value:?}")),
    }
}
