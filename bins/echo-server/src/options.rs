//! The command line.

use std::num::NonZeroUsize;
use std::time::Duration;

use clap::{ArgAction, Parser};
use log::LevelFilter;

/// Sends back whatever it is sent, to any number of peers at once.
///
/// Prints `Listening on ADDRESS` once it accepts connections, then `Incoming
/// connection from ADDRESS` for each peer. Everything else goes to the log on
/// standard error.
///
/// SIGINT or SIGTERM ends it in good order: it accepts the connections that
/// are queued, stops listening, and lets its peers finish. A second signal cuts
/// them off.
#[derive(Clone, Debug, Parser)]
#[command(version, after_long_help = EXAMPLES_AND_EXIT_CODES)]
pub(crate) struct Options {
    /// Address or name to listen on
    ///
    /// 0.0.0.0 stands for all IPv4 addresses of this machine, :: for all IPv6
    /// ones (and on most systems for the IPv4 ones too). Of the addresses of a
    /// name the first that can be had is taken. An IPv6 address may stand in
    /// brackets.
    #[arg(long, default_value = "127.0.0.1", value_parser = host)]
    pub(crate) host: String,

    /// TCP port to listen on; 0 takes a free one
    ///
    /// The `Listening on` line tells which port was taken.
    #[arg(long, default_value_t = 9999)]
    pub(crate) port: u16,

    /// Serve at most this many peers at a time
    ///
    /// A connection beyond them is accepted and closed at once, so that its
    /// client learns of it, and is counted in the log. Without this option the
    /// limit on open files is the limit: peers beyond it wait until others go.
    #[arg(long, value_name = "N", value_parser = number)]
    pub(crate) max_connections: Option<NonZeroUsize>,

    /// Serve on this many threads, among which the system distributes the peers
    ///
    /// Each has an event loop and a listening socket of its own (`SO_REUSEPORT`),
    /// so a peer stays with the thread that accepted it. --max-connections is
    /// shared out among them. More threads than processors gain nothing. Where
    /// other programs keep those busy, start it by `chrt --batch 0`: messages
    /// then gather while the others run, in place of a switch for each.
    #[arg(long, value_name = "N", default_value = "1", value_parser = number)]
    pub(crate) threads: NonZeroUsize,

    /// Keep each thread on a processor of its own
    ///
    /// Of those that the program may run on (taskset), in the order of their
    /// numbers: choose them so that no two are halves of one core. Pays where
    /// nothing else is busy on them; else a thread cannot get out of the way.
    #[arg(long)]
    pub(crate) pin: bool,

    /// Look this long whether a message comes before going to sleep
    ///
    /// Answers a lone peer sooner, for some processor time; 100us is a good
    /// choice. Given up by itself while it does not pay.
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = duration)]
    pub(crate) busy_poll: Duration,

    /// Close a connection after this long without traffic
    ///
    /// Without this option a silent peer may stay.
    #[arg(long, value_name = "DURATION", value_parser = timeout)]
    pub(crate) idle_timeout: Option<Duration>,

    /// Close a connection whose peer has read nothing of its echo for this long
    ///
    /// Until then the server reads no more from that peer, and holds at most
    /// 128 KiB for it.
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = timeout)]
    pub(crate) stall_timeout: Duration,

    /// How long peers may go on after the first SIGINT or SIGTERM
    ///
    /// Those still connected then are cut off. 0s cuts all of them off at once.
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = duration)]
    pub(crate) drain_timeout: Duration,

    /// Log more: -v what happens, -vv each connection, -vvv everything
    ///
    /// Takes precedence over the environment variable `RUST_LOG`, which may also name the
    /// parts to hear of (`RUST_LOG=reactor=debug`). Without either, warnings and
    /// errors are logged.
    #[arg(short, long, action = ArgAction::Count)]
    pub(crate) verbose: u8,

    /// Log errors only, and print no line for each connection
    #[arg(short, long, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
}

const EXAMPLES_AND_EXIT_CODES: &str = "\
Durations are written like 500ms, 30s or \"1m 30s\".

Examples:
  echo-server
          Serve this machine only, on port 9999
  echo-server --host :: --port 7 --max-connections 1000 --idle-timeout 5m
          Serve everybody, within limits
  echo-server --port 0 -q
          Take a free port, and print nothing but which one

Exit codes:
  0  ended by SIGINT or SIGTERM: every peer had until the drain timeout
  1  could not listen, or failed later; or a second signal cut peers off
  2  the command line was wrong";

impl Options {
    /// What the command line says about the log, if anything.
    pub(crate) fn log_level(&self) -> Option<LevelFilter> {
        match self.verbose {
            0 if self.quiet => Some(LevelFilter::Error),
            0 => None,
            1 => Some(LevelFilter::Info),
            2 => Some(LevelFilter::Debug),
            _ => Some(LevelFilter::Trace),
        }
    }
}

/// A host as one may write it in an address, without the brackets.
#[expect(clippy::unnecessary_wraps, reason = "the form of a clap value parser")]
fn host(text: &str) -> Result<String, String> {
    let inner = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    Ok(inner.unwrap_or(text).to_owned())
}

fn number(text: &str) -> Result<NonZeroUsize, String> {
    text.parse().map_err(|_| "a whole number from 1 on".to_owned())
}

fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|error| format!("{error}; write it like 500ms, 30s or \"1m 30s\""))
}

/// A duration after which a connection is closed: with none at all, every
/// connection would be.
fn timeout(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("it must be longer than zero".to_owned()),
        timeout => Ok(timeout),
    }
}
