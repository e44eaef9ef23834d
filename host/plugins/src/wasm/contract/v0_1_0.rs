//! `epicenter:workspace@0.1.0`: its bindings, and the conversion to the host's own types.

use host_caller::{Account, Right};
use host_workspace::definition as host;
use host_workspace::query::{Filter, Operator, Order, Query};
use host_workspace::{ActionError, Change, Issue, Operation, Parsed};
use serde_json::Value;
use wasmtime::Store;
use wasmtime::component::{HasSelf, Linker, Resource};

use super::super::state::{Handle, State};
use crate::log::Level;
use crate::random::{random_id, random_u64};
use crate::reach::{ai as asked, fetch};

wasmtime::component::bindgen!({
    path: "../../wit/0.1.0",
    world: "workspace",
    imports: {
        "epicenter:workspace/tables.put": async | trappable,
        "epicenter:workspace/tables.update": async | trappable,
        "epicenter:workspace/tables.delete": async | trappable,
        "epicenter:workspace/documents.get-text": async | trappable,
        "epicenter:workspace/documents.set-text": async | trappable,
        "epicenter:workspace/kv.set": async | trappable,
        "epicenter:workspace/kv.delete": async | trappable,
        "epicenter:workspace/http.send": async | trappable,
        "epicenter:workspace/ai.chat": async | trappable,
        "epicenter:workspace/ai.chat-stream": async | trappable,
        "epicenter:workspace/ai.[method]answer-stream.next": async | trappable,
        default: trappable,
    },
    exports: { default: async },
    with: { "epicenter:workspace/ai.answer-stream": crate::wasm::state::Handle },
});

use epicenter::workspace::{ai, context, documents, environment, http, kv, log, tables, types};
use exports::epicenter::workspace::guest;

include!("same.rs");

pub(super) async fn check_change(
    guest: &Workspace,
    store: &mut Store<State>,
    change: Change,
) -> wasmtime::Result<Result<(), ActionError>> {
    let change = types::Change {
        table: change.table,
        operation: match change.operation {
            Operation::Create => types::Operation::Create,
            Operation::Update => types::Operation::Update,
            Operation::Delete => types::Operation::Delete,
        },
        id: change.id,
        old: change.old,
        new: change.new,
        caller: change.caller.map(|account| caller_to(account, change.right)),
    };
    let checked = guest.epicenter_workspace_guest().call_check_change(store, &change).await?;
    Ok(checked.map_err(error_of))
}

fn definition_of(definition: guest::WorkspaceDefinition) -> Result<host::Definition, String> {
    let tables = definition.tables.into_iter().map(|table| {
        Ok(host::TableDefinition {
            versions: schemas(&format!("table {:?}", table.name), table.versions)?,
            name: table.name,
            documents: table
                .documents
                .into_iter()
                .map(|document| host::DocumentDefinition {
                    name: document.name,
                    guid_column: document.guid_column,
                    updated_at_column: document.updated_at_column,
                })
                .collect(),
            checks_changes: table.checks_changes,
            ..host::TableDefinition::default()
        })
    });
    let kv = definition.kv.into_iter().map(|kv| {
        let versions = schemas(&format!("kv key {:?}", kv.key), kv.versions)?;
        Ok(host::KvDefinition { key: kv.key, versions })
    });
    let awareness = definition.awareness.into_iter().map(|field| {
        let schema = json(&format!("awareness field {:?}", field.name), &field.schema)?;
        Ok(host::AwarenessField { name: field.name, schema })
    });
    let actions = definition.actions.into_iter().map(|action| {
        let schema = |what: &str, text: Option<String>| {
            text.map(|text| json(&format!("{what} of action {:?}", action.path), &text)).transpose()
        };
        Ok(host::ActionDefinition {
            kind: match action.kind {
                guest::ActionKind::Query => host::ActionKind::Query,
                guest::ActionKind::Mutation => host::ActionKind::Mutation,
            },
            input: schema("input", action.input)?,
            output: schema("output", action.output)?,
            description: action.description,
            path: action.path,
        })
    });
    Ok(host::Definition {
        id: definition.id,
        title: definition.title,
        version: definition.version,
        tables: tables.collect::<Result<_, String>>()?,
        kv: kv.collect::<Result<_, String>>()?,
        awareness: awareness.collect::<Result<_, String>>()?,
        actions: actions.collect::<Result<_, String>>()?,
    })
}

fn caller_to(caller: Account, _right: Right) -> types::Caller {
    types::Caller { id: caller.id, email: caller.email, name: caller.name }
}

fn error_of(error: types::Error) -> ActionError {
    match error {
        types::Error::NotFound => ActionError::NotFound,
        types::Error::Invalid(issues) => ActionError::Invalid(issues_of(issues)),
        types::Error::Denied(reason) => ActionError::Denied(reason),
        types::Error::Failed(reason) => ActionError::Failed(reason),
    }
}

fn error_to(error: ActionError) -> types::Error {
    match error {
        ActionError::NotFound | ActionError::Missing(_) => types::Error::NotFound,
        // This version has no word for a conflict.
        ActionError::Invalid(issues) | ActionError::Conflict(issues) => {
            types::Error::Invalid(issues_to(issues))
        }
        ActionError::Denied(reason) => types::Error::Denied(reason),
        ActionError::Failed(reason) => types::Error::Failed(reason),
    }
}
