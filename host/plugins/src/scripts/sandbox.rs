//! The interpreter for scripts: the language with strings, arrays, maps and numbers, and no
//! function that reaches out, waits, or turns text into code.

use rhai::packages::{
    ArithmeticPackage, BasicArrayPackage, BasicFnPackage, BasicIteratorPackage, BasicMapPackage,
    BasicMathPackage, BasicStringPackage, LogicPackage, MoreStringPackage, Package,
};
use rhai::{Array, Dynamic, Engine, EvalAltResult, ImmutableString, Position};

use super::{api, current};
use crate::limits::Limits;

/// Nesting limit of expressions. 32: nobody reads deeper ones, and each level takes stack.
const EXPRESSIONS: usize = 32;

/// Variables in one function at the same time.
const VARIABLES: usize = 256;

/// Functions of one script.
const FUNCTIONS: usize = 1_000;

/// Features that scripts do not get: `eval` turns text into code, modules read files, and `curry`
/// nests functions without limit.
const DISABLED: [&str; 4] = ["eval", "import", "export", "curry"];

pub(super) fn engine(limits: &Limits) -> Engine {
    let mut engine = Engine::new_raw();
    // The standard library except its core, which can sleep and exit, and blobs.
    ArithmeticPackage::new().register_into_engine(&mut engine);
    LogicPackage::new().register_into_engine(&mut engine);
    BasicStringPackage::new().register_into_engine(&mut engine);
    BasicIteratorPackage::new().register_into_engine(&mut engine);
    BasicFnPackage::new().register_into_engine(&mut engine);
    BasicMathPackage::new().register_into_engine(&mut engine);
    BasicArrayPackage::new().register_into_engine(&mut engine);
    BasicMapPackage::new().register_into_engine(&mut engine);
    MoreStringPackage::new().register_into_engine(&mut engine);
    for symbol in DISABLED {
        engine.disable_symbol(symbol);
    }
    engine
        .set_max_operations(limits.script_steps)
        .set_max_call_levels(limits.script_depth)
        .set_max_string_size(limits.script_string)
        .set_max_array_size(limits.script_items)
        .set_max_map_size(limits.script_items)
        .set_max_expr_depths(EXPRESSIONS, EXPRESSIONS)
        .set_max_variables(VARIABLES)
        .set_max_functions(FUNCTIONS)
        .set_max_modules(0)
        // Typos in names are found when the script is loaded.
        .set_strict_variables(true)
        .set_fail_on_invalid_map_property(false)
        .on_progress(current::step);
    bound_strings(&mut engine, limits);
    api::register(&mut engine);
    engine
}

/// Replaces string functions that can produce much from little in one step without checking a limit
/// with versions that check the size first.
fn bound_strings(engine: &mut Engine, limits: &Limits) {
    type Text = ImmutableString;
    let bytes = limits.script_string;
    let replace = move |text: &mut Text, from: &str, to: &str| -> Result<(), Box<EvalAltResult>> {
        let found = text.matches(from).count();
        let size = text.len().saturating_add(found.saturating_mul(to.len()));
        if size > bytes {
            return Err(too_large("Length of string"));
        }
        *text = text.replace(from, to).into();
        Ok(())
    };
    engine.register_fn("replace", replace);
    engine.register_fn("replace", move |text: &mut Text, from: char, to: &str| {
        replace(text, from.encode_utf8(&mut [0; 4]), to)
    });
    engine.register_fn("replace", move |text: &mut Text, from: &str, to: char| {
        replace(text, from, to.encode_utf8(&mut [0; 4]))
    });
    engine.register_fn("replace", move |text: &mut Text, from: char, to: char| {
        replace(text, from.encode_utf8(&mut [0; 4]), to.encode_utf8(&mut [0; 4]))
    });

    let items = limits.script_items;
    let bounded = move |parts: &mut dyn Iterator<Item = Dynamic>| {
        let parts: Array = parts.take(items.saturating_add(1)).collect();
        if parts.len() > items { Err(too_large("Size of array")) } else { Ok(parts) }
    };
    fn part(text: &str) -> Dynamic {
        Dynamic::from(Text::from(text))
    }
    engine.register_fn("split", move |text: &mut Text| {
        bounded(&mut text.split_whitespace().map(part))
    });
    engine.register_fn("split", move |text: &mut Text, by: &str| {
        bounded(&mut text.split(by).map(part))
    });
    engine.register_fn("split", move |text: &mut Text, by: char| {
        bounded(&mut text.split(by).map(part))
    });
    engine.register_fn("split_rev", move |text: &mut Text, by: &str| {
        bounded(&mut text.rsplit(by).map(part))
    });
    engine.register_fn("split_rev", move |text: &mut Text, by: char| {
        bounded(&mut text.rsplit(by).map(part))
    });
    engine.register_fn("to_chars", move |text: &mut Text| {
        bounded(&mut text.chars().map(Dynamic::from))
    });
}

fn too_large(what: &str) -> Box<EvalAltResult> {
    EvalAltResult::ErrorDataTooLarge(what.into(), Position::NONE).into()
}
