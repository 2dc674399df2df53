//! The command line.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

use clap::builder::{NonEmptyStringValueParser, OsStringValueParser, TypedValueParser};
use clap::{ArgAction, Parser};
use log::LevelFilter;

const AFTER_HELP: &str = "\
Examples:
  echo-client                         send 1 to 10 to 127.0.0.1:9999
  echo-client hello 'how are you?'    two messages of your own
  echo-client --host ::1 --port 7     another server
  echo-client -- -1 -2                messages that begin with a dash
  echo-client --stdin <file | cmp - file
                                      a whole file, there and back
  echo-client -vv                     what is sent and received, step by step

Exit codes:
  0  every byte came back, or whoever read our output had enough (| head -1)
  1  no connection, no answer, or a wrong one; standard error says which
  2  the command line is wrong";

/// Sends messages to an echo server and prints what comes back.
///
/// Each message is sent as it is, without a line end. Each reply is printed on
/// a line of its own, once every byte of it has come back and was found equal
/// to what was sent; however the network cut or joined the bytes on their way.
/// After the last reply the connection is closed.
#[derive(Debug, Parser)]
#[command(version, after_help = AFTER_HELP)]
pub(crate) struct Options {
    /// Where the server is: a name, an IPv4 or an IPv6 address
    ///
    /// An IPv6 address may stand in brackets. If a name has several addresses
    /// each is tried in turn until one answers.
    #[arg(long, default_value = "127.0.0.1", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) host: String,

    /// The server's TCP port
    #[arg(long, default_value_t = 9999, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) port: u16,

    /// How long to wait for the server, such as 500ms, 10s or "1min 30s"
    ///
    /// Connecting may take so long, all addresses of a name together. After
    /// that the client gives up once the server has owed an answer and made no
    /// progress for so long. Waiting for standard input does not count.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = timeout)]
    pub(crate) timeout: Duration,

    /// Send standard input, and write what comes back to standard output
    ///
    /// Byte for byte, of any size, in bounded memory. At the end of the input
    /// the sending side of the connection is closed; the client ends when the
    /// last byte has come back. At most 1 MiB is under way at a time, so a
    /// server that answers only after the end of its input must not be sent
    /// more.
    #[arg(long, conflicts_with = "messages")]
    pub(crate) stdin: bool,

    /// More of the log, on standard error; twice for still more
    ///
    /// The log shows warnings by default, information with -v, each step with
    /// -vv. The environment variable `RUST_LOG` sets it too, module by module.
    #[arg(short, long, action = ArgAction::Count, conflicts_with = "quiet")]
    verbose: u8,

    /// No log at all; the one line that tells of a failure remains
    #[arg(short, long)]
    quiet: bool,

    /// What to send, one message after another
    ///
    /// A message is any sequence of bytes but the empty one, which puts
    /// nothing on the wire, so that nothing could come back.
    #[arg(
        value_name = "MESSAGE",
        default_values = ["1", "2", "3", "4", "5", "6", "7", "8", "9", "10"],
        value_parser = OsStringValueParser::new().try_map(message),
    )]
    pub(crate) messages: Vec<Message>,
}

impl Options {
    /// The log level that was asked for by a flag, if one was.
    pub(crate) fn log_level(&self) -> Option<LevelFilter> {
        match self.verbose {
            0 if self.quiet => Some(LevelFilter::Off),
            0 => None,
            1 => Some(LevelFilter::Info),
            2 => Some(LevelFilter::Debug),
            _ => Some(LevelFilter::Trace),
        }
    }
}

/// A message: bytes, of which there is at least one.
#[derive(Clone, Debug)]
pub(crate) struct Message(Vec<u8>);

impl AsRef<[u8]> for Message {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

fn message(argument: OsString) -> Result<Message, &'static str> {
    if argument.is_empty() {
        return Err("an empty message cannot be sent: it has no byte that could come back");
    }
    Ok(Message(argument.into_vec()))
}

fn timeout(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(Duration::ZERO) => Err("no server answers in no time".to_owned()),
        Ok(timeout) => Ok(timeout),
        Err(error) => Err(error.to_string()),
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

    #[test]
    fn flags_choose_the_log_level() {
        let level =
            |flags: &[&str]| Options::parse_from([&["echo-client"], flags].concat()).log_level();
        assert_eq!(level(&[]), None);
        assert_eq!(level(&["-q"]), Some(LevelFilter::Off));
        assert_eq!(level(&["-v"]), Some(LevelFilter::Info));
        assert_eq!(level(&["-vv"]), Some(LevelFilter::Debug));
        assert_eq!(level(&["-vvvv"]), Some(LevelFilter::Trace));
    }
}
