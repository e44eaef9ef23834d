//! Why something was not done, in words that hold for whoever asked: REST, a model's chat, a plugin.

use std::time::Duration;

use host_sync::{NotText, OpenError, RoomError};

use crate::definition::Issue;

/// Why a request was not carried out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// What a plugin may answer, too.
    #[error(transparent)]
    Action(#[from] ActionError),
    /// The plugin is at fault.
    #[error(transparent)]
    Fault(#[from] Fault),
    #[error(transparent)]
    Room(#[from] RoomError),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    NotText(#[from] NotText),
    #[error("others keep changing the same rows; try again")]
    Conflict,
    #[error("{what:?} is not the version that the request is about; read it again")]
    Stale { what: String },
    /// The input of an action does not match its schema.
    #[error("the input is not valid")]
    Input(Vec<Issue>),
    /// The rows had to be new, and some exist: an issue for each of those, by its position.
    #[error("some of the rows are there")]
    Exist(Vec<Issue>),
    /// The stored row is not valid, so it cannot be changed in part.
    #[error("not valid as it is stored")]
    Stored(Vec<Issue>),
    #[error("{rows} rows are too many for one request, which may write {limit}")]
    TooMany { rows: usize, limit: usize },
}

impl Error {
    /// `what` is the row's id, or the key.
    pub fn stale(what: &str) -> Self {
        Self::Stale { what: what.to_owned() }
    }

    /// The error in one line. `what` is the table or the action that was asked for something.
    pub fn describe(&self, what: &str) -> String {
        match self {
            Self::Action(ActionError::NotFound) => format!("{what}: not found"),
            Self::Action(ActionError::Invalid(issues)) => {
                format!("{what}: not valid: {}", summary(issues))
            }
            Self::Input(issues) => format!("the input of {what} is not valid: {}", summary(issues)),
            Self::Stored(issues) => {
                format!("{what}: not valid as it is stored: {}", summary(issues))
            }
            Self::Action(ActionError::Conflict(issues)) | Self::Exist(issues) => {
                format!("{what}: {}", summary(issues))
            }
            other => other.to_string(),
        }
    }

    /// What is wrong with which member of the input.
    pub fn into_issues(self) -> Vec<Issue> {
        match self {
            Self::Action(ActionError::Invalid(issues) | ActionError::Conflict(issues))
            | Self::Input(issues)
            | Self::Stored(issues)
            | Self::Exist(issues) => issues,
            _ => Vec::new(),
        }
    }

    /// The error as a plugin sees it.
    pub fn into_action_error(self) -> ActionError {
        match self {
            Self::Action(error) => error,
            Self::Stored(issues) | Self::Input(issues) => ActionError::Invalid(issues),
            // The contract says so.
            Self::NotText(error) => ActionError::invalid(Issue::whole(error.to_string())),
            other => ActionError::Failed(other.to_string()),
        }
    }
}

/// The first issues in one line, for readers who see only the message.
pub(crate) fn summary(issues: &[Issue]) -> String {
    let line = |issue: &Issue| match issue.path.as_slice() {
        [] => issue.message.clone(),
        path => format!("{}: {}", path.join("."), issue.message),
    };
    let mut text = issues.iter().take(3).map(line).collect::<Vec<_>>().join("; ");
    if issues.len() > 3 {
        text.push_str(&format!("; and {} more", issues.len() - 3));
    }
    text
}

/// Why an action, or a call of a guest into its tables, did not do what was asked. The same four
/// cases as `error` of the contract.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ActionError {
    /// The row, key, table or action does not exist.
    #[error("not found")]
    NotFound,
    /// Something else does not exist, in the plugin's words.
    #[error("{0}")]
    Missing(String),
    /// The value was refused.
    #[error("invalid")]
    Invalid(Vec<Issue>),
    /// A rule about several rows would be broken: a value that is taken, a row that does not exist or that
    /// others refer to.
    #[error("conflict")]
    Conflict(Vec<Issue>),
    /// Not allowed, or not granted.
    #[error("{0}")]
    Denied(String),
    /// Anything else.
    #[error("{0}")]
    Failed(String),
}

impl ActionError {
    /// A value with one thing wrong.
    pub(crate) fn invalid(issue: Issue) -> Self {
        Self::Invalid(vec![issue])
    }
}

/// A plugin that broke a bound or its contract. The instance is gone; the caller gets one clear
/// error and nothing else is disturbed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The call exceeded its time limit.
    #[error("plugin {plugin}: {call} took longer than {} ms", limit.as_millis())]
    TimedOut {
        /// The plugin's file name.
        plugin: String,
        /// Which call: `parse-rows of posts`, `action posts/publish`.
        call: String,
        /// The limit that it exceeded.
        limit: Duration,
    },
    /// The guest trapped: panicked, ran out of memory, overflowed its stack.
    #[error("plugin {plugin}: {call} crashed: {reason}")]
    Trapped {
        /// The plugin's file name.
        plugin: String,
        /// Which call.
        call: String,
        /// A description of the trap.
        reason: String,
    },
    /// The guest answered something that the contract does not allow.
    #[error("plugin {plugin}: {call} broke the contract: {reason}")]
    Contract {
        /// The plugin's file name.
        plugin: String,
        /// Which call.
        call: String,
        /// What it did, and what it should have done.
        reason: String,
    },
    /// Too many calls are waiting for an instance of this plugin.
    #[error("plugin {plugin} is busy: {waiting} calls are waiting")]
    Busy {
        /// The plugin's file name.
        plugin: String,
        /// How many calls are waiting.
        waiting: usize,
    },
}
