//! A workspace without a component: a folder with `workspace.rhai`, and JSON Schemas that define
//! which rows are valid.
//!
//! `tables/notes.json` is the schema of the table `notes`. If its rows have had several shapes, the
//! schemas are `tables/notes/1.json`, `2.json` and so on, oldest first. `workspace.rhai` may have
//! functions for what schemas cannot express; all are optional:
//!
//! - `validate(table, row)` gets a row that its schema allows and returns nothing or what is wrong;
//! - `migrate(table, row, version)` turns a row of `version` into one of `version + 1`;
//! - `check(change)` is called before a change, with `table`, `operation`, `id`, `old`, `row` (as
//!   it will be), `caller`, `right` and `source`; it returns nothing or what is wrong, or throws.
//!
//! Documents of rows are declared in the header of `workspace.rhai`, by table and name, with the
//! columns that they need: `documents.notes.body = { guid = "body", updated_at = "edited" }`.
//!
//! A row of a table with several versions carries `_v`; without it, the version is the newest one
//! whose schema allows the row.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use host_workspace::definition::{
    AwarenessField, DocumentDefinition, KvDefinition, TableDefinition,
};
use host_workspace::schema::Schema;
use host_workspace::{ActionError, Change, Definition, Issue, Operation, Parsed};
use rhai::{Dynamic, Engine, FuncArgs, Scope};
use serde_json::{Value, json};

use super::errors::{error_of, is_error, verdict};
use super::header::{self, DocumentSettings, Mistake, WorkspaceSettings};
use super::script::{Broke, Script, compile};
use super::value::{to_json, to_script};
use crate::sources::{Sources, Text};

/// The member with the version of a row.
const VERSION: &str = "_v";

pub(super) struct Rows {
    pub(super) script: Arc<Script>,
    tables: HashMap<String, Vec<Schema>>,
    kv: HashMap<String, Schema>,
    validates: bool,
    migrates: bool,
}

impl Rows {
    /// Compiles a folder. Returns the workspace's definition without its actions, or all errors.
    pub(super) fn compile(
        engine: &Engine,
        sources: &Sources,
    ) -> Result<(Definition, Self), Vec<String>> {
        let Some(text) = &sources.workspace else {
            return Err(vec!["has no workspace.rhai".into()]);
        };
        let mut faults = Vec::new();
        let script = compile(engine, text, &Scope::new()).map_err(|fault| faults.push(fault)).ok();
        let settings = header::head(&text.text).settings::<WorkspaceSettings>();
        let settings = settings.unwrap_or_else(|Mistake { line, reason }| {
            faults.push(format!("{}:{line}: {reason}", text.path));
            None
        });
        let mut settings = settings.unwrap_or_default();
        let has = |name: &str, parameters: usize| {
            script.as_ref().is_some_and(|script| {
                let mut functions = script.ast.iter_functions();
                functions
                    .any(|function| function.name == name && function.params.len() == parameters)
            })
        };
        let mut tables = HashMap::new();
        let mut defined = Vec::new();
        for (name, versions) in &sources.tables {
            let documents = settings.documents.remove(name).unwrap_or_default();
            let unique = settings.unique.remove(name).unwrap_or_default();
            let references = settings.references.remove(name).unwrap_or_default();
            let versions = match versions_of(name, versions) {
                Ok(versions) => versions,
                Err(fault) => {
                    faults.push(fault);
                    continue;
                }
            };
            let newest = versions.last().map_or(&Value::Null, |(_, schema)| schema);
            let documents = documents_of(name, newest, documents).unwrap_or_else(|reason| {
                faults.push(format!("{}: {reason}", text.path));
                Vec::new()
            });
            let mut compiled = Vec::new();
            for (text, schema) in &versions {
                match Schema::compile(schema) {
                    Ok(schema) => compiled.push(schema),
                    Err(error) => faults.push(format!("{}: not a JSON Schema: {error}", text.path)),
                }
            }
            tables.insert(name.clone(), compiled);
            defined.push(TableDefinition {
                name: name.clone(),
                versions: versions.into_iter().map(|(_, schema)| schema).collect(),
                documents,
                checks_changes: has("check", 1),
                unique: unique.into_iter().map(Vec::from).collect(),
                references: references.into_iter().map(|(field, to)| to.of(field)).collect(),
                enforce: settings.enforce.iter().any(|table| table == name),
            });
        }
        for (kind, table) in [
            ("unique", settings.unique.keys().next()),
            ("references", settings.references.keys().next()),
        ] {
            faults.extend(
                table.map(|table| format!("{}: {kind}.{table}: there is no such table", text.path)),
            );
        }
        let known = |table: &String| defined.iter().any(|defined| defined.name == *table);
        for table in settings.enforce.iter().filter(|table| !known(table)) {
            faults.push(format!("{}: enforce: there is no table {table:?}", text.path));
        }
        for table in settings.documents.keys() {
            faults.push(format!("{}: documents.{table}: there is no such table", text.path));
        }
        let mut kv = HashMap::new();
        for (key, schema) in &settings.kv {
            match Schema::compile(schema) {
                Ok(compiled) => drop(kv.insert(key.clone(), compiled)),
                Err(error) => {
                    faults.push(format!("{}: kv.{key}: not a JSON Schema: {error}", text.path));
                }
            }
        }
        let migrates = has("migrate", 3);
        if let Some(table) = defined.iter().find(|table| table.versions.len() > 1)
            && script.is_some()
            && !migrates
        {
            faults.push(format!(
                "{}: the table {} has {} versions, so there must be a function \
                 migrate(table, row, version)",
                text.path,
                table.name,
                table.versions.len()
            ));
        }
        let validates = has("validate", 2);
        let Some(script) = script.filter(|_| faults.is_empty()) else { return Err(faults) };
        let definition = Definition {
            id: settings.id.unwrap_or_else(|| sources.stem.clone()),
            title: settings.title,
            version: settings.version,
            tables: defined,
            kv: settings
                .kv
                .into_iter()
                .map(|(key, schema)| KvDefinition { key, versions: vec![schema] })
                .collect(),
            awareness: settings
                .awareness
                .into_iter()
                .map(|(name, schema)| AwarenessField { name, schema })
                .collect(),
            actions: Vec::new(),
        };
        Ok((definition, Self { validates, migrates, script, tables, kv }))
    }

    /// Calls one of the workspace's functions.
    fn call(
        &self,
        engine: &Engine,
        name: &str,
        arguments: impl FuncArgs,
    ) -> Result<Result<Dynamic, ActionError>, Broke> {
        let done = engine.call_fn(&mut Scope::new(), &self.script.ast, name, arguments);
        self.script.ended(engine, done)
    }

    pub(super) fn parse_row(
        &self,
        engine: &Engine,
        table: &str,
        text: &str,
    ) -> Result<Parsed, Broke> {
        let whole = |message: String| Ok(Err(vec![Issue::whole(message)]));
        let Some(versions) = self.tables.get(table) else {
            return whole(format!("the workspace has no table {table}"));
        };
        let mut row: Value = match serde_json::from_str(text) {
            Ok(row) => row,
            Err(error) => return whole(format!("must be JSON: {error}")),
        };
        if !row.is_object() {
            return whole("must be an object".into());
        }
        let current = versions.len();
        if current > 1 && self.migrates {
            let mut version = match version_of(&mut row, versions) {
                Ok(version) => version,
                Err(issue) => return Ok(Err(vec![issue])),
            };
            while version < current {
                let schema = versions.get(version - 1);
                let issues = schema.map(|schema| schema.issues(&row)).unwrap_or_default();
                if !issues.is_empty() {
                    return Ok(Err(issues));
                }
                let number = i64::try_from(version).unwrap_or(i64::MAX);
                let arguments = (table.to_owned(), to_script(row), number);
                row = match self.call(engine, "migrate", arguments)? {
                    Ok(migrated) => match to_json(migrated) {
                        Ok(row) => row,
                        Err(reason) => return whole(format!("what migrate made of it {reason}")),
                    },
                    Err(error) => return Ok(Err(refused(error))),
                };
                version += 1;
            }
        }
        let issues = versions.last().map(|schema| schema.issues(&row)).unwrap_or_default();
        if !issues.is_empty() {
            return Ok(Err(issues));
        }
        if self.validates {
            let arguments = (table.to_owned(), to_script(row.clone()));
            let issues = match self.call(engine, "validate", arguments)? {
                Ok(value) => {
                    verdict(value).map_err(|reason| format!("what validate says {reason}"))?
                }
                Err(error) => refused(error),
            };
            if !issues.is_empty() {
                return Ok(Err(issues));
            }
        }
        if current > 1
            && let Some(members) = row.as_object_mut()
        {
            members.insert(VERSION.into(), current.into());
        }
        Ok(Ok(row.to_string()))
    }

    pub(super) fn parse_kv(&self, key: &str, value: String) -> Parsed {
        let Some(schema) = self.kv.get(key) else {
            return Err(vec![Issue::whole(format!("the workspace has no key {key}"))]);
        };
        match serde_json::from_str(&value) {
            Ok(json) => match schema.issues(&json) {
                issues if issues.is_empty() => Ok(value),
                issues => Err(issues),
            },
            Err(error) => Err(vec![Issue::whole(format!("must be JSON: {error}"))]),
        }
    }

    pub(super) fn check(
        &self,
        engine: &Engine,
        change: &Change,
    ) -> Result<Result<(), ActionError>, Broke> {
        let row = |text: &Option<String>| -> Value {
            text.as_ref().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
        };
        let asked = to_script(json!({
            "table": change.table,
            "operation": match change.operation {
                Operation::Create => "create",
                Operation::Update => "update",
                Operation::Delete => "delete",
            },
            "id": change.id,
            "old": row(&change.old),
            // Not `new`, which is a reserved word.
            "row": row(&change.new),
            "caller": change.caller,
            "right": change.right,
            "source": change.source,
        }));
        Ok(match self.call(engine, "check", (asked,))? {
            // Returning an error is equivalent to throwing it.
            Ok(value) if is_error(&value) => Err(error_of(value)),
            Ok(value) => {
                match verdict(value).map_err(|reason| format!("what check says {reason}"))? {
                    issues if issues.is_empty() => Ok(()),
                    issues => Err(ActionError::Invalid(issues)),
                }
            }
            Err(error) => Err(error),
        })
    }
}

/// Converts what a hook threw to issues.
fn refused(error: ActionError) -> Vec<Issue> {
    match error {
        ActionError::Invalid(issues) => issues,
        other => vec![Issue::whole(other.to_string())],
    }
}

/// The version of a row, counted from 1; removes `_v` from it.
fn version_of(row: &mut Value, versions: &[Schema]) -> Result<usize, Issue> {
    let newest = versions.len();
    let named = row.as_object_mut().and_then(|members| members.remove(VERSION));
    let Some(named) = named else {
        let fits = versions.iter().rposition(|schema| schema.allows(row));
        return Ok(fits.map_or(newest, |at| at + 1));
    };
    match named.as_u64().and_then(|version| usize::try_from(version).ok()) {
        Some(version) if (1..=newest).contains(&version) => Ok(version),
        Some(version) if version > newest => Err(Issue::at(
            VERSION,
            format!(
                "was written by version {version}, but the workspace knows versions up to {newest}"
            ),
        )),
        _ => Err(Issue::at(
            VERSION,
            format!("must be a whole number from 1 to {newest}, not {named}"),
        )),
    }
}

/// The documents declared for a table. Their columns must be in its newest schema.
fn documents_of(
    table: &str,
    schema: &Value,
    documents: BTreeMap<String, DocumentSettings>,
) -> Result<Vec<DocumentDefinition>, String> {
    let made = documents.into_iter().map(|(name, columns)| {
        let known = |column: &&String| schema["properties"].get(column.as_str()).is_some();
        if let Some(column) = [&columns.guid, &columns.updated_at].into_iter().find(|c| !known(c)) {
            return Err(format!(
                "documents.{table}.{name}: the newest schema of {table} has no property {column:?}"
            ));
        }
        let DocumentSettings { guid, updated_at } = columns;
        Ok(DocumentDefinition { name, guid_column: guid, updated_at_column: updated_at })
    });
    made.collect()
}

/// The schemas of a table, oldest first, each with its file.
fn versions_of<'s>(
    table: &str,
    versions: &'s BTreeMap<usize, Text>,
) -> Result<Vec<(&'s Text, Value)>, String> {
    let mut schemas = Vec::new();
    for (expected, (version, text)) in (1..).zip(versions) {
        if *version != expected {
            return Err(format!(
                "{}: version {expected} of the table {table} is missing; number its versions from 1",
                text.path
            ));
        }
        let schema = serde_json::from_str(&text.text).map_err(|error| {
            format!("{}:{}:{}: not JSON: {error}", text.path, error.line(), error.column())
        })?;
        schemas.push((text, schema));
    }
    Ok(schemas)
}
