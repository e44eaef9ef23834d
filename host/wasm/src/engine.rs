//! What runs the components of a server, and has them compiled.
//!
//! **Two compilers.** The optimising one takes its time and makes fast code. The baseline compiler, which
//! not every machine has, is several times quicker, and its code runs at half the speed: a plugin that
//! was just saved goes live with that, and goes on with optimised code once there is some
//! ([`optimise`](crate::optimise)). What a guest is and may do is the same in both; only optimised
//! code is kept on disk.
//!
//! **Time.** Guest code is compiled with epoch checks at loop heads and function entries. One thread
//! advances the epoch every [`TICK`]; a guest that meets a new epoch hands its thread back to tokio, and is
//! interrupted when its call's deadline has passed. So a guest that spins costs the others at most one
//! tick before they run, and no guest outlives its deadline by more than two. How long guests share the
//! cores is in [`crate::pace`].
//!
//! **Memory.** Where the machine lets us reserve the address space, instances live in a pool: memory
//! is mapped once and reset between uses. Otherwise (a limit on address space, 32 bits) each instance
//! maps its own. Both isolate alike; the pool makes a cold instance some microseconds cheaper.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use wasmtime::{InstanceAllocationStrategy, PoolingAllocationConfig, Store, UpdateDeadline};

use crate::child::Children;
use crate::hosted::Hosted;
use crate::limits::{POOL_MEMORIES, TICK};
use crate::pace::Load;
use crate::settings::{Compile, baseline_engine, optimising};

/// Runs components, and has them compiled. Cheap to clone; one for each server.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    optimising: wasmtime::Engine,
    /// None where the machine has none, or the operator wants none.
    baseline: Option<wasmtime::Engine>,
    children: Children,
    compatibility: String,
    pooling: bool,
    load: Load,
}

/// How an engine compiles, and what it sets aside.
#[derive(Debug, Clone, Copy)]
pub struct EngineConfig {
    /// How instances get their memory.
    pub allocation: Allocation,
    /// Which compiler makes the code that a plugin begins with.
    pub compile: Compile,
    /// Address space set aside for each memory in the pool, in bytes; the most that one can have.
    pub memory: usize,
    /// Elements set aside for each table in the pool; the most that one can have.
    pub table_elements: usize,
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
    pub fn new(config: EngineConfig) -> Result<Self, wasmtime::Error> {
        let baseline = baseline_engine(config.compile);
        let pooled = match config.allocation {
            Allocation::Auto => {
                wasmtime::Engine::new(optimising().allocation_strategy(pool(&config)))
                    .inspect_err(|error| {
                        tracing::info!("plugins run without a memory pool: {error:#}");
                    })
                    .ok()
            }
            Allocation::OnDemand => None,
        };
        let pooling = pooled.is_some();
        let optimising = match pooled {
            Some(engine) => engine,
            None => wasmtime::Engine::new(&optimising())?,
        };
        let engines = [Some(optimising.weak()), baseline.as_ref().map(wasmtime::Engine::weak)];
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
        optimising.precompile_compatibility_hash().hash(&mut hasher);
        let compatibility = format!("{:016x}", hasher.finish());
        let load = Load::default();
        let children = Children::new(config.compile);
        let inner = Inner { optimising, baseline, children, compatibility, pooling, load };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Keeps a compiler ready from now on, so that the next file does not wait for one to start. To be called
    /// in a runtime.
    pub fn prepare(&self) {
        self.inner.children.prepare();
    }

    /// The compilers.
    pub(crate) fn children(&self) -> &Children {
        &self.inner.children
    }

    /// Whether instances come from a pool.
    pub fn is_pooling(&self) -> bool {
        self.inner.pooling
    }

    /// What runs the code of the compiler whose code runs fast.
    pub fn optimising(&self) -> &wasmtime::Engine {
        &self.inner.optimising
    }

    /// What runs the code of the compiler that is fast itself, where there is one.
    pub fn baseline(&self) -> Option<&wasmtime::Engine> {
        self.inner.baseline.as_ref()
    }

    /// How many calls are heavy now.
    pub fn load(&self) -> &Load {
        &self.inner.load
    }

    /// Differs between engines that cannot run each other's optimised code.
    pub(crate) fn compatibility(&self) -> &str {
        &self.inner.compatibility
    }

    /// An empty store, for code of one of the compilers, whose guest gives way at each tick and stops
    /// at its call's deadline.
    pub(crate) fn store<T: Hosted>(&self, compiled_by: &wasmtime::Engine, data: T) -> Store<T> {
        let mut store = Store::new(compiled_by, data);
        store.limiter(|data| data.memory());
        store.set_epoch_deadline(1);
        let load = self.inner.load.clone();
        store.epoch_deadline_callback(move |mut store| {
            let now = std::time::Instant::now();
            // Between calls nothing of a guest has any business running.
            let Some(pace) = store.data_mut().pace().filter(|pace| now < pace.deadline) else {
                return Ok(UpdateDeadline::Interrupt);
            };
            let rest = pace.rest(now, &load).unwrap_or_default();
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

fn pool(config: &EngineConfig) -> InstanceAllocationStrategy {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(2 * POOL_MEMORIES)
        .total_core_instances(8 * POOL_MEMORIES)
        .total_memories(POOL_MEMORIES)
        .total_tables(4 * POOL_MEMORIES)
        .total_stacks(POOL_MEMORIES)
        .max_core_instances_per_component(60)
        .max_memories_per_component(20)
        .max_tables_per_component(20)
        .max_core_instance_size(1 << 20)
        .max_component_instance_size(4 << 20)
        .max_memory_size(config.memory)
        .table_elements(config.table_elements);
    InstanceAllocationStrategy::Pooling(pool)
}
