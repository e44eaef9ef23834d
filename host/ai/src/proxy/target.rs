//! Where a request goes: the path below a provider's base URL, and back again.

use axum::http::header::HOST;
use axum::http::request::Parts;
use url::Url;

use crate::providers::{Api, Provider, is_version};

use super::credentials::split_query;

/// How often a path may be encoded. A router in front of a provider decodes once, sometimes twice.
const LAYERS: usize = 8;

/// Why a path goes nowhere.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum TargetError {
    #[error("the path has `.` or `..` in it, which could leave the provider's address")]
    Dots,
    #[error("the path has a backslash or a control character in it")]
    Character,
    #[error("the path is encoded more than {LAYERS} times over")]
    Layers,
}

/// The path at the provider for what stands behind its name in a request. It begins with a slash,
/// has the version that clients of some libraries leave to the base URL, and cannot climb.
pub(super) fn path(provider: &Provider, path: &str) -> Result<String, TargetError> {
    let path = path.trim_start_matches('/');
    check(path)?;
    let (first, rest) = path.split_once('/').unwrap_or((path, ""));
    let second = rest.split('/').next().unwrap_or_default();
    let version = provider.version();
    Ok(match (provider.api(), first) {
        _ if is_version(first) => format!("/{path}"),
        // Sockets have their version within a name.
        (Api::GenerateContent, "ws") => format!("/{path}"),
        (Api::GenerateContent, "upload" | "download") if is_version(second) => format!("/{path}"),
        (Api::GenerateContent, "upload" | "download") => format!("/{first}/{version}/{rest}"),
        _ => format!("/{version}/{path}"),
    })
}

/// Whether a path stays where it is put, however often somebody on its way decodes it.
fn check(path: &str) -> Result<(), TargetError> {
    let mut path = path.as_bytes().to_owned();
    for _ in 0..LAYERS {
        if path.iter().any(|byte| *byte == b'\\' || byte.is_ascii_control()) {
            return Err(TargetError::Character);
        }
        // Some servers cut parameters off a segment (`..;a=b`) before they look at it.
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

/// The path and query, behind the provider's name in our URLs, of a URL that the provider gave in
/// its answer to a request to `url`; none if it is not below the provider's base.
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

/// Our own origin as the caller sees it. What it says is told to nobody but the caller, so the
/// headers that say it may be believed.
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
