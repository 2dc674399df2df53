//! The command line.

use std::num::NonZeroUsize;
use std::time::Duration;

use clap::Parser;
use cli::value;

use crate::pattern::Pattern;

/// Connections have 32-bit numbers, and 127.0.0.0/8 has source addresses for
/// many more.
const MAX_CONNECTIONS: usize = 1_000_000;

/// The messages in flight are in memory.
const MAX_PIPELINE: usize = 65_536;

/// More threads than any machine has processors for.
const MAX_THREADS: usize = 1024;

/// Measures a TCP echo server and reports throughput and latency
///
/// Every byte of the replies is verified. If an error occurs, the measurement
/// stops and the report covers the time until then.
///
/// The load starts when each connection has received a first reply. Latencies
/// cover sending a message and receiving its reply, and not connecting.
///
/// Each connection sends a message when it has received the reply to an
/// earlier one (closed loop). So if the server pauses, fewer messages are
/// sent, and few of them observe the pause ("coordinated omission"). The
/// corrected latencies compensate for this with `HdrHistogram`'s method: a
/// reply that takes longer than the mean interval between messages on a
/// connection adds one sample for each interval it exceeds. The report
/// contains both.
#[derive(Clone, Debug, Parser)]
#[command(version, after_help = AFTER_HELP)]
pub(crate) struct Options {
    /// Address of the server
    ///
    /// If a name has several addresses, one that accepts a connection is
    /// measured.
    #[arg(
        long,
        value_name = "HOST:PORT",
        default_value = "127.0.0.1:9999",
        value_parser = value::host_and_port,
    )]
    pub(crate) addr: (String, u16),

    /// Number of connections that exchange messages
    #[arg(long, value_name = "N", default_value = "64", value_parser = value::count_up_to(MAX_CONNECTIONS))]
    pub(crate) connections: NonZeroUsize,

    /// Message size
    #[arg(long, value_name = "BYTES", default_value = "64", value_parser = size)]
    pub(crate) size: usize,

    /// Number of messages in flight on each connection
    #[arg(long, value_name = "N", default_value = "1", value_parser = value::count_up_to(MAX_PIPELINE))]
    pub(crate) pipeline: NonZeroUsize,

    /// Duration of the measurement
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = value::timeout)]
    pub(crate) duration: Duration,

    /// Duration of the load before the measurement
    #[arg(long, value_name = "DURATION", default_value = "500ms", value_parser = value::duration)]
    pub(crate) warm_up: Duration,

    /// End with an error if a connection has no reply for DURATION
    ///
    /// If the server has stopped, or does not reply to a message, the
    /// measurement stops after this time.
    #[arg(long, value_name = "DURATION", default_value = "1500ms", value_parser = value::timeout)]
    pub(crate) reply_timeout: Duration,

    /// Number of additional idle connections
    #[arg(long, value_name = "N", default_value = "0", value_parser = idle)]
    pub(crate) idle: usize,

    /// Open a new connection for each message; excludes --pipeline
    #[arg(long, conflicts_with_all = ["pipeline"])]
    pub(crate) churn: bool,

    /// Number of load-generating threads
    #[arg(long, value_name = "N", default_value = "1", value_parser = value::count_up_to(MAX_THREADS))]
    threads: NonZeroUsize,

    /// Print the result as JSON, on one line
    #[arg(long)]
    pub(crate) json: bool,
}

impl Options {
    /// Returns the number of threads, at most one for each connection.
    pub(crate) fn threads(&self) -> usize {
        self.threads.min(self.connections).get()
    }
}

const AFTER_HELP: &str = "\
Examples:
  echo-bench --connections 1                    latency of a single message
  echo-bench --connections 1000 --idle 10000    many connections, most idle
  echo-bench --size 65536 --connections 16      large messages
  echo-bench --churn                            connection setup and teardown
  echo-bench --threads 2                        load for a multi-threaded server

Exit codes:
  0  all replies were correct
  1  the server could not be measured, or replies were wrong or missing
  2  invalid command line
130  interrupted by SIGINT (Ctrl-C), after a report of the time before";

fn idle(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(idle @ 0..=MAX_CONNECTIONS) => Ok(idle),
        _ => Err(format!("expected an integer from 0 to {MAX_CONNECTIONS}")),
    }
}

fn size(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(size @ 1..=Pattern::MAX_LEN) => Ok(size),
        _ => Err(format!("expected an integer from 1 to {}", Pattern::MAX_LEN)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn command_line_definition_is_consistent() {
        Options::command().debug_assert();
    }

    #[test]
    fn size_is_limited_by_the_pattern() {
        assert_eq!(size("16777216"), Ok(Pattern::MAX_LEN));
        for text in ["0", "16777217", "-1", "large"] {
            assert!(size(text).unwrap_err().ends_with("from 1 to 16777216"), "{text}");
        }
    }
}
