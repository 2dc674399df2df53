//! Pauses between attempts that fail: [`Pauses`], and [`Backoff`] for a channel.

use std::time::{Duration, Instant};

/// The lengths of pauses: each is twice as long as the one before, up to a maximum.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pauses {
    min: Duration,
    max: Duration,
    next: Duration,
}

impl Pauses {
    pub(crate) const fn new(min: Duration, max: Duration) -> Self {
        Pauses { min, max, next: min }
    }

    /// Returns the length of this pause, and doubles that of the next one.
    pub(crate) fn advance(&mut self) -> Duration {
        let pause = self.next.min(self.max);
        self.next = pause.saturating_mul(2);
        pause
    }

    /// Records a success: the next pause is a short one.
    pub(crate) fn reset(&mut self) {
        self.next = self.min;
    }
}

/// Shortens `pause` by up to a half: by that half times `fraction`, a number from 0 to 1.
/// If it is random, clients of one server do not all return at once. This is the "equal
/// jitter" of the AWS Architecture Blog, "Exponential Backoff And Jitter".
pub(crate) fn shorten(pause: Duration, fraction: f64) -> Duration {
    pause.saturating_sub((pause / 2).mul_f64(fraction))
}

/// Pauses a channel after an error that may pass, longer each time until it succeeds.
pub(crate) struct Backoff {
    until: Option<Instant>,
    pauses: Pauses,
}

impl Default for Backoff {
    fn default() -> Self {
        let pauses = Pauses::new(Duration::from_millis(10), Duration::from_secs(1));
        Backoff { until: None, pauses }
    }
}

impl Backoff {
    /// Returns when the pause ends, or `None` if there is none.
    pub(crate) fn until(&self) -> Option<Instant> {
        self.until
    }

    /// Starts a pause.
    pub(crate) fn start(&mut self, now: Instant) {
        self.until = now.checked_add(self.pauses.advance());
    }

    /// Ends the pause; the next one is longer.
    pub(crate) fn end(&mut self) {
        self.until = None;
    }

    /// Records a success: the next pause is a short one.
    pub(crate) fn reset(&mut self) {
        self.pauses.reset();
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

    #[test]
    fn pauses_stay_in_their_range() {
        let mut pauses = Pauses::new(Duration::from_secs(1), Duration::MAX);
        assert!((0..100).map(|_| pauses.advance()).is_sorted());
        assert_eq!(pauses.advance(), Duration::MAX);
        // A minimum above the maximum.
        let mut pauses = Pauses::new(Duration::from_secs(2), Duration::from_secs(1));
        assert_eq!(pauses.advance(), Duration::from_secs(1));
        // No pauses.
        let mut pauses = Pauses::new(Duration::ZERO, Duration::from_secs(1));
        assert_eq!([pauses.advance(), pauses.advance()], [Duration::ZERO; 2]);
    }

    #[test]
    fn pauses_are_shortened_by_up_to_half() {
        let pause = Duration::from_millis(100);
        let shortened = [0.0, 0.5, 1.0].map(|fraction| shorten(pause, fraction).as_millis());
        assert_eq!(shortened, [100, 75, 50]);
        assert!(shorten(Duration::MAX, 1.0) >= Duration::MAX / 2);
        assert_eq!(shorten(Duration::ZERO, 1.0), Duration::ZERO);
    }
}
