//! An allocator that counts the bytes that each thread holds.
//!
//! A script's strings, arrays and maps live in the server's memory. The interpreter limits each
//! value but not their sum, and the system's figures do not tell who owns what. But a script runs
//! on one thread from its first step to its last, so what that thread has allocated and not freed
//! is what the script holds. Counting costs one addition for each allocation.
//!
//! A binary that serves scripts installs it:
//!
//! ```
//! #[global_allocator]
//! static ALLOCATOR: host_plugins::Metered = host_plugins::Metered(std::alloc::System);
//! ```
//!
//! Without it, scripts still have all other limits.

#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    // Const-initialised and without a destructor, so that using it neither allocates nor fails.
    static HELD: Cell<isize> = const { Cell::new(0) };
}

/// A counting allocator. See the module's documentation.
pub struct Metered<A = System>(pub A);

/// Bytes that this thread has allocated and not freed; negative if it freed what other threads
/// allocated.
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
