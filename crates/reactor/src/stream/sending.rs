//! Sending: gathering the output of a callback, writing it, and queueing the rest.

use std::io::{self, ErrorKind};
use std::mem;
use std::time::Instant;

use crate::output_buffer::{OutputBuffer, SendMode};
use crate::stream::closing::{CloseState, WriteHalf};
use crate::stream::connection::{Activity, Connection};
use crate::sys::endpoint::Endpoint;

/// The largest write: a peer that reads fast must not delay the others.
pub(super) const MAX_WRITE: usize = 1024 * 1024;

/// Output of one callback that passes a filter is gathered up to this size, and then written;
/// other output up to [`Connection::gather_limit`], at most one byte less.
pub(super) const MAX_GATHERED: usize = 64 * 1024;

/// Output of this size is written at once rather than copied.
pub(super) const MIN_DIRECT_WRITE: usize = 16 * 1024;

impl Connection {
    /// Sends `data`. What the kernel does not accept now is queued and sent later, in
    /// order. Never blocks. Returns `Ok` if all of `data` was accepted. Accepted bytes
    /// that are never written are counted in
    /// [`CloseReason::unsent`](crate::CloseReason::unsent). If an error is returned, none
    /// of `data` is sent.
    ///
    /// It can be called before the connection is established.
    ///
    /// # Errors
    ///
    /// * `WouldBlock` if at least [`Limits::high_water`](crate::Limits::high_water) bytes
    ///   are queued; continue in
    ///   [`Protocol::handle_write`](crate::Protocol::handle_write). A callback of this
    ///   stream (other than `handle_write`) that started below that mark may exceed it as
    ///   far as [`Limits::max_excess`](crate::Limits::max_excess) allows;
    /// * `NotConnected` after [`close`](Self::close) or [`shutdown`](Self::shutdown), and
    ///   after a write has failed;
    /// * the socket's error, if this write fails. The stream then reads what has arrived
    ///   before, and closes with that error.
    #[inline]
    pub fn send(&mut self, data: &[u8]) -> io::Result<()> {
        if let Some(output) = &mut self.output
            && data.len() < MIN_DIRECT_WRITE
            && output.gather(data, self.gather_limit.into())
        {
            return Ok(());
        }
        self.send_now(data)
    }

    /// Sets how much output is gathered in a callback. Call it after each change of what it
    /// depends on.
    pub(super) fn update_gather_limit(&mut self) {
        self.gather_limit = if self.can_send() {
            let below_mark = self.limits().high_water.saturating_sub(1);
            u16::try_from(below_mark).unwrap_or(u16::MAX)
        } else {
            0
        };
    }

    /// Returns `true` if output is accepted, and gathered.
    #[inline(always)]
    pub(super) fn accepts_output(&self) -> bool {
        self.gather_limit > 0
    }

    /// Sends output that is not gathered: writes it, or queues it if that must wait.
    #[inline(never)]
    fn send_now(&mut self, data: &[u8]) -> io::Result<()> {
        if data.is_empty() {
            return Ok(());
        }
        self.ensure_can_send()?;
        if self.is_filtered() {
            return self.send_filtered(data);
        }
        let is_gathering = self.output.as_ref().is_some_and(|output| !output.is_blocked());
        if is_gathering && let Err(error) = self.write_output(MAX_WRITE) {
            return Err(self.fail_write(error));
        }
        if is_gathering && let Some(output) = &mut self.output {
            output.record_rest(true);
        }
        if self.queued() > 0 || self.is_connecting() || self.has_write_rate() {
            return self.queue(data);
        }
        // Nothing is queued, so the rest always fits: the bound is one message above
        // the high-water mark.
        let written = match write_once(&self.endpoint, data) {
            Ok(written) => written,
            Err(error) => return Err(self.fail_write(error)),
        };
        self.record_written(written);
        if written < data.len() {
            self.push_rest(&data[written..]);
        }
        Ok(())
    }

    fn ensure_can_send(&self) -> io::Result<()> {
        if self.can_send() {
            return Ok(());
        }
        let message = if self.endpoint.can_write() {
            "send on a closed stream".to_owned()
        } else {
            format!("{} is open for reading only", self.peer_addr())
        };
        Err(io::Error::new(ErrorKind::NotConnected, message))
    }

    fn can_send(&self) -> bool {
        self.is_open() && self.write_half == WriteHalf::Open && self.endpoint.can_write()
    }

    fn queue(&mut self, data: &[u8]) -> io::Result<()> {
        self.ensure_room(data.len())?;
        self.push_rest(data);
        Ok(())
    }

    /// Fails if the high-water mark is reached, unless the current callback may exceed it.
    pub(super) fn ensure_room(&mut self, len: usize) -> io::Result<()> {
        let unsent = self.unsent();
        if unsent > 0 && unsent >= self.limits().high_water && !self.accept_excess(len) {
            let message =
                format!("{}: output buffer full ({unsent} bytes queued)", self.peer_addr());
            return Err(io::Error::new(ErrorKind::WouldBlock, message));
        }
        Ok(())
    }

    /// Accepts output above the high-water mark, if the current callback may send it.
    fn accept_excess(&mut self, len: usize) -> bool {
        let max = self.max_excess();
        self.output.as_mut().is_some_and(|output| output.accept_excess(len, max))
    }

    pub(super) fn send_mode(&self) -> SendMode {
        match (&self.output, &self.active) {
            (Some(output), _) => output.mode(),
            (None, Some(active)) => active.send_mode,
            (None, None) => SendMode::Strict,
        }
    }

    /// Returns how much the current callback may send above the high-water mark.
    pub(crate) fn max_excess(&self) -> usize {
        if self.send_mode() == SendMode::Strict { 0 } else { self.limits().max_excess }
    }

    /// Queues output that must wait until the socket is writable, or the rate allows it.
    fn push_rest(&mut self, data: &[u8]) {
        let (mode, is_first) = (self.send_mode(), self.queued() == 0);
        let high_water = self.limits().high_water;
        let output = self.output.get_or_insert_default();
        output.push(data, high_water);
        output.set_blocked(true);
        output.set_mode(mode);
        output.record_rest(is_first);
    }

    pub(super) fn set_output_blocked(&mut self, blocked: bool) {
        if let Some(output) = &mut self.output {
            output.set_blocked(blocked);
        }
    }

    /// Returns the number of bytes that were passed to [`send`](Self::send) and not yet
    /// written to the socket. What a [`Filter`](crate::Filter) adds does not count. It turns
    /// up to 16 KiB into one record; until that is written completely, all of its bytes
    /// count, because the peer cannot read a part of it.
    #[must_use]
    pub fn unsent(&self) -> usize {
        match &self.output {
            Some(output) if self.is_filtered() => output.user_len(),
            Some(output) => output.len(),
            None => 0,
        }
    }

    /// Returns the number of bytes queued to be written to the socket.
    pub(super) fn queued(&self) -> usize {
        self.output.as_ref().map_or(0, |output| output.len())
    }

    /// Returns `true` if nothing is queued, or waits for a filter.
    pub(super) fn is_flushed(&self) -> bool {
        self.output.as_ref().is_none_or(|output| {
            output.is_empty() && (output.plain_len() == 0 || self.is_filter_finished())
        })
    }

    /// Takes a buffer in which the output of a callback is gathered, unless there is
    /// one.
    #[inline(always)]
    pub(super) fn gather_in(
        &mut self,
        mode: SendMode,
        lend: impl FnOnce() -> Option<Box<OutputBuffer>>,
    ) {
        let is_plain = self.active.is_none();
        if self.output.is_none() && (is_plain || self.can_gather_while_active()) {
            let output = self.output.get_or_insert_with(|| lend().unwrap_or_default());
            output.set_mode(mode);
            if !is_plain {
                self.block_filtered_output();
            }
        } else {
            self.set_send_mode(mode);
        }
    }

    #[cold]
    fn can_gather_while_active(&self) -> bool {
        !self.is_connecting() && !self.has_write_rate()
    }

    /// Sets how output that is sent from now on counts. If the queue is at the high-water
    /// mark when a callback starts, that callback cannot send, unless it handles input.
    #[cold]
    pub(crate) fn set_send_mode(&mut self, mode: SendMode) {
        let is_full = self.unsent() > 0 && self.unsent() >= self.limits().high_water;
        let mode = match mode {
            SendMode::Burst if is_full => SendMode::Strict,
            mode => mode,
        };
        if let Some(output) = &mut self.output {
            output.set_mode(mode);
        } else if let Some(active) = &mut self.active {
            active.send_mode = mode;
        }
    }

    /// Writes what was gathered during a callback, and shuts the write half down if
    /// that was waiting for the output. Returns the buffer if it is empty. If all was
    /// written, calls `count` with the number of bytes.
    #[inline(always)]
    pub(super) fn flush_gathered(
        &mut self,
        count: impl FnOnce(usize),
    ) -> io::Result<Option<Box<OutputBuffer>>> {
        let mut output = self.output.take();
        if let Some(gathered) = &mut output {
            if gathered.is_blocked() {
                self.output = output;
                return self.flush_blocked();
            }
            if !gathered.is_empty() {
                match write_once(&self.endpoint, gathered.front(MAX_WRITE)) {
                    Ok(written) if written == gathered.len() => {
                        gathered.clear();
                        self.has_sent = true;
                        self.activity = Activity::Wrote;
                        count(written);
                    }
                    result => return self.keep_rest(output, result),
                }
            }
        }
        if self.write_half == WriteHalf::ShuttingDown {
            self.finish_shutdown()?;
        }
        Ok(output)
    }

    /// Keeps the output of a callback that was not written completely.
    #[cold]
    fn keep_rest(
        &mut self,
        mut output: Option<Box<OutputBuffer>>,
        written: io::Result<usize>,
    ) -> io::Result<Option<Box<OutputBuffer>>> {
        if let Some(gathered) = &mut output
            && let Ok(written) = &written
        {
            gathered.consume(*written, || self.config.limits.low_water());
            gathered.record_rest(true);
            gathered.set_mode(SendMode::Strict);
            self.record_written(*written);
        }
        self.output = output;
        written.map(|_| None)
    }

    /// Writes queued output, as the socket is writable or the rate allows it.
    pub(super) fn flush(&mut self, now: Instant) -> io::Result<()> {
        if self.is_connecting()
            || self.close_state.has_ended()
            || self.write_half == WriteHalf::Failed
        {
            return Ok(());
        }
        let max = self.throttles().and_then(|both| both.write.as_ref());
        let max = max.map_or(MAX_WRITE, |rate| rate.available(now).min(MAX_WRITE));
        let before = self.queued();
        if before > 0 && max > 0 {
            self.write_output(max)?;
        }
        let written = before - self.queued();
        if self.is_filtered() {
            self.record_filtered(written);
        }
        if let Some(rate) = self.write_throttle() {
            rate.consume(written, now);
        }
        self.output.take_if(|output| output.is_empty() && output.user_len() == 0);
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

    pub(super) fn record_written(&mut self, written: usize) {
        if written > 0 {
            let counted = u32::try_from(written).unwrap_or(u32::MAX);
            self.uncounted_sent = self.uncounted_sent.saturating_add(counted);
            self.has_sent = true;
            self.activity = Activity::Wrote;
        }
    }

    /// Shuts the write half down, if that waits and all output is written.
    #[cold]
    pub(super) fn finish_shutdown(&mut self) -> io::Result<()> {
        if self.write_half != WriteHalf::ShuttingDown || self.is_connecting() {
            return Ok(());
        }
        if self.is_filtered() {
            self.finish_filter()?;
        }
        if !self.is_flushed() || self.awaits_filter() {
            return Ok(());
        }
        self.write_half = WriteHalf::Shut;
        self.endpoint.shutdown_write()
    }

    /// Returns the number of bytes that were written and not counted yet.
    #[inline(always)]
    pub(super) fn take_uncounted(&mut self) -> Option<usize> {
        if self.uncounted_sent == 0 {
            return None;
        }
        Some(mem::take(&mut self.uncounted_sent) as usize)
    }

    /// Returns `true` if the stream waits until the socket is writable.
    #[inline(always)]
    pub(super) fn wants_write(&self) -> bool {
        if self.is_resting() {
            return false;
        }
        (self.is_connecting() && !self.is_unconnected())
            || self.close_state == CloseState::AwaitingTransmit
            || (self.queued() > 0
                && !self.is_connecting()
                && !self.is_write_throttled()
                && self.write_half != WriteHalf::Failed)
    }

    /// Returns `true` if `handle_write` may be called.
    pub(crate) fn has_room(&self) -> bool {
        self.can_send() && self.unsent() <= self.limits().low_water() && !self.is_handshaking()
    }

    /// Returns `true` from the moment at which output that includes replies reaches the
    /// high-water mark, until it is back at the low one. Other output does not stop input,
    /// so that two peers that both send first do not wait for each other.
    pub(crate) fn holds_back_input(&self) -> bool {
        self.output.as_ref().is_some_and(|output| output.holds_back_input())
            && !self.reads_while_congested()
    }

    pub(crate) fn reads_while_congested(&self) -> bool {
        self.limits().read_while_congested
    }

    pub(crate) fn high_water(&self) -> usize {
        self.limits().high_water
    }
}

/// Writes once. Returns the number of bytes, 0 if the kernel has no room.
#[inline(always)]
pub(super) fn write_once(endpoint: &Endpoint, data: &[u8]) -> io::Result<usize> {
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
