//! [`Chat`]: messages told apart by a terminator or by their length, and
//! output that is produced as there is room for it: asynchat.

pub(crate) mod producer;
pub(crate) mod terminator;

use std::collections::VecDeque;
use std::error::Error;
use std::fmt;
use std::io::{self, ErrorKind};
use std::mem;

use crate::chat::producer::Producer;
use crate::chat::terminator::Terminator;
use crate::reactor::context::{Context, READ_BUFFER};
use crate::reactor::dispatcher::{Cause, CloseReason};
use crate::reactor::slots::Token;
use crate::reactor::timers::TimerId;
use crate::stream::Stream;
use crate::stream::connection::Connection;
use crate::stream::protocol::{Io, Protocol};

/// What a message may be long, if nothing else is said.
const MAX_MESSAGE: usize = 64 * 1024;

/// With so many pieces or producers waiting, no further message is answered.
const MAX_PIECES: usize = 64;

/// One conversation in messages: asynchat's `async_chat`. Only
/// [`found_terminator`](Self::found_terminator) must be written.
///
/// Speak it over a stream through [`Chat`]:
///
/// ```
/// use std::io;
/// use std::os::unix::net::UnixStream;
/// use reactor::{Chat, ChatIo, ChatProtocol, Reactor, Stream};
///
/// /// Answers each line with its length.
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
pub trait ChatProtocol: 'static {
    /// The stream is connected, or was accepted. Default: nothing.
    fn handle_connect(&mut self, _chat: &mut ChatIo<'_>) -> io::Result<()> {
        Ok(())
    }

    /// A part of the message arrived, of at least one byte. Default: it is
    /// kept, for [`ChatIo::take_collected`].
    fn collect_incoming_data(&mut self, chat: &mut ChatIo<'_>, data: &[u8]) -> io::Result<()> {
        chat.collect(data)
    }

    /// The message is complete. It may have been an empty one.
    fn found_terminator(&mut self, chat: &mut ChatIo<'_>) -> io::Result<()>;

    /// The peer will send nothing more; all that it sent has been collected.
    /// Default: closes when everything pushed is sent, with a warning in the
    /// log where the last message is incomplete.
    fn handle_eof(&mut self, chat: &mut ChatIo<'_>) -> io::Result<()> {
        match chat.partial_len() {
            0 => {}
            n => log::warn!("{}: ended {n} bytes into a message", chat.io().peer_addr()),
        }
        chat.close_when_done();
        Ok(())
    }

    /// A timer set by [`Io::set_timer`] fell due. Default: nothing.
    fn handle_timer(&mut self, _chat: &mut ChatIo<'_>, _timer: TimerId) -> io::Result<()> {
        Ok(())
    }

    /// The reactor is to end by a deadline ([`Context::drain`]). Default:
    /// nothing, the peer may go on until then. To end with what was answered so
    /// far, call [`ChatIo::close_when_done`] here: messages that arrived and were
    /// not looked at are dropped.
    fn handle_drain(&mut self, _chat: &mut ChatIo<'_>) -> io::Result<()> {
        Ok(())
    }

    /// As [`Protocol::handle_error`]. Default: a line in the log.
    fn handle_error(&mut self, chat: &mut ChatIo<'_>, cause: &Cause) {
        log::warn!("{}: {cause}", chat.io().peer_addr());
    }

    /// As [`Protocol::handle_close`]. Default: a line in the log, at debug
    /// level. What producers still held is not counted
    /// in the reason: it was never made.
    fn handle_close(&mut self, chat: &mut ChatIo<'_>, reason: &CloseReason) {
        log::debug!("{}: {reason}", chat.io().peer_addr());
    }
}

/// Speaks a [`ChatProtocol`] over a [`Stream`].
///
/// While the peer does not read what was pushed, no further message is looked
/// for in what it sent; so answering each message with one keeps within the
/// stream's limits.
pub struct Chat<P> {
    protocol: P,
    state: State,
}

impl<P: ChatProtocol> Chat<P> {
    /// `protocol`, with the terminator of its first message.
    pub fn new(terminator: impl Into<Terminator>, protocol: P) -> Self {
        let state = State {
            terminator: terminator.into().normal(),
            most: MAX_MESSAGE,
            unparsed: Vec::new(),
            unfinished: 0,
            collected: Vec::new(),
            output: VecDeque::new(),
            queued: 0,
            stopped: false,
            discarded: false,
        };
        Chat { protocol, state }
    }

    /// Closes the stream with [`MessageTooLong`] when a message that a
    /// terminator is to end has more than `most` bytes before it, or more than
    /// that is kept by [`ChatIo::collect`]. Default: 64 KiB.
    #[must_use]
    pub fn max_message(mut self, most: usize) -> Self {
        self.state.most = most;
        self
    }

    /// The protocol's own state.
    pub fn protocol(&self) -> &P {
        &self.protocol
    }

    /// The protocol's own state, to change.
    pub fn protocol_mut(&mut self) -> &mut P {
        &mut self.protocol
    }

    /// The protocol, and the [`ChatIo`] that its callbacks are given.
    fn parts<'a>(&'a mut self, io: &'a mut Io<'_>) -> (&'a mut P, ChatIo<'a>) {
        let chat = ChatIo { state: &mut self.state, connection: io.connection, cx: io.cx };
        (&mut self.protocol, chat)
    }

    /// Finds the messages in what was received. What it leaves waits for more
    /// input, or for room for output.
    fn parse(&mut self, io: &mut Io<'_>, mut data: &[u8]) -> io::Result<()> {
        self.state.discarded = false;
        while !data.is_empty() && self.goes_on(io) {
            if self.state.is_congested(io.connection) {
                self.state.stopped = true;
                break;
            }
            let step = self.state.terminator.judge(data);
            self.state.count(step.collect)?;
            let (part, rest) = data.split_at(step.consume);
            data = rest;
            if step.collect > 0 {
                let (protocol, mut chat) = self.parts(io);
                protocol.collect_incoming_data(&mut chat, &part[..step.collect])?;
            }
            if step.found && self.goes_on(io) {
                self.state.terminator.met();
                self.state.unfinished = 0;
                let (protocol, mut chat) = self.parts(io);
                protocol.found_terminator(&mut chat)?;
            }
            if step.starved {
                break;
            }
        }
        if self.goes_on(io) {
            self.state.unparsed.extend(data);
        }
        Ok(())
    }

    /// Whether what was received is still to be looked at.
    fn goes_on(&self, io: &Io<'_>) -> bool {
        io.connection.is_open()
            && !io.cx.is_doomed()
            && !self.state.is_ending()
            && !self.state.discarded
    }
}

impl<P: ChatProtocol> Protocol for Chat<P> {
    fn readable(&self) -> bool {
        !self.state.stopped && !self.state.is_ending()
    }

    fn writable(&self) -> bool {
        self.state.stopped || !self.state.output.is_empty()
    }

    fn handle_connect(&mut self, io: &mut Io<'_>) -> io::Result<()> {
        let (protocol, mut chat) = self.parts(io);
        protocol.handle_connect(&mut chat)
    }

    fn handle_read(&mut self, io: &mut Io<'_>, data: &[u8]) -> io::Result<()> {
        if self.state.unparsed.is_empty() {
            return self.parse(io, data);
        }
        let mut all = mem::take(&mut self.state.unparsed);
        all.extend(data);
        self.parse(io, &all)
    }

    /// There is room for output: for what waits, and for the answers to
    /// messages that wait.
    fn handle_write(&mut self, io: &mut Io<'_>) -> io::Result<()> {
        self.state.refill(io.connection)?;
        if mem::take(&mut self.state.stopped) {
            let data = mem::take(&mut self.state.unparsed);
            self.parse(io, &data)?;
        }
        Ok(())
    }

    fn handle_eof(&mut self, io: &mut Io<'_>) -> io::Result<()> {
        // It looked like the beginning of a terminator.
        let rest = mem::take(&mut self.state.unparsed);
        self.state.count(rest.len())?;
        let (protocol, mut chat) = self.parts(io);
        if !rest.is_empty() {
            protocol.collect_incoming_data(&mut chat, &rest)?;
        }
        if !chat.connection.is_open() || chat.cx.is_doomed() {
            return Ok(());
        }
        protocol.handle_eof(&mut chat)
    }

    fn handle_timer(&mut self, io: &mut Io<'_>, timer: TimerId) -> io::Result<()> {
        let (protocol, mut chat) = self.parts(io);
        protocol.handle_timer(&mut chat, timer)
    }

    fn handle_drain(&mut self, io: &mut Io<'_>) -> io::Result<()> {
        let (protocol, mut chat) = self.parts(io);
        protocol.handle_drain(&mut chat)
    }

    fn handle_error(&mut self, io: &mut Io<'_>, cause: &Cause) {
        let (protocol, mut chat) = self.parts(io);
        protocol.handle_error(&mut chat, cause);
    }

    fn handle_close(&mut self, io: &mut Io<'_>, reason: &CloseReason) {
        let (protocol, mut chat) = self.parts(io);
        protocol.handle_close(&mut chat, reason);
    }
}

/// A chat, reached from elsewhere through its stream's token.
impl<P: ChatProtocol> Stream<Chat<P>> {
    /// See [`ChatIo::push`].
    pub fn push(&mut self, data: &[u8]) -> io::Result<()> {
        let (chat, connection) = self.halves();
        chat.state.push(connection, data)
    }

    /// See [`ChatIo::push_with_producer`].
    pub fn push_with_producer(&mut self, producer: impl Producer) -> io::Result<()> {
        let (chat, connection) = self.halves();
        chat.state.push_with_producer(connection, Box::new(producer))
    }

    /// See [`ChatIo::close_when_done`].
    pub fn close_when_done(&mut self) {
        let (chat, connection) = self.halves();
        chat.state.close_when_done(connection);
    }
}

/// A [`ChatProtocol`]'s own stream, and through it the reactor.
pub struct ChatIo<'a> {
    state: &'a mut State,
    connection: &'a mut Connection,
    cx: &'a mut Context,
}

impl ChatIo<'_> {
    /// Says where the message ends that is being collected, or the next one
    /// where none is.
    pub fn set_terminator(&mut self, terminator: impl Into<Terminator>) {
        self.state.terminator = terminator.into().normal();
    }

    /// What was set; of a length, what is missing of it.
    pub fn terminator(&self) -> &Terminator {
        &self.state.terminator
    }

    /// Keeps a part of the message, for [`take_collected`](Self::take_collected).
    ///
    /// Fails with [`MessageTooLong`] where more would be kept than
    /// [`Chat::max_message`] allows, and no [`Terminator::Length`] asked for it.
    pub fn collect(&mut self, data: &[u8]) -> io::Result<()> {
        let most = self.state.most;
        let kept = self.state.collected.len() + data.len();
        if kept > most && !self.state.terminator.is_length() {
            return Err(MessageTooLong { limit: most }.into());
        }
        self.state.collected.extend(data);
        Ok(())
    }

    /// What was kept so far.
    pub fn collected(&self) -> &[u8] {
        &self.state.collected
    }

    /// Takes what was kept: asynchat's `_get_data`.
    pub fn take_collected(&mut self) -> Vec<u8> {
        mem::take(&mut self.state.collected)
    }

    /// How many bytes of a message that is not complete have arrived.
    pub fn partial_len(&self) -> usize {
        self.state.unfinished
    }

    /// Sends `data` after all that was pushed before. As with [`Io::send`]:
    /// never blocks, and accepts all of it or nothing. `WouldBlock` says that
    /// as much as [`Limits::high_water`](crate::Limits::high_water) waits.
    pub fn push(&mut self, data: &[u8]) -> io::Result<()> {
        self.state.push(self.connection, data)
    }

    /// Sends all that `producer` makes, after all that was pushed before. It
    /// is asked for a piece only when there is room for it.
    ///
    /// Fails with `NotConnected` after [`close_when_done`](Self::close_when_done).
    pub fn push_with_producer(&mut self, producer: impl Producer) -> io::Result<()> {
        self.state.push_with_producer(self.connection, Box::new(producer))
    }

    /// Closes the stream once all that was pushed, and all that producers
    /// make, is sent.
    pub fn close_when_done(&mut self) {
        self.state.close_when_done(self.connection);
    }

    /// Forgets what was collected, what was received and not looked at, and
    /// what producers and [`push`](Self::push) still hold back. What the
    /// stream itself has accepted goes out.
    pub fn discard_buffers(&mut self) {
        self.state.collected.clear();
        self.state.unparsed.clear();
        self.state.unfinished = 0;
        self.state.discarded = true;
        self.state.output.clear();
        self.state.queued = 0;
    }

    /// The stream underneath: its addresses, timeouts and timers. To send on
    /// it would overtake what was pushed and waits.
    pub fn io(&mut self) -> Io<'_> {
        Io { connection: self.connection, cx: self.cx }
    }

    /// The stream's name in its reactor.
    pub fn token(&self) -> Token {
        self.cx.token()
    }

    /// The reactor: other channels, timers, the end.
    pub fn context(&mut self) -> &mut Context {
        self.cx
    }
}

impl fmt::Debug for ChatIo<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChatIo")
            .field("connection", &self.connection)
            .field("terminator", &self.state.terminator)
            .finish_non_exhaustive()
    }
}

/// A message is longer than [`Chat::max_message`] allows. It stands inside of
/// the [`io::Error`], of kind `InvalidData`, that closes the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageTooLong {
    /// What was allowed, in bytes.
    pub limit: usize,
}

impl fmt::Display for MessageTooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a message of more than {} bytes", self.limit)
    }
}

impl Error for MessageTooLong {}

impl From<MessageTooLong> for io::Error {
    fn from(error: MessageTooLong) -> Self {
        io::Error::new(ErrorKind::InvalidData, error)
    }
}

/// All of a chat but its protocol.
struct State {
    terminator: Terminator,
    most: usize,
    /// Received, and not looked at yet: the beginning of a terminator, perhaps,
    /// or all that came while output was congested.
    unparsed: Vec<u8>,
    /// How much of the message was handed to the protocol.
    unfinished: usize,
    collected: Vec<u8>,
    /// What follows the output that the stream has accepted.
    output: VecDeque<Piece>,
    /// The bytes in it.
    queued: usize,
    /// Parsing waits for room for output.
    stopped: bool,
    /// A callback wants nothing of what was received.
    discarded: bool,
}

/// Output that the stream has not accepted yet.
enum Piece {
    Data(Vec<u8>),
    Producer(Box<dyn Producer>),
    /// Close here.
    End,
}

impl State {
    /// Counts what is about to be collected of a message that has an end; fails
    /// where that end is still to be found, and it is too much.
    fn count(&mut self, more: usize) -> io::Result<()> {
        if self.terminator == Terminator::Never {
            return Ok(());
        }
        self.unfinished += more;
        if self.unfinished > self.most && !self.terminator.is_length() {
            return Err(MessageTooLong { limit: self.most }.into());
        }
        Ok(())
    }

    /// Whether answers have to wait, and so the messages that would be
    /// answered.
    fn is_congested(&self, connection: &Connection) -> bool {
        connection.is_congested()
            || self.queued >= connection.high_water()
            || self.output.len() >= MAX_PIECES
    }

    /// Closes when all that waits is sent.
    fn is_ending(&self) -> bool {
        matches!(self.output.back(), Some(Piece::End))
    }

    fn push(&mut self, connection: &mut Connection, data: &[u8]) -> io::Result<()> {
        if self.output.is_empty() {
            return connection.send(data);
        }
        self.expect_open(connection)?;
        if self.queued >= connection.high_water() {
            let message = format!("{} bytes wait to be sent already", self.queued);
            return Err(io::Error::new(ErrorKind::WouldBlock, message));
        }
        if !data.is_empty() {
            self.queued += data.len();
            self.output.push_back(Piece::Data(data.to_vec()));
        }
        Ok(())
    }

    fn push_with_producer(
        &mut self,
        connection: &mut Connection,
        producer: Box<dyn Producer>,
    ) -> io::Result<()> {
        self.expect_open(connection)?;
        self.output.push_back(Piece::Producer(producer));
        Ok(())
    }

    fn expect_open(&self, connection: &Connection) -> io::Result<()> {
        if !connection.is_open() || self.is_ending() {
            return Err(io::Error::new(ErrorKind::NotConnected, "push on a closed chat"));
        }
        Ok(())
    }

    fn close_when_done(&mut self, connection: &mut Connection) {
        if self.output.is_empty() {
            connection.close();
        } else if !self.is_ending() {
            self.output.push_back(Piece::End);
        }
    }

    /// Hands output to the stream while that has room, one buffer at the most,
    /// so that a peer who reads fast is not served for ever.
    fn refill(&mut self, connection: &mut Connection) -> io::Result<()> {
        let mut made = 0;
        let mut buffer = Vec::new();
        while made < READ_BUFFER && connection.has_room() {
            match self.output.front_mut() {
                Some(Piece::Data(data)) => {
                    connection.send(data)?;
                    made += data.len();
                    self.queued -= data.len();
                    self.output.pop_front();
                }
                Some(Piece::Producer(producer)) => {
                    buffer.clear();
                    producer.more(&mut buffer)?;
                    connection.send(&buffer)?;
                    made += buffer.len();
                    if buffer.is_empty() {
                        self.output.pop_front();
                    }
                }
                Some(Piece::End) => {
                    self.output.clear();
                    connection.close();
                }
                None => break,
            }
        }
        Ok(())
    }
}
