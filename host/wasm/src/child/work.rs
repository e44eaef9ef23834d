//! The compiler's own process: it makes itself small, waits for a file, answers, and ends.
//!
//! Whatever fails here fails alone. A panic becomes an answer; a stack that overflows, memory that ends and
//! time that is up end the process, and [the other side](super) puts into words what became of it.
//!
//! **Rehearsal.** Code that was made is then read and linked as it will be by whoever asked, on a stack
//! that is half of theirs: what survives that survives there.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use rustix::process::{Resource, Rlimit, getrlimit, nice, setrlimit};
use wasmtime::Engine;
use wasmtime::component::Component;

use super::wire::{self, Answer, Compiler, Haste};
use crate::component::{Contract, Rehearsal, wrapped};
use crate::limits::{COMPILER_CPU, COMPILER_MEMORY, COMPILER_STACK, NICE, REHEARSAL_STACK};
use crate::settings::{Compile, baseline_engine, optimising};

/// What an author reads when a compiler failed on a file.
const FAILED: &str = "the compiler failed on it; build it with another toolchain";

/// Serves one request.
pub(super) fn serve(compile: Compile, contract: &'static Contract) -> io::Result<()> {
    limit()?;
    let socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    // All that can be ready before there is a file.
    let ready = Ready::new(compile, contract).map_err(io::Error::other)?;
    let Some((haste, file)) = wire::asked(&socket)? else { return Ok(()) };
    let asker = socket.try_clone()?;
    // Nothing more is said until the asker is gone, or gives up; then there is no reason to go on.
    thread::spawn(move || {
        let _ = io::Read::read(&mut &asker, &mut [0]);
        std::process::exit(0);
    });
    if haste == Haste::Later {
        // Threads that are started later inherit it.
        let _ = nice(NICE);
    }
    let compiled = on_stack(COMPILER_STACK, move || {
        let compiled = ready.compile(haste, &file);
        (compiled, ready)
    })?;
    let answer = match compiled {
        Some((Ok((compiler, code)), ready)) => {
            let rehearsed = on_stack(REHEARSAL_STACK, move || {
                ready.rehearse(compiler, &code).map(|()| (compiler, code))
            })?;
            rehearsed.unwrap_or_else(|| Err(FAILED.into()))
        }
        Some((fault, _)) => fault,
        None => Err(FAILED.into()),
    };
    wire::answer(&socket, &answer)
}

/// Bounds what this process may take, where it is not bounded more tightly already. Memory is that which is
/// written to; what is only reserved costs nothing.
fn limit() -> io::Result<()> {
    bound(Resource::Data, COMPILER_MEMORY as u64, 0)?;
    // A signal that says why, and one that cannot be overheard.
    bound(Resource::Cpu, COMPILER_CPU.as_secs(), 5)?;
    // A crash is expected, and nobody wants to keep what it leaves.
    bound(Resource::Core, 0, 0)
}

fn bound(resource: Resource, most: u64, grace: u64) -> io::Result<()> {
    let allowed = getrlimit(resource).maximum.unwrap_or(u64::MAX);
    let (current, maximum) = (most.min(allowed), most.saturating_add(grace).min(allowed));
    setrlimit(resource, Rlimit { current: Some(current), maximum: Some(maximum) })?;
    Ok(())
}

/// Runs something on a stack of so many bytes. None when it panicked.
fn on_stack<T: Send + 'static>(
    stack: usize,
    run: impl FnOnce() -> T + Send + 'static,
) -> io::Result<Option<T>> {
    Ok(thread::Builder::new().stack_size(stack).spawn(run)?.join().ok())
}

/// The compilers, and what rehearses with the code of each.
struct Ready {
    contract: &'static Contract,
    optimising: (Engine, Rehearsal),
    baseline: Option<(Engine, Rehearsal)>,
}

impl Ready {
    fn new(compile: Compile, contract: &'static Contract) -> wasmtime::Result<Self> {
        let with = |engine: Engine| -> wasmtime::Result<_> {
            let rehearsal = (contract.rehearsal)(&engine)?;
            Ok((engine, rehearsal))
        };
        let baseline = baseline_engine(compile);
        // Where nobody waits for it, it leaves the other cores alone.
        let mut optimising = optimising();
        optimising.parallel_compilation(baseline.is_none());
        Ok(Self {
            contract,
            optimising: with(Engine::new(&optimising)?)?,
            baseline: baseline.map(with).transpose()?,
        })
    }

    fn compile(&self, haste: Haste, file: &[u8]) -> Answer {
        let component = wrapped(file, self.contract)?;
        // The baseline compiler does not know all of WebAssembly: what it refuses may still be good.
        if let (Haste::Now, Some((baseline, _))) = (haste, &self.baseline) {
            let compile = || baseline.precompile_component(&component);
            if let Ok(Ok(code)) = catch_unwind(AssertUnwindSafe(compile)) {
                return Ok((Compiler::Baseline, code));
            }
        }
        match self.optimising.0.precompile_component(&component) {
            Ok(code) => Ok((Compiler::Optimising, code)),
            Err(error) => Err(format!("not a valid component: {error:#}")),
        }
    }

    /// Does with the code what whoever asked will do with it.
    fn rehearse(&self, compiler: Compiler, code: &[u8]) -> Result<(), String> {
        let (engine, rehearse) = match (compiler, &self.baseline) {
            (Compiler::Baseline, Some(baseline)) => baseline,
            _ => &self.optimising,
        };
        #[allow(unsafe_code)]
        // SAFETY: `deserialize` requires bytes that `precompile_component` returned, unchanged. This engine
        // did a moment ago, and they have not left the process.
        let component = unsafe { Component::deserialize(engine, code) };
        rehearse(&component.map_err(|error| format!("not a valid component: {error:#}"))?)
    }
}
