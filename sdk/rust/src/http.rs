//! Requests to other servers, for plugins whose manifest names them under `[http]`.
//!
//! ```
//! # use epicenter_workspace::*;
//! fn weather(ctx: &Context, city: String) -> Result<Value> {
//!     let key = ctx.environment("WEATHER_KEY")?.unwrap_or_default();
//!     let answer = http::get("https://api.example.com/weather")
//!         .query(&[("city", city.as_str())])
//!         .header("authorization", format!("Bearer {key}"))
//!         .send(ctx)?;
//!     answer.success()?.json()
//! }
//! ```
//!
//! The action's limit covers the time that the other server takes. A mutation may be run again, and then
//! sends again.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::__bindings::epicenter::workspace::http as host;
use crate::context::Context;
use crate::error::{Error, Result};

/// A request. Made with [`get`], [`post`] and so on, and sent as often as one likes.
#[derive(Clone, Debug)]
#[must_use = "a request does nothing until it is sent"]
pub struct Request(host::Request);

/// What came back, whatever its status says.
#[derive(Clone, Debug)]
pub struct Response(host::Response);

/// A request for what is there.
pub fn get(url: impl Into<String>) -> Request {
    request("GET", url)
}

/// A request that sends something.
pub fn post(url: impl Into<String>) -> Request {
    request("POST", url)
}

/// A request of any method, for an absolute URL.
pub fn request(method: impl Into<String>, url: impl Into<String>) -> Request {
    Request(host::Request {
        method: method.into(),
        url: url.into(),
        headers: Vec::new(),
        body: Vec::new(),
    })
}

impl Request {
    /// Adds pairs to the URL's query, encoded as forms encode them.
    pub fn query(mut self, pairs: &[(&str, &str)]) -> Request {
        let url = &mut self.0.url;
        for (name, value) in pairs {
            url.push(if url.contains('?') { '&' } else { '?' });
            encode(url, name);
            url.push('=');
            encode(url, value);
        }
        self
    }

    /// Adds a header.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Request {
        self.0.headers.push(host::Header { name: name.into(), value: value.into() });
        self
    }

    /// What is sent.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Request {
        self.0.body = body.into();
        self
    }

    /// Sends a value as JSON.
    pub fn json(self, value: &impl Serialize) -> Result<Request> {
        let body = serde_json::to_vec(value)?;
        Ok(self.header("content-type", "application/json").body(body))
    }

    /// Sends it, and waits for the whole answer.
    ///
    /// Errors: [`Denied`](Error::Denied) for a host that was not granted, [`Invalid`](Error::Invalid)
    /// for what is no request, [`Failed`](Error::Failed) when there is no answer.
    pub fn send(&self, _: &Context) -> Result<Response> {
        host::send(&self.0).map(Response).map_err(Error::from_host)
    }
}

impl Response {
    /// `200` and so on.
    pub fn status(&self) -> u16 {
        self.0.status
    }

    /// The first header of that name, in whatever case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.0.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
        found.map(|header| header.value.as_str())
    }

    /// What came, as bytes.
    pub fn body(&self) -> &[u8] {
        &self.0.body
    }

    /// What came, as text.
    pub fn text(&self) -> Result<&str> {
        Ok(std::str::from_utf8(&self.0.body)?)
    }

    /// What came, as JSON.
    #[track_caller]
    pub fn json<T: DeserializeOwned>(&self) -> Result<T> {
        Ok(serde_json::from_slice(&self.0.body)?)
    }

    /// The answer if its status is of the two hundreds; otherwise an error that has status and text.
    #[track_caller]
    pub fn success(self) -> Result<Response> {
        if (200..300).contains(&self.0.status) {
            return Ok(self);
        }
        let text = String::from_utf8_lossy(&self.0.body);
        let start: String = text.chars().take(200).collect();
        Err(Error::failed(format!("the other server answered {}: {start}", self.0.status)))
    }
}

fn encode(url: &mut String, text: &str) {
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                url.push(char::from(byte));
            }
            _ => url.push_str(&format!("%{byte:02X}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_encoded_and_added_to_what_is_there() {
        let request = get("https://example.com/a?x=1").query(&[("q", "a b&c"), ("é", "")]);
        assert_eq!(request.0.url, "https://example.com/a?x=1&q=a%20b%26c&%C3%A9=");
    }

    #[test]
    fn an_answer_that_is_no_success_is_an_error_with_its_text() {
        let answer = |status| {
            Response(host::Response { status, headers: Vec::new(), body: b"{\"a\":1}".into() })
        };
        let read: serde_json::Value = answer(200).success().unwrap().json().unwrap();
        assert_eq!(read["a"], 1);
        let error = answer(503).success().unwrap_err();
        assert_eq!(error.to_string(), "the other server answered 503: {\"a\":1}");
    }
}
