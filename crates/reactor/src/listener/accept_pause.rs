//! [`AcceptPause`]: the pause after accept(2) failed.

use std::time::{Duration, Instant};

use crate::listener::rate_limited_log::RateLimitedLog;

/// The first pause; each further one is twice as long, up to [`MAX_PAUSE`].
const MIN_PAUSE: Duration = Duration::from_millis(10);

const MAX_PAUSE: Duration = Duration::from_secs(1);

/// Pauses accepting after an error that may pass, longer each time until a connection
/// is accepted.
pub(super) struct AcceptPause {
    until: Option<Instant>,
    next: Duration,
    log: RateLimitedLog,
}

impl Default for AcceptPause {
    fn default() -> Self {
        AcceptPause { until: None, next: MIN_PAUSE, log: RateLimitedLog::default() }
    }
}

impl AcceptPause {
    /// Returns when the pause ends, or `None` if there is none.
    pub(super) fn until(&self) -> Option<Instant> {
        self.until
    }

    /// Starts a pause, and calls `log` with the number of pauses if the last message is
    /// old enough.
    pub(super) fn start(&mut self, now: Instant, log: impl FnOnce(u64)) {
        self.until = now.checked_add(self.next);
        self.next = (2 * self.next).min(MAX_PAUSE);
        self.log.record(now, log);
    }

    /// Ends the pause. The next one is longer.
    pub(super) fn end(&mut self) {
        self.until = None;
    }

    /// Records that a connection was accepted: the next pause is a short one.
    pub(super) fn reset(&mut self) {
        self.next = MIN_PAUSE;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_until_a_connection_is_accepted() {
        let mut pause = AcceptPause::default();
        let now = Instant::now();
        let mut logged = 0;
        let mut next = |pause: &mut AcceptPause| {
            pause.start(now, |_| logged += 1);
            let millis = pause.until().unwrap().duration_since(now).as_millis();
            pause.end();
            assert_eq!(pause.until(), None);
            millis
        };
        let pauses: Vec<_> = (0..10).map(|_| next(&mut pause)).collect();
        assert_eq!(pauses, [10, 20, 40, 80, 160, 320, 640, 1000, 1000, 1000]);
        pause.reset();
        assert_eq!(next(&mut pause), 10);
        assert_eq!(logged, 1, "all within one second");
    }
}
