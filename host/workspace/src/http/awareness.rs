//! Who is present: the valid presence states of the workspace's room.

use axum::extract::{Path, State};
use axum::response::Response;
use serde_json::{Map, Value};

use super::{Failure, data, workspace_of};
use crate::workspaces::Workspaces;

/// The states by client. Fields that the plugin does not declare, or whose value is not valid,
/// are left out, and so are clients with no fields remaining.
pub(super) async fn states(
    State(workspaces): State<Workspaces>,
    Path(workspace): Path<String>,
) -> Result<Response, Failure> {
    let found = workspace_of(&workspaces, &workspace)?;
    let states = found.presence().await.map_err(|error| Failure::of(error, "awareness"))?;
    let generation = found.generation();
    let valid = |(client, state): (u64, String)| {
        let Ok(Value::Object(mut fields)) = serde_json::from_str(&state) else { return None };
        fields.retain(|field, value| generation.schemas.allow_presence(field, value));
        (!fields.is_empty()).then(|| (client.to_string(), Value::Object(fields)))
    };
    Ok(data(Value::Object(states.into_iter().filter_map(valid).collect::<Map<_, _>>())))
}
