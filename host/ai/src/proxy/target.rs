//! Maps request paths to a provider's URLs, and back.

use axum::http::header::HOST;
use axum::http::request::Parts;
use url::Url;

use crate::providers::{Api, Provider, is_version};

use super::credentials::split_query;

/// How many layers of encoding are checked. A router in front of a provider decodes once, sometimes
/// twice.
const LAYERS: usize = 8;

/// Why a path is rejected.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum TargetError {
    #[error("the path has `.` or `..` in it, which could leave the provider's address")]
    Dots,
    #[error("the path has a backslash or a control character in it")]
    Character,
    #[error("the path is encoded more than {LAYERS} times over")]
    Layers,
}

/// The provider's path for the part of a request's path after the provider's name. It starts with a
/// slash, includes the version that some client libraries expect in the base URL, and cannot climb.
pub(super) fn path(provider: &Provider, path: &str) -> Result<String, TargetError> {
    let path = path.trim_start_matches('/');
    check(path)?;
    let (first, rest) = path.split_once('/').unwrap_or((path, ""));
    let second = rest.split('/').next().unwrap_or_default();
    let version = provider.version();
    Ok(match (provider.api(), first) {
        _ if is_version(first) => format!("/{path}"),
        // Paths of WebSockets have the version inside a name.
        (Api::GenerateContent, "ws") => format!("/{path}"),
        (Api::GenerateContent, "upload" | "download") if is_version(second) => format!("/{path}"),
        (Api::GenerateContent, "upload" | "download") => format!("/{first}/{version}/{rest}"),
        _ => format!("/{version}/{path}"),
    })
}

/// Whether a path stays below its base, however often a server on the way decodes it.
fn check(path: &str) -> Result<(), TargetError> {
    let mut path = path.as_bytes().to_owned();
    for _ in 0..LAYERS {
        if path.iter().any(|byte| *byte == b'\\' || byte.is_ascii_control()) {
            return Err(TargetError::Character);
        }
        // Some servers strip parameters from a segment (`..;a=b`) before they interpret it.
        let climbs = |segment: &[u8]| {
            let name = segment.split(|byte| *byte == b';').next().unwrap_or_default();
            name == b"." || name == b".."
        };
        if path.split(|byte| *byte == b'/').any(climbs) {
            return Err(TargetError::Dots);
        }
        let decoded: Vec<u8> = percent_encoding::percent_decode(&path).collect();
        if decoded == path {
            return Ok(());
        }
        path = decoded;
    }
    Err(TargetError::Layers)
}

/// Converts a URL in the provider's answer to a request to `url` into the path and query after the
/// provider's name in our URLs; `None` if the URL is not below the provider's base.
pub(super) fn below(provider: &Provider, url: &Url, given: &str) -> Option<String> {
    let given = url.join(given).ok()?;
    if given.origin() != provider.base().origin() {
        return None;
    }
    let path = given.path().strip_prefix(provider.base().path().trim_end_matches('/'))?;
    if !path.starts_with('/') || check(path).is_err() {
        return None;
    }
    let (_, query) = split_query(given.query());
    Some(query.map_or_else(|| path.to_owned(), |query| format!("{path}?{query}")))
}

/// Our own origin as the caller sees it. It is only sent back to the caller, so the headers that it
/// comes from can be trusted.
pub(super) fn origin(request: &Parts) -> String {
    let header = |name: &str| {
        let value = request.headers.get(name)?.to_str().ok()?;
        value.split(',').next().map(str::trim).filter(|value| !value.is_empty())
    };
    let scheme = header("x-forwarded-proto").filter(|scheme| *scheme == "https").unwrap_or("http");
    let host = header("x-forwarded-host").or_else(|| header(HOST.as_str()));
    let authority = || request.uri.authority().map(|authority| authority.as_str());
    format!("{scheme}://{}", host.or_else(authority).unwrap_or("localhost"))
}
