//! [`Moment`]: an instant, in half the room of an [`Instant`].

use std::num::NonZeroU64;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

/// Nanoseconds since [`EPOCH`], and one: never zero, so that an `Option` takes no
/// more room, and good for 584 years. What lies before counts as that, so it is in
/// the past in any case; what lies beyond comes as late as can be said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Moment(NonZeroU64);

/// When the first reactor of this process was made. One for all of them: a moment
/// means the same wherever it is kept.
static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

impl Moment {
    /// Fixes what moments are counted from, unless that is done.
    pub(crate) fn begin() {
        LazyLock::force(&EPOCH);
    }

    pub(crate) fn instant(self) -> Instant {
        *EPOCH + Duration::from_nanos(self.0.get() - 1)
    }
}

impl From<Instant> for Moment {
    fn from(at: Instant) -> Self {
        let since = at.saturating_duration_since(*EPOCH).as_nanos();
        let since = u64::try_from(since).unwrap_or(u64::MAX);
        Moment(NonZeroU64::MIN.saturating_add(since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_instant_again_to_the_nanosecond() {
        let now = *EPOCH;
        for after in [0, 1, 999_999_999, 1_000_000_001, 86_400_000_000_007] {
            let at = now + Duration::from_nanos(after);
            assert_eq!(Moment::from(at).instant(), at);
        }
    }

    #[test]
    fn order_stays() {
        let now = *EPOCH;
        assert!(Moment::from(now) < Moment::from(now + Duration::from_nanos(1)));
    }

    #[test]
    fn what_lies_beyond_its_range_is_as_far_as_it_goes() {
        let first = Moment::from(Instant::now());
        if let Some(early) = Instant::now().checked_sub(Duration::from_secs(3600)) {
            assert!(Moment::from(early) <= first);
        }
        if let Some(late) = Instant::now().checked_add(Duration::from_secs(1000 * 365 * 86_400)) {
            assert!(Moment::from(late) > first);
            assert!(Moment::from(late).instant() < late);
        }
    }
}
