//! [`Pipe`]: standard input through the server to standard output.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use cli::error::without_errno;
use reactor::{Cause, CloseReason, Io, Protocol, Stream, TimerId};

use crate::failure::Failure;
use crate::input::{Input, InputEvent};
use crate::outcome::Outcome;
use crate::output;
use crate::reply_timeout::ReplyTimeout;

/// No data is sent while this many bytes are unacknowledged. They are kept in
/// memory, to be compared with the reply.
const WINDOW: usize = 1024 * 1024;

/// Sends standard input, and writes the reply to standard output.
///
/// Memory is bounded: the input is read into two buffers, which are returned
/// when they were sent, and they are not sent while the window is full.
pub(crate) struct Pipe {
    input: InputState,
    /// Read and not yet sent.
    unsent: VecDeque<InputEvent>,
    /// Sent and not yet received.
    unacknowledged: VecDeque<u8>,
    /// Number of bytes received and found correct.
    verified: u64,
    timeout: Duration,
    reply_timeout: ReplyTimeout,
    outcome: Outcome,
}

/// State machine for standard input: `NotStarted` → `Reading` → `Ended`.
enum InputState {
    /// Until the connection is established. Input that cannot be sent is left
    /// to the next reader of the same descriptor.
    NotStarted,
    Reading(Input),
    /// All input was read and sent.
    Ended,
}

impl Pipe {
    pub(crate) fn new(timeout: Duration, outcome: Outcome) -> Self {
        Pipe {
            input: InputState::NotStarted,
            unsent: VecDeque::new(),
            unacknowledged: VecDeque::new(),
            verified: 0,
            timeout,
            reply_timeout: ReplyTimeout::new(timeout),
            outcome,
        }
    }

    /// Returns the number of leading bytes of `data` that equal the
    /// unacknowledged ones.
    fn matching_len(&self, data: &[u8]) -> usize {
        let (front, back) = self.unacknowledged.as_slices();
        let (first, second) = data.split_at(data.len().min(front.len()));
        // Comparing slices, which mostly suffices, is much faster than
        // comparing bytes.
        if front.starts_with(first) && back.starts_with(second) {
            return data.len();
        }
        let pairs = self.unacknowledged.iter().zip(data);
        pairs.take_while(|(sent, received)| sent == received).count()
    }

    fn progress(&self) -> String {
        format!("{} bytes of echo", self.verified)
    }
}

impl Protocol for Pipe {
    /// Starts the reading thread, which posts to this stream.
    fn handle_connect(&mut self, io: &mut Io<'_>) -> io::Result<()> {
        self.outcome.on_connected(io);
        let token = io.token();
        let handle = io.context().handle();
        self.input = InputState::Reading(Input::start(move |event| {
            handle.post(move |cx| {
                // Access through the token makes the reactor query `writable`
                // afterwards. If the stream is closed, the event is dropped.
                if let Some(stream) = cx.get_mut::<Stream<Pipe>>(token) {
                    stream.protocol_mut().unsent.push_back(event);
                }
            })
        })?);
        Ok(())
    }

    fn writable(&self) -> bool {
        match self.unsent.front() {
            Some(InputEvent::Data(_)) => self.unacknowledged.len() < WINDOW,
            // These need no room in the window.
            Some(InputEvent::Eof | InputEvent::Error(_)) => true,
            None => false,
        }
    }

    /// Sends the next buffer, or closes the sending side.
    fn handle_write(&mut self, io: &mut Io<'_>) -> io::Result<()> {
        match self.unsent.pop_front() {
            Some(InputEvent::Data(buffer)) => {
                io.send(&buffer)?;
                log::debug!("sent {} bytes", buffer.len());
                log::trace!("sent {}", buffer.escape_ascii());
                if self.unacknowledged.is_empty() {
                    self.reply_timeout.start(io);
                }
                self.unacknowledged.extend(&buffer);
                if let InputState::Reading(input) = &self.input {
                    input.return_buffer(buffer);
                }
            }
            Some(InputEvent::Eof) => {
                log::debug!("end of standard input");
                self.input = InputState::Ended;
                if self.unacknowledged.is_empty() {
                    self.outcome.finish(io);
                } else {
                    io.shutdown()?;
                }
            }
            Some(InputEvent::Error(error)) => {
                return Err(Failure::Input(without_errno(&error)).into());
            }
            None => {}
        }
        Ok(())
    }

    /// Writes the reply, up to the first wrong byte.
    fn handle_read(&mut self, io: &mut Io<'_>, data: &[u8]) -> io::Result<()> {
        log::debug!("received {} bytes", data.len());
        log::trace!("received {}", data.escape_ascii());
        let matching = self.matching_len(data);
        output::write(&data[..matching])?;
        self.unacknowledged.drain(..matching);
        self.verified += matching as u64;

        if let Some(&received) = data.get(matching) {
            let sent = self.unacknowledged.front().copied();
            return Err(Failure::wrong_byte(&io.peer_addr(), self.verified, sent, received).into());
        }
        self.reply_timeout.record_progress();
        if self.unacknowledged.is_empty() && matches!(self.input, InputState::Ended) {
            self.outcome.finish(io);
        }
        Ok(())
    }

    /// Returns an error: this side closes first if the conversation is complete.
    fn handle_eof(&mut self, io: &mut Io<'_>) -> io::Result<()> {
        let server = io.peer_addr().to_string();
        Err(Failure::Closed { server, progress: self.progress() }.into())
    }

    fn handle_timer(&mut self, io: &mut Io<'_>, _timer: TimerId) -> io::Result<()> {
        self.reply_timeout.on_timer();
        if self.unacknowledged.is_empty() {
            return Ok(());
        }
        if self.reply_timeout.has_expired() {
            let server = io.peer_addr().to_string();
            let (timeout, progress) = (self.timeout, self.progress());
            return Err(Failure::ReplyTimeout { server, timeout, progress }.into());
        }
        self.reply_timeout.set_timer(io);
        Ok(())
    }

    /// Does nothing: `handle_close` follows and reports the same cause.
    fn handle_error(&mut self, _io: &mut Io<'_>, _cause: &Cause) {}

    fn handle_close(&mut self, io: &mut Io<'_>, reason: &CloseReason) {
        self.outcome.on_closed(io, reason, self.progress());
    }
}
