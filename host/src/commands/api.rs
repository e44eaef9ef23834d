//! The target of the data commands: a server, or a data folder that no server is using.
//!
//! Commands use REST for both. A folder is opened in this process, with its plugins, and its routes
//! are called without a socket. So a command behaves the same either way, and only one process has
//! the folder open at a time. The target is chosen in this order:
//!
//! 1. `--url` names a server.
//! 2. The data folder exists and nobody has locked it: it is opened here, for as long as the command takes.
//! 3. It is locked: the server that holds it has announced where it listens. If the process that holds it has
//!    announced nothing (a server that is still starting, or another command), it is waited for.
//! 4. There is no data folder: the server at the default address.
//!
//! In a folder, everything is allowed: whoever can read its files needs no token.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use axum::Router;
use axum::body::{Body, Bytes};
use host_plugins::{Compile, Plugins, PluginsConfig};
use host_sync::{Limits, Rooms};
use host_workspace::Workspaces;
use http_body_util::BodyExt;
use reqwest::header::{CONTENT_TYPE, ETAG, HeaderMap, HeaderValue, IF_MATCH};
use reqwest::{Method, StatusCode, Url};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tower::ServiceExt;

use super::Usage;
use super::input::Given;
use super::output::Format;
use crate::data_folder::DataFolder;
use crate::start_error::StartError;

/// Where a server listens by default.
const USUAL_SERVER: &str = "http://localhost:3913";
/// The environment variable with the session token for servers that require one.
const TOKEN: &str = "HOST_TOKEN";
/// How long to wait for a locked folder: a server compiles its plugins before it listens.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often to try it meanwhile.
const RETRY: Duration = Duration::from_millis(50);
/// How long a server may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(10);
/// How long a server may stay silent in the middle of an answer. An action may take seconds; a server that is
/// silent for a minute is lost.
const SILENCE: Duration = Duration::from_secs(60);

/// Which data a command works on.
#[derive(Debug, Clone, clap::Args)]
pub struct Target {
    /// URL of a running server. By default, the server that uses the data folder or, if none does, the folder
    /// itself. The environment variable HOST_TOKEN is sent as the session's token.
    #[arg(long, global = true, value_name = "URL")]
    url: Option<Url>,
    /// Data folder of the server, which need not be running.
    #[arg(long, global = true, value_name = "DIR", default_value = "data")]
    data_dir: PathBuf,
    /// Plugins folder, for when no server is running.
    #[arg(long, global = true, value_name = "DIR", default_value = "plugins")]
    plugins: PathBuf,
    /// Id of the workspace. Not needed if there is only one, or only one that has what is named.
    #[arg(long, global = true, value_name = "ID")]
    workspace: Option<String>,
    /// Format of the output.
    #[arg(long, global = true, value_enum, default_value_t = Format::Json)]
    pub format: Format,
}

impl Target {
    /// Opens the data, does something with it, and closes it again, whatever the result.
    pub async fn with<T>(&self, work: impl AsyncFnOnce(&Api) -> Result<T>) -> Result<T> {
        let api = self.open().await?;
        let result = work(&api).await;
        api.close().await;
        result
    }

    async fn open(&self) -> Result<Api> {
        if let Some(url) = &self.url {
            return Api::server(url.clone(), self.workspace.clone());
        }
        let usual = Url::parse(USUAL_SERVER)?;
        if !self.data_dir.is_dir() {
            if answers(&usual).await {
                return Api::server(usual, self.workspace.clone());
            }
            let folder = self.data_dir.display();
            bail!(
                "there is no data folder {folder}, and no server at {USUAL_SERVER}; say where the \
                 data is with --data-dir or --url"
            );
        }
        let deadline = Instant::now() + PATIENCE;
        loop {
            match DataFolder::open(&self.data_dir) {
                Ok(data) => {
                    let folder = Folder::open(data, &self.plugins).await?;
                    for (file, error) in folder.failures() {
                        anstream::eprintln!("{file} was not loaded: {error}");
                    }
                    return Ok(Api {
                        workspace: self.workspace.clone(),
                        ..Api::of_folder(folder)?
                    });
                }
                Err(StartError::InUse { .. }) => {}
                Err(error) => return Err(error.into()),
            }
            let announced = DataFolder::announced(&self.data_dir);
            if let Some(url) = announced.and_then(|url| Url::parse(&url).ok())
                // The announcement of a server that was killed may still be there.
                && answers(&url).await
            {
                return Api::server(url, self.workspace.clone());
            }
            if Instant::now() > deadline {
                bail!(
                    "the data folder {} is in use by a process that is not a server; try again when \
                     it has ended",
                    self.data_dir.display()
                );
            }
            tokio::time::sleep(RETRY).await;
        }
    }
}

/// Whether somebody listens at this URL.
async fn answers(url: &Url) -> bool {
    let Ok(addresses) = url.socket_addrs(|| None) else { return false };
    let connect = tokio::net::TcpStream::connect(addresses.as_slice());
    matches!(tokio::time::timeout(CONNECT, connect).await, Ok(Ok(_)))
}

/// The routes of a server, or of a folder that is open in this process.
pub struct Api {
    base: Url,
    workspace: Option<String>,
    backend: Backend,
}

enum Backend {
    Server(reqwest::Client),
    Folder(Folder),
}

/// The body of a request.
pub enum Sent {
    /// Nothing.
    Nothing,
    /// JSON text.
    Json(String),
    /// JSON text, to be applied only if the row is still the version with this tag.
    JsonFor(String, HeaderValue),
    /// A Yjs update.
    Update(Vec<u8>),
}

/// A request that the server refused, in its words.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct RequestRefused {
    /// The status of the answer.
    pub status: StatusCode,
    /// What went wrong.
    pub message: String,
    /// What is wrong with which part of what was sent.
    pub issues: Vec<Issue>,
}

/// One thing that is wrong with a value, and where in it.
#[derive(Debug, Clone, Deserialize)]
pub struct Issue {
    /// From the outermost member to the faulty one.
    pub path: Vec<String>,
    /// What is wrong.
    pub message: String,
}

impl std::fmt::Display for Issue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.path.as_slice() {
            [] => f.write_str(&self.message),
            path => write!(f, "{}: {}", path.join("."), self.message),
        }
    }
}

impl RequestRefused {
    fn of(status: StatusCode, body: &[u8]) -> Self {
        #[derive(Deserialize)]
        struct Answer {
            error: Error,
        }
        #[derive(Deserialize)]
        struct Error {
            message: String,
            #[serde(default)]
            issues: Vec<Issue>,
        }
        let (mut message, issues) = match serde_json::from_slice(body) {
            Ok(Answer { error }) => (error.message, error.issues),
            Err(_) => (format!("the server answers {status}"), Vec::new()),
        };
        if status == StatusCode::UNAUTHORIZED {
            message += &format!(" (the environment's {TOKEN} is sent as the session's token)");
        }
        Self { status, message, issues }
    }

    /// The issues, one on each line, if there are more than the message names.
    pub fn details(&self) -> impl Iterator<Item = String> {
        let issues = if self.issues.len() > 1 { self.issues.as_slice() } else { &[] };
        issues.iter().map(|issue| format!("  {issue}"))
    }
}

impl Api {
    fn server(base: Url, workspace: Option<String>) -> Result<Self> {
        if !matches!(base.scheme(), "http" | "https") || base.cannot_be_a_base() {
            return Err(Usage::error(format!("--url {base}: expected a URL like {USUAL_SERVER}")));
        }
        let mut client = reqwest::Client::builder()
            .connect_timeout(CONNECT)
            .read_timeout(SILENCE)
            // A redirect must not take the token to another server.
            .redirect(reqwest::redirect::Policy::none());
        let local = base.host_str().is_some_and(|host| {
            let ip = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
            host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback())
        });
        if local {
            client = client.no_proxy();
        }
        if let Ok(token) = std::env::var(TOKEN) {
            let value = format!("Bearer {token}").parse();
            let mut value: HeaderValue =
                value.map_err(|_| Usage::error(format!("{TOKEN} is not a token")))?;
            value.set_sensitive(true);
            client = client
                .default_headers([(reqwest::header::AUTHORIZATION, value)].into_iter().collect());
        }
        Ok(Self { base, workspace, backend: Backend::Server(client.build()?) })
    }

    /// The routes of an opened folder.
    pub fn of_folder(folder: Folder) -> Result<Self> {
        // Never resolved; a URL has to have a host.
        let base = Url::parse("http://folder")?;
        Ok(Self { base, workspace: None, backend: Backend::Folder(folder) })
    }

    /// Closes the folder, if one was opened.
    pub async fn close(self) {
        if let Backend::Folder(folder) = self.backend {
            folder.close().await;
        }
    }

    /// The URL of a route that is written as in a URL, with its query string.
    pub fn below(&self, route: &str) -> Result<Url> {
        self.base.join(route).with_context(|| format!("{route:?} is not a route"))
    }

    /// The URL of a route by its segments, which may be any text.
    pub fn route(&self, segments: &[&str]) -> Result<Url> {
        if let Some(dots) = segments.iter().find(|segment| matches!(**segment, "." | ".." | "")) {
            bail!("{dots:?} cannot be named in a URL");
        }
        let mut url = self.base.clone();
        let mut path =
            url.path_segments_mut().map_err(|()| anyhow!("{} has no path", self.base))?;
        path.pop_if_empty().extend(segments);
        drop(path);
        Ok(url)
    }

    /// Sends a request and returns the body of the answer. An answer that is not a success is a [`RequestRefused`].
    pub async fn send(&self, method: Method, url: Url, sent: Sent) -> Result<Bytes> {
        let (status, body) = self.exchange(method, url, sent).await?;
        if status.is_success() { Ok(body) } else { Err(RequestRefused::of(status, &body).into()) }
    }

    /// Sends a request and returns the answer, success or not.
    pub async fn exchange(
        &self,
        method: Method,
        url: Url,
        sent: Sent,
    ) -> Result<(StatusCode, Bytes)> {
        let (status, _, body) = self.ask(method, url, sent).await?;
        Ok((status, body))
    }

    async fn ask(
        &self,
        method: Method,
        url: Url,
        sent: Sent,
    ) -> Result<(StatusCode, HeaderMap, Bytes)> {
        let mut headers = HeaderMap::new();
        let mut kind = |kind| headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        let body = match sent {
            Sent::Nothing => Vec::new(),
            Sent::Json(text) => {
                kind("application/json");
                text.into_bytes()
            }
            Sent::JsonFor(text, tag) => {
                kind("application/json");
                headers.insert(IF_MATCH, tag);
                text.into_bytes()
            }
            Sent::Update(bytes) => {
                kind("application/octet-stream");
                bytes
            }
        };
        match &self.backend {
            Backend::Server(client) => {
                let mut request = client.request(method, url);
                if headers.contains_key(CONTENT_TYPE) {
                    request = request.headers(headers).body(body);
                }
                let failed = || format!("no answer from the server at {}", self.base);
                let mut answer = request.send().await.with_context(failed)?;
                let (status, headers) = (answer.status(), std::mem::take(answer.headers_mut()));
                Ok((status, headers, answer.bytes().await.with_context(failed)?))
            }
            Backend::Folder(folder) => {
                let mut request = axum::http::Request::builder().method(method).uri(url.as_str());
                if let Some(of_request) = request.headers_mut() {
                    *of_request = headers;
                }
                let request = request.body(Body::from(body))?;
                let answer = folder.routes.clone().oneshot(request).await?;
                let (parts, body) = answer.into_parts();
                Ok((parts.status, parts.headers, body.collect().await?.to_bytes()))
            }
        }
    }

    /// The `data` at a route, and the tag of its version.
    pub async fn version<T: DeserializeOwned>(&self, url: Url) -> Result<(T, HeaderValue)> {
        let (status, mut headers, body) = self.ask(Method::GET, url, Sent::Nothing).await?;
        if !status.is_success() {
            return Err(RequestRefused::of(status, &body).into());
        }
        let tag = headers.remove(ETAG);
        let tag = tag.with_context(|| {
            format!("{} sends no ETag, so a part of a field cannot be changed safely", self.base)
        })?;
        Ok((self.data_of(&body)?, tag))
    }

    /// The `data` of an answer to a request.
    pub async fn data<T: DeserializeOwned>(
        &self,
        method: Method,
        url: Url,
        sent: Sent,
    ) -> Result<T> {
        self.data_of(&self.send(method, url, sent).await?)
    }

    fn data_of<T: DeserializeOwned>(&self, body: &[u8]) -> Result<T> {
        #[derive(Deserialize)]
        struct Answer<T> {
            data: T,
        }
        let answer: Answer<T> = serde_json::from_slice(body)
            .with_context(|| format!("{} does not answer as a server of workspaces", self.base))?;
        Ok(answer.data)
    }

    /// The descriptors of the chosen workspace, or of all.
    pub async fn workspaces(&self) -> Result<Vec<Workspace>> {
        let all = self.all_workspaces().await?;
        match &self.workspace {
            Some(id) => only(all, id),
            None => Ok(all),
        }
    }

    /// Whether a name is unambiguous without choosing a workspace.
    pub async fn is_plain(&self, kind: Kind, name: &str) -> bool {
        let all = self.all_workspaces().await;
        all.is_ok_and(|all| found_in(all, kind, name).is_ok())
    }

    async fn all_workspaces(&self) -> Result<Vec<Workspace>> {
        let url = self.route(&["workspaces"])?;
        let all: Result<Vec<Workspace>> = self.data(Method::GET, url, Sent::Nothing).await;
        all.map_err(|error| match error.downcast_ref::<RequestRefused>() {
            Some(refused) if refused.status == StatusCode::NOT_FOUND => {
                anyhow!("the server at {} has no workspaces; a hub has only rooms", self.base)
            }
            _ => error,
        })
    }

    /// Finds something by its name, in the chosen workspace or the only one that has it.
    pub async fn find(&self, kind: Kind, name: &str) -> Result<Found> {
        found_in(self.workspaces().await?, kind, name)
    }

    /// The same for commands whose name is followed by fields, among which `--workspace` may be. It is the
    /// option, unless something of that name has a field called `workspace`.
    pub async fn find_given(&self, kind: Kind, name: &str, given: &mut Given) -> Result<Found> {
        let all = self.workspaces().await?;
        let is_field = |workspace: &Workspace| {
            let schema = kind.local(workspace, name).and_then(|name| kind.schema(workspace, &name));
            schema.is_some_and(|schema| schema["properties"].get(OPTION).is_some())
        };
        if self.workspace.is_some() || all.iter().any(is_field) {
            return found_in(all, kind, name);
        }
        match given.take(OPTION)? {
            Some(id) => found_in(only(all, &id)?, kind, name),
            None => found_in(all, kind, name),
        }
    }

    /// The descriptor of the chosen workspace, or of the only one.
    pub async fn workspace(&self) -> Result<Workspace> {
        let mut all = self.workspaces().await?;
        match all.len() {
            1 => Ok(all.remove(0)),
            0 => bail!(NO_WORKSPACES),
            count => {
                let names: Vec<_> = all.iter().map(|workspace| workspace.id.as_str()).collect();
                Err(Usage::error(format!(
                    "there are {count} workspaces ({}): choose one with --workspace",
                    names.join(", ")
                )))
            }
        }
    }
}

/// The option that chooses a workspace, without its dashes.
const OPTION: &str = "workspace";

/// What can be named on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Table,
    Key,
    Action,
}

/// What a name refers to.
#[derive(Debug)]
pub struct Found {
    /// The workspace that has it.
    pub workspace: Workspace,
    /// Its name in the workspace.
    pub name: String,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::Key => "key",
            Self::Action => "action",
        }
    }

    fn names(self, workspace: &Workspace) -> Vec<String> {
        match self {
            Self::Table => workspace.tables.keys().cloned().collect(),
            Self::Key => workspace.kv.keys().cloned().collect(),
            Self::Action => workspace.actions.iter().map(|action| action.path.join("/")).collect(),
        }
    }

    /// What a name refers to in a workspace. The name may begin with the workspace's id, as `GET /` names
    /// actions.
    fn local(self, workspace: &Workspace, name: &str) -> Option<String> {
        let names = self.names(workspace);
        let inner = name.strip_prefix(&workspace.id).and_then(|rest| rest.strip_prefix('/'));
        let mut readings = [Some(name), inner].into_iter().flatten();
        readings.find(|name| names.iter().any(|known| known == name)).map(str::to_owned)
    }

    /// The JSON Schema of a row, a value or an input, if there is one.
    fn schema<'w>(self, workspace: &'w Workspace, name: &str) -> Option<&'w Value> {
        match self {
            Self::Table => Some(&workspace.tables.get(name)?["schema"]),
            Self::Key => Some(&workspace.kv.get(name)?["schema"]),
            Self::Action => Some(&workspace.action(name)?.input),
        }
    }
}

impl Found {
    /// The JSON Schema of a row, a value or an action's input; null if there is none.
    pub fn schema(&self, kind: Kind) -> Value {
        kind.schema(&self.workspace, &self.name).cloned().unwrap_or_default()
    }
}

/// Only the workspace with this id.
fn only(all: Vec<Workspace>, id: &str) -> Result<Vec<Workspace>> {
    let names: Vec<_> = all.iter().map(|workspace| workspace.id.as_str()).collect();
    ensure!(names.contains(&id), "there is no workspace {id:?}; there are: {}", listed(&names));
    Ok(all.into_iter().filter(|workspace| workspace.id == id).collect())
}

fn found_in(all: Vec<Workspace>, kind: Kind, name: &str) -> Result<Found> {
    let word = kind.word();
    ensure!(!all.is_empty(), NO_WORKSPACES);
    let of_all = |workspace: &Workspace| {
        let names = kind.names(workspace).into_iter();
        names.map(|name| format!("{}/{name}", workspace.id)).collect::<Vec<_>>()
    };
    let missing = match all.as_slice() {
        [one] => format!(
            "workspace {} has no {word} {name:?}; it has: {}",
            one.id,
            listed(&kind.names(one))
        ),
        many => {
            let names: Vec<_> = many.iter().flat_map(of_all).collect();
            format!("no workspace has the {word} {name:?}; there are: {}", listed(&names))
        }
    };
    let found = all.into_iter().filter_map(|workspace| {
        let name = kind.local(&workspace, name)?;
        Some(Found { workspace, name })
    });
    let mut found: Vec<_> = found.collect();
    match found.len() {
        1 => Ok(found.remove(0)),
        0 => Err(anyhow!(missing)),
        count => {
            let names: Vec<_> = found.iter().map(|found| found.workspace.id.as_str()).collect();
            Err(Usage::error(format!(
                "{count} workspaces have the {word} {name:?} ({}): choose one with --workspace",
                names.join(", ")
            )))
        }
    }
}

const NO_WORKSPACES: &str =
    "there are no workspaces: no plugin is loaded (--plugins names their folder)";

/// What a workspace consists of, as `GET /workspaces` describes it.
#[derive(Debug, Deserialize)]
pub struct Workspace {
    /// Its name in URLs.
    pub id: String,
    /// Tables by name.
    pub tables: serde_json::Map<String, Value>,
    /// Key-values by key.
    pub kv: serde_json::Map<String, Value>,
    /// Its actions.
    pub actions: Vec<Action>,
}

/// An action of a workspace.
#[derive(Debug, Deserialize)]
pub struct Action {
    /// The segments of its path.
    pub path: Vec<String>,
    /// `query` or `mutation`.
    #[serde(rename = "type")]
    pub kind: String,
    /// JSON Schema of its input; null if it takes none.
    #[serde(default)]
    pub input: Value,
}

impl Workspace {
    /// An action by its path.
    pub fn action(&self, path: &str) -> Option<&Action> {
        self.actions.iter().find(|action| action.path.join("/") == path)
    }
}

/// Joins names for a message.
fn listed(names: &[impl AsRef<str>]) -> String {
    let names: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// A data folder that is open in this process.
pub struct Folder {
    routes: Router,
    rooms: Rooms,
    plugins: Option<Plugins>,
    _data: DataFolder,
}

impl Folder {
    /// Opens the data, and mounts the plugins where there are any.
    pub(crate) async fn open(data: DataFolder, plugins: &Path) -> Result<Self> {
        let limits = Limits::default();
        // The caller is the owner of the folder, so its updates need no limit but the document's.
        let limits = Limits { frame_bytes: limits.document_bytes, ..limits };
        let rooms = data.rooms(limits)?;
        let workspaces = Workspaces::new(rooms.clone());
        let routes = Router::new()
            .nest_service("/workspaces", workspaces.router())
            .merge(host_sync::router("/rooms", rooms.clone(), Arc::new(host_sync::Open)));
        let plugins = match plugins.is_dir() {
            // A hub's folder has rooms and no plugins.
            false => None,
            true => {
                // A command ends before optimised code would be ready, and the next command wants it cached.
                let config = PluginsConfig {
                    compile: Compile::Once,
                    keep_ready: false,
                    ..PluginsConfig::new(plugins, data.path().join("cache"))
                };
                Some(Plugins::open(config, workspaces).await?)
            }
        };
        Ok(Self { routes, rooms, plugins, _data: data })
    }

    /// The files that were not loaded, and why.
    pub fn failures(&self) -> Vec<(String, String)> {
        let plugins = self.plugins.iter().flat_map(|plugins| plugins.status());
        plugins.filter_map(|plugin| Some((plugin.file, plugin.error?))).collect()
    }

    /// Saves everything and releases the folder.
    pub async fn close(self) {
        if let Some(plugins) = self.plugins {
            plugins.shutdown().await;
        }
        self.rooms.shutdown().await;
    }
}
