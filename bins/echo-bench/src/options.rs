//! The command line.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::error::ErrorKind;
use clap::{ArgAction, ArgGroup, CommandFactory, Parser, ValueEnum};
use cli::value::{self, Endpoint};
use cli_tls::{Security, TlsOptions};
use log::LevelFilter;

/// Connections have 32-bit numbers, and 127.0.0.0/8 has source addresses for
/// many more.
const MAX_CONNECTIONS: usize = 1_000_000;

/// A slice of that size is in memory, once for all connections.
pub(crate) const MAX_SIZE: usize = 16 * 1024 * 1024;

/// The messages in flight are in memory.
const MAX_PIPELINE: usize = 65_536;

/// More threads than any machine has processors for.
const MAX_THREADS: usize = 1024;

/// More messages per second than any machine sends.
pub(crate) const MAX_RATE: usize = 100_000_000;

/// Limited only by the counters.
const MAX_MESSAGES: usize = usize::MAX;

/// Shorter intervals would measure the measurement.
const MIN_INTERVAL: Duration = Duration::from_millis(10);

/// Measures a TCP echo server and reports throughput and latency
///
/// Every byte of the replies is verified. If an error occurs, the measurement
/// stops and the report covers the time until then.
///
/// The load starts when each connection has received a first reply. Latencies
/// cover sending a message and receiving its reply; the times to connect are
/// reported separately.
///
/// By default each connection sends a message when it has received the reply to
/// an earlier one (closed loop). So if the server pauses, fewer messages are
/// sent, and few of them observe the pause ("coordinated omission"). The
/// corrected latencies compensate for this with `HdrHistogram`'s method: a
/// reply that takes longer than the mean interval between messages on a
/// connection adds one sample for each interval it exceeds.
///
/// With --rate, messages are sent on schedule, whatever the replies do (open
/// loop), and latencies count from the scheduled time: a pause delays every
/// message that is due during it. Use this to learn what clients of a server
/// experience, and the closed loop to learn how much it can do.
#[derive(Clone, Debug, Parser)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
#[command(group = ArgGroup::new("open_loop").args(["rate", "find_rate"]))]
#[command(version, after_help = AFTER_HELP)]
pub(crate) struct Options {
    /// Server: a name or an address with its port, or `unix:PATH`
    ///
    /// If a name has several addresses, one that accepts a connection is
    /// measured.
    #[arg(
        value_name = "HOST[:PORT]",
        value_parser = value::endpoint,
        conflicts_with_all = ["addr", "unix"],
    )]
    server: Option<Endpoint>,

    /// The same as the argument HOST:PORT [default: 127.0.0.1:9999]
    #[arg(long, value_name = "HOST:PORT", value_parser = value::endpoint, conflicts_with = "unix")]
    addr: Option<Endpoint>,

    /// TCP port of the server, without one in HOST:PORT [default: 9999]
    #[arg(short, long, value_parser = value::port, conflicts_with = "unix")]
    port: Option<u16>,

    /// Connect to a Unix socket; the same as `unix:PATH`
    #[arg(
        short = 'U',
        long,
        value_name = "PATH",
        value_parser = OsStringValueParser::new().try_map(value::unix_path),
    )]
    unix: Option<PathBuf>,

    /// Use only IPv4 addresses
    #[arg(short = '4', long, conflicts_with = "ipv6")]
    pub(crate) ipv4: bool,

    /// Use only IPv6 addresses
    #[arg(short = '6', long)]
    pub(crate) ipv6: bool,

    /// Number of connections that exchange messages
    #[arg(short, long, value_name = "N", default_value = "64", value_parser = value::count_up_to(MAX_CONNECTIONS))]
    pub(crate) connections: NonZeroUsize,

    /// Message size, such as 500 or 64k
    #[arg(short = 'd', long, value_name = "BYTES", default_value = "64", value_parser = value::size_up_to(MAX_SIZE))]
    pub(crate) size: usize,

    /// Number of messages in flight on each connection
    #[arg(short = 'P', long, value_name = "N", default_value = "1", value_parser = value::count_up_to(MAX_PIPELINE))]
    pub(crate) pipeline: NonZeroUsize,

    /// Send R messages per second on schedule, whatever the replies do
    ///
    /// R is the rate of all connections together. Latencies count from the
    /// scheduled time. The send delay, which is part of the latency, is the time
    /// until the message was sent: if it is not much smaller than the latency,
    /// the load generator and not the server is too slow for the rate.
    #[arg(long, value_name = "R", value_parser = value::count_up_to(MAX_RATE), conflicts_with_all = ["pipeline", "churn"])]
    pub(crate) rate: Option<NonZeroUsize>,

    /// Search for the highest rate with a latency as GOAL, such as p99=1ms
    ///
    /// The rate starts at 1000 messages per second and doubles until the
    /// latency exceeds the goal; then the range is halved until it is within
    /// 5 %. Each rate is measured for the --duration, and a second time if it
    /// fails. A rate at which replies are missing, or fewer than 99 % of the
    /// messages are answered in time, fails too. The report is of the highest
    /// rate that succeeded.
    #[arg(
        long,
        value_name = "GOAL",
        value_parser = goal,
        conflicts_with_all = ["pipeline", "churn", "messages", "interval", "hdr"],
    )]
    pub(crate) find_rate: Option<Goal>,

    /// Distances between the messages of --rate and --find-rate
    ///
    /// With `poisson`, the distances are random (exponentially distributed), as
    /// those of independent clients are. The sequence is the same in each run.
    #[arg(long, value_enum, value_name = "KIND", default_value = "even", requires = "open_loop")]
    pub(crate) spacing: Spacing,

    /// Duration of the measurement [default: 10s; with --find-rate: 2s]
    ///
    /// With --messages, there is no default: the measurement ends after the last
    /// reply.
    #[arg(short = 'z', long, value_name = "DURATION", value_parser = value::timeout)]
    duration: Option<Duration>,

    /// End after N messages; excludes --warm-up
    #[arg(short = 'n', long, value_name = "N", value_parser = value::count_up_to(MAX_MESSAGES), conflicts_with = "warm_up")]
    pub(crate) messages: Option<NonZeroUsize>,

    /// Duration of the load before the measurement [default: 500ms]
    #[arg(long, value_name = "DURATION", value_parser = value::duration)]
    warm_up: Option<Duration>,

    /// End with an error if a connection has no reply for DURATION
    ///
    /// If the server has stopped, or does not reply to a message, the
    /// measurement stops after this time.
    #[arg(short = 't', long, value_name = "DURATION", default_value = "1500ms", value_parser = value::timeout)]
    pub(crate) reply_timeout: Duration,

    /// Number of additional idle connections
    #[arg(long, value_name = "N", default_value = "0", value_parser = value::number_up_to(MAX_CONNECTIONS))]
    pub(crate) idle: usize,

    /// Open a new connection for each message; excludes --pipeline
    #[arg(long, conflicts_with_all = ["pipeline"])]
    pub(crate) churn: bool,

    #[command(flatten)]
    tls: TlsOptions,

    /// Make every TLS handshake a full one, rather than resume a session
    #[arg(long, requires = "tls")]
    no_resumption: bool,

    /// Number of load-generating threads
    #[arg(long, value_name = "N", default_value = "1", value_parser = value::count_up_to(MAX_THREADS))]
    threads: NonZeroUsize,

    /// Print a line for each DURATION of the measurement
    ///
    /// With --json, the lines are part of the result, as `intervals`.
    #[arg(long, value_name = "DURATION", value_parser = interval)]
    interval: Option<Duration>,

    /// Write the latencies of each interval to an `HdrHistogram` log
    ///
    /// The values are in nanoseconds. The intervals are those of --interval, or
    /// of a second.
    #[arg(long, value_name = "FILE")]
    pub(crate) hdr: Option<PathBuf>,

    /// Print the result as JSON, on one line; --help describes it
    #[arg(long, long_help = JSON_HELP)]
    pub(crate) json: bool,

    /// Increase log verbosity (may be repeated)
    ///
    /// -v logs the server's address, -vv each connection, -vvv each reply. Takes
    /// precedence over the environment variable `RUST_LOG`. By default, only
    /// errors are logged.
    #[arg(short, long, action = ArgAction::Count, conflicts_with = "quiet")]
    verbose: u8,

    /// Log nothing, and show no live line on a terminal
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

/// The distances between messages that are sent on schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Spacing {
    /// All equal.
    Even,
    /// Exponentially distributed.
    Poisson,
}

/// A limit for the latency: `p99=1ms`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Goal {
    /// The part of the messages, from 0 to 1.
    pub(crate) quantile: f64,
    /// The quantile as it was given, such as `p99`.
    pub(crate) name: String,
    /// Maximum latency.
    pub(crate) max: Duration,
}

impl Options {
    /// Parses the command line. An invalid one ends the program with exit
    /// code 2.
    pub(crate) fn parse_args() -> Self {
        let options = Self::parse();
        if let Some(error) = options.inconsistency() {
            Self::command().error(ErrorKind::ArgumentConflict, error).exit();
        }
        options
    }

    /// Returns what is wrong although each option is correct, if anything.
    fn inconsistency(&self) -> Option<String> {
        match (self.endpoint(), self.port) {
            (Endpoint::Inet { port: Some(_), .. }, Some(port)) => {
                Some(format!("the port {port} cannot be used with a port in HOST:PORT"))
            }
            (Endpoint::Unix(_), Some(port)) => {
                Some(format!("the port {port} cannot be used with a Unix socket"))
            }
            _ => None,
        }
    }

    fn endpoint(&self) -> Endpoint {
        let unix = self.unix.clone().map(Endpoint::Unix);
        let given = self.server.clone().or_else(|| self.addr.clone()).or(unix);
        given.unwrap_or_else(|| Endpoint::Inet { host: "127.0.0.1".to_owned(), port: None })
    }

    /// Returns the address of the server.
    pub(crate) fn target(&self) -> Target {
        match self.endpoint() {
            Endpoint::Unix(path) => Target::Unix(path),
            Endpoint::Inet { host, port } => {
                Target::Inet { host, port: port.or(self.port).unwrap_or(9999) }
            }
        }
    }

    /// Loads what protects the connections.
    ///
    /// # Errors
    ///
    /// Returns an error if a file cannot be used, or the server has no name.
    pub(crate) fn security(&self) -> anyhow::Result<Security> {
        let security = match self.target() {
            Target::Inet { host, .. } => self.tls.load(Some(&host)),
            Target::Unix(_) => self.tls.load(None),
        }?;
        Ok(if self.no_resumption { security.without_resumption() } else { security })
    }

    /// Returns the number of threads, at most one for each connection.
    pub(crate) fn threads(&self) -> usize {
        self.threads.min(self.connections).get()
    }

    /// Returns the same options with another rate.
    pub(crate) fn with_rate(&self, rate: usize) -> Self {
        Options { rate: NonZeroUsize::new(rate), ..self.clone() }
    }

    /// Returns the duration of the measurement, or `None` if only the number of
    /// messages limits it.
    pub(crate) fn duration(&self) -> Option<Duration> {
        match (self.duration, &self.find_rate, self.messages) {
            (Some(duration), ..) => Some(duration),
            (None, Some(_), _) => Some(Duration::from_secs(2)),
            (None, None, Some(_)) => None,
            (None, None, None) => Some(Duration::from_secs(10)),
        }
    }

    /// Returns the duration of the load before the measurement.
    pub(crate) fn warm_up(&self) -> Duration {
        match (self.warm_up, self.messages) {
            (Some(warm_up), _) => warm_up,
            (None, Some(_)) => Duration::ZERO,
            (None, None) => Duration::from_millis(500),
        }
    }

    /// Returns the length of the intervals, which are measured in any case.
    pub(crate) fn interval(&self) -> Duration {
        self.interval.unwrap_or(Duration::from_secs(1))
    }

    /// Returns `true` if the result contains the intervals.
    pub(crate) fn reports_intervals(&self) -> bool {
        self.interval.is_some()
    }

    /// Returns the log level that the command line requests, if any.
    pub(crate) fn log_level(&self) -> Option<LevelFilter> {
        if self.quiet {
            Some(LevelFilter::Off)
        } else {
            cli::logging::level_for_verbose(self.verbose)
        }
    }
}

/// The address of the server, with the default port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Inet { host: String, port: u16 },
    Unix(PathBuf),
}

/// The help of `--json`.
const JSON_HELP: &str = "\
Print the result as JSON, on one line

Its fields, whose names and meanings change only with `schema`:
  schema                  version of this list: 3
  addr                    address of the server
  connections             number of those with messages
  idle                    number of those without
  message_bytes, size     size of a message
  pipeline, churn         as the options
  threads                 as the option
  rate_per_second         as --rate; null in the closed loop
  spacing                 as --spacing; null in the closed loop
  seconds                 duration of the measurement
  messages                replies during the measurement
  messages_per_second     the same per second
  bytes_per_second        bytes of these replies per second,
                          in one direction
  connections_per_second  connections established during the
                          measurement
  latency_ns              latencies: min, p10, p25, p50, p75,
                          p90, p95, p99, p99.9, p99.99, max;
                          null without replies. With --rate
                          they count from the scheduled time
  latency_corrected_ns    the same, corrected; null with --rate
  send_delay_ns           time from schedule to sending; null
                          without --rate
  connect_ns              times to connect: with --churn during
                          the measurement, otherwise before it
  errors                  number of errors of each kind: closed,
                          connect, local, no_reply, reset,
                          unexpected_data, wrong_reply
  error_examples          the text of one error of each kind
  intervals               with --interval: for each one
                          `start_seconds`, `duration_seconds`,
                          `messages`, `messages_per_second`,
                          `bytes_per_second`, `latency_ns`
  search                  with --find-rate: `goal_quantile`,
                          `goal_ns`, and `probes`, in order,
                          each with `rate_per_second`,
                          `messages_per_second`, `latency_ns`
                          and `is_success`";

const AFTER_HELP: &str = "\
Examples:
  echo-bench localhost:7                        another server
  echo-bench -c 1                               latency of a single message
  echo-bench -c 1000 --idle 10k                 many connections, most idle
  echo-bench -d 64k -c 16                       large messages
  echo-bench localhost --tls --tls-ca ca.pem    encrypted messages
  echo-bench --churn                            connection setup and teardown
  echo-bench --threads 2                        load for a multi-threaded server
  echo-bench --rate 20k                         latency at 20,000 messages/s
  echo-bench --find-rate p99=1ms                the rate that keeps p99 below 1 ms
  echo-bench --interval 1 --hdr latency.hlog    each second, also to a file

Counts accept k and M (64k is 64,000), sizes too (64k is 65,536). Durations are
written like 500ms, 30s or \"1m 30s\"; a number is in seconds.

Exit codes:
  0  all replies were correct
  1  the server could not be measured, or replies were wrong or missing
  2  invalid command line
130  interrupted by SIGINT (Ctrl-C) or SIGTERM, after a report of the time before";

/// Parses a limit for the latency.
fn goal(text: &str) -> Result<Goal, String> {
    let parse = || {
        let (name, max) = text.split_once('=')?;
        let percent: f64 = match name {
            "max" => 100.0,
            name => name.strip_prefix('p')?.parse().ok()?,
        };
        let max = value::timeout(max).ok()?;
        let goal = Goal { quantile: percent / 100.0, name: name.to_owned(), max };
        (0.0..=100.0).contains(&percent).then_some(goal)
    };
    parse().ok_or_else(|| {
        "expected a percentile from p0 to p100, or max, and a duration, as in p99=1ms".to_owned()
    })
}

fn interval(text: &str) -> Result<Duration, String> {
    match value::duration(text)? {
        interval if interval < MIN_INTERVAL => Err(format!("must be at least {MIN_INTERVAL:?}")),
        interval => Ok(interval),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &[&str]) -> Result<Options, String> {
        let options = Options::try_parse_from([&["echo-bench"], line].concat());
        let options = options.map_err(|error| error.to_string())?;
        options.inconsistency().map_or(Ok(options), Err)
    }

    #[test]
    fn command_line_definition_is_consistent() {
        Options::command().debug_assert();
    }

    #[test]
    fn server_is_an_argument_or_an_option() {
        let inet = |host: &str, port| Target::Inet { host: host.to_owned(), port };
        for (line, expected) in [
            (&[][..], inet("127.0.0.1", 9999)),
            (&["here"], inet("here", 9999)),
            (&["here:7"], inet("here", 7)),
            (&["here", "-p", "7"], inet("here", 7)),
            (&["-p", "7"], inet("127.0.0.1", 7)),
            (&["--addr", "[::1]:7"], inet("::1", 7)),
            #[cfg(unix)] // Unix sockets
            (&["unix:/run/echo"], Target::Unix("/run/echo".into())),
            #[cfg(unix)] // Unix sockets
            (&["-U", "/run/echo"], Target::Unix("/run/echo".into())),
        ] {
            assert_eq!(parse(line).unwrap().target(), expected, "{line:?}");
        }
        for line in [
            &["here:7", "-p", "8"][..],
            &["here", "--addr", "there:7"],
            &["here", "-U", "/run/echo"],
            &["unix:/run/echo", "-p", "7"],
            &["9999"],
            &["-4", "-6"],
        ] {
            assert!(parse(line).is_err(), "{line:?}");
        }
    }

    #[test]
    fn duration_has_a_default_unless_messages_limit_the_run() {
        let seconds = |line: &[&str]| {
            let options = parse(line).unwrap();
            (options.duration().map(|time| time.as_secs_f64()), options.warm_up().as_secs_f64())
        };
        assert_eq!(seconds(&[]), (Some(10.0), 0.5));
        assert_eq!(seconds(&["-n", "1k"]), (None, 0.0));
        assert_eq!(seconds(&["-n", "1k", "-z", "3"]), (Some(3.0), 0.0));
        assert_eq!(seconds(&["--find-rate", "p99=1ms"]), (Some(2.0), 0.5));
        assert!(parse(&["-n", "1k", "--warm-up", "1s"]).is_err());
    }

    #[test]
    fn goal_is_a_percentile_and_a_duration() {
        for (text, quantile, name) in
            [("p99=1ms", 0.99, "p99"), ("p50=1ms", 0.5, "p50"), ("max=1ms", 1.0, "max")]
        {
            let expected = Goal { quantile, name: name.to_owned(), max: Duration::from_millis(1) };
            assert_eq!(goal(text), Ok(expected));
        }
        for text in ["", "p99", "p99=", "p101=1ms", "p-1=1ms", "pNaN=1ms", "99=1ms", "p99=0s"] {
            assert!(goal(text).unwrap_err().ends_with("as in p99=1ms"), "{text}");
        }
    }

    #[test]
    fn interval_is_not_too_short() {
        assert_eq!(interval("1"), Ok(Duration::from_secs(1)));
        assert_eq!(interval("9ms").unwrap_err(), "must be at least 10ms");
    }
}
