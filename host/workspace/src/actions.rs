//! Actions by their whole name, for those who call them other than by a path of REST: a model's chat.

use serde_json::Value;

use crate::context::Context;
use crate::definition::{ActionDefinition, Issue};
use crate::workspaces::Workspaces;

/// Why an action was not run, or failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActionFailure {
    /// What is wrong.
    pub message: String,
    /// What is wrong with the input.
    pub issues: Vec<Issue>,
}

impl Workspaces {
    /// An action by its whole name: `blog/posts/publish`.
    pub fn action(&self, name: &str) -> Option<ActionDefinition> {
        let (workspace, path) = name.split_once('/')?;
        self.get(workspace)?.definition().action(path).cloned()
    }

    /// Runs an action by its whole name, with all that REST would hold it to. The result is JSON text.
    pub async fn run_action(
        &self,
        context: Context,
        name: &str,
        input: &Value,
    ) -> Result<String, ActionFailure> {
        let failure = |message: String| ActionFailure { message, issues: Vec::new() };
        let (workspace, path) = name.split_once('/').unwrap_or((name, ""));
        let found = self.get(workspace);
        let found = found.ok_or_else(|| failure(format!("there is no workspace {workspace:?}")))?;
        if found.definition().action(path).is_none() {
            return Err(failure(format!("workspace {workspace} has no action {path:?}")));
        }
        found.run(context, path, input).await.map_err(|error| ActionFailure {
            message: error.describe(path),
            issues: error.into_issues(),
        })
    }
}
