//! The monotonic clock.

use std::time::Instant;

/// Reads the monotonic clock. It is the only place that does, outside of tests:
/// `scripts/architecture.py` rejects others.
pub(crate) fn now() -> Instant {
    Instant::now()
}
