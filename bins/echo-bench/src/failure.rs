//! [`Failure`]: an error of a connection, and its kind.

use std::error::Error;
use std::fmt;
use std::io;
use std::time::Duration;

use reactor::{Cause, TimeoutKind};

/// Why a connection failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    kind: FailureKind,
    text: String,
}

/// The kinds of errors. Their names are part of the JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum FailureKind {
    /// The server closed the connection.
    Closed,
    /// The connection was not established.
    Connect,
    /// This program or machine failed.
    Local,
    /// A reply did not arrive in time.
    NoReply,
    /// The connection was reset, or failed otherwise.
    Reset,
    /// More was received than sent.
    UnexpectedData,
    /// Another byte was received than sent.
    WrongReply,
}

impl FailureKind {
    /// Returns the name in the report.
    pub(crate) fn name(self) -> &'static str {
        match self {
            FailureKind::Closed => "closed",
            FailureKind::Connect => "connect",
            FailureKind::Local => "local",
            FailureKind::NoReply => "no_reply",
            FailureKind::Reset => "reset",
            FailureKind::UnexpectedData => "unexpected_data",
            FailureKind::WrongReply => "wrong_reply",
        }
    }
}

impl Failure {
    /// Creates a failure of `kind`.
    pub(crate) fn new(kind: FailureKind, text: impl Into<String>) -> Self {
        Failure { kind, text: text.into() }
    }

    /// Creates the failure for a reply that did not arrive in time.
    pub(crate) fn no_reply(timeout: Duration) -> Self {
        Failure::new(FailureKind::NoReply, format!("no reply for {timeout:?}"))
    }

    /// Returns the failure that closed a connection, or `None` if this program
    /// closed it.
    pub(crate) fn from_cause(
        cause: &Cause,
        is_connected: bool,
        reply_timeout: Duration,
    ) -> Option<Self> {
        let kind = match cause {
            Cause::Local | Cause::Shutdown => return None,
            Cause::TimedOut(TimeoutKind::Idle) => return Some(Failure::no_reply(reply_timeout)),
            Cause::Error(error) => {
                let failure = error.get_ref().and_then(|inner| inner.downcast_ref::<Failure>());
                match failure {
                    Some(failure) => return Some(failure.clone()),
                    None if is_connected => FailureKind::Reset,
                    None => FailureKind::Connect,
                }
            }
            Cause::TimedOut(_) if !is_connected => FailureKind::Connect,
            Cause::PeerClosed | Cause::Truncated => FailureKind::Closed,
            _ => FailureKind::Local,
        };
        Some(Failure::new(kind, cause.to_string()))
    }

    /// Returns the kind.
    pub(crate) fn kind(&self) -> FailureKind {
        self.kind
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
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
    fn kind_follows_from_the_cause() {
        let kind = |cause: Cause, is_connected| {
            let failure = Failure::from_cause(&cause, is_connected, Duration::from_secs(1));
            failure.map(|failure| failure.kind.name())
        };
        let reset = || Cause::Error(io::ErrorKind::ConnectionReset.into());
        let wrong = Failure::new(FailureKind::WrongReply, "wrong");
        assert_eq!(kind(Cause::Local, true), None);
        assert_eq!(kind(reset(), true), Some("reset"));
        assert_eq!(kind(reset(), false), Some("connect"));
        assert_eq!(kind(Cause::Error(wrong.into()), true), Some("wrong_reply"));
        assert_eq!(kind(Cause::TimedOut(TimeoutKind::Idle), true), Some("no_reply"));
        assert_eq!(kind(Cause::TimedOut(TimeoutKind::Connect), false), Some("connect"));
        assert_eq!(kind(Cause::PeerClosed, true), Some("closed"));
    }
}
