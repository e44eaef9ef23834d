//! The memory of an instance, held to its own share and to that of all instances of its plugin.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::limits::PoolLimits;

/// What one instance holds, and may hold.
pub struct Memory {
    used: usize,
    max: usize,
    max_elements: usize,
    of_all: Arc<AtomicUsize>,
    max_of_all: usize,
    refused: Option<String>,
}

impl Memory {
    /// `of_all` counts the bytes of all instances.
    pub(crate) fn new(limits: &PoolLimits, of_all: Arc<AtomicUsize>) -> Self {
        Self {
            used: 0,
            max: limits.memory,
            max_elements: limits.table_elements,
            of_all,
            max_of_all: limits.memory_of_all,
            refused: None,
        }
    }

    /// Bytes of linear memory that the instance has.
    pub fn used(&self) -> usize {
        self.used
    }

    /// Which limit the call ran into.
    pub fn refused(&self) -> Option<&str> {
        self.refused.as_deref()
    }

    /// Forgets what an earlier call ran into.
    pub fn begin(&mut self) {
        self.refused = None;
    }
}

impl wasmtime::ResourceLimiter for Memory {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let growth = desired.saturating_sub(current);
        let mib = |bytes: usize| bytes >> 20;
        if self.used.saturating_add(growth) > self.max {
            self.refused = Some(format!("an instance may use {} MiB of memory", mib(self.max)));
            return Ok(false);
        }
        let before = self.of_all.fetch_add(growth, Ordering::Relaxed);
        if before.saturating_add(growth) > self.max_of_all {
            self.of_all.fetch_sub(growth, Ordering::Relaxed);
            self.refused = Some(format!(
                "all instances of a plugin may use {} MiB of memory",
                mib(self.max_of_all)
            ));
            return Ok(false);
        }
        self.used += growth;
        Ok(true)
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let fits = desired <= self.max_elements;
        if !fits {
            self.refused = Some(format!("a table may have {} elements", self.max_elements));
        }
        Ok(fits)
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.of_all.fetch_sub(self.used, Ordering::Relaxed);
    }
}
