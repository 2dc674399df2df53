//! [`Connection`]: a byte stream with bounded, buffered output.

use std::fmt;
use std::io::{self, ErrorKind};
use std::rc::Rc;
use std::time::Instant;

use crate::sys::socket::SockRef;
use crate::sys::socket_options::SocketOptions;

use crate::address::{Address, CompactAddress};
use crate::output_buffer::OutputBuffer;
use crate::reactor::{READ_BUFFER_SIZE, ReadBuffer};
use crate::stream::active::ActiveState;
use crate::stream::closing::{CloseState, ReadHalf, WriteHalf};
use crate::stream::config::StreamConfig;
use crate::stream::limits::Limits;
use crate::sys::endpoint::Endpoint;
use crate::sys::source::Source;

/// The result of one read.
pub(super) enum ReadOutcome {
    /// This many bytes.
    Data(usize),
    /// The readiness was spurious.
    WouldBlock,
    Eof,
    /// This many bytes for the filter.
    Raw(usize),
    /// The end of the filter's input.
    RawEof,
}

/// What was moved since the stream last settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Activity {
    None,
    Received,
    /// Output, and perhaps input too.
    Wrote,
}

/// The connection of a [`Stream`](crate::Stream). Its own callbacks reach it through
/// [`Io`](crate::Io), other code through the stream and its token.
///
/// During the stream's own callbacks, output is buffered and written when the callback
/// returns (large output earlier). At other times it is written immediately. What the
/// kernel does not accept is queued.
#[must_use]
pub struct Connection {
    pub(super) endpoint: Endpoint,
    pub(super) peer: CompactAddress,
    pub(super) config: Rc<StreamConfig>,
    /// Output not written yet. Within a callback of its own the stream has a buffer,
    /// which the reactor lends.
    pub(super) output: Option<Box<OutputBuffer>>,
    pub(super) active: Option<Box<ActiveState>>,
    /// When bytes were last moved, for the idle timeout; `None` if there is none.
    pub(super) last_activity: Option<Instant>,
    /// How many bytes were written since they were last counted.
    pub(super) uncounted_sent: u32,
    pub(super) close_state: CloseState,
    pub(super) read_half: ReadHalf,
    pub(super) write_half: WriteHalf,
    pub(super) activity: Activity,
    pub(super) has_sent: bool,
    /// Input was discarded while closing.
    pub(super) discarded_input: bool,
    /// Output of a callback is gathered up to this length. 0 if no output is accepted; see
    /// [`update_gather_limit`](Self::update_gather_limit).
    pub(super) gather_limit: u16,
}

impl Connection {
    pub(crate) fn new(endpoint: Endpoint, peer: Address, config: Rc<StreamConfig>) -> Self {
        let limits = config.limits;
        let mut connection = Connection {
            endpoint,
            peer: peer.into(),
            config,
            output: None,
            active: None,
            last_activity: None,
            uncounted_sent: 0,
            close_state: CloseState::Open,
            read_half: ReadHalf::Open,
            write_half: WriteHalf::Open,
            activity: Activity::None,
            has_sent: false,
            discarded_input: false,
            gather_limit: 0,
        };
        connection.update_gather_limit();
        connection.apply_rates(&limits);
        connection
    }

    pub(super) fn set_limits(&mut self, limits: Limits) {
        self.last_activity = None;
        self.apply_rates(&limits);
        Rc::make_mut(&mut self.config).limits = limits;
        self.update_gather_limit();
    }

    fn apply_rates(&mut self, limits: &Limits) {
        if limits.read_rate.is_some() || limits.write_rate.is_some() || self.active.is_some() {
            self.set_read_rate(limits.read_rate);
            self.set_write_rate(limits.write_rate);
        }
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.config.limits
    }

    pub(super) fn active_mut(&mut self) -> &mut ActiveState {
        self.active.get_or_insert_default()
    }

    pub(super) fn source(&self) -> Source<'_> {
        self.endpoint.source()
    }

    /// Returns `true` if nothing but input is to be waited for, and without a timeout. A
    /// stream that cannot send is never said to rest.
    #[inline(always)]
    pub(super) fn is_resting(&self) -> bool {
        self.active.is_none() && self.is_idle()
    }

    /// Returns `true` if the stream waits for input only, perhaps for its filter.
    #[inline(always)]
    pub(super) fn waits_for_input(&self) -> bool {
        if self.is_resting() { self.endpoint.can_read() } else { self.is_resting_with_filter() }
    }

    #[cold]
    fn is_resting_with_filter(&self) -> bool {
        self.active.as_ref().is_some_and(|active| active.has_open_filter_only())
            && self.is_idle()
            && self.wants_read()
    }

    #[inline(always)]
    fn is_idle(&self) -> bool {
        self.accepts_output()
            && self.read_half == ReadHalf::Open
            && self.output.is_none()
            && self.limits().idle_timeout.is_none()
    }

    /// Returns `true` if callbacks other than `handle_close` may be made.
    pub(crate) fn is_open(&self) -> bool {
        self.close_state.is_open()
            && self.active.as_ref().is_none_or(|active| active.pending_error.is_none())
    }

    // --- input ------------------------------------------------------------

    /// Returns `true` if the stream can read, and the user has not paused it.
    #[inline(always)]
    pub(super) fn wants_read(&self) -> bool {
        if self.is_resting() {
            return self.endpoint.can_read();
        }
        if self.is_handshaking() {
            return self.wants_handshake_input();
        }
        self.read_half == ReadHalf::Open
            && self.close_state.is_open()
            && (self.active.is_none() || self.is_active_readable())
            && !self.holds_back_input()
            && self.endpoint.can_read()
    }

    fn is_active_readable(&self) -> bool {
        self.is_open()
            && !self.is_connecting()
            && !self.is_read_throttled()
            && !self.has_undelivered()
    }

    /// Returns `true` if input is to be discarded.
    pub(super) fn discards_input(&self) -> bool {
        self.close_state.discards_input()
    }

    /// Reads once into `buffer`; only a filter is given more than [`READ_BUFFER_SIZE`].
    #[inline(always)]
    pub(super) fn receive(
        &mut self,
        buffer: &mut ReadBuffer,
        now: Instant,
    ) -> io::Result<ReadOutcome> {
        if self.active.is_some() {
            return self.receive_actively(buffer, now);
        }
        self.read(&mut buffer[..READ_BUFFER_SIZE])
    }

    #[cold]
    fn receive_actively(
        &mut self,
        buffer: &mut ReadBuffer,
        now: Instant,
    ) -> io::Result<ReadOutcome> {
        if !self.is_filtered() {
            return self.receive_throttled(&mut buffer[..READ_BUFFER_SIZE], now);
        }
        let read_half = self.read_half;
        let outcome = self.receive_throttled(buffer, now)?;
        Ok(self.filtered_outcome(outcome, read_half))
    }

    fn receive_throttled(&mut self, buffer: &mut [u8], now: Instant) -> io::Result<ReadOutcome> {
        let Some(rate) = self.read_throttle() else { return self.read(buffer) };
        let max = rate.available(now).min(buffer.len());
        if max == 0 {
            rate.block_if_empty(now);
            return Ok(ReadOutcome::WouldBlock);
        }
        let outcome = self.read(&mut buffer[..max])?;
        if let ReadOutcome::Data(read) = outcome
            && let Some(rate) = self.read_throttle()
        {
            rate.consume(read, now);
        }
        Ok(outcome)
    }

    /// Reads input of a closing stream and discards it. Returns `false` if there was none.
    pub(super) fn discard(&mut self, buffer: &mut [u8]) -> bool {
        match read_once(&self.endpoint, buffer) {
            Ok(0) => self.close_state = self.close_state.after_linger(),
            Ok(_) => {
                self.discarded_input = true;
                self.activity = Activity::Received;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.discard_queued_errors();
                return false;
            }
            Err(error) => self.set_pending_error(error),
        }
        true
    }

    #[inline(always)]
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<ReadOutcome> {
        match read_once(&self.endpoint, buffer) {
            Ok(0) => {
                self.read_half = ReadHalf::Eof;
                Ok(ReadOutcome::Eof)
            }
            Ok(read) => {
                if self.activity == Activity::None {
                    self.activity = Activity::Received;
                }
                Ok(ReadOutcome::Data(read))
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(ReadOutcome::WouldBlock),
            Err(error) => Err(error),
        }
    }

    /// Discards what the socket reports as an error although it is none, which would keep
    /// it ready.
    #[cold]
    pub(super) fn discard_queued_errors(&self) {
        self.endpoint.discard_queued_errors();
    }

    /// Returns the pending urgent byte, if there is one.
    pub(super) fn take_urgent_byte(&mut self) -> Option<u8> {
        self.endpoint.take_urgent_byte()
    }

    /// Returns the error that a hang-up stands for. Without interest a socket reports
    /// only that it failed, or that both halves are shut.
    pub(super) fn take_socket_error(&mut self) -> io::Result<()> {
        self.endpoint.take_error()
    }

    /// Stops reading, so TCP slows the peer down. While paused, the stream does not
    /// detect the end of input, but does detect a reset.
    ///
    /// To relay data to another stream, pause this stream while the other has
    /// [`unsent`](Self::unsent) output. Return `true` from the other stream's
    /// [`writable`](crate::Protocol::writable), and resume this stream in its
    /// [`handle_write`](crate::Protocol::handle_write) once no output is unsent. See the
    /// example `proxy`.
    pub fn pause(&mut self) {
        self.read_half = self.read_half.paused();
    }

    /// Continues reading after [`pause`](Self::pause).
    pub fn resume(&mut self) {
        self.read_half = self.read_half.resumed();
    }

    // --- addresses and options --------------------------------------------

    /// Returns the local address.
    ///
    /// # Errors
    ///
    /// Returns the error of getsockname(2), and `NotConnected` while a host name is
    /// being resolved.
    pub fn local_addr(&self) -> io::Result<Address> {
        self.endpoint.local_addr()
    }

    /// Returns the remote address; while connecting, the address of the latest attempt.
    /// It is available after the peer has disconnected too.
    #[must_use]
    pub fn peer_addr(&self) -> Address {
        self.peer.expand()
    }

    /// Returns a reference on which any socket option can be read and set, or `None` for a
    /// pipe, a terminal or a file, and while a host name is being resolved.
    #[must_use]
    pub fn socket_options(&self) -> Option<SockRef<'_>> {
        self.endpoint.options()
    }

    /// Sets options of the socket. To set them before the connection starts, see
    /// [`Listener::with_socket_options`](crate::Listener::with_socket_options) and
    /// [`Connector::with_socket_options`](crate::Connector::with_socket_options).
    ///
    /// # Errors
    ///
    /// * an error that names the first option that cannot be set;
    /// * `Unsupported` for a pipe, a terminal or a file, and for an option that the system
    ///   does not have;
    /// * `NotConnected` while a host name is being resolved.
    pub fn set_socket_options(&self, options: &SocketOptions) -> io::Result<()> {
        self.endpoint.set_options(options)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.config.release();
    }
}

/// Reads once, and again after an interruption. Returns the number of bytes, 0 at the end of
/// input.
#[inline(always)]
pub(super) fn read_once(endpoint: &Endpoint, buffer: &mut [u8]) -> io::Result<usize> {
    match endpoint.read(buffer) {
        Ok(read) => Ok(read),
        Err(error) => retry_read(endpoint, buffer, error),
    }
}

#[cold]
fn retry_read(endpoint: &Endpoint, buffer: &mut [u8], mut error: io::Error) -> io::Result<usize> {
    while error.kind() == ErrorKind::Interrupted {
        match endpoint.read(buffer) {
            Ok(read) => return Ok(read),
            Err(other) => error = other,
        }
    }
    Err(error)
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("peer", &self.peer_addr())
            .field("unsent", &self.unsent())
            .field("close_state", &self.close_state)
            .finish_non_exhaustive()
    }
}
