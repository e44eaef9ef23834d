//! One file of a script, compiled.

use std::sync::Arc;

use host_workspace::ActionError;
use rhai::{AST, Dynamic, Engine, EvalAltResult, Scope};

use super::current;
use super::errors::{error_of, is_by_host, misuse_of};
use crate::log::Level;
use crate::sources::Text;

/// A file.
pub(super) struct Script {
    pub(super) path: String,
    pub(super) ast: AST,
}

/// Why a script failed: what it did wrong, and where.
pub(super) type Broke = String;

impl Script {
    /// Distinguishes what a script threw from what it broke.
    pub(super) fn ended(
        &self,
        engine: &Engine,
        done: Result<Dynamic, Box<EvalAltResult>>,
    ) -> Result<Result<Dynamic, ActionError>, Broke> {
        let error = match done {
            Ok(value) => return Ok(Ok(value)),
            Err(error) => error,
        };
        match error.unwrap_inner() {
            EvalAltResult::ErrorRuntime(value, at) => match misuse_of(value) {
                Some(reason) => Err(format!("{}{}: {reason}", self.path, place(*at))),
                None => {
                    let error = error_of(value.clone());
                    // The caller gets the message and the author the position; a thrown value is
                    // intentional.
                    if is_by_host(value) {
                        let line = format!("{}{}: {error}", self.path, place(*at));
                        current::log(Level::Warn, &line);
                    }
                    Ok(Err(error))
                }
            },
            inner => Err(self.broke(engine, inner)),
        }
    }

    /// An error with its file, line and column.
    fn broke(&self, engine: &Engine, error: &EvalAltResult) -> Broke {
        let at = error.position();
        let reason = match error {
            EvalAltResult::ErrorTooManyOperations(_) => {
                format!("it took more than {} steps", engine.max_operations())
            }
            EvalAltResult::ErrorStackOverflow(_) => {
                format!("it recursed too deeply, beyond {} calls", engine.max_call_levels())
            }
            EvalAltResult::ErrorDataTooLarge(what, _) => {
                format!("a value is too large: {}", what.to_lowercase())
            }
            other => {
                let text = other.to_string();
                let place = format!(" ({at})");
                let text = text.strip_suffix(&place).unwrap_or(&text);
                let mut letters = text.chars();
                let first = letters.next().map(|letter| letter.to_lowercase().to_string());
                first.unwrap_or_default() + letters.as_str()
            }
        };
        format!("{}{}: {reason}", self.path, place(at))
    }
}

/// `:3:5`, as compilers write it.
fn place(at: rhai::Position) -> String {
    match (at.line(), at.position()) {
        (Some(line), Some(column)) => format!(":{line}:{column}"),
        (Some(line), None) => format!(":{line}"),
        (None, _) => String::new(),
    }
}

pub(super) fn compile(engine: &Engine, text: &Text, scope: &Scope) -> Result<Arc<Script>, String> {
    let compiled = engine.compile_with_scope(scope, &text.text);
    let ast = compiled.map_err(|error| {
        format!("{}{}: {}", text.path, place(error.position()), error.err_type())
    })?;
    Ok(Arc::new(Script { path: text.path.clone(), ast }))
}
