//! The filters of a [`Connection`]: their life, and input that passes them.

use std::any::Any;
use std::io::{self, ErrorKind};
use std::mem;
use std::time::Instant;

use crate::filter::{Filter, Flow};
use crate::reactor::Cause;
use crate::stream::active::{Failure, FilterPhase, Filtering, Notified};
use crate::stream::closing::{CloseState, ReadHalf, WriteHalf};
use crate::stream::connection::{Connection, ReadOutcome};

impl Connection {
    /// Passes all further input and output through `filter`. What was sent before is
    /// written as it is. `rest` was received already and is for the filter: what followed
    /// the request for the change. A protocol that requires the request to be the last
    /// unencrypted message, like STARTTLS, must reject what follows it instead, or an
    /// attacker can inject plain text (CVE-2011-0411).
    ///
    /// [`Protocol::handle_upgrade`](crate::Protocol::handle_upgrade) is called once the
    /// filter is ready. What is sent until then is kept.
    ///
    /// # Errors
    ///
    /// * `AlreadyExists` if the stream has a filter that has not given way;
    /// * `NotConnected` if the connection is not established yet (see
    ///   [`Stream::with_filter`](crate::Stream::with_filter)), or either half has ended.
    pub fn start_filter(&mut self, filter: impl Filter, rest: &[u8]) -> io::Result<()> {
        if self.is_filtered() {
            return Err(io::Error::new(ErrorKind::AlreadyExists, "the stream has a filter"));
        }
        let is_open = self.is_open()
            && !self.is_connecting()
            && self.write_half == WriteHalf::Open
            && self.read_half != ReadHalf::Eof;
        if !is_open {
            let message = "a filter needs a connection that is open in both directions";
            return Err(io::Error::new(ErrorKind::NotConnected, message));
        }
        let mut filtering = Filtering::new(Box::new(filter));
        filtering.notified = Notified::Connected;
        let mut rest = rest.to_vec();
        if let Some(previous) = self.filtering_mut() {
            rest.append(&mut previous.input.bytes);
        }
        if let Some(output) = &mut self.output {
            filtering.wire.is_blocked = output.is_blocked();
            output.start_filter();
            output.set_blocked(true);
        }
        self.active_mut().filtering = Some(Box::new(filtering));
        if let Err(error) = self.begin_filter(&mut rest) {
            self.set_filter_failure(error);
        }
        Ok(())
    }

    /// Returns the filter that the stream uses, if its type is `F`.
    #[must_use]
    pub fn filter<F: Filter>(&self) -> Option<&F> {
        let filter: &dyn Any = &**self.filtering()?.current.as_ref()?;
        filter.downcast_ref()
    }

    /// Adds a filter, behind those that there are.
    pub(crate) fn add_filter(&mut self, filter: Box<dyn Filter>) {
        if let Some(filtering) = self.filtering_mut() {
            filtering.later.insert(0, filter);
            return;
        }
        self.active_mut().filtering = Some(Box::new(Filtering::new(filter)));
        if let Some(output) = &mut self.output {
            output.filter_queued();
        }
    }

    fn filtering(&self) -> Option<&Filtering> {
        self.active.as_ref()?.filtering.as_deref()
    }

    pub(super) fn filtering_mut(&mut self) -> Option<&mut Filtering> {
        self.active.as_mut()?.filtering.as_deref_mut()
    }

    /// Returns `true` if input and output pass a filter.
    pub(super) fn is_filtered(&self) -> bool {
        self.filtering().is_some_and(|filtering| filtering.current.is_some())
    }

    pub(super) fn filter_phase(&self) -> Option<FilterPhase> {
        Some(self.filtering()?.phase)
    }

    /// Returns `true` if the protocol must wait for the filter.
    pub(super) fn is_handshaking(&self) -> bool {
        matches!(self.filter_phase(), Some(FilterPhase::Waiting | FilterPhase::Handshake { .. }))
    }

    /// Returns `true` if output can pass the filter now.
    pub(super) fn can_pass(&self) -> bool {
        self.filter_phase() == Some(FilterPhase::Open)
    }

    // --- the handshake ----------------------------------------------------

    /// Starts the filter of a connection that is established; `rest` was received before.
    pub(super) fn begin_filter(&mut self, rest: &mut [u8]) -> io::Result<()> {
        if let Some(filtering) = self.filtering_mut()
            && !matches!(filtering.phase, FilterPhase::Handshake { .. })
        {
            filtering.phase = FilterPhase::Handshake { deadline: None };
        }
        self.run_filter(|filter, flow| {
            filter.start(flow)?;
            if rest.is_empty() { Ok(()) } else { filter.received(rest, flow) }
        })
    }

    /// Starts the clock of the handshake.
    pub(super) fn record_handshake(&mut self, now: Instant) {
        let timeout = self.limits().handshake_timeout;
        if let Some(filtering) = self.filtering_mut()
            && filtering.phase == (FilterPhase::Handshake { deadline: None })
        {
            let deadline = timeout.and_then(|timeout| now.checked_add(timeout));
            filtering.phase = FilterPhase::Handshake { deadline };
        }
    }

    pub(super) fn handshake_deadline(&self) -> Option<Instant> {
        match self.filter_phase()? {
            FilterPhase::Handshake { deadline } => deadline,
            FilterPhase::Waiting | FilterPhase::Open | FilterPhase::Finished => None,
        }
    }

    /// Returns `true` if the handshake needs input, whatever the protocol wants. It goes
    /// on in a stream that is closing if that must send what was kept.
    #[cold]
    pub(super) fn wants_handshake_input(&self) -> bool {
        let goes_on = match self.close_state {
            CloseState::Open => true,
            CloseState::Flushing => !self.is_flushed(),
            _ => false,
        };
        goes_on
            && !self.is_connecting()
            && self.filtering().is_some_and(|filtering| !filtering.wire.has_ended)
            && self.active.as_ref().is_none_or(|active| active.pending_error.is_none())
            && !self.is_read_throttled()
            && !self.holds_back_input()
    }

    // --- input ------------------------------------------------------------

    /// Turns the result of a read of the socket into one for the filter.
    #[cold]
    pub(super) fn filtered_outcome(
        &mut self,
        outcome: ReadOutcome,
        read_half: ReadHalf,
    ) -> ReadOutcome {
        match (outcome, self.filtering_mut()) {
            (ReadOutcome::Data(read), Some(_)) => ReadOutcome::Raw(read),
            (ReadOutcome::Eof, Some(filtering)) => {
                filtering.wire.has_ended = true;
                // The protocol's input has its own end.
                self.read_half = read_half;
                ReadOutcome::RawEof
            }
            (outcome, _) => outcome,
        }
    }

    /// Passes input through the filter, after lending it a buffer for the result.
    pub(super) fn pass_input(
        &mut self,
        raw: &mut [u8],
        lend: impl FnOnce() -> Vec<u8>,
    ) -> io::Result<()> {
        if let Some(filtering) = self.filtering_mut()
            && filtering.input.bytes.capacity() == 0
        {
            filtering.input.bytes = lend();
        }
        self.run_filter(|filter, flow| filter.received(raw, flow))
    }

    /// Reports the end of the socket's input to the filter.
    pub(super) fn pass_end(&mut self) -> Result<(), Cause> {
        let is_ready = !self.is_handshaking();
        if !self.filtering().is_some_and(|filtering| filtering.input.ends) {
            self.run_filter(Filter::ended).map_err(|error| match error.kind() {
                ErrorKind::UnexpectedEof if is_ready => Cause::Truncated,
                _ => Cause::Error(error),
            })?;
        }
        // A filter that is not ready by now waits for input that cannot come.
        if self.is_handshaking() { Err(Cause::PeerClosed) } else { Ok(()) }
    }

    fn run_filter(
        &mut self,
        step: impl FnOnce(&mut dyn Filter, &mut Flow<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        let Some(filtering) = self.filtering_mut() else { return Ok(()) };
        let Some(filter) = &mut filtering.current else { return Ok(()) };
        let mut wire = Vec::new();
        let mut flow = Flow::new(&mut filtering.input.bytes, &mut wire);
        let result = step(&mut **filter, &mut flow);
        let report = flow.report;
        if report.is_ready && report.rest.is_none() {
            filtering.set_ready();
        }
        filtering.input.ends |= report.has_ended;
        if let Some(peer) = report.peer {
            self.peer = peer.into();
        }
        self.push_wire(&wire);
        result?;
        match report.rest {
            Some(mut rest) => self.replace_filter(&mut rest),
            None => Ok(()),
        }
    }

    /// The filter gives way.
    fn replace_filter(&mut self, rest: &mut Vec<u8>) -> io::Result<()> {
        let high_water = self.limits().high_water;
        let Some(filtering) = self.filtering_mut() else { return Ok(()) };
        filtering.current = filtering.later.pop();
        if filtering.current.is_some() {
            return self.begin_filter(rest);
        }
        filtering.input.bytes.append(rest);
        filtering.set_ready();
        // What is queued is written when the socket is writable.
        if let Some(output) = &mut self.output {
            output.end_filter(high_water);
        }
        Ok(())
    }

    /// Returns `true` if the protocol can be notified of something without further input.
    #[cold]
    pub(super) fn can_deliver(&self, readable: impl FnOnce() -> bool) -> bool {
        let Some(filtering) = self.filtering() else { return false };
        matches!(filtering.failure, Failure::Pending(_))
            || (self.is_open()
                && (self.is_notice_due()
                    || (self.has_undelivered() && self.accepts_input() && readable())))
    }

    /// Returns `true` if the protocol may receive input that has passed the filter.
    pub(super) fn accepts_input(&self) -> bool {
        self.is_open()
            && !self.is_handshaking()
            && self.read_half == ReadHalf::Open
            && !self.holds_back_input()
    }

    /// Returns `true` if there is input that the protocol has not received.
    pub(super) fn has_undelivered(&self) -> bool {
        self.filtering().is_some_and(|filtering| !filtering.input.is_empty())
    }

    /// Returns `true` if the protocol is to be notified now that the filter is ready.
    pub(super) fn is_notice_due(&self) -> bool {
        !self.is_handshaking()
            && self.filtering().is_some_and(|filtering| filtering.notified.is_due())
    }

    /// Records that the protocol is notified. Returns what it was notified of before.
    pub(super) fn record_notice(&mut self) -> Option<Notified> {
        let filtering = self.filtering_mut()?;
        Some(mem::replace(&mut filtering.notified, Notified::Connected))
    }

    /// Returns up to `max` bytes for the protocol; what remains is kept.
    pub(super) fn take_input(&mut self, max: usize) -> Vec<u8> {
        let Some(filtering) = self.filtering_mut() else { return Vec::new() };
        let mut input = mem::take(&mut filtering.input.bytes);
        if input.len() > max {
            filtering.input.bytes = input.split_off(max);
        }
        input
    }

    /// Returns the buffer for the protocol's input, if there is none: a stream that waits
    /// keeps no buffer.
    pub(super) fn take_empty_input(&mut self) -> Vec<u8> {
        match self.filtering_mut() {
            Some(filtering) if filtering.input.bytes.is_empty() => {
                mem::take(&mut filtering.input.bytes)
            }
            _ => Vec::new(),
        }
    }

    /// Takes the end of the protocol's input, once that is read. Returns `true` if the
    /// protocol is to be notified.
    pub(super) fn take_input_end(&mut self) -> bool {
        let Some(filtering) = self.filtering() else { return false };
        let is_due = filtering.input.ends && filtering.input.bytes.is_empty();
        if !is_due || self.read_half == ReadHalf::Eof {
            return false;
        }
        self.read_half = ReadHalf::Eof;
        true
    }

    /// Removes what is left of filters that have given way, once all was delivered.
    pub(super) fn drop_spent_filter(&mut self) {
        let is_spent = self.filtering().is_some_and(|filtering| {
            filtering.current.is_none()
                && filtering.input.bytes.is_empty()
                && !filtering.notified.is_due()
        });
        if is_spent && let Some(active) = &mut self.active {
            active.filtering = None;
        }
    }

    // --- the end ----------------------------------------------------------

    /// Returns `true` if the peer is to answer the end of the filter's output, and may
    /// send more until then.
    pub(super) fn awaits_filter_end(&self) -> bool {
        self.is_filtered() && self.is_filter_finished()
    }

    /// Returns `true` if the socket's input has not ended, although the protocol's may
    /// have.
    pub(super) fn is_wire_open(&self) -> bool {
        self.filtering().is_some_and(|filtering| !filtering.wire.has_ended)
    }

    /// Records that the filter has failed, unless it has before.
    pub(super) fn set_filter_failure(&mut self, error: io::Error) {
        if let Some(filtering) = self.filtering_mut()
            && matches!(filtering.failure, Failure::None)
        {
            filtering.failure = Failure::Pending(error);
        }
    }

    /// Takes a failure of which the protocol is not notified yet.
    pub(super) fn take_filter_failure(&mut self) -> Option<io::Error> {
        let failure = &mut self.filtering_mut()?.failure;
        match mem::replace(failure, Failure::None) {
            Failure::Pending(error) => Some(error),
            other => {
                *failure = other;
                None
            }
        }
    }

    /// Starts to close gracefully after a failure, if there is output for the peer.
    pub(super) fn try_flush_failed_filter(&mut self) -> bool {
        let can_write = matches!(self.write_half, WriteHalf::Open | WriteHalf::ShuttingDown);
        if self.queued() == 0 || !can_write || self.close_state.has_ended() {
            return false;
        }
        let was_open = self.close_state.is_open();
        self.close_state = CloseState::Flushing;
        self.update_gather_limit();
        if let Some(filtering) = self.filtering_mut() {
            filtering.closes_stream = was_open;
            filtering.phase = FilterPhase::Finished;
            filtering.notified = filtering.notified.after_failure();
        }
        true
    }

    /// Returns `true` if this end closed the stream, before the peer did and before its
    /// filter failed. A write that has failed is no such close.
    pub(super) fn was_closed(&self) -> bool {
        !self.close_state.is_open()
            && self.read_half != ReadHalf::Eof
            && !self.filtering().is_some_and(|filtering| filtering.closes_stream)
    }

    /// Sets the error with which a stream that closes gracefully ends.
    pub(super) fn set_closing_failure(&mut self, error: io::Error) {
        if let Some(filtering) = self.filtering_mut() {
            filtering.failure = Failure::Closing(error);
        }
    }

    /// Returns the cause of a stream that has ended with `cause`: the filter's failure, if
    /// there was one before.
    #[cold]
    pub(super) fn first_cause(&mut self, cause: Cause) -> Cause {
        let failure = self.filtering_mut().map(|filtering| &mut filtering.failure);
        match failure.map(|failure| mem::replace(failure, Failure::None)) {
            Some(Failure::Pending(error) | Failure::Closing(error)) => Cause::Error(error),
            Some(Failure::None) | None => cause,
        }
    }
}
