//! Who asks, and for which request.

use host_caller::{Caller, Right};

/// Who calls, and for which request.
#[derive(Debug, Clone, Default)]
pub struct Context {
    /// Who makes it; `None` while the server runs without accounts.
    pub caller: Option<Caller>,
    /// What they may do in the workspace.
    pub right: Right,
    /// Names the request in the log.
    pub request_id: String,
}
