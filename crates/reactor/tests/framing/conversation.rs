//! Runs a [`Chat`] with a peer and checks the messages that it finds.

use std::cell::RefCell;
use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::rc::Rc;
use std::time::{Duration, Instant};

use reactor::{
    Cause, Chat, ChatIo, ChatProtocol, CloseReason, Limits, MessageTooLong, Reactor, Stream,
    Terminator, producer_from_iter,
};
use socket2::SockRef;

use crate::reference::{Parsed, parse};

/// A time limit that no conversation reaches, even on a busy machine.
const DEADLINE: Duration = Duration::from_secs(20);

/// The input of the peer, and the set-up of the receiver.
#[derive(Clone, Debug, Default)]
pub(crate) struct Conversation {
    pub(crate) input: Vec<u8>,
    /// The first terminator, and the ones set after each message.
    pub(crate) terminators: Vec<Terminator>,
    /// The lengths of the peer's writes, repeated; each is read separately.
    pub(crate) pieces: Vec<usize>,
    /// The maximum message length; `None` for the default.
    pub(crate) max_message: Option<usize>,
    /// Sends each message back.
    pub(crate) answers: Option<Answers>,
    /// Closes in this way at the message with this index.
    pub(crate) end: Option<(usize, End)>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Answers {
    pub(crate) high_water: usize,
    /// The number of bytes that the peer reads after each write.
    pub(crate) reads: usize,
    /// Every second answer comes from a producer.
    pub(crate) produced: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// `close_when_done`.
    WhenDone,
    /// `Io::close`.
    Close,
    /// `Context::close`.
    Token,
    /// `discard_buffers`, then `close_when_done` at the end of the input.
    Discard,
}

/// The callbacks of a conversation.
#[derive(Debug, Default)]
struct Found {
    parsed: Parsed,
    eof: bool,
    closed: bool,
    faults: Vec<String>,
}

struct Collector {
    found: Rc<RefCell<Found>>,
    terminators: std::vec::IntoIter<Terminator>,
    answers: Option<Answers>,
    end: Option<(usize, End)>,
}

impl ChatProtocol for Collector {
    fn collect_incoming_data(&mut self, chat: &mut ChatIo<'_>, data: &[u8]) -> io::Result<()> {
        let mut found = self.found.borrow_mut();
        if data.is_empty() || found.eof || found.closed {
            found.faults.push(format!("{} bytes at a wrong time", data.len()));
        }
        chat.collect(data)
    }

    fn found_terminator(&mut self, chat: &mut ChatIo<'_>) -> io::Result<()> {
        let message = chat.take_collected();
        if let Some(terminator) = self.terminators.next() {
            chat.set_terminator(terminator);
        }
        let mut found = self.found.borrow_mut();
        let number = found.parsed.messages.len();
        let outcome = match self.answers {
            Some(Answers { produced: true, .. }) if number % 2 == 1 => {
                let message: Vec<_> = message.chunks(7).map(<[u8]>::to_vec).collect();
                chat.push_with_producer(producer_from_iter(message))
            }
            Some(_) => chat.push(&message),
            None => Ok(()),
        };
        if let Err(error) = outcome {
            found.faults.push(format!("answer {number}: {error}"));
        }
        found.parsed.messages.push(message);
        match self.end {
            Some((last, end)) if last == number => match end {
                End::WhenDone => chat.close_when_done(),
                End::Close => chat.io().close(),
                End::Token => {
                    let token = chat.io().token();
                    chat.context().close(token);
                }
                End::Discard => chat.discard_buffers(),
            },
            _ => {}
        }
        Ok(())
    }

    fn handle_eof(&mut self, chat: &mut ChatIo<'_>) -> io::Result<()> {
        let mut found = self.found.borrow_mut();
        found.eof = true;
        found.parsed.unfinished = chat.partial_len();
        found.parsed.rest = chat.take_collected();
        chat.close_when_done();
        Ok(())
    }

    fn handle_error(&mut self, _chat: &mut ChatIo<'_>, cause: &Cause) {
        let mut found = self.found.borrow_mut();
        let Cause::Error(error) = cause else { return found.faults.push(cause.to_string()) };
        match error.get_ref() {
            Some(inner) if inner.is::<MessageTooLong>() => found.parsed.too_long = true,
            _ => found.faults.push(cause.to_string()),
        }
    }

    fn handle_close(&mut self, _chat: &mut ChatIo<'_>, _reason: &CloseReason) {
        self.found.borrow_mut().closed = true;
    }
}

impl Conversation {
    /// Returns an error if the result differs from that of the simple parser.
    pub(crate) fn check(&self, reactor: &mut Reactor) -> Result<(), String> {
        let (found, answers) = self.run(reactor)?;
        let mut expected =
            parse(&self.input, &self.terminators, self.max_message.unwrap_or(64 * 1024));
        let ended = self.end.is_some_and(|(last, _)| last < expected.messages.len());
        if let Some((last, _)) = self.end.filter(|_| ended) {
            expected.messages.truncate(last + 1);
        }
        let parsed = &found.parsed;
        if !found.faults.is_empty() {
            return Err(found.faults.join("; "));
        }
        // The discarded part depends on the input received before.
        if matches!(self.end, Some((_, End::Discard))) && ended {
            return match parsed.messages.starts_with(&expected.messages) {
                true if self.pieces[0] < self.input.len() => Ok(()),
                true if parsed.messages == expected.messages => Ok(()),
                _ => Err(format!("found {parsed:?} after a discard, expected {expected:?}")),
            };
        }
        if parsed.messages != expected.messages {
            return Err(format!("found {parsed:?}, expected {expected:?}"));
        }
        if ended && (found.eof || parsed.too_long) {
            return Err("callbacks after the close".to_owned());
        }
        if !ended && parsed.too_long != expected.too_long {
            return Err(format!("too long: {}", parsed.too_long));
        }
        let complete = !ended && !expected.too_long;
        if complete && (&parsed.rest, parsed.unfinished) != (&expected.rest, expected.unfinished) {
            return Err(format!("left {parsed:?}, expected {expected:?}"));
        }
        if self.answers.is_some() {
            let all = expected.messages.concat();
            let flushed = complete || matches!(self.end, Some((_, End::WhenDone)) if ended);
            if !all.starts_with(&answers) || (flushed && answers.len() < all.len()) {
                return Err(format!("{} of {} bytes of answers", answers.len(), all.len()));
            }
        }
        Ok(())
    }

    /// Returns the callbacks, and the answers that the peer received.
    fn run(&self, reactor: &mut Reactor) -> Result<(Found, Vec<u8>), String> {
        let (ours, mut theirs) = testing::local_pair().unwrap();
        theirs.set_nonblocking(true).unwrap();
        SockRef::from(&ours).set_send_buffer_size(4096).unwrap();
        let found: Rc<RefCell<Found>> = Rc::default();
        let mut terminators = self.terminators.clone().into_iter();
        let first = terminators.next().unwrap_or(Terminator::Never);
        let collector = Collector {
            found: Rc::clone(&found),
            terminators,
            answers: self.answers,
            end: self.end,
        };
        let mut chat = Chat::new(first, collector);
        if let Some(max) = self.max_message {
            chat = chat.with_max_message(max);
        }
        let high_water = self.answers.map_or(64 * 1024, |answers| answers.high_water);
        let limits = Limits { high_water, low_water: high_water / 4, ..Limits::default() };
        let token = reactor.add(Stream::new(ours, chat).unwrap().with_limits(limits)).unwrap();

        let begin = Instant::now();
        let mut input = self.input.as_slice();
        let mut lens = self.pieces.iter().cycle();
        let mut answers = Vec::new();
        let mut writing = true;
        while !found.borrow().closed {
            if begin.elapsed() > DEADLINE {
                reactor.context().close(token);
                return Err("the conversation did not end".to_owned());
            }
            if writing && input.is_empty() {
                writing = false;
                theirs.shutdown(Shutdown::Write).unwrap();
            }
            let mut may_write = writing;
            if writing {
                let len = lens.next().map_or(1, |len| (*len).clamp(1, input.len()));
                match theirs.write(&input[..len]) {
                    Ok(written) => input = &input[written..],
                    Err(error) if error.kind() == ErrorKind::WouldBlock => may_write = false,
                    // The chat has closed already.
                    Err(_) => input = &[],
                }
            }
            reactor.turn(Some(Duration::ZERO)).unwrap();
            let reads = match self.answers {
                Some(answers) if may_write => answers.reads,
                // A peer that reads nothing now would wait forever.
                Some(answers) => answers.reads.max(1),
                None => usize::MAX,
            };
            let _ = Read::by_ref(&mut theirs).take(reads as u64).read_to_end(&mut answers);
        }
        theirs.set_nonblocking(false).unwrap();
        // A reset follows all delivered output.
        let _ = theirs.read_to_end(&mut answers);
        Ok((found.take(), answers))
    }
}
