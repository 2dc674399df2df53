//! [`Messages`]: the conversation of asyncore's documentation. Messages go
//! out, one with each `handle_write`; what comes back is printed by
//! `handle_read`.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;

use reactor::{Cause, CloseReason, Io, Protocol};

use crate::CHUNK;
use crate::ending::Ending;
use crate::failure::Failure;
use crate::output;

/// Sends messages, and prints the replies.
///
/// TCP carries bytes, not messages: a reply may come in pieces, and a piece
/// may hold several replies. But it must be the same bytes in the same order,
/// so all that is needed is to know where each message ends.
pub(crate) struct Messages {
    /// All messages, one after another, as they go over the wire.
    wire: Vec<u8>,
    /// Where in `wire` each message stands that is still to be sent. The
    /// first may have lost its beginning, which was sent already.
    unsent: VecDeque<Range<usize>>,
    /// Where in `wire` each message stands whose reply is still to be printed.
    unanswered: VecDeque<Range<usize>>,
    /// How many bytes came back, and were what they should be.
    checked: usize,
    count: usize,
    ending: Ending,
}

impl Messages {
    pub(crate) fn new<M: AsRef<[u8]>>(
        messages: impl IntoIterator<Item = M>,
        ending: Ending,
    ) -> Self {
        let mut wire = Vec::new();
        let mut unsent = VecDeque::new();
        for message in messages {
            let start = wire.len();
            wire.extend(message.as_ref());
            unsent.push_back(start..wire.len());
        }
        let unanswered = unsent.clone();
        Messages { count: unsent.len(), wire, unsent, unanswered, checked: 0, ending }
    }

    /// How many bytes were sent.
    fn sent(&self) -> usize {
        self.unsent.front().map_or(self.wire.len(), |next| next.start)
    }

    fn progress(&self) -> String {
        format!("{} of {} replies", self.count - self.unanswered.len(), self.count)
    }
}

impl Protocol for Messages {
    fn handle_connect(&mut self, io: &mut Io<'_>) -> io::Result<()> {
        self.ending.connected(io);
        Ok(())
    }

    fn writable(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// Sends the next message. A long one goes in slices: `send` takes all
    /// that it is given, so what it is given is what bounds the memory. There
    /// is room for a slice, or this would not be called.
    fn handle_write(&mut self, io: &mut Io<'_>) -> io::Result<()> {
        let Some(message) = self.unsent.front_mut() else { return Ok(()) };
        let slice = message.start..message.end.min(message.start + CHUNK);
        io.send(&self.wire[slice.clone()])?;
        log::debug!("sent {} bytes", slice.len());
        message.start = slice.end;
        if message.start == message.end {
            self.unsent.pop_front();
        }
        Ok(())
    }

    /// Checks what came back, and prints each reply that is complete.
    fn handle_read(&mut self, io: &mut Io<'_>, data: &[u8]) -> io::Result<()> {
        log::debug!("received {} bytes", data.len());
        let owed = &self.wire[self.checked..self.sent()];
        let equal = owed.iter().zip(data).take_while(|(sent, came)| sent == came).count();
        let expected = owed.get(equal).copied();
        self.checked += equal;

        // Those before a wrong byte are right, and are printed all the same.
        while let Some(reply) = self.unanswered.front()
            && reply.end <= self.checked
        {
            output::print_line(&self.wire[reply.clone()])?;
            self.unanswered.pop_front();
        }

        if let Some(&came) = data.get(equal) {
            let offset = self.checked as u64;
            return Err(Failure::wrong(&io.peer_addr(), offset, expected, came).into());
        }
        if self.unanswered.is_empty() {
            self.ending.complete(io);
        }
        Ok(())
    }

    /// The server will send nothing more, and it is not done: else we would
    /// have closed first.
    fn handle_eof(&mut self, io: &mut Io<'_>) -> io::Result<()> {
        let server = io.peer_addr().to_string();
        Err(Failure::Closed { server, progress: self.progress() }.into())
    }

    /// Nothing: `handle_close` follows with the same cause, and tells it once.
    fn handle_error(&mut self, _io: &mut Io<'_>, _cause: &Cause) {}

    fn handle_close(&mut self, io: &mut Io<'_>, reason: &CloseReason) {
        self.ending.closed(io, reason, self.progress());
    }
}
