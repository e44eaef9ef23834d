//! A chat: a conversation in, an answer out as it comes, whichever provider gives it.
//!
//! [`Chat::run`] is all of it: it takes a [`Request`] and gives a [`Run`], a stream of [`Event`]s.
//! The HTTP route ([`router`]) reads a body into the one ([`body`]) and writes the other as
//! server-sent events ([`wire`]); a plugin that is granted AI goes the same way without HTTP, and
//! [`Answer`] is for whoever wants the answer as a whole.
//!
//! In between, each provider has one file that knows its API (`openai`, `anthropic`, `gemini`,
//! `completions`): the conversation in the provider's words, and its stream read into deltas, of
//! which [`assembly`] makes events in the promised order. `upstream` asks, again if need be.
//!
//! Where the server has [`Actions`], callers may have them offered to the model, and `agent` answers
//! its calls.
//!
//! Nothing is buffered: each event of the provider is handed on when it has arrived, by the same
//! task. A run is a stream that does its work when it is polled, so there is nothing to cancel:
//! when the client leaves, its response is dropped, and with it the request to the provider. What
//! a run holds is one event of the provider and, for old clients, the text that they want
//! repeated; [`Limits`] bounds both.
//!
//! Whatever goes wrong once a run is admitted is an event in it, never an HTTP status: clients
//! show the message of the one, and of the other only the number.

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

/// Why a run does not begin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// There is no provider of that name.
    #[error("Unsupported provider: {0}")]
    UnknownProvider(String),
    /// Neither the caller nor the server has a key.
    #[error("Missing API key: set x-provider-api-key header or configure {0} environment variable")]
    MissingKey(String),
    /// There is no action of that name to be offered.
    #[error(
        "there is no action {0:?} here that a model could be offered; GET / lists those that are"
    )]
    UnknownAction(String),
    /// The caller asks too much.
    #[error(transparent)]
    NotAdmitted(#[from] NotAdmitted),
}

impl Chat {
    /// A chat with these providers, which counts in `usage` what it takes.
    pub fn new(providers: Providers, usage: Usage, limits: Limits) -> Self {
        let admission =
            Admission::new(limits.chats_per_minute, limits.chats_per_user, limits.chats);
        Self { providers, usage, limits: Arc::new(limits), admission, actions: None }
    }

    /// Begins an answer. Nothing happens before its first event is asked for.
    pub fn run(&self, caller: Option<&Caller>, request: Request) -> Result<Run, Refused> {
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

    /// Whom to ask, and with which key: the caller's own, the server's, or with a session of the hub.
    fn provider(
        &self,
        caller: Option<&Caller>,
        request: &Request,
    ) -> Result<(Arc<Provider>, Option<Key>), Refused> {
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
            Some(provider) => Refused::MissingKey(provider.key_variable().to_owned()),
            None => Refused::UnknownProvider(name.clone()),
        })
    }

    /// The same, with actions that callers may have offered to models.
    pub fn with_actions(self, actions: Arc<dyn Actions>) -> Self {
        Self { actions: Some(actions), ..self }
    }

    /// Who can be asked.
    pub fn providers(&self) -> &Providers {
        &self.providers
    }

    /// The bounds.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }
}
