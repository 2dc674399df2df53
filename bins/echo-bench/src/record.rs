//! [`Record`]: what was measured.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

/// What conversations measured together: those of a thread, and in the end all.
pub(crate) struct Record {
    /// How long each message took, in nanoseconds.
    pub(crate) latency: Histogram<u64>,
    pub(crate) messages: u64,
    /// Connections that came about while it was measured.
    pub(crate) connections: u64,
    pub(crate) errors: BTreeMap<String, u64>,
    /// What is sent and received counts from here on.
    pub(crate) begun: Option<Instant>,
    /// No more is sent from here on.
    pub(crate) ended: Option<Instant>,
}

impl Record {
    pub(crate) fn new() -> anyhow::Result<Self> {
        Ok(Record {
            // A nanosecond to a minute, to three digits.
            latency: Histogram::new_with_bounds(1, 60_000_000_000, 3)?,
            messages: 0,
            connections: 0,
            errors: BTreeMap::new(),
            begun: None,
            ended: None,
        })
    }

    /// Whether messages are to be sent.
    pub(crate) fn goes_on(&self) -> bool {
        self.ended.is_none()
    }

    /// An answer is complete. Of one that comes after the end counts how long
    /// it took: else a server that stops towards the end would go unseen.
    pub(crate) fn answered(&mut self, sent: Instant, now: Instant) {
        if self.begun.is_some() {
            self.messages += u64::from(self.ended.is_none());
            let took = now.saturating_duration_since(sent).as_nanos();
            self.latency.saturating_record(u64::try_from(took).unwrap_or(u64::MAX));
        }
    }

    pub(crate) fn failed(&mut self, kind: impl Into<String>) {
        *self.errors.entry(kind.into()).or_default() += 1;
    }

    /// Takes in what another thread measured at the same time.
    pub(crate) fn add(&mut self, other: Record) -> anyhow::Result<()> {
        self.latency.add(other.latency)?;
        self.messages += other.messages;
        self.connections += other.connections;
        for (kind, count) in other.errors {
            *self.errors.entry(kind).or_default() += count;
        }
        self.begun = self.begun.into_iter().chain(other.begun).min();
        self.ended = self.ended.into_iter().chain(other.ended).max();
        Ok(())
    }

    /// Whether there were answers, and all were right.
    pub(crate) fn is_good(&self) -> bool {
        self.errors.is_empty() && self.messages > 0
    }

    /// For how long it was measured.
    pub(crate) fn lasted(&self) -> Duration {
        match (self.begun, self.ended) {
            (Some(begun), Some(ended)) => ended.duration_since(begun),
            _ => Duration::ZERO,
        }
    }
}
