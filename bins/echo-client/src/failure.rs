//! [`Failure`]: everything that may go wrong, and the sentence for each: what
//! happened, at which address, and what to do about it.

use std::error::Error;
use std::fmt;
use std::io::{self, ErrorKind};
use std::time::Duration;

use reactor::Address;

/// Why the program did not do what it was asked to.
///
/// A callback of the reactor returns it inside of an [`io::Error`], and finds
/// it again in the reason that `handle_close` is given.
#[derive(Clone, Debug)]
pub(crate) enum Failure {
    /// The host's name has no address.
    UnknownHost { host: String, why: String },
    /// No connection came about.
    Connect { server: String, why: String, hint: &'static str },
    /// No connection came about in time.
    ConnectTimeout { server: String, timeout: Duration },
    /// The server owed an answer, and made no progress.
    Silent { server: String, timeout: Duration, progress: String },
    /// The server ended the conversation too early.
    Closed { server: String, progress: String },
    /// The connection broke.
    Lost { server: String, progress: String, why: String },
    /// A byte came back as another one.
    Corrupt { server: String, offset: u64, sent: u8, came: u8 },
    /// More came back than was sent.
    Surplus { server: String, sent: u64 },
    /// Standard input cannot be read.
    Input(String),
    /// Standard output cannot be written.
    Output(String),
    /// Nobody reads standard output any more: no failure in the end, but
    /// reason enough to leave.
    OutputClosed,
}

impl Failure {
    /// No connection to `server` came about because of `error`.
    pub(crate) fn connect(server: String, error: &io::Error) -> Self {
        let hint = match error.kind() {
            ErrorKind::ConnectionRefused => "is echo-server running there?",
            ErrorKind::TimedOut => "is the host up, and the address right?",
            ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => {
                "is this machine connected to that network?"
            }
            ErrorKind::PermissionDenied => "does a firewall forbid it?",
            ErrorKind::AddrNotAvailable => {
                "is the address right, and is a local port left to connect from?"
            }
            _ => "try again with -vv to see each attempt",
        };
        Failure::Connect { server, why: plain(error), hint }
    }

    /// A byte came back that should not have: another than `sent`, or one that
    /// was never sent.
    pub(crate) fn wrong(server: &Address, offset: u64, sent: Option<u8>, came: u8) -> Self {
        let server = server.to_string();
        match sent {
            Some(sent) => Failure::Corrupt { server, offset, sent, came },
            None => Failure::Surplus { server, sent: offset },
        }
    }

    /// Standard output could not be written because of `error`.
    pub(crate) fn output(error: &io::Error) -> Self {
        match error.kind() {
            ErrorKind::BrokenPipe => Failure::OutputClosed,
            _ => Failure::Output(plain(error)),
        }
    }

    /// The failure that a callback returned, if `error` is one.
    pub(crate) fn within(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::UnknownHost { host, why } => {
                write!(f, "cannot find the host {host:?}: {why}; ")?;
                write!(f, "check the name, or give --host an address")
            }
            Failure::Connect { server, why, hint } => {
                write!(f, "cannot connect to {server}: {why}; {hint}")
            }
            Failure::ConnectTimeout { server, timeout } => {
                let timeout = humantime::format_duration(*timeout);
                write!(f, "cannot connect to {server}: no answer within {timeout}; ")?;
                write!(f, "is the host up, and the address right? (--timeout waits longer)")
            }
            Failure::Silent { server, timeout, progress } => {
                let timeout = humantime::format_duration(*timeout);
                write!(f, "no answer from {server} for {timeout}, after {progress}; ")?;
                write!(f, "is it an echo server? (--timeout waits longer)")
            }
            Failure::Closed { server, progress } => {
                write!(f, "{server} closed the connection after {progress}; ")?;
                write!(f, "the server's log may say why")
            }
            Failure::Lost { server, progress, why } => {
                write!(f, "lost the connection to {server} after {progress}: {why}; ")?;
                write!(f, "the server's log may say why")
            }
            Failure::Corrupt { server, offset, sent, came } => {
                write!(f, "{server} does not send back what it is sent: the byte at offset ")?;
                write!(f, "{offset} was {sent:#04x} and came back as {came:#04x}; ")?;
                write!(f, "is it an echo server?")
            }
            Failure::Surplus { server, sent } => {
                write!(f, "{server} sends more than the {sent} bytes that it was sent; ")?;
                write!(f, "is it an echo server?")
            }
            Failure::Input(why) => {
                write!(f, "cannot read standard input: {why}; ")?;
                write!(f, "what came before was sent, and may be incomplete")
            }
            Failure::Output(why) => {
                write!(f, "cannot write standard output: {why}; what was written is incomplete")
            }
            Failure::OutputClosed => f.write_str("standard output is closed"),
        }
    }
}

impl Error for Failure {}

/// For `?` in callbacks.
impl From<Failure> for io::Error {
    fn from(failure: Failure) -> Self {
        io::Error::other(failure)
    }
}

/// An error's text without the parts that only a programmer reads.
pub(crate) fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.strip_prefix("failed to lookup address information: ").unwrap_or(&text);
    match text.split_once(" (os error ") {
        Some((text, _)) => text.to_owned(),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_survives_the_way_through_the_reactor() {
        let error = io::Error::from(Failure::Input("it is gone".to_owned()));
        assert!(matches!(Failure::within(&error), Some(Failure::Input(_))));
        assert!(Failure::within(&io::Error::from(ErrorKind::BrokenPipe)).is_none());
    }

    #[test]
    fn errors_are_shown_without_their_numbers() {
        let refused = io::Error::from_raw_os_error(111);
        assert_eq!(plain(&refused), "Connection refused");
    }
}
