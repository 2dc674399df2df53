//! [`Connection`]: a byte stream with bounded, buffered output.

use std::fmt;
use std::io::{self, ErrorKind};
use std::mem;
use std::num::NonZeroU64;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::sys::socket::SockRef;

use crate::address::{Address, CompactAddress};
use crate::output_buffer::OutputBuffer;
use crate::reactor::{Cause, TimeoutKind};
use crate::stream::closing::{
    CloseState, CloseStep, LINGER_TIMEOUT, ReadHalf, UnreadInput, WriteHalf,
};
use crate::stream::connect::Connecting;
use crate::stream::connection_limit::ConnectionLimit;
use crate::stream::limits::Limits;
use crate::stream::throttle::Throttle;
use crate::sys::endpoint::Endpoint;
use crate::sys::socket::{SendQueue, Socket};
use crate::sys::source::Source;

/// The largest write: a peer that reads fast must not delay the others.
const MAX_WRITE: usize = 1024 * 1024;

/// Output of one callback is gathered up to this size, and then written.
const MAX_GATHERED: usize = 64 * 1024;

/// Output of this size is written at once rather than copied.
const MIN_DIRECT_WRITE: usize = 16 * 1024;

/// The result of one read.
pub(super) enum ReadOutcome {
    /// This many bytes.
    Data(usize),
    /// The readiness was spurious.
    WouldBlock,
    Eof,
}

/// What was moved since the stream last settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Activity {
    None,
    Received,
    /// Output, and perhaps input too.
    Wrote,
}

/// What the streams of one listener share.
#[derive(Clone, Default)]
pub(crate) struct StreamConfig {
    limits: Limits,
    /// Each of the streams counts until it is dropped.
    counted_by: Option<ConnectionLimit>,
}

impl StreamConfig {
    /// The configuration of streams that `limit` counts when they are accepted.
    pub(crate) fn counted(limits: Limits, limit: ConnectionLimit) -> Self {
        StreamConfig { limits, counted_by: Some(limit) }
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Counts one stream less.
    pub(crate) fn release(&self) {
        if let Some(limit) = &self.counted_by {
            limit.release();
        }
    }
}

/// Rate limits, which few streams have.
#[derive(Default)]
struct Throttles {
    read: Option<Throttle>,
    write: Option<Throttle>,
}

/// What a stream has only at times: most streams of a server are idle, and small.
#[derive(Default)]
struct ActiveState {
    connecting: Option<Connecting>,
    throttles: Throttles,
    /// An error of a write; the stream closes with it when it settles.
    pending_error: Option<io::Error>,
    /// Since when the peer has read no output, or a closing stream has waited.
    stalled_since: Option<Instant>,
}

impl ActiveState {
    fn is_needed(&self) -> bool {
        self.connecting.is_some()
            || self.throttles.read.is_some()
            || self.throttles.write.is_some()
            || self.pending_error.is_some()
            || self.stalled_since.is_some()
    }
}

/// The connection of a [`Stream`](crate::Stream): what a program does with it, whether
/// in a callback through [`Io`](crate::Io), or through the stream and its token.
///
/// Within a callback of its own, output is gathered and written once, after the
/// callback. Otherwise it is written at once. What the kernel does not accept is queued.
#[must_use]
pub struct Connection {
    endpoint: Endpoint,
    peer: CompactAddress,
    config: Rc<StreamConfig>,
    /// Output not written yet. Within a callback of its own the stream has a buffer,
    /// which the reactor lends.
    output: Option<Box<OutputBuffer>>,
    active: Option<Box<ActiveState>>,
    /// When bytes were last moved, for the idle timeout; `None` if there is none.
    last_activity: Option<Instant>,
    /// How many bytes were written since they were last counted.
    uncounted_sent: u32,
    close_state: CloseState,
    read_half: ReadHalf,
    write_half: WriteHalf,
    activity: Activity,
    has_sent: bool,
    /// Input was discarded while closing.
    discarded_input: bool,
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
        };
        connection.apply_rates(&limits);
        connection
    }

    pub(super) fn set_limits(&mut self, limits: Limits) {
        self.last_activity = None;
        self.apply_rates(&limits);
        Rc::make_mut(&mut self.config).limits = limits;
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

    fn active_mut(&mut self) -> &mut ActiveState {
        self.active.get_or_insert_default()
    }

    pub(super) fn source(&self) -> Source<'_> {
        self.endpoint.source()
    }

    /// Returns `true` if nothing but input is to be waited for, and without a timeout.
    #[inline(always)]
    pub(super) fn is_resting(&self) -> bool {
        self.close_state == CloseState::Open
            && self.read_half == ReadHalf::Open
            && self.write_half == WriteHalf::Open
            && self.active.is_none()
            && self.output.is_none()
            && self.limits().idle_timeout.is_none()
    }

    /// Returns `true` if callbacks other than `handle_close` may be made.
    pub(crate) fn is_open(&self) -> bool {
        self.close_state.is_open()
            && self.active.as_ref().is_none_or(|active| active.pending_error.is_none())
    }

    // --- output -----------------------------------------------------------

    /// Sends `data`; what the kernel does not accept now is queued and sent later, in
    /// order. Never blocks. After `Ok` all of it is sent, or the close reason counts
    /// what was not. After `Err` none of it is sent.
    ///
    /// It may be called before the connection is established.
    ///
    /// # Errors
    ///
    /// * `WouldBlock` if at least [`Limits::high_water`] bytes are queued; continue in
    ///   [`Protocol::handle_write`](crate::Protocol::handle_write);
    /// * `NotConnected` after [`close`](Self::close) or [`shutdown`](Self::shutdown);
    /// * the socket's error, if it failed.
    #[inline]
    pub fn send(&mut self, data: &[u8]) -> io::Result<()> {
        if self.can_gather(data.len()) {
            self.push(data);
            return Ok(());
        }
        self.send_now(data)
    }

    /// Returns `true` if output of this length is gathered in the current callback.
    #[inline(always)]
    fn can_gather(&self, len: usize) -> bool {
        let Some(output) = &self.output else { return false };
        let max_gathered = MAX_GATHERED.min(self.limits().high_water);
        !output.is_blocked()
            && len < MIN_DIRECT_WRITE
            && output.len() + len <= max_gathered
            && self.is_open()
            && self.write_half == WriteHalf::Open
            && self.endpoint.can_write()
    }

    /// Sends output that is not gathered: writes it, or queues it if that must wait.
    #[inline(never)]
    fn send_now(&mut self, data: &[u8]) -> io::Result<()> {
        if data.is_empty() {
            return Ok(());
        }
        self.ensure_can_send()?;
        let is_gathering = self.output.as_ref().is_some_and(|output| !output.is_blocked());
        if is_gathering && let Err(error) = self.write_output(MAX_WRITE) {
            return Err(self.store_error(error));
        }
        if self.unsent() > 0 || self.is_connecting() || self.has_write_rate() {
            return self.queue(data);
        }
        // Nothing is queued, so the rest always fits: the bound is one message above
        // the high-water mark.
        let written = match write_once(&self.endpoint, data) {
            Ok(written) => written,
            Err(error) => return Err(self.store_error(error)),
        };
        self.record_written(written);
        if written < data.len() {
            self.push(&data[written..]);
            self.set_output_blocked(true);
        }
        Ok(())
    }

    fn ensure_can_send(&self) -> io::Result<()> {
        if !self.is_open() || self.write_half != WriteHalf::Open {
            return Err(io::Error::new(ErrorKind::NotConnected, "send on a closed stream"));
        }
        if !self.endpoint.can_write() {
            let message = format!("{} is open for reading only", self.peer_addr());
            return Err(io::Error::new(ErrorKind::NotConnected, message));
        }
        Ok(())
    }

    fn queue(&mut self, data: &[u8]) -> io::Result<()> {
        let unsent = self.unsent();
        if unsent > 0 && unsent >= self.limits().high_water {
            let message =
                format!("{}: output buffer full ({unsent} bytes queued)", self.peer_addr());
            return Err(io::Error::new(ErrorKind::WouldBlock, message));
        }
        self.push(data);
        self.set_output_blocked(true);
        Ok(())
    }

    #[inline(always)]
    fn push(&mut self, data: &[u8]) {
        let high_water = self.config.limits.high_water;
        self.output.get_or_insert_default().push(data, high_water);
    }

    fn set_output_blocked(&mut self, blocked: bool) {
        if let Some(output) = &mut self.output {
            output.set_blocked(blocked);
        }
    }

    /// Stores an error of a write, with which the stream closes, and returns a copy for
    /// the caller.
    fn store_error(&mut self, error: io::Error) -> io::Error {
        let copy = match error.raw_os_error() {
            Some(code) => io::Error::from_raw_os_error(code),
            None => error.kind().into(),
        };
        self.active_mut().pending_error.get_or_insert(error);
        copy
    }

    /// Returns the number of bytes queued but not yet written to the socket.
    #[must_use]
    pub fn unsent(&self) -> usize {
        self.output.as_ref().map_or(0, |output| output.len())
    }

    /// Takes a buffer in which the output of a callback is gathered, unless there is
    /// one.
    #[inline(always)]
    pub(super) fn gather_in(&mut self, lend: impl FnOnce() -> Option<Box<OutputBuffer>>) {
        let is_plain = self.active.is_none();
        if self.output.is_none() && (is_plain || self.can_gather_while_active()) {
            self.output.get_or_insert_with(|| lend().unwrap_or_default());
        }
    }

    #[cold]
    fn can_gather_while_active(&self) -> bool {
        !self.is_connecting() && !self.has_write_rate()
    }

    /// Writes what was gathered during a callback, and shuts the write half down if
    /// that was waiting for the output. Returns the buffer if it is empty.
    #[inline(always)]
    pub(super) fn flush_gathered(&mut self) -> io::Result<Option<Box<OutputBuffer>>> {
        if let Some(output) = &self.output {
            if output.is_blocked() {
                return Ok(None);
            }
            if !output.is_empty() {
                self.write_output(MAX_WRITE)?;
                if self.unsent() > 0 {
                    return Ok(None);
                }
            }
        }
        if self.write_half == WriteHalf::ShuttingDown {
            self.finish_shutdown()?;
        }
        Ok(self.output.take())
    }

    /// Writes queued output, as the socket is writable or the rate allows it.
    pub(super) fn flush(&mut self, now: Instant) -> io::Result<()> {
        if self.is_connecting() || self.close_state == CloseState::Closed {
            return Ok(());
        }
        let max = self.throttles().and_then(|both| both.write.as_ref());
        let max = max.map_or(MAX_WRITE, |rate| rate.available(now).min(MAX_WRITE));
        let before = self.unsent();
        if before > 0 && max > 0 {
            self.write_output(max)?;
        }
        let written = before - self.unsent();
        if let Some(rate) = self.write_throttle() {
            rate.consume(written, now);
        }
        if self.unsent() == 0 {
            self.output = None;
        }
        self.finish_shutdown()
    }

    /// Writes up to `max` bytes of the output.
    #[inline(always)]
    fn write_output(&mut self, max: usize) -> io::Result<()> {
        let Some(output) = &mut self.output else { return Ok(()) };
        let written = write_once(&self.endpoint, output.front(max))?;
        output.consume(written, || self.config.limits.low_water());
        self.record_written(written);
        Ok(())
    }

    #[inline(always)]
    fn record_written(&mut self, written: usize) {
        if written > 0 {
            let counted = u32::try_from(written).unwrap_or(u32::MAX);
            self.uncounted_sent = self.uncounted_sent.saturating_add(counted);
            self.has_sent = true;
            self.activity = Activity::Wrote;
        }
    }

    /// Shuts the write half down, if that waits and all output is written.
    #[cold]
    fn finish_shutdown(&mut self) -> io::Result<()> {
        if self.write_half != WriteHalf::ShuttingDown || self.unsent() > 0 || self.is_connecting() {
            return Ok(());
        }
        self.write_half = WriteHalf::Shut;
        self.endpoint.shutdown_write()
    }

    /// Passes an error to the user's callbacks, or keeps it for the close reason if
    /// there are none any more.
    pub(super) fn store_or_return_error(&mut self, error: io::Error) -> io::Result<()> {
        if self.is_open() {
            return Err(error);
        }
        self.active_mut().pending_error.get_or_insert(error);
        Ok(())
    }

    /// Returns the number of bytes written since the last call.
    #[inline(always)]
    pub(super) fn take_sent(&mut self) -> usize {
        mem::take(&mut self.uncounted_sent) as usize
    }

    /// Returns `true` if the stream waits until the socket is writable.
    #[inline(always)]
    pub(super) fn wants_write(&self) -> bool {
        if self.is_resting() {
            return false;
        }
        (self.is_connecting() && !self.is_unconnected())
            || self.close_state == CloseState::AwaitingTransmit
            || (self.unsent() > 0 && !self.is_connecting() && !self.is_write_throttled())
    }

    /// Returns `true` if `handle_write` may be called.
    pub(crate) fn has_room(&self) -> bool {
        self.is_open()
            && self.write_half == WriteHalf::Open
            && self.endpoint.can_write()
            && self.unsent() <= self.limits().low_water()
    }

    /// Returns `true` from the moment the output reaches the high-water mark until it
    /// is back at the low one.
    pub(crate) fn is_congested(&self) -> bool {
        self.output.as_ref().is_some_and(|output| output.is_congested())
    }

    pub(crate) fn high_water(&self) -> usize {
        self.limits().high_water
    }

    // --- input ------------------------------------------------------------

    /// Returns `true` if the stream can read, and the user has not paused it.
    #[inline(always)]
    pub(super) fn wants_read(&self) -> bool {
        if self.is_resting() {
            return self.endpoint.can_read();
        }
        self.read_half == ReadHalf::Open
            && self.close_state.is_open()
            && (self.active.is_none() || self.is_active_readable())
            && !self.is_congested()
            && self.endpoint.can_read()
    }

    fn is_active_readable(&self) -> bool {
        self.is_open() && !self.is_connecting() && !self.is_read_throttled()
    }

    /// Returns `true` if input is to be discarded.
    pub(super) fn discards_input(&self) -> bool {
        self.close_state.discards_input()
    }

    /// Reads once into `buffer`.
    #[inline(always)]
    pub(super) fn receive(&mut self, buffer: &mut [u8], now: Instant) -> io::Result<ReadOutcome> {
        if self.active.is_some() {
            return self.receive_throttled(buffer, now);
        }
        self.read(buffer)
    }

    #[cold]
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

    /// Reads input of a closing stream and discards it.
    pub(super) fn discard(&mut self, buffer: &mut [u8]) {
        match self.endpoint.read(buffer) {
            Ok(0) => self.close_state = self.close_state.after_linger(),
            Ok(_) => self.discarded_input = true,
            Err(error) if is_would_block(&error) => {}
            Err(error) => self.active_mut().pending_error = Some(error),
        }
    }

    #[inline(always)]
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<ReadOutcome> {
        let result = match self.endpoint.read(buffer) {
            Err(error) => retry_read(&self.endpoint, buffer, error),
            result => result,
        };
        match result {
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

    /// Returns the pending urgent byte, if there is one.
    pub(super) fn take_urgent_byte(&mut self) -> Option<u8> {
        self.endpoint.take_urgent_byte()
    }

    /// Returns the error that a hang-up stands for. Without interest a socket reports
    /// only that it failed, or that both halves are shut.
    pub(super) fn take_socket_error(&mut self) -> io::Result<()> {
        self.endpoint.take_error()
    }

    /// Stops reading; TCP then slows the peer down. While paused, the end of input is
    /// not noticed, but a reset is.
    ///
    /// To read no faster than another stream writes, pause while that one has
    /// something [`unsent`](Self::unsent), and let it resume this one once it has
    /// nothing: its [`handle_write`](crate::Protocol::handle_write) is called then,
    /// while its [`writable`](crate::Protocol::writable) returns `true`. See the example
    /// `proxy`.
    pub fn pause(&mut self) {
        self.read_half = self.read_half.paused();
    }

    /// Continues reading after [`pause`](Self::pause).
    pub fn resume(&mut self) {
        self.read_half = self.read_half.resumed();
    }

    // --- connecting -------------------------------------------------------

    #[inline(always)]
    pub(super) fn is_connecting(&self) -> bool {
        self.active.as_ref().is_some_and(|active| active.connecting.is_some())
    }

    pub(super) fn connecting_mut(&mut self) -> Option<&mut Connecting> {
        self.active.as_mut()?.connecting.as_mut()
    }

    pub(super) fn start_connecting(&mut self, connecting: Connecting) {
        self.active_mut().connecting = Some(connecting);
    }

    /// The connection is established. Returns what is left of the attempts.
    pub(super) fn finish_connecting(&mut self) -> Option<Connecting> {
        if self.activity == Activity::None {
            self.activity = Activity::Received;
        }
        self.active.as_mut()?.connecting.take()
    }

    /// Returns `true` if there is no socket yet.
    pub(super) fn is_unconnected(&self) -> bool {
        matches!(self.endpoint, Endpoint::Unconnected)
    }

    pub(super) fn take_connect_result(&self) -> io::Result<()> {
        match &self.endpoint {
            Endpoint::Socket(socket) => socket.take_connect_result(),
            Endpoint::Descriptor(_) | Endpoint::Unconnected => Ok(()),
        }
    }

    /// Exchanges the socket. The previous source must not be registered.
    pub(super) fn replace_socket(&mut self, socket: Socket, peer: Address) {
        self.endpoint = Endpoint::Socket(socket);
        self.peer = peer.into();
    }

    /// Gives up the socket. Its source must not be registered.
    pub(super) fn take_socket(&mut self) -> Option<Socket> {
        match mem::replace(&mut self.endpoint, Endpoint::Unconnected) {
            Endpoint::Socket(socket) => Some(socket),
            Endpoint::Descriptor(_) | Endpoint::Unconnected => None,
        }
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

    /// Returns a reference on which socket options can be read and set, or `None` for a
    /// pipe, a terminal or a file, and while a host name is being resolved.
    #[must_use]
    pub fn socket_options(&self) -> Option<SockRef<'_>> {
        self.endpoint.options()
    }

    // --- rates ------------------------------------------------------------

    /// Limits reading to `bytes_per_second`, as [`Limits::read_rate`] does; `None`
    /// for no limit.
    pub fn set_read_rate(&mut self, bytes_per_second: Option<NonZeroU64>) {
        self.active_mut().throttles.read = bytes_per_second.map(Throttle::new);
    }

    /// Limits writing to `bytes_per_second`, as [`Limits::write_rate`] does; `None`
    /// for no limit.
    pub fn set_write_rate(&mut self, bytes_per_second: Option<NonZeroU64>) {
        self.active_mut().throttles.write = bytes_per_second.map(Throttle::new);
    }

    fn throttles(&self) -> Option<&Throttles> {
        self.active.as_ref().map(|active| &active.throttles)
    }

    fn read_throttle(&mut self) -> Option<&mut Throttle> {
        self.active.as_mut()?.throttles.read.as_mut()
    }

    fn write_throttle(&mut self) -> Option<&mut Throttle> {
        self.active.as_mut()?.throttles.write.as_mut()
    }

    #[inline(always)]
    fn has_write_rate(&self) -> bool {
        self.throttles().is_some_and(|both| both.write.is_some())
    }

    fn is_read_throttled(&self) -> bool {
        self.throttles().is_some_and(|both| both.read.as_ref().is_some_and(Throttle::is_blocked))
    }

    fn is_write_throttled(&self) -> bool {
        self.throttles().is_some_and(|both| both.write.as_ref().is_some_and(Throttle::is_blocked))
    }

    fn release_throttles(&mut self, now: Instant) {
        if let Some(both) = self.active.as_mut().map(|active| &mut active.throttles) {
            let blocked = [&mut both.read, &mut both.write].into_iter().flatten();
            blocked.for_each(|rate| rate.release_if_due(now));
        }
    }

    // --- deadlines --------------------------------------------------------

    /// Closes the stream after `timeout` without traffic, from now on; `None` for
    /// never. A stream that differs in this from the others of its listener has limits
    /// of its own (about 120 bytes).
    pub fn set_idle_timeout(&mut self, timeout: Option<Duration>) {
        // It starts now, not at the last traffic.
        self.last_activity = None;
        if timeout != self.limits().idle_timeout {
            Rc::make_mut(&mut self.config).limits.idle_timeout = timeout;
        }
    }

    /// Returns `true` if the stream may have a deadline, for which
    /// [`record_activity`](Self::record_activity) needs the time.
    #[inline(always)]
    pub(super) fn may_time_out(&self) -> bool {
        !self.is_resting()
    }

    /// Restarts the clocks of the timeouts, according to what was moved since the last
    /// call.
    pub(super) fn record_activity(&mut self, now: Instant) {
        let activity = mem::replace(&mut self.activity, Activity::None);
        if self.limits().idle_timeout.is_some()
            && (activity != Activity::None || self.last_activity.is_none())
        {
            self.last_activity = Some(now);
        }
        let is_waiting = !self.is_connecting() && self.waits_for_peer();
        let wrote = activity == Activity::Wrote;
        if is_waiting {
            let stalled_since = &mut self.active_mut().stalled_since;
            if wrote || stalled_since.is_none() {
                *stalled_since = Some(now);
            }
        } else if let Some(active) = &mut self.active {
            active.stalled_since = None;
            if !active.is_needed() {
                self.active = None;
            }
        }
    }

    /// Returns `true` if the peer must read output, or end. Output that waits for its
    /// rate does not wait for the peer.
    fn waits_for_peer(&self) -> bool {
        (self.unsent() > 0 && !self.is_write_throttled()) || self.discards_input()
    }

    /// Returns when the next timeout expires, or a rate allows more. Does not cover
    /// connecting.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let rates = self.throttles().into_iter().flat_map(|both| [&both.read, &both.write]);
        let rates = rates.flatten().filter_map(Throttle::ready_at);
        [self.stall_deadline(), self.idle_deadline()].into_iter().flatten().chain(rates).min()
    }

    fn stall_deadline(&self) -> Option<Instant> {
        let stalled_since = self.active.as_ref()?.stalled_since?;
        let timeout =
            if self.discards_input() { LINGER_TIMEOUT } else { self.limits().stall_timeout? };
        stalled_since.checked_add(timeout)
    }

    fn idle_deadline(&self) -> Option<Instant> {
        self.last_activity?.checked_add(self.limits().idle_timeout?)
    }

    /// A deadline has passed: lets rates continue, and ends lingering. Returns the
    /// timeout that closes the stream, if one does.
    pub(super) fn expire(&mut self, now: Instant) -> Option<TimeoutKind> {
        self.release_throttles(now);
        let has_passed = |deadline: Option<Instant>| deadline.is_some_and(|at| at <= now);
        if has_passed(self.stall_deadline()) {
            if !self.discards_input() {
                return Some(TimeoutKind::Stall);
            }
            self.close_state = self.close_state.after_linger();
        }
        has_passed(self.idle_deadline()).then_some(TimeoutKind::Idle)
    }

    // --- the end ----------------------------------------------------------

    /// Ends the write half once all queued output is written. The stream continues to
    /// read until the peer ends too, and closes then.
    ///
    /// # Errors
    ///
    /// Returns `Unsupported` for a pipe, a terminal or a file.
    pub fn shutdown(&mut self) -> io::Result<()> {
        if !self.endpoint.supports_half_close() {
            return Err(ErrorKind::Unsupported.into());
        }
        if self.write_half == WriteHalf::Open {
            self.write_half = WriteHalf::ShuttingDown;
        }
        Ok(())
    }

    /// Closes the stream in good order: queued output is written first. The only
    /// callback that follows is `handle_close`.
    ///
    /// Later calls of [`send`](Self::send) fail. If the current callback returns an
    /// `Err`, the stream ends without writing.
    ///
    /// TCP answers a close with unread input by a reset, which discards output
    /// (RFC 1122, section 4.2.2.13). So a stream whose peer has not ended waits for up
    /// to two seconds: until all output has left this machine, and, if input arrives
    /// that is not read, until the peer ends.
    pub fn close(&mut self) {
        self.close_state = self.close_state.after_close();
    }

    /// Closes the stream now. Queued output is discarded, and counted in the close
    /// reason.
    pub fn abort(&mut self) {
        self.close_state = CloseState::Closed;
    }

    /// Advances the end of the stream by one step. Returns the cause once it has ended.
    #[inline(always)]
    pub(super) fn poll_close(&mut self) -> Option<Cause> {
        if self.is_resting() {
            return None;
        }
        self.advance_close()
    }

    fn advance_close(&mut self) -> Option<Cause> {
        if let Some(active) = &mut self.active
            && let Some(error) = active.pending_error.take()
        {
            return Some(Cause::Error(error));
        }
        match self.close_state {
            CloseState::Open => {
                // Both halves have ended: nothing can follow.
                let has_ended =
                    self.read_half == ReadHalf::Eof && self.write_half == WriteHalf::Shut;
                has_ended.then_some(Cause::PeerClosed)
            }
            CloseState::Closed => Some(self.local_cause()),
            state if state.ends_when_flushed() && self.unsent() == 0 => self.try_finish_close(),
            _ => None,
        }
    }

    /// All output is written: ends, unless that would destroy it.
    #[cold]
    fn try_finish_close(&mut self) -> Option<Cause> {
        if self.read_half == ReadHalf::Eof
            || self.is_connecting()
            || !self.endpoint.supports_half_close()
        {
            return Some(self.local_cause());
        }
        let unread = match self.probe_unread_input() {
            Ok(unread) => unread,
            Err(error) => return Some(Cause::Error(error)),
        };
        let is_shut = self.write_half == WriteHalf::Shut;
        let queue = match self.close_state {
            _ if !self.has_sent => SendQueue::Empty,
            CloseState::AwaitingTransmit => self.endpoint.check_send_queue(is_shut),
            _ => self.endpoint.watch_send_queue(is_shut),
        };
        match CloseState::next(unread, queue) {
            CloseStep::End => Some(Cause::Local),
            CloseStep::Enter(state) => {
                self.close_state = state;
                if state != CloseState::Lingering || is_shut {
                    return None;
                }
                self.write_half = WriteHalf::Shut;
                self.endpoint.shutdown_write().err().map(Cause::Error)
            }
        }
    }

    /// Reads one byte, if there is one. Peeking would not see beyond an urgent byte.
    fn probe_unread_input(&mut self) -> io::Result<UnreadInput> {
        match self.endpoint.read(&mut [0]) {
            Ok(0) => return Ok(UnreadInput::Eof),
            Ok(_) => self.discarded_input = true,
            Err(error) if is_would_block(&error) => {}
            Err(error) => return Err(error),
        }
        Ok(if self.discarded_input { UnreadInput::Discarded } else { UnreadInput::None })
    }

    fn local_cause(&self) -> Cause {
        if self.read_half == ReadHalf::Eof { Cause::PeerClosed } else { Cause::Local }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.config.release();
    }
}

/// Writes once. Returns the number of bytes, 0 if the kernel has no room.
#[inline(always)]
fn write_once(endpoint: &Endpoint, data: &[u8]) -> io::Result<usize> {
    match endpoint.write(data) {
        Ok(written) => Ok(written),
        Err(error) => retry_write(endpoint, data, error),
    }
}

#[cold]
fn retry_write(endpoint: &Endpoint, data: &[u8], mut error: io::Error) -> io::Result<usize> {
    while error.kind() == ErrorKind::Interrupted {
        match endpoint.write(data) {
            Ok(written) => return Ok(written),
            Err(other) => error = other,
        }
    }
    if error.kind() == ErrorKind::WouldBlock { Ok(0) } else { Err(error) }
}

/// As [`Endpoint::read`], once more after an interruption.
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

fn is_would_block(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
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
