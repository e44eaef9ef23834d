//! Values that a schema describes, for people to begin from.

use serde_json::{Map, Value};

use crate::definition::TableDefinition;
use crate::schema::{Kinds, accepts};

/// A row for people to begin from. It has no id, so that it makes a new row each time, and no document: two
/// rows that name the same room would have one text.
pub fn row(table: &TableDefinition, schema: &Value) -> Value {
    let mut example = value(schema);
    let Some(row) = example.as_object_mut() else { return example };
    row.remove("id");
    let required = schema["required"].as_array().map_or(&[][..], |required| required);
    let columns = table.documents.iter().flat_map(|d| [&d.guid_column, &d.updated_at_column]);
    for column in columns {
        if !required.iter().any(|name| name == column.as_str()) {
            row.remove(column);
            continue;
        }
        let kinds = Kinds::of(schema, &schema["properties"][column.as_str()]);
        let nothing = if kinds.have("null") {
            Value::Null
        } else if kinds.have("string") {
            "".into()
        } else {
            0.into()
        };
        row.insert(column.clone(), nothing);
    }
    example
}

struct Example<'a> {
    root: &'a Value,
}

/// A value of a schema.
pub fn value(schema: &Value) -> Value {
    Example { root: schema }.of(schema, 0)
}

impl Example<'_> {
    fn of(&self, schema: &Value, depth: usize) -> Value {
        let given = schema.get("const").or_else(|| schema.get("default"));
        let given = given.or_else(|| schema["examples"].get(0)).or_else(|| schema["enum"].get(0));
        // An empty text is a common default, and one that plugins like to refuse.
        if let Some(given) = given.filter(|given| given.as_str() != Some("")) {
            return given.clone();
        }
        if depth > 4 {
            return Value::Null;
        }
        if let Some(pointer) = schema["$ref"].as_str().and_then(|target| target.strip_prefix('#')) {
            return self
                .root
                .pointer(pointer)
                .map_or(Value::Null, |schema| self.of(schema, depth + 1));
        }
        let alternatives = ["anyOf", "oneOf", "allOf"].iter().find_map(|key| schema[*key].get(0));
        if let Some(first) = alternatives {
            return self.of(first, depth + 1);
        }
        let kinds = ["object", "array", "string", "integer", "number", "boolean"];
        match kinds.into_iter().find(|kind| accepts(schema, kind)) {
            Some("object") => {
                let fields = schema["properties"].as_object().into_iter().flatten();
                let fields = fields.filter(|(field, _)| *field != "_v");
                fields
                    .map(|(f, schema)| (f.clone(), self.of(schema, depth + 1)))
                    .collect::<Map<_, _>>()
                    .into()
            }
            Some("array") => {
                let least = schema["minItems"].as_u64().unwrap_or(0).min(8);
                (0..least).map(|_| self.of(&schema["items"], depth + 1)).collect()
            }
            Some("string") => example_text(schema).into(),
            Some("integer" | "number") => {
                schema.get("minimum").cloned().unwrap_or_else(|| 1.into())
            }
            Some("boolean") => false.into(),
            _ => Value::Null,
        }
    }
}

/// A text of the schema's format. One without a format has the length that is asked for.
fn example_text(schema: &Value) -> String {
    let text = match schema["format"].as_str() {
        Some("date-time") => "2026-01-31T12:00:00Z",
        Some("date") => "2026-01-31",
        Some("time") => "12:00:00Z",
        Some("duration") => "PT15M",
        Some("email" | "idn-email") => "ada@example.com",
        Some("hostname" | "idn-hostname") => "example.com",
        Some("ipv4") => "192.0.2.1",
        Some("ipv6") => "2001:db8::1",
        Some("uuid") => "123e4567-e89b-42d3-a456-426614174000",
        Some("uri" | "uri-reference" | "iri" | "iri-reference" | "url") => "https://example.com/",
        _ => {
            let length = |name: &str| schema[name].as_u64().and_then(|n| usize::try_from(n).ok());
            // Longer than this an example explains nothing any more.
            let least = length("minLength").unwrap_or(0).min(64);
            let most = length("maxLength").unwrap_or(usize::MAX);
            return "text".chars().cycle().take(least.max(4).min(most)).collect();
        }
    };
    text.to_owned()
}
