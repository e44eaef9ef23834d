//! Which file owns a workspace, from before its mount until after its unmount.

use std::collections::HashMap;

#[derive(Default)]
pub(super) struct Owners {
    by_workspace: HashMap<String, Owner>,
}

struct Owner {
    file: String,
    /// Whether the workspace is being unmounted, so that nobody may mount it yet.
    leaving: bool,
}

/// Whether a file may mount a workspace.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// No other file owns it.
    Free,
    /// It is being unmounted.
    Leaving,
    /// Another file owns it.
    Taken(String),
}

impl Owners {
    /// Claims a workspace for a file that defines it.
    pub(super) fn claim(&self, workspace: &str, file: &str) -> Claim {
        match self.by_workspace.get(workspace) {
            Some(owner) if owner.leaving => Claim::Leaving,
            Some(owner) if owner.file != file => Claim::Taken(owner.file.clone()),
            _ => Claim::Free,
        }
    }

    pub(super) fn has(&self, workspace: &str) -> bool {
        self.by_workspace.contains_key(workspace)
    }

    pub(super) fn set(&mut self, workspace: String, file: String) {
        self.by_workspace.insert(workspace, Owner { file, leaving: false });
    }

    /// Marks the workspace as being unmounted.
    pub(super) fn leave(&mut self, workspace: &str) {
        if let Some(owner) = self.by_workspace.get_mut(workspace) {
            owner.leaving = true;
        }
    }

    /// Marks the workspace as unmounted.
    pub(super) fn remove(&mut self, workspace: &str) {
        self.by_workspace.remove(workspace);
    }
}
