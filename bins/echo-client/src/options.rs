//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::error::ErrorKind;
use clap::{ArgAction, CommandFactory, Parser};
use cli::value::{self, Endpoint};
use cli_tls::TlsOptions;
use log::LevelFilter;

const AFTER_HELP: &str = "\
Examples:
  echo-client                         send 1 to 10 to 127.0.0.1:9999
  echo-client localhost:7             use another server
  echo-client ::1 7                   the port may be separate
  echo-client unix:/run/echo          use a Unix socket
  echo-client -m hello -m 'and you?'  send two messages
  echo-client -- hello -1 -2          send messages, also with a dash
  echo-client --stdin <file | cmp - file
                                      send a file, and compare the reply
  echo-client localhost --tls --tls-ca ca.pem
                                      use TLS, and trust this authority
  echo-client -vv                     log each send and receive

Durations are written like 500ms, 30s or \"1m 30s\"; a number is in seconds.

Exit codes:
  0  all replies were correct, or standard output was closed (| head -1)
  1  no connection, or a reply was missing or wrong; see standard error
  2  invalid command line";

/// The messages without `--message`.
const DEFAULT_MESSAGES: [&str; 10] = ["1", "2", "3", "4", "5", "6", "7", "8", "9", "10"];

/// Sends messages to an echo server and prints the replies
///
/// Each message is sent unchanged, without a line feed. Each reply is verified
/// and printed on a separate line, however the network divides or joins the
/// data. The connection is closed after the last reply.
#[derive(Debug, Parser)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
#[command(version, after_help = AFTER_HELP)]
pub(crate) struct Options {
    /// Server: a name or an address, and its port, or `unix:PATH`
    ///
    /// An IPv6 address with a port is written in brackets, as in
    /// `[::1]:9999`. If
    /// a name has several addresses, they are tried in turn until one accepts
    /// the connection.
    #[arg(
        value_name = "HOST[:PORT]",
        value_parser = value::endpoint,
        conflicts_with_all = ["host", "unix"],
    )]
    server: Option<Endpoint>,

    /// TCP port of the server
    #[arg(value_name = "PORT", value_parser = value::port, conflicts_with = "port")]
    server_port: Option<u16>,

    /// Name or address of the server
    ///
    /// The same as the argument HOST.
    #[arg(long, default_value = "127.0.0.1", value_parser = value::host)]
    host: String,

    /// TCP port of the server
    ///
    /// The same as the argument PORT.
    #[arg(short, long, default_value_t = 9999, value_parser = value::port)]
    port: u16,

    /// Connect to a Unix socket; the same as `unix:PATH`
    #[arg(
        short = 'U',
        long,
        value_name = "PATH",
        value_parser = OsStringValueParser::new().try_map(value::unix_path),
        conflicts_with_all = ["host", "port"],
    )]
    unix: Option<PathBuf>,

    /// Use only IPv4 addresses
    #[arg(short = '4', long, conflicts_with = "ipv6")]
    pub(crate) ipv4: bool,

    /// Use only IPv6 addresses
    #[arg(short = '6', long)]
    pub(crate) ipv6: bool,

    /// Time to wait for the server, such as 500ms, 10s or "1min 30s"
    ///
    /// Limits the time to connect, for all addresses of a name together, the
    /// time for a TLS handshake, and then the time without progress while a reply is pending. Waiting for
    /// standard input does not count.
    #[arg(short, long, value_name = "DURATION", default_value = "10s", value_parser = value::timeout)]
    pub(crate) timeout: Duration,

    #[command(flatten)]
    pub(crate) tls: TlsOptions,

    /// Send standard input, and write the reply to standard output
    ///
    /// The input may have any content and size; memory use is bounded. At the
    /// end of the input, the sending side of the connection is closed; the
    /// client exits when the whole reply was received. At most 1 MiB is in
    /// flight at a time, so a server that replies only after the end of its
    /// input cannot be sent more.
    #[arg(long, conflicts_with_all = ["message", "messages"])]
    pub(crate) stdin: bool,

    /// Increase log verbosity (may be repeated)
    ///
    /// -v logs information, -vv each send and receive, -vvv also the data. Takes
    /// precedence over the environment variable `RUST_LOG`, which can also select
    /// modules. By default, warnings and errors are logged to standard error.
    #[arg(short, long, action = ArgAction::Count, conflicts_with = "quiet")]
    verbose: u8,

    /// Log nothing; only the error that ends the program is printed
    ///
    /// Takes precedence over the environment variable `RUST_LOG`.
    #[arg(short, long)]
    quiet: bool,

    /// Message to send (may be repeated) [default: 1 to 10]
    ///
    /// A message may contain any bytes but must not be empty: an empty message
    /// has no reply.
    #[arg(
        short,
        long,
        value_name = "MESSAGE",
        allow_hyphen_values = true,
        value_parser = OsStringValueParser::new().try_map(message),
    )]
    message: Vec<Message>,

    /// Further messages to send, after `--`
    #[arg(
        value_name = "MESSAGE",
        last = true,
        value_parser = OsStringValueParser::new().try_map(message),
    )]
    messages: Vec<Message>,
}

impl Options {
    /// Parses the command line. An invalid one ends the program with exit
    /// code 2.
    pub(crate) fn parse_args() -> Self {
        let options = Self::parse();
        if let Some(text) = options.inconsistency() {
            Self::command().error(ErrorKind::ArgumentConflict, text).exit();
        }
        options
    }

    /// Returns what is wrong although each argument is correct, if anything.
    fn inconsistency(&self) -> Option<String> {
        let port = self.server_port?;
        match &self.server {
            Some(Endpoint::Inet { port: Some(_), .. }) => {
                Some(format!("the port {port} cannot be used with a port in HOST:PORT"))
            }
            Some(Endpoint::Unix(_)) => {
                Some(format!("the port {port} cannot be used with a Unix socket"))
            }
            Some(Endpoint::Inet { port: None, .. }) | None => None,
        }
    }

    /// Returns the address of the server, with its port.
    pub(crate) fn endpoint(&self) -> Endpoint {
        if let Some(path) = &self.unix {
            return Endpoint::Unix(path.clone());
        }
        let own_port = self.server_port.unwrap_or(self.port);
        match &self.server {
            Some(Endpoint::Unix(path)) => Endpoint::Unix(path.clone()),
            Some(Endpoint::Inet { host, port }) => {
                Endpoint::Inet { host: host.clone(), port: Some(port.unwrap_or(own_port)) }
            }
            None => Endpoint::Inet { host: self.host.clone(), port: Some(own_port) },
        }
    }

    /// Returns the messages to send, in order.
    pub(crate) fn into_messages(self) -> Vec<Message> {
        let messages = [self.message, self.messages].concat();
        if messages.is_empty() {
            return DEFAULT_MESSAGES.map(|text| Message(text.into())).into();
        }
        messages
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
    Ok(Message(argument.into_encoded_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_line_definition_is_consistent() {
        Options::command().debug_assert();
    }

    #[test]
    fn server_is_an_argument_or_an_option() {
        for (line, host, port) in [
            (&[][..], "127.0.0.1", 9999),
            (&["here"], "here", 9999),
            (&["here:7"], "here", 7),
            (&["here", "7"], "here", 7),
            (&["here", "--port", "7"], "here", 7),
            (&["[::1]:7"], "::1", 7),
            (&["::1", "7"], "::1", 7),
            (&["--host", "here", "--port", "7"], "here", 7),
        ] {
            let options = Options::parse_from([&["echo-client"], line].concat());
            let expected = Endpoint::Inet { host: host.to_owned(), port: Some(port) };
            assert_eq!(options.endpoint(), expected, "{line:?}");
        }
        #[cfg(unix)] // Unix sockets
        for line in [&["unix:/run/echo"][..], &["-U", "/run/echo"]] {
            let options = Options::parse_from([&["echo-client"], line].concat());
            assert_eq!(options.endpoint(), Endpoint::Unix("/run/echo".into()), "{line:?}");
        }
        for line in [
            &["here:0"][..],
            &["here", "there"],
            &["here", "--host", "there"],
            &["here:7", "8"],
            &["unix:/run/echo", "8"],
            &["here", "-U", "/run/echo"],
            &["-U", "/run/echo", "-p", "8"],
            &["9999"],
            &["-4", "-6"],
        ] {
            let options = Options::try_parse_from([&["echo-client"], line].concat());
            let is_accepted = options.is_ok_and(|options| options.inconsistency().is_none());
            assert!(!is_accepted, "{line:?}");
        }
    }

    #[test]
    fn messages_are_options_or_follow_two_dashes() {
        for (line, messages) in [
            (&["-m", "a", "--message", "-b"][..], &["a", "-b"][..]),
            (&["--", "a", "-b"], &["a", "-b"]),
            (&["-m", "a", "here", "--", "b"], &["a", "b"]),
            (&["here"], &DEFAULT_MESSAGES),
        ] {
            let options = Options::parse_from([&["echo-client"], line].concat());
            let parsed: Vec<_> = options.into_messages().into_iter().map(|m| m.0).collect();
            assert_eq!(parsed, messages.iter().map(|text| text.as_bytes()).collect::<Vec<_>>());
        }
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
