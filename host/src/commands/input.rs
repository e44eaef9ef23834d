//! What commands take: JSON inline, from a file (`@file`) or from standard input (`-`), and fields as
//! flags (`--title Hello --views 3`), which are text until the schema says what they are meant to
//! be.

use std::fs::File;
use std::io::{self, IsTerminal, Read};

use anyhow::{Context, Result};
use host_workspace::schema::{accepts, coerce, property};
use serde_json::{Map, Value};

use super::Usage;

/// The most bytes that are read for one value; a server takes no more in a request.
const MAX_INPUT: u64 = 8 * 1024 * 1024;

/// What follows the name of a table or an action on the command line.
#[derive(Debug, Default, PartialEq)]
pub struct Given {
    /// What is no flag, in order.
    pub words: Vec<String>,
    /// Flags with their texts, where they have any.
    pub fields: Vec<(String, Option<String>)>,
}

impl Given {
    /// Tells flags from words: `--name value` and `--name=value` are fields, and so is `--name`
    /// alone, which says that something is so. Behind `--` are only words.
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
                return Err(Usage::error(format!("{argument}: a field has a name")));
            }
            given.fields.push((name.to_owned(), value));
        }
        Ok(given)
    }

    /// Takes the next word.
    pub fn word(&mut self) -> Option<String> {
        if self.words.is_empty() { None } else { Some(self.words.remove(0)) }
    }

    /// The value that is given: JSON, with the fields laid over it. `what` has the schema. None when
    /// nothing is given.
    pub fn value(self, what: &str, schema: &Value) -> Result<Option<Value>> {
        let mut words = self.words.into_iter();
        let json = words.next();
        if let Some(extra) = words.next() {
            return Err(Usage::error(format!("{extra:?} is too much: one JSON value is taken")));
        }
        let fields = typed(self.fields, what, schema)?;
        let Some(json) = json else {
            return Ok((!fields.is_empty()).then_some(Value::Object(fields)));
        };
        let mut value = read_json(&json)?;
        match value.as_object_mut() {
            Some(object) => object.extend(fields),
            None if fields.is_empty() => {}
            None => return Err(Usage::error("fields as flags go with a JSON object only")),
        }
        Ok(Some(value))
    }
}

/// The fields as the schema's types. A field that is given again is an array.
fn typed(
    fields: Vec<(String, Option<String>)>,
    what: &str,
    schema: &Value,
) -> Result<Map<String, Value>> {
    let known = schema["properties"].as_object();
    let mut pairs = Vec::with_capacity(fields.len());
    let mut arrays = Map::new();
    for (name, text) in fields {
        if let Some(known) = known
            && !known.contains_key(&name)
        {
            let names: Vec<_> = known.keys().map(|name| format!("--{name}")).collect();
            return Err(Usage::error(format!(
                "{what} has no field {name:?}, it has {}; options of the command stand before \
                 the name of what it is about",
                names.join(" ")
            )));
        }
        let kind = property(schema, &name);
        let text = match text {
            Some(text) => text,
            None if accepts(kind, "boolean") => "true".to_owned(),
            None => return Err(Usage::error(format!("--{name} wants a value"))),
        };
        // A whole array may be given, too, as only it can be empty.
        if accepts(kind, "array") && text.starts_with('[') {
            arrays.insert(name.clone(), inline(&text)?);
        } else {
            pairs.push((name, text));
        }
    }
    let typed = coerce(schema, pairs).map_err(|issues| {
        let lines =
            issues.iter().map(|issue| format!("--{} {}", issue.path.concat(), issue.message));
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

/// One value by its schema: JSON if it is that and of a type that the schema has, else a text.
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
        "{name} is larger than {MAX_INPUT} bytes; `import` takes rows line by line"
    );
    serde_json::from_slice(&bytes).with_context(|| format!("{name} is not JSON"))
}

fn inline(text: &str) -> Result<Value> {
    serde_json::from_str(text)
        .map_err(|error| Usage::error(format!("{text:?} is not JSON ({error}), @file or -")))
}

/// Whether something is piped in.
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
        } });
        let arguments = arguments.iter().map(|argument| argument.to_string()).collect();
        let given = Given::read(arguments).map_err(|error| error.to_string())?;
        given.value("table posts", &schema).map_err(|error| {
            assert!(error.is::<Usage>(), "{error}");
            error.to_string()
        })
    }

    #[test]
    fn fields_are_typed_by_the_schema() {
        let cases: [(&[&str], Value); 11] = [
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
        ];
        for (arguments, expected) in cases {
            assert_eq!(value(arguments), Ok(Some(expected)), "{arguments:?}");
        }
        assert_eq!(value(&[]), Ok(None));
    }

    #[test]
    fn what_is_wrong_with_a_field_is_said() {
        let cases: [(&[&str], &str); 8] = [
            (&["--title"], "--title wants a value"),
            (&["--views", "many"], "--views must be a number, and is \"many\""),
            (&["--title", "a", "--title", "b"], "--title is given 2 times"),
            (&["--url", "x"], "table posts has no field \"url\", it has --title"),
            (&["--=x"], "a field has a name"),
            (&["{}", "[]"], "\"[]\" is too much"),
            (&["{title}"], "\"{title}\" is not JSON"),
            (&["[]", "--title", "a"], "with a JSON object only"),
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
