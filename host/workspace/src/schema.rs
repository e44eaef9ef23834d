//! What the host itself holds against the JSON Schemas that the plugin declared: the inputs of
//! actions, the fields of presence states, and the texts of query strings and command lines.

use std::collections::HashMap;

use jsonschema::error::ValidationErrorKind;
use jsonschema::{ValidationError, Validator};
use serde_json::{Map, Value};

use crate::definition::{Definition, Issue};

/// The compiled schemas of a workspace.
pub(crate) struct Schemas {
    /// Of the actions' inputs, by path.
    inputs: HashMap<String, Schema>,
    /// Of the fields of presence states, by name.
    awareness: HashMap<String, Schema>,
}

/// A compiled JSON Schema (draft 2020-12).
pub struct Schema(Validator);

/// Issues that are told of one value: more help nobody.
const ISSUES: usize = 32;

impl Schema {
    /// Compiles a schema; the error says why it is none.
    pub fn compile(schema: &Value) -> Result<Self, String> {
        jsonschema::validator_for(schema).map(Self).map_err(|error| error.to_string())
    }

    /// Whether a value is valid.
    pub fn allows(&self, value: &Value) -> bool {
        self.0.is_valid(value)
    }

    /// What is wrong with a value; nothing with a valid one.
    pub fn issues(&self, value: &Value) -> Vec<Issue> {
        self.0.iter_errors(value).flat_map(|error| issues(&error)).take(ISSUES).collect()
    }
}

/// An error, as issues that point at the members at fault. A member that is missing, or that should
/// not be there, is said of the object around it by JSON Schema; who shows the issue beside a field
/// wants to know of the field.
fn issues(error: &ValidationError) -> Vec<Issue> {
    let pointer = error.instance_path().to_string();
    let segments = pointer.split('/').skip(1);
    let path: Vec<_> =
        segments.map(|segment| segment.replace("~1", "/").replace("~0", "~")).collect();
    let at = |member: &str, message: String| {
        let path = path.iter().cloned().chain([member.to_owned()]).collect();
        Issue { path, message }
    };
    match error.kind() {
        ValidationErrorKind::Required { property: Value::String(member) } => {
            vec![at(member, "is required".into())]
        }
        ValidationErrorKind::AdditionalProperties { unexpected }
        | ValidationErrorKind::UnevaluatedProperties { unexpected } => {
            let issue = |member: &String| at(member, "is no member that is known here".into());
            unexpected.iter().map(issue).collect()
        }
        ValidationErrorKind::PropertyNames { error: name } => {
            let member = name.instance().as_str().unwrap_or_default();
            vec![at(member, name.to_string())]
        }
        _ => vec![Issue { path, message: error.to_string() }],
    }
}

impl Schemas {
    /// Compiles them. The definition was checked, so they are schemas.
    pub fn of(definition: &Definition) -> Self {
        let compile =
            |name: &str, schema: &Value| Some((name.to_owned(), Schema::compile(schema).ok()?));
        let inputs = definition.actions.iter();
        let inputs = inputs.filter_map(|action| compile(&action.path, action.input.as_ref()?));
        let fields = definition.awareness.iter();
        let fields = fields.filter_map(|field| compile(&field.name, &field.schema));
        Self { inputs: inputs.collect(), awareness: fields.collect() }
    }

    /// Whether a field of a presence state is one that the workspace declares, and valid.
    pub fn allow_presence(&self, field: &str, value: &Value) -> bool {
        self.awareness.get(field).is_some_and(|schema| schema.allows(value))
    }

    /// What is wrong with an action's input; nothing for a valid one.
    pub fn check_input(&self, path: &str, input: &Value) -> Vec<Issue> {
        self.inputs.get(path).map(|schema| schema.issues(input)).unwrap_or_default()
    }
}

/// Makes an input of the pairs of a query string. They are text; the schema says what each is
/// meant to be. A key that is given more than once is an array.
pub fn coerce(schema: &Value, pairs: Vec<(String, String)>) -> Result<Value, Vec<Issue>> {
    let mut grouped: Vec<(String, Vec<String>)> = Vec::new();
    for (key, value) in pairs {
        match grouped.iter_mut().find(|(known, _)| *known == key) {
            Some((_, values)) => values.push(value),
            None => grouped.push((key, vec![value])),
        }
    }
    let mut input = Map::new();
    let mut issues = Vec::new();
    for (key, mut values) in grouped {
        let property = property(schema, &key);
        let coerced = if accepts(property, "array") {
            values.into_iter().map(|value| coerce_one(&property["items"], value)).collect()
        } else if values.len() == 1 {
            coerce_one(property, values.swap_remove(0))
        } else {
            Err(format!("is given {} times, and one value is expected", values.len()))
        };
        match coerced {
            Ok(value) => drop(input.insert(key, value)),
            Err(message) => issues.push(Issue::at(key, message)),
        }
    }
    if issues.is_empty() { Ok(Value::Object(input)) } else { Err(issues) }
}

/// The schema of a member of an object. A reference within the schema is followed once, which is
/// what generators of schemas write for named types.
pub fn property<'a>(schema: &'a Value, name: &str) -> &'a Value {
    let property = &schema["properties"][name];
    let target = property["$ref"].as_str().and_then(|target| target.strip_prefix('#'));
    target.and_then(|pointer| schema.pointer(pointer)).unwrap_or(property)
}

/// One text as the first of the schema's types that it can be.
pub(crate) fn coerce_one(schema: &Value, text: String) -> Result<Value, String> {
    if accepts(schema, "integer") || accepts(schema, "number") {
        if let Ok(number) = text.parse::<serde_json::Number>() {
            return Ok(Value::Number(number));
        }
        if !accepts(schema, "string") && !accepts(schema, "null") && !accepts(schema, "boolean") {
            return Err(format!("must be a number, and is {text:?}"));
        }
    }
    if accepts(schema, "boolean") {
        match text.as_str() {
            "true" | "1" => return Ok(Value::Bool(true)),
            "false" | "0" => return Ok(Value::Bool(false)),
            _ if !accepts(schema, "string") && !accepts(schema, "null") => {
                return Err(format!("must be true or false, and is {text:?}"));
            }
            _ => {}
        }
    }
    if accepts(schema, "null") && (text.is_empty() || text == "null") {
        return Ok(Value::Null);
    }
    let is_json = (accepts(schema, "object") && text.starts_with('{'))
        || (accepts(schema, "array") && text.starts_with('['));
    if is_json {
        return serde_json::from_str(&text).map_err(|error| format!("must be JSON: {error}"));
    }
    Ok(Value::String(text))
}

/// Whether a schema names a type, itself or in one of its alternatives.
pub fn accepts(schema: &Value, kind: &str) -> bool {
    let named = match &schema["type"] {
        Value::String(one) => one == kind,
        Value::Array(many) => many.iter().any(|one| one == kind),
        _ => {
            let list = schema["enum"].as_array().into_iter().flatten();
            list.chain(schema.get("const")).any(|value| is_a(value, kind))
        }
    };
    named
        || ["anyOf", "oneOf", "allOf"].iter().any(|alternatives| {
            let list = schema[*alternatives].as_array();
            list.is_some_and(|list| list.iter().any(|schema| accepts(schema, kind)))
        })
}

fn is_a(value: &Value, kind: &str) -> bool {
    match value {
        Value::Null => kind == "null",
        Value::Bool(_) => kind == "boolean",
        Value::Number(number) => kind == "number" || kind == "integer" && !number.is_f64(),
        Value::String(_) => kind == "string",
        Value::Array(_) => kind == "array",
        Value::Object(_) => kind == "object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn query_strings_are_coerced_by_the_schema() {
        let schema = json!({"properties": {
            "min": {"type": "integer"},
            "ratio": {"type": ["number", "null"]},
            "draft": {"type": "boolean"},
            "tags": {"type": "array", "items": {"type": "string"}},
            "ids": {"type": "array", "items": {"type": "integer"}},
            "name": {"type": "string"},
            "maybe": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
        }});
        type Case<'a> = (&'a [(&'a str, &'a str)], Result<Value, &'a str>);
        let cases: [Case; 11] = [
            (&[("min", "10")], Ok(json!({"min": 10}))),
            (&[("min", "x")], Err("min must be a number, and is \"x\"")),
            (&[("ratio", "0.5")], Ok(json!({"ratio": 0.5}))),
            (&[("ratio", "")], Ok(json!({"ratio": null}))),
            (&[("draft", "true")], Ok(json!({"draft": true}))),
            (&[("draft", "maybe")], Err("draft must be true or false, and is \"maybe\"")),
            (&[("tags", "a")], Ok(json!({"tags": ["a"]}))),
            (&[("ids", "1"), ("ids", "2")], Ok(json!({"ids": [1, 2]}))),
            (
                &[("name", "1"), ("name", "2")],
                Err("name is given 2 times, and one value is expected"),
            ),
            (&[("name", "12")], Ok(json!({"name": "12"}))),
            (&[("maybe", "3"), ("other", "4")], Ok(json!({"maybe": 3, "other": "4"}))),
        ];
        for (pairs, expected) in cases {
            let pairs = pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
            let result = coerce(&schema, pairs);
            let result =
                result.map_err(|issues| format!("{} {}", issues[0].path[0], issues[0].message));
            assert_eq!(result, expected.map_err(str::to_owned));
        }
    }
}
