//! [`RateLimitedLog`]: a rate-limited log message.

use std::time::{Duration, Instant};

/// Something that may happen thousands of times a second, and is logged at most once a
/// second.
#[derive(Default)]
pub(super) struct RateLimitedLog {
    count: u64,
    logged_at: Option<Instant>,
}

impl RateLimitedLog {
    const INTERVAL: Duration = Duration::from_secs(1);

    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Counts one occurrence, and calls `log` with the count if the last message is old
    /// enough.
    pub(super) fn record(&mut self, now: Instant, log: impl FnOnce(u64)) {
        self.count += 1;
        if self.logged_at.is_none_or(|at| now.saturating_duration_since(at) >= Self::INTERVAL) {
            self.logged_at = Some(now);
            log(self.count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_most_one_message_per_interval_is_logged() {
        let mut log = RateLimitedLog::default();
        let start = Instant::now();
        let mut logged = Vec::new();
        for millis in [0, 1, 999, 1_000, 1_001, 2_000] {
            log.record(start + Duration::from_millis(millis), |count| logged.push((millis, count)));
        }
        assert_eq!(logged, [(0, 1), (1_000, 4), (2_000, 6)]);
        assert_eq!(log.count(), 6);
    }
}
