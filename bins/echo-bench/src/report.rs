//! [`Report`]: the result, for people and as JSON.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use crate::options::Options;
use crate::record::Record;

/// Version of the JSON: increased when a field is removed or changes its
/// meaning.
const SCHEMA: u32 = 2;

/// The percentiles of both forms.
const PERCENTILES: [(&str, f64); 5] =
    [("p50", 50.0), ("p90", 90.0), ("p99", 99.0), ("p99.9", 99.9), ("max", 100.0)];

/// Further percentiles in the JSON, to plot the distribution.
const EXTRA_PERCENTILES: [(&str, f64); 5] =
    [("p10", 10.0), ("p25", 25.0), ("p75", 75.0), ("p95", 95.0), ("p99.99", 99.99)];

/// The result of a run.
///
/// Its `Display` is the form for people.
pub(crate) struct Report<'a> {
    options: &'a Options,
    addr: SocketAddr,
    record: &'a Record,
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { options, addr, record } = self;
        let seconds = record.elapsed().as_secs_f64();
        writeln!(f, "{addr}: {} {} for {seconds:.1} s", options.connections, self.load())?;
        writeln!(f, "  {:>12.0} messages per second", self.per_second(record.messages()))?;
        if options.churn {
            let connections = self.per_second(record.connections());
            writeln!(f, "  {connections:>12.0} connections per second")?;
        }
        if record.latency().is_empty() {
            writeln!(f, "  no replies were received")?;
        } else {
            self.fmt_latencies(f)?;
        }
        for (error, count) in record.errors() {
            writeln!(f, "  {count:>12} times: {error}")?;
        }
        if record.is_success() {
            writeln!(f, "  all replies were correct")?;
        }
        Ok(())
    }
}

impl<'a> Report<'a> {
    pub(crate) fn new(options: &'a Options, addr: SocketAddr, record: &'a Record) -> Self {
        Report { options, addr, record }
    }

    /// Returns the JSON form.
    pub(crate) fn to_json(&self) -> Value {
        let Report { options, addr, record } = self;
        json!({
            "schema": SCHEMA,
            "addr": addr.to_string(),
            "connections": options.connections,
            "size": options.size,
            "pipeline": options.pipeline,
            "idle": options.idle,
            "churn": options.churn,
            "threads": options.threads(),
            "seconds": record.elapsed().as_secs_f64(),
            "messages": record.messages(),
            "messages_per_second": self.per_second(record.messages()),
            "connections_per_second": self.per_second(record.connections()),
            "latency_ns": percentiles(record.latency()),
            "latency_corrected_ns": percentiles(&self.corrected_latency()),
            "errors": record.errors(),
        })
    }

    fn fmt_latencies(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (measured, corrected) = (self.record.latency(), self.corrected_latency());
        writeln!(f, "  {:>12} {:>12}", "latency", "corrected")?;
        for (name, percentile) in PERCENTILES {
            let [measured, corrected] = [measured, &corrected].map(|latency| {
                let nanos = latency.value_at_quantile(percentile / 100.0);
                format!("{:.1?}", Duration::from_nanos(nanos))
            });
            writeln!(f, "  {measured:>12} {corrected:>12} {name}")?;
        }
        Ok(())
    }

    /// Describes the connections and their messages.
    fn load(&self) -> String {
        let Options { size, pipeline, idle, churn, .. } = self.options;
        let connections = match self.options.threads() {
            1 => "connections".to_owned(),
            threads => format!("connections on {threads} threads"),
        };
        let idle = match idle {
            0 => String::new(),
            idle => format!(", plus {idle} idle connections,"),
        };
        if *churn {
            format!("{connections} at a time, one message of {size} bytes each{idle}")
        } else if pipeline.get() > 1 {
            format!("{connections}, {pipeline} messages of {size} bytes in flight each{idle}")
        } else {
            format!("{connections}, messages of {size} bytes{idle}")
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    fn per_second(&self, count: u64) -> f64 {
        count as f64 / self.record.elapsed().as_secs_f64().max(f64::MIN_POSITIVE)
    }

    /// Returns the latencies, with those added of messages that would have been
    /// sent while the server paused: one for each mean interval between two
    /// messages of a connection by which a reply was late.
    fn corrected_latency(&self) -> Histogram<u64> {
        let Options { connections, pipeline, .. } = self.options;
        let concurrency = connections.get() as u64 * pipeline.get() as u64;
        let nanos = u64::try_from(self.record.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let latency = self.record.latency();
        match nanos.saturating_mul(concurrency).checked_div(self.record.messages()) {
            Some(interval @ 1..) => latency.clone_correct(interval),
            _ => latency.clone(),
        }
    }
}

/// Returns an object with all percentiles, or null without values.
fn percentiles(histogram: &Histogram<u64>) -> Value {
    if histogram.is_empty() {
        return Value::Null;
    }
    let percentiles = PERCENTILES.iter().chain(&EXTRA_PERCENTILES);
    percentiles
        .map(|&(name, percentile)| {
            (name.to_owned(), json!(histogram.value_at_quantile(percentile / 100.0)))
        })
        .collect()
}
