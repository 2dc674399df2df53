//! [`Record`]: what is measured.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

/// What the connections of one thread measured, or of all threads after
/// [`merge`](Self::merge).
pub(crate) struct Record {
    phase: Phase,
    /// In nanoseconds, one value for each reply.
    latency: Histogram<u64>,
    messages: u64,
    connections: u64,
    errors: BTreeMap<String, u64>,
}

/// State machine for a run: `WarmUp` → `Measuring` → `Finished`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Messages are sent and not recorded.
    WarmUp,
    /// Messages are sent and recorded.
    Measuring { since: Instant },
    /// No more messages are sent. Late replies count in the latency.
    Finished { since: Instant, until: Instant },
}

impl Phase {
    /// Returns the phase that covers both, for threads that ran at the same
    /// time.
    fn union(self, other: Self) -> Self {
        use Phase::{Finished, Measuring, WarmUp};
        match (self, other) {
            (WarmUp, phase) | (phase, WarmUp) => phase,
            (Measuring { since: a }, Measuring { since: b }) => Measuring { since: a.min(b) },
            (Measuring { since: a }, Finished { since: b, until })
            | (Finished { since: a, until }, Measuring { since: b }) => {
                Finished { since: a.min(b), until }
            }
            (Finished { since: a, until: c }, Finished { since: b, until: d }) => {
                Finished { since: a.min(b), until: c.max(d) }
            }
        }
    }
}

impl Record {
    /// Creates an empty record in the warm-up phase.
    pub(crate) fn new() -> anyhow::Result<Self> {
        Ok(Record {
            phase: Phase::WarmUp,
            // From a nanosecond to a minute, with three significant digits.
            latency: Histogram::new_with_bounds(1, 60_000_000_000, 3)?,
            messages: 0,
            connections: 0,
            errors: BTreeMap::new(),
        })
    }

    /// Starts the measurement, unless the run has ended. Connections are counted
    /// from zero again.
    pub(crate) fn start_measuring(&mut self, now: Instant) {
        if self.is_finished() {
            return;
        }
        self.phase = Phase::Measuring { since: now };
        self.connections = 0;
    }

    /// Ends the measurement, unless it has ended.
    pub(crate) fn finish(&mut self, now: Instant) {
        let since = match self.phase {
            Phase::WarmUp => now,
            Phase::Measuring { since } => since,
            Phase::Finished { .. } => return,
        };
        self.phase = Phase::Finished { since, until: now };
    }

    /// Counts a connection that was established.
    pub(crate) fn record_connection(&mut self) {
        self.connections += 1;
    }

    /// Records a complete reply.
    ///
    /// A reply after the end of the measurement is not counted as a message,
    /// but its latency is recorded: otherwise a server that stops shortly
    /// before the end would not be noticed.
    pub(crate) fn record_reply(&mut self, sent_at: Instant, now: Instant) {
        match self.phase {
            Phase::WarmUp => return,
            Phase::Measuring { .. } => self.messages += 1,
            Phase::Finished { .. } => {}
        }
        let latency = now.saturating_duration_since(sent_at).as_nanos();
        self.latency.saturating_record(u64::try_from(latency).unwrap_or(u64::MAX));
    }

    /// Counts an error by its text.
    pub(crate) fn record_error(&mut self, error: impl Into<String>) {
        *self.errors.entry(error.into()).or_default() += 1;
    }

    /// Adds the record of another thread that ran at the same time.
    ///
    /// # Errors
    ///
    /// Returns an error if the latencies cannot be added.
    pub(crate) fn merge(&mut self, other: Record) -> anyhow::Result<()> {
        self.phase = self.phase.union(other.phase);
        self.latency.add(other.latency)?;
        self.messages += other.messages;
        self.connections += other.connections;
        for (error, count) in other.errors {
            *self.errors.entry(error).or_default() += count;
        }
        Ok(())
    }

    /// Returns `true` if no more messages are to be sent.
    pub(crate) fn is_finished(&self) -> bool {
        matches!(self.phase, Phase::Finished { .. })
    }

    /// Returns `true` if there were replies and no errors.
    pub(crate) fn is_success(&self) -> bool {
        self.errors.is_empty() && self.messages > 0
    }

    /// Returns the duration of the measurement, or zero before its end.
    pub(crate) fn elapsed(&self) -> Duration {
        match self.phase {
            Phase::Finished { since, until } => until.duration_since(since),
            Phase::WarmUp | Phase::Measuring { .. } => Duration::ZERO,
        }
    }

    /// Returns the latency of each reply, in nanoseconds.
    pub(crate) fn latency(&self) -> &Histogram<u64> {
        &self.latency
    }

    /// Returns the number of replies during the measurement.
    pub(crate) fn messages(&self) -> u64 {
        self.messages
    }

    /// Returns the number of connections established during the measurement, or
    /// before it since the start.
    pub(crate) fn connections(&self) -> u64 {
        self.connections
    }

    /// Returns the text and count of each kind of error.
    pub(crate) fn errors(&self) -> &BTreeMap<String, u64> {
        &self.errors
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn reply_counts_as_its_phase_requires() {
        let start = Instant::now();
        let mut record = Record::new().unwrap();
        let counts = |record: &Record| (record.messages(), record.latency().len());
        record.record_reply(start, start + SECOND);
        assert_eq!(counts(&record), (0, 0), "warm-up");
        record.start_measuring(start + SECOND);
        record.record_reply(start, start + SECOND);
        assert_eq!(counts(&record), (1, 1), "measuring");
        assert!(!record.is_finished());
        record.finish(start + 3 * SECOND);
        record.record_reply(start, start + 4 * SECOND);
        assert_eq!(counts(&record), (1, 2), "finished");
        assert!(record.is_finished());
        assert_eq!(record.elapsed(), 2 * SECOND);
    }

    #[test]
    fn merged_measurement_covers_both_threads() {
        let start = Instant::now();
        let mut merged = Record::new().unwrap();
        for (since, until) in [(2, 5), (1, 4)] {
            let mut record = Record::new().unwrap();
            record.start_measuring(start + since * SECOND);
            record.finish(start + until * SECOND);
            record.record_error("reset");
            merged.merge(record).unwrap();
        }
        assert_eq!(merged.elapsed(), 4 * SECOND);
        assert_eq!(merged.errors()["reset"], 2);
        assert!(!merged.is_success());
    }
}
