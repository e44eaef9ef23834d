//! Parses a client's body into a [`Request`].
//!
//! There are two generations of clients. Old ones send `messages` as their user interface stores
//! them (`parts`), with provider and model next to them or under `data`. New ones send an AG-UI
//! `RunAgentInput`: messages with `content` and `toolCalls`, tool results and thoughts as separate
//! messages, and provider and model under `forwardedProps`. Both kinds of messages may be mixed,
//! because clients keep old conversations.
//!
//! Providers require that each call be followed by its result, so this module ensures it: results
//! are collected wherever they appear and placed after their call, a call without a result gets one
//! that says so, and a result without a call is dropped.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use super::conversation::{
    Content, MediaKind, Message, Request, Source, Thinking, Tool, ToolCall, ToolResult,
};

/// Longest model name, provider name or conversation id, in characters. It is stored with the usage
/// and used in URLs.
const NAME: usize = 256;

/// The generation of clients that sent a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Generation {
    /// Before AG-UI.
    Old,
    /// AG-UI.
    Latest,
}

/// Why a body is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{at}: expected {expected}, found {found}")]
pub struct Invalid {
    /// The location, as a JSON pointer.
    pub at: String,
    /// What was expected.
    pub expected: &'static str,
    /// What was found.
    pub found: String,
}

/// Parses a body. The key is not part of it.
pub fn read(body: &Value) -> Result<(Request, Generation), Invalid> {
    let top = Object::of(body, "")?;
    let forwarded = top.optional_object("forwardedProps")?;
    let data = top.optional_object("data")?;
    let generation = if forwarded.is_some() { Generation::Latest } else { Generation::Old };
    let places = Places([Some(top.clone()), forwarded, data]);

    let mut conversation = Conversation::default();
    conversation.system.extend(places.string("systemPrompt")?.filter(|text| !text.is_empty()));
    let messages = top.array("messages")?;
    for (index, message) in messages.iter().enumerate() {
        conversation.add(Object::of(message, format!("/messages/{index}"))?)?;
    }
    let options = places.find("modelOptions").map(|(value, at)| Object::of(value, at));
    let thread = match places.name("threadId")? {
        Some(thread) => Some(thread),
        None => places.name("conversationId")?,
    };
    let request = Request {
        provider: places.name("provider")?.ok_or_else(|| top.missing("provider", "a string"))?,
        model: places.name("model")?.ok_or_else(|| top.missing("model", "a string"))?,
        thread,
        run: top.name("runId")?,
        actions: places.actions()?,
        tools: places.tools()?,
        options: options.transpose()?.map(|options| options.fields.clone()).unwrap_or_default(),
        system: conversation.system.join("\n\n"),
        messages: conversation.finish(),
        key: None,
    };
    Ok((request, generation))
}

/// The messages parsed so far.
#[derive(Default)]
struct Conversation {
    system: Vec<String>,
    messages: Vec<Message>,
    /// Results by call id.
    results: HashMap<String, String>,
    /// Thoughts sent as separate messages, which belong to the next message.
    thinking: Vec<Thinking>,
}

impl Conversation {
    fn add(&mut self, message: Object) -> Result<(), Invalid> {
        match message.string("role")?.as_str() {
            "user" => {
                let content = message.content()?;
                if !content.is_empty() {
                    self.messages.push(Message::User(content));
                }
            }
            "system" | "developer" => {
                let text = text_of(&message.content()?);
                self.system.extend((!text.is_empty()).then_some(text));
            }
            "assistant" if message.has("parts") => self.parts(&message)?,
            "assistant" => self.assistant(&message)?,
            "tool" => {
                let call = message.string("toolCallId")?;
                self.results.insert(call, message.result("content"));
            }
            "reasoning" => {
                let text = message.optional_string("content")?.unwrap_or_default();
                let signature = message.optional_string("encryptedValue")?;
                self.thinking.extend(signature.map(|signature| Thinking { text, signature }));
            }
            // Progress that an agent displays, which models do not read.
            "activity" => {}
            _ => {
                let expected = "user, assistant, system, developer, tool, reasoning or activity";
                return Err(message.wrong("role", expected));
            }
        }
        Ok(())
    }

    /// Adds an assistant's message with `content` and `toolCalls`.
    fn assistant(&mut self, message: &Object) -> Result<(), Invalid> {
        let mut turn = Turn { thinking: std::mem::take(&mut self.thinking), ..Turn::default() };
        for (at, thought) in message.objects("thinking")? {
            turn.think(&Object::of(thought, at)?)?;
        }
        turn.text = text_of(&message.content()?);
        let metadata = message.pointer("/metadata/tanstack/toolCallMetadata");
        for (at, call) in message.objects("toolCalls")? {
            let call = Object::of(call, at)?;
            let function = call.object("function")?;
            let id = call.string("id")?;
            let own = call.pointer("/metadata/thoughtSignature");
            let kept = metadata.and_then(|calls| calls.get(&id)?.get("thoughtSignature"));
            let signature = call.optional_string("encryptedValue")?;
            turn.calls.push(ToolCall {
                name: function.string("name")?,
                arguments: function.optional_string("arguments")?.unwrap_or_default(),
                signature: signature.or_else(|| Some(own.or(kept)?.as_str()?.to_owned())),
                id,
            });
        }
        self.end(turn);
        Ok(())
    }

    /// Adds an assistant's message with `parts`, which may span several turns: a call, its result,
    /// and more text.
    fn parts(&mut self, message: &Object) -> Result<(), Invalid> {
        let mut turn = Turn { thinking: std::mem::take(&mut self.thinking), ..Turn::default() };
        for (at, part) in message.objects("parts")? {
            let part = Object::of(part, at)?;
            let kind = part.string("type")?;
            if matches!(kind.as_str(), "text" | "thinking") && !turn.calls.is_empty() {
                self.end(std::mem::take(&mut turn));
            }
            match kind.as_str() {
                "text" => turn.text += &part.text()?,
                "thinking" => turn.think(&part)?,
                "structured-output" => {
                    turn.text += &part.optional_string("raw")?.unwrap_or_default();
                }
                "tool-call" => {
                    let call = part.call()?;
                    if let Some(result) = part.result_of_call() {
                        self.results.entry(call.id.clone()).or_insert(result);
                    }
                    turn.calls.push(call);
                }
                "tool-result" => {
                    let call = part.string("toolCallId")?;
                    self.results.insert(call, part.result("content"));
                }
                // Other parts of the user interface come from tools and are meant for the user.
                _ => {}
            }
        }
        self.end(turn);
        Ok(())
    }

    fn end(&mut self, turn: Turn) {
        if turn.text.is_empty() && turn.calls.is_empty() {
            return;
        }
        let results = turn.calls.iter().map(|call| ToolResult {
            call: call.id.clone(),
            name: call.name.clone(),
            // Results are filled in when all messages have been parsed.
            content: String::new(),
        });
        let results: Vec<_> = results.collect();
        let Turn { thinking, text, calls } = turn;
        self.messages.push(Message::Assistant { thinking, text, calls });
        if !results.is_empty() {
            self.messages.push(Message::Results(results));
        }
    }

    fn finish(mut self) -> Vec<Message> {
        for message in &mut self.messages {
            let Message::Results(results) = message else { continue };
            for result in results {
                let known = self.results.get(&result.call).cloned();
                result.content =
                    known.unwrap_or_else(|| json!({ "error": "nobody ran this" }).to_string());
            }
        }
        self.messages
    }
}

/// An assistant's turn, up to where it waits for results.
#[derive(Default)]
struct Turn {
    thinking: Vec<Thinking>,
    text: String,
    calls: Vec<ToolCall>,
}

impl Turn {
    /// Thoughts without a signature are dropped, because providers reject them.
    fn think(&mut self, thought: &Object) -> Result<(), Invalid> {
        let text = thought.optional_string("content")?.unwrap_or_default();
        let signature = thought.optional_string("signature")?;
        self.thinking.extend(signature.map(|signature| Thinking { text, signature }));
        Ok(())
    }
}

fn text_of(content: &[Content]) -> String {
    let texts = content.iter().filter_map(|content| match content {
        Content::Text(text) => Some(text.as_str()),
        _ => None,
    });
    texts.collect()
}

/// The places where clients put a field: the body itself, `forwardedProps`, `data`.
struct Places<'a>([Option<Object<'a>>; 3]);

impl<'a> Places<'a> {
    fn find(&self, field: &str) -> Option<(&'a Value, String)> {
        let mut places = self.0.iter().flatten();
        places.find_map(|place| Some((place.get(field)?, place.path(field))))
    }

    fn string(&self, field: &str) -> Result<Option<String>, Invalid> {
        let places = self.0.iter().flatten();
        places.map(|place| place.optional_string(field)).find_map(Result::transpose).transpose()
    }

    fn name(&self, field: &str) -> Result<Option<String>, Invalid> {
        let places = self.0.iter().flatten();
        places.map(|place| place.name(field)).find_map(Result::transpose).transpose()
    }

    /// New clients always send `tools`, mostly empty. Those that a caller adds under
    /// `forwardedProps` count as well.
    fn tools(&self) -> Result<Vec<Tool>, Invalid> {
        let mut tools: Vec<Tool> = Vec::new();
        for place in self.0.iter().flatten() {
            for (at, tool) in place.objects("tools")? {
                if tool.is_string() {
                    continue;
                }
                let tool = Object::of(tool, at)?.tool()?;
                if tools.iter().all(|other| other.name != tool.name) {
                    tools.push(tool);
                }
            }
        }
        Ok(tools)
    }

    /// Tools given only by name: actions of this server.
    fn actions(&self) -> Result<Vec<String>, Invalid> {
        let mut actions: Vec<String> = Vec::new();
        for place in self.0.iter().flatten() {
            for (_, tool) in place.objects("tools")? {
                let name = tool.as_str().filter(|name| actions.iter().all(|other| other != name));
                actions.extend(name.map(str::to_owned));
            }
        }
        Ok(actions)
    }
}

/// A JSON object and its location in the body.
#[derive(Clone)]
struct Object<'a> {
    fields: &'a Map<String, Value>,
    at: String,
}

impl<'a> Object<'a> {
    fn of(value: &'a Value, at: impl Into<String>) -> Result<Self, Invalid> {
        let at = at.into();
        match value {
            Value::Object(fields) => Ok(Self { fields, at }),
            _ => Err(Invalid {
                at: if at.is_empty() { "/".to_owned() } else { at },
                expected: "an object",
                found: describe(Some(value)),
            }),
        }
    }

    fn path(&self, field: &str) -> String {
        format!("{}/{field}", self.at)
    }

    /// The value of a member; `null` counts as missing.
    fn get(&self, field: &str) -> Option<&'a Value> {
        self.fields.get(field).filter(|value| !value.is_null())
    }

    fn has(&self, field: &str) -> bool {
        self.get(field).is_some()
    }

    fn pointer(&self, pointer: &str) -> Option<&'a Value> {
        let (first, rest) = pointer.trim_start_matches('/').split_once('/')?;
        self.get(first)?.pointer(&format!("/{rest}"))
    }

    fn wrong(&self, field: &str, expected: &'static str) -> Invalid {
        Invalid { at: self.path(field), expected, found: describe(self.fields.get(field)) }
    }

    fn missing(&self, field: &str, expected: &'static str) -> Invalid {
        self.wrong(field, expected)
    }

    fn optional_string(&self, field: &str) -> Result<Option<String>, Invalid> {
        match self.get(field) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(self.wrong(field, "a string")),
        }
    }

    fn string(&self, field: &str) -> Result<String, Invalid> {
        self.optional_string(field)?.ok_or_else(|| self.wrong(field, "a string"))
    }

    fn name(&self, field: &str) -> Result<Option<String>, Invalid> {
        let name = self.optional_string(field)?;
        let fits = |name: &String| {
            !name.is_empty() && name.len() <= NAME && !name.contains(char::is_control)
        };
        match name {
            Some(name) if !fits(&name) => Err(self.wrong(field, "a name of 1 to 256 characters")),
            name => Ok(name),
        }
    }

    fn optional_object(&self, field: &str) -> Result<Option<Object<'a>>, Invalid> {
        self.get(field).map(|value| Object::of(value, self.path(field))).transpose()
    }

    fn object(&self, field: &str) -> Result<Object<'a>, Invalid> {
        self.optional_object(field)?.ok_or_else(|| self.wrong(field, "an object"))
    }

    fn array(&self, field: &str) -> Result<&'a [Value], Invalid> {
        let array = self.get(field).and_then(Value::as_array);
        Ok(array.ok_or_else(|| self.wrong(field, "an array"))?)
    }

    /// The items of an optional array, with their locations.
    fn objects(&self, field: &str) -> Result<Vec<(String, &'a Value)>, Invalid> {
        let items = if self.has(field) { self.array(field)? } else { &[] };
        let at = self.path(field);
        Ok(items.iter().enumerate().map(|(i, item)| (format!("{at}/{i}"), item)).collect())
    }

    /// The content of a message: its `parts`, or its `content` as text or parts.
    fn content(&self) -> Result<Vec<Content>, Invalid> {
        let field = if self.has("parts") { "parts" } else { "content" };
        match self.get(field) {
            None => Ok(Vec::new()),
            Some(Value::String(text)) if text.is_empty() => Ok(Vec::new()),
            Some(Value::String(text)) => Ok(vec![Content::Text(text.clone())]),
            Some(Value::Array(_)) => {
                let parts = self.objects(field)?.into_iter();
                let mut parts = parts.map(|(at, part)| Object::of(part, at)?.piece());
                // The text of one message is one text, however the client split it.
                parts.try_fold(Vec::new(), |mut content, part| {
                    match (content.last_mut(), part?) {
                        (Some(Content::Text(text)), Content::Text(more)) => text.push_str(&more),
                        (_, part) => content.push(part),
                    }
                    Ok(content)
                })
            }
            Some(_) => Err(self.wrong(field, "a string or an array of parts")),
        }
    }

    fn text(&self) -> Result<String, Invalid> {
        let field = if self.has("content") { "content" } else { "text" };
        self.string(field)
    }

    /// One part of a user's message.
    fn piece(&self) -> Result<Content, Invalid> {
        let kind = self.string("type")?;
        let kind = match kind.as_str() {
            "text" => return Ok(Content::Text(self.text()?)),
            "image" => MediaKind::Image,
            "audio" => MediaKind::Audio,
            "video" => MediaKind::Video,
            "document" => MediaKind::Document,
            "binary" => return self.binary(),
            _ => return Ok(Content::Unknown(kind)),
        };
        let source = self.object("source")?;
        let value = source.string("value")?;
        let media_type = source.optional_string("mimeType")?;
        let source = match source.string("type")?.as_str() {
            "url" => Source::Url { url: value, media_type },
            "data" => data(kind, value, media_type),
            _ => return Err(source.wrong("type", "url or data")),
        };
        Ok(Content::Media { kind, source })
    }

    /// AG-UI's first format for content that is not text.
    fn binary(&self) -> Result<Content, Invalid> {
        let media_type = self.string("mimeType")?;
        let kind = match media_type.split('/').next() {
            Some("image") => MediaKind::Image,
            Some("audio") => MediaKind::Audio,
            Some("video") => MediaKind::Video,
            _ => MediaKind::Document,
        };
        let source = match self.optional_string("url")? {
            Some(url) => Source::Url { url, media_type: Some(media_type) },
            None => data(kind, self.string("data")?, Some(media_type)),
        };
        Ok(Content::Media { kind, source })
    }

    /// A call as user interfaces store it.
    fn call(&self) -> Result<ToolCall, Invalid> {
        let arguments = match self.optional_string("arguments")? {
            Some(arguments) => arguments,
            None => self.get("input").map(Value::to_string).unwrap_or_default(),
        };
        let signature = self.pointer("/metadata/thoughtSignature").and_then(Value::as_str);
        Ok(ToolCall {
            id: self.string("id")?,
            name: self.string("name")?,
            arguments,
            signature: signature.map(str::to_owned),
        })
    }

    /// The result of a call, as user interfaces store it with the call.
    fn result_of_call(&self) -> Option<String> {
        if self.has("output") {
            return Some(self.result("output"));
        }
        match self.pointer("/approval/approved")? {
            Value::Bool(false) => {
                Some(json!({ "approved": false, "message": "User denied this action" }).to_string())
            }
            _ => None,
        }
    }

    /// The result of a call: text as it is, anything else as JSON.
    fn result(&self, field: &str) -> String {
        match self.get(field) {
            None => String::new(),
            Some(Value::String(text)) => text.clone(),
            Some(value) => value.to_string(),
        }
    }

    fn tool(&self) -> Result<Tool, Invalid> {
        let function = self.optional_object("function")?;
        let tool = function.as_ref().unwrap_or(self);
        let mut schemas = ["parameters", "inputSchema", "input_schema"].into_iter();
        let schema = schemas.find_map(|field| tool.get(field));
        Ok(Tool {
            name: tool.string("name")?,
            description: tool.optional_string("description")?.unwrap_or_default(),
            parameters: match schema {
                Some(schema @ Value::Object(_)) => schema.clone(),
                Some(_) => return Err(tool.wrong("parameters", "a JSON Schema, an object")),
                None => json!({ "type": "object", "properties": {} }),
            },
        })
    }
}

/// Inline data; some clients write a data URL.
fn data(kind: MediaKind, value: String, media_type: Option<String>) -> Source {
    if let Some((header, data)) = value.strip_prefix("data:").and_then(|url| url.split_once(',')) {
        let media_type = header.split(';').next().unwrap_or_default().to_owned();
        return Source::Data { media_type, data: data.to_owned() };
    }
    let usual = match kind {
        MediaKind::Image => "image/jpeg",
        MediaKind::Audio => "audio/mp3",
        MediaKind::Video => "video/mp4",
        MediaKind::Document => "application/pdf",
    };
    Source::Data { media_type: media_type.unwrap_or_else(|| usual.to_owned()), data: value }
}

/// A short description of a value, for errors.
fn describe(value: Option<&Value>) -> String {
    match value {
        None => "nothing".to_owned(),
        Some(Value::Null) => "null".to_owned(),
        Some(Value::Bool(value)) => value.to_string(),
        Some(Value::Number(number)) => number.to_string(),
        Some(Value::String(text)) if text.chars().count() <= 40 => format!("{text:?}"),
        Some(Value::String(text)) => format!("a string of {} bytes", text.len()),
        Some(Value::Array(items)) => format!("an array of {}", items.len()),
        Some(Value::Object(_)) => "an object".to_owned(),
    }
}
