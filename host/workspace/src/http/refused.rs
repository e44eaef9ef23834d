//! What was refused of what sync brought: `GET …/tables/{t}?refused`, and `POST` to try it again or discard it.
//!
//! Whoever wrote it sees it, and so does the owner of the workspace.

use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Failure, data};
use crate::condition::Condition;
use crate::context::Context;
use crate::error::Error;
use crate::pending::RefusedChange;
use crate::work::Work;
use crate::workspace::Workspace;

/// Whether the query string asks for refused rows.
pub(super) fn is_wanted(query: &str) -> bool {
    query
        .split('&')
        .any(|pair| matches!(pair, "refused" | "refused=" | "refused=true" | "refused=1"))
}

/// The refused rows that the caller may see, oldest first.
pub(super) fn list(workspace: &Workspace, table: &str, context: &Context) -> Response {
    let refused = workspace.refused(table, context);
    data(refused.iter().map(RefusedChange::told).collect())
}

/// What is to become of refused rows, by the names of their refusals.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settle {
    retry: Vec<String>,
    discard: Vec<String>,
}

/// Tries refused rows again, each by itself as if the caller had sent it, and discards others. A row that is
/// refused again stays.
pub(super) async fn settle(
    workspace: &Workspace,
    table: &str,
    context: Context,
    body: Value,
) -> Result<Response, Failure> {
    let Settle { retry, discard } = serde_json::from_value(body).map_err(|error| {
        let example = r#"{"retry":["…"],"discard":["…"]}, each the name of a refusal"#;
        Failure::bad_request(format!("the body is not {example}: {error}"))
    })?;
    let known = workspace.refused(table, &context);
    let find = |name: &String| {
        known.iter().find(|refused| refused.name() == *name).ok_or_else(|| {
            let message = format!("table {table} has no refusal {name:?} that you could settle");
            Failure::new(StatusCode::NOT_FOUND, message)
        })
    };
    let discarded = discard.iter().map(find).collect::<Result<Vec<_>, _>>()?;
    let again = retry.iter().map(find).collect::<Result<Vec<_>, _>>()?;
    workspace.forget_refused(&discarded).await.map_err(|error| Failure::of(error, table))?;
    let (mut accepted, mut refused) = (Vec::new(), Vec::new());
    for one in again {
        let condition = Condition::default();
        let work = match &one.row {
            Some(row) => Work::Put { table, id: &one.id, row: row.clone(), condition },
            None => Work::Delete { table, id: &one.id, condition },
        };
        match workspace.transact(context.clone(), work).await {
            Ok(_) => {
                let forgotten = workspace.forget_refused(&[one]).await;
                forgotten.map_err(|error| Failure::of(error, table))?;
                accepted.push(one.name());
            }
            Err(error @ (Error::Action(_) | Error::Stored(_))) => {
                let reason = error.describe(table);
                let issues = error.into_issues();
                let name = one.name();
                refused.push(json!({ "refusal": name, "reason": reason, "issues": issues }));
            }
            Err(error) => return Err(Failure::of(error, table)),
        }
    }
    Ok(data(json!({ "accepted": accepted, "refused": refused, "discarded": discard })))
}
