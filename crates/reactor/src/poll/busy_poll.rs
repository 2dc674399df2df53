//! [`BusyPoll`]: decides when to poll without blocking before a wait that blocks.

use std::time::Duration;

/// Polling stops after this many misses in a row.
const MAX_MISSES: u32 = 4;

/// Decides if polling before a wait helps.
///
/// It does if the next event arrives within the limit, as the thread need not be woken
/// then. After several misses polling stops, until a blocking wait is so short that
/// polling would have been a hit.
#[derive(Default)]
pub(super) struct BusyPoll {
    limit: Duration,
    misses: u32,
}

impl BusyPoll {
    pub(super) fn new(limit: Duration) -> Self {
        BusyPoll { limit, misses: 0 }
    }

    pub(super) fn limit(&self) -> Duration {
        self.limit
    }

    pub(super) fn is_off(&self) -> bool {
        self.limit.is_zero()
    }

    pub(super) fn should_poll(&self) -> bool {
        self.misses < MAX_MISSES && !self.is_off()
    }

    /// Records that an event arrived while polling.
    pub(super) fn record_hit(&mut self) {
        self.misses = 0;
    }

    /// Records that none did.
    pub(super) fn record_miss(&mut self) {
        self.misses += 1;
    }

    /// Records that an event arrived after a wait that took `elapsed`.
    pub(super) fn record_sleep(&mut self, elapsed: Duration) {
        if !self.is_off() && elapsed < self.limit {
            self.misses = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busy_poll_backs_off_and_recovers() {
        let mut busy_poll = BusyPoll::new(Duration::from_micros(100));
        for _ in 0..MAX_MISSES {
            assert!(busy_poll.should_poll());
            busy_poll.record_miss();
        }
        assert!(!busy_poll.should_poll());
        busy_poll.record_sleep(Duration::from_micros(100));
        assert!(!busy_poll.should_poll(), "polling would have missed it too");
        busy_poll.record_sleep(Duration::from_micros(99));
        assert!(busy_poll.should_poll());
        busy_poll.record_miss();
        busy_poll.record_hit();
        assert_eq!(busy_poll.misses, 0);
        assert!(!BusyPoll::default().should_poll(), "off by default");
    }
}
