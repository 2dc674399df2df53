//! [`Complaint`]: a log line that does not become a flood.

use std::time::{Duration, Instant};

/// Something that may happen thousands of times a second, logged once a second
/// at most.
#[derive(Default)]
pub(crate) struct Complaint {
    pub(crate) count: u64,
    last: Option<Instant>,
}

impl Complaint {
    /// Counts one more, and lets `log` say so, with the count, if it is time.
    pub(crate) fn note(&mut self, now: Instant, log: impl FnOnce(u64)) {
        self.count += 1;
        if self.last.is_none_or(|last| now.duration_since(last) >= Duration::from_secs(1)) {
            self.last = Some(now);
            log(self.count);
        }
    }
}
