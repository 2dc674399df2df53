//! The command line.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{ArgAction, Parser};
use cli::value;
use log::LevelFilter;

const AFTER_HELP: &str = "\
Examples:
  echo-client                         send 1 to 10 to 127.0.0.1:9999
  echo-client hello 'how are you?'    send two messages
  echo-client --host ::1 --port 7     use another server
  echo-client -- -1 -2                send messages that begin with a dash
  echo-client --stdin <file | cmp - file
                                      send a file, and compare the reply
  echo-client -vv                     log each send and receive

Exit codes:
  0  all replies were correct, or standard output was closed (| head -1)
  1  no connection, or a reply was missing or wrong; see standard error
  2  invalid command line";

/// Sends messages to an echo server and prints the replies
///
/// Each message is sent unchanged, without a line feed. Each reply is verified
/// and printed on a separate line, however the network divides or joins the
/// data. The connection is closed after the last reply.
#[derive(Debug, Parser)]
#[command(version, after_help = AFTER_HELP)]
pub(crate) struct Options {
    /// Name or address of the server
    ///
    /// An IPv6 address may be written in brackets. If a name has several
    /// addresses, they are tried in turn until one accepts the connection.
    #[arg(long, default_value = "127.0.0.1", value_parser = value::host)]
    pub(crate) host: String,

    /// TCP port of the server
    #[arg(long, default_value_t = 9999, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) port: u16,

    /// Time to wait for the server, such as 500ms, 10s or "1min 30s"
    ///
    /// Limits the time to connect, for all addresses of a name together, and
    /// then the time without progress while a reply is pending. Waiting for
    /// standard input does not count.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = value::timeout)]
    pub(crate) timeout: Duration,

    /// Send standard input, and write the reply to standard output
    ///
    /// The input may have any content and size; memory use is bounded. At the
    /// end of the input, the sending side of the connection is closed; the
    /// client exits when the whole reply was received. At most 1 MiB is in
    /// flight at a time, so a server that replies only after the end of its
    /// input cannot be sent more.
    #[arg(long, conflicts_with = "messages")]
    pub(crate) stdin: bool,

    /// Increase log verbosity (may be repeated)
    ///
    /// -v logs information, -vv each send and receive. Takes precedence over
    /// the environment variable `RUST_LOG`, which can also select modules. By
    /// default, warnings and errors are logged to standard error.
    #[arg(short, long, action = ArgAction::Count, conflicts_with = "quiet")]
    verbose: u8,

    /// Log nothing; only the error that ends the program is printed
    #[arg(short, long)]
    quiet: bool,

    /// Messages to send, in order
    ///
    /// A message may contain any bytes but must not be empty: an empty message
    /// has no reply.
    #[arg(
        value_name = "MESSAGE",
        default_values = ["1", "2", "3", "4", "5", "6", "7", "8", "9", "10"],
        value_parser = OsStringValueParser::new().try_map(message),
    )]
    pub(crate) messages: Vec<Message>,
}

impl Options {
    /// Returns the log level that the command line requests, if any.
    pub(crate) fn log_level(&self) -> Option<LevelFilter> {
        if self.quiet {
            Some(LevelFilter::Off)
        } else {
            cli::logging::level_for_verbose(self.verbose)
        }
    }
}

/// A message of at least one byte.
#[derive(Clone, Debug)]
pub(crate) struct Message(Vec<u8>);

impl AsRef<[u8]> for Message {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

fn message(argument: OsString) -> Result<Message, &'static str> {
    if argument.is_empty() {
        return Err("an empty message has no reply");
    }
    Ok(Message(argument.into_vec()))
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
    fn flags_select_the_log_level() {
        let level =
            |flags: &[&str]| Options::parse_from([&["echo-client"], flags].concat()).log_level();
        assert_eq!(level(&[]), None);
        assert_eq!(level(&["-q"]), Some(LevelFilter::Off));
        assert_eq!(level(&["-v"]), Some(LevelFilter::Info));
        assert_eq!(level(&["-vv"]), Some(LevelFilter::Debug));
        assert_eq!(level(&["-vvvv"]), Some(LevelFilter::Trace));
    }
}
