//! The AI providers that a server can reach: the URL and API of each, how it takes its key, and the
//! HTTP client that all requests share.
//!
//! Four are built in. Any endpoint that implements OpenAI's chat completions API (Ollama,
//! llama.cpp, vLLM, OpenRouter) can be added under a name of its own.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use url::Url;

/// How long connecting to a provider may take. Providers are at most a continent away, and one that
/// needs longer is down.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long an idle connection is kept. Providers' load balancers close theirs after a minute or
/// more, and a request sent just then would fail.
const KEEP_ALIVE: Duration = Duration::from_secs(50);

/// The header for Anthropic's keys.
pub const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// The header for Google's keys.
pub const X_GOOG_API_KEY: HeaderName = HeaderName::from_static("x-goog-api-key");

/// All providers that a server can reach. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Providers {
    by_name: Arc<BTreeMap<String, Arc<Provider>>>,
    client: reqwest::Client,
    upgrades: reqwest::Client,
    /// The hub that this server belongs to, if any.
    hub: Option<Url>,
}

/// One provider.
#[derive(Debug)]
pub struct Provider {
    name: String,
    api: Api,
    /// The base URL, without a version or a trailing slash.
    base: Url,
    version: String,
    key: Option<Key>,
    key_variable: String,
    needs_key: bool,
}

/// The API of a provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Api {
    /// OpenAI's `POST /v1/responses`.
    Responses,
    /// Anthropic's `POST /v1/messages`.
    Messages,
    /// Gemini's `POST /v1beta/models/{model}:generateContent` and `:streamGenerateContent`.
    GenerateContent,
    /// `POST /v1/chat/completions`, which OpenAI designed and most others implement.
    ChatCompletions,
}

/// Where a request carries its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyStyle {
    /// `Authorization: Bearer …`
    Bearer,
    /// `x-api-key: …`
    ApiKey,
    /// `x-goog-api-key: …`
    GoogApiKey,
}

/// A provider's key. It is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Key(String);

/// A custom endpoint, written `name=url`: `ollama=http://localhost:11434`.
///
/// Its key, if it needs one, is read from the environment (`OLLAMA_API_KEY`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    name: String,
    base: Url,
    version: Option<String>,
}

/// Why the configuration of the providers is invalid.
#[derive(Debug, thiserror::Error)]
pub enum ProvidersError {
    /// An invalid base URL.
    #[error("{variable} is {value:?}, which is not an http or https URL without a query: {reason}")]
    BaseUrl {
        /// The variable or option that holds it.
        variable: String,
        /// Its value.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A key with characters that no header can carry.
    #[error("{0} has characters that a key cannot have")]
    Key(String),
    /// An endpoint whose name clashes with another.
    #[error("there is a provider {0:?} already; name the endpoint otherwise")]
    Taken(String),
    /// An endpoint that cannot be parsed.
    #[error(
        "{0:?} is not NAME=URL, where NAME has only lower case letters, digits, `-` and `_`, \
         like ollama=http://localhost:11434"
    )]
    Endpoint(String),
    /// The HTTP client cannot be built.
    #[error("the HTTP client cannot be made: {0}")]
    Client(#[from] reqwest::Error),
}

/// The built-in providers: name, API, base URL, version, and the prefix of their variables.
const KNOWN: [(&str, Api, &str, &str, &str); 4] = [
    ("openai", Api::Responses, "https://api.openai.com", "v1", "OPENAI"),
    ("anthropic", Api::Messages, "https://api.anthropic.com", "v1", "ANTHROPIC"),
    (
        "gemini",
        Api::GenerateContent,
        "https://generativelanguage.googleapis.com",
        "v1beta",
        "GEMINI",
    ),
    ("grok", Api::ChatCompletions, "https://api.x.ai", "v1", "GROK"),
];

impl Providers {
    /// The built-in providers and `endpoints`, with base URLs (`OPENAI_BASE_URL`) and keys
    /// (`OPENAI_API_KEY`) from the environment.
    ///
    /// The process must have installed a TLS provider.
    pub fn from_env(endpoints: &[Endpoint]) -> Result<Self, ProvidersError> {
        Self::new(endpoints, |variable| std::env::var(variable).ok())
    }

    /// Like [`Providers::from_env`], with the environment passed as a function.
    pub fn new(
        endpoints: &[Endpoint],
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, ProvidersError> {
        let variable = |name: &str| environment(name).filter(|value| !value.trim().is_empty());
        let key = |name: &str| {
            let key = variable(name).map(|value| Key::new(&value));
            key.map(|key| key.ok_or_else(|| ProvidersError::Key(name.to_owned()))).transpose()
        };
        let mut by_name = BTreeMap::new();
        for (name, api, base, version, prefix) in KNOWN {
            let base_variable = format!("{prefix}_BASE_URL");
            let base = variable(&base_variable).unwrap_or_else(|| base.to_owned());
            let (base, given) = parse_base(&base_variable, &base)?;
            let key_variable = format!("{prefix}_API_KEY");
            let provider = Provider {
                name: name.to_owned(),
                api,
                base,
                version: given.unwrap_or_else(|| version.to_owned()),
                key: key(&key_variable)?,
                key_variable,
                needs_key: true,
            };
            by_name.insert(name.to_owned(), Arc::new(provider));
        }
        for endpoint in endpoints {
            let key_variable = key_variable(&endpoint.name);
            let provider = Provider {
                name: endpoint.name.clone(),
                api: Api::ChatCompletions,
                base: endpoint.base.clone(),
                version: endpoint.version.clone().unwrap_or_else(|| "v1".to_owned()),
                key: key(&key_variable)?,
                key_variable,
                needs_key: false,
            };
            if by_name.insert(endpoint.name.clone(), Arc::new(provider)).is_some() {
                return Err(ProvidersError::Taken(endpoint.name.clone()));
            }
        }
        // No limit on a whole request, which may stream for an hour: the sender checks for progress
        // instead. No redirects, because they would carry keys to wherever a response points.
        let client = || {
            reqwest::Client::builder()
                .connect_timeout(CONNECT_TIMEOUT)
                .pool_idle_timeout(KEEP_ALIVE)
                .tcp_nodelay(true)
                .redirect(reqwest::redirect::Policy::none())
                .referer(false)
                .no_gzip()
                .no_brotli()
                .no_deflate()
                .no_zstd()
        };
        Ok(Self {
            by_name: Arc::new(by_name),
            client: client().build()?,
            // HTTP/2 has no `Upgrade`, but would be negotiated where a provider offers it.
            upgrades: client().http1_only().build()?,
            hub: None,
        })
    }

    /// The same, for a server that belongs to a hub.
    pub fn with_hub(self, hub: Option<Url>) -> Self {
        Self { hub, ..self }
    }

    /// Whether a hub is used for providers without a key on this server.
    pub fn has_hub(&self) -> bool {
        self.hub.is_some()
    }

    /// The provider with that name through the hub's proxy, which takes a session token in place of
    /// the key. A name that is unknown here may be a custom endpoint of the hub.
    pub(crate) fn through_hub(&self, name: &str) -> Option<Provider> {
        let hub = self.hub.as_ref()?;
        let known = self.get(name);
        if known.is_none() && !is_name(name) {
            return None;
        }
        let (api, version) = match known {
            Some(provider) => (provider.api, provider.version.as_str()),
            None => (Api::ChatCompletions, "v1"),
        };
        let mut base = hub.clone();
        base.set_path(&format!("{}/proxy/{name}", hub.path().trim_end_matches('/')));
        Some(Provider {
            name: name.to_owned(),
            api,
            base,
            version: version.to_owned(),
            key: None,
            key_variable: key_variable(name),
            needs_key: true,
        })
    }

    /// The provider with that name.
    pub fn get(&self, name: &str) -> Option<&Arc<Provider>> {
        self.by_name.get(name)
    }

    /// All providers, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Provider>> {
        self.by_name.values()
    }

    /// The client for requests to providers. It follows no redirects, does not decompress, and sets
    /// no limit on the total time of a request.
    pub fn client(&self) -> &reqwest::Client {
        &self.client
    }

    /// The client for requests that upgrade to another protocol.
    pub fn upgrades(&self) -> &reqwest::Client {
        &self.upgrades
    }
}

impl Provider {
    /// The name that requests use.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The API.
    pub fn api(&self) -> Api {
        self.api
    }

    /// The server's key for it.
    pub fn key(&self) -> Option<&Key> {
        self.key.as_ref()
    }

    /// The environment variable of its key.
    pub fn key_variable(&self) -> &str {
        &self.key_variable
    }

    /// Whether it requires a key. A custom endpoint may not.
    pub fn needs_key(&self) -> bool {
        self.needs_key
    }

    /// Whether it can be used without a key of the caller's own.
    pub fn is_ready(&self) -> bool {
        self.key.is_some() || !self.needs_key
    }

    /// The base URL without a version.
    pub fn base(&self) -> &Url {
        &self.base
    }

    /// The version that is added to a path without one: `v1`, `v1beta`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The URL of a path below the version, without a leading slash: `responses`.
    pub fn endpoint(&self, path: &str) -> Url {
        self.url(&format!("/{}/{path}", self.version), None)
    }

    /// The URL of a path with a leading slash, below the base URL. The path is escaped so that it
    /// remains a path.
    pub(crate) fn url(&self, path: &str, query: Option<&str>) -> Url {
        let mut url = self.base.clone();
        let base = self.base.path().trim_end_matches('/');
        url.set_path(&format!("{base}{path}"));
        url.set_query(query);
        url
    }

    /// Where it takes its key, unless a request needs another place.
    pub fn key_style(&self) -> KeyStyle {
        match self.api {
            Api::Responses | Api::ChatCompletions => KeyStyle::Bearer,
            Api::Messages => KeyStyle::ApiKey,
            Api::GenerateContent => KeyStyle::GoogApiKey,
        }
    }

    /// Adds `key` to a request in the provider's place.
    pub fn authorize(&self, headers: &mut HeaderMap, key: &Key) {
        self.key_style().put(headers, key);
    }
}

impl KeyStyle {
    /// Adds `key` to `headers`.
    pub fn put(self, headers: &mut HeaderMap, key: &Key) {
        let (name, text) = match self {
            Self::Bearer => (header::AUTHORIZATION, format!("Bearer {}", key.0)),
            Self::ApiKey => (X_API_KEY, key.0.clone()),
            Self::GoogApiKey => (X_GOOG_API_KEY, key.0.clone()),
        };
        let mut value = HeaderValue::from_str(&text).expect("a key has only what headers can have");
        value.set_sensitive(true);
        headers.insert(name, value);
    }
}

impl Key {
    /// The key itself, to search for it where it must not appear.
    pub(crate) fn text(&self) -> &str {
        &self.0
    }

    /// Parses a key, unless no header can carry it.
    pub fn new(text: &str) -> Option<Self> {
        let text = text.trim();
        let fits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        fits.then(|| Self(text.to_owned()))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("Key(…)")
    }
}

impl Endpoint {
    /// The name that requests use.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl FromStr for Endpoint {
    type Err = ProvidersError;

    fn from_str(text: &str) -> Result<Self, ProvidersError> {
        let wrong = || ProvidersError::Endpoint(text.to_owned());
        let (name, base) = text.split_once('=').ok_or_else(wrong)?;
        if !is_name(name) {
            return Err(wrong());
        }
        let (base, version) = parse_base(name, base)?;
        Ok(Self { name: name.to_owned(), base, version })
    }
}

fn is_name(name: &str) -> bool {
    let fits = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_'
    };
    !name.is_empty() && name.bytes().all(fits)
}

fn key_variable(name: &str) -> String {
    format!("{}_API_KEY", name.to_uppercase().replace('-', "_"))
}

/// Splits off the version at the end of a base URL, which some configurations include.
fn parse_base(variable: &str, text: &str) -> Result<(Url, Option<String>), ProvidersError> {
    let wrong = |reason: &str| ProvidersError::BaseUrl {
        variable: variable.to_owned(),
        value: text.to_owned(),
        reason: reason.to_owned(),
    };
    let mut url = Url::parse(text.trim()).map_err(|error| wrong(&error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(wrong("its scheme is another"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(wrong("it has a query"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong("it has a user name"));
    }
    let path = url.path().trim_end_matches('/').to_owned();
    let (path, version) = match path.rsplit_once('/') {
        Some((before, last)) if is_version(last) => (before.to_owned(), Some(last.to_owned())),
        _ => (path, None),
    };
    url.set_path(&path);
    Ok((url, version))
}

/// Whether a path segment is an API version: `v1`, `v1beta`, `v1alpha2`.
pub(crate) fn is_version(segment: &str) -> bool {
    let Some(rest) = segment.strip_prefix('v') else { return false };
    let name = rest.trim_start_matches(|c: char| c.is_ascii_digit());
    let stage = name.trim_end_matches(|c: char| c.is_ascii_digit());
    name.len() < rest.len() && matches!(stage, "" | "alpha" | "beta")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_told_from_a_name() {
        for version in ["v1", "v2", "v12", "v1beta", "v1alpha", "v1beta2"] {
            assert!(is_version(version), "{version}");
        }
        for name in ["", "v", "1", "video", "v1x", "models", "vbeta", "v1beta-2"] {
            assert!(!is_version(name), "{name}");
        }
    }

    #[test]
    fn base_urls_are_read_with_and_without_a_version_and_a_slash() {
        for (text, base, endpoint) in [
            ("https://api.openai.com", "https://api.openai.com/", "https://api.openai.com/v1/x"),
            ("http://127.0.0.1:9/v1/", "http://127.0.0.1:9/", "http://127.0.0.1:9/v1/x"),
            ("https://a.b/api/v1", "https://a.b/api", "https://a.b/api/v1/x"),
            ("https://a.b/api/v4/", "https://a.b/api", "https://a.b/api/v4/x"),
        ] {
            let endpoint_of = format!("mine={text}").parse::<Endpoint>().expect("an endpoint");
            assert_eq!(endpoint_of.base.as_str(), base, "{text}");
            let _ = rustls::crypto::ring::default_provider().install_default();
            let providers = Providers::new(&[endpoint_of], |_| None).expect("providers");
            let provider = providers.get("mine").expect("it is there");
            assert_eq!(provider.endpoint("x").as_str(), endpoint, "{text}");
        }
        for text in ["", "api.openai.com", "ftp://a.b", "https://a.b?x=1", "https://u:p@a.b"] {
            assert!(parse_base("OPENAI_BASE_URL", text).is_err(), "{text}");
        }
    }
}
