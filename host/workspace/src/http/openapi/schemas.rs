//! The plugin's own schemas as components of the document.
//!
//! They are JSON Schemas with whatever their authors wrote, and pass through as they are: no keyword is lost
//! for not being known here. Only references change, which are relative to the document. A schema's `$defs`
//! become components of their own.

use serde_json::{Map, Value, json};

use crate::query::Operator;
use crate::schema::{Kinds, items};

/// The components of the document.
#[derive(Default)]
pub struct Schemas(pub Map<String, Value>);

impl Schemas {
    /// Takes a schema into the components, and what it defines within itself; returns a reference.
    pub fn add(&mut self, name: &str, mut schema: Value) -> Value {
        if let Some(members) = schema.as_object_mut() {
            members.remove("$schema");
            members.remove("$id");
            for definitions in ["$defs", "definitions"] {
                let Some(Value::Object(definitions)) = members.remove(definitions) else {
                    continue;
                };
                for (key, mut definition) in definitions {
                    refer(&mut definition, name);
                    self.0.insert(format!("{name}.{}", clean(&key)), definition);
                }
            }
        }
        refer(&mut schema, name);
        self.0.insert(name.to_owned(), schema);
        json!({ "$ref": format!("#/components/schemas/{name}") })
    }
}

/// A reference to a component.
pub fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

/// Makes the references of a schema within itself ones to the component of that name.
fn refer(schema: &mut Value, name: &str) {
    match schema {
        Value::Object(members) => {
            for (key, value) in members {
                match (key.as_str(), &*value) {
                    // These hold values, not schemas.
                    ("const" | "enum" | "default" | "example" | "examples", _) => {}
                    ("$ref", Value::String(target)) => {
                        let Some(pointer) = target.strip_prefix('#') else { continue };
                        let defined = ["/$defs/", "/definitions/"]
                            .iter()
                            .find_map(|definitions| pointer.strip_prefix(definitions));
                        let target = match defined {
                            Some(key) => format!("{name}.{}", clean(key)),
                            None => format!("{name}{pointer}"),
                        };
                        *value = format!("#/components/schemas/{target}").into();
                    }
                    _ => refer(value, name),
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(|value| refer(value, name)),
        _ => {}
    }
}

/// The schema of a row that somebody sends. Generators of clients take a field with a default for
/// one that is always there, which is so in answers only.
pub fn as_input(schema: &Value) -> Value {
    let mut schema = schema.clone();
    let fields = schema.get_mut("properties").and_then(Value::as_object_mut);
    for field in fields.into_iter().flat_map(|fields| fields.values_mut()) {
        if let Some(field) = field.as_object_mut() {
            field.remove("default");
        }
    }
    schema
}

/// A part of a schema, with the definitions that it may refer to.
pub fn within(root: &Value, part: &Value) -> Value {
    let mut part = part.clone();
    for definitions in ["$defs", "definitions"] {
        if let (Some(part), Some(all)) = (part.as_object_mut(), root.get(definitions)) {
            part.entry(definitions).or_insert_with(|| all.clone());
        }
    }
    part
}

/// Names of components have few characters to choose from.
pub fn clean(name: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    name.chars().map(|c| if allowed(c) { c } else { '_' }).collect()
}

/// What a field can be compared with: a value that it is to equal, or an object of operators.
pub fn filter_of(root: &Value, part: &Value) -> Value {
    let kinds = Kinds::of(root, part);
    let types = |names: Vec<&str>| json!({ "type": names });
    let equal = || types(kinds.names());
    let member = || types(Kinds::of(root, items(root, part)).names());
    let operand = |operator: Operator| match operator {
        Operator::Eq | Operator::Ne => equal(),
        Operator::In => json!({ "type": "array", "items": equal(), "minItems": 1 }),
        Operator::Contains => match (kinds.have("string"), kinds.have("array")) {
            (true, true) => json!({ "anyOf": [{ "type": "string" }, member()] }),
            (false, true) => member(),
            _ => json!({ "type": "string" }),
        },
        Operator::Prefix => json!({ "type": "string" }),
        Operator::Exists => json!({ "type": "boolean" }),
        Operator::Gt | Operator::Gte | Operator::Lt | Operator::Lte => {
            let names = kinds.names().into_iter();
            types(names.filter(|name| !matches!(*name, "null" | "array" | "object")).collect())
        }
    };
    let usable = Operator::NAMED
        .iter()
        .filter(|(_, operator)| operator.takes().iter().any(|kind| kinds.have(kind)));
    let operators: Map<_, _> =
        usable.map(|(name, operator)| ((*name).to_owned(), operand(*operator))).collect();
    let operators = json!({
        "type": "object",
        "properties": operators,
        "additionalProperties": false,
        "minProperties": 1,
    });
    // An object is one of operators, and an array would be taken for several values.
    let simple = kinds.names().into_iter().filter(|name| !matches!(*name, "array" | "object"));
    match simple.collect::<Vec<_>>() {
        simple if simple.is_empty() => operators,
        simple => json!({ "anyOf": [types(simple), operators] }),
    }
}
