//! The interface through which loaded plugins are mounted.

use std::sync::Arc;

use async_trait::async_trait;
use host_workspace::{Logic, MountError, Mounted, RowCounts, Workspaces};

/// Serves workspaces by their logic: the server's [`Workspaces`], or a stand-in in tests.
#[async_trait]
pub trait Mounts: Send + Sync + 'static {
    /// Mounts a workspace or replaces its logic. On an error the old logic keeps serving.
    async fn mount(&self, logic: Arc<dyn Logic>) -> Result<Mounted, MountError>;

    /// Unmounts a workspace. Returns false if it was not mounted.
    async fn unmount(&self, workspace: &str) -> bool;

    /// The current number of rows of a workspace; `None` if it is not mounted.
    fn rows(&self, workspace: &str) -> Option<RowCounts>;
}

#[async_trait]
impl Mounts for Workspaces {
    async fn mount(&self, logic: Arc<dyn Logic>) -> Result<Mounted, MountError> {
        Workspaces::mount(self, logic).await
    }

    async fn unmount(&self, workspace: &str) -> bool {
        Workspaces::unmount(self, workspace).await
    }

    fn rows(&self, workspace: &str) -> Option<RowCounts> {
        Workspaces::rows(self, workspace)
    }
}
