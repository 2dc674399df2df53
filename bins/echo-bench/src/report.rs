//! What is said of a run: for people, and as JSON.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::json;

use crate::options::Options;
use crate::record::Record;

/// The form of the JSON: raised when a field changes its meaning or goes.
const SCHEMA: u32 = 1;

/// The percentiles that people are told.
const PERCENTILES: [(&str, f64); 5] =
    [("p50", 50.0), ("p90", 90.0), ("p99", 99.0), ("p99.9", 99.9), ("max", 100.0)];

/// The percentiles that JSON has besides, enough to draw the distribution.
const MORE: [(&str, f64); 5] =
    [("p10", 10.0), ("p25", 25.0), ("p75", 75.0), ("p95", 95.0), ("p99.99", 99.99)];

pub(crate) fn text(options: &Options, addr: SocketAddr, record: &Record) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let (seconds, kind) = (record.lasted().as_secs_f64(), kind(options));
    writeln!(out, "{addr}: {} {kind} for {seconds:.1} s", options.connections)?;
    writeln!(out, "  {:>12.0} messages a second", per_second(record.messages, record))?;
    if options.churn {
        writeln!(out, "  {:>12.0} connections a second", per_second(record.connections, record))?;
    }
    if record.latency.is_empty() {
        writeln!(out, "  no message was answered")?;
    } else {
        latencies(&mut out, options, record)?;
    }
    for (error, count) in &record.errors {
        writeln!(out, "  {count:>12} times: {error}")?;
    }
    if record.is_good() {
        writeln!(out, "  every byte was right")?;
    }
    Ok(())
}

fn latencies(out: &mut impl Write, options: &Options, record: &Record) -> io::Result<()> {
    let corrected = corrected(options, record);
    writeln!(out, "  {:>12} {:>12}", "latency", "corrected")?;
    for (name, percentile) in PERCENTILES {
        let seen = Duration::from_nanos(record.latency.value_at_quantile(percentile / 100.0));
        let would = Duration::from_nanos(corrected.value_at_quantile(percentile / 100.0));
        writeln!(out, "  {:>12} {:>12} {name}", format!("{seen:.1?}"), format!("{would:.1?}"))?;
    }
    Ok(())
}

pub(crate) fn json(options: &Options, addr: SocketAddr, record: &Record) -> io::Result<()> {
    let corrected = corrected(options, record);
    let table = |histogram: &Histogram<u64>| -> serde_json::Value {
        if histogram.is_empty() {
            return serde_json::Value::Null;
        }
        PERCENTILES
            .iter()
            .chain(&MORE)
            .map(|&(name, percentile)| {
                (name.to_owned(), json!(histogram.value_at_quantile(percentile / 100.0)))
            })
            .collect()
    };
    let report = json!({
        "schema": SCHEMA,
        "addr": addr.to_string(),
        "connections": options.connections,
        "size": options.size,
        "pipeline": options.pipeline,
        "idle": options.idle,
        "churn": options.churn,
        "threads": options.threads(),
        "seconds": record.lasted().as_secs_f64(),
        "messages": record.messages,
        "messages_per_second": per_second(record.messages, record),
        "connections_per_second": per_second(record.connections, record),
        "latency_ns": table(&record.latency),
        "latency_corrected_ns": table(&corrected),
        "errors": record.errors,
    });
    writeln!(io::stdout().lock(), "{report}")
}

fn kind(options: &Options) -> String {
    let size = options.size;
    let connections = match options.threads() {
        1 => "connections".to_owned(),
        threads => format!("connections on {threads} threads"),
    };
    let idle = match options.idle {
        0 => String::new(),
        idle => format!(", {idle} idle ones beside,"),
    };
    if options.churn {
        format!("{connections} at a time, one message of {size} bytes each{idle}")
    } else if options.pipeline.get() > 1 {
        format!("{connections}, {} messages of {size} bytes under way each{idle}", options.pipeline)
    } else {
        format!("{connections}, messages of {size} bytes{idle}")
    }
}

#[expect(clippy::cast_precision_loss, reason = "nobody counts to 2^52 here")]
fn per_second(count: u64, record: &Record) -> f64 {
    count as f64 / record.lasted().as_secs_f64().max(f64::MIN_POSITIVE)
}

/// The latencies with those added that were not seen as nothing was sent while
/// the server paused: one for each mean interval between two messages of a
/// connection that a late answer took longer.
fn corrected(options: &Options, record: &Record) -> Histogram<u64> {
    let lanes = options.connections.get() as u64 * options.pipeline.get() as u64;
    let nanos = u64::try_from(record.lasted().as_nanos()).unwrap_or(u64::MAX);
    match nanos.saturating_mul(lanes).checked_div(record.messages) {
        Some(interval @ 1..) => record.latency.clone_correct(interval),
        _ => record.latency.clone(),
    }
}
