//! The provider proxy: a provider's SDK works through it unchanged, with a session token in place
//! of the provider's key.
//!
//! **Requests.** `/proxy/openai/v1/responses` is sent to `https://api.openai.com/v1/responses`,
//! with its method, query and body. The token is wherever the SDK puts its key, which is one of
//! five places ([`credentials`]). All five are cleared, and the provider's real key goes where that
//! provider takes it. Nothing else that identifies the caller is forwarded: no cookies, addresses
//! or page URLs ([`headers`]). A path cannot leave its provider's base URL ([`target`]).
//!
//! **Responses** are returned as they are: status, headers and bytes, compressed or not. Headers
//! that a provider sets for its own origin (cookies, CORS and the like) are dropped, because
//! clients would apply them to ours. Provider URLs in headers, which tell where an upload continues
//! or where an answer has moved, are rewritten to the proxy. They keep their path, so the proxy
//! stores nothing and reaches nothing that a plain request could not. A redirect to anywhere else
//! is an error, because SDKs would follow it with the session's token.
//!
//! **Streaming.** Bodies pass in both directions as they arrive, each side at the pace of the other
//! ([`body`]), and WebSockets are tunnels ([`tunnel`]). When the caller disconnects, the provider's
//! request is dropped, which closes its connection. When the provider fails within an answer, ours
//! is cut off without its proper end, so that nobody takes a part for the whole. A request that is
//! idle in both directions for [`Limits::proxy_idle_timeout`] is aborted.
//!
//! **Usage** counts for the caller, as for chats: the number of requests at once and per minute,
//! and the tokens that answers report ([`meter`]). The proxy asks for uncompressed answers. If a
//! provider compresses anyway, a copy is decoded on the side ([`decoder`]).
//!
//! **The key** appears in no log and no outgoing header. If an answer repeats it in one of the
//! forms that [`secret`] knows, it is replaced by asterisks. Only tunnels, and answers that a
//! provider compresses unasked, are not searched.

mod body;
mod credentials;
mod decoder;
mod headers;
mod meter;
mod secret;
mod target;
mod tunnel;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::error::Error as _;
use std::fmt::Write as _;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use host_caller::{Caller, Callers, Ended, Unavailable, account_id};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::admission::{Admission, NotAdmitted, Permit};
use crate::limits::Limits;
use crate::providers::{Provider, Providers};
use crate::usage::{Tally, Usage};

use body::{Activity, Download, Upload};
use credentials::Credentials;
use decoder::{Coding, Decoder};
use meter::Meter;
use secret::{Finder, Mask};

/// Bytes of a model's name, which is stored with the usage.
const MODEL: usize = 256;

/// The parts of a proxy.
pub struct ProxyConfig {
    /// The providers.
    pub providers: Providers,
    /// Where usage is recorded.
    pub usage: Usage,
    /// Verifies callers. If `None`, everybody who reaches the server may use the proxy, with any
    /// token or none.
    pub callers: Option<Arc<dyn Callers>>,
    /// The limits.
    pub limits: Limits,
}

/// The route `{prefix}/{provider}/…`, for all methods and for WebSockets. Tunnels end when the
/// router is dropped.
pub fn router(prefix: &'static str, config: ProxyConfig) -> Router {
    let stop = CancellationToken::new();
    let proxy = Proxy {
        prefix,
        admission: Admission::new(
            config.limits.proxied_per_minute,
            config.limits.proxied_per_user,
            config.limits.proxied,
        ),
        tunnels: TaskTracker::new(),
        finders: config
            .providers
            .iter()
            .filter_map(|provider| Some((provider.name().to_owned(), Finder::new(provider.key()?))))
            .collect(),
        stop: stop.clone(),
        _stop_on_drop: stop.drop_guard(),
        config,
    };
    Router::new().route(&format!("{prefix}/{{*rest}}"), any(pass)).with_state(Arc::new(proxy))
}

struct Proxy {
    prefix: &'static str,
    config: ProxyConfig,
    /// Limits the requests in flight.
    admission: Admission,
    tunnels: TaskTracker,
    /// Finders of the providers' keys, by provider name.
    finders: HashMap<String, Finder>,
    stop: CancellationToken,
    _stop_on_drop: DropGuard,
}

/// Why a request was not answered by its provider.
#[derive(Debug, thiserror::Error)]
enum ProxyError {
    #[error("Bearer token required")]
    TokenRequired,
    #[error("Invalid session token")]
    InvalidToken,
    #[error(transparent)]
    Unchecked(#[from] Unavailable),
    #[error("Unsupported provider: {0}")]
    Unsupported(String),
    #[error("No API key configured for {}. Set {} environment variable.", .0.name(), .0.key_variable())]
    NoKey(Arc<Provider>),
    #[error("the method {0} is not passed on")]
    Method(Method),
    #[error(transparent)]
    Target(#[from] target::TargetError),
    #[error(transparent)]
    NotAdmitted(#[from] NotAdmitted),
    #[error("{0} cannot be reached: {1}")]
    Unreachable(String, String),
    #[error("{0} did not answer in {1} s")]
    Silent(String, u64),
    #[error("{0} points to {1}, which is not below its own address; the proxy does not go there")]
    Astray(String, String),
    #[error(
        "{0} refused the request with {1}, and said why in a compression that nobody asked for"
    )]
    Unreadable(String, StatusCode),
    #[error("{0} answered a WebSocket handshake with another protocol")]
    NoWebSocket(String),
}

async fn pass(State(proxy): State<Arc<Proxy>>, request: Request) -> Response {
    proxy.pass(request).await.unwrap_or_else(IntoResponse::into_response)
}

impl Proxy {
    async fn pass(&self, mut request: Request) -> Result<Response, ProxyError> {
        let client = tunnel::requested(&mut request);
        let (mut parts, body) = request.into_parts();
        let credentials = Credentials::take(&mut parts);
        let caller = self.caller(&credentials).await?;
        let account = account_id(caller.as_ref());

        let path = parts.uri.path().strip_prefix(self.prefix).unwrap_or_default();
        let path = path.strip_prefix('/').unwrap_or_default();
        let (name, path) = path.split_once('/').unwrap_or((path, ""));
        let provider = self.config.providers.get(name);
        let provider = provider.ok_or_else(|| ProxyError::Unsupported(name.to_owned()))?;
        if matches!(parts.method, Method::TRACE | Method::CONNECT) {
            // TRACE would show the key to the caller; CONNECT is for another kind of proxy.
            return Err(ProxyError::Method(parts.method));
        }
        if provider.key().is_none() && provider.needs_key() {
            return Err(ProxyError::NoKey(provider.clone()));
        }
        let path = target::path(provider, path)?;
        let url = provider.url(&path, credentials.query.as_deref());
        let admitted = self.admission.enter(account)?;

        let activity = Activity::new(self.config.limits.proxy_idle_timeout);
        let mut outgoing = reqwest::Request::new(parts.method.clone(), url);
        *outgoing.headers_mut() = headers::to_provider(&parts.headers, client.is_some());
        if let Some(key) = provider.key() {
            credentials.key_style(provider, &path).put(outgoing.headers_mut(), key);
        }
        if !body.is_end_stream() {
            let body = self.while_signed_in(body, caller.as_ref());
            let upload = Upload::new(body, activity.clone());
            *outgoing.body_mut() = Some(reqwest::Body::wrap_stream(upload));
        }
        let url = outgoing.url().clone();
        tracing::debug!(provider = name, method = %parts.method, path, "forwarding a request to the provider");
        let http = match client {
            Some(_) => self.config.providers.upgrades(),
            None => self.config.providers.client(),
        };
        let answer = tokio::select! {
            answer = http.execute(outgoing) => answer.map_err(|error| unreachable(provider, error))?,
            () = activity.silence() => {
                return Err(ProxyError::Silent(name.to_owned(), activity.limit().as_secs()));
            }
        };

        let finder = provider.key().and_then(|_| self.finders.get(name));
        let mut headers = headers::to_caller(answer.headers());
        self.rewrite(&mut headers, provider, &url, &parts, finder)?;
        if let Some(finder) = finder {
            headers::hide(&mut headers, finder);
        }
        let status = answer.status();
        // For APIs that name the model in the path.
        let model = path
            .split_once("/models/")
            .map_or("", |(_, rest)| rest.split([':', '/']).next().unwrap_or_default());
        let model = model.get(..MODEL).unwrap_or(model);
        let mut tally = self.config.usage.tally(account, name, model);
        if !(status.is_client_error() || status.is_server_error()) {
            tally.begin();
        }
        let body = match client {
            Some(client) if status == StatusCode::SWITCHING_PROTOCOLS => {
                if !tunnel::agreed(answer.headers()) {
                    return Err(ProxyError::NoWebSocket(name.to_owned()));
                }
                tunnel::announce(&mut headers);
                let ended = match (&self.config.callers, &caller) {
                    (Some(callers), Some(caller)) => callers.ended(caller),
                    _ => Box::pin(std::future::pending()),
                };
                self.tunnel(client, answer, activity, ended, (tally, admitted));
                Body::empty()
            }
            // The client did not ask for an upgrade.
            _ if status == StatusCode::SWITCHING_PROTOCOLS => {
                return Err(ProxyError::NoWebSocket(name.to_owned()));
            }
            _ => {
                let failed = status.is_client_error() || status.is_server_error();
                let plain = headers::is_plain(answer.headers());
                if failed && finder.is_some() && !plain {
                    return Err(ProxyError::Unreadable(name.to_owned(), status));
                }
                let meter = headers::is_json(answer.headers()) && !failed;
                let coding = Coding::of(answer.headers()).filter(|_| meter);
                let named = !model.is_empty();
                let meter = coding.map(|coding| Decoder::new(coding, Meter::new(tally, named)));
                let answer = axum::http::Response::<reqwest::Body>::from(answer).into_body();
                let mask = finder.filter(|finder| plain && (failed || finder.is_secret()));
                let mask = mask.cloned().map(Mask::new);
                let body = Body::new(Download::new(answer, activity, mask, meter, admitted));
                self.while_signed_in(body, caller.as_ref())
            }
        };
        let mut response = Response::new(body);
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        Ok(response)
    }

    /// A body that is cut off when the caller's session ends.
    fn while_signed_in(&self, body: Body, caller: Option<&Caller>) -> Body {
        match (&self.config.callers, caller.cloned()) {
            (Some(callers), Some(caller)) => {
                let callers = callers.clone();
                host_http::until(body, host_http::Early::Broken, move || callers.ended(&caller))
            }
            _ => body,
        }
    }

    /// The caller, if allowed to use the proxy; `None` if no session is required.
    async fn caller(&self, credentials: &Credentials) -> Result<Option<Caller>, ProxyError> {
        let Some(callers) = &self.config.callers else { return Ok(None) };
        let token = credentials.token.as_deref().ok_or(ProxyError::TokenRequired)?;
        callers.identify(token).await?.map(Some).ok_or(ProxyError::InvalidToken)
    }

    /// Rewrites the provider's URLs in `headers` to ours. Errors do not include a URL whose host
    /// name contains the key.
    fn rewrite(
        &self,
        headers: &mut axum::http::HeaderMap,
        provider: &Provider,
        url: &url::Url,
        request: &axum::http::request::Parts,
        key: Option<&Finder>,
    ) -> Result<(), ProxyError> {
        let ours = format!("{}{}/{}", target::origin(request), self.prefix, provider.name());
        for name in headers::URLS {
            let Some(value) = headers.get(&name) else { continue };
            let value = String::from_utf8_lossy(value.as_bytes());
            let astray = || {
                let place = url.join(&value).map(|url| url.origin().ascii_serialization());
                ProxyError::Astray(
                    provider.name().to_owned(),
                    match place {
                        Ok(place) if key.is_some_and(|key| key.finds(place.as_bytes())) => {
                            "an address with the key in it".into()
                        }
                        Ok(place) => place,
                        Err(_) => "no URL at all".into(),
                    },
                )
            };
            let path = target::below(provider, url, &value).ok_or_else(astray)?;
            let value = HeaderValue::try_from(format!("{ours}{path}")).map_err(|_| astray())?;
            headers.insert(name, value);
        }
        Ok(())
    }

    /// Connects the two sides after both have upgraded, until the caller's session has `ended`.
    fn tunnel(
        &self,
        client: hyper::upgrade::OnUpgrade,
        answer: reqwest::Response,
        activity: Activity,
        ended: Ended,
        counted: (Tally, Permit),
    ) {
        let stop = self.stop.clone();
        self.tunnels.spawn(async move {
            let _counted = counted;
            tokio::select! {
                () = tunnel::join(client, answer, activity) => {}
                () = ended => tracing::debug!("a tunnel ends with its session"),
                () = stop.cancelled() => {}
            }
        });
    }
}

/// Describes why a provider cannot be reached, down to the system's error. The URL is left out,
/// because its query may hold secrets.
fn unreachable(provider: &Provider, error: reqwest::Error) -> ProxyError {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let _ = write!(text, ": {error}");
        cause = error.source();
    }
    tracing::warn!(
        provider = provider.name(),
        error = text,
        "the provider did not answer a proxied request"
    );
    ProxyError::Unreachable(provider.name().to_owned(), text)
}

impl IntoResponse for ProxyError {
    fn into_response(self) -> Response {
        let status = match &self {
            Self::TokenRequired | Self::InvalidToken => StatusCode::UNAUTHORIZED,
            Self::Unsupported(_) | Self::Target(_) => StatusCode::BAD_REQUEST,
            Self::Method(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::Unchecked(_) | Self::NotAdmitted(NotAdmitted::Full) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::NotAdmitted(_) => StatusCode::TOO_MANY_REQUESTS,
            // SDKs care about the status.
            Self::Unreadable(_, status) => *status,
            Self::Silent(..) => StatusCode::GATEWAY_TIMEOUT,
            Self::NoKey(_) | Self::Unreachable(..) | Self::Astray(..) | Self::NoWebSocket(_) => {
                StatusCode::BAD_GATEWAY
            }
        };
        let mut response = host_http::error(status, self.to_string());
        let headers = response.headers_mut();
        match self {
            // SDKs retry after any 5xx unless they are told that it is pointless.
            Self::NoKey(_) | Self::Astray(..) => {
                headers.insert(SHOULD_RETRY, HeaderValue::from_static("false"));
            }
            Self::NotAdmitted(NotAdmitted::TooOften { after, .. }) => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from(after.as_secs() + 1));
            }
            Self::NotAdmitted(_) | Self::Unchecked(_) => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            _ => {}
        }
        response
    }
}

/// Tells the SDKs of OpenAI and Anthropic whether to retry.
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");
