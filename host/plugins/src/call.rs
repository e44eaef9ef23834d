//! One call of the host into a plugin: what it is for, and what the plugin may do in it.
//!
//! The call decides what may be touched: `define` and the parsing of rows see no data, `check-change`
//! may read, an action may do what its transaction allows. It is the same for a component and a
//! script, and for what they ask of models and of other servers.

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures_util::FutureExt;
use host_caller::Account;
use host_wasm::Pace;
use host_workspace::{ActionError, Context, Data, Issue};
use tokio::sync::OwnedSemaphorePermit;

use crate::limits::Limits;

/// What the host asks of a plugin. Displayed, it is the name of the call in errors and in the log:
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

/// The kinds of calls, each with limits of its own.
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

    /// How long a call of this kind may take.
    pub(crate) fn time(self, limits: &Limits) -> Duration {
        match self {
            Self::Define => limits.define,
            Self::Parse => limits.parse,
            Self::Check => limits.check,
            Self::Action => limits.action,
        }
    }
}

/// What a call may do with the workspace's data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Access {
    Nothing,
    Read,
    /// As far as the transaction allows: a query's refuses writes itself.
    Write,
}

/// One call of the host into a plugin. Its time begins when it is made, and its places are free again
/// when it is dropped.
pub(crate) struct Call {
    /// What it is for, in words.
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) pace: Pace,
    /// Unix ms; the same for the whole call.
    pub(crate) now: u64,
    pub(crate) request_id: Arc<str>,
    data: Option<Arc<dyn Data>>,
    limits: Arc<Limits>,
    host_calls: usize,
    _places: Vec<OwnedSemaphorePermit>,
}

/// The plugin called the host more often than it may.
#[derive(Debug, thiserror::Error)]
#[error("it called the host more than {0} times in one call")]
pub(crate) struct TooManyCalls(usize);

/// What the host answers a plugin: the outer error ends the call, the inner one is the plugin's to
/// handle.
pub(crate) type Answer<T> = Result<Result<T, ActionError>, TooManyCalls>;

impl Call {
    /// `request_id` names the request that the call is for, where it has no transaction to say so.
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
        self.data
            .as_ref()
            .and_then(|data| data.context().caller.as_ref())
            .map(|caller| &caller.account)
    }

    /// On whose behalf it is made.
    pub(crate) fn context(&self) -> Context {
        self.data.as_ref().map(|data| data.context().clone()).unwrap_or_default()
    }

    /// Whether it is of an action, which alone may reach beyond the workspace.
    pub(crate) fn is_action(&self) -> bool {
        self.kind == Kind::Action
    }

    /// Counts what the plugin asks of the host.
    pub(crate) fn count(&mut self) -> Result<(), TooManyCalls> {
        self.host_calls += 1;
        let limit = self.limits.host_calls;
        if self.host_calls > limit { Err(TooManyCalls(limit)) } else { Ok(()) }
    }

    /// The transaction, when this call may use it so. Counts the use.
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

    /// Refuses a value that is too large to be written, before anything is done with it.
    pub(crate) fn check_written(&self, value: &str) -> Result<(), ActionError> {
        let limit = self.limits.row_bytes;
        if value.len() <= limit {
            return Ok(());
        }
        Err(ActionError::Invalid(too_large(value.len(), limit)))
    }
}

/// The issue of a value that is larger than it may be.
pub(crate) fn too_large(bytes: usize, limit: usize) -> Vec<Issue> {
    vec![Issue::whole(format!("is {bytes} bytes of JSON; {limit} is the most"))]
}

/// How a call ended without an answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// It did not end in its time.
    TimedOut,
    /// There was no place for it; so many were waiting.
    Busy(usize),
    /// The plugin crashed; says how.
    Crashed(String),
    /// It answered what the contract does not allow; says what.
    Breach(String),
}

/// Runs a call until its time is up. A panic of our own code on the way becomes an error of this call.
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
