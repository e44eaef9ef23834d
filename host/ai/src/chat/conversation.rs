//! What is asked of a model: one form for all providers and for both kinds of clients.

use serde_json::{Map, Value};

use crate::providers::Key;

/// One turn of a conversation that a model is to answer.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// The provider's name.
    pub provider: String,
    /// The model, as the provider calls it.
    pub model: String,
    /// The conversation that this is a turn of, if the client has a name for it.
    pub thread: Option<String>,
    /// This turn, if the client has a name for it.
    pub run: Option<String>,
    /// What the model is told before anyone speaks; empty for nothing.
    pub system: String,
    /// What was said, oldest first.
    pub messages: Vec<Message>,
    /// What the model may call. Whoever asks runs it.
    pub tools: Vec<Tool>,
    /// Which of the server's own actions the model may call, by name. The server runs them.
    pub actions: Vec<String>,
    /// Options in the provider's own words: temperature, thinking and so on.
    pub options: Map<String, Value>,
    /// The caller's own key; without one the server's is used.
    pub key: Option<Key>,
}

/// What someone said.
#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    /// The person.
    User(Vec<Content>),
    /// The model.
    Assistant {
        /// What it thought before, where the provider wants that back.
        thinking: Vec<Thinking>,
        /// What it said.
        text: String,
        /// What it called.
        calls: Vec<ToolCall>,
    },
    /// What came of the calls of the message before: one for each of them, in their order.
    Results(Vec<ToolResult>),
}

/// A piece of what a person said.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// Words.
    Text(String),
    /// Something to look at or listen to.
    Media {
        /// What it is.
        kind: MediaKind,
        /// Where it is.
        source: Source,
    },
    /// Something of which this server knows the name alone.
    Unknown(String),
}

/// What a [`Content::Media`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MediaKind {
    /// A picture.
    Image,
    /// A sound.
    Audio,
    /// A film.
    Video,
    /// Pages, mostly PDF.
    Document,
}

/// Where a [`Content::Media`] is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// In the message, as base64.
    Data {
        /// Its media type, `image/png`.
        media_type: String,
        /// The base64.
        data: String,
    },
    /// Somewhere that the provider can reach.
    Url {
        /// Where.
        url: String,
        /// Its media type, if the client says it.
        media_type: Option<String>,
    },
}

/// What a model thought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Thinking {
    /// Its words.
    pub text: String,
    /// The provider's proof that it thought so.
    pub signature: String,
}

/// A call that a model made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolCall {
    /// By which its result is matched.
    pub id: String,
    /// The tool.
    pub name: String,
    /// JSON text, as the model wrote it.
    pub arguments: String,
    /// The provider's proof of the thought behind it.
    pub signature: Option<String>,
}

impl ToolCall {
    /// The arguments as an object. A model that was cut off may have written half of one, and
    /// providers accept nothing but objects when a call goes back to them.
    pub fn input(&self) -> Value {
        match serde_json::from_str(&self.arguments) {
            Ok(input @ Value::Object(_)) => input,
            _ => Value::Object(Map::new()),
        }
    }

    /// The same as JSON text: the model's own where that is an object. Several servers stream `""`
    /// for a tool without parameters, and refuse `""` when the call goes back to them.
    pub fn input_text(&self) -> String {
        match serde_json::from_str::<Map<String, Value>>(&self.arguments) {
            Ok(_) => self.arguments.clone(),
            Err(_) => "{}".to_owned(),
        }
    }
}

/// What came of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolResult {
    /// The call's id.
    pub call: String,
    /// The tool.
    pub name: String,
    /// Mostly JSON text.
    pub content: String,
}

/// Something that a model may call.
#[derive(Debug, Clone, PartialEq)]
pub struct Tool {
    /// Letters, digits, `_` and `-`; providers refuse others.
    pub name: String,
    /// When to call it, for the model to read.
    pub description: String,
    /// The JSON Schema of its input.
    pub parameters: Value,
}

impl MediaKind {
    /// What clients call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Audio => "audio",
            Self::Video => "video",
            Self::Document => "document",
        }
    }
}
