//! Tables: typed handles to their rows, and what a row of theirs must be.

use std::marker::PhantomData;

use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::__bindings::epicenter::workspace::{documents, tables as host, types as wit};
use crate::__bindings::exports::epicenter::workspace::guest;
use crate::context::{Context, Transaction};
use crate::error::{Error, Result};
use crate::issue::{FieldPath, Issue, Issues};
use crate::select::{Field, Select};
use crate::versions::{Versions, read_current};
use crate::workspace::assert_name;

/// What a row type is: it derives `Serialize`, `Deserialize` and `JsonSchema`, and has a member `id`
/// that is a string.
pub trait Row: Serialize + DeserializeOwned + JsonSchema + 'static {}

impl<R: Serialize + DeserializeOwned + JsonSchema + 'static> Row for R {}

/// A handle to the table of rows of type `R`; a constant, shared by the definition and the actions:
///
/// ```
/// # use epicenter_workspace::*;
/// # #[derive(Serialize, Deserialize, JsonSchema)]
/// # struct Post { id: String }
/// const POSTS: Table<Post> = Table::new("posts");
/// ```
pub struct Table<R> {
    name: &'static str,
    row: PhantomData<fn() -> R>,
}

impl<R> Clone for Table<R> {
    fn clone(&self) -> Table<R> {
        *self
    }
}

impl<R> Copy for Table<R> {}

impl<R: Row> Table<R> {
    /// The table of this name. A name that the contract does not allow (`[A-Za-z0-9][A-Za-z0-9_.-]*`,
    /// at most 64 bytes) does not compile as a constant.
    pub const fn new(name: &'static str) -> Table<R> {
        assert_name(name);
        Table { name, row: PhantomData }
    }

    /// The table's name.
    pub const fn name(self) -> &'static str {
        self.name
    }

    /// Says more about the rows than their type does. A table about which there is no more to say
    /// goes into the workspace as it is.
    pub fn define(self) -> TableDefinition<R> {
        TableDefinition {
            name: self.name,
            versions: Versions::new(),
            documents: Vec::new(),
            check: None,
            unique: Vec::new(),
            references: Vec::new(),
            enforce: false,
        }
    }

    /// The row with this id.
    ///
    /// Errors: [`NotFound`](Error::NotFound) when there is none, [`Invalid`](Error::Invalid) with
    /// its issues when the row in the document is not valid.
    pub fn get(self, ctx: &Context, id: &str) -> Result<R> {
        self.find(ctx, id)?.ok_or(Error::NotFound)
    }

    /// The row with this id, if there is one. Errors as for [`get`](Table::get).
    pub fn find(self, _: &Context, id: &str) -> Result<Option<R>> {
        match host::get(self.name, id).map_err(Error::from_host)? {
            Some(row) => Ok(Some(read_current(&row)?)),
            None => Ok(None),
        }
    }

    /// All rows, for [`Select`] to narrow down and sort.
    pub fn select(self) -> Select<R> {
        Select::new(self)
    }

    /// Creates the row or replaces it whole. Returns it as it is stored.
    ///
    /// Errors: [`Invalid`](Error::Invalid) when a rule or the table's check refuses it.
    pub fn put(self, _: &Transaction, row: &R) -> Result<R> {
        let row = host::put(self.name, &serde_json::to_string(row)?).map_err(Error::from_host)?;
        Ok(read_current(&row)?)
    }

    /// Changes a row: reads it, lets `change` at it, and puts it back. Returns it as it is stored.
    /// Errors as for [`get`](Table::get) and [`put`](Table::put).
    pub fn modify(self, tx: &Transaction, id: &str, change: impl FnOnce(&mut R)) -> Result<R> {
        let mut row = self.get(tx, id)?;
        change(&mut row);
        self.put(tx, &row)
    }

    /// Sets the given members and leaves the others: `POSTS.update(tx, id, &json!({ "views": 0 }))`.
    /// Returns the row as it is stored. [`modify`](Table::modify) does the same with types.
    pub fn update(self, _: &Transaction, id: &str, fields: &impl Serialize) -> Result<R> {
        let fields = serde_json::to_string(fields)?;
        let row = host::update(self.name, id, &fields).map_err(Error::from_host)?;
        Ok(read_current(&row)?)
    }

    /// The text of a document that is attached to a row, by its name in the definition; empty when
    /// it was never written.
    ///
    /// Errors: [`NotFound`](Error::NotFound) when there is no such row or document.
    pub fn text(self, _: &Context, id: &str, document: &str) -> Result<String> {
        documents::get_text(self.name, id, document).map_err(Error::from_host)
    }

    /// Replaces the text of a document that is attached to a row. What old and new text have in common
    /// at either end stays, and so do the cursors there of those who are editing. Errors as for
    /// [`text`](Table::text) and [`put`](Table::put).
    pub fn set_text(self, _: &Transaction, id: &str, document: &str, text: &str) -> Result<()> {
        documents::set_text(self.name, id, document, text).map_err(Error::from_host)
    }

    /// Deletes a row; false when there was none.
    ///
    /// Errors: [`Invalid`](Error::Invalid) when the table's check refuses it.
    pub fn delete(self, _: &Transaction, id: &str) -> Result<bool> {
        host::delete(self.name, id).map_err(Error::from_host)
    }
}

/// One change to a table, about to happen.
#[derive(Debug)]
pub enum Change<R> {
    /// A row appears.
    Create {
        /// The row to be.
        new: R,
    },
    /// A row is replaced.
    Update {
        /// The row before; `None` when the one in the document is invalid.
        old: Option<R>,
        /// The row to be. Its id is that of the old one.
        new: R,
    },
    /// A row goes away.
    Delete {
        /// Whose row.
        id: String,
        /// The row before; `None` when the one in the document is invalid.
        old: Option<R>,
    },
}

impl<R: Row> Change<R> {
    fn from_host(change: &wit::Change) -> Result<Change<R>> {
        let row = |json: &Option<String>| -> Result<Option<R>> {
            Ok(json.as_deref().map(read_current).transpose()?)
        };
        let old = row(&change.old)?;
        let new =
            || row(&change.new)?.ok_or_else(|| Error::failed("the host named a change but no row"));
        Ok(match change.operation {
            wit::Operation::Create => Change::Create { new: new()? },
            wit::Operation::Update => Change::Update { old, new: new()? },
            wit::Operation::Delete => Change::Delete { id: change.id.clone(), old },
        })
    }
}

type Check<R> = Box<dyn Fn(&Context, Change<R>) -> Result<()>>;

/// What a table is: its versions, rules, check and documents. Made by [`Table::define`].
#[must_use = "a definition takes effect in `Workspace::table`"]
pub struct TableDefinition<R> {
    name: &'static str,
    versions: Versions<R>,
    documents: Vec<guest::DocumentDefinition>,
    check: Option<Check<R>>,
    unique: Vec<Vec<String>>,
    references: Vec<guest::Reference>,
    enforce: bool,
}

/// What becomes of the rows that refer to a row when that is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDelete {
    /// They keep it from being deleted.
    Restrict,
    /// They are deleted, too.
    Cascade,
    /// Their field becomes null.
    SetNull,
}

impl<R: Row> TableDefinition<R> {
    /// Names a type that rows had before, and how one of those becomes a current row with the same
    /// id. Several are named oldest first, and each migrates straight to the current type.
    ///
    /// Rows in the document stay as they are until they are rewritten; every read migrates them.
    /// Never take a version out again: the numbers of those after it would change.
    pub fn previous<P>(mut self, migrate: impl Fn(P) -> R + 'static) -> TableDefinition<R>
    where
        P: DeserializeOwned + JsonSchema + 'static,
    {
        self.versions.add_previous(migrate);
        self
    }

    /// Demands that `holds` be true of every row, and says `message` at the place `at` where it is
    /// not. Must depend on nothing but the row.
    pub fn rule(
        mut self,
        at: impl Into<FieldPath>,
        message: impl Into<String>,
        holds: impl Fn(&R) -> bool + 'static,
    ) -> TableDefinition<R> {
        self.versions.add_condition(at.into(), message.into(), holds);
        self
    }

    /// A rule that may find several issues, or word them by what it finds. Must depend on nothing
    /// but the row.
    pub fn validate(mut self, rule: impl Fn(&R, &mut Issues) + 'static) -> TableDefinition<R> {
        self.versions.add_rule(rule);
        self
    }

    /// No two rows may have the same value in this field. Rows in which it is null or missing have none.
    pub fn unique<V>(self, field: Field<R, V>) -> TableDefinition<R> {
        self.unique_together([field.name()])
    }

    /// No two rows may have the same values in these fields together:
    /// `unique_together([field!(Car.brand).name(), field!(Car.model).name()])`.
    pub fn unique_together<'f>(
        mut self,
        fields: impl IntoIterator<Item = &'f str>,
    ) -> TableDefinition<R> {
        self.unique.push(fields.into_iter().map(str::to_owned).collect());
        self
    }

    /// A field holds ids of rows of a table. `on_delete` says what becomes of a row when the one that it
    /// refers to is deleted.
    pub fn references<V, T: Row>(
        mut self,
        field: Field<R, V>,
        table: Table<T>,
        on_delete: OnDelete,
    ) -> TableDefinition<R> {
        self.references.push(guest::Reference {
            field: field.name().to_owned(),
            table: table.name().to_owned(),
            on_delete: match on_delete {
                OnDelete::Restrict => guest::OnDelete::Restrict,
                OnDelete::Cascade => guest::OnDelete::Cascade,
                OnDelete::SetNull => guest::OnDelete::SetNull,
            },
        });
        self
    }

    /// Makes all of the table's rules, its check included, hold for sync as well: what a client wrote offline
    /// is checked when it arrives, and what is refused is undone and kept for whoever wrote it.
    pub fn enforce(mut self) -> TableDefinition<R> {
        self.enforce = true;
        self
    }

    /// Asked before each change that REST or an action makes and, where the table [enforces](Self::enforce)
    /// its rules, of what arrives by sync before it counts. Unlike a rule it sees the row before, may read other
    /// rows, and knows who asks and how the change [came](Context::source).
    ///
    /// An error refuses the change, and is what the caller is answered.
    pub fn check(
        mut self,
        check: impl Fn(&Context, Change<R>) -> Result<()> + 'static,
    ) -> TableDefinition<R> {
        self.check = Some(Box::new(check));
        self
    }

    /// Attaches a Yjs document to each row: `guid` is the column with the id of the document's room,
    /// `updated_at` the one that the host sets to the time (in ms) of the last local edit.
    pub fn document<G, U>(
        mut self,
        name: impl Into<String>,
        guid: Field<R, G>,
        updated_at: Field<R, U>,
    ) -> TableDefinition<R> {
        self.documents.push(guest::DocumentDefinition {
            name: name.into(),
            guid_column: guid.name().to_owned(),
            updated_at_column: updated_at.name().to_owned(),
        });
        self
    }
}

impl<R: Row> From<Table<R>> for TableDefinition<R> {
    fn from(table: Table<R>) -> TableDefinition<R> {
        table.define()
    }
}

/// A table of any row type, as the workspace keeps it.
pub(crate) trait AnyTable {
    fn name(&self) -> &'static str;
    fn definition(&self) -> guest::TableDefinition;
    fn parse_row(&self, json: &str) -> Result<String, Vec<Issue>>;
    fn check_change(&self, change: &wit::Change) -> Result<()>;
}

impl<R: Row> AnyTable for TableDefinition<R> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn definition(&self) -> guest::TableDefinition {
        guest::TableDefinition {
            name: self.name.to_owned(),
            versions: self.versions.row_schemas().iter().map(ToString::to_string).collect(),
            documents: self.documents.clone(),
            checks_changes: self.check.is_some(),
            unique: self.unique.clone(),
            references: self.references.clone(),
            enforce: self.enforce,
        }
    }

    fn parse_row(&self, json: &str) -> Result<String, Vec<Issue>> {
        self.versions.parse_row(json)
    }

    fn check_change(&self, change: &wit::Change) -> Result<()> {
        match &self.check {
            Some(check) => check(&Context::of(change), Change::from_host(change)?),
            None => Ok(()),
        }
    }
}
