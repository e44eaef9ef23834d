//! Actions of workspaces, as models call them: with the rights of whoever asked the model.

use async_trait::async_trait;
use axum::http::Extensions;
use host_ai::chat::actions::{Action, Actions};
use host_workspace::{Workspaces, context_of};
use serde_json::{Value, json};

/// The actions of all workspaces, by names like `blog/posts/publish`.
pub(crate) struct WorkspaceActions(pub Workspaces);

impl std::fmt::Debug for WorkspaceActions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WorkspaceActions")
    }
}

#[async_trait]
impl Actions for WorkspaceActions {
    fn find(&self, name: &str) -> Option<Action> {
        let action = self.0.action(name)?;
        Some(Action { description: action.description, input: action.input })
    }

    async fn run(&self, by: &Extensions, name: &str, input: Value) -> Result<String, String> {
        let result = self.0.run_action(context_of(by), name, &input).await;
        result.map_err(|refused| {
            let mut error = json!({ "error": refused.message });
            if !refused.issues.is_empty() {
                error["issues"] = json!(refused.issues);
            }
            error.to_string()
        })
    }
}
