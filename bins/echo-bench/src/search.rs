//! [`Search`]: finds the highest rate at which the latency is within a goal.

use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};

use crate::interval::as_nanos;
use crate::latency;
use crate::options::{Goal, MAX_RATE};
use crate::record::Record;

/// The rate that is tried first.
const FIRST_RATE: usize = 1000;

/// The range at which the search ends, as a part of the rate.
const PRECISION: usize = 20;

/// A search for a rate. It doubles the rate until it fails, or halves it until it
/// succeeds, and then halves the range.
pub(crate) struct Search {
    goal: Goal,
    probes: Vec<Probe>,
}

/// One rate that was tried.
pub(crate) struct Probe {
    rate: usize,
    messages_per_second: f64,
    latency: Value,
    /// The latency that the goal limits, or `None` without replies.
    nanos: Option<u64>,
    is_success: bool,
    goal_name: String,
}

impl Search {
    /// Creates a search without probes.
    pub(crate) fn new(goal: Goal) -> Self {
        Search { goal, probes: Vec::new() }
    }

    /// Returns what the latency must not exceed.
    pub(crate) fn goal(&self) -> &Goal {
        &self.goal
    }

    /// Returns the rate to try next, or `None` at the end of the search.
    pub(crate) fn next_rate(&self) -> Option<usize> {
        let succeeded = self.probes.iter().filter(|probe| probe.is_success);
        let low = succeeded.map(|probe| probe.rate).max();
        // A rate fails if it fails twice. Below one that succeeded, both did by chance.
        let failures = |rate| {
            self.probes.iter().filter(|probe| probe.rate == rate && !probe.is_success).count()
        };
        let rates = self.probes.iter().map(|probe| probe.rate);
        let above = rates.filter(|rate| low.is_none_or(|low| *rate > low));
        let Some(high) = above.min() else {
            let next = low.map_or(FIRST_RATE, |low| low.saturating_mul(2));
            return (next <= MAX_RATE).then_some(next);
        };
        if failures(high) == 1 {
            return Some(high);
        }
        match low {
            None => Some(high / 2).filter(|rate| *rate > 0),
            Some(low) if high - low <= (low / PRECISION).max(1) => None,
            Some(low) => Some(low.midpoint(high)),
        }
    }

    /// Judges what was measured at `rate`, and adds it.
    pub(crate) fn record(&mut self, rate: usize, record: &Record) -> &Probe {
        let percentile = |p| latency::percentile(record.latency(), p);
        let nanos = (!record.latency().is_empty()).then(|| percentile(self.goal.quantile * 100.0));
        let is_success = record.is_success()
            && nanos.is_some_and(|nanos| nanos <= as_nanos(self.goal.max))
            && is_sustained(rate, record.messages(), record.elapsed());
        self.add(Probe {
            rate,
            messages_per_second: latency::per_second(record.messages(), record.elapsed()),
            latency: latency::to_json(record.latency()),
            nanos,
            is_success,
            goal_name: self.goal.name.clone(),
        })
    }

    fn add(&mut self, probe: Probe) -> &Probe {
        let index = self.probes.len();
        self.probes.push(probe);
        &self.probes[index]
    }

    /// Returns the JSON form.
    pub(crate) fn to_json(&self) -> Value {
        let probe = |probe: &Probe| {
            json!({
                "rate_per_second": probe.rate,
                "messages_per_second": probe.messages_per_second,
                "latency_ns": probe.latency,
                "is_success": probe.is_success,
            })
        };
        json!({
            "goal_quantile": self.goal.quantile,
            "goal_ns": as_nanos(self.goal.max),
            "probes": self.probes.iter().map(probe).collect::<Vec<_>>(),
        })
    }
}

/// Returns `true` if at least 99 % of the messages that were due in `elapsed`
/// were answered, apart from what is by chance with random spacing.
#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn is_sustained(rate: usize, messages: u64, elapsed: Duration) -> bool {
    let due = rate as f64 * elapsed.as_secs_f64();
    messages as f64 >= 0.99 * due - 3.0 * due.sqrt()
}

impl Probe {
    /// Returns `true` if the latency was within the goal.
    pub(crate) fn is_success(&self) -> bool {
        self.is_success
    }
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Probe { rate, messages_per_second, goal_name, .. } = self;
        let latency = self.nanos.map_or_else(|| "missing".to_owned(), latency::time);
        let result = if self.is_success { "within the goal" } else { "failed" };
        write!(f, "rate {rate:>9}: {messages_per_second:>9.0} messages/s  ")?;
        write!(f, "{goal_name} {latency:>8}  {result}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn search() -> Search {
        let max = Duration::from_millis(1);
        Search::new(Goal { quantile: 0.99, name: "p99".to_owned(), max })
    }

    fn probe(rate: usize, is_success: bool) -> Probe {
        let (latency, goal_name) = (Value::Null, String::new());
        Probe { rate, messages_per_second: 0.0, latency, nanos: None, is_success, goal_name }
    }

    /// Searches for `capacity`, and returns the rates that were tried.
    fn rates(capacity: usize) -> Vec<usize> {
        let mut search = search();
        while let Some(rate) = search.next_rate() {
            search.add(probe(rate, rate <= capacity));
        }
        search.probes.iter().map(|probe| probe.rate).collect()
    }

    #[test]
    fn highest_rate_is_found_to_five_percent() {
        for capacity in [7, 100, 999, 1000, 1001, 54_321, 3_000_000, MAX_RATE] {
            let rates = rates(capacity);
            let best = *rates.iter().filter(|rate| **rate <= capacity).max().unwrap();
            assert!(best * 106 / 100 + 1 >= capacity.min(MAX_RATE / 2), "{capacity}: {rates:?}");
            assert!(rates.len() < 40, "{capacity}: {rates:?}");
        }
        assert_eq!(rates(1500), [1000, 2000, 2000, 1500, 1750, 1750, 1625, 1625, 1562, 1562]);
        assert_eq!(rates(0).last(), Some(&1));
    }

    #[test]
    fn rate_fails_only_if_it_fails_twice() {
        let mut search = search();
        search.add(probe(1000, false));
        assert_eq!(search.next_rate(), Some(1000));
        search.add(probe(1000, true));
        assert_eq!(search.next_rate(), Some(2000));
    }

    #[test]
    fn sustained_rate_misses_at_most_one_percent() {
        let second = Duration::from_secs(1);
        assert!(is_sustained(1_000_000, 990_000, second));
        assert!(!is_sustained(1_000_000, 985_000, second));
    }
}
