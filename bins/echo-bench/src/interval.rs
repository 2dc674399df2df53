//! [`Interval`]: what was measured in a part of the run.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

/// Creates a histogram for times from a nanosecond to a minute, with three
/// significant digits.
pub(crate) fn histogram() -> anyhow::Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, 60_000_000_000, 3)?)
}

/// Returns a time as a value of a histogram.
pub(crate) fn as_nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// The replies of one thread, or of all, between two instants.
#[derive(Clone)]
pub(crate) struct Interval {
    since: Instant,
    until: Instant,
    messages: u64,
    latency: Histogram<u64>,
}

impl Interval {
    /// Creates an interval without replies that starts at `since`.
    pub(crate) fn new(since: Instant) -> anyhow::Result<Self> {
        Ok(Interval { since, until: since, messages: 0, latency: histogram()? })
    }

    /// Counts a reply.
    pub(crate) fn count_message(&mut self) {
        self.messages += 1;
    }

    /// Records the latency of a reply.
    pub(crate) fn record_latency(&mut self, nanos: u64) {
        self.latency.saturating_record(nanos);
    }

    /// Ends the interval. What was recorded is returned, and the next interval
    /// starts.
    pub(crate) fn end(&mut self, now: Instant) -> Self {
        self.until = now;
        let ended = self.clone();
        self.since = now;
        self.messages = 0;
        self.latency.reset();
        ended
    }

    /// Adds the same interval of another thread.
    ///
    /// # Errors
    ///
    /// Returns an error if the latencies cannot be added.
    pub(crate) fn merge(&mut self, other: &Interval) -> anyhow::Result<()> {
        self.since = self.since.min(other.since);
        self.until = self.until.max(other.until);
        self.messages += other.messages;
        Ok(self.latency.add(&other.latency)?)
    }

    /// Returns `true` if there were no replies.
    pub(crate) fn is_empty(&self) -> bool {
        self.latency.is_empty()
    }

    /// Returns when the interval started.
    pub(crate) fn since(&self) -> Instant {
        self.since
    }

    /// Returns the length of the interval.
    pub(crate) fn duration(&self) -> Duration {
        self.until.duration_since(self.since)
    }

    /// Returns the number of replies.
    pub(crate) fn messages(&self) -> u64 {
        self.messages
    }

    /// Returns the latency of each reply, in nanoseconds.
    pub(crate) fn latency(&self) -> &Histogram<u64> {
        &self.latency
    }
}
