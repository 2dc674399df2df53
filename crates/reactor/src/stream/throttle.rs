//! [`Throttle`]: so many bytes a second in one direction, and no more.

use std::num::NonZeroU64;
use std::time::{Duration, Instant};

/// A token bucket that holds a tenth of a second's worth, or one byte where
/// that takes longer: so the average is kept over any longer time, and what is
/// moved at once stays worth a system call.
pub(crate) struct Throttle {
    per_second: NonZeroU64,
    /// From when on the bucket has been filling; `None` for long enough. Ahead
    /// of the present by as long as the rate takes for what was moved too
    /// early.
    empty_at: Option<Instant>,
    /// Nothing may be moved until [`ready_at`](Self::ready_at).
    holds: bool,
}

impl Throttle {
    const BURST: Duration = Duration::from_millis(100);

    pub(crate) fn new(per_second: NonZeroU64) -> Self {
        Throttle { per_second, empty_at: None, holds: false }
    }

    /// How many bytes may be moved at `now`. Where that is none, it holds
    /// from here on.
    pub(crate) fn allowance(&mut self, now: Instant) -> usize {
        let burst = self.one_byte().max(Self::BURST);
        let filling = self.empty_at.map_or(burst, |at| now.saturating_duration_since(at));
        let bytes = filling.min(burst).as_nanos() * u128::from(self.per_second.get());
        let bytes = usize::try_from(bytes / 1_000_000_000).unwrap_or(usize::MAX);
        self.holds = bytes == 0;
        bytes
    }

    /// Counts bytes that were moved.
    pub(crate) fn spend(&mut self, bytes: usize, now: Instant) {
        let took = bytes as u128 * 1_000_000_000 / u128::from(self.per_second.get());
        let took = Duration::from_nanos(u64::try_from(took).unwrap_or(u64::MAX));
        let full_at = now.checked_sub(self.one_byte().max(Self::BURST)).unwrap_or(now);
        let from = self.empty_at.map_or(full_at, |at| at.max(full_at));
        self.empty_at = Some(from.checked_add(took).unwrap_or(from));
        // Empty: waits until there is enough again to be worth a system call.
        self.allowance(now);
    }

    /// Whether nothing may be moved for now.
    pub(crate) fn holds(&self) -> bool {
        self.holds
    }

    /// Lets go, if `now` is the time.
    pub(crate) fn look(&mut self, now: Instant) {
        self.holds &= self.ready_at().is_some_and(|at| at > now);
    }

    /// While it holds: when there will be enough to be worth moving, half a
    /// burst, or one byte where that takes longer.
    pub(crate) fn ready_at(&self) -> Option<Instant> {
        self.empty_at.filter(|_| self.holds)?.checked_add(self.one_byte().max(Self::BURST / 2))
    }

    /// How long a byte takes, rounded up.
    fn one_byte(&self) -> Duration {
        Duration::from_nanos(1_000_000_000 / self.per_second + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn throttle(per_second: u64) -> Throttle {
        Throttle::new(NonZeroU64::new(per_second).unwrap())
    }

    /// Moves what it may, whenever it may, for `seconds`.
    fn moved(per_second: u64, seconds: u64) -> u64 {
        let mut throttle = throttle(per_second);
        let mut total = 0;
        let start = Instant::now();
        let mut now = start;
        while now < start + Duration::from_secs(seconds) {
            match throttle.allowance(now) {
                0 => {
                    assert!(throttle.holds());
                    now = throttle.ready_at().unwrap();
                    throttle.look(now.checked_sub(Duration::from_nanos(1)).unwrap());
                    assert!(throttle.holds(), "too early");
                    throttle.look(now);
                    assert!(!throttle.holds());
                }
                allowed => {
                    throttle.spend(allowed, now);
                    total += allowed as u64;
                }
            }
        }
        total
    }

    #[test]
    fn the_average_is_kept() {
        for per_second in [1, 7, 1_000, 1_234_567, 10_000_000_000] {
            let total = moved(per_second, 10);
            let wanted = 10 * per_second;
            assert!(total <= wanted + per_second / 10 + 1, "{total} of {wanted}");
            assert!(total >= wanted - per_second / 5 - 1, "{total} of {wanted}");
        }
    }

    #[test]
    fn a_pause_saves_up_no_more_than_a_burst() {
        let mut rate = throttle(1_000);
        let start = Instant::now();
        rate.spend(1, start);
        let later = start + Duration::from_secs(3600);
        assert_eq!(rate.allowance(later), 100);
        rate.spend(100, later);
        assert_eq!(rate.allowance(later), 0);
        assert_eq!(rate.allowance(later + Duration::from_millis(10)), 10);
    }

    #[test]
    fn what_was_moved_too_early_is_waited_for() {
        let mut rate = throttle(1_000);
        let start = Instant::now();
        rate.spend(2_000, start);
        let early = start + Duration::from_millis(1_900);
        assert_eq!(rate.allowance(early), 0);
        assert!(rate.ready_at().unwrap() > early);
    }
}
