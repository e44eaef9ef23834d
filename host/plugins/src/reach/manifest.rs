//! The manifest of a plugin: what it may use beyond its own workspace, and its limits.
//!
//! It is a file next to the plugin, `blog.toml` next to `blog.wasm` or `notes/workspace.toml` in
//! the folder `notes`, and belongs to the operator, not the author. Without one nothing is granted
//! and the host's limits apply. A plugin that imports more than it was granted is loaded anyway;
//! calls that were not granted are denied.
//!
//! ```toml
//! env = ["WEATHER_KEY"]             # these of the host's environment, by name
//! ai = true
//!
//! [http]                            # requests that it may send
//! hosts = ["api.example.com", "*.example.org", "localhost:3000"]
//! allow-private = true              # also to addresses that are not public
//!
//! [limits]                          # see limits.rs for all of them
//! action = "30s"
//! memory = "200MiB"
//! ```

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::limits::{Limits, Overrides};

/// The contents of a manifest.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Manifest {
    pub(crate) grants: Grants,
    limits: Overrides,
    path: String,
}

/// What a plugin may use beyond its own workspace.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Grants {
    /// Names of environment variables of the host that it may read.
    pub env: Vec<String>,
    /// Whether it may ask language models.
    pub ai: bool,
    /// The requests that it may send; `None` if it may send none.
    pub http: Option<HttpGrant>,
}

/// Which requests a plugin may send.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all(serialize = "camelCase", deserialize = "kebab-case"))]
pub struct HttpGrant {
    /// `api.example.com` on the default ports, `example.com:8443`, `*.example.com` for all names
    /// below it, or `*` for all.
    pub hosts: Vec<HostPattern>,
    /// Whether these names may resolve to addresses that are not public: this machine and its
    /// network.
    #[serde(default)]
    pub allow_private: bool,
}

/// A pattern of allowed hosts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostPattern {
    /// In lower case; `*` or a leading `*.` is a wildcard.
    host: String,
    /// `None` means 80 and 443.
    port: Option<u16>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    env: Vec<String>,
    ai: bool,
    http: Option<HttpGrant>,
    limits: Overrides,
}

impl Manifest {
    /// Parses a manifest; the path is for errors, which name file, line and key.
    pub(crate) fn read(path: &str, text: &str) -> Result<Self, String> {
        let File { env, ai, http, limits } =
            toml::from_str(text).map_err(|error| mistake(path, text, &error))?;
        Ok(Self { grants: Grants { env, ai, http }, limits, path: path.to_owned() })
    }

    /// The host's limits with the manifest's changes.
    pub(crate) fn apply(&self, limits: &Arc<Limits>) -> Result<Arc<Limits>, String> {
        if self.limits == Overrides::default() {
            return Ok(limits.clone());
        }
        let limits = self.limits.apply(limits);
        limits.map(Arc::new).map_err(|reason| format!("{}: {reason}", self.path))
    }
}

/// `blog.toml:3: memroy: unknown field …`
fn mistake(path: &str, text: &str, error: &toml::de::Error) -> String {
    let reason = shortened(&error.message().replace('\n', " "));
    let Some(before) = error.span().and_then(|span| text.get(..span.start)) else {
        return format!("{path}: {reason}");
    };
    let line = before.matches('\n').count() + 1;
    let key = text.lines().nth(line - 1).and_then(|text| text.split_once('='));
    match key.map(|(key, _)| key.trim()) {
        Some(key) if !key.is_empty() => format!("{path}:{line}: {key}: {reason}"),
        _ => format!("{path}:{line}: {reason}"),
    }
}

/// For an unknown name, serde lists all valid names. There are too many limits to read, so this
/// suggests the closest one.
fn shortened(reason: &str) -> String {
    /// Minimum similarity of a suggestion. 0.7: the threshold that clap uses for its options.
    const NEAR: f64 = 0.7;
    let Some((unknown, names)) = reason.split_once(", expected one of ") else {
        return reason.to_owned();
    };
    let Some(name) = unknown.strip_prefix("unknown field ") else { return reason.to_owned() };
    let name = name.trim_matches('`');
    let names: Vec<_> = names.split(", ").map(|name| name.trim_matches('`')).collect();
    let near = names.iter().map(|known| (strsim::jaro(name, known), known));
    match near.max_by(|a, b| a.0.total_cmp(&b.0)) {
        Some((nearness, known)) if nearness > NEAR => format!("{unknown}; did you mean `{known}`?"),
        _ if names.len() < 8 => reason.to_owned(),
        _ => format!(
            "{unknown}; of the {} names that there are none is near, and `host check` prints them all \
             with --format json",
            names.len()
        ),
    }
}

impl Grants {
    /// The granted variables that are set on the host.
    pub(crate) fn environment(&self) -> Vec<(&str, String)> {
        let names = self.env.iter();
        names.filter_map(|name| Some((name.as_str(), std::env::var(name).ok()?))).collect()
    }
}

impl HttpGrant {
    /// Whether a host may be contacted on a port.
    pub(crate) fn allows(&self, host: &str, port: u16) -> bool {
        self.hosts.iter().any(|pattern| pattern.allows(host, port))
    }
}

impl HostPattern {
    fn allows(&self, host: &str, port: u16) -> bool {
        let host = host.to_ascii_lowercase();
        let named = match self.host.strip_prefix('*') {
            Some("") => true,
            // The wildcard must match at least one character before the dot.
            Some(end) => host.strip_suffix(end).is_some_and(|start| !start.is_empty()),
            None => host == self.host,
        };
        named && self.port.map_or(port == 80 || port == 443, |allowed| allowed == port)
    }
}

impl TryFrom<String> for HostPattern {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let bad = |why: &str| {
            Err(format!(
                "{text:?} is no host: {why}; write api.example.com, *.example.com, example.com:8443"
            ))
        };
        if text.contains("://") || text.contains('/') {
            return bad("leave out scheme and path");
        }
        // An IPv6 address contains colons and is therefore in brackets.
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => match port.parse() {
                Ok(port) => (host, Some(port)),
                Err(_) => return bad("its port is no number"),
            },
            _ => (text.as_str(), None),
        };
        let name = host.strip_prefix('*').unwrap_or(host);
        if host.is_empty()
            || name.contains('*')
            || (host.len() > 1 && host.starts_with('*') && !name.starts_with('.'))
        {
            return bad("a star stands for whole labels at the beginning");
        }
        Ok(Self { host: host.to_ascii_lowercase(), port })
    }
}

impl From<HostPattern> for String {
    fn from(pattern: HostPattern) -> Self {
        match pattern.port {
            Some(port) => format!("{}:{port}", pattern.host),
            None => pattern.host,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn read(text: &str) -> Result<Manifest, String> {
        Manifest::read("a.toml", text)
    }

    #[test]
    fn a_manifest_grants_what_it_names_and_nothing_else() {
        let manifest = read(
            "env = [\"KEY\"]\nai = true\n[http]\nhosts = [\"a.example\", \"*.b.example:8443\"]\n\
             [limits]\naction = \"30s\"\nmemory = \"200MiB\"\nactions = 2",
        );
        let manifest = manifest.unwrap();
        let grants = &manifest.grants;
        assert!(grants.ai && grants.env == ["KEY"]);
        let http = grants.http.as_ref().unwrap();
        let cases = [
            ("a.example", 443, true),
            ("A.example", 80, true),
            ("a.example", 8080, false),
            ("x.a.example", 443, false),
            ("x.b.example", 8443, true),
            ("b.example", 8443, false),
            ("xb.example", 8443, false),
            ("x.b.example", 443, false),
        ];
        for (host, port, allowed) in cases {
            assert_eq!(http.allows(host, port), allowed, "{host}:{port}");
        }
        let limits = manifest.apply(&Arc::default()).unwrap();
        assert_eq!(
            (limits.action, limits.memory, limits.actions),
            (Duration::from_secs(30), 200 << 20, 2)
        );
        assert_eq!(limits.parse, Limits::default().parse);
        let decimal = read("[limits]\nmemory = \"1MB\"\nresult-bytes = \"64 kB\"").unwrap();
        let decimal = decimal.apply(&Arc::default()).unwrap();
        assert_eq!((decimal.memory, decimal.result_bytes), (1_000_000, 64_000));
        assert_eq!(read("").unwrap().grants, Grants::default());
        assert_eq!(Manifest::default().grants, Grants::default());
    }

    #[test]
    fn a_mistake_has_its_file_line_and_key() {
        let cases = [
            ("\nhtpp = 1", "a.toml:2: htpp: unknown field `htpp`; did you mean `http`?"),
            ("ai = \"yes\"", "a.toml:1: ai: invalid type: string \"yes\", expected a boolean"),
            (
                "[limits]\nmemroy = 1",
                "a.toml:2: memroy: unknown field `memroy`; did you mean `memory`?",
            ),
            ("[limits]\nxyz = 1", "a.toml:2: xyz: unknown field `xyz`; of the "),
            ("xyz = 1", "a.toml:1: xyz: unknown field `xyz`, expected one of `env`, `ai`"),
            (
                "[limits]\naction = \"2h\"",
                "a.toml:2: action: \"2h\" is not a duration of at most an hour, such as \"300ms\", \"5s\" or \"2m\"",
            ),
            (
                "[limits]\nmemory = \"1XB\"",
                "a.toml:2: memory: \"1XB\" is not a number, or a size such as \"64KiB\", \"200MiB\" or \"1MB\"",
            ),
            ("[limits]\nmemory = \"0\"", "a.toml: memory is 0; 65536 is the least"),
            ("[limits]\nactions = 0", "a.toml: actions is 0; 1 is the least"),
            ("[limits]\nscript-steps = 0", "a.toml: script-steps is 0; 1 is the least"),
            ("[limits]\naction = \"0s\"", "a.toml: action is 0s; 1ms is the least"),
            ("[limits]\nparse = \"0s\"", "a.toml: parse is 0s; 1ms is the least"),
            ("[limits]\naction = \"soon\"", "a.toml:2: action: \"soon\" is not a duration"),
            (
                "[limits]\nmemory = \"lots\"",
                "a.toml:2: memory: \"lots\" is not a number, or a size",
            ),
            ("[limits]\nmemory = \"1GiB\"", "a.toml: memory is 1073741824; 268435456 is the most"),
            ("[limits]\nrow-bytes = \"2MiB\"", "a.toml: row-bytes is 2097152; 1048576 is the most"),
            ("[http]\nhosts = [\"http://x\"]", "a.toml:2: hosts: \"http://x\" is no host"),
            ("[http]\nallow-private = true", "a.toml:1: missing field `hosts`"),
            ("a = [", "a.toml:1: a: "),
        ];
        for (text, expected) in cases {
            let error =
                read(text).and_then(|manifest| manifest.apply(&Arc::default())).unwrap_err();
            assert!(error.starts_with(expected), "{text:?}: {error}");
        }
    }
}
