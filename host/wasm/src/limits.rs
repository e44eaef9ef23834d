//! The bounds of this crate: constants for all guests, and [`PoolLimits`] for those of one component.

use std::time::Duration;

/// How often the epoch advances. 5 ms: short enough that a request behind a spinning guest does not
/// notice, long enough that the thread that counts costs nothing that can be measured.
pub const TICK: Duration = Duration::from_millis(5);

/// When a call counts as heavy. 50 ms: an ordinary action has ended long before.
pub const HEAVY_AFTER: Duration = Duration::from_millis(50);

/// The longest rest of a heavy call, in ticks. 20: a tenth of a second, which a person does not take
/// for a server that hangs.
pub const REST_MAX: u32 = 20;

/// Bytes of stack for a guest in optimised code. 1 MiB: what language runtimes expect at least.
pub const STACK: usize = 1 << 20;

/// The same in code of the baseline compiler, whose frames are larger: a guest gets equally deep.
pub const STACK_BASELINE: usize = 2 << 20;

/// Bytes of stack for the host's functions, beyond the guest's. 3 MiB: they run on the guest's stack,
/// an unoptimised build of ours needs most of it, and pages that nobody touches cost nothing.
pub const STACK_OF_HOST: usize = 3 << 20;

/// Memories in the pool, and stacks: 200 workspaces with some instances each. A caller that finds
/// the pool full is told that the plugin is busy.
pub const POOL_MEMORIES: u32 = 1_000;

/// What a compiler's process may write to, in bytes. 1 GiB: twice what the largest known plugin takes.
pub const COMPILER_MEMORY: usize = 1 << 30;

/// What a compiler's process may compute, on all cores together. 5 minutes: several times what the largest
/// known plugin takes on a slow machine.
pub const COMPILER_CPU: Duration = Duration::from_secs(5 * 60);

/// How long a compiler is waited for. 15 minutes: on a machine that is busy, its time of computing comes slowly.
pub const COMPILER_TIME: Duration = Duration::from_secs(15 * 60);

/// Bytes of stack of a compiler. 4 MiB: twice what threads usually have; what needs more recurses by the
/// file's will.
pub const COMPILER_STACK: usize = 4 << 20;

/// Bytes of stack on which code is read and linked to see whether it can be. 1 MiB: half of what threads
/// have where it is done in earnest.
pub const REHEARSAL_STACK: usize = 1 << 20;

/// How far a compiler for which nobody waits stands back behind those who serve. 10: halfway, so that it
/// gets an idle core to itself and still gets on beside busy ones.
pub const NICE: i32 = 10;

/// Bytes of code that are taken from a compiler. 1 GiB: it has no memory for more.
pub const CODE_BYTES: usize = COMPILER_MEMORY;

/// Bytes that are kept of what a compiler says when it crashes. 8 KiB: its reason is in the first lines.
pub const LAST_WORDS: u64 = 8 << 10;

/// Bytes of all files in the cache; those unused for longest go first. 1 GiB: a hundred of the largest.
pub const CACHE_BYTES: u64 = 1 << 30;

/// When a file is announced before it is compiled, in bytes. 1 MiB: from there on it takes a second or
/// more, and nobody should wonder why nothing happens.
pub const ANNOUNCED: usize = 1 << 20;

/// What the instances of one component may use.
#[derive(Debug, Clone)]
pub struct PoolLimits {
    /// Linear memory of one instance, in bytes.
    pub memory: usize,
    /// Linear memory of all instances, in bytes.
    pub memory_of_all: usize,
    /// Elements of one table.
    pub table_elements: usize,
    /// What a guest may hand over in one call or one answer, in bytes of the host's memory.
    pub transfer: usize,
    /// Instances kept between calls.
    pub warm: usize,
    /// An instance that has grown beyond so many bytes is not kept.
    pub warm_memory: usize,
    /// Calls that one instance serves.
    pub reuses: u64,
    /// How long an unused instance is kept.
    pub idle: Duration,
}
