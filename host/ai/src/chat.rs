//! The chat: takes a conversation and streams the answer of any provider.
//!
//! [`Chat::run`] is the core: it takes a [`Request`] and returns a [`Run`], a stream of [`Event`]s.
//! The HTTP route ([`router`]) parses a body into a request ([`body`]) and writes events as
//! server-sent events ([`wire`]). A plugin that is granted AI takes the same path without HTTP, and
//! [`Answer`] collects a whole answer.
//!
//! Each provider's API has one file (`openai`, `anthropic`, `gemini`, `completions`), which
//! translates the conversation into the API's terms and parses its stream into deltas. [`assembly`]
//! turns deltas into events in the promised order. `upstream` sends the request and retries it if
//! necessary.
//!
//! Where the server has [`Actions`], callers may offer them to the model, and `agent` runs the
//! model's calls.
//!
//! Nothing is buffered: each provider event is passed on when it arrives, by the same task. A run
//! does its work when it is polled, so there is nothing to cancel: when the client disconnects, its
//! response is dropped, and with it the request to the provider. A run holds one provider event
//! and, for old clients, the text that they want repeated; [`Limits`] bounds both.
//!
//! Anything that goes wrong after a run was admitted is an event in the run, not an HTTP status:
//! clients show the message of an event, but only the number of a status.

pub mod actions;
pub mod assembly;
pub mod body;
pub mod conversation;
pub mod event;
pub mod wire;

mod agent;
mod answer;
mod dialect;
mod routes;
mod run;
mod sse;
#[cfg(test)]
mod tests;
mod upstream;

use std::sync::Arc;

use host_caller::{Caller, account_id};

pub use actions::Actions;
pub use answer::Answer;
pub use conversation::{Content, Message, Request, Thinking, Tool, ToolCall, ToolResult};
pub use event::{Event, Failure, FinishReason};
pub use routes::router;
pub use run::Run;

use crate::admission::{Admission, NotAdmitted};
use crate::limits::Limits;
use crate::providers::{Key, Provider, Providers};
use crate::usage::Usage;
use upstream::Question;

/// Chats with any provider. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Chat {
    providers: Providers,
    usage: Usage,
    limits: Arc<Limits>,
    admission: Admission,
    actions: Option<Arc<dyn Actions>>,
}

/// Why a run was not started.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotStarted {
    /// There is no provider with that name.
    #[error("Unsupported provider: {0}")]
    UnknownProvider(String),
    /// Neither the caller nor the server has a key.
    #[error("Missing API key: set x-provider-api-key header or configure {0} environment variable")]
    MissingKey(String),
    /// No action with that name can be offered.
    #[error(
        "there is no action {0:?} here that a model could be offered; GET / lists those that are"
    )]
    UnknownAction(String),
    /// The caller exceeds a limit.
    #[error(transparent)]
    NotAdmitted(#[from] NotAdmitted),
}

impl Chat {
    /// A chat with these providers, which records its usage in `usage`.
    pub fn new(providers: Providers, usage: Usage, limits: Limits) -> Self {
        let admission =
            Admission::new(limits.chats_per_minute, limits.chats_per_user, limits.chats);
        Self { providers, usage, limits: Arc::new(limits), admission, actions: None }
    }

    /// Starts an answer. Nothing is sent before its first event is polled.
    pub fn run(&self, caller: Option<&Caller>, request: Request) -> Result<Run, NotStarted> {
        let (provider, key) = self.provider(caller, &request)?;
        let admitted = self.admission.enter(account_id(caller))?;
        let reader = dialect::reader(provider.api());
        let tally = self.usage.tally(account_id(caller), provider.name(), &request.model);
        let question = dialect::call(&provider, &request).map(|(url, body)| Question {
            provider,
            client: self.providers.client().clone(),
            url,
            body: body.to_string().into(),
            key: key.clone(),
            limits: self.limits.clone(),
        });
        Ok(Run::new(question, request.provider, key, reader, tally, admitted))
    }

    /// The provider to ask and the key to use: the caller's own, the server's, or a session of the
    /// hub.
    fn provider(
        &self,
        caller: Option<&Caller>,
        request: &Request,
    ) -> Result<(Arc<Provider>, Option<Key>), NotStarted> {
        let name = &request.provider;
        let provider = self.providers.get(name);
        let key = request.key.clone();
        if let Some(provider) = provider.filter(|provider| key.is_some() || provider.is_ready()) {
            return Ok((provider.clone(), key.or_else(|| provider.key().cloned())));
        }
        let token = caller.and_then(|caller| Key::new(caller.token.as_str()));
        if let (Some(token), Some(provider)) = (token, self.providers.through_hub(name)) {
            return Ok((Arc::new(provider), Some(token)));
        }
        Err(match provider {
            Some(provider) => NotStarted::MissingKey(provider.key_variable().to_owned()),
            None => NotStarted::UnknownProvider(name.clone()),
        })
    }

    /// Adds actions that callers may offer to models.
    pub fn with_actions(self, actions: Arc<dyn Actions>) -> Self {
        Self { actions: Some(actions), ..self }
    }

    /// The providers.
    pub fn providers(&self) -> &Providers {
        &self.providers
    }

    /// The limits.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }
}
