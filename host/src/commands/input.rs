//! The input of commands: JSON inline, from a file (`@file`) or from standard input (`-`), and fields as flags
//! (`--title Hello --views 3 --author.name Ada`), which are texts until the schema gives them types.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, IsTerminal, Read};

use anyhow::{Context, Result};
use host_workspace::schema::{accepts, coerce, property};
use serde_json::{Map, Value};

use super::Usage;

/// Most bytes that are read for one value; a server accepts no more in one request.
const MAX_INPUT: u64 = 8 * 1024 * 1024;

/// What follows the name of a table or an action on the command line.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Given {
    /// The arguments that are not flags, in order.
    pub words: Vec<String>,
    /// Flags, with their texts if they have any.
    pub fields: Vec<(String, Option<String>)>,
}

impl Given {
    /// Tells flags from words: `--name value` and `--name=value` are fields, and so is `--name` alone, which
    /// means true. After `--`, everything is a word.
    pub fn read(arguments: Vec<String>) -> Result<Self> {
        let mut given = Self::default();
        let mut rest = arguments.into_iter().peekable();
        while let Some(argument) = rest.next() {
            let Some(flag) = argument.strip_prefix("--") else {
                given.words.push(argument);
                continue;
            };
            if flag.is_empty() {
                given.words.extend(rest);
                break;
            }
            let (name, value) = match flag.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (flag, rest.next_if(|next| !next.starts_with("--"))),
            };
            if name.is_empty() {
                return Err(Usage::error(format!("{argument}: the name of the field is missing")));
            }
            given.fields.push((name.to_owned(), value));
        }
        Ok(given)
    }

    /// Removes and returns the first word.
    pub fn word(&mut self) -> Option<String> {
        if self.words.is_empty() { None } else { Some(self.words.remove(0)) }
    }

    /// Removes an option from among the fields and returns its value.
    pub fn take(&mut self, name: &str) -> Result<Option<String>> {
        let Some(at) = self.fields.iter().position(|(field, _)| field == name) else {
            return Ok(None);
        };
        let (_, value) = self.fields.remove(at);
        value.map(Some).ok_or_else(|| Usage::error(format!("--{name} needs a value")))
    }

    /// Reads the JSON that is to be read, once, so that the value can be made more than once.
    pub fn inline(mut self) -> Result<Self> {
        if let Some(word) = self.words.first_mut() {
            *word = read_json(word)?.to_string();
        }
        Ok(self)
    }

    /// Whether a part of a field is given: `--author.name`.
    pub fn has_parts(&self, schema: &Value) -> bool {
        self.fields.iter().any(|(name, _)| part(schema, name, true).is_some())
    }

    /// The value that is given: JSON, with the fields laid over it; `None` if nothing is given. `what` names the
    /// owner of the schema in errors. A field of which only parts are given keeps the rest of its value
    /// `before`.
    pub fn value(
        self,
        what: &str,
        schema: &Value,
        before: Option<&Value>,
    ) -> Result<Option<Value>> {
        let mut words = self.words.into_iter();
        let json = words.next();
        if let Some(extra) = words.next() {
            return Err(Usage::error(format!(
                "unexpected {extra:?}: only one JSON value can be given"
            )));
        }
        let fields = Fields::read(self.fields, what, schema, "")?;
        let mut value = match json {
            Some(json) => read_json(&json)?,
            None if fields.is_empty() => return Ok(None),
            None => Value::Object(Map::new()),
        };
        match value.as_object_mut() {
            Some(object) => {
                for name in fields.parts.keys() {
                    if let Some(before) = before.and_then(|before| before.get(name))
                        && !object.contains_key(name)
                    {
                        object.insert(name.clone(), before.clone());
                    }
                }
                fields.lay_over(object);
            }
            None if fields.is_empty() => {}
            None => return Err(Usage::error("fields as flags can only be added to a JSON object")),
        }
        Ok(Some(value))
    }
}

/// Fields of an object, some of them whole, of others only parts.
#[derive(Debug, Default)]
struct Fields {
    whole: Map<String, Value>,
    parts: BTreeMap<String, Fields>,
}

impl Fields {
    /// Reads them by the schema; `prefix` is what comes before their names on the command line.
    fn read(
        fields: Vec<(String, Option<String>)>,
        what: &str,
        schema: &Value,
        prefix: &str,
    ) -> Result<Self> {
        let mut whole = Vec::new();
        let mut parts: BTreeMap<String, Vec<_>> = BTreeMap::new();
        for (name, text) in fields {
            match part(schema, &name, prefix.is_empty()) {
                Some((outer, inner)) => {
                    parts.entry(outer.to_owned()).or_default().push((inner.to_owned(), text));
                }
                None => whole.push((name, text)),
            }
        }
        let whole = typed(whole, what, schema, prefix)?;
        let parts = parts.into_iter().map(|(name, fields)| -> Result<_> {
            let prefix = format!("{prefix}{name}.");
            let inner = object_in(schema, property(schema, &name)).ok_or_else(|| {
                let field = prefix.trim_end_matches('.');
                Usage::error(format!("{field} of {what} is not an object, so it has no fields"))
            })?;
            let fields = Self::read(fields, &format!("{name} of {what}"), &inner, &prefix)?;
            Ok((name, fields))
        });
        Ok(Self { whole, parts: parts.collect::<Result<_>>()? })
    }

    fn is_empty(&self) -> bool {
        self.whole.is_empty() && self.parts.is_empty()
    }

    fn lay_over(self, object: &mut Map<String, Value>) {
        object.extend(self.whole);
        for (name, fields) in self.parts {
            let inner = object.entry(name).or_insert(Value::Null);
            if !inner.is_object() {
                *inner = Value::Object(Map::new());
            }
            if let Some(inner) = inner.as_object_mut() {
                fields.lay_over(inner);
            }
        }
    }
}

/// The field and the part of it that a name with a dot stands for; none where it is a field's own name.
/// What is inside of a field without a schema is taken as it is written.
fn part<'n>(schema: &Value, name: &'n str, outermost: bool) -> Option<(&'n str, &'n str)> {
    let (outer, inner) = name.split_once('.')?;
    if outer.is_empty() || inner.is_empty() {
        return None;
    }
    match schema["properties"].as_object() {
        Some(known) => {
            (!known.contains_key(name) && known.contains_key(outer)).then_some((outer, inner))
        }
        None => (!outermost).then_some((outer, inner)),
    }
}

/// The schema of an object within another schema, which may be one of several alternatives. It takes the
/// definitions along that it may refer to.
fn object_in(root: &Value, schema: &Value) -> Option<Value> {
    let refers = schema["$ref"].as_str().and_then(|target| target.strip_prefix('#'));
    let schema = refers.and_then(|pointer| root.pointer(pointer)).unwrap_or(schema);
    let alternatives = ["anyOf", "oneOf", "allOf"].iter().filter_map(|key| schema[*key].as_array());
    let mut alternatives = alternatives.flatten();
    if schema["properties"].is_null()
        && let Some(inner) = alternatives.find_map(|schema| object_in(root, schema))
    {
        return Some(inner);
    }
    // A schema that says nothing about a value allows an object.
    let bounds = ["type", "enum", "const", "anyOf", "oneOf", "allOf"];
    let anything = bounds.iter().all(|key| schema[*key].is_null());
    if !anything && !accepts(schema, "object") && schema["properties"].is_null() {
        return None;
    }
    let mut schema = schema.as_object().cloned().unwrap_or_default();
    for key in ["$defs", "definitions"] {
        if let Some(definitions) = root.get(key) {
            schema.entry(key).or_insert_with(|| definitions.clone());
        }
    }
    Some(Value::Object(schema))
}

/// The fields with the types of the schema. A field that is repeated is an array.
fn typed(
    fields: Vec<(String, Option<String>)>,
    what: &str,
    schema: &Value,
    prefix: &str,
) -> Result<Map<String, Value>> {
    let known = schema["properties"].as_object();
    let mut pairs = Vec::with_capacity(fields.len());
    let mut arrays = Map::new();
    for (name, text) in fields {
        if let Some(known) = known
            && !known.contains_key(&name)
        {
            let names: Vec<_> = known.keys().map(|name| format!("--{prefix}{name}")).collect();
            return Err(Usage::error(format!(
                "{what} has no field {name:?}, it has {}; options other than --workspace go before \
                 the name",
                names.join(" ")
            )));
        }
        let kind = property(schema, &name);
        let text = match text {
            Some(text) => text,
            None if accepts(kind, "boolean") => "true".to_owned(),
            None => return Err(Usage::error(format!("--{prefix}{name} needs a value"))),
        };
        // An array may also be given whole, which is the only way to give an empty one.
        if accepts(kind, "array") && text.starts_with('[') {
            arrays.insert(name.clone(), inline(&text)?);
        } else {
            pairs.push((name, text));
        }
    }
    let typed = coerce(schema, pairs).map_err(|issues| {
        let lines = issues
            .iter()
            .map(|issue| format!("--{prefix}{} {}", issue.path.concat(), issue.message));
        let lines: Vec<_> = lines.collect();
        Usage::error(lines.join("; "))
    })?;
    let mut typed = match typed {
        Value::Object(typed) => typed,
        _ => Map::new(),
    };
    typed.extend(arrays);
    Ok(typed)
}

/// Reads a value by its schema: as JSON if it is JSON of a type that the schema allows, otherwise as a text.
pub fn read_value(given: &str, schema: &Value) -> Result<Value> {
    if given == "-" || given.starts_with('@') {
        return read_json(given);
    }
    let kinds: &[&str] = match serde_json::from_str(given) {
        Ok(Value::Null) => &["null"],
        Ok(Value::Bool(_)) => &["boolean"],
        Ok(Value::Number(_)) => &["integer", "number"],
        Ok(Value::String(_)) => &["string"],
        Ok(Value::Array(_)) => &["array"],
        Ok(Value::Object(_)) => &["object"],
        Err(_) => &[],
    };
    let is_text = !kinds.iter().any(|kind| accepts(schema, kind)) && accepts(schema, "string");
    if is_text { Ok(given.into()) } else { inline(given) }
}

/// JSON inline, `@file`, or `-` for standard input.
pub fn read_json(given: &str) -> Result<Value> {
    let (name, mut source): (_, Box<dyn Read>) = match given.strip_prefix('@') {
        Some(file) => {
            (file, Box::new(File::open(file).with_context(|| format!("cannot open {file}"))?))
        }
        None if given == "-" => ("standard input", Box::new(io::stdin().lock())),
        None => return inline(given),
    };
    let mut bytes = Vec::new();
    source
        .by_ref()
        .take(MAX_INPUT + 1)
        .read_to_end(&mut bytes)
        .with_context(|| format!("cannot read {name}"))?;
    anyhow::ensure!(
        bytes.len() as u64 <= MAX_INPUT,
        "{name} is larger than {MAX_INPUT} bytes; `host import` reads rows line by line"
    );
    serde_json::from_slice(&bytes).with_context(|| format!("{name} is not JSON"))
}

fn inline(text: &str) -> Result<Value> {
    serde_json::from_str(text).map_err(|error| {
        Usage::error(format!("{text:?} is neither JSON ({error}) nor @file nor -"))
    })
}

/// Whether standard input is something other than a terminal.
pub fn is_piped() -> bool {
    !io::stdin().is_terminal()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn value(arguments: &[&str]) -> Result<Option<Value>, String> {
        let schema = json!({ "properties": {
            "title": { "type": "string" },
            "views": { "type": "integer" },
            "draft": { "type": "boolean" },
            "tags": { "type": "array", "items": { "type": "string" } },
            "author": { "type": "object" },
            "place": { "anyOf": [{ "$ref": "#/$defs/Place" }, { "type": "null" }] },
        }, "$defs": {
            "Place": { "type": "object", "properties": {
                "floor": { "type": "integer" },
                "in": { "$ref": "#/$defs/Place" },
            } },
        } });
        let arguments = arguments.iter().map(|argument| argument.to_string()).collect();
        let given = Given::read(arguments).map_err(|error| error.to_string())?;
        given.value("table posts", &schema, None).map_err(|error| {
            assert!(error.is::<Usage>(), "{error}");
            error.to_string()
        })
    }

    #[test]
    fn fields_are_typed_by_the_schema() {
        let cases: [(&[&str], Value); 16] = [
            (&["--title", "12", "--views", "12"], json!({ "title": "12", "views": 12 })),
            (&["--views=-3"], json!({ "views": -3 })),
            (&["--views", "-3"], json!({ "views": -3 })),
            (&["--title=--x=y"], json!({ "title": "--x=y" })),
            (&["--title", ""], json!({ "title": "" })),
            (&["--draft", "--views", "1"], json!({ "draft": true, "views": 1 })),
            (&["--draft=false"], json!({ "draft": false })),
            (&["--tags", "a", "--tags", "b"], json!({ "tags": ["a", "b"] })),
            (&["--tags", "[]"], json!({ "tags": [] })),
            (&["--author", r#"{"name":"A"}"#], json!({ "author": { "name": "A" } })),
            (&[r#"{"title":"a","views":1}"#, "--views", "2"], json!({ "title": "a", "views": 2 })),
            (&["--author.name", "Q"], json!({ "author": { "name": "Q" } })),
            (
                &["--author.a.b=Q", "--author.c", "1"],
                json!({ "author": { "c": "1", "a": { "b": "Q" } } }),
            ),
            (
                &["--place.floor", "3", "--place.in.floor=-1"],
                json!({ "place": { "floor": 3, "in": { "floor": -1 } } }),
            ),
            (
                &[r#"{"author":{"name":"A","age":3}}"#, "--author.name", "B"],
                json!({ "author": { "name": "B", "age": 3 } }),
            ),
            (&[r#"{"place":null}"#, "--place.floor", "1"], json!({ "place": { "floor": 1 } })),
        ];
        for (arguments, expected) in cases {
            assert_eq!(value(arguments), Ok(Some(expected)), "{arguments:?}");
        }
        assert_eq!(value(&[]), Ok(None));
    }

    #[test]
    fn what_is_given_of_a_field_leaves_the_rest_of_it_as_it_was() {
        let schema = json!({ "properties": { "author": { "type": "object" } } });
        let before = json!({ "author": { "name": "A", "age": 3 }, "title": "t" });
        let value = |arguments: &[&str]| {
            let given =
                Given::read(arguments.iter().map(|argument| argument.to_string()).collect());
            let given = given.expect("arguments");
            assert!(given.has_parts(&schema));
            given.value("table posts", &schema, Some(&before)).expect("a value")
        };
        let expected = json!({ "author": { "name": "B", "age": 3 } });
        assert_eq!(value(&["--author.name", "B"]), Some(expected));
        let whole = json!({ "author": { "name": "B" } });
        assert_eq!(value(&[r#"{"author":{}}"#, "--author.name", "B"]), Some(whole));
    }

    #[test]
    fn an_option_is_taken_from_among_the_fields() {
        let read = |arguments: &[&str]| {
            Given::read(arguments.iter().map(|argument| argument.to_string()).collect())
        };
        let mut given = read(&["posts", "--title", "a", "--workspace", "blog"]).expect("arguments");
        assert_eq!(given.take("workspace").expect("a value"), Some("blog".to_owned()));
        assert_eq!(given.take("workspace").expect("nothing"), None);
        assert_eq!(given.fields, [("title".to_owned(), Some("a".to_owned()))]);
        assert!(read(&["--workspace"]).expect("arguments").take("workspace").is_err());
    }

    #[test]
    fn what_is_wrong_with_a_field_is_said() {
        let cases: [(&[&str], &str); 12] = [
            (&["--title"], "--title needs a value"),
            (&["--views", "many"], "--views must be a number, and is \"many\""),
            (&["--title", "a", "--title", "b"], "--title is given 2 times"),
            (&["--url", "x"], "table posts has no field \"url\", it has --title"),
            (&["--=x"], "the name of the field is missing"),
            (&["{}", "[]"], "unexpected \"[]\""),
            (&["{title}"], "\"{title}\" is neither JSON"),
            (&["[]", "--title", "a"], "only be added to a JSON object"),
            (&["--title.x", "a"], "title of table posts is not an object"),
            (&["--place.floor", "up"], "--place.floor must be a number"),
            (
                &["--place.roof", "1"],
                "place of table posts has no field \"roof\", it has --place.floor",
            ),
            (&["--place.floor"], "--place.floor needs a value"),
        ];
        for (arguments, expected) in cases {
            let error = value(arguments).expect_err("it is wrong");
            assert!(error.contains(expected), "{arguments:?}: {error}");
        }
    }

    #[test]
    fn a_value_is_json_where_the_schema_has_its_type_and_text_elsewhere() {
        let text = json!({ "type": "string" });
        let number = json!({ "type": "number" });
        let either = json!({ "type": ["number", "string"] });
        let anything = json!({});
        let cases = [
            ("dark", &text, json!("dark")),
            ("\"dark\"", &text, json!("dark")),
            ("12", &text, json!("12")),
            ("12", &number, json!(12)),
            ("12", &either, json!(12)),
            ("twelve", &either, json!("twelve")),
            ("{\"a\":1}", &anything, json!({ "a": 1 })),
        ];
        for (given, schema, expected) in cases {
            assert_eq!(read_value(given, schema).expect("it is fine"), expected, "{given}");
        }
        assert!(read_value("dark", &anything).is_err(), "it may be meant to be anything");
    }

    #[test]
    fn a_file_is_read_and_what_is_wrong_with_it_names_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = |name: &str, bytes: &[u8]| {
            let path = folder.path().join(name);
            std::fs::write(&path, bytes).expect("a file");
            format!("@{}", path.display())
        };
        assert_eq!(read_json(&file("good", b" [1]\n")).expect("JSON"), json!([1]));
        let large = vec![b' '; MAX_INPUT as usize + 1];
        for (given, expected) in [
            (file("bad", b"{"), "bad is not JSON"),
            (file("bytes", &[0xff, 0]), "bytes is not JSON"),
            (file("large", &large), "large is larger than 8388608 bytes"),
            (format!("@{}", folder.path().join("none").display()), "cannot open"),
        ] {
            let error = format!("{:#}", read_json(&given).expect_err("it is wrong"));
            assert!(error.contains(expected), "{error}");
        }
    }
}
