//! [`Protocol`]: one conversation, described by its callbacks; [`Io`]: the
//! stream, as those callbacks see it.

use std::fmt;
use std::io;
use std::num::NonZeroU64;
use std::time::Duration;

use crate::address::Address;
use crate::reactor::context::Context;
use crate::reactor::dispatcher::{Cause, CloseReason};
use crate::reactor::slots::Token;
use crate::reactor::timers::TimerId;
use crate::stream::connection::Connection;

/// One conversation over a [`Stream`](crate::Stream). Only
/// [`handle_read`](Self::handle_read) must be written.
///
/// An `Err` from a callback, or a panic in it, is shown to
/// [`handle_error`](Self::handle_error) and closes this stream only.
///
/// Order: `handle_connect` at most once and first; then reads, writes, urgent
/// data and timers as they come; [`handle_close`](Self::handle_close) exactly
/// once and last.
///
/// ```
/// use std::io;
/// use reactor::{Io, Protocol};
///
/// /// Sends back what it gets.
/// struct Echo;
///
/// impl Protocol for Echo {
///     fn handle_read(&mut self, io: &mut Io<'_>, data: &[u8]) -> io::Result<()> {
///         io.send(data)
///     }
/// }
/// ```
pub trait Protocol: 'static {
    /// Whether to read at the moment. Default: yes. Asked, like
    /// [`writable`](Self::writable), after each callback.
    fn readable(&self) -> bool {
        true
    }

    /// Whether there is something to send on the protocol's own account.
    /// While it says yes, [`handle_write`](Self::handle_write) is called each
    /// time the peer has taken what was sent before. Default: no.
    fn writable(&self) -> bool {
        false
    }

    /// The stream is connected, or was accepted. Default: nothing.
    fn handle_connect(&mut self, _io: &mut Io<'_>) -> io::Result<()> {
        Ok(())
    }

    /// Bytes arrived: 1 to 65,536 of them, cut and joined as TCP likes.
    fn handle_read(&mut self, io: &mut Io<'_>, data: &[u8]) -> io::Result<()>;

    /// There is room for output, and [`writable`](Self::writable) said yes.
    /// Default: nothing.
    fn handle_write(&mut self, _io: &mut Io<'_>) -> io::Result<()> {
        Ok(())
    }

    /// An urgent byte arrived (TCP's out-of-band data). Default: a line in
    /// the log; the byte is gone.
    fn handle_expt(&mut self, io: &mut Io<'_>, byte: u8) -> io::Result<()> {
        log::warn!("{}: unhandled urgent byte {byte:#04x}", io.peer_addr());
        Ok(())
    }

    /// The peer will send nothing more; it may still read. Default:
    /// [`Io::close`], which flushes what waits and ends with
    /// [`Cause::PeerClosed`]. A protocol that has more to say keeps the stream
    /// open and closes it later.
    fn handle_eof(&mut self, io: &mut Io<'_>) -> io::Result<()> {
        io.close();
        Ok(())
    }

    /// A timer set by [`Io::set_timer`] fell due. Default: nothing.
    fn handle_timer(&mut self, _io: &mut Io<'_>, _timer: TimerId) -> io::Result<()> {
        Ok(())
    }

    /// The reactor is to end by a deadline ([`Context::drain`]): close once
    /// the work at hand is done. Default: nothing, the peer may go on until
    /// the deadline.
    fn handle_drain(&mut self, _io: &mut Io<'_>) -> io::Result<()> {
        Ok(())
    }

    /// A callback failed or panicked; the stream is about to close. Default:
    /// a line in the log.
    fn handle_error(&mut self, io: &mut Io<'_>, cause: &Cause) {
        log::warn!("{}: {cause}", io.peer_addr());
    }

    /// The stream is closed. A connection that never came about ends here
    /// too, with its error. Default: a line in the log, at debug level.
    fn handle_close(&mut self, io: &mut Io<'_>, reason: &CloseReason) {
        log::debug!("{}: {reason}", io.peer_addr());
    }
}

/// A [`Protocol`]'s own stream, and through it the reactor.
pub struct Io<'a> {
    pub(crate) connection: &'a mut Connection,
    pub(crate) cx: &'a mut Context,
}

impl Io<'_> {
    /// Sends `data`: what the kernel does not take now is queued and follows
    /// in order. Never blocks. `Ok` means that all of it was accepted: it goes
    /// out, or the close reason counts it. `Err` means that none was.
    ///
    /// Fails with `WouldBlock` while [`Limits::high_water`] bytes or more wait
    /// (resume in [`Protocol::handle_write`]); with `NotConnected` after
    /// [`close`](Self::close) or [`shutdown`](Self::shutdown); with the
    /// socket's error where it has failed.
    ///
    /// [`Limits::high_water`]: crate::Limits::high_water
    pub fn send(&mut self, data: &[u8]) -> io::Result<()> {
        self.connection.send(data)
    }

    /// Closes the stream in good order: what waits is flushed first. The
    /// protocol gets no callback from here on but `handle_close`.
    ///
    /// A `send` from here on fails, and an `Err` from the callback ends the
    /// stream without flushing.
    ///
    /// A close that meets input which nobody read becomes a reset in TCP, and
    /// that destroys output (RFC 1122, section 4.2.2.13). So a stream whose peer
    /// has not ended waits for up to two seconds: until all output has left
    /// this machine, and, if input came that is not read any more, until the
    /// peer is done.
    pub fn close(&mut self) {
        self.connection.close();
    }

    /// Closes the stream now; what waits is lost, and counted in the close
    /// reason.
    pub fn abort(&mut self) {
        self.connection.abort();
    }

    /// Ends the sending side once what waits is flushed; the stream goes on
    /// receiving until the peer ends too, and closes then. Fails with
    /// `Unsupported` for a pipe, a terminal or a file.
    pub fn shutdown(&mut self) -> io::Result<()> {
        self.connection.shutdown()
    }

    /// Stops reading: TCP then slows the peer down. The peer's end is not
    /// noticed while paused, a reset is.
    ///
    /// To read no faster than another stream sends, pause while that has
    /// something [`unsent`](Self::unsent), and let it resume this one when it
    /// has none left: its [`Protocol::handle_write`] tells, while its
    /// [`Protocol::writable`] says yes. The example `proxy` does it.
    pub fn pause(&mut self) {
        self.connection.set_paused(true);
    }

    /// Reads again after [`pause`](Self::pause).
    pub fn resume(&mut self) {
        self.connection.set_paused(false);
    }

    /// Reads no more than so many bytes a second from now on: see
    /// [`Limits::read_rate`](crate::Limits::read_rate). `None` for no limit.
    pub fn set_read_rate(&mut self, per_second: Option<NonZeroU64>) {
        self.connection.set_read_rate(per_second);
    }

    /// Sends no more than so many bytes a second from now on: see
    /// [`Limits::write_rate`](crate::Limits::write_rate). `None` for no limit.
    pub fn set_write_rate(&mut self, per_second: Option<NonZeroU64>) {
        self.connection.set_write_rate(per_second);
    }

    /// How many bytes were accepted for sending and not taken by the kernel.
    pub fn unsent(&self) -> usize {
        self.connection.unsent()
    }

    /// The other end: of a connection under way, the address being tried.
    /// Known also when the peer is gone.
    pub fn peer_addr(&self) -> Address {
        self.connection.peer_addr()
    }

    /// This end.
    pub fn local_addr(&self) -> io::Result<Address> {
        self.connection.local_addr()
    }

    /// Closes the stream once nothing was received or sent for so long, from
    /// now on; `None` for never. A stream that differs in this from the others of
    /// its listener has limits of its own, of some 100 bytes; those of
    /// [`Listener::with_limits`](crate::Listener::with_limits) are shared.
    pub fn set_idle_timeout(&mut self, timeout: Option<Duration>) {
        self.connection.set_idle_timeout(timeout);
    }

    /// Calls [`Protocol::handle_timer`] after `after`, once, if the stream is
    /// open then. [`Context::cancel`] frees it.
    pub fn set_timer(&mut self, after: Duration) -> TimerId {
        self.cx.set_timer(after)
    }

    /// The stream's name in its reactor.
    pub fn token(&self) -> Token {
        self.cx.token()
    }

    /// The reactor: other channels, timers, the end.
    pub fn context(&mut self) -> &mut Context {
        self.cx
    }
}

impl fmt::Debug for Io<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Io").field(&self.connection).finish()
    }
}
