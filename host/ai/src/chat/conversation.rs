//! A request to a model, in one form for all providers and both generations of clients.

use serde_json::{Map, Value};

use crate::providers::Key;

/// A conversation for a model to continue.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// The provider's name.
    pub provider: String,
    /// The model, as the provider calls it.
    pub model: String,
    /// The client's id for the conversation, if it has one.
    pub thread: Option<String>,
    /// The client's id for this turn, if it has one.
    pub run: Option<String>,
    /// The system prompt; may be empty.
    pub system: String,
    /// The messages, oldest first.
    pub messages: Vec<Message>,
    /// The tools that the model may call. The caller runs them.
    pub tools: Vec<Tool>,
    /// The names of the server's own actions that the model may call. The server runs them.
    pub actions: Vec<String>,
    /// Options in the provider's own format, such as temperature and thinking.
    pub options: Map<String, Value>,
    /// The caller's own key; `None` uses the server's.
    pub key: Option<Key>,
}

/// A message.
#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    /// From the user.
    User(Vec<Content>),
    /// From the model.
    Assistant {
        /// Thoughts, for providers that want them back.
        thinking: Vec<Thinking>,
        /// The text.
        text: String,
        /// The tool calls.
        calls: Vec<ToolCall>,
    },
    /// The results of the preceding message's calls, one for each, in order.
    Results(Vec<ToolResult>),
}

/// A part of a user's message.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// Text.
    Text(String),
    /// An image, a sound, a video or a document.
    Media {
        /// The kind of media.
        kind: MediaKind,
        /// Where the data is.
        source: Source,
    },
    /// A media type that this server knows only by name.
    Unknown(String),
}

/// The kind of a [`Content::Media`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MediaKind {
    /// An image.
    Image,
    /// Audio.
    Audio,
    /// Video.
    Video,
    /// A document, mostly PDF.
    Document,
}

/// The source of a [`Content::Media`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Inline base64.
    Data {
        /// The media type, such as `image/png`.
        media_type: String,
        /// The base64 data.
        data: String,
    },
    /// A URL that the provider can reach.
    Url {
        /// The URL.
        url: String,
        /// The media type, if the client gave one.
        media_type: Option<String>,
    },
}

/// A model's thought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Thinking {
    /// The text.
    pub text: String,
    /// The provider's signature of the thought.
    pub signature: String,
}

/// A tool call by the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolCall {
    /// The id that the result refers to.
    pub id: String,
    /// The tool's name.
    pub name: String,
    /// The arguments as JSON text, as the model wrote them.
    pub arguments: String,
    /// The provider's signature of the thought behind it.
    pub signature: Option<String>,
}

impl ToolCall {
    /// The arguments as an object. A model that was cut off may have written half of one, and
    /// providers accept only objects when a call is sent back to them.
    pub fn input(&self) -> Value {
        match serde_json::from_str(&self.arguments) {
            Ok(input @ Value::Object(_)) => input,
            _ => Value::Object(Map::new()),
        }
    }

    /// The same as JSON text: the model's own text if that is an object. Several servers stream
    /// `""` for a tool without parameters, but reject `""` when the call is sent back.
    pub fn input_text(&self) -> String {
        match serde_json::from_str::<Map<String, Value>>(&self.arguments) {
            Ok(_) => self.arguments.clone(),
            Err(_) => "{}".to_owned(),
        }
    }
}

/// The result of a tool call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolResult {
    /// The call's id.
    pub call: String,
    /// The tool's name.
    pub name: String,
    /// The result, usually JSON text.
    pub content: String,
}

/// A tool that the model may call.
#[derive(Debug, Clone, PartialEq)]
pub struct Tool {
    /// The name: letters, digits, `_` and `-`. Providers reject others.
    pub name: String,
    /// Tells the model when to call it.
    pub description: String,
    /// The JSON Schema of its input.
    pub parameters: Value,
}

impl MediaKind {
    /// The name that clients use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Audio => "audio",
            Self::Video => "video",
            Self::Document => "document",
        }
    }
}
