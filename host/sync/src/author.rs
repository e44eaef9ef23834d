//! Who changes a document, and by what.

use std::sync::{Arc, LazyLock};

use host_caller::{Account, Right};

/// Who changes a document, and by what. The log keeps the account's id and `by` with each update.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Author {
    /// The account; `None` where there are no accounts, and for what the server does of itself.
    pub account: Option<Arc<Account>>,
    /// The right that they were let in with.
    pub right: Right,
    /// By what, in a few words: `socket`, `http`, `rest`, `action posts/publish 1.2.0`, `server`.
    pub by: Arc<str>,
}

impl Author {
    /// Somebody, by these means.
    pub fn new(account: Option<Arc<Account>>, right: Right, by: impl Into<Arc<str>>) -> Arc<Self> {
        Arc::new(Self { account, right, by: by.into() })
    }

    /// The server itself.
    pub fn server() -> Arc<Self> {
        static SERVER: LazyLock<Arc<Author>> =
            LazyLock::new(|| Author::new(None, Right::Owner, "server"));
        SERVER.clone()
    }

    /// The account's id; empty for nobody.
    pub fn account_id(&self) -> &str {
        self.account.as_ref().map_or("", |account| &account.id)
    }
}
