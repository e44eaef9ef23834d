//! Describes what a workspace consists of.

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::{Failure, data};
use crate::definition::Definition;
use crate::workspaces::Workspaces;

pub(super) async fn descriptors(State(workspaces): State<Workspaces>) -> Response {
    data(workspaces.definitions().iter().map(|definition| describe(definition)).collect())
}

pub(super) async fn descriptor(
    State(workspaces): State<Workspaces>,
    Path(id): Path<String>,
) -> Response {
    match workspaces.get(&id) {
        Some(workspace) => data(describe(&workspace.definition())),
        None => Failure::workspace(&id).into_response(),
    }
}

/// A workspace as the original's `describeWorkspace` shows it.
fn describe(definition: &Definition) -> Value {
    let current = |versions: &[Value]| json!({ "schema": versions.last() });
    let tables = definition.tables.iter().map(|t| (t.name.clone(), current(&t.versions)));
    let kv = definition.kv.iter().map(|kv| (kv.key.clone(), current(&kv.versions)));
    let awareness =
        definition.awareness.iter().map(|a| (a.name.clone(), json!({ "schema": a.schema })));
    let actions = definition.actions.iter().map(|action| {
        let path: Vec<_> = action.path.split('/').collect();
        let mut described = json!({ "path": path, "type": action.kind });
        if !action.description.is_empty() {
            described["description"] = action.description.clone().into();
        }
        if let Some(input) = &action.input {
            described["input"] = input.clone();
        }
        if let Some(output) = &action.output {
            described["output"] = output.clone();
        }
        described
    });
    json!({
        "id": definition.id,
        "title": definition.title,
        "version": definition.version,
        "tables": tables.collect::<serde_json::Map<_, _>>(),
        "kv": kv.collect::<serde_json::Map<_, _>>(),
        "awareness": awareness.collect::<serde_json::Map<_, _>>(),
        "actions": actions.collect::<Vec<_>>(),
    })
}
