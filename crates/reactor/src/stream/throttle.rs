//! [`Throttle`]: limits the bytes per second in one direction.

use std::num::NonZeroU64;
use std::time::{Duration, Instant};

/// A token bucket for a tenth of a second, or for one byte if that takes longer. The
/// average is kept over any longer time, and system calls for a few bytes are avoided.
pub(super) struct Throttle {
    bytes_per_second: NonZeroU64,
    /// When the bucket started to fill; `None` if it is full. It is in the future if
    /// more was moved than was available.
    filling_since: Option<Instant>,
    /// Nothing may be moved until [`ready_at`](Self::ready_at).
    blocked: bool,
}

impl Throttle {
    const BURST: Duration = Duration::from_millis(100);

    pub(super) fn new(bytes_per_second: NonZeroU64) -> Self {
        Throttle { bytes_per_second, filling_since: None, blocked: false }
    }

    /// Returns how many bytes may be moved at `now`.
    pub(super) fn available(&self, now: Instant) -> usize {
        let burst = self.byte_interval().max(Self::BURST);
        let filling = self.filling_since.map_or(burst, |at| now.saturating_duration_since(at));
        let bytes = filling.min(burst).as_nanos() * u128::from(self.bytes_per_second.get());
        usize::try_from(bytes / 1_000_000_000).unwrap_or(usize::MAX)
    }

    /// Blocks if no byte may be moved at `now`, until
    /// [`ready_at`](Self::ready_at).
    pub(super) fn block_if_empty(&mut self, now: Instant) {
        self.blocked = self.available(now) == 0;
    }

    /// Counts bytes that were moved.
    pub(super) fn consume(&mut self, bytes: usize, now: Instant) {
        let took = bytes as u128 * 1_000_000_000 / u128::from(self.bytes_per_second.get());
        let took = Duration::from_nanos(u64::try_from(took).unwrap_or(u64::MAX));
        let full_at = now.checked_sub(self.byte_interval().max(Self::BURST)).unwrap_or(now);
        let from = self.filling_since.map_or(full_at, |at| at.max(full_at));
        self.filling_since = Some(from.checked_add(took).unwrap_or(from));
        self.block_if_empty(now);
    }

    pub(super) fn is_blocked(&self) -> bool {
        self.blocked
    }

    /// Unblocks if `now` is the time.
    pub(super) fn release_if_due(&mut self, now: Instant) {
        self.blocked &= self.ready_at().is_some_and(|at| at > now);
    }

    /// While it is blocked, returns when half a burst is available, or one byte if that
    /// takes longer.
    pub(super) fn ready_at(&self) -> Option<Instant> {
        let wait = self.byte_interval().max(Self::BURST / 2);
        self.filling_since.filter(|_| self.blocked)?.checked_add(wait)
    }

    /// Returns how long a byte takes, rounded up.
    fn byte_interval(&self) -> Duration {
        Duration::from_nanos(1_000_000_000 / self.bytes_per_second + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn throttle(per_second: u64) -> Throttle {
        Throttle::new(NonZeroU64::new(per_second).unwrap())
    }

    /// Returns how many bytes are moved in `seconds`.
    fn moved(per_second: u64, seconds: u64) -> u64 {
        let mut throttle = throttle(per_second);
        let mut total = 0;
        let start = Instant::now();
        let mut now = start;
        while now < start + Duration::from_secs(seconds) {
            match throttle.available(now) {
                0 => {
                    throttle.block_if_empty(now);
                    assert!(throttle.is_blocked());
                    now = throttle.ready_at().unwrap();
                    throttle.release_if_due(now.checked_sub(Duration::from_nanos(1)).unwrap());
                    assert!(throttle.is_blocked(), "too early");
                    throttle.release_if_due(now);
                    assert!(!throttle.is_blocked());
                }
                allowed => {
                    throttle.consume(allowed, now);
                    total += allowed as u64;
                }
            }
        }
        total
    }

    #[test]
    fn average_is_kept() {
        for per_second in [1, 7, 1_000, 1_234_567, 10_000_000_000] {
            let total = moved(per_second, 10);
            let wanted = 10 * per_second;
            assert!(total <= wanted + per_second / 10 + 1, "{total} of {wanted}");
            assert!(total >= wanted - per_second / 5 - 1, "{total} of {wanted}");
        }
    }

    #[test]
    fn pause_accumulates_at_most_a_burst() {
        let mut rate = throttle(1_000);
        let start = Instant::now();
        rate.consume(1, start);
        let later = start + Duration::from_secs(3600);
        assert_eq!(rate.available(later), 100);
        rate.consume(100, later);
        assert_eq!(rate.available(later), 0);
        assert_eq!(rate.available(later + Duration::from_millis(10)), 10);
    }

    #[test]
    fn excess_is_waited_for() {
        let mut rate = throttle(1_000);
        let start = Instant::now();
        rate.consume(2_000, start);
        let early = start + Duration::from_millis(1_900);
        assert_eq!(rate.available(early), 0);
        assert!(rate.ready_at().unwrap() > early);
    }
}
