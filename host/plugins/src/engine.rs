//! What compiles and runs the components of a server.
//!
//! **Two compilers.** One takes its time and makes fast code. The other, where the machine has it, is
//! several times quicker and makes code that runs at half the speed: a plugin that was just saved is
//! live with that, and goes on with the better code when it is there ([`crate::compiling`]). What a guest is
//! and may do is the same in both; only optimised code is kept on disk.
//!
//! **Time.** Guest code is compiled with epoch checks at loop heads and function entries. One thread
//! advances the epoch every [`TICK`]; a guest that meets a new epoch hands its thread back to tokio,
//! and is interrupted when its call's deadline has passed. So a guest that spins costs the others at
//! most one tick before they run, and no guest outlives its deadline by more than two.
//!
//! **Fairness.** Yielding alone would let ten spinning guests take ten of every eleven ticks. A call
//! that has run for longer than [`HEAVY_AFTER`] is *heavy*: at each tick it rests in proportion to how
//! many others are heavy, so that all heavy calls together get about half of the cores and whoever
//! is quick finds a thread.
//!
//! **Memory.** Where the machine lets us reserve the address space, instances live in a pool: memory
//! is mapped once and reset between uses. Otherwise (a limit on address space, 32 bits) each instance
//! maps its own. Both isolate alike; the pool makes a cold instance some microseconds cheaper.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use wasmtime::{
    Config, InstanceAllocationStrategy, PoolingAllocationConfig, Store, Strategy, UpdateDeadline,
};

use crate::ai::Models;
use crate::contract::Linkers;
use crate::instance::State;
use crate::scripts::Threads;

/// How often the epoch advances. 5 ms: short enough that a request behind a spinning guest does not
/// notice, long enough that the thread that counts costs nothing that can be measured.
pub(crate) const TICK: Duration = Duration::from_millis(5);

/// When a call counts as heavy. 50 ms: an ordinary action is over long before.
pub(crate) const HEAVY_AFTER: Duration = Duration::from_millis(50);

/// Address space of one linear memory in the pool, and so the most that
/// [`Limits::memory`](crate::Limits::memory) can grant: what the largest toolchains ask for.
pub(crate) const MEMORY_MAX: usize = 256 << 20;

/// Elements of one table in the pool, and so the most that
/// [`Limits::table_elements`](crate::Limits::table_elements) can grant.
pub(crate) const ELEMENTS_MAX: usize = 60_000;

/// Compiles and runs components. Cheap to clone; one for each server.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
    models: Option<Arc<dyn Models>>,
}

struct Inner {
    optimising: Compiler,
    /// None where the machine has none, or the operator wants none.
    baseline: Option<Compiler>,
    compatibility: String,
    pooling: bool,
    heavy: HeavyCount,
    threads: Threads,
}

/// One of wasmtime's compilers, with the engine that runs its code.
pub(crate) struct Compiler {
    pub(crate) wasmtime: wasmtime::Engine,
    pub(crate) linkers: Linkers,
}

impl Compiler {
    fn new(config: &Config) -> Result<Self, wasmtime::Error> {
        let wasmtime = wasmtime::Engine::new(config)?;
        let linkers = Linkers::new(&wasmtime)?;
        Ok(Self { wasmtime, linkers })
    }
}

/// Which compiler makes the code that a plugin begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compile {
    /// The quick one where there is one, and the other after it: live soon.
    Twice,
    /// The one whose code is fast, at once. For plugins from strangers: one compiler less has to be
    /// trusted with what they sent.
    Once,
}

/// How instances get their memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allocation {
    /// From a pool where the machine allows it, else on demand.
    Auto,
    /// Each instance maps its own.
    OnDemand,
}

impl Engine {
    /// Starts the engine and the thread that advances its epoch; the thread ends with the engine.
    pub fn new(allocation: Allocation, compile: Compile) -> Result<Self, wasmtime::Error> {
        let baseline = match compile {
            Compile::Twice => Compiler::new(&baseline())
                .inspect_err(|error| tracing::debug!("no baseline compiler: {error:#}"))
                .ok(),
            Compile::Once => None,
        };
        // Where nobody waits for it, it leaves the other cores alone.
        let optimising = || {
            let mut config = config();
            config.parallel_compilation(baseline.is_none());
            config
        };
        let pooled = match allocation {
            Allocation::Auto => Compiler::new(optimising().allocation_strategy(pool()))
                .inspect_err(|error| tracing::info!("plugins run without a memory pool: {error:#}"))
                .ok(),
            Allocation::OnDemand => None,
        };
        let pooling = pooled.is_some();
        let optimising = match pooled {
            Some(compiler) => compiler,
            None => Compiler::new(&optimising())?,
        };
        let engines = [Some(&optimising), baseline.as_ref()];
        let engines = engines.map(|compiler| compiler.map(|compiler| compiler.wasmtime.weak()));
        std::thread::Builder::new().name("plugin-epoch".into()).spawn(move || {
            loop {
                std::thread::sleep(TICK);
                let mut alive = false;
                for engine in engines.iter().flatten().filter_map(|engine| engine.upgrade()) {
                    engine.increment_epoch();
                    alive = true;
                }
                if !alive {
                    break;
                }
            }
        })?;
        let mut hasher = DefaultHasher::new();
        optimising.wasmtime.precompile_compatibility_hash().hash(&mut hasher);
        let compatibility = format!("{:016x}", hasher.finish());
        let heavy = HeavyCount::default();
        let threads = Threads::default();
        Ok(Self {
            inner: Arc::new(Inner { optimising, baseline, compatibility, pooling, heavy, threads }),
            models: None,
        })
    }

    /// The same, with models that its plugins may ask where they are granted it.
    pub fn with_models(self, models: Option<Arc<dyn Models>>) -> Self {
        Self { models, ..self }
    }

    pub(crate) fn models(&self) -> Option<&Arc<dyn Models>> {
        self.models.as_ref()
    }

    /// Whether instances come from a pool.
    pub fn is_pooling(&self) -> bool {
        self.inner.pooling
    }

    /// What makes code that runs fast.
    pub(crate) fn optimising(&self) -> &Compiler {
        &self.inner.optimising
    }

    /// What makes code fast, where there is such a compiler.
    pub(crate) fn baseline(&self) -> Option<&Compiler> {
        self.inner.baseline.as_ref()
    }

    /// Differs between engines that cannot run each other's optimised code.
    pub(crate) fn compatibility(&self) -> &str {
        &self.inner.compatibility
    }

    /// How many calls are heavy now.
    pub(crate) fn heavy(&self) -> &HeavyCount {
        &self.inner.heavy
    }

    /// Where scripts run.
    pub(crate) fn threads(&self) -> &Threads {
        &self.inner.threads
    }

    /// An empty store, for code of one of the compilers, whose guest gives way at each tick and stops
    /// at its call's deadline.
    pub(crate) fn store(&self, compiled_by: &wasmtime::Engine, state: State) -> Store<State> {
        let mut store = Store::new(compiled_by, state);
        store.limiter(|state| &mut state.memory);
        store.set_epoch_deadline(1);
        let heavy = self.inner.heavy.clone();
        store.epoch_deadline_callback(move |mut store| {
            let call = store.data_mut().call_mut();
            let now = std::time::Instant::now();
            if now >= call.deadline {
                return Ok(UpdateDeadline::Interrupt);
            }
            if now.duration_since(call.started) < HEAVY_AFTER {
                return Ok(UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now())));
            }
            let guard = call.heavy.get_or_insert_with(|| Heavy::enter(&heavy));
            let rest = guard.rest();
            Ok(UpdateDeadline::YieldCustom(
                1,
                Box::pin(async move {
                    if rest.is_zero() {
                        tokio::task::yield_now().await;
                    } else {
                        tokio::time::sleep(rest).await;
                    }
                }),
            ))
        });
        store
    }
}

/// How many calls are heavy, of all plugins.
pub(crate) type HeavyCount = Arc<AtomicUsize>;

/// Counts one heavy call for as long as it lives.
pub(crate) struct Heavy(Arc<AtomicUsize>);

impl Heavy {
    pub(crate) fn enter(count: &HeavyCount) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count.clone())
    }

    /// How long to rest after a tick of work, so that the heavy calls share half of the cores.
    pub(crate) fn rest(&self) -> Duration {
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
        let share = (cores / 2).max(1);
        let heavy = self.0.load(Ordering::Relaxed);
        TICK * u32::try_from(heavy.saturating_sub(share) / share).unwrap_or(u32::MAX / 1024).min(20)
    }
}

impl Drop for Heavy {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn config() -> Config {
    let mut config = Config::new();
    config.epoch_interruption(true);
    // Host functions run on the guest's stack, and an unoptimised build of ours needs much more than
    // an optimised one; the pages that nobody touches cost nothing.
    config.max_wasm_stack(1 << 20).async_stack_size(4 << 20);
    config
}

/// Its frames are larger, so that a guest gets as deep as it will in optimised code. Without a pool,
/// because its instances are few and soon gone.
fn baseline() -> Config {
    let mut config = config();
    config.strategy(Strategy::Winch).max_wasm_stack(2 << 20).async_stack_size(5 << 20);
    config
}

/// Room for a thousand memories at once: 200 workspaces with some instances each. When it is full
/// the caller gets `Busy`.
fn pool() -> InstanceAllocationStrategy {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(2_000)
        .total_core_instances(8_000)
        .total_memories(1_000)
        .total_tables(4_000)
        .total_stacks(1_000)
        .max_core_instances_per_component(60)
        .max_memories_per_component(20)
        .max_tables_per_component(20)
        .max_core_instance_size(1 << 20)
        .max_component_instance_size(4 << 20)
        .max_memory_size(MEMORY_MAX)
        .table_elements(ELEMENTS_MAX);
    InstanceAllocationStrategy::Pooling(pool)
}
