//! What a workspace consists of, as its plugin declares it.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;

/// Everything the host knows about a workspace before it serves it. Mirrors `workspace-definition`
/// of the contract (`wit/`); [`Definition::check`] holds the rules that WIT cannot express.
#[derive(Debug, Clone, PartialEq, Serialize)]
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
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TableDefinition {
    /// The table's name in URLs.
    pub name: String,
    /// One JSON Schema for each version of the row, oldest first; never empty.
    pub versions: Vec<Value>,
    /// Documents attached to each row.
    pub documents: Vec<DocumentDefinition>,
    /// Whether `check-change` is asked before a row changes.
    pub checks_changes: bool,
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

/// The caller of an action or a REST request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Caller {
    /// The account's id.
    pub id: String,
    /// Empty when not known.
    pub email: String,
    /// Empty when not known.
    pub name: String,
}

/// What a caller proved itself with. Where the host asks somebody else on the caller's behalf, that
/// is whom it shows it to; no plugin sees it, and it is in no log.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential(pub Arc<str>);

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credential(…)")
    }
}

/// One thing that is wrong with a value, and where in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
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

/// A definition that passed [`Definition::check`], shared by all who serve it.
pub type CheckedDefinition = Arc<Definition>;

impl TableDefinition {
    /// The document of that name.
    pub fn document(&self, name: &str) -> Option<&DocumentDefinition> {
        self.documents.iter().find(|document| document.name == name)
    }
}

impl Definition {
    /// Holds the definition against the rules of the contract. The error names the item at fault
    /// and what would mend it.
    pub fn check(self) -> Result<CheckedDefinition, DefinitionError> {
        check_name("workspace id", &self.id)?;
        at_most("tables", self.tables.len(), 256)?;
        at_most("kv keys", self.kv.len(), 1024)?;
        at_most("awareness fields", self.awareness.len(), 256)?;
        at_most("actions", self.actions.len(), 1024)?;
        distinct("table", self.tables.iter().map(|t| t.name.as_str()))?;
        distinct("kv key", self.kv.iter().map(|k| k.key.as_str()))?;
        distinct("awareness field", self.awareness.iter().map(|a| a.name.as_str()))?;
        distinct("action", self.actions.iter().map(|a| a.path.as_str()))?;
        for table in &self.tables {
            let item = format!("table {:?}", table.name);
            check_name("table", &table.name)?;
            check_versions(&item, &table.versions)?;
            distinct("document", table.documents.iter().map(|d| d.name.as_str()))?;
            for document in &table.documents {
                check_name(&format!("document of {item}"), &document.name)?;
            }
        }
        for kv in &self.kv {
            check_name("kv key", &kv.key)?;
            check_versions(&format!("kv key {:?}", kv.key), &kv.versions)?;
        }
        for field in &self.awareness {
            check_name("awareness field", &field.name)?;
            check_schema(&format!("awareness field {:?}", field.name), &field.schema)?;
        }
        for action in &self.actions {
            let item = format!("action {:?}", action.path);
            if action.path.split('/').count() > 8 {
                return Err(DefinitionError(format!("{item} has more than 8 segments")));
            }
            for segment in action.path.split('/') {
                check_name(&format!("segment of {item}"), segment)?;
            }
            if let Some(input) = &action.input {
                check_schema(&format!("input of {item}"), input)?;
            }
            if let Some(output) = &action.output {
                check_schema(&format!("output of {item}"), output)?;
            }
        }
        let mut checked = self;
        if checked.title.is_empty() {
            checked.title = checked.id.clone();
        }
        Ok(Arc::new(checked))
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

/// What is wrong with a definition, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct DefinitionError(pub String);

fn check_name(what: &str, name: &str) -> Result<(), DefinitionError> {
    let ok = name.len() <= 64
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'));
    if ok {
        return Ok(());
    }
    Err(DefinitionError(format!(
        "{what}: bad name {name:?}; use up to 64 of A-Z a-z 0-9 _ . - and begin with a letter or digit"
    )))
}

fn at_most(what: &str, count: usize, limit: usize) -> Result<(), DefinitionError> {
    if count <= limit {
        return Ok(());
    }
    Err(DefinitionError(format!("{count} {what} are declared; {limit} is the most")))
}

fn distinct<'a>(what: &str, names: impl Iterator<Item = &'a str>) -> Result<(), DefinitionError> {
    let mut seen = std::collections::HashSet::new();
    for name in names {
        if !seen.insert(name) {
            return Err(DefinitionError(format!("{what} {name:?} is declared twice")));
        }
    }
    Ok(())
}

fn check_versions(item: &str, versions: &[Value]) -> Result<(), DefinitionError> {
    if versions.is_empty() {
        return Err(DefinitionError(format!("{item} has no schema; declare at least one version")));
    }
    at_most(&format!("versions of {item}"), versions.len(), 1000)?;
    for (index, schema) in versions.iter().enumerate() {
        check_schema(&format!("{item}, version {}", index + 1), schema)?;
    }
    Ok(())
}

fn check_schema(item: &str, schema: &Value) -> Result<(), DefinitionError> {
    jsonschema::validator_for(schema)
        .map(drop)
        .map_err(|error| DefinitionError(format!("{item}: not a JSON Schema: {error}")))
}
