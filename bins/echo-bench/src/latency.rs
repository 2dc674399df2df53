//! Latencies and rates, as text and as JSON.

use std::fmt::Write;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

/// The percentiles of both forms.
pub(crate) const PERCENTILES: [(&str, f64); 7] = [
    ("min", 0.0),
    ("p50", 50.0),
    ("p90", 90.0),
    ("p99", 99.0),
    ("p99.9", 99.9),
    ("p99.99", 99.99),
    ("max", 100.0),
];

/// Further percentiles in the JSON, to plot the distribution.
const EXTRA_PERCENTILES: [(&str, f64); 4] =
    [("p10", 10.0), ("p25", 25.0), ("p75", 75.0), ("p95", 95.0)];

/// Width of the longest bar.
const BAR_WIDTH: u64 = 40;

/// Returns the value below or at which `percentile` percent of the values are,
/// in nanoseconds.
pub(crate) fn percentile(histogram: &Histogram<u64>, percentile: f64) -> u64 {
    if percentile <= 0.0 {
        histogram.min()
    } else {
        histogram.value_at_quantile(percentile / 100.0)
    }
}

/// Returns a time in nanoseconds as a text, such as `12.3µs`.
pub(crate) fn time(nanos: u64) -> String {
    format!("{:.1?}", Duration::from_nanos(nanos))
}

/// Returns `count` per second.
#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
pub(crate) fn per_second(count: u64, duration: Duration) -> f64 {
    count as f64 / duration.as_secs_f64().max(f64::MIN_POSITIVE)
}

/// Returns a number of bytes as a text, such as `1.3 MB`.
pub(crate) fn bytes(bytes: f64) -> String {
    let units = [(1e9, "GB"), (1e6, "MB"), (1e3, "kB")];
    match units.iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) => format!("{:.1} {name}", bytes / unit),
        None => format!("{bytes:.0} B"),
    }
}

/// Returns an object with all percentiles, or null without values.
pub(crate) fn to_json(histogram: &Histogram<u64>) -> Value {
    if histogram.is_empty() {
        return Value::Null;
    }
    let percentiles = PERCENTILES.iter().chain(&EXTRA_PERCENTILES);
    percentiles.map(|&(name, p)| (name.to_owned(), json!(percentile(histogram, p)))).collect()
}

/// Returns lines with the number of values in each range, and a bar for it. The
/// ranges end at 1, 2 and 5 of each power of ten.
pub(crate) fn bars(histogram: &Histogram<u64>) -> String {
    let mut rows = Vec::new();
    let (mut from, mut ends) = (0, ends());
    while let Some(to) = ends.next()
        && from <= histogram.max()
    {
        let count = histogram.count_between(from, to.saturating_sub(1));
        if count > 0 || !rows.is_empty() {
            rows.push((to, count));
        }
        from = to;
    }
    let most = rows.iter().map(|(_, count)| *count).max().unwrap_or(0).max(1);
    let mut text = String::new();
    for (to, count) in rows {
        // Every value is seen.
        let width = (count.saturating_mul(BAR_WIDTH) / most).max(u64::from(count > 0));
        let bar = "#".repeat(usize::try_from(width).unwrap_or(0));
        let to = format!("{:?}", Duration::from_nanos(to));
        let _ = writeln!(text, "{}", format!("  below {to:>6} {count:>12} {bar}").trim_end());
    }
    text
}

/// Returns the ends of the ranges.
fn ends() -> impl Iterator<Item = u64> {
    (3..11).flat_map(|exponent| [1, 2, 5].map(|digit| digit * 10_u64.pow(exponent)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interval::histogram;

    #[test]
    fn bars_show_each_range_from_the_first_to_the_last_value() {
        let mut values = histogram().unwrap();
        values.record_n(15_000, 80).unwrap();
        values.record_n(1_500_000, 1).unwrap();
        let lines = bars(&values);
        let lines: Vec<_> = lines.lines().collect();
        assert_eq!(lines[0], format!("  below   20µs           80 {}", "#".repeat(40)));
        assert_eq!(lines[1], "  below   50µs            0");
        assert_eq!(lines[6], "  below    2ms            1 #");
        assert_eq!(lines.len(), 7);
        assert_eq!(bars(&histogram().unwrap()), "");
    }

    #[test]
    fn bytes_have_a_unit() {
        let texts = [0.0, 999.0, 1500.0, 2.5e6, 3e12].map(bytes);
        assert_eq!(texts, ["0 B", "999 B", "1.5 kB", "2.5 MB", "3000.0 GB"]);
    }
}
