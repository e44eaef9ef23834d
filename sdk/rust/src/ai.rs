//! Language models, for plugins whose manifest says `ai = true`.
//!
//! ```
//! # use epicenter_workspace::*;
//! fn summary(ctx: &Context, text: String) -> Result<String> {
//!     let answer = ai::Request::new("anthropic", "claude-haiku-4-5")
//!         .system("Sum up in one sentence what you are given.")
//!         .user(text)
//!         .send(ctx)?;
//!     Ok(answer.text().to_owned())
//! }
//! ```
//!
//! [`Request::stream`] gives the answer as it comes. A model that calls tools gets their results in
//! the next request, after what it said:
//!
//! ```
//! # use epicenter_workspace::*;
//! # fn look_up(_: &str) -> Result<String> { Ok(String::new()) }
//! fn ask(ctx: &Context, question: String) -> Result<String> {
//!     let parameters = json!({ "type": "object", "properties": { "term": { "type": "string" } } });
//!     let mut request = ai::Request::new("openai", "gpt-5")
//!         .tool("look_up", "Looks a term up in the glossary.", parameters)
//!         .user(question);
//!     for _round in 0..5 {
//!         let answer = request.send(ctx)?;
//!         if answer.calls().is_empty() {
//!             return Ok(answer.text().to_owned());
//!         }
//!         request = request.assistant(answer.message.clone());
//!         for call in answer.calls() {
//!             let result = look_up(&call.arguments)?;
//!             request = request.tool_result(call, result);
//!         }
//!     }
//!     Err(Error::failed("the model did not come to an end"))
//! }
//! ```
//!
//! An action has five seconds, which a model may take for itself: let the manifest say more, as
//! `action = "2m"` under `[limits]`. A mutation may be run again, and then asks again.

use serde_json::Value;

use crate::__bindings::epicenter::workspace::ai as host;
use crate::context::Context;
use crate::error::{Error, Result};

#[doc(inline)]
pub use host::{
    Answer, Assistant, Event, FinishReason, Message, Thought, Tool, ToolCall, ToolResult, Usage,
};

/// What a model is asked. Made with [`Request::new`], and sent as often as one likes.
#[derive(Clone, Debug)]
#[must_use = "a request does nothing until it is sent"]
pub struct Request(host::Request);

/// An answer that is under way: an iterator over what happens. Dropping it ends the request.
#[derive(Debug)]
pub struct Stream(host::AnswerStream);

impl Request {
    /// For a model of a provider: `anthropic`, `gemini`, `grok`, `openai`, or what the operator has
    /// added.
    pub fn new(provider: impl Into<String>, model: impl Into<String>) -> Request {
        Request(host::Request {
            provider: provider.into(),
            model: model.into(),
            system: String::new(),
            messages: Vec::new(),
            tools: Vec::new(),
            options: None,
        })
    }

    /// What the model is told before anyone speaks.
    pub fn system(mut self, text: impl Into<String>) -> Request {
        self.0.system = text.into();
        self
    }

    /// Adds what the person says.
    pub fn user(self, text: impl Into<String>) -> Request {
        self.message(Message::User(text.into()))
    }

    /// Adds what the model said before: [`Answer::message`].
    pub fn assistant(self, said: Assistant) -> Request {
        self.message(Message::Assistant(said))
    }

    /// Adds what came of a call. Each call of a message wants one, in their order.
    pub fn tool_result(self, call: &ToolCall, content: impl Into<String>) -> Request {
        let (id, name) = (call.id.clone(), call.name.clone());
        self.message(Message::ToolResult(ToolResult { id, name, content: content.into() }))
    }

    /// Adds a message.
    pub fn message(mut self, message: Message) -> Request {
        self.0.messages.push(message);
        self
    }

    /// Lets the model call something: its name (`[A-Za-z0-9_-]`, at most 64), when to call it, and the
    /// JSON Schema of its input, an object. Running the call is the plugin's.
    pub fn tool(
        mut self,
        name: impl Into<String>,
        description: impl Into<String>,
        parameters: Value,
    ) -> Request {
        self.0.tools.push(Tool {
            name: name.into(),
            description: description.into(),
            parameters: parameters.to_string(),
        });
        self
    }

    /// Options in the provider's own words: `json!({ "temperature": 0 })`.
    pub fn options(mut self, options: Value) -> Request {
        self.0.options = Some(options.to_string());
        self
    }

    /// Asks, and waits for the whole answer.
    ///
    /// Errors: [`Denied`](Error::Denied) without the grant, [`Invalid`](Error::Invalid) for a
    /// provider that is not there, [`Failed`](Error::Failed) with what the provider says.
    pub fn send(&self, _: &Context) -> Result<Answer> {
        host::chat(&self.0).map_err(Error::from_host)
    }

    /// Asks. Errors as with [`send`](Request::send); those of the provider come from the stream.
    pub fn stream(&self, _: &Context) -> Result<Stream> {
        host::chat_stream(&self.0).map(Stream).map_err(Error::from_host)
    }
}

impl Iterator for Stream {
    type Item = Result<Event>;

    /// What happens next; the last is [`Event::End`] or an error.
    fn next(&mut self) -> Option<Result<Event>> {
        self.0.next().map_err(Error::from_host).transpose()
    }
}

impl Answer {
    /// What the model said.
    pub fn text(&self) -> &str {
        &self.message.text
    }

    /// What it called.
    pub fn calls(&self) -> &[ToolCall] {
        &self.message.calls
    }
}
