//! [`Conversation`]: a connection with messages.

use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::time::Instant;

use reactor::{Cause, CloseReason, Context, Io, Protocol, Stream, TimerId, Token};

use crate::failure::{Failure, FailureKind};
use crate::schedule::Schedule;
use crate::workload::{MAX_UNSENT, Workload};

/// Maximum number of messages that are sent on schedule in one callback: the
/// other connections must not wait for one that is late.
const MAX_BURST: usize = 64;

/// Sends messages and verifies the replies, which must contain the same bytes
/// in the same order, however they are divided.
pub(crate) struct Conversation {
    workload: Rc<Workload>,
    /// Among those of all threads.
    number: usize,
    opened_at: Instant,
    state: State,
    pace: Pace,
    sent: u64,
    received: u64,
    /// When each message was sent, or due, whose reply is not complete.
    in_flight: VecDeque<Instant>,
}

/// State machine for a conversation: `Connecting` → `Opening` → `Ready` →
/// `Running`. One that is connected after the start of the load is `Running` at
/// once.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Connecting,
    /// The first reply is pending.
    Opening,
    /// The first reply was received. Waits for the other connections.
    Ready,
    /// Sends messages.
    Running,
}

/// What makes a conversation send a message.
enum Pace {
    /// The reply to an earlier one.
    Closed,
    /// The clock.
    Open {
        schedule: Schedule,
        /// The timer for the next message, or for a reply that does not arrive.
        timer: Option<TimerId>,
        /// Since when a reply is pending and nothing was received.
        waiting_since: Instant,
        /// The server does not read: messages that are due wait.
        is_blocked: bool,
    },
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
            number: workload.count_opened(),
            opened_at: Instant::now(),
            state: State::Connecting,
            pace: Pace::Closed,
            sent: 0,
            received: 0,
            in_flight: VecDeque::new(),
        };
        workload.open(cx, conversation)
    }

    /// Makes a conversation that is ready send its messages. Call it after the
    /// workload has started.
    pub(crate) fn start(cx: &mut Context, token: Token) {
        // Access through the token makes the reactor query `writable`.
        let _ = cx.get_mut::<Stream<Conversation>>(token);
    }

    /// Closes a conversation that waits for nothing. Call it after the end of
    /// the measurement.
    pub(crate) fn end(cx: &mut Context, token: Token) {
        cx.with_stream(token, |conversation: &mut Conversation, io| {
            conversation.close_if_complete(io);
        });
    }

    /// Sends the next message, which was due at `due`.
    fn send_message(&mut self, io: &mut Io<'_>, due: Instant) -> io::Result<()> {
        let workload = &self.workload;
        io.send(workload.data_at(self.sent, workload.size()))?;
        self.sent += workload.size() as u64;
        self.in_flight.push_back(due);
        Ok(())
    }

    /// Sends the first messages of the load.
    fn run(&mut self, io: &mut Io<'_>) -> io::Result<()> {
        self.state = State::Running;
        if let Some(schedule) = self.workload.schedule(self.number) {
            let waiting_since = Instant::now();
            self.pace = Pace::Open { schedule, timer: None, waiting_since, is_blocked: false };
            io.set_idle_timeout(None);
            return self.send_due(io);
        }
        io.set_idle_timeout(Some(self.workload.reply_timeout()));
        let now = Instant::now();
        for _ in 0..self.workload.pipeline() {
            if !self.workload.take_message() {
                break;
            }
            self.send_message(io, now)?;
        }
        self.close_if_complete(io);
        Ok(())
    }

    /// Sends the messages that are due, and sets the timer for the next one.
    fn send_due(&mut self, io: &mut Io<'_>) -> io::Result<()> {
        for _ in 0..MAX_BURST {
            let now = Instant::now();
            let Pace::Open { schedule, waiting_since, is_blocked, .. } = &mut self.pace else {
                return Ok(());
            };
            let due = schedule.due();
            if due > now || !self.workload.record().is_due_in_time(due) {
                break;
            }
            if io.unsent() > MAX_UNSENT {
                *is_blocked = true;
                break;
            }
            if !self.workload.take_message() {
                break;
            }
            schedule.advance();
            if self.in_flight.is_empty() {
                *waiting_since = now;
            }
            self.workload.record_mut().record_send(due, now);
            self.send_message(io, due)?;
        }
        self.set_timer(io)?;
        self.close_if_complete(io);
        Ok(())
    }

    /// Sets the timer for the next message, or for a reply that is missing.
    fn set_timer(&mut self, io: &mut Io<'_>) -> io::Result<()> {
        let has_more = self.has_more();
        let Pace::Open { schedule, timer, waiting_since, is_blocked } = &mut self.pace else {
            return Ok(());
        };
        if let Some(timer) = timer.take() {
            io.context().cancel(timer);
        }
        let next = (has_more && !*is_blocked).then(|| schedule.due());
        let timeout = if self.in_flight.is_empty() {
            None
        } else {
            waiting_since.checked_add(self.workload.reply_timeout())
        };
        if let Some(at) = next.into_iter().chain(timeout).min() {
            *timer = Some(io.context().set_timer_at(at)?);
        }
        Ok(())
    }

    /// Returns `true` if there are more messages to send.
    fn has_more(&self) -> bool {
        let record = self.workload.record();
        !self.workload.is_exhausted()
            && match &self.pace {
                Pace::Closed => !record.is_finished() && !self.workload.is_churn(),
                Pace::Open { schedule, .. } => record.is_due_in_time(schedule.due()),
            }
    }

    /// Closes the connection if all replies were received, and so no output is
    /// pending, and no more messages are to be sent.
    fn close_if_complete(&mut self, io: &mut Io<'_>) {
        if self.in_flight.is_empty() && !self.has_more() {
            io.abort();
        }
    }

    /// Verifies `data`, which must not extend beyond the current message.
    fn verify(&mut self, data: &[u8]) -> Result<(), Failure> {
        if self.received + data.len() as u64 > self.sent {
            let text = "received more data than was sent";
            return Err(Failure::new(FailureKind::UnexpectedData, text));
        }
        if data != self.workload.data_at(self.received, data.len()) {
            let text = "reply differs from the data sent";
            return Err(Failure::new(FailureKind::WrongReply, text));
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
        log::trace!(
            "connection {}: reply after {:?}",
            self.number,
            now.saturating_duration_since(sent_at)
        );
        self.workload.record_mut().record_reply(sent_at, now);
        if self.workload.complete_message() {
            self.workload.record_mut().finish(now);
            io.context().stop();
        }
        if matches!(self.pace, Pace::Closed) && self.has_more() && self.workload.take_message() {
            self.send_message(io, now)?;
        }
        self.close_if_complete(io);
        Ok(())
    }
}

impl Protocol for Conversation {
    fn handle_connect(&mut self, io: &mut Io<'_>) -> io::Result<()> {
        let now = Instant::now();
        self.workload.record_mut().record_connection(self.opened_at, now);
        if self.workload.has_started() {
            return self.run(io);
        }
        self.state = State::Opening;
        io.set_idle_timeout(Some(self.workload.reply_timeout()));
        self.send_message(io, now)
    }

    fn writable(&self) -> bool {
        match (self.state, &self.pace) {
            (State::Ready, _) => self.workload.has_started(),
            (State::Running, Pace::Open { is_blocked, .. }) => *is_blocked,
            _ => false,
        }
    }

    fn handle_write(&mut self, io: &mut Io<'_>) -> io::Result<()> {
        match &mut self.pace {
            Pace::Closed => self.run(io),
            Pace::Open { is_blocked, .. } => {
                *is_blocked = false;
                self.send_due(io)
            }
        }
    }

    fn handle_timer(&mut self, io: &mut Io<'_>, _timer: TimerId) -> io::Result<()> {
        if let Pace::Open { timer, waiting_since, .. } = &mut self.pace {
            *timer = None;
            let timeout = self.workload.reply_timeout();
            if !self.in_flight.is_empty() && waiting_since.elapsed() >= timeout {
                return Err(Failure::no_reply(timeout).into());
            }
        }
        self.send_due(io)
    }

    fn handle_read(&mut self, io: &mut Io<'_>, mut data: &[u8]) -> io::Result<()> {
        let now = Instant::now();
        if let Pace::Open { waiting_since, .. } = &mut self.pace {
            *waiting_since = now;
        }
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
        Err(Failure::new(FailureKind::Closed, "the server closed the connection").into())
    }

    /// Does nothing: `handle_close` follows and records the same cause.
    fn handle_error(&mut self, _io: &mut Io<'_>, _cause: &Cause) {}

    fn handle_close(&mut self, io: &mut Io<'_>, reason: &CloseReason) {
        log::debug!("connection {} closed: {reason}", self.number);
        let workload = &self.workload;
        let (is_last, cx) = (workload.count_closed(), io.context());
        let is_connected = self.state != State::Connecting;
        let timeout = workload.reply_timeout();
        if let Some(failure) = Failure::from_cause(&reason.cause, is_connected, timeout) {
            workload.fail(cx, &failure);
        } else if !workload.has_started() {
            // The first connection of `--churn`.
        } else if workload.record().is_finished() || workload.is_exhausted() {
            // Idle connections were open until here.
            if is_last {
                workload.record_mut().finish(Instant::now());
                cx.stop();
            }
        } else if workload.is_churn()
            && let Err(error) = Conversation::open(cx, workload)
        {
            workload.fail(cx, &Failure::new(FailureKind::Local, error.to_string()));
        }
    }
}
