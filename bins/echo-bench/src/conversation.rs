//! [`Conversation`]: a connection with messages.

use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::time::Instant;

use reactor::{Cause, CloseReason, Context, Io, Protocol, Stream, TimeoutKind, Token};

use crate::workload::Workload;

/// Sends messages and verifies the replies, which must contain the same bytes
/// in the same order, however they are divided.
pub(crate) struct Conversation {
    workload: Rc<Workload>,
    state: State,
    sent: u64,
    received: u64,
    /// When each message was sent whose reply is not complete.
    in_flight: VecDeque<Instant>,
}

/// State machine for a conversation: `Opening` → `Ready` → `Running`. One that
/// opens after the start of the load is `Running` at once.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Connecting, or the first reply is pending.
    Opening,
    /// The first reply was received. Waits for the other connections.
    Ready,
    /// Sends a message for each reply.
    Running,
}

impl Conversation {
    /// Opens a conversation and adds it to the reactor.
    ///
    /// # Errors
    ///
    /// Returns an error if the reactor accepts no more channels.
    pub(crate) fn open(cx: &mut Context, workload: &Rc<Workload>) -> io::Result<()> {
        let conversation = Conversation {
            workload: Rc::clone(workload),
            state: if workload.has_started() { State::Running } else { State::Opening },
            sent: 0,
            received: 0,
            in_flight: VecDeque::new(),
        };
        workload.open(cx, conversation)?;
        workload.count_opened();
        Ok(())
    }

    /// Makes a conversation that is ready send its messages. Call it after the
    /// workload has started.
    pub(crate) fn start(cx: &mut Context, token: Token) {
        // Access through the token makes the reactor query `writable`.
        let _ = cx.get_mut::<Stream<Conversation>>(token);
    }

    fn send_message(&mut self, io: &mut Io<'_>, now: Instant) -> io::Result<()> {
        let workload = &self.workload;
        io.send(workload.data_at(self.sent, workload.size()))?;
        self.sent += workload.size() as u64;
        self.in_flight.push_back(now);
        Ok(())
    }

    /// Sends as many messages as may be in flight.
    fn run(&mut self, io: &mut Io<'_>) -> io::Result<()> {
        self.state = State::Running;
        io.set_idle_timeout(Some(self.workload.reply_timeout()));
        let now = Instant::now();
        for _ in 0..self.workload.pipeline() {
            self.send_message(io, now)?;
        }
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

    /// Handles a complete reply.
    fn finish_message(&mut self, io: &mut Io<'_>, now: Instant) -> io::Result<()> {
        let Some(sent_at) = self.in_flight.pop_front() else { return Ok(()) };
        if self.state == State::Opening {
            self.state = State::Ready;
            self.workload.record_ready(io.token());
            if self.workload.is_churn() {
                io.abort();
            } else {
                // Nothing is in flight until the load starts.
                io.set_idle_timeout(None);
            }
            return Ok(());
        }
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

    /// Returns the error that `cause` is, if any.
    fn error(&self, cause: &Cause) -> Option<String> {
        match cause {
            // The end of the run is not an error of a connection.
            Cause::Local | Cause::Shutdown => None,
            Cause::TimedOut(TimeoutKind::Idle) => {
                Some(format!("no reply for {:?}", self.workload.reply_timeout()))
            }
            cause => Some(cause.to_string()),
        }
    }
}

impl Protocol for Conversation {
    fn handle_connect(&mut self, io: &mut Io<'_>) -> io::Result<()> {
        self.workload.record_mut().record_connection();
        match self.state {
            State::Running => self.run(io),
            State::Opening | State::Ready => {
                io.set_idle_timeout(Some(self.workload.reply_timeout()));
                self.send_message(io, Instant::now())
            }
        }
    }

    fn writable(&self) -> bool {
        self.state == State::Ready && self.workload.has_started()
    }

    fn handle_write(&mut self, io: &mut Io<'_>) -> io::Result<()> {
        self.run(io)
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
        let (is_last, cx) = (workload.count_closed(), io.context());
        if let Some(error) = self.error(&reason.cause) {
            workload.fail(cx, error);
        } else if workload.record().is_finished() {
            // Idle connections were open until here.
            if is_last {
                cx.stop();
            }
        } else if workload.is_churn()
            && self.state == State::Running
            && let Err(error) = Conversation::open(cx, workload)
        {
            workload.fail(cx, error.to_string());
        }
    }
}
