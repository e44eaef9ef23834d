//! JSON Schemas of the author's types.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Value, json};

/// What is accepted for a `T`: a member with a serde default is not required.
pub(crate) fn accepted<T: JsonSchema>() -> Value {
    schema::<T>(SchemaSettings::draft2020_12().for_deserialize())
}

/// What a `T` is written as: a member with a serde default is always there.
pub(crate) fn produced<T: JsonSchema>() -> Value {
    schema::<T>(SchemaSettings::draft2020_12().for_serialize())
}

/// The members of the objects that a schema describes; `None` when they may have others, too.
pub(crate) fn members(schema: &Value) -> Option<Vec<String>> {
    let open = ["additionalProperties", "anyOf", "oneOf", "allOf", "$ref"]
        .iter()
        .any(|keyword| schema.get(keyword).is_some_and(|value| value != false));
    match schema.get("properties").and_then(Value::as_object) {
        Some(members) if !open => Some(members.keys().cloned().collect()),
        _ => None,
    }
}

/// Says that a member must be there.
pub(crate) fn require(schema: &mut Value, member: &str) {
    let Some(schema) = schema.as_object_mut() else {
        return;
    };
    let required = schema.entry("required").or_insert_with(|| json!([]));
    if let Some(required) = required.as_array_mut()
        && !required.iter().any(|name| name == member)
    {
        required.insert(0, Value::from(member));
    }
}

/// Draft 2020-12 throughout, as the contract says, so that no schema has to name its draft. All
/// types are written in place, so that a schema can be put into a larger document; only a type that
/// contains itself still needs `$defs`.
fn schema<T: JsonSchema>(settings: SchemaSettings) -> Value {
    settings
        .with(|settings| {
            settings.inline_subschemas = true;
            settings.meta_schema = None;
        })
        .into_generator()
        .into_root_schema_for::<T>()
        .to_value()
}
