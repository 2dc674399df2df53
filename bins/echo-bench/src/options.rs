//! The command line.

use std::num::NonZeroUsize;
use std::time::Duration;

use clap::Parser;

/// Measures a TCP echo server: sends messages, checks every byte of the
/// answers, and tells how many there were and how long they took.
///
/// Each connection sends a message when the answer to an earlier one has come
/// (a closed loop), so a server that pauses is asked less while it does, and
/// the pause is seen by few messages. The summary corrects for that ("coordinated
/// omission") as `HdrHistogram` does: for a message that took longer than is usual
/// between two of one connection, it counts those too that would have been sent
/// meanwhile. Both figures are told.
#[derive(Clone, Debug, Parser)]
#[command(version, after_help = AFTER_HELP)]
pub(crate) struct Options {
    /// The server, as HOST:PORT
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:9999")]
    pub(crate) addr: String,

    /// How many connections exchange messages
    #[arg(long, value_name = "N", default_value = "64", value_parser = number)]
    pub(crate) connections: NonZeroUsize,

    /// Bytes of a message
    #[arg(long, value_name = "BYTES", default_value = "64", value_parser = size)]
    pub(crate) size: usize,

    /// How many messages of a connection may be under way
    #[arg(long, value_name = "D", default_value = "1", value_parser = number)]
    pub(crate) pipeline: NonZeroUsize,

    /// How long to measure
    #[arg(long, value_name = "T", default_value = "10s", value_parser = duration)]
    pub(crate) duration: Duration,

    /// How long to run before measuring
    #[arg(long, value_name = "T", default_value = "500ms", value_parser = humantime::parse_duration)]
    pub(crate) warm_up: Duration,

    /// How many more connections to hold open that send nothing
    #[arg(long, value_name = "M", default_value_t = 0)]
    pub(crate) idle: usize,

    /// A new connection for each message, closed after its answer; so not with --pipeline
    #[arg(long, conflicts_with_all = ["pipeline"])]
    pub(crate) churn: bool,

    /// On how many threads: one can ask a server on several for less than that does
    #[arg(long, value_name = "N", default_value = "1", value_parser = number)]
    pub(crate) threads: NonZeroUsize,

    /// Print the result as JSON, on one line
    #[arg(long)]
    pub(crate) json: bool,
}

impl Options {
    /// On how many threads in fact: none of them without a connection.
    pub(crate) fn threads(&self) -> usize {
        self.threads.min(self.connections).get()
    }
}

const AFTER_HELP: &str = "\
Examples:
  echo-bench --connections 1                    how long does one message take?
  echo-bench --connections 1000 --idle 10000    a server with much to remember
  echo-bench --size 65536 --connections 16      large messages
  echo-bench --churn                            connections opened and closed
  echo-bench --threads 2                        a server that has several threads, too

Exit codes:
  0  every answer was right
  1  the server could not be measured, or answers were wrong or missing
  2  the command line is wrong";

fn duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(Duration::ZERO) => Err("nothing can be measured in no time".to_owned()),
        Ok(duration) => Ok(duration),
        Err(error) => Err(error.to_string()),
    }
}

fn number(text: &str) -> Result<NonZeroUsize, String> {
    text.parse().map_err(|_| "a whole number from 1 on".to_owned())
}

/// The most is what the pattern is made for.
fn size(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(size @ 1..=16_777_216) => Ok(size),
        _ => Err("a number of bytes from 1 to 16777216".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Options::command().debug_assert();
    }
}
