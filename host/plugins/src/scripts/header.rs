//! The header of a script: the comment at its start, or above one of its functions.
//!
//! First a description for people, then a line `---`, then settings in TOML.
//!
//! ```rhai
//! //! The posts that are read most.
//! //! ---
//! //! kind = "query"
//! //! input.limit = { type = "integer", minimum = 1, default = 10 }
//! //! input.tag = { type = "string", optional = true }
//! ```

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use host_workspace::definition::{ActionKind, OnDelete, Reference};

/// An error in a script, and its line.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mistake {
    /// Counted from 1.
    pub(super) line: usize,
    pub(super) reason: String,
}

/// A comment: its lines without the markers, and the number of the first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Comment<'s> {
    line: usize,
    lines: Vec<&'s str>,
}

/// A function with a comment of its own.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Function<'s> {
    pub(super) name: &'s str,
    /// Whether it takes an argument.
    pub(super) takes_input: bool,
    pub(super) comment: Comment<'s>,
    pub(super) line: usize,
}

/// The settings of an action.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ActionSettings {
    kind: Kind,
    /// The path of a function's action; by default its name.
    pub(super) path: Option<String>,
    input: Option<Map<String, Value>>,
    pub(super) output: Option<Value>,
}

/// The settings of a workspace.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct WorkspaceSettings {
    /// The workspace's id; by default the folder's name.
    pub(super) id: Option<String>,
    pub(super) title: String,
    pub(super) version: String,
    /// The JSON Schema of each key.
    pub(super) kv: Map<String, Value>,
    /// The JSON Schema of each field.
    pub(super) awareness: Map<String, Value>,
    /// The documents of each table's rows, by their names.
    pub(super) documents: BTreeMap<String, BTreeMap<String, DocumentSettings>>,
    /// The fields of each table of which no two rows may have the same values.
    pub(super) unique: BTreeMap<String, Vec<UniqueSettings>>,
    /// The fields of each table that hold the ids of rows, by name.
    pub(super) references: BTreeMap<String, BTreeMap<String, ReferenceSettings>>,
    /// The tables whose rules hold for sync as well.
    pub(super) enforce: Vec<String>,
}

/// A field that is unique, or several together.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged, expecting = "must be the name of a field, or a list of such names")]
pub(super) enum UniqueSettings {
    One(String),
    Together(Vec<String>),
}

impl From<UniqueSettings> for Vec<String> {
    fn from(settings: UniqueSettings) -> Self {
        match settings {
            UniqueSettings::One(field) => vec![field],
            UniqueSettings::Together(fields) => fields,
        }
    }
}

/// The table that a field refers to.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged, expecting = "must be the name of a table, or { table = …, on_delete = … }")]
pub(super) enum ReferenceSettings {
    Table(String),
    Full(FullReference),
}

/// The table that a field refers to, and what becomes of a row whose target is deleted.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FullReference {
    table: String,
    #[serde(default)]
    on_delete: OnDelete,
}

impl ReferenceSettings {
    /// What it says of the field of that name.
    pub(super) fn of(self, field: String) -> Reference {
        let (table, on_delete) = match self {
            Self::Table(table) => (table, OnDelete::default()),
            Self::Full(FullReference { table, on_delete }) => (table, on_delete),
        };
        Reference { field, table, on_delete }
    }
}

/// The columns that link a row to a document.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DocumentSettings {
    /// Holds the id of the document's room.
    pub(super) guid: String,
    /// Set to the time of the latest edit.
    pub(super) updated_at: String,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Query,
    Mutation,
}

impl Comment<'_> {
    /// The description before the settings, with one line for each paragraph.
    pub(super) fn description(&self) -> String {
        let mut description = String::new();
        for line in self.lines.iter().map(|line| line.trim()).take_while(|line| *line != "---") {
            if line.is_empty() {
                description.push('\n');
                continue;
            }
            if !description.is_empty() && !description.ends_with('\n') {
                description.push(' ');
            }
            description.push_str(line);
        }
        description.trim().to_owned()
    }

    /// Whether it has settings.
    pub(super) fn has_settings(&self) -> bool {
        self.lines.iter().any(|line| line.trim() == "---")
    }

    /// The settings; `None` if there are none.
    pub(super) fn settings<T: DeserializeOwned>(&self) -> Result<Option<T>, Mistake> {
        let Some(at) = self.lines.iter().position(|line| line.trim() == "---") else {
            return Ok(None);
        };
        let text = self.lines[at + 1..].join("\n");
        toml::from_str(&text).map(Some).map_err(|error| {
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            let line = self.line + at + 1 + before.matches('\n').count();
            Mistake { line, reason: error.message().replace('\n', " ") }
        })
    }
}

/// The comment `//!` at the head of a script; empty when there is none.
pub(super) fn head(source: &str) -> Comment<'_> {
    let lines = source.lines().map_while(|line| line.trim_start().strip_prefix("//!"));
    Comment { line: 1, lines: lines.collect() }
}

/// The functions that have a comment `///` right above them.
pub(super) fn functions(source: &str) -> Vec<Function<'_>> {
    let mut found = Vec::new();
    let mut comment = Comment { line: 0, lines: Vec::new() };
    for (at, line) in source.lines().enumerate() {
        let line = line.trim();
        if let Some(text) = line.strip_prefix("///").filter(|text| !text.starts_with('/')) {
            if comment.lines.is_empty() {
                comment.line = at + 1;
            }
            comment.lines.push(text);
            continue;
        }
        let lines = std::mem::take(&mut comment.lines);
        if lines.is_empty() {
            continue;
        }
        let Some(rest) = line.strip_prefix("fn ") else { continue };
        let Some((name, rest)) = rest.split_once('(') else { continue };
        let comment = Comment { line: comment.line, lines };
        let takes_input = !rest.trim_start().starts_with(')');
        found.push(Function { name: name.trim(), takes_input, comment, line: at + 1 });
    }
    found
}

impl ActionSettings {
    pub(super) fn kind(&self) -> ActionKind {
        match self.kind {
            Kind::Query => ActionKind::Query,
            Kind::Mutation => ActionKind::Mutation,
        }
    }

    /// The JSON Schema of the input, and the defaults of its members.
    ///
    /// A member's schema may be just the name of its type. A member is required unless it has a
    /// default or is optional, and unknown members are rejected. For anything else, write a whole
    /// schema with `type = "object"` and `properties`.
    pub(super) fn input(&mut self) -> (Option<Value>, Vec<(String, Value)>) {
        let Some(members) = self.input.take() else { return (None, Vec::new()) };
        let whole = members.get("type") == Some(&json!("object"))
            && members.get("properties").is_some_and(Value::is_object);
        if whole {
            return (Some(Value::Object(members)), Vec::new());
        }
        let mut properties = Map::new();
        let mut required = Vec::new();
        let mut defaults = Vec::new();
        for (name, schema) in members {
            let mut schema = match schema {
                Value::String(kind) => json!({ "type": kind }),
                schema => schema,
            };
            let optional = schema.as_object_mut().and_then(|schema| schema.remove("optional"));
            if let Some(default) = schema.get("default") {
                defaults.push((name.clone(), default.clone()));
            } else if optional != Some(Value::Bool(true)) {
                required.push(name.clone());
            }
            properties.insert(name, schema);
        }
        let schema = json!({
            "type": "object",
            "properties": properties,
            "required": required,
            "additionalProperties": false,
        });
        (Some(schema), defaults)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRIPT: &str = "//! The posts that are\n//! read most.\n//! ---\n//! kind = \"query\"\n\
                          //! input.limit = { type = \"integer\", default = 10 }\n\
                          //! input.tag = { type = \"string\", optional = true }\n\
                          //! input.q = \"string\"\nlet x = 1;";

    #[test]
    fn a_header_says_what_a_script_does_and_takes() {
        let head = head(SCRIPT);
        assert_eq!(head.description(), "The posts that are read most.");
        let mut settings: ActionSettings = head.settings().unwrap().unwrap();
        assert_eq!(settings.kind(), ActionKind::Query);
        let (schema, defaults) = settings.input();
        let properties = json!({
            "limit": { "type": "integer", "default": 10 },
            "q": { "type": "string" },
            "tag": { "type": "string" },
        });
        let schema = schema.unwrap();
        assert_eq!(schema["properties"], properties);
        assert_eq!(schema["required"], json!(["q"]));
        assert_eq!(defaults, [("limit".to_owned(), json!(10))]);
    }

    #[test]
    fn a_mistake_in_a_header_has_its_line() {
        let cases = [
            ("//! x\n//! ---\n//! kind = \"quarry\"", 3, "unknown variant `quarry`"),
            ("//! ---\n//! kind = \"query\"\n//! inputs = 1", 3, "unknown field `inputs`"),
            ("//! ---\n//! kind = \"query\"\n//!\n//! input = [", 4, ""),
            ("//! ---\n//! path = \"x\"", 2, "missing field `kind`"),
        ];
        for (source, line, reason) in cases {
            let mistake = head(source).settings::<ActionSettings>().unwrap_err();
            assert_eq!(mistake.line, line, "{mistake:?}");
            assert!(mistake.reason.contains(reason), "{mistake:?}");
        }
    }

    #[test]
    fn functions_with_a_comment_are_found() {
        let source = "/// One.\n/// ---\n/// kind = \"query\"\nfn one(input) {}\n\nfn two() {}\n\
                      /// Three.\nfn three() {}\n//// No.\nfn four() {}";
        let found = functions(source);
        let names: Vec<_> = found.iter().map(|f| (f.name, f.takes_input, f.line)).collect();
        assert_eq!(names, [("one", true, 4), ("three", false, 8)]);
        assert!(found[0].comment.has_settings() && !found[1].comment.has_settings());
    }
}
