//! [`Failure`]: every error that ends the program, and its text.
//!
//! A text is one line that names what failed, at which address, why, and what
//! to do.

use std::error::Error;
use std::fmt;
use std::io::{self, ErrorKind};
use std::time::Duration;

use cli::error::without_errno;
use humantime::format_duration;
use reactor::Address;

/// The reason why the conversation did not succeed.
///
/// A callback returns it within an [`io::Error`], and
/// [`from_io_error`](Self::from_io_error) extracts it from the close reason.
#[derive(Clone, Debug)]
pub(crate) enum Failure {
    /// The host name does not resolve.
    UnknownHost { host: String, cause: String },
    /// The connection was not established.
    Connect { server: String, cause: String, hint: &'static str },
    /// The connection was not established in time.
    ConnectTimeout { server: String, timeout: Duration },
    /// The TLS handshake was not complete in time.
    HandshakeTimeout { server: String, timeout: Duration },
    /// A reply was pending, and no data was received in time.
    ReplyTimeout { server: String, timeout: Duration, progress: String },
    /// The server closed the connection before the last reply.
    Closed { server: String, progress: String },
    /// The connection failed.
    Lost { server: String, progress: String, cause: String },
    /// A byte differs from the one that was sent.
    Corrupt { server: String, offset: u64, sent: u8, received: u8 },
    /// More data was received than was sent.
    Surplus { server: String, sent: u64 },
    /// Standard input cannot be read.
    Input(String),
    /// Standard output cannot be written.
    Output(String),
    /// The reader of standard output has closed it: the program ends early, but
    /// successfully.
    OutputClosed,
}

impl Failure {
    /// Creates the failure for a connection that was not established.
    pub(crate) fn connect(server: String, error: &io::Error) -> Self {
        let hint = match error.kind() {
            ErrorKind::ConnectionRefused => "is echo-server running there?",
            ErrorKind::TimedOut => "is the host up and the address correct?",
            ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => {
                "is this machine connected to that network?"
            }
            ErrorKind::NotFound => "is echo-server running there, and the path correct?",
            ErrorKind::PermissionDenied => "does a firewall forbid it?",
            // From the TLS session.
            ErrorKind::InvalidData => {
                "check the server's certificate, --tls-ca and --tls-name, and that it serves TLS"
            }
            ErrorKind::UnexpectedEof => "does the server serve TLS?",
            ErrorKind::AddrNotAvailable => "is the address correct, and is a local port available?",
            _ => "use -vv to log each attempt",
        };
        Failure::Connect { server, cause: without_errno(error), hint }
    }

    /// Creates the failure for a byte at `offset` that differs from `sent`, or
    /// was never sent.
    pub(crate) fn wrong_byte(
        server: &Address,
        offset: u64,
        sent: Option<u8>,
        received: u8,
    ) -> Self {
        let server = server.to_string();
        match sent {
            Some(sent) => Failure::Corrupt { server, offset, sent, received },
            None => Failure::Surplus { server, sent: offset },
        }
    }

    /// Creates the failure for standard output that cannot be written.
    pub(crate) fn output(error: &io::Error) -> Self {
        match error.kind() {
            ErrorKind::BrokenPipe => Failure::OutputClosed,
            _ => Failure::Output(without_errno(error)),
        }
    }

    /// Returns the failure that a callback returned as `error`, if it is one.
    pub(crate) fn from_io_error(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::UnknownHost { host, cause } => {
                write!(f, "cannot resolve host {host:?}: {cause}; ")?;
                write!(f, "check the name, or specify an address with --host ")?;
                write!(f, "(to send a message: -m)")
            }
            Failure::Connect { server, cause, hint } => {
                write!(f, "cannot connect to {server}: {cause}; {hint}")
            }
            Failure::ConnectTimeout { server, timeout } => {
                write!(f, "cannot connect to {server}: ")?;
                write!(f, "no response within {}; ", format_duration(*timeout))?;
                write!(f, "is the host up and the address correct? (see --timeout)")
            }
            Failure::HandshakeTimeout { server, timeout } => {
                write!(f, "cannot connect to {server}: ")?;
                write!(f, "no TLS handshake within {}; ", format_duration(*timeout))?;
                write!(f, "does the server serve TLS? (see --timeout)")
            }
            Failure::ReplyTimeout { server, timeout, progress } => {
                write!(f, "{server}: no reply for {} ", format_duration(*timeout))?;
                write!(f, "after {progress}; is it an echo server? (see --timeout)")
            }
            Failure::Closed { server, progress } => {
                write!(f, "{server}: closed the connection after {progress}; ")?;
                write!(f, "the server's log may contain the reason")
            }
            Failure::Lost { server, progress, cause } => {
                write!(f, "{server}: connection lost after {progress}: {cause}; ")?;
                write!(f, "the server's log may contain the reason")
            }
            Failure::Corrupt { server, offset, sent, received } => {
                write!(f, "{server}: reply differs from the data sent: ")?;
                write!(f, "at offset {offset}, sent {sent:#04x} and received {received:#04x}; ")?;
                write!(f, "is it an echo server?")
            }
            Failure::Surplus { server, sent } => {
                write!(f, "{server}: received more than the {sent} bytes sent; ")?;
                write!(f, "is it an echo server?")
            }
            Failure::Input(cause) => {
                write!(f, "cannot read standard input: {cause}; ")?;
                write!(f, "earlier input was sent and may be incomplete")
            }
            Failure::Output(cause) => {
                write!(f, "cannot write standard output: {cause}; the output is incomplete")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failure_is_extracted_from_io_error() {
        let error = io::Error::from(Failure::Input("bad descriptor".to_owned()));
        assert!(matches!(Failure::from_io_error(&error), Some(Failure::Input(_))));
        assert!(Failure::from_io_error(&io::Error::from(ErrorKind::BrokenPipe)).is_none());
    }

    #[test]
    fn error_texts_contain_no_errno() {
        let refused = io::Error::from_raw_os_error(if cfg!(windows) { 10_061 } else { 111 });
        let text = Failure::connect("[::1]:7".to_owned(), &refused).to_string();
        assert!(text.starts_with("cannot connect to [::1]:7: "), "{text}");
        assert!(text.ends_with("; is echo-server running there?"), "{text}");
        assert!(!text.contains("os error") && !text.contains(".;"), "{text}");
    }
}
