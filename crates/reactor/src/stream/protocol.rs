//! [`Protocol`]: the callbacks of one connection; [`Io`]: what they receive.

use std::fmt;
use std::io;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use crate::reactor::{Cause, CloseReason, Context, TimerId};
use crate::stream::connection::Connection;
use crate::token::Token;

/// One connection over a [`Stream`](crate::Stream). Only
/// [`handle_read`](Self::handle_read) is required.
///
/// An `Err` from a callback, or a panic in it, is passed to
/// [`handle_error`](Self::handle_error) and closes this stream only.
///
/// Order: `handle_connect` at most once and first; then reads, writes, urgent data and
/// timers as they occur; [`handle_close`](Self::handle_close) exactly once and last.
///
/// # Examples
///
/// ```
/// use std::io;
/// use reactor::{Io, Protocol};
///
/// /// Sends back what it receives.
/// struct Echo;
///
/// impl Protocol for Echo {
///     fn handle_read(&mut self, io: &mut Io<'_>, data: &[u8]) -> io::Result<()> {
///         io.send(data)
///     }
/// }
/// ```
#[expect(clippy::missing_errors_doc, reason = "the trait documents what an `Err` does")]
pub trait Protocol: 'static {
    /// Returns `true` if the stream is to read. Queried, like
    /// [`writable`](Self::writable), after each callback. Default: `true`.
    fn readable(&self) -> bool {
        true
    }

    /// Returns `true` if [`handle_write`](Self::handle_write) has something to send. It is
    /// called when there is room for output. Default: `false`.
    fn writable(&self) -> bool {
        false
    }

    /// Returns the number of bytes that the protocol has accepted for sending and keeps
    /// back itself. They count as unsent in the
    /// [`CloseReason`](crate::CloseReason::unsent), as the stream's own do. Default: 0.
    fn unsent(&self) -> usize {
        0
    }

    /// Called when the connection is established, or was accepted, and its
    /// [`Filter`](crate::Filter), if it has one, is ready. Default: nothing.
    fn handle_connect(&mut self, _io: &mut Io<'_>) -> io::Result<()> {
        Ok(())
    }

    /// Called when a filter that was started on a connection in use
    /// ([`Connection::start_filter`]) is ready. Default: nothing.
    fn handle_upgrade(&mut self, _io: &mut Io<'_>) -> io::Result<()> {
        Ok(())
    }

    /// Called with input, 1 to 65,536 bytes at a time. TCP does not preserve message
    /// boundaries. One call may contain part of what the peer sent in one write, or more
    /// than that.
    fn handle_read(&mut self, io: &mut Io<'_>, data: &[u8]) -> io::Result<()>;

    /// Called when there is room for output, if [`writable`](Self::writable) returned
    /// `true`; and once after a write has failed, when [`send`](Connection::send) only
    /// returns an error. Default: nothing.
    fn handle_write(&mut self, _io: &mut Io<'_>) -> io::Result<()> {
        Ok(())
    }

    /// Called with an urgent byte (TCP's out-of-band data). Default: logs a warning;
    /// the byte is discarded.
    fn handle_expt(&mut self, io: &mut Io<'_>, byte: u8) -> io::Result<()> {
        log::warn!("{}: unhandled urgent byte {byte:#04x}", io.peer_addr());
        Ok(())
    }

    /// Called at the end of input; the peer may still read. The default calls
    /// [`close`](Connection::close), which writes queued output first; the cause is then
    /// [`Cause::PeerClosed`]. A protocol with further output keeps the stream open and
    /// closes it later.
    fn handle_eof(&mut self, io: &mut Io<'_>) -> io::Result<()> {
        io.close();
        Ok(())
    }

    /// Called when a timer set by [`Io::set_timer`] expires. Default: nothing.
    fn handle_timer(&mut self, _io: &mut Io<'_>, _timer: TimerId) -> io::Result<()> {
        Ok(())
    }

    /// Called when the reactor starts to drain ([`Context::drain`]). Implementations
    /// should close the stream when pending work is done. The default does nothing, so
    /// the stream stays open until the drain deadline.
    fn handle_drain(&mut self, _io: &mut Io<'_>) -> io::Result<()> {
        Ok(())
    }

    /// Called when a callback failed or panicked; the stream is about to close. Output
    /// sent here is written if the kernel accepts it at once. A TCP connection is then
    /// reset, and the reset may overtake that output. Default: logs a warning.
    fn handle_error(&mut self, io: &mut Io<'_>, cause: &Cause) {
        log::warn!("{}: {cause}", io.peer_addr());
    }

    /// Called when the stream is closed, and also, with the error, if the connection was
    /// never established. Default: logs the reason at debug level.
    fn handle_close(&mut self, io: &mut Io<'_>, reason: &CloseReason) {
        log::debug!("{}: {reason}", io.peer_addr());
    }
}

/// A [`Protocol`]'s own stream during a callback. It has the methods of the
/// [`Connection`], and gives access to the reactor ([`context`](Self::context)).
#[must_use]
pub struct Io<'a> {
    connection: &'a mut Connection,
    cx: &'a mut Context,
}

impl<'a> Io<'a> {
    pub(crate) fn new(connection: &'a mut Connection, cx: &'a mut Context) -> Self {
        Io { connection, cx }
    }

    /// Borrows this for a shorter time, to be part of another type.
    pub(crate) fn reborrow(&mut self) -> Io<'_> {
        Io { connection: self.connection, cx: self.cx }
    }

    /// Returns `true` if no further callback may be made.
    pub(crate) fn is_closing(&self) -> bool {
        !self.connection.is_open() || self.cx.is_closing()
    }

    /// Calls [`Protocol::handle_timer`] once, `after` from now, if the stream is still
    /// open. [`Context::cancel`] cancels it.
    pub fn set_timer(&mut self, after: Duration) -> TimerId {
        self.cx.set_timer_of(self.cx.token(), after)
    }

    /// Returns the token of the stream.
    pub fn token(&self) -> Token {
        self.cx.token()
    }

    /// Returns the reactor's context: other channels, timers, stopping.
    pub fn context(&mut self) -> &mut Context {
        self.cx
    }
}

impl Deref for Io<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.connection
    }
}

impl DerefMut for Io<'_> {
    fn deref_mut(&mut self) -> &mut Connection {
        self.connection
    }
}

impl fmt::Debug for Io<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Io").field(&self.connection).finish()
    }
}
