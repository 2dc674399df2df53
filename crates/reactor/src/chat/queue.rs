//! [`ChatState`]: a chat without its protocol: framing state, and the output that the
//! stream has not accepted yet.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::time::Duration;

use crate::chat::producer::{Produced, Producer};
use crate::chat::terminator::{MessageTooLong, Terminator};
use crate::reactor::{READ_BUFFER_SIZE, TimerId};
use crate::stream::connection::Connection;
use crate::stream::protocol::Io;

/// With this many items queued, no further message is parsed.
const MAX_QUEUED_ITEMS: usize = 64;

/// Output that the stream has not accepted yet.
enum OutputItem {
    Data(Vec<u8>),
    Producer(Box<dyn Producer>),
    /// Close here.
    Close,
}

/// If messages are parsed, or wait for room for the replies to them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Parsing {
    Running,
    /// The output of the stream is congested.
    BlockedByStream,
    /// The queue in front of the stream is full.
    BlockedByQueue,
}

/// A chat without its protocol.
pub(super) struct ChatState {
    pub(super) terminator: Terminator,
    /// The longest message, in bytes.
    pub(super) max_message: usize,
    /// Received and not parsed: perhaps the start of a terminator, or all that arrived
    /// while output was congested.
    pub(super) input: Vec<u8>,
    /// How much of the current message was passed to the protocol.
    pub(super) partial_len: usize,
    pub(super) collected: Vec<u8>,
    parsing: Parsing,
    /// A callback discarded what was received.
    pub(super) input_discarded: bool,
    /// How long a message may take, and the timer for the current one.
    pub(super) message_timeout: Option<Duration>,
    pub(super) message_timer: Option<TimerId>,
    /// Follows the output that the stream has accepted.
    output: VecDeque<OutputItem>,
    /// The bytes in it.
    queued_bytes: usize,
    /// The first producer has nothing yet.
    waits_for_producer: bool,
}

impl ChatState {
    pub(super) fn new(terminator: Terminator, max_message: usize) -> Self {
        ChatState {
            terminator: terminator.normalized(),
            max_message,
            input: Vec::new(),
            partial_len: 0,
            collected: Vec::new(),
            parsing: Parsing::Running,
            input_discarded: false,
            message_timeout: None,
            message_timer: None,
            output: VecDeque::new(),
            queued_bytes: 0,
            waits_for_producer: false,
        }
    }

    /// Counts bytes of a message that has an end.
    ///
    /// # Errors
    ///
    /// Returns [`MessageTooLong`] if that end is still to be found and the message is too
    /// long.
    pub(super) fn add_to_message(&mut self, len: usize) -> io::Result<()> {
        if self.terminator == Terminator::Never {
            return Ok(());
        }
        self.partial_len += len;
        if self.partial_len > self.max_message && !self.terminator.is_length() {
            return Err(MessageTooLong { limit: self.max_message }.into());
        }
        Ok(())
    }

    /// Returns `true` if replies must wait, and so the messages that need them.
    pub(super) fn is_congested(&self, connection: &Connection) -> bool {
        // After a failed write nothing can be sent any more, and nothing needs to wait.
        !connection.has_failed_write()
            && (connection.holds_back_input() || self.is_queue_full(connection))
    }

    fn is_queue_full(&self, connection: &Connection) -> bool {
        let is_full =
            self.queued_bytes >= connection.high_water() || self.output.len() >= MAX_QUEUED_ITEMS;
        is_full && !connection.reads_while_congested()
    }

    pub(super) fn cancel_message_timer(&mut self, io: &mut Io<'_>) {
        if let Some(timer) = self.message_timer.take() {
            io.context().cancel(timer);
        }
    }

    /// Stops parsing until there is room for output.
    pub(super) fn block_parsing(&mut self, connection: &Connection) {
        self.parsing = if self.is_queue_full(connection) {
            Parsing::BlockedByQueue
        } else {
            Parsing::BlockedByStream
        };
    }

    /// Lets parsing continue. Returns `true` if it was blocked.
    pub(super) fn unblock_parsing(&mut self) -> bool {
        std::mem::replace(&mut self.parsing, Parsing::Running) != Parsing::Running
    }

    pub(super) fn is_parsing_blocked(&self) -> bool {
        self.parsing != Parsing::Running
    }

    /// Returns `true` if parsing is blocked, and room in the stream may unblock it: not if
    /// a full queue waits for a producer that has nothing.
    pub(super) fn can_resume_parsing(&self) -> bool {
        match self.parsing {
            Parsing::Running => false,
            Parsing::BlockedByStream => true,
            Parsing::BlockedByQueue => !self.waits_for_producer,
        }
    }

    /// Returns `true` if the chat closes once its output is sent.
    pub(super) fn is_ending(&self) -> bool {
        matches!(self.output.back(), Some(OutputItem::Close))
    }

    pub(super) fn has_output(&self) -> bool {
        !self.output.is_empty() && !self.waits_for_producer
    }

    pub(super) fn is_output_empty(&self) -> bool {
        self.output.is_empty()
    }

    pub(super) fn push(&mut self, connection: &mut Connection, data: &[u8]) -> io::Result<()> {
        if self.output.is_empty() {
            return connection.send(data);
        }
        self.ensure_open(connection)?;
        let (high_water, max_excess) = (connection.high_water(), connection.max_excess());
        if self.queued_bytes >= high_water
            && self.queued_bytes.saturating_add(data.len()) > high_water.saturating_add(max_excess)
        {
            let message = format!("chat output full ({} bytes queued)", self.queued_bytes);
            return Err(io::Error::new(ErrorKind::WouldBlock, message));
        }
        if !data.is_empty() {
            self.queued_bytes += data.len();
            self.output.push_back(OutputItem::Data(data.to_vec()));
        }
        Ok(())
    }

    pub(super) fn push_with_producer(
        &mut self,
        connection: &Connection,
        producer: Box<dyn Producer>,
    ) -> io::Result<()> {
        self.ensure_open(connection)?;
        self.output.push_back(OutputItem::Producer(producer));
        Ok(())
    }

    fn ensure_open(&self, connection: &Connection) -> io::Result<()> {
        if !connection.is_open() || self.is_ending() {
            return Err(io::Error::new(ErrorKind::NotConnected, "push on a closed chat"));
        }
        Ok(())
    }

    pub(super) fn close_when_done(&mut self, connection: &mut Connection) {
        if self.output.is_empty() {
            connection.close();
        } else if !self.is_ending() {
            self.output.push_back(OutputItem::Close);
        }
    }

    /// Lets a producer that had nothing be called again.
    pub(super) fn resume_output(&mut self) {
        self.waits_for_producer = false;
    }

    /// Returns the number of bytes that wait behind a producer.
    pub(super) fn queued_bytes(&self) -> usize {
        self.queued_bytes
    }

    pub(super) fn discard(&mut self) {
        self.collected.clear();
        self.input.clear();
        self.partial_len = 0;
        self.input_discarded = true;
        self.output.clear();
        self.queued_bytes = 0;
        self.waits_for_producer = false;
    }

    /// Passes output to the stream while that has room, at most one buffer, so that a peer
    /// that reads fast is not served without limit.
    pub(super) fn flush_queue(&mut self, connection: &mut Connection) -> io::Result<()> {
        let mut flushed = 0;
        let mut buffer = Vec::new();
        while flushed < READ_BUFFER_SIZE && connection.has_room() && !self.waits_for_producer {
            match self.output.front_mut() {
                Some(OutputItem::Data(data)) => {
                    connection.send(data)?;
                    flushed += data.len();
                    self.queued_bytes -= data.len();
                    self.output.pop_front();
                }
                Some(OutputItem::Producer(producer)) => {
                    buffer.clear();
                    let progress = producer.more(&mut buffer)?;
                    connection.send(&buffer)?;
                    flushed += buffer.len();
                    match progress {
                        Produced::Data => {}
                        Produced::Later => self.waits_for_producer = true,
                        Produced::End => drop(self.output.pop_front()),
                    }
                }
                Some(OutputItem::Close) => {
                    self.output.clear();
                    connection.close();
                }
                None => break,
            }
        }
        Ok(())
    }
}
