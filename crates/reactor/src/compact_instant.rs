//! [`CompactInstant`]: a monotonic timestamp in 8 bytes.

use std::num::NonZeroU64;
use std::time::{Duration, Instant};

/// Nanoseconds since the epoch of one reactor, plus one: never zero, so that an
/// `Option` takes no more space. The range is 584 years. Earlier instants become
/// the epoch, later ones the end of the range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct CompactInstant(NonZeroU64);

impl CompactInstant {
    pub(crate) fn new(epoch: Instant, at: Instant) -> Self {
        let nanos = at.saturating_duration_since(epoch).as_nanos();
        let nanos = u64::try_from(nanos).unwrap_or(u64::MAX);
        CompactInstant(NonZeroU64::MIN.saturating_add(nanos))
    }

    pub(crate) fn to_instant(self, epoch: Instant) -> Instant {
        epoch + Duration::from_nanos(self.0.get() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_exact_to_the_nanosecond() {
        let epoch = Instant::now();
        for nanos in [0, 1, 999_999_999, 1_000_000_001, 86_400_000_000_007] {
            let at = epoch + Duration::from_nanos(nanos);
            assert_eq!(CompactInstant::new(epoch, at).to_instant(epoch), at);
        }
    }

    #[test]
    fn order_is_preserved() {
        let epoch = Instant::now();
        let compact = |nanos| CompactInstant::new(epoch, epoch + Duration::from_nanos(nanos));
        assert!(compact(0) < compact(1));
    }

    #[test]
    fn out_of_range_instants_saturate() {
        let epoch = Instant::now();
        if let Some(early) = epoch.checked_sub(Duration::from_secs(3600)) {
            assert_eq!(CompactInstant::new(epoch, early), CompactInstant::new(epoch, epoch));
        }
        if let Some(late) = epoch.checked_add(Duration::from_secs(1000 * 365 * 86_400)) {
            let compact = CompactInstant::new(epoch, late);
            assert!(compact > CompactInstant::new(epoch, epoch));
            assert!(compact.to_instant(epoch) < late);
        }
    }
}
