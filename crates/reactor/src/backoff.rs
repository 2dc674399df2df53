//! [`Backoff`]: pauses between attempts that fail.

use std::time::{Duration, Instant};

/// The first pause; each further one is twice as long, up to [`MAX_PAUSE`].
const MIN_PAUSE: Duration = Duration::from_millis(10);

const MAX_PAUSE: Duration = Duration::from_secs(1);

/// Pauses a channel after an error that may pass, longer each time until it succeeds.
pub(crate) struct Backoff {
    until: Option<Instant>,
    next: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Backoff { until: None, next: MIN_PAUSE }
    }
}

impl Backoff {
    /// Returns when the pause ends, or `None` if there is none.
    pub(crate) fn until(&self) -> Option<Instant> {
        self.until
    }

    /// Starts a pause.
    pub(crate) fn start(&mut self, now: Instant) {
        self.until = now.checked_add(self.next);
        self.next = (2 * self.next).min(MAX_PAUSE);
    }

    /// Ends the pause; the next one is longer.
    pub(crate) fn end(&mut self) {
        self.until = None;
    }

    /// Records a success: the next pause is a short one.
    pub(crate) fn reset(&mut self) {
        self.next = MIN_PAUSE;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_until_a_success() {
        let mut pause = Backoff::default();
        let now = Instant::now();
        let next = |pause: &mut Backoff| {
            pause.start(now);
            let millis = pause.until().unwrap().duration_since(now).as_millis();
            pause.end();
            assert_eq!(pause.until(), None);
            millis
        };
        let pauses: Vec<_> = (0..10).map(|_| next(&mut pause)).collect();
        assert_eq!(pauses, [10, 20, 40, 80, 160, 320, 640, 1000, 1000, 1000]);
        pause.reset();
        assert_eq!(next(&mut pause), 10);
    }
}
