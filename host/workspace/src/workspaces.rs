//! The workspaces that a server hosts.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use host_sync::Rooms;

use crate::definition::Definition;
use crate::documents::Documents;
use crate::error::{Error, Fault};
use crate::logic::Logic;
use crate::workspace::Workspace;

/// All mounted workspaces. Cheap to clone; all clones are the same workspaces.
#[derive(Clone)]
pub struct Workspaces {
    inner: Arc<Inner>,
}

struct Inner {
    rooms: Rooms,
    mounted: ArcSwap<BTreeMap<String, Arc<Workspace>>>,
    /// Mounts and unmounts happen one after the other.
    changes: tokio::sync::Mutex<()>,
}

/// What mounting a workspace found.
#[derive(Debug, Clone)]
pub struct Mounted {
    /// Rows of all its tables.
    pub rows: usize,
    /// Those of them that are not valid.
    pub invalid: usize,
    /// Whether it replaced an earlier plugin of the same workspace.
    pub replaced: bool,
}

/// How many rows a workspace has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowCounts {
    /// In all its tables.
    pub rows: usize,
    /// Those of them that are not valid.
    pub invalid: usize,
}

/// Why a workspace was not mounted.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// The plugin broke while it parsed the rows.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// The workspace's document cannot be opened.
    #[error("the document of the workspace cannot be opened: {0}")]
    Document(String),
}

impl Workspaces {
    /// No workspaces yet, over these rooms.
    pub fn new(rooms: Rooms) -> Self {
        let inner = Inner { rooms, mounted: ArcSwap::default(), changes: Default::default() };
        Self { inner: Arc::new(inner) }
    }

    /// Serves a workspace, or replaces the logic of one that is being served: every row is parsed
    /// by the new logic first, then requests see the new logic and rows at once. On an error
    /// the old one keeps serving.
    pub async fn mount(&self, logic: Arc<dyn Logic>) -> Result<Mounted, MountError> {
        let _changing = self.inner.changes.lock().await;
        let id = logic.definition().id.clone();
        let existing = self.get(&id);
        let replaced = existing.is_some();
        let workspace = match existing {
            Some(workspace) => {
                workspace.replace(logic).await?;
                workspace
            }
            None => {
                let room = self.inner.rooms.open(&id);
                let room = room.map_err(|error| MountError::Document(error.to_string()))?;
                let (rooms, inner) = (self.inner.rooms.clone(), Arc::downgrade(&self.inner));
                let is_workspace = Arc::new(move |id: &str| {
                    inner.upgrade().is_some_and(|inner| inner.mounted.load().contains_key(id))
                });
                let documents = Documents::open(rooms, &id, is_workspace).await;
                let documents =
                    documents.map_err(|error| MountError::Document(error.to_string()))?;
                let workspace =
                    Workspace::open(room, logic, documents).await.map_err(|error| match error {
                        Error::Fault(fault) => MountError::Fault(fault),
                        other => MountError::Document(other.to_string()),
                    })?;
                let workspace = Arc::new(workspace);
                workspace.enforce_rules();
                self.inner.mounted.rcu(|mounted| {
                    let mut mounted = BTreeMap::clone(mounted);
                    mounted.insert(id.clone(), workspace.clone());
                    mounted
                });
                workspace
            }
        };
        let RowCounts { rows, invalid } = counts(&workspace);
        Ok(Mounted { rows, invalid, replaced })
    }

    /// How many rows a workspace has now; none where there is no such workspace.
    pub fn rows(&self, id: &str) -> Option<RowCounts> {
        self.get(id).map(|workspace| counts(&workspace))
    }

    /// Stops serving a workspace; its data stays. False when there was none.
    pub async fn unmount(&self, id: &str) -> bool {
        let _changing = self.inner.changes.lock().await;
        let Some(workspace) = self.get(id) else { return false };
        self.inner.mounted.rcu(|mounted| {
            let mut mounted = BTreeMap::clone(mounted);
            mounted.remove(id);
            mounted
        });
        workspace.close().await;
        true
    }

    /// What the mounted workspaces consist of, by id.
    pub fn definitions(&self) -> Vec<Arc<Definition>> {
        self.inner.mounted.load().values().map(|workspace| workspace.definition()).collect()
    }

    pub(crate) fn rooms(&self) -> &Rooms {
        &self.inner.rooms
    }

    pub(crate) fn get(&self, id: &str) -> Option<Arc<Workspace>> {
        self.inner.mounted.load().get(id).cloned()
    }
}

fn counts(workspace: &Workspace) -> RowCounts {
    let snapshot = workspace.snapshot();
    RowCounts {
        rows: snapshot.tables.values().map(|table| table.rows.len()).sum(),
        invalid: snapshot.tables.values().map(|table| table.invalid).sum(),
    }
}
