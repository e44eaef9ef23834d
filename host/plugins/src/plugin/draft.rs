//! The result of loading a plugin's files: a complete plugin, or its errors.

use std::sync::Arc;
use std::time::Duration;

use host_wasm::{Cache, Compiling, Hash};
use host_workspace::Definition;

use super::{Code, Component, LoadError, Plugin};
use crate::calls::Calls;
use crate::engine::Engine;
use crate::limits::Limits;
use crate::reach::Reach;
use crate::reach::manifest::{Grants, Manifest};
use crate::scripts::Scripts;
use crate::sources::Sources;
use crate::wasm::{self, Wasm, checked};

/// Loads plugins.
#[derive(Clone)]
pub(crate) struct Workshop {
    engine: Engine,
    cache: Option<Arc<Cache>>,
    compiling: Arc<Compiling>,
}

impl Workshop {
    /// Creates a workshop that compiles this many plugins at once.
    pub(crate) fn new(engine: Engine, cache: Option<Arc<Cache>>, at_once: usize) -> Self {
        Self { engine, cache, compiling: Arc::new(Compiling::new(at_once)) }
    }

    /// The queue for compiling.
    pub(crate) fn compiling(&self) -> &Compiling {
        &self.compiling
    }
}

/// A plugin, as far as its files could be loaded.
pub(crate) struct Draft {
    pub(crate) file: Arc<str>,
    /// `None` if a fault prevents it.
    pub(crate) definition: Option<Arc<Definition>>,
    /// The full names of its component's imports.
    pub(crate) imports: Vec<String>,
    pub(crate) grants: Arc<Grants>,
    pub(crate) limits: Arc<Limits>,
    /// All errors; empty for a valid plugin.
    pub(crate) faults: Vec<String>,
    /// `None` if TLS cannot be set up, which is a fault.
    reach: Option<Reach>,
    waited: Duration,
    component: Option<Component>,
    scripts: Option<Scripts>,
}

impl Draft {
    /// Compiles the component and the scripts, and asks for the definition. A fault in one of them
    /// does not keep the others from being checked.
    pub(crate) async fn of(
        workshop: &Workshop,
        file: &str,
        mut sources: Sources,
        before: Option<&Plugin>,
    ) -> Self {
        let manifest = std::mem::take(&mut sources.manifest);
        let limits = sources.limits.clone();
        let mut faults = std::mem::take(&mut sources.faults);
        let grants = Arc::new(manifest.grants.clone());
        let reach = Reach::new(&grants, workshop.engine.models(), &limits);
        let reach = reach.map_err(|fault| faults.push(fault)).ok();
        let mut draft = Self {
            file: file.into(),
            definition: None,
            imports: Vec::new(),
            grants,
            limits,
            faults,
            reach,
            waited: Duration::ZERO,
            component: None,
            scripts: None,
        };
        let bytes = sources.component.take();
        let has_component = bytes.is_some();
        if let Some(bytes) = bytes {
            let hash = Hash::of(&bytes);
            let same = before
                .and_then(|before| before.code.component())
                .filter(|before| before.wasm.hash() == hash && before.manifest == manifest);
            draft.component = match same {
                Some(same) => Some(same.clone()),
                None => draft.compile(workshop, bytes, hash, manifest).await,
            };
        }
        let component = draft.component.as_ref();
        draft.definition = component.map(|component| component.wasm.definition().clone());
        if sources.has_scripts() {
            // If the component is broken, scripts are still compiled to report their faults.
            let beside = has_component.then(|| draft.definition.take().unwrap_or_default());
            draft.interpret(&workshop.engine, beside, sources).await;
        } else if !has_component {
            draft.faults.push("has neither component nor script".into());
        }
        draft
    }

    async fn compile(
        &mut self,
        workshop: &Workshop,
        bytes: Vec<u8>,
        hash: Hash,
        manifest: Manifest,
    ) -> Option<Component> {
        let Workshop { engine, cache, compiling } = workshop;
        let source = wasm::Source { file: self.file.clone(), bytes, hash, cache: cache.clone() };
        let linked = match wasm::link(&engine.wasm, compiling, source).await {
            Ok(linked) => linked,
            Err(fault) => {
                self.faults.push(fault);
                return None;
            }
        };
        self.waited = linked.waited;
        self.imports = linked.imports.clone();
        let (limits, reach) = (self.limits.clone(), self.reach.clone()?);
        match Wasm::new(engine.wasm.clone(), linked, limits, reach).await {
            Ok(wasm) => Some(Component { wasm: Arc::new(wasm), manifest }),
            Err(faults) => {
                self.faults.extend(faults.lines().map(str::to_owned));
                None
            }
        }
    }

    async fn interpret(
        &mut self,
        engine: &Engine,
        component: Option<Arc<Definition>>,
        sources: Sources,
    ) {
        let (limits, Some(reach)) = (self.limits.clone(), self.reach.clone()) else { return };
        let sources = Arc::new(sources);
        let threads = &engine.threads;
        let loaded = Scripts::load(threads, &self.file, component, sources, limits, reach);
        let checked = match loaded.await {
            Ok((scripts, definition)) => {
                self.scripts = Some(scripts);
                // The placeholder for a broken component's definition is not worth checking.
                if !self.faults.is_empty() && self.component.is_none() && definition.id.is_empty() {
                    return;
                }
                checked(definition).await
            }
            Err(faults) => Err(faults),
        };
        match checked {
            Ok(definition) => self.definition = Some(definition),
            Err(faults) => self.faults.extend(faults.lines().map(str::to_owned)),
        }
    }

    /// The plugin, if nothing is wrong.
    pub(super) fn finish(self) -> Result<Plugin, LoadError> {
        let Self { file, definition, component, scripts, grants, limits, faults, waited, .. } =
            self;
        let code = match (component, scripts) {
            (Some(component), scripts) => Some(Code::Component(Box::new(component), scripts)),
            (None, Some(scripts)) => Some(Code::Scripts(scripts)),
            (None, None) => None,
        };
        let whole = definition.zip(code).filter(|_| faults.is_empty());
        let Some((definition, code)) = whole else {
            return Err(LoadError::new(&*file, faults.join("\n")));
        };
        let calls = Calls::new(file.clone(), definition.id.clone(), limits.clone());
        Ok(Plugin { file, definition, code, calls, grants, limits, waited })
    }
}
