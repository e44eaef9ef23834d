//! The scripts of one plugin, compiled: its actions, and the rows of a workspace without a component.

use std::collections::HashMap;
use std::sync::Arc;

use host_workspace::definition::ActionDefinition;
use host_workspace::{ActionError, Change, Definition, Parsed};
use rhai::{Dynamic, Engine, Scope};
use serde_json::Value;

use super::header::{self, ActionSettings, Mistake};
use super::rows::Rows;
use super::sandbox;
use super::script::{Broke, Script, compile};
use super::value::{to_json, to_script};
use crate::limits::Limits;
use crate::sources::{Sources, Text};

/// What a thread needs to run any script of the plugin.
pub(super) struct Program {
    engine: Engine,
    actions: HashMap<String, Action>,
    rows: Option<Rows>,
    files: Vec<String>,
}

struct Action {
    script: Arc<Script>,
    entry: Entry,
    /// Defaults of the input's members.
    defaults: Vec<(String, Value)>,
}

enum Entry {
    /// The file itself, with the variable `input`.
    Body,
    /// One of its functions.
    Function { name: String, takes_input: bool },
}

impl Program {
    /// Compiles a plugin's scripts, together with the definition of its component if it has one.
    /// Returns the definition of the whole workspace, which still has to be checked, or all errors.
    /// Must run on a script's stack.
    pub(super) fn compile(
        plugin: &str,
        component: Option<&Definition>,
        sources: &Sources,
        limits: &Limits,
    ) -> Result<(Self, Definition), Vec<String>> {
        let engine = sandbox::engine(limits);
        let mut faults = Vec::new();
        let (mut definition, rows) = match component {
            Some(definition) => (definition.clone(), None),
            None => match Rows::compile(&engine, sources) {
                Ok((definition, rows)) => (definition, Some(rows)),
                Err(mistakes) => {
                    faults.extend(mistakes);
                    (Definition::default(), None)
                }
            },
        };
        let mut program = Self { engine, actions: HashMap::new(), rows, files: Vec::new() };
        let mut owners: HashMap<String, String> = HashMap::new();
        if component.is_some() {
            let paths = definition.actions.iter().map(|action| action.path.clone());
            owners.extend(paths.map(|path| (path, plugin.to_owned())));
        }
        let mut found = Vec::new();
        if let Some(rows) = &program.rows {
            program.files.push(rows.script.path.clone());
            let text = sources.workspace.as_ref().map_or("", |w| &w.text);
            functions(&rows.script, text, &mut found, &mut faults);
        }
        if let Some(text) = &sources.functions {
            program.files.push(text.path.clone());
            match compile(&program.engine, text, &Scope::new()) {
                Ok(script) => functions(&script, &text.text, &mut found, &mut faults),
                Err(mistake) => faults.push(mistake),
            }
        }
        for (path, text) in &sources.actions {
            program.files.push(text.path.clone());
            match body(&program.engine, path, text) {
                Ok(action) => found.push(action),
                Err(mistake) => faults.push(mistake),
            }
        }
        for (path, line, (action, defined)) in found {
            if let Some(owner) = owners.insert(action.path.clone(), path.clone()) {
                faults.push(format!(
                    "{path}:{line}: the action {} is defined by {owner} already; give one of them \
                     another name",
                    action.path
                ));
                continue;
            }
            program.actions.insert(action.path.clone(), defined);
            definition.actions.push(action);
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        Ok((program, definition))
    }

    /// Whether a script implements this action.
    pub(super) fn has_action(&self, path: &str) -> bool {
        self.actions.contains_key(path)
    }

    /// The paths of its files.
    pub(super) fn files(&self) -> &[String] {
        &self.files
    }

    pub(super) fn parse_rows(&self, table: &str, rows: &[String]) -> Result<Vec<Parsed>, Broke> {
        let Some(own) = &self.rows else { return Err("it has no tables of its own".into()) };
        rows.iter().map(|row| own.parse_row(&self.engine, table, row)).collect()
    }

    pub(super) fn parse_kv(&self, key: &str, value: String) -> Result<Parsed, Broke> {
        let Some(own) = &self.rows else { return Err("it has no keys of its own".into()) };
        Ok(own.parse_kv(key, value))
    }

    pub(super) fn check(&self, change: &Change) -> Result<Result<(), ActionError>, Broke> {
        let Some(own) = &self.rows else { return Ok(Ok(())) };
        own.check(&self.engine, change)
    }

    /// Runs an action. The outermost error says what the script broke. A result that is not JSON
    /// violates the contract, which is the middle error.
    pub(super) fn act(
        &self,
        path: &str,
        input: &str,
    ) -> Result<Result<Result<String, ActionError>, String>, Broke> {
        let Some(action) = self.actions.get(path) else {
            return Ok(Ok(Err(ActionError::NotFound)));
        };
        Ok(match action.run(&self.engine, input)? {
            Err(error) => Ok(Err(error)),
            Ok(value) => match to_json(value) {
                Err(reason) => Err(format!("the result {reason}")),
                Ok(json) => Ok(Ok(json.to_string())),
            },
        })
    }
}

impl Action {
    fn run(&self, engine: &Engine, input: &str) -> Result<Result<Dynamic, ActionError>, Broke> {
        let mut input: Value = serde_json::from_str(input)
            .map_err(|error| format!("the input is no JSON: {error}"))?;
        if let Some(members) = input.as_object_mut() {
            for (name, default) in &self.defaults {
                members.entry(name).or_insert_with(|| default.clone());
            }
        }
        let input = to_script(input);
        let mut scope = Scope::new();
        let done = match &self.entry {
            Entry::Body => {
                scope.push_dynamic("input", input);
                engine.eval_ast_with_scope(&mut scope, &self.script.ast)
            }
            Entry::Function { name, takes_input: true } => {
                engine.call_fn(&mut scope, &self.script.ast, name, (input,))
            }
            Entry::Function { name, takes_input: false } => {
                engine.call_fn(&mut scope, &self.script.ast, name, ())
            }
        };
        self.script.ended(engine, done)
    }
}

type Found = (String, usize, (ActionDefinition, Action));

/// The action that a file implements.
fn body(engine: &Engine, path: &str, text: &Text) -> Result<Found, String> {
    let mut scope = Scope::new();
    scope.push_dynamic("input", Dynamic::UNIT);
    let script = compile(engine, text, &scope)?;
    let head = header::head(&text.text);
    let settings = settings(&text.path, head.settings())?.ok_or_else(|| {
        format!(
            "{}:1: does not say what it is; begin it with `//! What it does.`, `//! ---` and \
             `//! kind = \"query\"` or `\"mutation\"`",
            text.path
        )
    })?;
    let action = define(path.to_owned(), head.description(), settings, script, Entry::Body);
    Ok((text.path.clone(), 1, action))
}

/// Adds the actions among a file's functions: those whose comment has settings.
fn functions(script: &Arc<Script>, text: &str, found: &mut Vec<Found>, faults: &mut Vec<String>) {
    for function in header::functions(text) {
        if !function.comment.has_settings() {
            continue;
        }
        let mut settings = match settings(&script.path, function.comment.settings()) {
            Ok(Some(settings)) => settings,
            Ok(None) => continue,
            Err(mistake) => {
                faults.push(mistake);
                continue;
            }
        };
        let path = settings.path.take().unwrap_or_else(|| function.name.to_owned());
        let entry =
            Entry::Function { name: function.name.to_owned(), takes_input: function.takes_input };
        let description = function.comment.description();
        let action = define(path, description, settings, script.clone(), entry);
        found.push((script.path.clone(), function.line, action));
    }
}

fn settings(
    path: &str,
    settings: Result<Option<ActionSettings>, Mistake>,
) -> Result<Option<ActionSettings>, String> {
    settings.map_err(|Mistake { line, reason }| format!("{path}:{line}: {reason}"))
}

fn define(
    path: String,
    description: String,
    mut settings: ActionSettings,
    script: Arc<Script>,
    entry: Entry,
) -> (ActionDefinition, Action) {
    let (input, defaults) = settings.input();
    let kind = settings.kind();
    let definition =
        ActionDefinition { path, kind, description, input, output: settings.output.take() };
    (definition, Action { script, entry, defaults })
}
