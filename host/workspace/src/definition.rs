//! What a workspace consists of, as its plugin declares it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::schema::Schema;

/// Everything the host knows about a workspace before it serves it. Mirrors `workspace-definition`
/// of the contract (`wit/`); [`Definition::check`] holds the rules that WIT cannot express.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Definition {
    /// Names the workspace in URLs, and its room.
    pub id: String,
    /// For people; the id where the plugin gave none.
    pub title: String,
    /// The plugin's own version; empty where it has none.
    pub version: String,
    /// Tables, names distinct.
    pub tables: Vec<TableDefinition>,
    /// Key-values, keys distinct.
    pub kv: Vec<KvDefinition>,
    /// Fields of the presence states.
    pub awareness: Vec<AwarenessField>,
    /// Actions, paths distinct.
    pub actions: Vec<ActionDefinition>,
}

/// A table: rows of one shape, kept in the document's array `table:{name}`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct TableDefinition {
    /// The table's name in URLs.
    pub name: String,
    /// One JSON Schema for each version of the row, oldest first; never empty.
    pub versions: Vec<Value>,
    /// Documents attached to each row.
    pub documents: Vec<DocumentDefinition>,
    /// Whether `check-change` is asked before a row changes.
    pub checks_changes: bool,
    /// Fields of which no two rows may have the same values. Of several fields, all together.
    pub unique: Vec<Vec<String>>,
    /// Fields that hold the ids of rows that must be there.
    pub references: Vec<Reference>,
    /// Whether its rules hold for sync as well.
    pub enforce: bool,
}

/// A field that holds the id of a row, of this table or another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reference {
    /// The field.
    pub field: String,
    /// The table of the row that it refers to.
    pub table: String,
    /// What becomes of a row when the one that it refers to is deleted.
    pub on_delete: OnDelete,
}

/// What becomes of rows that refer to a row when that is deleted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnDelete {
    /// They keep it from being deleted.
    #[default]
    Restrict,
    /// They are deleted with it.
    Cascade,
    /// They refer to nothing from then on.
    SetNull,
}

/// A Yjs document attached to each row of a table.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DocumentDefinition {
    /// The document's name in URLs.
    pub name: String,
    /// The column that holds the id of the document's room.
    pub guid_column: String,
    /// The column that is set to the time (ms) of the last local edit.
    pub updated_at_column: String,
}

/// A single value under a key.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct KvDefinition {
    /// The key.
    pub key: String,
    /// One JSON Schema for each version of the value, oldest first; never empty.
    pub versions: Vec<Value>,
}

/// A field of the presence states that clients share.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AwarenessField {
    /// The field's name.
    pub name: String,
    /// JSON Schema of its value.
    pub schema: Value,
}

/// How an action is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ActionKind {
    /// Reads a consistent snapshot; GET.
    Query,
    /// May write, all or nothing; POST.
    Mutation,
}

/// Something that callers can ask the workspace to do.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ActionDefinition {
    /// Segments joined by `/`.
    pub path: String,
    /// Query or mutation.
    pub kind: ActionKind,
    /// For people; empty when there is none.
    pub description: String,
    /// JSON Schema of the input; none when the action takes none.
    pub input: Option<Value>,
    /// JSON Schema of the result.
    pub output: Option<Value>,
}

/// One thing that is wrong with a value, and where in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Issue {
    /// From the outermost member inwards; empty when the whole value is at fault.
    pub path: Vec<String>,
    /// What is wrong and what would mend it.
    pub message: String,
}

impl Issue {
    /// An issue with the whole value.
    pub fn whole(message: impl Into<String>) -> Self {
        Self { path: Vec::new(), message: message.into() }
    }

    /// The same issue, of a value that is itself a member.
    pub(crate) fn within(mut self, member: impl ToString) -> Self {
        self.path.insert(0, member.to_string());
        self
    }

    /// An issue with one member of the value.
    pub fn at(member: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: vec![member.into()], message: message.into() }
    }
}

/// Bytes of the longest id of a row.
const MAX_ID: usize = 512;

/// What keeps an id from naming a row in a URL. Anything can be written there with percent signs but `.`
/// and `..`, which clients resolve before they send them.
pub(crate) fn id_issue(id: &str) -> Option<Issue> {
    match id {
        "" => Some(Issue::at("id", "must not be empty")),
        "." | ".." => Some(Issue::at("id", "must not be \".\" or \"..\", which no URL can hold")),
        id if id.len() > MAX_ID => {
            Some(Issue::at("id", format!("must have at most {MAX_ID} bytes, and has {}", id.len())))
        }
        _ => None,
    }
}

/// A definition that passed [`Definition::check`], shared by all who serve it.
pub type CheckedDefinition = Arc<Definition>;

impl TableDefinition {
    /// The document of that name.
    pub fn document(&self, name: &str) -> Option<&DocumentDefinition> {
        self.documents.iter().find(|document| document.name == name)
    }
}

impl Definition {
    /// Holds the definition against the rules of the contract. The error names all items at fault,
    /// one a line, and what would mend them.
    pub fn check(mut self) -> Result<CheckedDefinition, DefinitionError> {
        let faults = self.faults();
        if !faults.is_empty() {
            return Err(DefinitionError(faults.join("\n")));
        }
        if self.title.is_empty() {
            self.title = self.id.clone();
        }
        Ok(Arc::new(self))
    }

    /// Everything that is wrong with it.
    fn faults(&self) -> Vec<String> {
        let mut faults = Faults::default();
        faults.name("workspace id", &self.id);
        faults.at_most("tables", self.tables.len(), 256);
        faults.at_most("kv keys", self.kv.len(), 1024);
        faults.at_most("awareness fields", self.awareness.len(), 256);
        faults.at_most("actions", self.actions.len(), 1024);
        faults.distinct("table", self.tables.iter().map(|t| t.name.as_str()));
        faults.distinct("kv key", self.kv.iter().map(|k| k.key.as_str()));
        faults.distinct("awareness field", self.awareness.iter().map(|a| a.name.as_str()));
        faults.distinct("action", self.actions.iter().map(|a| a.path.as_str()));
        for table in &self.tables {
            let item = format!("table {:?}", table.name);
            faults.name("table", &table.name);
            faults.versions(&item, &table.versions);
            faults.distinct("document", table.documents.iter().map(|d| d.name.as_str()));
            for document in &table.documents {
                faults.name(&format!("document of {item}"), &document.name);
            }
            faults.rules(self, table);
        }
        for kv in &self.kv {
            faults.name("kv key", &kv.key);
            faults.versions(&format!("kv key {:?}", kv.key), &kv.versions);
        }
        for field in &self.awareness {
            faults.name("awareness field", &field.name);
            faults.schema(&format!("awareness field {:?}", field.name), &field.schema);
        }
        for action in &self.actions {
            let item = format!("action {:?}", action.path);
            faults.at_most(&format!("segments of {item}"), action.path.split('/').count(), 8);
            for segment in action.path.split('/').take(8) {
                faults.name(&format!("segment of {item}"), segment);
            }
            if let Some(input) = &action.input {
                faults.schema(&format!("input of {item}"), input);
            }
            if let Some(output) = &action.output {
                faults.schema(&format!("output of {item}"), output);
            }
        }
        faults.0
    }

    /// The table of that name.
    pub fn table(&self, name: &str) -> Option<&TableDefinition> {
        self.tables.iter().find(|table| table.name == name)
    }

    /// The action of that path.
    pub fn action(&self, path: &str) -> Option<&ActionDefinition> {
        self.actions.iter().find(|action| action.path == path)
    }
}

/// Rules of each kind that a table may have; each costs every write of its rows something.
const MOST_RULES: usize = 16;

/// What is wrong with a definition, and where; one fault a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct DefinitionError(pub String);

/// The faults of a definition. 100: a guest that makes a million of them is told no more.
#[derive(Default)]
struct Faults(Vec<String>);

impl Faults {
    fn add(&mut self, fault: String) {
        if self.0.len() < 100 {
            self.0.push(fault.replace('\n', " "));
        }
    }

    fn name(&mut self, what: &str, name: &str) {
        let ok = name.len() <= 64
            && name.starts_with(|c: char| c.is_ascii_alphanumeric())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'));
        if !ok {
            self.add(format!(
                "{what}: bad name {name:?}; use up to 64 of A-Z a-z 0-9 _ . - and begin with a letter or digit"
            ));
        }
    }

    fn at_most(&mut self, what: &str, count: usize, limit: usize) {
        if count > limit {
            self.add(format!("{count} {what} are declared; {limit} is the most"));
        }
    }

    fn distinct<'a>(&mut self, what: &str, names: impl Iterator<Item = &'a str>) {
        let mut seen = std::collections::HashSet::new();
        for name in names {
            if !seen.insert(name) {
                self.add(format!("{what} {name:?} is declared twice"));
            }
        }
    }

    fn versions(&mut self, item: &str, versions: &[Value]) {
        if versions.is_empty() {
            self.add(format!("{item} has no schema; declare at least one version"));
        }
        self.at_most(&format!("versions of {item}"), versions.len(), 1000);
        for (index, schema) in versions.iter().take(1000).enumerate() {
            self.schema(&format!("{item}, version {}", index + 1), schema);
        }
    }

    /// The rules of a table. They name fields of the current version, where its schema names any.
    fn rules(&mut self, definition: &Definition, table: &TableDefinition) {
        let TableDefinition { name, unique, references, .. } = table;
        self.at_most(&format!("unique rules of table {name:?}"), unique.len(), MOST_RULES);
        self.at_most(&format!("references of table {name:?}"), references.len(), MOST_RULES);
        let properties = table.versions.last().and_then(|schema| schema["properties"].as_object());
        let mut field = |item: String, field: &str| match properties {
            _ if field.is_empty() => self.add(format!("{item} names no field")),
            Some(properties) if !properties.contains_key(field) => {
                let known: Vec<_> = properties.keys().map(String::as_str).collect();
                self.add(format!(
                    "{item} names {field:?}, which is no field of the table; its fields are {}",
                    known.join(", ")
                ));
            }
            _ => {}
        };
        for fields in unique.iter().take(MOST_RULES) {
            let item = format!("unique of table {name:?}");
            if fields.is_empty() {
                field(item, "");
                continue;
            }
            fields.iter().for_each(|of| field(item.clone(), of));
        }
        for reference in references.iter().take(MOST_RULES) {
            field(format!("a reference of table {name:?}"), &reference.field);
        }
        for fields in unique.iter().take(MOST_RULES) {
            self.at_most(&format!("fields of a unique rule of table {name:?}"), fields.len(), 8);
            self.distinct(
                &format!("field of a unique rule of table {name:?}"),
                fields.iter().map(String::as_str),
            );
        }
        let referring = references.iter().map(|reference| reference.field.as_str());
        self.distinct(&format!("reference of table {name:?} by"), referring);
        for reference in references.iter().take(MOST_RULES) {
            if definition.table(&reference.table).is_none() {
                self.add(format!(
                    "table {name:?} refers by {:?} to table {:?}, which the workspace does not have",
                    reference.field, reference.table
                ));
            }
        }
    }

    fn schema(&mut self, item: &str, schema: &Value) {
        if let Err(error) = Schema::compile(schema) {
            self.add(format!("{item}: not a JSON Schema: {error}"));
        }
    }
}
