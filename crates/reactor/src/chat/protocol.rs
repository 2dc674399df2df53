//! [`ChatProtocol`]: the callbacks of one chat; [`ChatIo`]: what they receive.

use std::fmt;
use std::io;
use std::mem;

use crate::chat::producer::Producer;
use crate::chat::queue::ChatState;
use crate::chat::terminator::{MessageTooLong, Terminator};
use crate::filter::Filter;
use crate::reactor::{Cause, CloseReason, Context, TimerId};
use crate::stream::protocol::Io;
use crate::token::Token;

/// One conversation in messages: asynchat's `async_chat`. Only
/// [`found_terminator`](Self::found_terminator) is required.
///
/// # Examples
///
/// ```
/// use std::io;
/// use std::os::unix::net::UnixStream;
/// use reactor::{Chat, ChatIo, ChatProtocol, Reactor, Stream};
///
/// /// Replies to each line with its length.
/// struct Length;
///
/// impl ChatProtocol for Length {
///     fn found_terminator(&mut self, chat: &mut ChatIo<'_>) -> io::Result<()> {
///         let line = chat.take_collected();
///         chat.push(format!("{}\n", line.len()).as_bytes())
///     }
/// }
///
/// # fn main() -> io::Result<()> {
/// let (ours, mut theirs) = UnixStream::pair()?;
/// let mut reactor = Reactor::new()?;
/// reactor.add(Stream::new(ours, Chat::new("\n", Length))?)?;
/// io::Write::write_all(&mut theirs, b"hello\nyou\n")?;
/// theirs.shutdown(std::net::Shutdown::Write)?;
/// reactor.run()?;
/// assert_eq!(io::read_to_string(theirs)?, "5\n3\n");
/// # Ok(())
/// # }
/// ```
#[expect(clippy::missing_errors_doc, reason = "the trait documents what an `Err` does")]
pub trait ChatProtocol: 'static {
    /// Called when the connection is established, or was accepted. Default: nothing.
    fn handle_connect(&mut self, _chat: &mut ChatIo<'_>) -> io::Result<()> {
        Ok(())
    }

    /// Called with a part of the message, of at least one byte. Default: keeps it for
    /// [`ChatIo::take_collected`].
    fn collect_incoming_data(&mut self, chat: &mut ChatIo<'_>, data: &[u8]) -> io::Result<()> {
        chat.collect(data)
    }

    /// Called when the message is complete. It may be empty.
    fn found_terminator(&mut self, chat: &mut ChatIo<'_>) -> io::Result<()>;

    /// Returns `true` if [`handle_write`](Self::handle_write) has something to push. It is
    /// called when all that was pushed before is sent. Default: `false`.
    fn writable(&self) -> bool {
        false
    }

    /// Called when all that was pushed is sent, if [`writable`](Self::writable) returned
    /// `true`. Default: nothing.
    fn handle_write(&mut self, _chat: &mut ChatIo<'_>) -> io::Result<()> {
        Ok(())
    }

    /// Called when a filter that was started with [`ChatIo::start_filter`] is ready. Default:
    /// nothing.
    fn handle_upgrade(&mut self, _chat: &mut ChatIo<'_>) -> io::Result<()> {
        Ok(())
    }

    /// Called at the end of input, after all of it was collected. Default: closes when
    /// everything pushed is sent, and logs a warning if the last message is incomplete.
    fn handle_eof(&mut self, chat: &mut ChatIo<'_>) -> io::Result<()> {
        match chat.partial_len() {
            0 => {}
            n => log::warn!("{}: input ended {n} bytes into a message", chat.io().peer_addr()),
        }
        chat.close_when_done();
        Ok(())
    }

    /// Called when a timer set by [`Io::set_timer`] expires. Default: nothing.
    fn handle_timer(&mut self, _chat: &mut ChatIo<'_>, _timer: TimerId) -> io::Result<()> {
        Ok(())
    }

    /// Called when the reactor starts to drain ([`Context::drain`]). The default does
    /// nothing, so the stream stays open until the drain deadline. To close after the
    /// replies so far, call [`ChatIo::close_when_done`] here. Messages that are not
    /// parsed yet are then discarded.
    fn handle_drain(&mut self, _chat: &mut ChatIo<'_>) -> io::Result<()> {
        Ok(())
    }

    /// Like [`Protocol::handle_error`](crate::Protocol::handle_error). Output pushed here
    /// is written if the kernel accepts it at once. Default: logs a warning.
    fn handle_error(&mut self, chat: &mut ChatIo<'_>, cause: &Cause) {
        log::warn!("{}: {cause}", chat.io().peer_addr());
    }

    /// Like [`Protocol::handle_close`](crate::Protocol::handle_close), but output that
    /// producers have not produced is not counted in the reason. Default: logs the reason
    /// at debug level.
    fn handle_close(&mut self, chat: &mut ChatIo<'_>, reason: &CloseReason) {
        log::debug!("{}: {reason}", chat.io().peer_addr());
    }
}

/// A [`ChatProtocol`]'s own stream during a callback. It gives access to the stream
/// ([`io`](Self::io)) and the reactor ([`context`](Self::context)).
#[must_use]
pub struct ChatIo<'a> {
    state: &'a mut ChatState,
    io: Io<'a>,
    rest: &'a [u8],
}

impl<'a> ChatIo<'a> {
    pub(super) fn new(state: &'a mut ChatState, io: Io<'a>, rest: &'a [u8]) -> Self {
        ChatIo { state, io, rest }
    }

    /// Sets where the current message ends, or the next one if none has started.
    pub fn set_terminator(&mut self, terminator: impl Into<Terminator>) {
        self.state.terminator = terminator.into().normalized();
    }

    /// Returns the current terminator. For [`Terminator::Length`], the value is the
    /// number of bytes still missing.
    #[must_use]
    pub fn terminator(&self) -> &Terminator {
        &self.state.terminator
    }

    /// Keeps a part of the message for [`take_collected`](Self::take_collected).
    ///
    /// # Errors
    ///
    /// Returns [`MessageTooLong`] if more would be kept than
    /// [`Chat::with_max_message`](crate::Chat::with_max_message) allows, unless the length
    /// of the message is given.
    pub fn collect(&mut self, data: &[u8]) -> io::Result<()> {
        let limit = self.state.max_message;
        let kept = self.state.collected.len() + data.len();
        if kept > limit && !self.state.terminator.is_length() {
            return Err(MessageTooLong { limit }.into());
        }
        self.state.collected.extend(data);
        Ok(())
    }

    /// Returns what was kept so far.
    #[must_use]
    pub fn collected(&self) -> &[u8] {
        &self.state.collected
    }

    /// Takes what was kept: asynchat's `_get_data`.
    pub fn take_collected(&mut self) -> Vec<u8> {
        mem::take(&mut self.state.collected)
    }

    /// Returns how many bytes of an incomplete message have arrived, including the length
    /// that it starts with ([`Terminator::Prefixed`]).
    #[must_use]
    pub fn partial_len(&self) -> usize {
        self.state.partial_len
    }

    /// Returns the bytes after the current message that were received but not parsed yet.
    /// A protocol that switches to encryption must reject them, or an attacker can inject
    /// plain text (CVE-2011-0411).
    #[must_use]
    pub fn unparsed(&self) -> &[u8] {
        if self.rest.is_empty() { &self.state.input } else { self.rest }
    }

    /// Sends `data` after all that was pushed before. Like
    /// [`Connection::send`](crate::Connection::send), it never blocks, and accepts all of
    /// `data` or nothing.
    ///
    /// # Errors
    ///
    /// * `WouldBlock` if [`Limits::high_water`](crate::Limits::high_water) bytes are queued;
    /// * `NotConnected` after [`close_when_done`](Self::close_when_done).
    pub fn push(&mut self, data: &[u8]) -> io::Result<()> {
        self.state.push(&mut self.io, data)
    }

    /// Sends all that `producer` produces, after all that was pushed before. It is called
    /// for a piece only when there is room for it.
    ///
    /// # Errors
    ///
    /// Returns `NotConnected` after [`close_when_done`](Self::close_when_done).
    pub fn push_with_producer(&mut self, producer: impl Producer) -> io::Result<()> {
        self.state.push_with_producer(&self.io, Box::new(producer))
    }

    /// Lets a producer that returned [`Produced::Later`](crate::Produced::Later) be called
    /// again.
    pub fn resume_output(&mut self) {
        self.state.resume_output();
    }

    /// Closes the stream once all that was pushed and produced is sent.
    pub fn close_when_done(&mut self) {
        self.state.close_when_done(&mut self.io);
    }

    /// Passes all further input and output through `filter`: the end of a message that asks
    /// for it, such as STARTTLS. What was pushed before is written as it is.
    ///
    /// # Errors
    ///
    /// * `InvalidData` if bytes behind the current message have arrived: an attacker may
    ///   have injected them, to be taken for encrypted ones (CVE-2011-0411). Where they are
    ///   for the filter, pass them to
    ///   [`Connection::start_filter`](crate::Connection::start_filter) instead;
    /// * `WouldBlock` if output is queued behind a producer;
    /// * those of [`Connection::start_filter`](crate::Connection::start_filter).
    pub fn start_filter(&mut self, filter: impl Filter) -> io::Result<()> {
        if !self.unparsed().is_empty() {
            let message = "input followed a message that asks for encryption";
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        if !self.state.is_output_empty() {
            let message = "output is queued that is not for the filter";
            return Err(io::Error::new(io::ErrorKind::WouldBlock, message));
        }
        self.io.start_filter(filter, &[])
    }

    /// Discards what was collected, what was received and not parsed, and output that the
    /// stream has not accepted yet.
    pub fn discard_buffers(&mut self) {
        self.state.discard();
        self.state.cancel_message_timer(&mut self.io);
    }

    /// Returns the stream: its addresses, timeouts and timers. Output sent on it would
    /// overtake what was pushed and is queued.
    pub fn io(&mut self) -> &mut Io<'a> {
        &mut self.io
    }

    /// Returns the token of the stream.
    pub fn token(&self) -> Token {
        self.io.token()
    }

    /// Returns the reactor's context: other channels, timers, stopping.
    pub fn context(&mut self) -> &mut Context {
        self.io.context()
    }
}

impl fmt::Debug for ChatIo<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChatIo")
            .field("io", &self.io)
            .field("terminator", &self.state.terminator)
            .finish_non_exhaustive()
    }
}
