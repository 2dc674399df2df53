//! The monotonic clock.

use std::time::Instant;

/// Reads the monotonic clock: the only place that does.
pub(crate) fn now() -> Instant {
    Instant::now()
}
