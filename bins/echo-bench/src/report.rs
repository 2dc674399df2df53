//! [`Report`]: the result, for people and as JSON.

use std::fmt;

use hdrhistogram::Histogram;
use reactor::Address;
use serde_json::{Map, Value, json};

use crate::interval::as_nanos;
use crate::latency::{self, PERCENTILES};
use crate::options::{Options, Spacing};
use crate::record::Record;
use crate::search::Search;

/// Version of the JSON: increased when a field is removed or changes its
/// meaning. The long help lists the fields.
const SCHEMA: u32 = 3;

/// What was measured.
pub(crate) struct Measured {
    pub(crate) record: Record,
    /// The intervals, as they appear in the JSON.
    pub(crate) intervals: Option<Vec<Value>>,
    /// Messages per second, in the open loop.
    pub(crate) rate: Option<usize>,
    pub(crate) search: Option<Search>,
    /// The user ended the run.
    pub(crate) interrupted: bool,
}

/// The result of a run.
///
/// Its `Display` is the form for people.
pub(crate) struct Report<'a> {
    options: &'a Options,
    addr: &'a Address,
    measured: &'a Measured,
    record: &'a Record,
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { options, addr, record, .. } = self;
        let seconds = record.elapsed().as_secs_f64();
        writeln!(f, "{addr}: {} {} for {seconds:.1} s", options.connections, self.load())?;
        if let Some(search) = &self.measured.search {
            let goal = search.goal();
            writeln!(f, "  the highest rate with {} of at most {:?}", goal.name, goal.max)?;
        }
        writeln!(f, "  {:>12.0} messages per second", self.per_second(record.messages()))?;
        let bytes = latency::bytes(self.per_second(self.bytes()));
        writeln!(f, "  {bytes:>12} per second in each direction")?;
        if options.churn {
            let connections = self.per_second(record.connections());
            writeln!(f, "  {connections:>12.0} connections per second")?;
        }
        if record.latency().is_empty() {
            writeln!(f, "  no replies were received")?;
        } else {
            self.fmt_latencies(f)?;
            f.write_str(&latency::bars(record.latency()))?;
        }
        for (kind, errors) in record.errors() {
            let (count, kind, example) = (errors.count, kind.name(), &errors.example);
            writeln!(f, "  {count:>12} times {kind}: {example}")?;
        }
        if record.is_success() {
            writeln!(f, "  all replies were correct")?;
        }
        Ok(())
    }
}

impl<'a> Report<'a> {
    pub(crate) fn new(options: &'a Options, addr: &'a Address, measured: &'a Measured) -> Self {
        Report { options, addr, measured, record: &measured.record }
    }

    /// Returns the JSON form.
    pub(crate) fn to_json(&self) -> Value {
        let Report { options, addr, measured, record } = self;
        let (mut errors, mut examples) = (Map::new(), Map::new());
        for (kind, error) in record.errors() {
            errors.insert(kind.name().to_owned(), error.count.into());
            examples.insert(kind.name().to_owned(), error.example.clone().into());
        }
        let spacing = measured.rate.map(|_| match options.spacing {
            Spacing::Even => "even",
            Spacing::Poisson => "poisson",
        });
        let corrected = self.corrected_latency().map_or(Value::Null, |h| latency::to_json(&h));
        let mut json = json!({
            "schema": SCHEMA,
            "addr": addr.to_string(),
            "connections": options.connections,
            "idle": options.idle,
            "size": options.size,
            "message_bytes": options.size,
            "pipeline": options.pipeline,
            "churn": options.churn,
            "threads": options.threads(),
            "rate_per_second": measured.rate,
            "spacing": spacing,
            "seconds": record.elapsed().as_secs_f64(),
            "messages": record.messages(),
            "messages_per_second": self.per_second(record.messages()),
            "bytes_per_second": self.per_second(self.bytes()),
            "connections_per_second": self.per_second(record.connections()),
            "latency_ns": latency::to_json(record.latency()),
            "latency_corrected_ns": corrected,
            "send_delay_ns": latency::to_json(record.send_delay()),
            "connect_ns": latency::to_json(record.connect()),
            "errors": errors,
            "error_examples": examples,
        });
        if let Some(intervals) = &measured.intervals {
            json["intervals"] = json!(intervals);
        }
        if let Some(search) = &measured.search {
            json["search"] = search.to_json();
        }
        json
    }

    fn fmt_latencies(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { record, .. } = self;
        let corrected = self.corrected_latency();
        let second = match &corrected {
            Some(corrected) => ("corrected", corrected),
            None => ("send delay", record.send_delay()),
        };
        let columns = [("latency", record.latency()), second, ("connect", record.connect())];
        for (name, _) in columns {
            write!(f, "  {name:>12}")?;
        }
        writeln!(f)?;
        for (name, percentile) in PERCENTILES {
            for (_, histogram) in columns {
                let time = latency::time(latency::percentile(histogram, percentile));
                write!(f, "  {time:>12}")?;
            }
            writeln!(f, "  {name}")?;
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
        if let Some(rate) = self.measured.rate {
            let spacing = match self.options.spacing {
                Spacing::Even => "",
                Spacing::Poisson => ", randomly spaced",
            };
            format!("{connections}, {rate} messages/s of {size} bytes{spacing}{idle}")
        } else if *churn {
            format!("{connections} at a time, one message of {size} bytes each{idle}")
        } else if pipeline.get() > 1 {
            format!("{connections}, {pipeline} messages of {size} bytes in flight each{idle}")
        } else {
            format!("{connections}, messages of {size} bytes{idle}")
        }
    }

    /// Returns the number of bytes of the replies during the measurement.
    fn bytes(&self) -> u64 {
        self.record.messages().saturating_mul(self.options.size as u64)
    }

    fn per_second(&self, count: u64) -> f64 {
        latency::per_second(count, self.record.elapsed())
    }

    /// Returns the latencies, with those added of messages that would have been
    /// sent while the server paused: one for each mean interval between two
    /// messages of a connection by which a reply was late. `None` in the open
    /// loop, which sends them.
    fn corrected_latency(&self) -> Option<Histogram<u64>> {
        if self.measured.rate.is_some() {
            return None;
        }
        let Options { connections, pipeline, .. } = self.options;
        let concurrency = connections.get() as u64 * pipeline.get() as u64;
        let nanos = as_nanos(self.record.elapsed());
        let latency = self.record.latency();
        Some(match nanos.saturating_mul(concurrency).checked_div(self.record.messages()) {
            Some(interval @ 1..) => latency.clone_correct(interval),
            _ => latency.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::latency::percentile;
    use clap::{CommandFactory, Parser};
    use std::time::{Duration, Instant};

    /// Measures replies with these latencies, in microseconds.
    fn measured(latencies: &[u64], rate: Option<usize>) -> Measured {
        let start = Instant::now();
        let mut record = Record::new().unwrap();
        record.start_measuring(start).unwrap();
        for &micros in latencies {
            record.record_send(start, start);
            record.record_reply(start, start + Duration::from_micros(micros));
        }
        record.finish(start + Duration::from_secs(1));
        Measured {
            record,
            intervals: Some(vec![json!({})]),
            rate,
            search: None,
            interrupted: false,
        }
    }

    /// Latencies that differ by orders of magnitude, as the percentiles require.
    fn latencies() -> Vec<u64> {
        (0..20_000_u64).map(|n| 10 + n * n * n % 9_999_991).collect()
    }

    #[test]
    fn table_is_exact_to_one_bucket_of_the_histogram() {
        let mut sorted = latencies();
        let measured = measured(&sorted, Some(20_000));
        sorted.sort_unstable();
        let histogram = measured.record.latency();
        let options = Options::parse_from(["", "--rate", "20k"]);
        let addr = Address::Unix(None);
        let report = Report::new(&options, &addr, &measured);
        let (text, json) = (report.to_string(), report.to_json());
        for (name, p) in PERCENTILES {
            // The smallest value below or at which that part of the values is.
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                clippy::cast_precision_loss
            )]
            let rank = ((p / 100.0 * sorted.len() as f64).ceil() as usize).max(1);
            let exact = sorted[rank - 1] * 1000;
            let shown = json["latency_ns"][name].as_u64().unwrap();
            assert!(histogram.equivalent(exact, shown), "{name}: {exact} and {shown}");
            assert_eq!(percentile(histogram, p), shown);
            let row = format!(
                "  {:>12}  {:>12}  {:>12}  {name}\n",
                latency::time(shown),
                "0.0ns",
                "0.0ns"
            );
            assert!(text.contains(&row), "no {row:?} in {text}");
        }
    }

    #[test]
    fn open_loop_has_a_send_delay_and_nothing_to_correct() {
        let addr = Address::Unix(None);
        for (line, rate, null, present) in [
            (&[""][..], None, "send_delay_ns", "latency_corrected_ns"),
            (&["", "--rate", "5"], Some(5), "latency_corrected_ns", "send_delay_ns"),
        ] {
            let (options, mut measured) = (Options::parse_from(line), measured(&[100], rate));
            if rate.is_none() {
                let record = Record::new().unwrap();
                let start = Instant::now();
                measured.record = record;
                measured.record.start_measuring(start).unwrap();
                measured.record.record_reply(start, start + Duration::from_micros(100));
                measured.record.finish(start + Duration::from_secs(1));
            }
            let json = Report::new(&options, &addr, &measured).to_json();
            assert!(json[null].is_null(), "{json}");
            assert!(json[present].is_object(), "{json}");
            assert_eq!(json["rate_per_second"].as_u64(), rate.map(|rate| rate as u64));
        }
    }

    #[test]
    fn help_documents_every_field() {
        let options = Options::parse_from(["", "--rate", "5"]);
        let mut measured = measured(&[100], Some(5));
        let max = Duration::from_millis(1);
        let goal = crate::options::Goal { quantile: 0.99, name: "p99".to_owned(), max };
        measured.search = Some(Search::new(goal));
        let json = Report::new(&options, &Address::Unix(None), &measured).to_json();
        let help = Options::command().render_long_help().to_string();
        let words: Vec<_> = help.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
        for (name, _) in json.as_object().unwrap() {
            assert!(words.contains(&&name[..]), "{name}");
        }
        assert!(help.contains(&format!("schema                  version of this list: {SCHEMA}")));
    }
}
