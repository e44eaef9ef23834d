//! An allocator that counts, for each thread, the bytes that it holds.
//!
//! A script's strings, arrays and maps live in the memory of the server. The interpreter bounds each
//! value and not all of them together, and asking the system how much is used says nothing about
//! whose it is. But a script runs on a thread of its own from its first step to its last, so what
//! that thread allocates and has not freed is what the script holds. Counting it costs an addition
//! for each allocation.
//!
//! A binary that serves scripts installs it:
//!
//! ```
//! #[global_allocator]
//! static ALLOCATOR: host_plugins::Metered = host_plugins::Metered(std::alloc::System);
//! ```
//!
//! Without it, scripts still have all their other limits.

#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    // Made at compile time and without a destructor, so using it neither allocates nor fails.
    static HELD: Cell<isize> = const { Cell::new(0) };
}

/// An allocator, counting. See the module's text.
pub struct Metered<A = System>(pub A);

/// Bytes that this thread allocated and did not free; below zero when it freed what others allocated.
pub(crate) fn held() -> isize {
    HELD.get()
}

fn count(bytes: usize) {
    HELD.set(HELD.get().wrapping_add_unsigned(bytes));
}

fn uncount(bytes: usize) {
    HELD.set(HELD.get().wrapping_sub_unsigned(bytes));
}

// SAFETY: every call is passed on unchanged to an allocator that keeps the contract; counting touches
// nothing but a number of this thread.
unsafe impl<A: GlobalAlloc> GlobalAlloc for Metered<A> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller's promise is the one that is asked for.
        unsafe { self.0.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        uncount(layout.size());
        // SAFETY: as above.
        unsafe { self.0.dealloc(pointer, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: as above.
        unsafe { self.0.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        uncount(layout.size());
        count(size);
        // SAFETY: as above.
        unsafe { self.0.realloc(pointer, layout, size) }
    }
}

#[cfg(test)]
mod tests {
    use super::held;

    #[test]
    fn what_a_thread_holds_is_counted_until_it_is_freed() {
        let before = held();
        let text = vec![1u8; 1 << 20];
        assert!(held() - before >= 1 << 20);
        drop(text);
        assert!(held() - before < 1 << 16);
    }
}
