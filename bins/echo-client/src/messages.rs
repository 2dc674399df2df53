//! [`Messages`]: the conversation of asyncore's documentation. Each
//! `handle_write` sends a message, and `handle_read` prints the replies.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;

use reactor::{Cause, CloseReason, Io, Protocol};

use crate::failure::Failure;
use crate::limits::SEND_CHUNK;
use crate::outcome::Outcome;
use crate::output;

/// Sends messages, and prints the replies.
///
/// TCP carries bytes and not messages: a reply may arrive in parts, and several
/// replies in one read. The bytes and their order are those that were sent, so
/// the position of each message is enough to separate the replies.
pub(crate) struct Messages {
    /// All messages, concatenated as they are sent.
    wire: Vec<u8>,
    /// The ranges of `wire` that are not yet sent, one for each message. The
    /// first starts after the part that was sent.
    unsent: VecDeque<Range<usize>>,
    /// The ranges of `wire` whose reply is not yet printed.
    unanswered: VecDeque<Range<usize>>,
    /// Number of bytes received and found correct.
    verified: usize,
    count: usize,
    outcome: Outcome,
}

impl Messages {
    pub(crate) fn new<M: AsRef<[u8]>>(
        messages: impl IntoIterator<Item = M>,
        outcome: Outcome,
    ) -> Self {
        let mut wire = Vec::new();
        let mut unsent = VecDeque::new();
        for message in messages {
            let start = wire.len();
            wire.extend(message.as_ref());
            unsent.push_back(start..wire.len());
        }
        let unanswered = unsent.clone();
        Messages { count: unsent.len(), wire, unsent, unanswered, verified: 0, outcome }
    }

    /// Returns the number of bytes sent.
    fn sent_len(&self) -> usize {
        self.unsent.front().map_or(self.wire.len(), |next| next.start)
    }

    fn progress(&self) -> String {
        format!("{} of {} replies", self.count - self.unanswered.len(), self.count)
    }
}

impl Protocol for Messages {
    fn handle_connect(&mut self, io: &mut Io<'_>) -> io::Result<()> {
        self.outcome.on_connected(io);
        Ok(())
    }

    fn writable(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// Sends the next message, or a slice of a long one: `send` queues all that
    /// it is given, so the size of the slice limits the memory in use.
    fn handle_write(&mut self, io: &mut Io<'_>) -> io::Result<()> {
        let Some(message) = self.unsent.front_mut() else { return Ok(()) };
        let slice = message.start..message.end.min(message.start + SEND_CHUNK);
        io.send(&self.wire[slice.clone()])?;
        log::debug!("sent {} bytes", slice.len());
        log::trace!("sent {}", self.wire[slice.clone()].escape_ascii());
        message.start = slice.end;
        if message.start == message.end {
            self.unsent.pop_front();
        }
        Ok(())
    }

    /// Verifies the data, and prints each reply that is complete.
    fn handle_read(&mut self, io: &mut Io<'_>, data: &[u8]) -> io::Result<()> {
        log::debug!("received {} bytes", data.len());
        log::trace!("received {}", data.escape_ascii());
        let pending = &self.wire[self.verified..self.sent_len()];
        let pairs = pending.iter().zip(data);
        let matching = pairs.take_while(|(sent, received)| sent == received).count();
        let sent = pending.get(matching).copied();
        self.verified += matching;

        // Also those before a wrong byte, which are correct.
        while let Some(reply) = self.unanswered.front()
            && reply.end <= self.verified
        {
            output::write_line(&self.wire[reply.clone()])?;
            self.unanswered.pop_front();
        }

        if let Some(&received) = data.get(matching) {
            let offset = self.verified as u64;
            return Err(Failure::wrong_byte(&io.peer_addr(), offset, sent, received).into());
        }
        if self.unanswered.is_empty() {
            self.outcome.finish(io);
        }
        Ok(())
    }

    /// Returns an error: this side closes first if the conversation is complete.
    fn handle_eof(&mut self, io: &mut Io<'_>) -> io::Result<()> {
        let server = io.peer_addr().to_string();
        Err(Failure::Closed { server, progress: self.progress() }.into())
    }

    /// Does nothing: `handle_close` follows and reports the same cause.
    fn handle_error(&mut self, _io: &mut Io<'_>, _cause: &Cause) {}

    fn handle_close(&mut self, io: &mut Io<'_>, reason: &CloseReason) {
        self.outcome.on_closed(io, reason, self.progress());
    }
}
