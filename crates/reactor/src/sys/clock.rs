//! The monotonic clock.

use std::time::Instant;

/// Reads the monotonic clock. It is the only place that does, outside of tests:
/// `scripts/architecture.py` rejects others.
pub(crate) fn now() -> Instant {
    #[cfg(all(unix, feature = "sim"))]
    if let Some(kernel) = crate::sys::kernel::current() {
        return kernel.now();
    }
    Instant::now()
}
