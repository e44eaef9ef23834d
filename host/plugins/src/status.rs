//! What is known about each plugin in the folder, for people and for consoles.

use serde::Serialize;

use crate::calls::LastError;
use crate::reach::manifest::Grants;

/// The state of one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PluginState {
    /// Its workspace is served, by this version of the file or by the one before.
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
    /// The plugin's own version; none where it has none.
    pub version: Option<String>,
    /// SHA-256 of the version that is served, all of its files together, in hex.
    pub hash: Option<String>,
    /// Bytes of the version that is served.
    pub size: Option<u64>,
    /// When it was loaded, in Unix ms.
    pub loaded_at: Option<u64>,
    /// How long loading took, from reading the file to serving the workspace, in ms; without the time
    /// that it waited for others.
    pub took_ms: Option<u64>,
    /// Whether it was compiled before.
    pub from_cache: Option<bool>,
    /// Whether its component runs optimised code, or still what was made in haste.
    pub optimised: Option<bool>,
    /// Whether a version of it is being compiled and loaded right now, beside the one that is served.
    pub loading: bool,
    /// Rows in its tables, now.
    pub rows: Option<usize>,
    /// How many of them are invalid.
    pub invalid: Option<usize>,
    /// Calls into the guest and its scripts since it was loaded.
    pub calls: u64,
    /// How many of them ended with a fault.
    pub errors: u64,
    /// The newest fault.
    pub last_error: Option<LastError>,
    /// Linear memory of all of its instances, and what its scripts hold, in bytes.
    pub memory: usize,
    /// The files of its scripts.
    pub scripts: Vec<String>,
    /// What it may use beyond its own workspace.
    pub grants: Option<Grants>,
    /// Why the newest version of the file could not be loaded.
    pub error: Option<String>,
    /// Whether the newest version failed and the one before keeps serving.
    pub stale: bool,
}
