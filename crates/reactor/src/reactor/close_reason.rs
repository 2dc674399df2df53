//! [`CloseReason`]: why a channel ended, and what was lost.

use std::error::Error;
use std::fmt;
use std::io;

/// Why a channel ended, and how much output was lost.
///
/// # Examples
///
/// ```
/// use reactor::{Cause, CloseReason};
///
/// let reason = CloseReason::new(Cause::PeerClosed, 3);
/// assert_eq!(reason.to_string(), "closed by the peer, 3 bytes unsent");
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct CloseReason {
    /// The first cause.
    pub cause: Cause,
    /// The number of bytes accepted for sending and never written to the socket.
    pub unsent: usize,
}

impl CloseReason {
    /// Creates a reason, for tests of code that handles one.
    #[must_use]
    pub fn new(cause: Cause, unsent: usize) -> Self {
        CloseReason { cause, unsent }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.unsent {
            0 => write!(f, "{}", self.cause),
            1 => write!(f, "{}, 1 byte unsent", self.cause),
            n => write!(f, "{}, {n} bytes unsent", self.cause),
        }
    }
}

impl Error for CloseReason {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause.source()
    }
}

/// What ended a channel.
#[derive(Debug)]
#[non_exhaustive]
pub enum Cause {
    /// This end closed it.
    Local,
    /// The peer closed the connection gracefully.
    PeerClosed,
    /// An I/O error, for example a reset, or an `Err` from a callback.
    Error(io::Error),
    /// The connection ended without the end that its [`Filter`](crate::Filter) requires (in
    /// TLS, the message `close_notify`), so some input may be missing.
    Truncated,
    /// A timeout expired.
    TimedOut(TimeoutKind),
    /// A callback panicked with this message.
    Panicked(Box<str>),
    /// The reactor ended while the channel was open.
    Shutdown,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Local => f.write_str("closed"),
            Cause::PeerClosed => f.write_str("closed by the peer"),
            Cause::Error(error) => write!(f, "{error}"),
            Cause::Truncated => f.write_str("truncated: the connection ended unexpectedly"),
            Cause::TimedOut(timeout) => write!(f, "timed out: {timeout}"),
            Cause::Panicked(message) => write!(f, "a callback panicked: {message}"),
            Cause::Shutdown => f.write_str("shut down"),
        }
    }
}

impl Error for Cause {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            // Its text is part of this one's.
            Cause::Error(error) => error.source(),
            _ => None,
        }
    }
}

/// Which timeout expired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TimeoutKind {
    /// The connection was not established in time.
    Connect,
    /// A filter, such as TLS, was not ready in time.
    Handshake,
    /// Nothing was sent or received for the idle timeout.
    Idle,
    /// The peer read none of the pending output for the stall timeout.
    Stall,
    /// Like [`Stall`](Self::Stall), but this end has not read either, because it was
    /// paused, although input has arrived. Each end may be waiting for the other.
    MutualStall,
    /// The peer did not read all output in time after the stream was closed.
    Close,
    /// A message was not complete in time.
    Message,
    /// A deadline of the dispatcher.
    Deadline,
}

impl fmt::Display for TimeoutKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TimeoutKind::Connect => "connect timeout",
            TimeoutKind::Handshake => "handshake timeout",
            TimeoutKind::Idle => "idle timeout",
            TimeoutKind::Stall => "stall timeout",
            TimeoutKind::MutualStall => "stall timeout: neither end reads",
            TimeoutKind::Close => "close timeout",
            TimeoutKind::Message => "message timeout",
            TimeoutKind::Deadline => "deadline exceeded",
        })
    }
}
