//! The call that is being served: who asks, when, and what it may touch.

use std::ops::Deref;

use crate::__bindings::epicenter::workspace::{context, environment, types as wit};
use crate::error::{Error, Result};

/// The call that is being served, and the right to *read* the workspace in it.
///
/// Queries and checks are given one. Reading a table or a key takes a `&Context`, so validation,
/// which must be pure, cannot read: it is not given any.
pub struct Context {
    /// How the change that is checked reached the host.
    source: Option<Source>,
}

/// How a change reached the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A REST request for the row.
    Rest,
    /// An action.
    Action,
    /// Sync: a client wrote it into its own copy of the document, perhaps days ago.
    Sync,
}

/// What somebody may do in the workspace. Each right includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Right {
    /// Read, list, watch, run queries.
    Read,
    /// Read, and write.
    Write,
    /// The workspace is theirs.
    Owner,
}

/// The call of a mutation: a [`Context`] that also carries the right to *write*.
///
/// All writes of the mutation happen at once when it returns `Ok`, and none of them when it returns
/// an error, panics, or runs out of time. Reads in the same mutation see its own writes. The host
/// may run a mutation again, from the start, when another writer was faster.
pub struct Transaction {
    context: Context,
}

/// The account on whose behalf the host calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The account's id; stable for the life of the account.
    pub id: String,
    /// Empty when not known.
    pub email: String,
    /// Display name; empty when not known.
    pub name: String,
    /// The right that they were let in with.
    pub right: Right,
}

impl Context {
    pub(crate) fn new() -> Context {
        Context { source: None }
    }

    /// The context of a check.
    pub(crate) fn of(change: &wit::Change) -> Context {
        let source = match change.source {
            wit::Source::Rest => Source::Rest,
            wit::Source::Action => Source::Action,
            wit::Source::Sync => Source::Sync,
        };
        Context { source: Some(source) }
    }

    /// How the change that is checked reached the host; `None` outside of checks.
    pub fn source(&self) -> Option<Source> {
        self.source
    }

    /// Who called; `None` while the host runs without accounts.
    pub fn caller(&self) -> Option<Caller> {
        context::caller().map(Caller::from)
    }

    /// Who called, or [`Error::Denied`] for a call without an account.
    pub fn require_caller(&self) -> Result<Caller> {
        self.caller().ok_or_else(|| Error::denied("sign in to do this"))
    }

    /// The time, in milliseconds since the Unix epoch, UTC. The same during one call.
    pub fn now(&self) -> u64 {
        context::now()
    }

    /// A new random id: 21 characters from `[A-Za-z0-9_-]`, 126 bits.
    pub fn random_id(&self) -> String {
        context::random_id()
    }

    /// 64 random bits, from the system's secure source.
    pub fn random_u64(&self) -> u64 {
        context::random_u64()
    }

    /// A value of the host's environment; `None` when it has none. [`Error::Denied`] unless the
    /// manifest names it under `env`.
    pub fn environment(&self, name: &str) -> Result<Option<String>> {
        environment::get(name).map_err(Error::from_host)
    }

    /// Names the request that this call serves; the same as in the host's log.
    pub fn request_id(&self) -> String {
        context::request_id()
    }
}

impl Transaction {
    pub(crate) fn new() -> Transaction {
        Transaction { context: Context::new() }
    }
}

impl Deref for Transaction {
    type Target = Context;

    fn deref(&self) -> &Context {
        &self.context
    }
}

impl From<wit::Caller> for Caller {
    fn from(caller: wit::Caller) -> Caller {
        let right = match caller.right {
            wit::Right::Read => Right::Read,
            wit::Right::Write => Right::Write,
            wit::Right::Owner => Right::Owner,
        };
        Caller { id: caller.id, email: caller.email, name: caller.name, right }
    }
}
