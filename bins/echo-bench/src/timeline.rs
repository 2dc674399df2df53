//! [`Timeline`]: the intervals of all threads, joined.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use cli::error::without_errno;
use serde_json::{Value, json};

use crate::hdr_log::HdrLog;
use crate::interval::Interval;
use crate::latency;
use crate::options::Options;

/// Joins the intervals that the threads report, and writes the log.
pub(crate) struct Timeline {
    threads: usize,
    message_bytes: usize,
    /// The intervals that are not complete, and how many threads reported each.
    pending: VecDeque<(usize, Interval)>,
    /// Number of complete intervals, which is the number of the first pending.
    complete: usize,
    /// When the first interval began.
    since: Option<Instant>,
    log: Option<HdrLog>,
    /// `None` if the intervals are not part of the result.
    json: Option<Vec<Value>>,
    error: Option<anyhow::Error>,
}

impl Timeline {
    /// Creates an empty timeline for intervals of `threads` threads.
    ///
    /// # Errors
    ///
    /// Returns an error if the log cannot be created.
    pub(crate) fn new(threads: usize, options: &Options) -> anyhow::Result<Self> {
        let comment = format!("echo-bench {}", env!("CARGO_PKG_VERSION"));
        let create = |path: &PathBuf| HdrLog::create(path, &comment);
        Ok(Timeline {
            threads,
            message_bytes: options.size,
            pending: VecDeque::new(),
            complete: 0,
            since: None,
            log: options.hdr.as_ref().map(create).transpose()?,
            json: (options.json && options.reports_intervals()).then(Vec::new),
            error: None,
        })
    }

    /// Adds interval number `number` of one thread. Returns the intervals that
    /// are complete now, in order.
    pub(crate) fn add(&mut self, number: usize, interval: Interval) -> Vec<Interval> {
        // A thread reports its intervals in order, so there is no gap.
        match self.pending.get_mut(number.saturating_sub(self.complete)) {
            Some((count, joined)) => {
                *count += 1;
                if let Err(error) = joined.merge(&interval) {
                    self.error.get_or_insert(error);
                }
            }
            None => self.pending.push_back((1, interval)),
        }
        let mut complete = Vec::new();
        while self.pending.front().is_some_and(|(count, _)| *count == self.threads)
            && let Some((_, interval)) = self.pending.pop_front()
        {
            self.record(&interval);
            complete.push(interval);
        }
        complete
    }

    /// Returns the intervals that not all threads reported, at the end of the
    /// run.
    pub(crate) fn take_rest(&mut self) -> Vec<Interval> {
        let rest: Vec<_> = self.pending.drain(..).map(|(_, interval)| interval).collect();
        for interval in &rest {
            self.record(interval);
        }
        rest
    }

    fn record(&mut self, interval: &Interval) {
        self.complete += 1;
        let start = self.start(interval);
        if let Some(log) = &mut self.log
            && let Err(error) = log.write(interval.latency(), start, interval.duration())
        {
            self.log = None;
            let text = format!("cannot write the log of --hdr: {}", without_errno(&error));
            self.error.get_or_insert(anyhow!(text));
        }
        let (messages, duration) = (interval.messages(), interval.duration());
        let value = json!({
            "start_seconds": start.as_secs_f64(),
            "duration_seconds": duration.as_secs_f64(),
            "messages": messages,
            "messages_per_second": latency::per_second(messages, duration),
            "bytes_per_second": latency::per_second(self.bytes(messages), duration),
            "latency_ns": latency::to_json(interval.latency()),
        });
        if let Some(json) = &mut self.json {
            json.push(value);
        }
    }

    /// Returns when `interval` began, from the start of the measurement.
    fn start(&mut self, interval: &Interval) -> Duration {
        let since = *self.since.get_or_insert(interval.since());
        interval.since().saturating_duration_since(since)
    }

    /// Returns the line for an interval.
    pub(crate) fn line(&mut self, interval: &Interval) -> String {
        let end = (self.start(interval) + interval.duration()).as_secs_f64();
        let bytes = latency::per_second(self.bytes(interval.messages()), interval.duration());
        let bytes = latency::bytes(bytes);
        let rate = rate(interval);
        let [p50, p99, max] = [50.0, 99.0, 100.0].map(|percentile| time(interval, percentile));
        format!(
            "{end:>8.1} s {rate:>9.0} messages/s {bytes:>8}/s  \
             p50 {p50:>8}  p99 {p99:>8}  max {max:>8}"
        )
    }

    fn bytes(&self, messages: u64) -> u64 {
        messages.saturating_mul(self.message_bytes as u64)
    }

    /// Returns the intervals as JSON, if they are part of the result.
    ///
    /// # Errors
    ///
    /// Returns an error if the log could not be written.
    pub(crate) fn finish(&mut self) -> anyhow::Result<Option<Vec<Value>>> {
        self.error.take().map_or(Ok(self.json.take()), Err)
    }
}

/// Describes an interval in the live line, which has room for little. An error ends the
/// measurement, so there was none.
pub(crate) fn status(interval: &Interval) -> String {
    let (rate, p99) = (rate(interval), time(interval, 99.0));
    format!("{rate:.0} messages/s  p99 {p99}  no errors")
}

/// Returns the messages per second.
fn rate(interval: &Interval) -> f64 {
    latency::per_second(interval.messages(), interval.duration())
}

/// Returns a percentile of the latencies, for people.
fn time(interval: &Interval, percentile: f64) -> String {
    latency::time(latency::percentile(interval.latency(), percentile))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn interval(replies: u64, since: Instant) -> Interval {
        let mut interval = Interval::new(since).unwrap();
        for _ in 0..replies {
            interval.count_message();
            interval.record_latency(1000);
        }
        interval.end(since + Duration::from_secs(1))
    }

    #[test]
    fn interval_is_complete_when_all_threads_reported_it() {
        let options = Options::parse_from(["", "--threads", "2", "--interval", "1", "--json"]);
        let mut timeline = Timeline::new(2, &options).unwrap();
        let start = Instant::now();
        let at = |second: u64| start + Duration::from_secs(second);
        assert!(timeline.add(0, interval(1, at(0))).is_empty());
        assert!(timeline.add(1, interval(2, at(1))).is_empty());
        let complete = timeline.add(0, interval(10, at(0)));
        assert_eq!(complete.iter().map(Interval::messages).collect::<Vec<_>>(), [11]);
        assert!(timeline.line(&complete[0]).starts_with("     1.0 s        11 messages/s"));
        let rest = timeline.take_rest();
        assert_eq!(rest.iter().map(Interval::messages).collect::<Vec<_>>(), [2]);
        let json = timeline.finish().unwrap().unwrap();
        assert_eq!(json.len(), 2);
        assert_eq!(json[1]["start_seconds"], 1.0);
        assert_eq!(json[1]["messages"], 2);
    }
}
