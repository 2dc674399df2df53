//! From readiness events to the callbacks of a protocol.

use std::io;
use std::time::Instant;

use crate::output_buffer::SendMode;
use crate::reactor::{Cause, CloseReason, Context, Dispatcher, TimerId};
use crate::stream::Stream;
use crate::stream::connection::ReadOutcome;
use crate::stream::protocol::Protocol;
use crate::sys::source::Source;

impl<P: Protocol> Dispatcher for Stream<P> {
    fn source(&self) -> Source<'_> {
        self.connection.source()
    }

    #[inline(always)]
    fn readable(&self) -> bool {
        (self.connection.wants_read()
            && (self.protocol.readable() || self.connection.is_handshaking()))
            || self.connection.discards_input()
    }

    #[inline(always)]
    fn writable(&self) -> bool {
        // The cheaper query first: most protocols never have output of their own.
        self.connection.wants_write() || (self.protocol.writable() && self.connection.has_room())
    }

    #[inline(always)]
    fn waits_for_input(&self) -> bool {
        self.connection.waits_for_input() && self.protocol.readable() && !self.protocol.writable()
    }

    /// Writes the output of the callback that was made, and advances the stream's end.
    #[inline(always)]
    fn poll_close(&mut self, cx: &mut Context) -> Option<Cause> {
        let flushed = self.connection.flush_gathered(|sent| cx.count_sent(sent));
        self.count_sent(cx);
        match flushed {
            Ok(None) => {}
            Ok(Some(buffer)) => cx.return_output_buffer(buffer),
            Err(error) => drop(self.connection.fail_write(error)),
        }
        self.connection.poll_close(|| self.protocol.readable())
    }

    #[inline(always)]
    fn update_deadline(&mut self, cx: &Context) -> Option<Instant> {
        if !self.connection.may_time_out() {
            return None;
        }
        self.connection.record_activity(cx.clock());
        if self.connection.can_deliver(|| self.protocol.readable()) {
            // Input that has passed a filter waits for no event.
            return Some(cx.clock());
        }
        match self.connection.connecting_mut() {
            Some(connecting) => connecting.deadline(),
            None => self.connection.deadline(),
        }
    }

    fn unsent(&self) -> usize {
        self.connection.unsent() + self.protocol.unsent()
    }

    fn handle_add(&mut self, cx: &mut Context) -> io::Result<()> {
        if self.connection.is_connecting() {
            self.start_connecting(cx);
            return Ok(());
        }
        self.call_handle_connect(cx)
    }

    #[inline(always)]
    fn handle_read(&mut self, cx: &mut Context) -> io::Result<()> {
        if self.connection.discards_input() {
            self.discard_input(cx);
            return Ok(());
        }
        let mut buffer = cx.lend_read_buffer();
        let outcome = self.connection.receive(&mut buffer, cx.now());
        let result = match outcome {
            Ok(ReadOutcome::Data(read)) => {
                cx.count_received(read);
                let (protocol, mut io) = self.parts_mut(cx, SendMode::Reply);
                let result = protocol.handle_read(&mut io, &buffer[..read]);
                self.connection.check_result(result)
            }
            Ok(ReadOutcome::Raw(read)) => {
                cx.count_received(read);
                self.handle_raw(cx, &mut buffer[..read])
            }
            Ok(ReadOutcome::WouldBlock) => {
                self.connection.discard_queued_errors();
                self.connection.finish_failed_read();
                Ok(())
            }
            Ok(ReadOutcome::Eof | ReadOutcome::RawEof) | Err(_)
                if self.connection.finish_failed() =>
            {
                Ok(())
            }
            Ok(ReadOutcome::RawEof) => self.handle_raw_eof(cx),
            Ok(ReadOutcome::Eof) => {
                cx.record_progress();
                let (protocol, mut io) = self.parts_mut(cx, SendMode::Reply);
                let result = protocol.handle_eof(&mut io);
                self.connection.check_result(result)
            }
            Err(error) => Err(error),
        };
        cx.return_read_buffer(buffer);
        result
    }

    fn handle_write(&mut self, cx: &mut Context) -> io::Result<()> {
        if self.connection.is_connecting() {
            return self.finish_attempt(cx);
        }
        let queued = self.connection.queued();
        let was_open = self.connection.is_write_open();
        if let Err(error) = self.connection.flush(cx.now()) {
            self.connection.fail_write(error);
        }
        if queued > 0 && self.connection.queued() == queued {
            self.connection.discard_queued_errors();
        }
        // After a failed write too, so that the protocol can handle what it has received.
        let has_failed = was_open && self.connection.has_failed_write();
        let may_write =
            self.connection.has_room() || (has_failed && !self.connection.is_handshaking());
        if cx.is_closing() || !may_write || !self.protocol.writable() {
            return Ok(());
        }
        let (protocol, mut io) = self.parts_mut(cx, SendMode::Strict);
        let result = protocol.handle_write(&mut io);
        self.connection.check_result(result)
    }

    fn handle_expt(&mut self, cx: &mut Context) -> io::Result<()> {
        let Some(byte) = self.connection.take_urgent_byte() else { return Ok(()) };
        cx.record_progress();
        if !self.connection.is_open() {
            return Ok(());
        }
        if self.connection.is_filtered() {
            log::debug!("{}: discarded an urgent byte", self.connection.peer_addr());
            return Ok(());
        }
        let (protocol, mut io) = self.parts_mut(cx, SendMode::Reply);
        let result = protocol.handle_expt(&mut io, byte);
        self.connection.check_result(result)
    }

    fn handle_hangup(&mut self, _cx: &mut Context) -> io::Result<()> {
        let result = self.connection.take_socket_error();
        if self.connection.finish_failed() { Ok(()) } else { result }
    }

    fn handle_deadline(&mut self, cx: &mut Context) -> io::Result<()> {
        if self.connection.is_connecting() {
            self.continue_connecting(cx);
        } else if self.connection.can_deliver(|| self.protocol.readable()) {
            return self.deliver(cx);
        } else if let Some(timeout) = self.connection.expire(cx.now()) {
            cx.close_with(self.connection.first_cause(Cause::TimedOut(timeout)));
        }
        Ok(())
    }

    fn handle_timer(&mut self, cx: &mut Context, timer: TimerId) -> io::Result<()> {
        if !self.connection.is_open() {
            return Ok(());
        }
        let (protocol, mut io) = self.parts_mut(cx, SendMode::Burst);
        let result = protocol.handle_timer(&mut io, timer);
        self.connection.check_result(result)
    }

    fn handle_drain(&mut self, cx: &mut Context) -> io::Result<()> {
        // A stream that is still connecting is notified afterwards.
        if !self.connection.is_open() || self.connection.is_connecting() {
            return Ok(());
        }
        if self.connection.is_handshaking()
            && let Some(filtering) = self.connection.filtering_mut()
        {
            filtering.drain_pending = true;
            return Ok(());
        }
        let (protocol, mut io) = self.parts_mut(cx, SendMode::Burst);
        let result = protocol.handle_drain(&mut io);
        self.connection.check_result(result)
    }

    fn handle_error(&mut self, cx: &mut Context, cause: &Cause) {
        let (protocol, mut io) = self.parts_mut(cx, SendMode::Burst);
        protocol.handle_error(&mut io, cause);
        // What the callbacks sent is written if possible; an error changes nothing, as
        // the first cause counts.
        let _ = self.connection.flush_gathered(|sent| cx.count_sent(sent));
    }

    fn handle_close(&mut self, cx: &mut Context, reason: &CloseReason) {
        self.count_sent(cx);
        self.close_attempts(cx);
        self.connection.report_end(cx, reason);
        self.connection.finish(reason);
        let (protocol, mut io) = self.parts_mut(cx, SendMode::Burst);
        protocol.handle_close(&mut io, reason);
    }
}

impl<P: Protocol> Stream<P> {
    pub(super) fn call_handle_connect(&mut self, cx: &mut Context) -> io::Result<()> {
        cx.record_progress();
        if self.connection.is_filtered() {
            return self.start_filter(cx);
        }
        self.connection.report_connected(cx);
        if !self.connection.is_open() {
            return Ok(());
        }
        let (protocol, mut io) = self.parts_mut(cx, SendMode::Burst);
        let result = protocol.handle_connect(&mut io);
        self.connection.check_result(result)
    }

    /// Reads input of a closing stream and discards it.
    #[cold]
    fn discard_input(&mut self, cx: &mut Context) {
        let mut buffer = cx.lend_read_buffer();
        if self.connection.discard(&mut *buffer) {
            cx.record_progress();
        }
        cx.return_read_buffer(buffer);
    }

    #[inline(always)]
    fn count_sent(&mut self, cx: &mut Context) {
        if let Some(sent) = self.connection.take_uncounted() {
            cx.count_sent(sent);
        }
    }
}
