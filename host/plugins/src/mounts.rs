//! Where loaded plugins go.

use std::sync::Arc;

use async_trait::async_trait;
use host_workspace::{Logic, MountError, Mounted, RowCounts, Workspaces};

/// Serves workspaces by their logic: the server's [`Workspaces`], or a stand-in of a test.
#[async_trait]
pub trait Mounts: Send + Sync + 'static {
    /// Serves a workspace, or replaces the logic of one. On an error the old logic keeps serving.
    async fn mount(&self, logic: Arc<dyn Logic>) -> Result<Mounted, MountError>;

    /// Stops serving a workspace. False when there was none.
    async fn unmount(&self, workspace: &str) -> bool;

    /// How many rows a workspace has now; none where it is not served.
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
