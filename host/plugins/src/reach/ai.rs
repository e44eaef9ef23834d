//! Language models for plugins: the contract's interface `ai`, where it is granted.
//!
//! This crate knows no provider: the server implements [`Models`]. The plugin's side is here:
//! whether it may ask, how many answers at once, and the size of requests and answers. An answer
//! lives no longer than the call that requested it, whatever the guest does with its handle: when
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
    /// Starts an answer. `by` identifies the caller, whose rate limit and usage it counts towards.
    async fn ask(&self, by: &Context, request: Request) -> Result<Box<dyn Answering>, ActionError>;
}

/// An answer in progress; dropping it ends the request.
#[async_trait]
pub trait Answering: Send {
    /// The next event. It is not called again after [`Event::End`] or an error. An answer that ends
    /// without either is broken.
    async fn next(&mut self) -> Result<Option<Event>, ActionError>;
}

/// A request to a model.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Request {
    /// The provider's name.
    pub provider: String,
    /// The model, as the provider calls it.
    pub model: String,
    /// The system prompt; may be empty.
    pub system: String,
    /// The messages, oldest first.
    pub messages: Vec<Message>,
    /// The tools that the model may call.
    pub tools: Vec<Tool>,
    /// Options in the provider's own format.
    pub options: Map<String, Value>,
}

/// A message.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Message {
    /// From the user.
    User(String),
    /// From the model.
    Assistant(Assistant),
    /// The result of a call in the preceding message.
    ToolResult(ToolResult),
}

/// A model's message.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Assistant {
    /// Its thoughts, if the provider reveals them.
    pub thinking: Vec<Thought>,
    /// Its text.
    pub text: String,
    /// Its tool calls.
    pub calls: Vec<ToolCall>,
}

/// A model's thought.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Thought {
    /// The text.
    pub text: String,
    /// The provider's signature of the thought; empty if there is none.
    pub signature: String,
}

/// A tool that the model may call.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Tool {
    /// The name: 1 to 64 characters from `[A-Za-z0-9_-]`.
    pub name: String,
    /// Tells the model when to call it.
    pub description: String,
    /// The JSON Schema of its input.
    pub parameters: Value,
}

/// A tool call by the model.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ToolCall {
    /// The id that the result refers to.
    pub id: String,
    /// The tool's name.
    pub name: String,
    /// The arguments as JSON text, as the model wrote them.
    pub arguments: String,
    /// The provider's signature of the thought behind it; empty if there is none.
    pub signature: String,
}

/// The result of a tool call.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ToolResult {
    /// The call's id.
    pub id: String,
    /// The tool's name.
    pub name: String,
    /// The result, usually JSON.
    pub content: String,
}

/// An event of an answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A piece of a thought.
    Thinking(String),
    /// A piece of the text.
    Text(String),
    /// A complete tool call.
    ToolCall(ToolCall),
    /// The end, which repeats the whole answer.
    End(Answer),
}

/// A complete answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Answer {
    /// The model that answered, by its own name.
    pub model: String,
    /// The model's message.
    pub message: Assistant,
    /// Why it ended.
    pub reason: FinishReason,
    /// The tokens used.
    pub usage: Usage,
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FinishReason {
    /// The model has finished.
    Stop,
    /// The model waits for the results of its calls.
    ToolCalls,
    /// The answer reached its maximum length.
    Length,
    /// The provider's content filter stopped it.
    ContentFilter,
}

/// The token counts of an answer, as the provider reports them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// Input tokens.
    pub input: u64,
    /// Output tokens.
    pub output: u64,
    /// The total; some providers include more.
    pub total: u64,
}

/// A plugin's access to models, shared by all of its calls. Empty if it has none.
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

    /// Starts an answer for a call, which must be that of an action.
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

/// An answer within its limits.
pub(crate) struct Reply {
    answering: Option<Box<dyn Answering>>,
    /// Bytes still allowed.
    left: usize,
    _place: OwnedSemaphorePermit,
}

impl Reply {
    /// The next event; `None` after the end or an error.
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

/// The answers in progress in one call, by the guest's handles.
#[derive(Default)]
pub(crate) struct Replies {
    by_handle: HashMap<u32, Reply>,
    /// Handles are never reused, so one from an earlier call refers to nothing.
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
    /// Its size.
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

/// Parses the JSON of a request; errors include the location.
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
