//! The instances of one component.
//!
//! **Reuse.** An instance that served a call without a fault is kept and serves the next; its guest may
//! keep state between calls, and must not rely on it. After any fault (a trap, a timeout, a caller
//! that went away in the middle) the instance is dropped: nobody knows what its memory holds.
//!
//! **Better code.** When the component has been compiled anew ([`Pool::replace`]), new instances are
//! made of the new code, calls under way end as they began, and the instances that they leave behind
//! are dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use wasmtime::Store;

use crate::engine::Engine;
use crate::hosted::Hosted;
use crate::limits::PoolLimits;
use crate::memory::Memory;

/// A compiled component whose imports are resolved.
pub trait Code: Send + Sync + 'static {
    /// What the store of an instance holds.
    type Data: Hosted;
    /// The exports of an instance.
    type Guest: Send + Sync;

    /// The engine that the code was compiled for.
    fn engine(&self) -> &wasmtime::Engine;

    /// Makes an instance.
    fn instantiate(
        &self,
        store: &mut Store<Self::Data>,
    ) -> impl Future<Output = wasmtime::Result<Self::Guest>> + Send;
}

/// The instances of one component.
pub struct Pool<C: Code> {
    engine: Engine,
    code: ArcSwap<C>,
    limits: PoolLimits,
    // A blocking lock and not an async one: it is held for a push or a pop, never across an await.
    idle: Mutex<Vec<Idle<C>>>,
    memory: Arc<AtomicUsize>,
}

struct Idle<C: Code> {
    instance: Instance<C>,
    since: Instant,
}

/// A guest with its memory, between calls or in one. Dropped, it is gone; [`Pool::keep`] keeps it.
pub struct Instance<C: Code> {
    /// What the host holds for it.
    pub store: Store<C::Data>,
    /// None until its first call.
    guest: Option<C::Guest>,
    code: Arc<C>,
    calls: u64,
}

impl<C: Code> Instance<C> {
    /// The guest and its store. The first call of an instance makes its guest, and runs for it under the
    /// call's own limits.
    pub async fn guest(&mut self) -> wasmtime::Result<(&C::Guest, &mut Store<C::Data>)> {
        let guest = match self.guest.take() {
            Some(guest) => guest,
            None => self.code.instantiate(&mut self.store).await?,
        };
        Ok((self.guest.insert(guest), &mut self.store))
    }
}

impl<C: Code> Pool<C> {
    /// A pool without instances.
    pub fn new(engine: Engine, code: C, limits: PoolLimits) -> Self {
        let code = ArcSwap::from_pointee(code);
        Self { engine, code, limits, idle: Mutex::default(), memory: Arc::default() }
    }

    /// Goes on with other code of the same component.
    pub fn replace(&self, code: C) {
        self.code.store(Arc::new(code));
        self.clear();
    }

    /// Drops all idle instances.
    pub fn clear(&self) {
        self.idle.lock().clear();
    }

    /// Drops instances that nobody has used for long.
    pub fn trim(&self) {
        let keep = self.limits.idle;
        self.idle.lock().retain(|idle| idle.since.elapsed() < keep);
    }

    /// Bytes of linear memory that all instances have now.
    pub fn memory(&self) -> usize {
        self.memory.load(Ordering::Relaxed)
    }

    /// An instance that has served before, if one is idle.
    pub fn warm(&self) -> Option<Instance<C>> {
        let mut instance = self.idle.lock().pop()?.instance;
        // The epoch has moved on while it was idle; without this its first step would yield.
        instance.store.set_epoch_deadline(1);
        Some(instance)
    }

    /// A new instance, whose guest the first call makes.
    pub fn blank(&self, data: impl FnOnce(Memory) -> C::Data) -> Instance<C> {
        let code = self.code.load_full();
        let data = data(Memory::new(&self.limits, self.memory.clone()));
        let mut store = self.engine.store(code.engine(), data);
        store.set_hostcall_fuel(self.limits.transfer);
        Instance { store, guest: None, code, calls: 0 }
    }

    /// Keeps an instance for the next call, if it is worth keeping.
    pub fn keep(&self, mut instance: Instance<C>) {
        instance.calls += 1;
        let worn = instance.calls >= self.limits.reuses
            || instance.store.data_mut().memory().used() > self.limits.warm_memory;
        if worn {
            return;
        }
        let mut idle = self.idle.lock();
        // Compared under the lock, so that no instance of the old code slips in after they were cleared.
        let current = Arc::ptr_eq(&instance.code, &self.code.load());
        if current && idle.len() < self.limits.warm {
            idle.push(Idle { instance, since: Instant::now() });
        }
    }
}
