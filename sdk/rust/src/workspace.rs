//! A workspace: what its author says it has, and the calls that the host makes on it.

use std::any::TypeId;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::__bindings::epicenter::workspace::types as wit;
use crate::__bindings::exports::epicenter::workspace::guest;
use crate::context::{Context, Transaction};
use crate::error::{Error, Result};
use crate::issue::Issue;
use crate::json::{parse, read};
use crate::key::{AnyKey, KeyDefinition};
use crate::schema;
use crate::table::{AnyTable, Row, TableDefinition};

/// Everything that a workspace has: tables, key-values, presence fields and actions.
///
/// An author builds one in a function and hands that to [`export!`](crate::export). The function
/// runs once for each instance of the plugin, and must build the same workspace each time.
#[must_use = "a workspace is served once its function is given to `export!`"]
pub struct Workspace {
    id: String,
    title: String,
    tables: Vec<Box<dyn AnyTable>>,
    keys: Vec<Box<dyn AnyKey>>,
    awareness: Vec<guest::AwarenessField>,
    actions: Vec<Action>,
}

struct Action {
    path: String,
    kind: guest::ActionKind,
    description: String,
    input: Option<fn() -> Value>,
    output: Option<fn() -> Value>,
    run: Run,
}

/// From the input's JSON to the output's.
type Run = Box<dyn Fn(&str) -> Result<String>>;

impl Workspace {
    /// A workspace with nothing in it. The id names it in URLs and names its room.
    pub fn new(id: impl Into<String>) -> Workspace {
        Workspace {
            id: id.into(),
            title: String::new(),
            tables: Vec::new(),
            keys: Vec::new(),
            awareness: Vec::new(),
            actions: Vec::new(),
        }
    }

    /// What people call it; the id unless said.
    pub fn title(mut self, title: impl Into<String>) -> Workspace {
        self.title = title.into();
        self
    }

    /// Adds a table: a [`Table`](crate::Table) as it is, or what its
    /// [`define`](crate::Table::define) says of it.
    pub fn table<R: Row>(mut self, table: impl Into<TableDefinition<R>>) -> Workspace {
        self.tables.push(Box::new(table.into()));
        self
    }

    /// Adds a value under a key: a [`Key`](crate::Key) as it is, or what its
    /// [`define`](crate::Key::define) says of it.
    pub fn kv<V>(mut self, key: impl Into<KeyDefinition<V>>) -> Workspace
    where
        V: Serialize + DeserializeOwned + JsonSchema + 'static,
    {
        self.keys.push(Box::new(key.into()));
        self
    }

    /// Adds a field of the presence states (awareness) that clients share: cursors, names, colours.
    /// The host validates it by its schema.
    pub fn awareness<V: JsonSchema>(mut self, name: impl Into<String>) -> Workspace {
        self.awareness.push(guest::AwarenessField {
            name: name.into(),
            schema: schema::accepted::<V>().to_string(),
        });
        self
    }

    /// Adds an action that reads: `GET …/actions/{path}`, with the input in the query string.
    ///
    /// The path is segments joined by `/`; the description is for people. The input is checked
    /// against its type's schema before the action runs; an action without input takes `()`. The
    /// result is JSON of at most 8 MiB.
    pub fn query<I, O>(
        self,
        path: impl Into<String>,
        description: impl Into<String>,
        run: impl Fn(&Context, I) -> Result<O> + 'static,
    ) -> Workspace
    where
        I: DeserializeOwned + JsonSchema + 'static,
        O: Serialize + JsonSchema + 'static,
    {
        let run = move |input| run(&Context::new(), input);
        self.action(path, description, guest::ActionKind::Query, run)
    }

    /// Adds an action that writes: `POST …/actions/{path}`, with the input as JSON body. All of its
    /// writes happen, or none: see [`Transaction`]. Otherwise as [`query`](Workspace::query).
    pub fn mutation<I, O>(
        self,
        path: impl Into<String>,
        description: impl Into<String>,
        run: impl Fn(&Transaction, I) -> Result<O> + 'static,
    ) -> Workspace
    where
        I: DeserializeOwned + JsonSchema + 'static,
        O: Serialize + JsonSchema + 'static,
    {
        let run = move |input| run(&Transaction::new(), input);
        self.action(path, description, guest::ActionKind::Mutation, run)
    }

    /// What the host makes of a row, for tests on the author's own machine: the current row, with
    /// its `_v`, or everything that is wrong with it.
    ///
    /// Panics when the workspace has no such table.
    pub fn parse_row(&self, table: &str, row: &Value) -> Result<Value, Vec<Issue>> {
        let table = self
            .find_table(table)
            .unwrap_or_else(|| panic!("workspace {} has no table {table}", self.id));
        let row = table.parse_row(&row.to_string())?;
        Ok(parse(&row)?)
    }

    fn action<I, O>(
        mut self,
        path: impl Into<String>,
        description: impl Into<String>,
        kind: guest::ActionKind,
        run: impl Fn(I) -> Result<O> + 'static,
    ) -> Workspace
    where
        I: DeserializeOwned + JsonSchema + 'static,
        O: Serialize + JsonSchema + 'static,
    {
        let takes_input = TypeId::of::<I>() != TypeId::of::<()>();
        let gives_output = TypeId::of::<O>() != TypeId::of::<()>();
        self.actions.push(Action {
            path: path.into(),
            kind,
            description: description.into(),
            input: takes_input.then_some(schema::accepted::<I> as fn() -> Value),
            output: gives_output.then_some(schema::produced::<O> as fn() -> Value),
            run: Box::new(move |input| {
                let input = match takes_input {
                    true => parse(input)?,
                    false => Value::Null,
                };
                Ok(serde_json::to_string(&run(read(&input)?)?)?)
            }),
        });
        self
    }
}

/// The input of an action on one row: `{ "id": … }`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub struct Id {
    /// The row's id.
    pub id: String,
}

/// What the host asks for; `plugin.rs` exports these.
impl Workspace {
    pub(crate) fn definition(&self, version: &str) -> guest::WorkspaceDefinition {
        let action = |action: &Action| guest::ActionDefinition {
            path: action.path.clone(),
            kind: action.kind,
            description: action.description.clone(),
            input: action.input.map(|schema| schema().to_string()),
            output: action.output.map(|schema| schema().to_string()),
        };
        guest::WorkspaceDefinition {
            id: self.id.clone(),
            title: self.title.clone(),
            version: version.to_owned(),
            tables: self.tables.iter().map(|table| table.definition()).collect(),
            kv: self.keys.iter().map(|key| key.definition()).collect(),
            awareness: self.awareness.clone(),
            actions: self.actions.iter().map(action).collect(),
        }
    }

    pub(crate) fn parse_rows(
        &self,
        table: &str,
        rows: &[String],
    ) -> Vec<Result<String, Vec<Issue>>> {
        match self.find_table(table) {
            Some(table) => rows.iter().map(|row| table.parse_row(row)).collect(),
            None => {
                let issue = Issue::new((), format!("workspace {} has no table {table}", self.id));
                vec![Err(vec![issue]); rows.len()]
            }
        }
    }

    pub(crate) fn parse_kv(&self, key: &str, value: &str) -> Result<String, Vec<Issue>> {
        match self.keys.iter().find(|candidate| candidate.key() == key) {
            Some(key) => key.parse_value(value),
            None => {
                let text = format!("workspace {} has no key {key}", self.id);
                Err(vec![Issue::new((), text)])
            }
        }
    }

    pub(crate) fn check_change(&self, change: &wit::Change) -> Result<()> {
        self.find_table(&change.table).ok_or(Error::NotFound)?.check_change(change)
    }

    pub(crate) fn run_action(&self, path: &str, input: &str) -> Result<String> {
        let action = self.actions.iter().find(|action| action.path == path);
        (action.ok_or(Error::NotFound)?.run)(input)
    }

    fn find_table(&self, name: &str) -> Option<&dyn AnyTable> {
        self.tables.iter().map(AsRef::as_ref).find(|table| table.name() == name)
    }
}

/// Refuses a name that the contract does not allow; in a constant, while compiling.
pub(crate) const fn assert_name(name: &str) {
    let bytes = name.as_bytes();
    assert!(!bytes.is_empty() && bytes.len() <= 64, "a name must be 1 to 64 bytes long");
    assert!(bytes[0].is_ascii_alphanumeric(), "a name must begin with a letter or a digit");
    let mut index = 1;
    while index < bytes.len() {
        assert!(
            bytes[index].is_ascii_alphanumeric() || matches!(bytes[index], b'_' | b'.' | b'-'),
            "a name may hold letters, digits, `_`, `.` and `-` only"
        );
        index += 1;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{Change, Key, Table, field};

    #[derive(Deserialize, JsonSchema)]
    struct NoteV1 {
        id: String,
    }

    #[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
    struct Note {
        id: String,
        #[serde(default)]
        stars: u8,
        #[serde(default)]
        place: Option<Place>,
        #[serde(default)]
        body: String,
        #[serde(default)]
        edited: u64,
    }

    #[derive(Debug, Serialize, Deserialize, JsonSchema)]
    struct Place {
        name: String,
    }

    #[derive(Deserialize, JsonSchema)]
    struct Double {
        number: u32,
    }

    const NOTES: Table<Note> = Table::new("notes");
    const TAGS: Table<Note> = Table::new("tags");
    const THEME: Key<String> = Key::new("theme");

    fn workspace() -> Workspace {
        Workspace::new("notes")
            .title("Notes")
            .table(
                NOTES
                    .define()
                    .previous(|NoteV1 { id }| Note { id, ..Note::default() })
                    .rule(field!(Note.stars), "must be at most 5", |note| note.stars <= 5)
                    .check(|_, change| match change {
                        Change::Delete { old: Some(old), .. } if old.stars == 5 => {
                            Err(Error::denied("a favourite stays"))
                        }
                        Change::Create { new } if new.body.is_empty() => {
                            Err(Error::invalid(field!(Note.body), "must not be empty"))
                        }
                        _ => Ok(()),
                    })
                    .document("body", field!(Note.body), field!(Note.edited)),
            )
            .table(TAGS)
            .kv(THEME.define().rule((), "must not be empty", |theme| !theme.is_empty()))
            .awareness::<Place>("place")
            .query("numbers/double", "Twice a number.", |_, Double { number }| {
                number.checked_mul(2).ok_or(Error::invalid(field!(Double.number), "is too large"))
            })
            .mutation("nothing", "", |_, ()| Ok(()))
    }

    #[test]
    fn the_definition_says_all_that_the_author_said() {
        let definition = workspace().definition("1.2.3");
        assert_eq!(
            (definition.id.as_str(), definition.title.as_str(), definition.version.as_str()),
            ("notes", "Notes", "1.2.3")
        );
        let [notes, tags] = &definition.tables[..] else {
            panic!("two tables, not {:?}", definition.tables);
        };
        assert_eq!((notes.name.as_str(), notes.versions.len()), ("notes", 2));
        assert!(notes.checks_changes);
        assert_eq!(notes.documents[0].guid_column, "body");
        assert_eq!(notes.documents[0].updated_at_column, "edited");
        assert_eq!((tags.name.as_str(), tags.versions.len()), ("tags", 1));
        assert!(!tags.checks_changes);
        assert_eq!(definition.kv[0].key, "theme");
        assert_eq!(definition.awareness[0].name, "place");

        let [double, nothing] = &definition.actions[..] else {
            panic!("two actions, not {:?}", definition.actions);
        };
        assert_eq!(
            (double.path.as_str(), double.kind),
            ("numbers/double", guest::ActionKind::Query)
        );
        assert!(double.input.is_some() && double.output.is_some());
        assert_eq!(nothing.kind, guest::ActionKind::Mutation);
        assert_eq!((&nothing.input, &nothing.output), (&None, &None));
    }

    #[test]
    fn a_schema_stands_alone_and_keeps_the_order_of_the_members() {
        let definition = workspace().definition("");
        let schema: Value = serde_json::from_str(&definition.tables[0].versions[1]).expect("JSON");
        assert!(schema.get("$defs").is_none() && schema.get("$schema").is_none());
        assert!(!schema.to_string().contains("$ref"));
        let members: Vec<_> = schema["properties"].as_object().unwrap().keys().collect();
        assert_eq!(members, ["id", "stars", "place", "body", "edited", "_v"], "{schema}");
        assert_eq!(schema["required"], json!(["id"]));
    }

    #[test]
    fn an_action_reads_its_input_and_writes_its_output_as_json() {
        let workspace = workspace();
        for (path, input, expected) in [
            ("numbers/double", r#"{ "number": 21 }"#, Ok("42".to_owned())),
            ("numbers/double", r#"{ "number": 21.0 }"#, Ok("42".to_owned())),
            (
                "numbers/double",
                r#"{ "number": 4000000000 }"#,
                Err(Error::invalid("number", "is too large")),
            ),
            ("numbers/double", "{}", Err(Error::invalid("number", "is required"))),
            ("nothing", "null", Ok("null".to_owned())),
            ("nothing", "", Ok("null".to_owned())),
            ("numbers", "null", Err(Error::NotFound)),
        ] {
            assert_eq!(workspace.run_action(path, input), expected, "{path} {input}");
        }
    }

    #[test]
    fn a_check_sees_the_change_with_types() {
        let change = |operation, old: Option<&str>, new: Option<&str>| {
            workspace().check_change(&wit::Change {
                table: "notes".to_owned(),
                operation,
                id: "1".to_owned(),
                old: old.map(str::to_owned),
                new: new.map(str::to_owned),
                caller: None,
                source: wit::Source::Rest,
            })
        };
        let favourite = Some(r#"{ "id": "1", "stars": 5, "_v": 2 }"#);
        assert_eq!(
            change(wit::Operation::Delete, favourite, None),
            Err(Error::denied("a favourite stays"))
        );
        assert_eq!(change(wit::Operation::Delete, None, None), Ok(()));
        assert_eq!(
            change(wit::Operation::Create, None, favourite),
            Err(Error::invalid("body", "must not be empty"))
        );
        assert_eq!(change(wit::Operation::Update, favourite, favourite), Ok(()));
    }

    #[test]
    fn rows_are_parsed_in_order_and_each_on_its_own() {
        let rows = [r#"{"id":"1"}"#, r#"{"id":"2","stars":6}"#].map(str::to_owned);
        let parsed = workspace().parse_rows("notes", &rows);
        assert_eq!(
            parsed,
            [
                Ok(r#"{"id":"1","stars":0,"place":null,"body":"","edited":0,"_v":2}"#.to_owned()),
                Err(vec![Issue::new("stars", "must be at most 5")]),
            ]
        );
        assert_eq!(workspace().parse_rows("nowhere", &rows).len(), 2);
    }

    #[test]
    fn a_key_has_rules_of_its_own() {
        let workspace = workspace();
        assert_eq!(workspace.parse_kv("theme", r#""dark""#).as_deref(), Ok(r#""dark""#));
        assert_eq!(
            workspace.parse_kv("theme", r#""""#),
            Err(vec![Issue::new((), "must not be empty")])
        );
        assert!(workspace.parse_kv("nothing", "1").is_err());
    }
}
