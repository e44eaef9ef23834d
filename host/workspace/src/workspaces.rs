//! The workspaces that a server hosts.
#![allow(unused_variables, missing_docs)]

use std::sync::Arc;

use crate::{Definition, Fault, Logic};

/// All mounted workspaces. Cheap to clone.
#[derive(Clone)]
pub struct Workspaces {}

/// What mounting a workspace found.
#[derive(Debug, Clone)]
pub struct Mounted {
    pub rows: usize,
    pub invalid: usize,
    /// Whether it replaced an earlier logic of the same workspace.
    pub replaced: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum MountError {
    #[error(transparent)]
    Fault(#[from] Fault),
    #[error("the document could not be opened: {0}")]
    Storage(String),
}

impl Workspaces {
    /// Serves a workspace, or replaces the logic of one that is being served: every row is parsed
    /// by the new logic first, then requests see the new logic and rows at once. On an error
    /// the old one keeps serving.
    pub async fn mount(&self, logic: Arc<dyn Logic>) -> Result<Mounted, MountError> {
        unreachable!("stub")
    }
    /// Stops serving a workspace; its data stays.
    pub async fn unmount(&self, id: &str) -> bool {
        unreachable!("stub")
    }
    pub fn definitions(&self) -> Vec<Arc<Definition>> {
        unreachable!("stub")
    }
}
