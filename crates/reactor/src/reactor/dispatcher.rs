//! [`Dispatcher`]: what the reactor asks of a channel, and [`CloseReason`]:
//! what it says at the end.

use std::any::Any;
use std::fmt;
use std::io;
use std::os::fd::BorrowedFd;
use std::time::Instant;

use crate::poll::Interest;
use crate::reactor::context::Context;
use crate::reactor::timers::TimerId;

/// The owner of one I/O source, told by the reactor when it is ready.
///
/// Most programs never implement this trait: a [`Listener`](crate::Listener)
/// accepts, a [`Stream`](crate::Stream) reads and writes, and they implement
/// [`Protocol`](crate::Protocol) on top. Implement `Dispatcher` for a source
/// of another kind: a `timerfd`, an `inotify`, a device.
///
/// # Asked
///
/// [`readable`](Self::readable), [`writable`](Self::writable),
/// [`deadline`](Self::update_deadline) and [`closed`](Self::poll_close) are asked after
/// the channel was touched: added, called back, or reached with
/// [`Context::get_mut`]. They are not asked on every turn, so what they answer
/// must depend on the dispatcher's own state alone.
///
/// # Told
///
/// Each callback gets a [`Context`] over everything else in the reactor. An
/// `Err` from one, or a panic in it, is shown to
/// [`handle_error`](Self::handle_error) and closes this channel; the loop goes
/// on. Errors by which a connection ends (`ConnectionReset`, `BrokenPipe`,
/// `ConnectionAborted`, `NotConnected`) close it without `handle_error`, as
/// in asyncore.
///
/// ```
/// use std::io::{self, Read};
/// use std::os::fd::{AsFd, BorrowedFd};
/// use std::os::unix::net::UnixStream;
/// use reactor::{Context, Dispatcher, Reactor};
///
/// /// Counts the bytes that arrive, and stops the loop at the end.
/// struct Counter(UnixStream, usize);
///
/// impl Dispatcher for Counter {
///     fn source(&self) -> BorrowedFd<'_> {
///         self.0.as_fd()
///     }
///
///     fn handle_read(&mut self, cx: &mut Context) -> io::Result<()> {
///         let read = self.0.read(&mut [0; 512])?;
///         self.1 += read;
///         if read == 0 {
///             assert_eq!(self.1, 5);
///             cx.close(cx.token());
///         }
///         Ok(())
///     }
/// }
///
/// # fn main() -> io::Result<()> {
/// let (ours, mut theirs) = UnixStream::pair()?;
/// ours.set_nonblocking(true)?;
/// let mut reactor = Reactor::new()?;
/// reactor.add(Counter(ours, 0))?;
/// io::Write::write_all(&mut theirs, b"hello")?;
/// drop(theirs);
/// reactor.run()
/// # }
/// ```
pub trait Dispatcher: Any {
    /// The source to watch. It must be in non-blocking mode, and stay the
    /// same open descriptor for as long as the dispatcher is registered; to
    /// exchange it from within a callback, call [`Context::deregister`] first.
    fn source(&self) -> BorrowedFd<'_>;

    /// Whether to call [`handle_read`](Self::handle_read) when the source is
    /// readable. Default: yes.
    fn readable(&self) -> bool {
        true
    }

    /// Whether to call [`handle_write`](Self::handle_write) when the source is
    /// writable. Default: no (asyncore's yes made every idle socket spin).
    fn writable(&self) -> bool {
        false
    }

    /// When to call [`handle_deadline`](Self::handle_deadline), if nothing
    /// moves this instant further off before. A timeout is counted from
    /// `now`: the callbacks of this turn may have taken long. Default: never.
    ///
    /// A deadline that keeps moving off costs no timer operation: the reactor
    /// looks again when the earlier instant has come.
    fn update_deadline(&mut self, _now: Instant) -> Option<Instant> {
        None
    }

    /// Whether the channel has ended of itself, and why. Default: no.
    ///
    /// Asked after each callback, so the place to say "closed, now that all
    /// output is flushed".
    fn poll_close(&mut self) -> Option<Cause> {
        None
    }

    /// How many bytes were accepted for sending and not handed to the kernel.
    fn unsent(&self) -> usize {
        0
    }

    /// Whether the loop may end while this channel is open, as it may with a
    /// signal handler installed. Asked once, when the channel is added.
    /// Default: no.
    fn is_background(&self) -> bool {
        false
    }

    /// What it is called in the log. Default: the name of its type.
    fn type_name(&self) -> &'static str {
        std::any::type_name::<Self>()
    }

    /// The channel is registered; its first callback, from within the loop.
    fn handle_add(&mut self, _cx: &mut Context) -> io::Result<()> {
        Ok(())
    }

    /// The source is readable, at its end, or in error: reading tells which.
    /// It may also be none of them (somebody else has read it already): treat
    /// `WouldBlock` as nothing to do, for returned as an `Err` it closes the
    /// channel.
    fn handle_read(&mut self, _cx: &mut Context) -> io::Result<()> {
        unhandled("read")
    }

    /// The source is writable, or in error: writing tells which.
    fn handle_write(&mut self, _cx: &mut Context) -> io::Result<()> {
        unhandled("write")
    }

    /// Urgent data waits. It keeps the source ready until it is consumed, so
    /// that the default closes the channel with an error rather than spin.
    fn handle_expt(&mut self, _cx: &mut Context) -> io::Result<()> {
        unhandled("urgent data")
    }

    /// The source hung up or failed while neither reading nor writing was
    /// wanted. If this callback closes nothing, the source leaves the poller
    /// until reading or writing is wanted again. Default: nothing.
    fn handle_hangup(&mut self, _cx: &mut Context) -> io::Result<()> {
        Ok(())
    }

    /// The [`deadline`](Self::update_deadline) has passed. Default: the channel
    /// closes with [`Cause::TimedOut`].
    fn handle_deadline(&mut self, cx: &mut Context) -> io::Result<()> {
        cx.close_with(Cause::TimedOut(TimeoutKind::Deadline));
        Ok(())
    }

    /// A timer that this channel set with [`Context::set_timer`] fell due.
    fn handle_timer(&mut self, _cx: &mut Context, _timer: TimerId) -> io::Result<()> {
        Ok(())
    }

    /// The reactor is to end by a deadline ([`Context::drain`]): take on no
    /// new work, and close once the work at hand is done. Default: nothing,
    /// the channel stays open until the deadline.
    fn handle_drain(&mut self, _cx: &mut Context) -> io::Result<()> {
        Ok(())
    }

    /// A callback failed or panicked, and the channel is about to close.
    /// Default: a line in the log.
    fn handle_error(&mut self, cx: &mut Context, cause: &Cause) {
        log::warn!("channel {:?}: {cause}", cx.token());
    }

    /// The channel is closed: the last callback, exactly once for each
    /// channel that was added. Its token resolves to nothing already; the
    /// source is closed when the dispatcher is dropped, right after.
    fn handle_close(&mut self, _cx: &mut Context, _reason: &CloseReason) {}
}

impl dyn Dispatcher {
    /// What it wants to be told about.
    pub(crate) fn interest(&self) -> Interest {
        Interest { readable: self.readable(), writable: self.writable() }
    }
}

/// asyncore's default handlers log a warning and carry on, which spins for as
/// long as the source stays ready; ours end the channel.
fn unhandled(what: &str) -> io::Result<()> {
    Err(io::Error::new(io::ErrorKind::Unsupported, format!("unhandled {what} event")))
}

/// Why a channel ended, and what was lost with it.
///
/// ```
/// use reactor::{Cause, CloseReason};
///
/// let reason = CloseReason { cause: Cause::PeerClosed, unsent: 3 };
/// assert_eq!(reason.to_string(), "closed by the peer, 3 bytes unsent");
/// ```
#[derive(Debug)]
pub struct CloseReason {
    /// What ended the channel first.
    pub cause: Cause,
    /// Bytes that were accepted for sending and never handed to the kernel.
    pub unsent: usize,
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

/// What ended a channel.
#[derive(Debug)]
#[non_exhaustive]
pub enum Cause {
    /// This side closed it.
    Local,
    /// The peer ended the conversation in good order.
    PeerClosed,
    /// An I/O error (a reset among them), or an `Err` from a callback.
    Error(io::Error),
    /// A deadline passed.
    TimedOut(TimeoutKind),
    /// A callback panicked, with this message.
    Panicked(Box<str>),
    /// The reactor ended with the channel still open.
    Shutdown,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Local => f.write_str("closed"),
            Cause::PeerClosed => f.write_str("closed by the peer"),
            Cause::Error(error) => write!(f, "{error}"),
            Cause::TimedOut(timeout) => write!(f, "timed out: {timeout}"),
            Cause::Panicked(message) => write!(f, "a callback panicked: {message}"),
            Cause::Shutdown => f.write_str("shut down"),
        }
    }
}

/// Which deadline passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TimeoutKind {
    /// The connection did not come about.
    Connect,
    /// Nothing was sent or received for the idle timeout.
    Idle,
    /// The peer took none of the waiting output for the stall timeout.
    Stall,
    /// A deadline of the dispatcher's own.
    Deadline,
}

impl fmt::Display for TimeoutKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TimeoutKind::Connect => "no connection",
            TimeoutKind::Idle => "idle",
            TimeoutKind::Stall => "the peer does not read",
            TimeoutKind::Deadline => "deadline passed",
        })
    }
}

/// Whether an error is an ordinary end of a connection: asyncore's
/// `_DISCONNECTED`, which it sends to `handle_close`, not `handle_error`.
pub(crate) fn is_disconnect(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected};
    matches!(error.kind(), ConnectionReset | BrokenPipe | ConnectionAborted | NotConnected)
}

/// The cause that a caught panic is.
pub(crate) fn panicked(payload: &(dyn Any + Send)) -> Cause {
    let message = if let Some(message) = payload.downcast_ref::<&str>() {
        message
    } else if let Some(message) = payload.downcast_ref::<String>() {
        message
    } else {
        "no message"
    };
    Cause::Panicked(message.into())
}
