//! One call from the host into a plugin: its purpose, and what the plugin may do in it.
//!
//! The call decides what the plugin may access: `define` and parsing rows see no data,
//! `check-change` may read, and an action may do what its transaction allows. The same rules hold
//! for components and scripts, and for their requests to models and other servers.

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures_util::FutureExt;
use host_caller::{Account, Right};
use host_wasm::Pace;
use host_workspace::{ActionError, Context, Data, Issue};
use tokio::sync::OwnedSemaphorePermit;

use crate::limits::Limits;

/// What the host asks of a plugin. Its `Display` is the name of the call in errors and in the log:
/// `parse-rows of posts`, `action posts/publish`.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Task<'t> {
    Define,
    ParseRows { table: &'t str },
    ParseKv { key: &'t str },
    CheckChange { table: &'t str },
    Action { path: &'t str },
}

impl fmt::Display for Task<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Define => f.write_str("define"),
            Self::ParseRows { table } => write!(f, "parse-rows of {table}"),
            Self::ParseKv { key } => write!(f, "parse-kv of {key}"),
            Self::CheckChange { table } => write!(f, "check-change of {table}"),
            Self::Action { path } => write!(f, "action {path}"),
        }
    }
}

impl Task<'_> {
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Define => Kind::Define,
            Self::ParseRows { .. } | Self::ParseKv { .. } => Kind::Parse,
            Self::CheckChange { .. } => Kind::Check,
            Self::Action { .. } => Kind::Action,
        }
    }
}

/// The kinds of calls, each with its own limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Define,
    Parse,
    Check,
    Action,
}

impl Kind {
    fn access(self) -> Access {
        match self {
            Self::Define | Self::Parse => Access::Nothing,
            Self::Check => Access::Read,
            Self::Action => Access::Write,
        }
    }

    /// The time limit for a call of this kind.
    pub(crate) fn time(self, limits: &Limits) -> Duration {
        match self {
            Self::Define => limits.define,
            Self::Parse => limits.parse,
            Self::Check => limits.check,
            Self::Action => limits.action,
        }
    }
}

/// How a call may access the workspace's data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Access {
    Nothing,
    Read,
    /// As far as the transaction allows: that of a query refuses writes itself.
    Write,
}

/// One call from the host into a plugin. Its time limit starts when it is created, and its places
/// are released when it is dropped.
pub(crate) struct Call {
    /// The name of the call.
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) pace: Pace,
    /// Unix ms, constant during the call.
    pub(crate) now: u64,
    pub(crate) request_id: Arc<str>,
    data: Option<Arc<dyn Data>>,
    limits: Arc<Limits>,
    host_calls: usize,
    _places: Vec<OwnedSemaphorePermit>,
}

/// The plugin called the host more often than allowed.
#[derive(Debug, thiserror::Error)]
#[error("it called the host more than {0} times in one call")]
pub(crate) struct TooManyCalls(usize);

/// The host's answer to a plugin. The outer error ends the call; the plugin may handle the inner
/// one.
pub(crate) type Answer<T> = Result<Result<T, ActionError>, TooManyCalls>;

impl Call {
    /// `request_id` names the request behind the call, if there is no transaction that names it.
    pub(crate) fn new(
        task: &Task<'_>,
        limits: Arc<Limits>,
        data: Option<Arc<dyn Data>>,
        request_id: &str,
        places: Vec<OwnedSemaphorePermit>,
    ) -> Self {
        let (now, request_id) = match &data {
            Some(data) => (data.now(), data.context().request_id.as_str().into()),
            None => (unix_ms(), request_id.into()),
        };
        let kind = task.kind();
        let pace = Pace::new(kind.time(&limits));
        let name = task.to_string();
        Self { name, kind, pace, now, request_id, data, limits, host_calls: 0, _places: places }
    }

    pub(crate) fn caller(&self) -> Option<&Account> {
        self.data.as_ref().and_then(|data| data.context().account())
    }

    /// What the caller may do in the workspace.
    pub(crate) fn right(&self) -> Right {
        self.data.as_ref().map(|data| data.context().right).unwrap_or_default()
    }

    /// The caller on whose behalf it runs.
    pub(crate) fn context(&self) -> Context {
        self.data.as_ref().map(|data| data.context().clone()).unwrap_or_default()
    }

    /// Whether it runs an action. Only actions may reach beyond the workspace.
    pub(crate) fn is_action(&self) -> bool {
        self.kind == Kind::Action
    }

    /// Counts a host call by the plugin.
    pub(crate) fn count(&mut self) -> Result<(), TooManyCalls> {
        self.host_calls += 1;
        let limit = self.limits.host_calls;
        if self.host_calls > limit { Err(TooManyCalls(limit)) } else { Ok(()) }
    }

    /// The transaction, if this call may use it in this way. Counts as a host call.
    pub(crate) fn transaction(&mut self, access: Access) -> Answer<Arc<dyn Data>> {
        self.count()?;
        let denied = |reason: &str| Ok(Err(ActionError::Denied(reason.into())));
        let allowed = self.kind.access();
        match &self.data {
            _ if allowed == Access::Nothing => {
                denied("tables and kv can be used in actions and in check-change only")
            }
            _ if allowed < access => denied(
                "check-change may read tables and kv, and not write them; write in the action",
            ),
            Some(data) => Ok(Ok(data.clone())),
            None => denied("this call has no workspace to read from"),
        }
    }

    /// Rejects a value that is too large to be written, before any work is done.
    pub(crate) fn check_written(&self, value: &str) -> Result<(), ActionError> {
        let limit = self.limits.row_bytes;
        if value.len() <= limit {
            return Ok(());
        }
        Err(ActionError::Invalid(too_large(value.len(), limit)))
    }
}

/// The issue of a value that exceeds the size limit.
pub(crate) fn too_large(bytes: usize, limit: usize) -> Vec<Issue> {
    vec![Issue::whole(format!("is {bytes} bytes of JSON; {limit} is the most"))]
}

/// Why a call failed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// It exceeded its time limit.
    TimedOut,
    /// All places were taken, and this many calls were waiting.
    Busy(usize),
    /// The plugin crashed for this reason.
    Crashed(String),
    /// The answer violates the contract in this way.
    Breach(String),
}

/// Runs a call until its time is up. A panic in our own code becomes an error of this call.
pub(crate) async fn bounded<T>(
    until: Instant,
    call: impl Future<Output = Result<T, Ended>>,
) -> Result<T, Ended> {
    match tokio::time::timeout_at(until.into(), AssertUnwindSafe(call).catch_unwind()).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(panic)) => {
            let message = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("no message");
            tracing::error!("the host panicked while it served a plugin: {message}");
            Err(Ended::Crashed("the host itself failed; see its log".into()))
        }
        Err(_) => Err(Ended::TimedOut),
    }
}

fn unix_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}
