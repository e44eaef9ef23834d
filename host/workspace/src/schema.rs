//! What the host itself holds against the JSON Schemas that the plugin declared: the inputs of
//! actions, the fields of presence states, and the texts of query strings and command lines.

mod depth;

use std::collections::HashMap;
use std::fmt;

use jsonschema::error::ValidationErrorKind;
use jsonschema::{ValidationError, Validator};
use serde_json::{Map, Value};

use self::depth::Depth;
use crate::definition::{Definition, Issue};

/// The compiled schemas of a workspace.
pub(crate) struct Schemas {
    /// Of the actions' inputs, by path.
    inputs: HashMap<String, Schema>,
    /// Of the fields of presence states, by name.
    awareness: HashMap<String, Schema>,
}

/// A compiled JSON Schema (draft 2020-12). Neither compiling nor using one can overflow a stack: `depth` bounds
/// how deep they go, and where a thread's stack is too small for that they get a larger one.
pub struct Schema {
    validator: Validator,
    /// The longest chain of schemas that are about one value.
    chain: usize,
}

/// Bytes of stack for each level that a validator goes down, and that compiling goes down. Measured in
/// debug builds, which take several times as much as release builds: see the tests.
const FRAME: usize = 4 * 1024;
const COMPILE_FRAME: usize = 32 * 1024;

/// Issues that are told of one value: more help nobody.
const ISSUES: usize = 32;

impl Schema {
    /// Compiles a schema; the error says why it is none. `format` is checked, which the standard leaves
    /// open: who writes `"format": "date"` wants dates.
    pub fn compile(schema: &Value) -> Result<Self, String> {
        let Depth { chain, levels } = depth::measure(schema)?;
        let stack = (levels + 2) * COMPILE_FRAME;
        let validator = stacker::maybe_grow(stack, stack, || {
            let options = jsonschema::options().should_validate_formats(true);
            options.build(schema).map_err(|error| error.to_string())
        });
        Ok(Self { validator: validator?, chain })
    }

    /// Does something with a value for which there is enough stack.
    fn with_stack<T>(&self, value: &Value, work: impl FnOnce(&Validator) -> T) -> T {
        let stack = (self.chain + 2) * (depth::height(value) + 1) * FRAME;
        stacker::maybe_grow(stack, stack, || work(&self.validator))
    }

    /// Whether a value is valid.
    pub fn allows(&self, value: &Value) -> bool {
        self.with_stack(value, |validator| validator.is_valid(value))
    }

    /// What is wrong with a value; nothing with a valid one.
    pub fn issues(&self, value: &Value) -> Vec<Issue> {
        self.with_stack(value, |validator| {
            validator.iter_errors(value).flat_map(|error| issues(&error)).take(ISSUES).collect()
        })
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

/// The types that a value may have, by all that a schema says of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kinds(u8);

impl Kinds {
    /// An integer is a number, so that whatever takes numbers takes it.
    const NAMED: [(&'static str, u8); 7] = [
        ("string", 1),
        ("number", 2 | 4),
        ("integer", 4),
        ("boolean", 8),
        ("null", 16),
        ("array", 32),
        ("object", 64),
    ];
    const ANY: Self = Self(127);
    /// Schemas that are looked at to find out. Those that people write have a few; one whose
    /// definitions refer to each other could have any number, and then is not held to its types.
    const LOOKS: usize = 256;

    /// Those that a part of a schema leaves; one that says nothing of types leaves all.
    pub fn of(root: &Value, part: &Value) -> Self {
        match left(root, part, &mut { Self::LOOKS }) {
            // No value is valid, so that there is none to hold against it either.
            0 => Self::ANY,
            kinds => Self(kinds),
        }
    }

    /// Whether the schema says nothing of types.
    pub fn are_any(self) -> bool {
        self == Self::ANY
    }

    /// Whether a value may be of that type.
    pub fn have(self, name: &str) -> bool {
        self.0 & bits(name) != 0
    }

    /// Whether they are this type and no other.
    pub fn are_only(self, name: &str) -> bool {
        self.0 == bits(name)
    }

    /// Whether a value is of one of them. A number may be written as an integer or not.
    pub fn allow(self, value: &Value) -> bool {
        match value {
            Value::Number(_) => self.have("number"),
            other => self.0 & bits_of(other) != 0,
        }
    }

    /// Their names, as schemas have them.
    pub fn names(self) -> Vec<&'static str> {
        let all = Self::NAMED.iter().filter(|(_, bits)| self.0 & bits == *bits);
        let named: Vec<_> = all.map(|(name, _)| *name).collect();
        let has_number = named.contains(&"number");
        named.into_iter().filter(|name| !(has_number && *name == "integer")).collect()
    }
}

impl fmt::Display for Kinds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.names().join(" or "))
    }
}

fn bits(name: &str) -> u8 {
    Kinds::NAMED.iter().find(|(known, _)| *known == name).map_or(0, |(_, bits)| *bits)
}

fn bits_of(value: &Value) -> u8 {
    bits(match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    })
}

/// What a schema leaves of all types; `looks` is how many more schemas may be looked at.
fn left(root: &Value, part: &Value, looks: &mut usize) -> u8 {
    let Some(members) = part.as_object().filter(|_| *looks > 0) else { return Kinds::ANY.0 };
    *looks -= 1;
    let mut kinds = Kinds::ANY.0;
    for (keyword, says) in members {
        kinds &= match (keyword.as_str(), says) {
            ("type", Value::String(name)) => bits(name),
            ("type", Value::Array(names)) => {
                names.iter().filter_map(Value::as_str).fold(0, |all, name| all | bits(name))
            }
            ("enum", Value::Array(values)) => values.iter().fold(0, |all, v| all | bits_of(v)),
            ("const", value) => bits_of(value),
            ("$ref", Value::String(target)) => {
                let target = target.strip_prefix('#').and_then(|target| root.pointer(target));
                target.map_or(Kinds::ANY.0, |target| left(root, target, looks))
            }
            ("anyOf" | "oneOf", Value::Array(parts)) => {
                parts.iter().fold(0, |all, part| all | left(root, part, looks))
            }
            ("allOf", Value::Array(parts)) => {
                parts.iter().fold(Kinds::ANY.0, |all, part| all & left(root, part, looks))
            }
            _ => Kinds::ANY.0,
        };
    }
    kinds
}

/// The schema of an array's members: its own, that of what it refers to, or that of one of its
/// alternatives.
pub(crate) fn items<'a>(root: &'a Value, part: &'a Value) -> &'a Value {
    let mut alternatives = vec![part];
    for _ in 0..Kinds::LOOKS {
        let Some(part) = alternatives.pop() else { break };
        if let Some(items) = part.get("items") {
            return items;
        }
        let target = part["$ref"].as_str().and_then(|target| target.strip_prefix('#'));
        alternatives.extend(target.and_then(|target| root.pointer(target)));
        for keyword in ["anyOf", "oneOf", "allOf"] {
            alternatives.extend(part[keyword].as_array().into_iter().flatten());
        }
    }
    &Value::Null
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
    fn issues_point_at_the_members_that_are_missing_or_unknown() {
        let name = json!({ "type": "string" });
        let inner = json!({
            "type": "object", "required": ["name"], "properties": { "name": name },
            "additionalProperties": false,
        });
        let schema = json!({
            "type": "object", "required": ["id", "in"], "properties": { "id": name, "in": inner },
            "unevaluatedProperties": false, "propertyNames": { "maxLength": 8 },
        });
        let schema = Schema::compile(&schema).unwrap();
        let paths = |value: Value| {
            let issues = schema.issues(&value).into_iter();
            let mut paths: Vec<_> = issues.map(|issue| issue.path.join("/")).collect();
            paths.sort();
            paths.join(" ")
        };
        assert_eq!(paths(json!({})), "id in");
        assert_eq!(paths(json!({ "id": 1, "in": { "a": 1, "b": 2 } })), "id in/a in/b in/name");
        assert_eq!(paths(json!({ "id": "a", "in": { "name": "a" }, "x~/y": 1 })), "x~/y");
        let long = json!({ "id": "a", "in": { "name": "a" }, "a long name": 1 });
        assert!(paths(long).starts_with("a long name"));
        assert_eq!(paths(json!(1)), "");
    }

    /// Runs where a deep recursion is an overflow, as on a thread of the server.
    fn on_a_small_stack(work: impl FnOnce() + Send + 'static) {
        let thread = std::thread::Builder::new().stack_size(1 << 20).spawn(work).unwrap();
        thread.join().unwrap();
    }

    #[test]
    fn no_schema_overflows_a_stack() {
        on_a_small_stack(|| {
            let chain = |links: usize, link: fn(String) -> Value| {
                let defs =
                    (0..links).map(|at| (format!("a{at}"), link(format!("#/$defs/a{}", at + 1))));
                let mut defs: Map<_, _> = defs.collect();
                defs.insert(format!("a{links}"), json!({ "type": "string" }));
                json!({ "$ref": "#/$defs/a0", "$defs": defs })
            };
            let error = |schema: &Value| Schema::compile(schema).err().unwrap_or_default();
            let in_place = |target: String| json!({ "$ref": target });
            let consuming = |target: String| json!({ "properties": { "x": { "$ref": target } } });
            assert!(error(&chain(5_800, in_place)).contains("levels"));
            assert!(error(&chain(100, in_place)).contains("about one value"));
            assert!(error(&chain(3_000, consuming)).contains("levels"));
            assert!(error(&json!({ "$ref": "#" })).contains("never ends"));
            let two = json!({ "$ref": "#/$defs/a", "$defs": {
                "a": { "allOf": [{ "$ref": "#/$defs/b" }] }, "b": { "$ref": "#/$defs/a" },
            } });
            assert!(error(&two).contains("never ends"));
            assert!(
                error(&json!({ "$ref": "https://example.com/a" })).contains("cannot be followed")
            );

            // The deepest that there may be, with values that go as deep as there are.
            let deep = |link: &dyn Fn(Value) -> Value, of: Value| {
                (0..120).fold(of, |value, _| link(value))
            };
            let schema = Schema::compile(&chain(60, in_place)).unwrap();
            assert!(schema.allows(&json!("a")) && !schema.allows(&json!(1)));
            let schema = Schema::compile(&chain(500, consuming)).unwrap();
            assert!(schema.allows(&deep(&|value| json!({ "x": value }), json!(1))));
            let defs: Map<_, _> = (0..60)
                .map(|at| (format!("a{at}"), json!({ "$ref": format!("#/$defs/a{}", at + 1) })))
                .chain([("a60".into(), json!({ "type": "array", "items": { "$ref": "#" } }))])
                .collect();
            let tree = Schema::compile(&json!({ "$ref": "#/$defs/a0", "$defs": defs })).unwrap();
            assert!(tree.allows(&deep(&|value| json!([value]), json!([]))));
            assert_eq!(tree.issues(&deep(&|value| json!([value]), json!(1))).len(), 1);
        });
    }

    #[test]
    fn schemas_that_people_write_are_as_good_as_ever() {
        let tree = json!({ "$id": "https://example.com/tree", "type": "object", "properties": {
            "children": { "type": "array", "items": { "$ref": "https://example.com/tree#" } },
            "name": { "$ref": "#name" },
        }, "$defs": { "n": { "$anchor": "name", "type": "string" } } });
        let schema = Schema::compile(&tree).unwrap();
        assert!(schema.allows(&json!({ "children": [{ "children": [], "name": "a" }] })));
        assert!(!schema.allows(&json!({ "children": [{ "name": 1 }] })));
        let escaped =
            json!({ "$ref": "#/$defs/a%20b~1c", "$defs": { "a b/c": { "type": "null" } } });
        assert!(Schema::compile(&escaped).unwrap().allows(&Value::Null));
    }

    #[test]
    fn the_types_of_a_value_are_what_the_whole_schema_leaves() {
        let root = json!({ "$defs": {
            "state": { "enum": ["open", "closed"] },
            "list": { "type": "array", "items": { "type": "integer" } },
            "loop": { "anyOf": [{ "$ref": "#/$defs/loop" }, { "$ref": "#/$defs/loop" }] },
        } });
        for (part, expected) in [
            (json!({ "type": "integer" }), "integer"),
            (json!({ "type": ["string", "null"] }), "string or null"),
            (json!({ "type": "number", "enum": [1, 2] }), "integer"),
            (
                json!({ "anyOf": [{ "$ref": "#/$defs/state" }, { "type": "null" }] }),
                "string or null",
            ),
            (
                json!({ "allOf": [{ "type": ["number", "string"] }, { "type": "integer" }] }),
                "integer",
            ),
            (json!({ "$ref": "#/$defs/list" }), "array"),
            (json!({ "const": true }), "boolean"),
        ] {
            assert_eq!(Kinds::of(&root, &part).to_string(), expected, "{part}");
        }
        for part in [json!(true), json!({}), json!({ "$ref": "#/$defs/loop" }), json!(null)] {
            assert!(Kinds::of(&root, &part).are_any(), "{part}");
        }
        let nullable = json!({ "anyOf": [{ "$ref": "#/$defs/list" }, { "type": "null" }] });
        assert_eq!(items(&root, &nullable), &json!({ "type": "integer" }));
    }

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
