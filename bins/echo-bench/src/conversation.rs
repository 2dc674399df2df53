//! [`Conversation`]: a connection with messages.

use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::time::Instant;

use reactor::{Cause, CloseReason, Context, Io, Protocol};

use crate::workload::{REPLY_TIMEOUT, Workload};

/// Sends messages and verifies the replies, which must contain the same bytes
/// in the same order, however they are divided.
pub(crate) struct Conversation {
    workload: Rc<Workload>,
    /// The time before connecting: with churn, the latency includes it.
    started_at: Instant,
    sent: u64,
    received: u64,
    /// When each message was sent whose reply is not complete.
    in_flight: VecDeque<Instant>,
}

impl Conversation {
    pub(crate) fn new(workload: Rc<Workload>) -> Self {
        let in_flight = VecDeque::with_capacity(workload.pipeline());
        Conversation { workload, started_at: Instant::now(), sent: 0, received: 0, in_flight }
    }

    fn send_message(&mut self, io: &mut Io<'_>, now: Instant) -> io::Result<()> {
        let workload = &self.workload;
        io.send(workload.data_at(self.sent, workload.size()))?;
        self.sent += workload.size() as u64;
        self.in_flight.push_back(if workload.is_churn() { self.started_at } else { now });
        Ok(())
    }

    /// Verifies `data`, which must not extend beyond the current message.
    fn verify(&mut self, data: &[u8]) -> io::Result<()> {
        if self.received + data.len() as u64 > self.sent {
            return Err(io::Error::other("received more data than was sent"));
        }
        if data != self.workload.data_at(self.received, data.len()) {
            return Err(io::Error::other("reply differs from the data sent"));
        }
        self.received += data.len() as u64;
        Ok(())
    }

    /// Records a complete reply, and sends the next message or closes.
    fn finish_message(&mut self, io: &mut Io<'_>, now: Instant) -> io::Result<()> {
        let Some(sent_at) = self.in_flight.pop_front() else { return Ok(()) };
        let is_finished = {
            let mut record = self.workload.record_mut();
            record.record_reply(sent_at, now);
            record.is_finished()
        };
        if !is_finished && !self.workload.is_churn() {
            self.send_message(io, now)?;
        } else if self.in_flight.is_empty() {
            // All replies were received, so no output is pending.
            io.abort();
        }
        Ok(())
    }
}

impl Protocol for Conversation {
    fn handle_connect(&mut self, io: &mut Io<'_>) -> io::Result<()> {
        self.workload.record_mut().record_connection();
        let now = Instant::now();
        for _ in 0..self.workload.pipeline() {
            self.send_message(io, now)?;
        }
        Ok(())
    }

    fn handle_read(&mut self, io: &mut Io<'_>, mut data: &[u8]) -> io::Result<()> {
        let now = Instant::now();
        let size = self.workload.size() as u64;
        while !data.is_empty() {
            // Up to the end of this message.
            let missing = usize::try_from(size - self.received % size).unwrap_or(data.len());
            let (part, rest) = data.split_at(missing.min(data.len()));
            self.verify(part)?;
            data = rest;
            if self.received.is_multiple_of(size) {
                self.finish_message(io, now)?;
            }
        }
        Ok(())
    }

    fn handle_eof(&mut self, _io: &mut Io<'_>) -> io::Result<()> {
        Err(io::Error::other("the server closed the connection"))
    }

    /// Does nothing: `handle_close` follows and records the same cause.
    fn handle_error(&mut self, _io: &mut Io<'_>, _cause: &Cause) {}

    fn handle_close(&mut self, io: &mut Io<'_>, reason: &CloseReason) {
        let workload = &self.workload;
        match &reason.cause {
            Cause::Local => {}
            // The drain timed out.
            Cause::Shutdown if self.in_flight.is_empty() => {}
            Cause::Shutdown => workload.record_mut().record_error(format!(
                "no reply within {} s after the end of the measurement",
                REPLY_TIMEOUT.as_secs()
            )),
            cause => workload.record_mut().record_error(cause.to_string()),
        }
        if workload.is_churn() && !workload.record().is_finished() {
            reopen(io.context(), workload);
        }
    }
}

/// Opens the next connection of a churn.
fn reopen(cx: &mut Context, workload: &Rc<Workload>) {
    if let Err(error) = workload.open(cx, Conversation::new(Rc::clone(workload))) {
        workload.record_mut().record_error(error.to_string());
    }
}
