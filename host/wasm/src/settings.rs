//! How the two compilers are set. Whoever compiles and whoever runs the code must agree on all of it.

use wasmtime::{Config, Strategy, WasmBacktraceDetails};

use crate::limits::{STACK, STACK_BASELINE, STACK_OF_HOST};

/// Which compiler makes the code that a plugin begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compile {
    /// The baseline compiler where there is one, then the optimising one: a plugin is live sooner.
    Twice,
    /// The optimising compiler alone. For plugins from strangers: one compiler less has to be trusted
    /// with what they sent.
    Once,
}

pub(crate) fn optimising() -> Config {
    let mut config = Config::new();
    config.epoch_interruption(true);
    config.max_wasm_stack(STACK).async_stack_size(STACK + STACK_OF_HOST);
    // Nobody reads backtraces, and an environment variable must not decide how code is made.
    config.wasm_backtrace_details(WasmBacktraceDetails::Disable);
    config
}

/// Without a pool, because its instances are few and soon gone.
pub(crate) fn baseline() -> Config {
    let mut config = optimising();
    config.strategy(Strategy::Winch);
    config.max_wasm_stack(STACK_BASELINE).async_stack_size(STACK_BASELINE + STACK_OF_HOST);
    config
}

/// The baseline compiler, where this machine has one and it is wanted.
pub(crate) fn baseline_engine(compile: Compile) -> Option<wasmtime::Engine> {
    match compile {
        Compile::Twice => wasmtime::Engine::new(&baseline())
            .inspect_err(|error| tracing::debug!("no baseline compiler: {error:#}"))
            .ok(),
        Compile::Once => None,
    }
}
