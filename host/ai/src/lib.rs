//! AI for a hub: a chat that streams, and a proxy to the providers.
//!
//! [`chat`] answers a conversation through any provider and says it in one dialect of events;
//! [`proxy`] passes a provider's own API through. Both take the key from the same place, know who
//! asks by [`Caller`](host_caller::Caller), and stay within [`Limits`]; [`usage`] keeps what was spent.

pub mod admission;
pub mod chat;
pub mod limits;
pub mod providers;
pub mod proxy;
pub mod tokens;
pub mod usage;

use std::path::Path;
use std::sync::Arc;

use axum::Router;
use url::Url;

pub use chat::Chat;
pub use limits::Limits;
pub use tokens::Tokens;
pub use usage::Usage;

use chat::Actions;
use providers::{Endpoint, Providers, ProvidersError};

/// What a server's AI is made with. Keys and base URLs come from the environment.
#[derive(Debug, Clone, Default)]
pub struct AiConfig {
    /// The hub that the server belongs to, whose proxy is asked where the server has no key.
    pub hub: Option<Url>,
    /// Providers beside those that are known by name.
    pub endpoints: Vec<Endpoint>,
    /// Bounds.
    pub limits: Limits,
}

/// A server's AI: who can be asked, the chat, and what was spent. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Ai {
    /// Who can be asked.
    pub providers: Providers,
    /// The chat.
    pub chat: Chat,
    /// What was spent.
    pub usage: Usage,
}

/// Why there is no AI.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The providers cannot be used as they are configured.
    #[error(transparent)]
    Providers(#[from] ProvidersError),
    /// What was spent cannot be kept.
    #[error("the usage of AI cannot be kept: {0}")]
    Usage(#[from] rusqlite::Error),
}

impl Ai {
    /// Opens what is kept in `folder`. A provider of TLS must have been installed for the process.
    pub fn open(config: &AiConfig, folder: &Path) -> Result<Self, OpenError> {
        let providers = Providers::from_env(&config.endpoints)?.with_hub(config.hub.clone());
        let usage = Usage::open(&folder.join("ai.db"))?;
        let chat = Chat::new(providers.clone(), usage.clone(), config.limits.clone());
        Ok(Self { providers, chat, usage })
    }

    /// The same, with actions that callers may have offered to models.
    pub fn with_actions(self, actions: Arc<dyn Actions>) -> Self {
        Self { chat: self.chat.with_actions(actions), ..self }
    }

    /// The routes below `/ai`. A server with accounts puts a [`Caller`](host_caller::Caller) into each request.
    pub fn router(&self) -> Router {
        chat::router(self.chat.clone()).merge(usage::router(self.usage.clone()))
    }

    /// Waits until everything that was spent is written.
    pub async fn close(&self) {
        self.usage.close().await;
    }
}
