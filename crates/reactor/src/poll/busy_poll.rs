//! [`BusyPoll`]: looking again and again before going to sleep.

use std::time::{Duration, Instant};

/// After so many looks in vain, one after another, it gives up.
const PATIENCE: u32 = 4;

/// Whether to poll without blocking for a while before a wait that blocks.
///
/// It pays where the next event comes within that while: the thread need not be
/// woken. Where it did not come several times, that is given up, until a wait
/// that blocked shows that it would have paid.
#[derive(Default)]
pub(crate) struct BusyPoll {
    limit: Duration,
    in_vain: u32,
}

impl BusyPoll {
    pub(crate) fn new(limit: Duration) -> Self {
        BusyPoll { limit, in_vain: 0 }
    }

    pub(crate) fn limit(&self) -> Duration {
        self.limit
    }

    pub(crate) fn is_off(&self) -> bool {
        self.limit.is_zero()
    }

    /// Whether to try.
    pub(crate) fn begins(&self) -> bool {
        self.in_vain < PATIENCE && !self.is_off()
    }

    /// An event came in time.
    pub(crate) fn paid(&mut self) {
        self.in_vain = 0;
    }

    /// None came.
    pub(crate) fn wasted(&mut self) {
        self.in_vain += 1;
    }

    /// A wait that `began` then, blocking in the end, brought an event.
    pub(crate) fn slept(&mut self, began: Instant) {
        if !self.is_off() && began.elapsed() < self.limit {
            self.in_vain = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_gives_up_when_it_does_not_pay_and_comes_back_when_it_would() {
        let mut busy = BusyPoll::new(Duration::from_secs(3600));
        for _ in 0..PATIENCE {
            assert!(busy.begins());
            busy.wasted();
        }
        assert!(!busy.begins());
        busy.slept(Instant::now());
        assert!(busy.begins(), "an event came soon after all");
        busy.wasted();
        busy.paid();
        assert_eq!(busy.in_vain, 0);
        assert!(!BusyPoll::default().begins(), "not unless it was asked for");
    }
}
