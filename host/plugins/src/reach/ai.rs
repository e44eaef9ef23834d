//! Language models, as plugins ask them: the interface `ai` of the contract, where it is granted.
//!
//! This crate knows no provider: the server asks them, behind [`Models`]. The plugin's side is here:
//! whether it may ask, how many answers at once, how much a request and an answer may carry. An answer
//! lives no longer than the call in which it was asked for, whatever the guest does with its handle: when
//! the call ends, so does the request to the provider.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use host_workspace::{ActionError, Context, Issue};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::manifest::Grants;
use crate::call::Call;
use crate::limits::Limits;

/// Asks language models on behalf of plugins.
#[async_trait]
pub trait Models: fmt::Debug + Send + Sync + 'static {
    /// Begins an answer. `by` says on whose behalf: whose rate it counts in, and whose usage.
    async fn ask(&self, by: &Context, request: Request) -> Result<Box<dyn Answering>, ActionError>;
}

/// An answer that is under way; dropping it ends the request.
#[async_trait]
pub trait Answering: Send {
    /// What happens next. After [`Event::End`] and after an error it is not asked again; an answer that
    /// ends without either is broken.
    async fn next(&mut self) -> Result<Option<Event>, ActionError>;
}

/// What a model is asked.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Request {
    /// The provider's name.
    pub provider: String,
    /// The model, as the provider calls it.
    pub model: String,
    /// What the model is told before anyone speaks; empty for nothing.
    pub system: String,
    /// What was said, oldest first.
    pub messages: Vec<Message>,
    /// What the model may call.
    pub tools: Vec<Tool>,
    /// Options in the provider's own words.
    pub options: Map<String, Value>,
}

/// What someone said.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Message {
    /// The person.
    User(String),
    /// The model.
    Assistant(Assistant),
    /// What came of a call of the message before.
    ToolResult(ToolResult),
}

/// What a model said.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Assistant {
    /// Its thoughts, as far as the provider tells them.
    pub thinking: Vec<Thought>,
    /// Its words.
    pub text: String,
    /// What it called.
    pub calls: Vec<ToolCall>,
}

/// What a model thought.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Thought {
    /// Its words.
    pub text: String,
    /// The provider's proof that it thought so; empty when there is none.
    pub signature: String,
}

/// Something that a model may call.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Tool {
    /// 1 to 64 characters from `[A-Za-z0-9_-]`.
    pub name: String,
    /// When to call it, for the model to read.
    pub description: String,
    /// The JSON Schema of its input.
    pub parameters: Value,
}

/// A call that a model made.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ToolCall {
    /// By which its result is matched.
    pub id: String,
    /// The tool.
    pub name: String,
    /// JSON text, as the model wrote it.
    pub arguments: String,
    /// The provider's proof of the thought behind it; empty when there is none.
    pub signature: String,
}

/// What came of a call.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ToolResult {
    /// The call's id.
    pub id: String,
    /// The tool.
    pub name: String,
    /// Mostly JSON.
    pub content: String,
}

/// What happens while a model answers.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A piece of its thoughts.
    Thinking(String),
    /// A piece of its words.
    Text(String),
    /// It has made a call.
    ToolCall(ToolCall),
    /// It has said all, which is repeated here as a whole.
    End(Answer),
}

/// All that a model said.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Answer {
    /// The model that answered, by its own name.
    pub model: String,
    /// What it said.
    pub message: Assistant,
    /// Why it ended.
    pub reason: FinishReason,
    /// What it took.
    pub usage: Usage,
}

/// Why an answer is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FinishReason {
    /// The model has said all.
    Stop,
    /// The model waits for what it called.
    ToolCalls,
    /// The answer is as long as it may be.
    Length,
    /// The provider did not like the rest.
    ContentFilter,
}

/// What an answer took, in tokens, as the provider counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// What was asked.
    pub input: u64,
    /// What was answered.
    pub output: u64,
    /// Both; some providers count more into it.
    pub total: u64,
}

/// What a plugin asks models with; shared by all of its calls. Empty where it may not.
#[derive(Clone)]
pub(crate) struct Asking(Result<Arc<Asker>, &'static str>);

struct Asker {
    models: Arc<dyn Models>,
    limits: Arc<Limits>,
    places: Arc<Semaphore>,
}

impl Asking {
    pub(crate) fn new(
        grants: &Grants,
        models: Option<&Arc<dyn Models>>,
        limits: &Arc<Limits>,
    ) -> Self {
        Self(match models {
            _ if !grants.ai => {
                Err("this plugin may not ask models; `ai = true` in its manifest allows it")
            }
            None => Err("this host asks no models"),
            Some(models) => Ok(Arc::new(Asker {
                models: models.clone(),
                limits: limits.clone(),
                places: Arc::new(Semaphore::new(limits.ai_requests)),
            })),
        })
    }

    /// Begins an answer for a call, which has to be one of an action.
    pub(crate) fn ask(
        &self,
        call: &Call,
        request: Request,
    ) -> impl Future<Output = Result<Reply, ActionError>> + Send + use<> {
        let by = call.context();
        let asker = match &self.0 {
            _ if !call.is_action() => Err("models can be asked in actions only"),
            Ok(asker) => Ok(asker.clone()),
            Err(reason) => Err(*reason),
        };
        async move {
            let asker = asker.map_err(|reason| ActionError::Denied(reason.into()))?;
            asker.ask(&by, request).await
        }
    }
}

impl Asker {
    async fn ask(&self, by: &Context, request: Request) -> Result<Reply, ActionError> {
        let Limits { ai_requests, ai_request_bytes, ai_answer_bytes, .. } = *self.limits;
        let bytes = request.bytes();
        if bytes > ai_request_bytes {
            let message = format!("is {bytes} bytes; {ai_request_bytes} is the most");
            return Err(ActionError::Invalid(vec![Issue::whole(message)]));
        }
        let busy = |_| {
            let message = format!("{ai_requests} answers are under way already; take those first");
            ActionError::Failed(message)
        };
        let place = self.places.clone().try_acquire_owned().map_err(busy)?;
        let answering = self.models.ask(by, request).await?;
        Ok(Reply { answering: Some(answering), left: ai_answer_bytes, _place: place })
    }
}

/// An answer within its bounds.
pub(crate) struct Reply {
    answering: Option<Box<dyn Answering>>,
    /// Bytes that may still come.
    left: usize,
    _place: OwnedSemaphorePermit,
}

impl Reply {
    /// What happens next; nothing after the end and after an error.
    pub(crate) async fn next(&mut self) -> Result<Option<Event>, ActionError> {
        let Some(answering) = &mut self.answering else { return Ok(None) };
        let event = match answering.next().await {
            Ok(Some(event)) => self.bounded(event),
            Ok(None) => Err(ActionError::Failed("the answer broke off".into())),
            Err(error) => Err(error),
        };
        if !matches!(event, Ok(Event::Thinking(_) | Event::Text(_) | Event::ToolCall(_))) {
            self.answering = None;
        }
        event.map(Some)
    }

    fn bounded(&mut self, event: Event) -> Result<Event, ActionError> {
        let bytes = match &event {
            Event::Thinking(piece) | Event::Text(piece) => piece.len(),
            Event::ToolCall(call) => call.arguments.len(),
            Event::End(_) => 0,
        };
        self.left = self.left.checked_sub(bytes).ok_or_else(|| {
            ActionError::Failed("the answer is longer than a plugin may be given".into())
        })?;
        Ok(event)
    }

    /// Waits for the end.
    pub(crate) async fn whole(mut self) -> Result<Answer, ActionError> {
        loop {
            match self.next().await? {
                Some(Event::End(answer)) => return Ok(answer),
                Some(_) => {}
                None => return Err(ActionError::Failed("the answer broke off".into())),
            }
        }
    }
}

/// The answers that are under way in one call, by the handles that the guest has of them.
#[derive(Default)]
pub(crate) struct Replies {
    by_handle: HashMap<u32, Reply>,
    /// Handles are never used again, so that one from an earlier call leads nowhere.
    next: u32,
}

impl Replies {
    pub(crate) fn insert(&mut self, reply: Reply) -> u32 {
        self.next += 1;
        self.by_handle.insert(self.next, reply);
        self.next
    }

    pub(crate) fn get(&mut self, handle: u32) -> Option<&mut Reply> {
        self.by_handle.get_mut(&handle)
    }

    pub(crate) fn remove(&mut self, handle: u32) {
        self.by_handle.remove(&handle);
    }

    pub(crate) fn clear(&mut self) {
        self.by_handle.clear();
    }
}

impl Request {
    /// What it carries.
    fn bytes(&self) -> usize {
        let messages = self.messages.iter().map(|message| match message {
            Message::User(text) => text.len(),
            Message::Assistant(said) => {
                let thinking = said.thinking.iter();
                let calls = said.calls.iter();
                said.text.len()
                    + thinking.map(|it| it.text.len() + it.signature.len()).sum::<usize>()
                    + calls.map(|it| it.arguments.len() + it.signature.len()).sum::<usize>()
            }
            Message::ToolResult(result) => result.content.len(),
        });
        let tools = self.tools.iter();
        let tools = tools.map(|tool| tool.description.len() + tool.parameters.to_string().len());
        self.system.len() + messages.sum::<usize>() + tools.sum::<usize>()
    }
}

/// JSON of a request: what is wrong is said with its place in it.
pub(crate) fn json(text: &str, path: &[&str]) -> Result<Map<String, Value>, ActionError> {
    let issue = |message: String| {
        let path = path.iter().map(|&segment| segment.to_owned()).collect();
        ActionError::Invalid(vec![Issue { path, message }])
    };
    match serde_json::from_str(text) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(issue("must be a JSON object".into())),
        Err(error) => Err(issue(format!("is not JSON: {error}"))),
    }
}
