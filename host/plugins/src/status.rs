//! The status of each plugin in the folder, for people and consoles.

use serde::Serialize;

use crate::calls::LastError;
use crate::reach::manifest::Grants;

/// The state of one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PluginState {
    /// Its workspace is served, by this version of the file or the previous one.
    Serving,
    /// No version of it could be loaded.
    Failed,
    /// Its first version is being loaded.
    Loading,
}

/// One plugin in the folder.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PluginStatus {
    /// The name of its main file: `blog.wasm`, `notes/workspace.rhai`.
    pub file: String,
    /// Whether it is served.
    pub state: PluginState,
    /// The workspace that it serves.
    pub workspace: Option<String>,
    /// The plugin's own version; `None` if it declares none.
    pub version: Option<String>,
    /// SHA-256 of all files of the served version together, in hex.
    pub hash: Option<String>,
    /// Bytes of the served version.
    pub size: Option<u64>,
    /// When it was loaded, in Unix ms.
    pub loaded_at: Option<u64>,
    /// How long loading took, from reading the file to serving the workspace, in ms, excluding
    /// waits for other plugins.
    pub took_ms: Option<u64>,
    /// Whether the compiled component came from the cache.
    pub from_cache: Option<bool>,
    /// Whether its component runs optimised code rather than the baseline compiler's.
    pub optimised: Option<bool>,
    /// Whether a version is being compiled and loaded at the moment, while another one may be
    /// served.
    pub loading: bool,
    /// The current number of rows in its tables.
    pub rows: Option<usize>,
    /// How many of these rows are invalid.
    pub invalid: Option<usize>,
    /// Calls into the guest and its scripts since it was loaded.
    pub calls: u64,
    /// How many of them ended with a fault.
    pub errors: u64,
    /// The latest fault.
    pub last_error: Option<LastError>,
    /// Linear memory of all instances, and memory held by scripts, in bytes.
    pub memory: usize,
    /// The files of its scripts.
    pub scripts: Vec<String>,
    /// What it may use beyond its own workspace.
    pub grants: Option<Grants>,
    /// Why the latest version of the file could not be loaded.
    pub error: Option<String>,
    /// Whether the latest version failed and the previous one keeps serving.
    pub stale: bool,
}
