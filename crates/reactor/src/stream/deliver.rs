//! From a filter to the callbacks of a protocol.

use std::io::{self, ErrorKind};

use crate::output_buffer::SendMode;
use crate::reactor::{Cause, Context, Dispatcher, READ_BUFFER_SIZE};
use crate::stream::Stream;
use crate::stream::active::Notified;
use crate::stream::protocol::Protocol;

impl<P: Protocol> Stream<P> {
    /// The connection is established: the filter starts.
    #[cold]
    pub(super) fn start_filter(&mut self, cx: &mut Context) -> io::Result<()> {
        if self.connection.has_ended() {
            return Ok(());
        }
        let result = self.connection.begin_filter(&mut []);
        self.finish_step(cx, result)
    }

    /// Passes input through the filter.
    #[cold]
    pub(super) fn handle_raw(&mut self, cx: &mut Context, raw: &mut [u8]) -> io::Result<()> {
        let result = self.connection.pass_input(raw, || cx.lend_input_buffer());
        let spare = self.connection.take_empty_input();
        if spare.capacity() > 0 {
            cx.return_input_buffer(spare);
        }
        self.finish_step(cx, result)
    }

    /// The socket's input has ended.
    #[cold]
    pub(super) fn handle_raw_eof(&mut self, cx: &mut Context) -> io::Result<()> {
        cx.record_progress();
        match self.connection.pass_end() {
            Ok(()) => self.finish_step(cx, Ok(())),
            Err(Cause::Error(error)) => self.finish_step(cx, Err(error)),
            Err(cause) => {
                cx.close_with(cause);
                Ok(())
            }
        }
    }

    /// Notifies the protocol of what a step of the filter has produced, then closes the
    /// stream if the step failed.
    fn finish_step(&mut self, cx: &mut Context, result: io::Result<()>) -> io::Result<()> {
        if let Err(error) = result {
            self.connection.set_filter_failure(error);
        }
        self.deliver(cx)
    }

    /// Notifies the protocol of what has passed the filter.
    #[cold]
    pub(super) fn deliver(&mut self, cx: &mut Context) -> io::Result<()> {
        if self.connection.is_notice_due() {
            self.call_ready(cx)?;
        }
        while self.connection.has_undelivered() && self.may_deliver(cx) {
            let input = self.connection.take_input(READ_BUFFER_SIZE);
            if input.is_empty() {
                break;
            }
            let (protocol, mut io) = self.parts_mut(cx, SendMode::Reply);
            let result = protocol.handle_read(&mut io, &input);
            cx.return_input_buffer(input);
            self.connection.check_result(result)?;
        }
        if self.may_deliver(cx) && self.connection.take_input_end() {
            let (protocol, mut io) = self.parts_mut(cx, SendMode::Reply);
            let result = protocol.handle_eof(&mut io);
            self.connection.check_result(result)?;
        }
        self.connection.drop_spent_filter();
        match self.connection.take_filter_failure() {
            Some(error) if !cx.is_closing() => self.fail(cx, error),
            Some(_) | None => Ok(()),
        }
    }

    fn may_deliver(&self, cx: &Context) -> bool {
        !cx.is_closing() && self.connection.accepts_input() && self.protocol.readable()
    }

    /// The filter is ready: the protocol starts, or continues.
    fn call_ready(&mut self, cx: &mut Context) -> io::Result<()> {
        let before = self.connection.record_notice();
        self.connection.report_connected(cx);
        if !self.connection.is_open() {
            return Ok(());
        }
        let (protocol, mut io) = self.parts_mut(cx, SendMode::Burst);
        let result = if before == Some(Notified::UpgradeDue) {
            protocol.handle_upgrade(&mut io)
        } else {
            protocol.handle_connect(&mut io)
        };
        self.connection.check_result(result)?;
        let was_drained = self
            .connection
            .filtering_mut()
            .is_some_and(|filtering| std::mem::take(&mut filtering.drain_pending));
        if was_drained && !cx.is_closing() { self.handle_drain(cx) } else { Ok(()) }
    }

    /// The filter has failed: what it has said is sent before the stream closes.
    fn fail(&mut self, cx: &mut Context, error: io::Error) -> io::Result<()> {
        if !self.connection.try_flush_failed_filter() {
            return Err(error);
        }
        let is_reported = !is_ordinary_end(&error);
        let cause = Cause::Error(error);
        if is_reported {
            let (protocol, mut io) = self.parts_mut(cx, SendMode::Burst);
            protocol.handle_error(&mut io, &cause);
        }
        if let Cause::Error(error) = cause {
            self.connection.set_closing_failure(error);
        }
        Ok(())
    }
}

/// Returns `true` if a connection that ends like this is not an error of the program.
fn is_ordinary_end(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::ConnectionAborted
    )
}
