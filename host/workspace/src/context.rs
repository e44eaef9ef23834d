//! Who asks, and for which request.

use std::sync::Arc;

use host_caller::{Account, Caller, Right};
use host_sync::Author;

/// Who calls, and for which request.
#[derive(Debug, Clone, Default)]
pub struct Context {
    /// Who makes it; `None` while the server runs without accounts.
    pub caller: Option<Caller>,
    /// Who brought a change by sync, which is no request of theirs.
    pub delivered_by: Option<Arc<Account>>,
    /// What they may do in the workspace.
    pub right: Right,
    /// Names the request in the log.
    pub request_id: String,
}

impl Context {
    /// The account that calls, or that brought the change which is checked.
    pub fn account(&self) -> Option<&Account> {
        let caller = self.caller.as_ref().map(|caller| &caller.account);
        caller.or(self.delivered_by.as_deref())
    }

    /// The author of what is written on its behalf, by these means.
    pub(crate) fn author(&self, by: impl Into<Arc<str>>) -> Arc<Author> {
        let account = self.caller.as_ref().map(|caller| Arc::new(caller.account.clone()));
        Author::new(account, self.right, by)
    }
}
