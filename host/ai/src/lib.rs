//! AI for a hub: a streaming chat, and a proxy to the providers.
//!
//! [`chat`] answers a conversation through any provider in one format of events; [`proxy`] passes a
//! provider's own API through. Both find keys in the same place, identify the user by
//! [`Caller`](host_caller::Caller), and stay within [`Limits`]. [`usage`] records the tokens used.

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

/// The configuration of a server's AI. Keys and base URLs come from the environment.
#[derive(Debug, Clone, Default)]
pub struct AiConfig {
    /// The server's hub, whose proxy is used for providers without a key on this server.
    pub hub: Option<Url>,
    /// Endpoints in addition to the built-in providers.
    pub endpoints: Vec<Endpoint>,
    /// The limits.
    pub limits: Limits,
}

/// A server's AI: providers, chat and usage. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Ai {
    /// The providers.
    pub providers: Providers,
    /// The chat.
    pub chat: Chat,
    /// The recorded usage.
    pub usage: Usage,
}

/// Why AI cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The configuration of the providers is invalid.
    #[error(transparent)]
    Providers(#[from] ProvidersError),
    /// The usage database cannot be opened.
    #[error("the usage of AI cannot be kept: {0}")]
    Usage(#[from] host_files::OpenError),
}

impl Ai {
    /// Opens the usage database in `folder`. The process must have installed a TLS provider.
    pub fn open(config: &AiConfig, folder: &Path) -> Result<Self, OpenError> {
        let providers = Providers::from_env(&config.endpoints)?.with_hub(config.hub.clone());
        let usage = Usage::open(&folder.join("ai.db"))?;
        let chat = Chat::new(providers.clone(), usage.clone(), config.limits.clone());
        Ok(Self { providers, chat, usage })
    }

    /// The same, with actions that callers may offer to models.
    pub fn with_actions(self, actions: Arc<dyn Actions>) -> Self {
        Self { chat: self.chat.with_actions(actions), ..self }
    }

    /// The routes below `/ai`. A server with accounts adds a [`Caller`](host_caller::Caller) to
    /// each request.
    pub fn router(&self) -> Router {
        chat::router(self.chat.clone()).merge(usage::router(self.usage.clone()))
    }

    /// Waits until all usage is written.
    pub async fn close(&self) {
        self.usage.close().await;
    }
}
