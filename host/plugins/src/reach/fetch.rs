//! Whole requests and responses, as the contract and scripts offer them: [`super::http`] with its
//! checks and limits, and messages for the error codes of `wasi:http`.

use bytes::Bytes;
use host_workspace::{ActionError, Issue};
use http::{HeaderName, HeaderValue, Method, Uri};
use http_body_util::{BodyExt, Full};
use wasmtime_wasi_http::Error;

use super::http::Outbound;
use crate::limits::Limits;

/// A request.
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) url: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Bytes,
}

/// A response.
pub(crate) struct Response {
    pub(crate) status: u16,
    /// Non-ASCII characters in a value are replaced.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Bytes,
}

/// Sends a request and reads its response.
pub(crate) async fn fetch(outbound: &Outbound, request: Request) -> Result<Response, ActionError> {
    let invalid = |at: &str, why: String| ActionError::Invalid(vec![Issue::at(at, why)]);
    let method = Method::from_bytes(request.method.as_bytes())
        .map_err(|_| invalid("method", format!("{:?} is none", request.method)))?;
    let uri = request.url.parse::<Uri>().ok().filter(|uri| {
        uri.host().is_some() && uri.scheme_str().is_some_and(|s| s == "https" || s == "http")
    });
    let uri = uri.ok_or_else(|| {
        invalid("url", format!("{:?} is no absolute URL of https or http", request.url))
    })?;
    let host = uri.authority().map(ToString::to_string).unwrap_or_default();
    let most = outbound.limits().map_or(usize::MAX, |limits| limits.http_request_bytes);
    if request.body.len() > most {
        return Err(invalid(
            "body",
            format!("is {} bytes; {most} is the most", request.body.len()),
        ));
    }
    let body = Full::new(request.body).map_err(|never| match never {}).boxed_unsync();
    let mut wasi = http::Request::new(body);
    *wasi.method_mut() = method;
    *wasi.uri_mut() = uri;
    for (name, value) in request.headers {
        let field = HeaderName::try_from(&name).ok().zip(HeaderValue::try_from(&value).ok());
        let Some((name, value)) = field else {
            return Err(invalid("headers", format!("{name:?} is none, or its value is none")));
        };
        wasi.headers_mut().append(name, value);
    }
    let refused = |error: Error| refusal(&host, &error, outbound.limits());
    let (response, _) = outbound.send(wasi, None).await.map_err(refused)?;
    let (parts, body) = response.into_parts();
    let body = body.collect().await.map_err(refused)?.to_bytes();
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let headers = parts.headers.iter().map(|(name, value)| (name.to_string(), text(value)));
    Ok(Response { status: parts.status.as_u16(), headers: headers.collect(), body })
}

/// Why a request was not sent or got no response.
pub(crate) fn refusal(host: &str, error: &Error, limits: Option<&Limits>) -> ActionError {
    let of = |number: fn(&Limits) -> usize| limits.map(number).unwrap_or_default();
    let why = match error {
        Error::HttpRequestDenied => {
            return ActionError::Denied(format!(
                "this plugin may not ask {host}; `hosts` under `[http]` in its manifest says whom it may"
            ));
        }
        Error::DestinationIpProhibited => {
            return ActionError::Denied(format!(
                "{host} leads to an address that is not public; `allow-private = true` under `[http]` \
                 in the plugin's manifest allows that"
            ));
        }
        Error::ConnectionLimitReached => {
            format!("{} requests are under way already", of(|limits| limits.http_requests))
        }
        Error::HttpResponseBodySize(_) => {
            format!("its answer has more than {} bytes", of(|limits| limits.http_response_bytes))
        }
        Error::HttpRequestBodySize(_) => {
            format!("the body has more than {} bytes", of(|limits| limits.http_request_bytes))
        }
        Error::ConnectionTimeout => "it does not answer".into(),
        Error::HttpResponseTimeout => "its answer takes too long".into(),
        Error::ConnectionRefused => "there is no connection to it".into(),
        Error::HttpResponseIncomplete => "its answer broke off".into(),
        Error::HttpRequestUriInvalid => "the URL is none".into(),
        _ => "it does not speak HTTP as it should".into(),
    };
    ActionError::Failed(format!("{host} cannot be asked: {why}"))
}
