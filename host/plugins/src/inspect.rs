//! Describes plugins without serving them, for `host check` and other authoring tools.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use host_wasm::{Allocation, Compile};
use host_workspace::Definition;
use serde::Serialize;

use crate::engine::Engine;
use crate::folder::OpenError;
use crate::limits::Limits;
use crate::plugin::{Draft, Workshop};
use crate::reach::manifest::Grants;
use crate::sources::{self, Sources};

/// A plugin and all errors in it.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Inspection {
    /// The name of its main file: `blog.wasm`, `notes/workspace.rhai`.
    pub file: String,
    /// Bytes of all of its files.
    pub size: u64,
    /// Its definition; `None` if it cannot be obtained.
    pub definition: Option<Arc<Definition>>,
    /// The full names of the interfaces that its component imports.
    pub imports: Vec<String>,
    /// What it may use beyond its own workspace.
    pub grants: Option<Arc<Grants>>,
    /// Its limits, in the notation of manifests: `memory` is `128MiB`.
    pub limits: BTreeMap<String, String>,
    /// Why it would not be served; empty if it would be.
    pub faults: Vec<String>,
}

/// Inspects every plugin in a folder with the code that serves them. Nothing is stored.
pub async fn inspect(dir: &Path) -> Result<Vec<Inspection>, OpenError> {
    let folder_error = |error: io::Error| OpenError::Folder { dir: dir.into(), error };
    let found = sources::list(dir).map_err(folder_error)?;
    let engine = Engine::new(Allocation::OnDemand, Compile::Twice).map_err(OpenError::Engine)?;
    let workshop = Workshop::new(engine, None, 1);
    let limits = Arc::new(Limits::default());
    let mut inspections = Vec::new();
    for (file, fingerprint) in found {
        let (sources, _, size) = match Sources::read(dir, &file, &fingerprint, &limits) {
            Ok(read) => read,
            Err(fault) => {
                inspections.push(Inspection {
                    file,
                    size: 0,
                    definition: None,
                    imports: Vec::new(),
                    grants: None,
                    limits: BTreeMap::new(),
                    faults: vec![fault],
                });
                continue;
            }
        };
        let draft = Draft::of(&workshop, &file, sources, None).await;
        inspections.push(Inspection {
            file,
            size,
            definition: draft.definition,
            imports: draft.imports,
            grants: Some(draft.grants),
            limits: draft.limits.named(),
            faults: draft.faults,
        });
    }
    Ok(inspections)
}
