//! [`Record`]: what is measured.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::failure::{Failure, FailureKind};
use crate::interval::{Interval, as_nanos, histogram};

/// What the connections of one thread measured, or of all threads after
/// [`merge`](Self::merge).
pub(crate) struct Record {
    phase: Phase,
    /// In nanoseconds, one value for each reply.
    latency: Histogram<u64>,
    /// The part of `latency` and `messages` that no interval contains yet.
    current: Option<Interval>,
    /// In nanoseconds, one value for each message that was sent on schedule.
    send_delay: Histogram<u64>,
    /// In nanoseconds, one value for each connection.
    connect: Histogram<u64>,
    messages: u64,
    connections: u64,
    errors: BTreeMap<FailureKind, ErrorCount>,
}

/// The errors of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ErrorCount {
    /// How many there were.
    pub(crate) count: u64,
    /// The text of the first one.
    pub(crate) example: String,
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
            latency: histogram()?,
            current: None,
            send_delay: histogram()?,
            connect: histogram()?,
            messages: 0,
            connections: 0,
            errors: BTreeMap::new(),
        })
    }

    /// Starts the measurement, unless the run has ended. Connections are counted
    /// from zero again.
    ///
    /// # Errors
    ///
    /// Returns an error if there is no memory for an interval.
    pub(crate) fn start_measuring(&mut self, now: Instant) -> anyhow::Result<()> {
        if self.is_finished() {
            return Ok(());
        }
        self.phase = Phase::Measuring { since: now };
        self.current = Some(Interval::new(now)?);
        self.connections = 0;
        Ok(())
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

    /// Ends the current interval and returns it, if the measurement has started.
    pub(crate) fn end_interval(&mut self, now: Instant) -> Option<Interval> {
        self.current.as_mut().map(|current| current.end(now))
    }

    /// Ends the last interval and returns it, if the measurement has started and
    /// there is anything in it.
    pub(crate) fn end_last_interval(&mut self) -> Option<Interval> {
        let Phase::Finished { until, .. } = self.phase else { return None };
        let last = self.end_interval(until)?;
        (!last.is_empty()).then_some(last)
    }

    /// Records a connection that was established. The times of connections
    /// before the measurement count only if there are none during it.
    pub(crate) fn record_connection(&mut self, started_at: Instant, now: Instant) {
        if self.connections == 0 {
            self.connect.reset();
        }
        self.connections += 1;
        self.connect.saturating_record(as_nanos(now.saturating_duration_since(started_at)));
    }

    /// Records that a message was sent that was due at `due`.
    pub(crate) fn record_send(&mut self, due: Instant, now: Instant) {
        if matches!(self.phase, Phase::Measuring { .. }) {
            self.send_delay.saturating_record(as_nanos(now.saturating_duration_since(due)));
        }
    }

    /// Records a complete reply to a message that was sent, or due, at `sent_at`.
    ///
    /// A reply after the end of the measurement is not counted as a message,
    /// but its latency is recorded: otherwise a server that stops shortly
    /// before the end would not be noticed.
    pub(crate) fn record_reply(&mut self, sent_at: Instant, now: Instant) {
        let Some(current) = &mut self.current else { return };
        if matches!(self.phase, Phase::Measuring { .. }) {
            self.messages += 1;
            current.count_message();
        }
        let latency = as_nanos(now.saturating_duration_since(sent_at));
        self.latency.saturating_record(latency);
        current.record_latency(latency);
    }

    /// Counts an error by its kind.
    pub(crate) fn record_error(&mut self, failure: &Failure) {
        self.add_errors(failure.kind(), ErrorCount { count: 1, example: failure.to_string() });
    }

    fn add_errors(&mut self, kind: FailureKind, errors: ErrorCount) {
        match self.errors.get_mut(&kind) {
            Some(known) => known.count += errors.count,
            None => drop(self.errors.insert(kind, errors)),
        }
    }

    /// Adds the record of another thread that ran at the same time.
    ///
    /// # Errors
    ///
    /// Returns an error if the latencies cannot be added.
    pub(crate) fn merge(&mut self, other: Record) -> anyhow::Result<()> {
        self.phase = self.phase.union(other.phase);
        self.latency.add(other.latency)?;
        self.send_delay.add(other.send_delay)?;
        self.connect.add(other.connect)?;
        self.messages += other.messages;
        self.connections += other.connections;
        for (kind, errors) in other.errors {
            self.add_errors(kind, errors);
        }
        Ok(())
    }

    /// Returns `true` if no more messages are to be sent.
    pub(crate) fn is_finished(&self) -> bool {
        matches!(self.phase, Phase::Finished { .. })
    }

    /// Returns `true` if a message that is due at `at` is to be sent: if the run
    /// had not ended by then.
    pub(crate) fn is_due_in_time(&self, at: Instant) -> bool {
        match self.phase {
            Phase::WarmUp | Phase::Measuring { .. } => true,
            Phase::Finished { until, .. } => at < until,
        }
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

    /// Returns by how much each message was sent later than scheduled, in
    /// nanoseconds.
    pub(crate) fn send_delay(&self) -> &Histogram<u64> {
        &self.send_delay
    }

    /// Returns the time that each connection took to establish, in nanoseconds.
    pub(crate) fn connect(&self) -> &Histogram<u64> {
        &self.connect
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

    /// Returns the errors of each kind.
    pub(crate) fn errors(&self) -> &BTreeMap<FailureKind, ErrorCount> {
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
        record.start_measuring(start + SECOND).unwrap();
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
            record.start_measuring(start + since * SECOND).unwrap();
            record.finish(start + until * SECOND);
            record.record_error(&Failure::new(FailureKind::Reset, "reset by peer"));
            merged.merge(record).unwrap();
        }
        assert_eq!(merged.elapsed(), 4 * SECOND);
        let errors = ErrorCount { count: 2, example: "reset by peer".to_owned() };
        assert_eq!(merged.errors()[&FailureKind::Reset], errors);
        assert!(!merged.is_success());
    }

    #[test]
    fn interval_contains_what_came_since_the_last() {
        let start = Instant::now();
        let mut record = Record::new().unwrap();
        assert!(record.end_interval(start).is_none());
        record.start_measuring(start).unwrap();
        let mut counts = Vec::new();
        for (second, replies) in [(1, 3), (2, 0), (3, 1)] {
            for _ in 0..replies {
                record.record_reply(start, start + SECOND);
            }
            let interval = record.end_interval(start + second * SECOND).unwrap();
            assert_eq!(interval.duration(), SECOND);
            counts.push((interval.messages(), interval.latency().len()));
        }
        assert_eq!(counts, [(3, 3), (0, 0), (1, 1)]);
    }

    #[test]
    fn connect_times_are_of_the_measurement_if_it_has_any() {
        let start = Instant::now();
        let mut record = Record::new().unwrap();
        record.record_connection(start, start + SECOND);
        record.start_measuring(start).unwrap();
        assert_eq!(record.connect().len(), 1);
        for _ in 0..2 {
            record.record_connection(start, start + 2 * SECOND);
        }
        assert_eq!((record.connect().len(), record.connections()), (2, 2));
        assert!(record.connect().min() > 1_900_000_000);
    }
}
