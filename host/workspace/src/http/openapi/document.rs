//! The parts of an OpenAPI 3.1 document, as far as this server needs them.
//!
//! These are our own types and not those of a crate: the crates that have them give schemas types as well, and
//! lose what a plugin's schema says beyond those.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, json};

/// What can be done at a path with a method.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Operation {
    /// What generated clients call it; no two have the same.
    pub operation_id: String,
    /// One line.
    pub summary: String,
    /// Markdown; left out when it is empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// What it belongs to.
    pub tags: Vec<String>,
    /// Whether the reference page can show it live. As a type of the answer, programs that try all of them would
    /// wait for its end.
    #[serde(rename = "x-live", skip_serializing_if = "std::ops::Not::not")]
    pub live: bool,
    /// What stands in the URL and in headers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parameters: Vec<Parameter>,
    /// What is sent with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_body: Option<RequestBody>,
    /// By status.
    pub responses: BTreeMap<u16, Answer>,
}

/// A value in the URL or in a header.
#[derive(Debug, Clone, Serialize)]
pub struct Parameter {
    pub name: String,
    #[serde(rename = "in")]
    pub place: Place,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub required: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// How lists and objects are written.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub style: Option<Style>,
    pub schema: Value,
}

/// Where a parameter stands.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    Header,
    Path,
    Query,
}

/// How a parameter that is no simple value is written.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Style {
    style: &'static str,
    explode: bool,
}

impl Style {
    /// A list between commas.
    pub const COMMAS: Self = Self { style: "form", explode: false };
    /// `name[member]=value`.
    pub const BRACKETS: Self = Self { style: "deepObject", explode: true };
}

impl Parameter {
    /// One that may be left out.
    pub fn new(place: Place, name: &str, description: &str, schema: Value) -> Self {
        let (name, description) = (name.to_owned(), description.to_owned());
        Self { name, place, required: false, description, style: None, schema }
    }

    /// A header with a text.
    pub fn header(name: &str) -> Self {
        Self::new(Place::Header, name, "", json!({ "type": "string" }))
    }
}

/// What is sent with a request, by media type.
#[derive(Debug, Clone, Serialize)]
pub struct RequestBody {
    pub required: bool,
    pub content: BTreeMap<&'static str, Content>,
}

/// A body of one media type.
#[derive(Debug, Clone, Serialize)]
pub struct Content {
    pub schema: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub example: Option<Value>,
}

impl RequestBody {
    /// JSON, with something to begin from.
    pub fn json(schema: Value, example: Value) -> Self {
        let content = Content { schema, example: Some(example) };
        Self { required: true, content: BTreeMap::from([("application/json", content)]) }
    }
}

/// An answer, or the name of one that many operations have.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub enum Answer {
    Own {
        description: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        headers: Option<Value>,
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        content: BTreeMap<&'static str, Content>,
    },
    Common {
        #[serde(rename = "$ref")]
        reference: String,
    },
}

impl Answer {
    /// `{"data": …}` with data of a schema.
    pub fn data(description: &str, data: Value) -> Self {
        Self::json(description, object([("data", data)]))
    }

    /// JSON of a schema.
    pub fn json(description: &str, schema: Value) -> Self {
        let content = Content { schema, example: None };
        let content = BTreeMap::from([("application/json", content)]);
        Self::Own { description: description.to_owned(), headers: None, content }
    }

    /// Without a body.
    pub fn empty(description: &str) -> Self {
        let description = description.to_owned();
        Self::Own { description, headers: None, content: BTreeMap::new() }
    }

    /// One of the components.
    pub fn common(name: &str) -> Self {
        Self::Common { reference: format!("#/components/responses/{name}") }
    }

    /// The same with a tag of its version.
    pub fn tagged(mut self) -> Self {
        if let Self::Own { headers, .. } = &mut self {
            *headers = Some(json!({ "ETag": { "schema": { "type": "string" } } }));
        }
        self
    }

    /// The same, also as plain text where that is asked for.
    pub fn or_plain_text(mut self) -> Self {
        if let Self::Own { content, .. } = &mut self {
            content.insert("text/plain", Content { schema: string(), example: None });
        }
        self
    }
}

/// The schema of a text.
pub fn string() -> Value {
    json!({ "type": "string" })
}

/// The schema of an object in which all of these members are.
pub fn object<const N: usize>(members: [(&str, Value); N]) -> Value {
    let required: Vec<_> = members.iter().map(|(name, _)| *name).collect();
    let properties: serde_json::Map<_, _> =
        members.iter().map(|(name, schema)| ((*name).to_owned(), schema.clone())).collect();
    json!({ "type": "object", "required": required, "properties": properties })
}
