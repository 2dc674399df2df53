//! [`Chat`]: messages separated by a terminator or by their length, and output that is
//! produced when there is room for it: asynchat.

pub(crate) mod producer;
pub(crate) mod protocol;
mod queue;
pub(crate) mod terminator;

use std::fmt;
use std::io;
use std::mem;
use std::time::Duration;

use crate::chat::protocol::{ChatIo, ChatProtocol};
use crate::chat::queue::ChatState;
use crate::chat::terminator::{Scan, Terminator};
use crate::output_buffer::SendMode;
use crate::reactor::{Cause, CloseReason, Context, TimeoutKind, TimerId};
use crate::stream::protocol::{Io, Protocol};
use crate::token::Token;

/// The longest message by default.
const MAX_MESSAGE: usize = 64 * 1024;

/// How many empty messages in a row are complete without input: a protocol that sets a
/// length of 0 each time would never end.
const MAX_EMPTY_MESSAGES: usize = 1024;

/// The [`Protocol`] of a stream that carries a [`ChatProtocol`].
///
/// While the peer does not read what was pushed, no further message is parsed, unless
/// [`Limits::read_while_congested`](crate::Limits::read_while_congested) is set. So a
/// protocol that replies to each message with one stays within the stream's limits.
#[must_use]
pub struct Chat<P> {
    protocol: P,
    state: ChatState,
}

impl<P: ChatProtocol> Chat<P> {
    /// Creates a chat with the terminator of its first message.
    pub fn new(terminator: impl Into<Terminator>, protocol: P) -> Self {
        Chat { protocol, state: ChatState::new(terminator.into(), MAX_MESSAGE) }
    }

    /// Closes the stream with [`MessageTooLong`](crate::MessageTooLong) if a message that
    /// ends with a terminator is longer than `max` bytes, or [`ChatIo::collect`] would keep
    /// more. Default: 64 KiB.
    pub fn with_max_message(mut self, max: usize) -> Self {
        self.state.max_message = max;
        self
    }

    /// Closes the stream if a message is not complete `timeout` after its first byte, even
    /// if further bytes arrive. Default: none.
    pub fn with_message_timeout(mut self, timeout: Duration) -> Self {
        self.state.message_timeout = Some(timeout);
        self
    }

    /// Returns the protocol.
    pub fn protocol(&self) -> &P {
        &self.protocol
    }

    /// Returns the protocol, to change its state.
    pub fn protocol_mut(&mut self) -> &mut P {
        &mut self.protocol
    }

    /// Returns the protocol, and the [`ChatIo`] that its callbacks receive; `rest` is input
    /// behind the current message.
    fn parts_mut<'a>(&'a mut self, io: &'a mut Io<'_>, rest: &'a [u8]) -> (&'a mut P, ChatIo<'a>) {
        (&mut self.protocol, ChatIo::new(&mut self.state, io.reborrow(), rest))
    }

    /// Finds the messages in what was received. What remains waits for more input, or for
    /// room for output.
    fn parse(&mut self, io: &mut Io<'_>, mut data: &[u8]) -> io::Result<()> {
        self.state.input_discarded = false;
        let mut empty_messages = 0;
        while self.can_parse(io) && (!data.is_empty() || self.state.terminator.is_complete()) {
            if self.state.is_congested(io) {
                self.state.block_parsing(io);
                break;
            }
            if self.state.terminator.is_complete() {
                empty_messages += 1;
                if empty_messages > MAX_EMPTY_MESSAGES {
                    let message = "a terminator of length 0 was set again and again";
                    return Err(io::Error::new(io::ErrorKind::InvalidData, message));
                }
            } else {
                empty_messages = 0;
            }
            let (prefix_len, scan) = self.state.terminator.scan(data)?;
            data = &data[prefix_len..];
            let (len, consumed, is_complete, needs_more) = match scan {
                Scan::Partial { len } => (len, len, false, false),
                Scan::NeedMore { len } => (len, len, false, true),
                Scan::Complete { len, consumed } => (len, consumed, true, false),
            };
            self.state.add_to_message(prefix_len + len)?;
            let (message, rest) = (&data[..len], &data[consumed..]);
            data = rest;
            if len > 0 {
                let (protocol, mut chat) = self.parts_mut(io, rest);
                let result = protocol.collect_incoming_data(&mut chat, message);
                io.check_result(result)?;
            }
            if is_complete && self.can_parse(io) {
                self.state.terminator.clear_if_complete();
                self.state.partial_len = 0;
                self.state.cancel_message_timer(io);
                let (protocol, mut chat) = self.parts_mut(io, rest);
                let result = protocol.found_terminator(&mut chat);
                io.check_result(result)?;
            }
            if needs_more {
                break;
            }
        }
        if self.can_parse(io) {
            self.state.input.extend(data);
            self.start_message_timer(io);
        }
        Ok(())
    }

    /// Returns `true` if input is still to be parsed.
    fn can_parse(&self, io: &Io<'_>) -> bool {
        !io.is_closing() && !self.state.is_ending() && !self.state.input_discarded
    }

    fn start_message_timer(&mut self, io: &mut Io<'_>) {
        let is_partial = self.state.partial_len > 0 || !self.state.input.is_empty();
        if let Some(timeout) = self.state.message_timeout
            && self.state.message_timer.is_none()
            && is_partial
            && !self.state.is_parsing_blocked()
        {
            self.state.message_timer = Some(io.set_timer(timeout));
        }
    }
}

impl<P: ChatProtocol> Protocol for Chat<P> {
    fn readable(&self) -> bool {
        !self.state.is_parsing_blocked() && !self.state.is_ending()
    }

    fn writable(&self) -> bool {
        self.state.can_resume_parsing()
            || self.state.has_output()
            || (self.state.is_output_empty() && self.protocol.writable())
    }

    fn unsent(&self) -> usize {
        self.state.queued_bytes()
    }

    fn handle_connect(&mut self, io: &mut Io<'_>) -> io::Result<()> {
        let (protocol, mut chat) = self.parts_mut(io, &[]);
        protocol.handle_connect(&mut chat)?;
        // The first message may be complete without input.
        self.parse(io, &[])
    }

    fn handle_read(&mut self, io: &mut Io<'_>, data: &[u8]) -> io::Result<()> {
        if self.state.input.is_empty() {
            return self.parse(io, data);
        }
        let mut all = mem::take(&mut self.state.input);
        all.extend(data);
        self.parse(io, &all)
    }

    /// There is room for output: for what is queued, and for the replies to messages that
    /// wait. If a write has failed, they wait no longer.
    fn handle_write(&mut self, io: &mut Io<'_>) -> io::Result<()> {
        let result = self.state.flush_queue(io);
        io.check_result(result)?;
        if self.state.unblock_parsing() {
            let data = mem::take(&mut self.state.input);
            io.set_send_mode(SendMode::Reply);
            self.parse(io, &data)?;
            io.set_send_mode(SendMode::Strict);
        }
        if !io.is_closing() && self.state.is_output_empty() && self.protocol.writable() {
            let (protocol, mut chat) = self.parts_mut(io, &[]);
            protocol.handle_write(&mut chat)?;
        }
        Ok(())
    }

    fn handle_upgrade(&mut self, io: &mut Io<'_>) -> io::Result<()> {
        let (protocol, mut chat) = self.parts_mut(io, &[]);
        protocol.handle_upgrade(&mut chat)
    }

    fn handle_eof(&mut self, io: &mut Io<'_>) -> io::Result<()> {
        // It looked like the start of a terminator, or is part of a length.
        let rest = mem::take(&mut self.state.input);
        self.state.add_to_message(rest.len())?;
        if !rest.is_empty() && !self.state.terminator.is_length() {
            let (protocol, mut chat) = self.parts_mut(io, &[]);
            protocol.collect_incoming_data(&mut chat, &rest)?;
        }
        if io.is_closing() {
            return Ok(());
        }
        let (protocol, mut chat) = self.parts_mut(io, &[]);
        protocol.handle_eof(&mut chat)
    }

    fn handle_timer(&mut self, io: &mut Io<'_>, timer: TimerId) -> io::Result<()> {
        if self.state.message_timer == Some(timer) {
            self.state.message_timer = None;
            io.context().close_with(Cause::TimedOut(TimeoutKind::Message));
            return Ok(());
        }
        let (protocol, mut chat) = self.parts_mut(io, &[]);
        protocol.handle_timer(&mut chat, timer)
    }

    fn handle_drain(&mut self, io: &mut Io<'_>) -> io::Result<()> {
        let (protocol, mut chat) = self.parts_mut(io, &[]);
        protocol.handle_drain(&mut chat)
    }

    fn handle_error(&mut self, io: &mut Io<'_>, cause: &Cause) {
        let (protocol, mut chat) = self.parts_mut(io, &[]);
        protocol.handle_error(&mut chat, cause);
    }

    fn handle_close(&mut self, io: &mut Io<'_>, reason: &CloseReason) {
        let (protocol, mut chat) = self.parts_mut(io, &[]);
        protocol.handle_close(&mut chat, reason);
    }
}

impl Context {
    /// Calls `f` with the protocol of another stream's [`Chat`] and its [`ChatIo`], as if
    /// in a callback of that stream. Returns `None` if `token` names no open stream with a
    /// `Chat<P>`, or the stream being called.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::io;
    /// use reactor::{ChatIo, ChatProtocol, Context, Token};
    ///
    /// struct Guest;
    /// # impl ChatProtocol for Guest {
    /// #     fn found_terminator(&mut self, _: &mut ChatIo<'_>) -> io::Result<()> { Ok(()) }
    /// # }
    ///
    /// fn send_line(cx: &mut Context, to: Token, line: &[u8]) -> io::Result<()> {
    ///     cx.with_chat(to, |_: &mut Guest, chat| chat.push(line)).unwrap_or(Ok(()))
    /// }
    /// ```
    pub fn with_chat<P: ChatProtocol, R>(
        &mut self,
        token: Token,
        f: impl FnOnce(&mut P, &mut ChatIo<'_>) -> R,
    ) -> Option<R> {
        self.with_stream(token, |chat: &mut Chat<P>, io| {
            let (protocol, mut chat) = chat.parts_mut(io, &[]);
            f(protocol, &mut chat)
        })
    }
}

impl<P> fmt::Debug for Chat<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chat").field("terminator", &self.state.terminator).finish_non_exhaustive()
    }
}
