//! [`CountingAllocator`]: how much a thread allocates.
#![allow(unsafe_code, reason = "`GlobalAlloc` is an unsafe trait")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
    static HELD: Cell<i64> = const { Cell::new(0) };
    static PEAK: Cell<i64> = const { Cell::new(0) };
}

/// The system's allocator, which counts for each thread, because the threads of the test
/// runner allocate too. For `#[global_allocator]`, in a test that is a process of its own.
pub struct CountingAllocator;

impl CountingAllocator {
    /// Returns the number of allocations of this thread.
    pub fn count() -> u64 {
        COUNT.get()
    }

    /// Returns the number of bytes that this thread has allocated minus those it has freed.
    pub fn held() -> i64 {
        HELD.get()
    }

    /// Returns the maximum of [`held`](Self::held) since [`reset_peak`](Self::reset_peak).
    pub fn peak() -> i64 {
        PEAK.get()
    }

    /// Starts a new maximum.
    pub fn reset_peak() {
        PEAK.set(HELD.get());
    }
}

#[expect(clippy::cast_possible_wrap, reason = "no allocation is that large")]
fn hold(more: usize, less: usize) {
    HELD.set(HELD.get() + more as i64 - less as i64);
    PEAK.set(PEAK.get().max(HELD.get()));
}

// SAFETY: every call is forwarded unchanged to the system allocator. The
// counters are thread-local `Cell`s, which allocate nothing.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        hold(layout.size(), 0);
        // SAFETY: the caller upholds the contract of the same method.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        hold(0, layout.size());
        // SAFETY: the caller upholds the contract of the same method.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        hold(size, layout.size());
        // SAFETY: the caller upholds the contract of the same method.
        unsafe { System.realloc(ptr, layout, size) }
    }
}
