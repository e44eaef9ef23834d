//! Key-values: single values of the workspace under keys that it declares.

use std::marker::PhantomData;

use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::__bindings::epicenter::workspace::kv as host;
use crate::__bindings::exports::epicenter::workspace::guest;
use crate::context::{Context, Transaction};
use crate::error::{Error, Result};
use crate::issue::{FieldPath, Issue, Issues};
use crate::json::{parse, read};
use crate::versions::Versions;
use crate::workspace::assert_name;

/// A handle to the value of type `V` under a key; a constant, as [`Table`](crate::Table) is:
///
/// ```
/// # use epicenter_workspace::Key;
/// const THEME: Key<String> = Key::new("theme");
/// ```
pub struct Key<V> {
    key: &'static str,
    value: PhantomData<fn() -> V>,
}

impl<V> Clone for Key<V> {
    fn clone(&self) -> Key<V> {
        *self
    }
}

impl<V> Copy for Key<V> {}

impl<V: Serialize + DeserializeOwned + JsonSchema + 'static> Key<V> {
    /// The value under this key. A key that the contract does not allow
    /// (`[A-Za-z0-9][A-Za-z0-9_.-]*`, at most 64 bytes) does not compile as a constant.
    pub const fn new(key: &'static str) -> Key<V> {
        assert_name(key);
        Key { key, value: PhantomData }
    }

    /// Says more about the value than its type does.
    pub fn define(self) -> KeyDefinition<V> {
        KeyDefinition { key: self.key, versions: Versions::new() }
    }

    /// The value; `None` when it was never set.
    ///
    /// Errors: [`Invalid`](Error::Invalid) with its issues when the value in the document is not
    /// valid.
    pub fn get(self, _: &Context) -> Result<Option<V>> {
        match host::get(self.key).map_err(Error::from_host)? {
            Some(value) => Ok(Some(read(&parse(&value)?)?)),
            None => Ok(None),
        }
    }

    /// Sets the value. Errors: [`Invalid`](Error::Invalid) when a rule refuses it.
    pub fn set(self, _: &Transaction, value: &V) -> Result<()> {
        host::set(self.key, &serde_json::to_string(value)?).map_err(Error::from_host)
    }

    /// Forgets the value; false when there was none.
    pub fn delete(self, _: &Transaction) -> Result<bool> {
        host::delete(self.key).map_err(Error::from_host)
    }
}

/// What the value under a key is: its versions and rules. Made by [`Key::define`].
#[must_use = "a definition takes effect in `Workspace::kv`"]
pub struct KeyDefinition<V> {
    key: &'static str,
    versions: Versions<V>,
}

impl<V: Serialize + DeserializeOwned + JsonSchema + 'static> KeyDefinition<V> {
    /// Names a type that the value had before, and how one of those becomes a current value; several
    /// oldest first. A value carries no version: it is tried as the current type, then as the older
    /// ones.
    pub fn previous<P>(mut self, migrate: impl Fn(P) -> V + 'static) -> KeyDefinition<V>
    where
        P: DeserializeOwned + JsonSchema + 'static,
    {
        self.versions.add_previous(migrate);
        self
    }

    /// Demands that `holds` be true of the value, and says `message` at the place `at` where it is
    /// not.
    pub fn rule(
        mut self,
        at: impl Into<FieldPath>,
        message: impl Into<String>,
        holds: impl Fn(&V) -> bool + 'static,
    ) -> KeyDefinition<V> {
        self.versions.add_condition(at.into(), message.into(), holds);
        self
    }

    /// A rule that may find several issues, or word them by what it finds.
    pub fn validate(mut self, rule: impl Fn(&V, &mut Issues) + 'static) -> KeyDefinition<V> {
        self.versions.add_rule(rule);
        self
    }
}

impl<V: Serialize + DeserializeOwned + JsonSchema + 'static> From<Key<V>> for KeyDefinition<V> {
    fn from(key: Key<V>) -> KeyDefinition<V> {
        key.define()
    }
}

/// A key with any type of value, as the workspace keeps it.
pub(crate) trait AnyKey {
    fn key(&self) -> &'static str;
    fn definition(&self) -> guest::KvDefinition;
    fn parse_value(&self, json: &str) -> Result<String, Vec<Issue>>;
}

impl<V: Serialize + DeserializeOwned + JsonSchema + 'static> AnyKey for KeyDefinition<V> {
    fn key(&self) -> &'static str {
        self.key
    }

    fn definition(&self) -> guest::KvDefinition {
        let schemas = self.versions.schemas();
        guest::KvDefinition {
            key: self.key.to_owned(),
            versions: schemas.iter().map(ToString::to_string).collect(),
        }
    }

    fn parse_value(&self, json: &str) -> Result<String, Vec<Issue>> {
        self.versions.parse_value(json)
    }
}
