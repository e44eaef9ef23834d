//! What is wrong with a value, and where in it.

use std::fmt;

use crate::__bindings::epicenter::workspace::types as wit;

/// One thing that is wrong with a value, and where in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issue {
    /// From the outermost member to the faulty one; array positions as decimal text. Empty when the
    /// whole value is at fault.
    pub path: Vec<String>,
    /// What is wrong and what would mend it, for the person who wrote the value.
    pub message: String,
}

impl Issue {
    /// An issue at a place: a member's name, a [`field!`](crate::field), a list of steps inwards
    /// (`["tags", "0"]`), or `()` for the whole value.
    pub fn new(at: impl Into<FieldPath>, message: impl Into<String>) -> Issue {
        Issue { path: at.into().0, message: message.into() }
    }
}

impl fmt::Display for Issue {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(out, "{}: ", self.path.join("."))?;
        }
        out.write_str(&self.message)
    }
}

/// Collects what a rule finds, so that a person sees everything that is wrong at once.
#[derive(Debug, Default)]
pub struct Issues(pub(crate) Vec<Issue>);

impl Issues {
    /// Adds an issue; see [`Issue::new`] for the ways to say where.
    pub fn add(&mut self, at: impl Into<FieldPath>, message: impl Into<String>) {
        self.0.push(Issue::new(at, message));
    }
}

/// Where in a value: the members to step through, outermost first.
///
/// Made from a member's name, a [`field!`](crate::field), a list of names, or `()` for the whole
/// value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldPath(pub(crate) Vec<String>);

impl From<()> for FieldPath {
    fn from((): ()) -> FieldPath {
        FieldPath(Vec::new())
    }
}

impl From<&str> for FieldPath {
    fn from(member: &str) -> FieldPath {
        FieldPath(vec![member.to_owned()])
    }
}

impl From<String> for FieldPath {
    fn from(member: String) -> FieldPath {
        FieldPath(vec![member])
    }
}

impl<S: Into<String>, const N: usize> From<[S; N]> for FieldPath {
    fn from(members: [S; N]) -> FieldPath {
        FieldPath(members.into_iter().map(Into::into).collect())
    }
}

impl From<Vec<String>> for FieldPath {
    fn from(members: Vec<String>) -> FieldPath {
        FieldPath(members)
    }
}

impl From<Issue> for wit::Issue {
    fn from(issue: Issue) -> wit::Issue {
        wit::Issue { path: issue.path, message: issue.message }
    }
}

impl From<wit::Issue> for Issue {
    fn from(issue: wit::Issue) -> Issue {
        Issue { path: issue.path, message: issue.message }
    }
}
