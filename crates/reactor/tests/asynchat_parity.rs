//! Counterparts of Python 3.11's `test_asynchat.py`, and tests for asynchat's
//! faults. (Those for asyncore, and an introduction to both, are in
//! `asyncore_parity.rs`.)
//!
//! Python runs 32 to 42 over IPv4, with `select` and with `poll`. Here all tests
//! with a connection run over IPv4, IPv6 and Unix sockets (IPv6 is reported as
//! skipped if the machine has none) on the compiled polling backend. CI compiles
//! this suite for epoll and for poll(2) (`--cfg polling_test_poll_backend`).
//!
//! # The methods
//!
//! Each counterpart has the name of the method; those of `api` run in a module
//! for each kind of socket.
//!
//! | # | Python | counterpart | remark |
//! | --- | --- | --- | --- |
//! | 32 | `TestAsynchat.test_line_terminator1` | `api::test_line_terminator1` | each piece is received before the next one is sent, without sleeping |
//! | 33 | `….test_line_terminator2` | `api::test_line_terminator2` | |
//! | 34 | `….test_line_terminator3` | `api::test_line_terminator3` | |
//! | 35 | `….test_numeric_terminator1` | `api::test_numeric_terminator1` | and what follows is collected |
//! | 36 | `….test_numeric_terminator2` | `api::test_numeric_terminator2` | likewise |
//! | 37 | `….test_none_terminator` | `api::test_none_terminator` | [`Terminator::Never`] and no bytes are the same |
//! | 38 | `….test_simple_producer` | `api::test_simple_producer` | any closure is a producer; [`producer_from_reader`] reads a file |
//! | 39 | `….test_string_producer` | `api::test_string_producer` | [`producer_from_iter`] with one item |
//! | 40 | `….test_empty_line` | `api::test_empty_line` | |
//! | 41 | `….test_close_when_done` | `api::test_close_when_done` | and all of the output arrives |
//! | 42 | `….test_push` | `api::test_push` | the compiler rejects other types: `push` takes `&[u8]`, which the test states as a type |
//! | 43 | `TestAsynchatMocked.test_blockingioerror` | `api::test_blockingioerror` | a real socket instead of a mock |
//! | 44 | `TestHelperFunctions.test_find_prefix_at_end` | `test_find_prefix_at_end`, and the test of the same name beside the private function, in `src/chat/terminator.rs` | here its purpose: only a possible start of a terminator is held back |
//! | 45 | `TestNotConnected.test_disallow_negative_terminator` | none | cannot apply: a length is a `usize`. `test_disallow_negative_terminator` tests that the smallest length, 0, completes an empty message at once |
//!
//! # Faults of asynchat
//!
//! | # | asynchat's fault | test |
//! | --- | --- | --- |
//! | 11 | continues after a close; drops a partial line silently | `fault_11_close_stops_callbacks_and_partial_line_is_reported` |
//! | 12 | `push(b"")` calls `send` with no data | `fault_12_empty_push_sends_nothing` |
//! | 13 | no limit on a line or on output | `fault_13_line_and_output_are_limited` |
// The original tests run on Unix, and the copies on Unix sockets too.
#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a panic in a test or its helpers is the report of a failure"
)]

mod parity;

use std::cell::{Cell, RefCell};
use std::io::{self, Cursor, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use log::Level;
use reactor::{
    Cause, Chat, ChatIo, ChatProtocol, CloseReason, Dispatcher, Limits, MessageTooLong, Produced,
    Producer, Reactor, Stream, Terminator, Token, producer_from_iter, producer_from_reader,
};
use socket2::{Domain, Socket, Type};
use std::os::unix::net::UnixStream;

use crate::parity::common::{run, run_with, turn_all, turn_until};
use crate::parity::{Place, connect, over, pair, peer, record, recorded, set_timeouts};

/// The result of a conversation.
#[derive(Clone, Default)]
struct Transcript {
    /// The messages, in order.
    contents: Rc<RefCell<Vec<Vec<u8>>>>,
    /// Input of no complete message.
    rest: Rc<RefCell<Vec<u8>>>,
    /// How the conversation ended.
    ends: Rc<RefCell<Vec<String>>>,
}

impl Transcript {
    #[track_caller]
    fn assert(&self, contents: &[&[u8]], rest: &[u8]) {
        let got = self.contents.borrow();
        let readable = |message: &[u8]| String::from_utf8_lossy(message).into_owned();
        let got: Vec<_> = got.iter().map(|message| readable(message)).collect();
        let expected: Vec<_> = contents.iter().map(|message| readable(message)).collect();
        assert_eq!(got, expected);
        assert_eq!(readable(&self.rest.borrow()), readable(rest));
    }
}

/// Collects messages and their parts.
struct Client {
    transcript: Transcript,
}

impl ChatProtocol for Client {
    fn collect_incoming_data(&mut self, chat: &mut ChatIo<'_>, data: &[u8]) -> io::Result<()> {
        assert!(!data.is_empty(), "an empty part");
        self.transcript.rest.borrow_mut().extend(data);
        chat.collect(data)
    }
    fn found_terminator(&mut self, chat: &mut ChatIo<'_>) -> io::Result<()> {
        let message = chat.take_collected();
        assert_eq!(
            *self.transcript.rest.borrow(),
            message,
            "the message is not the sum of its parts"
        );
        self.transcript.rest.borrow_mut().clear();
        self.transcript.contents.borrow_mut().push(message);
        Ok(())
    }
    fn handle_error(&mut self, _: &mut ChatIo<'_>, cause: &Cause) {
        self.transcript.ends.borrow_mut().push(format!("error: {cause}"));
    }
    fn handle_close(&mut self, _: &mut ChatIo<'_>, reason: &CloseReason) {
        self.transcript.ends.borrow_mut().push(format!("close: {reason}"));
    }
}

/// A client connected to the test, which is the server.
struct Conversation {
    reactor: Reactor,
    client: Token,
    server: Socket,
    transcript: Transcript,
}

impl Conversation {
    fn start(place: &Place, terminator: impl Into<Terminator>) -> Self {
        let mut reactor = Reactor::new().unwrap();
        let (listener, at) = place.listening();
        let transcript = Transcript::default();
        let chat = Chat::new(terminator, Client { transcript: transcript.clone() });
        let client = reactor.add(connect(&at, chat)).unwrap();
        let (server, _) = listener.accept().unwrap();
        set_timeouts(&server);
        Conversation { reactor, client, server, transcript }
    }

    fn with_client<R>(&mut self, f: impl FnOnce(&mut ChatIo<'_>) -> R) -> R {
        self.reactor.context().with_chat(self.client, |_: &mut Client, chat| f(chat)).unwrap()
    }

    fn push(&mut self, data: &[u8]) {
        self.with_client(|chat| chat.push(data)).unwrap();
    }

    fn push_with_producer(&mut self, producer: impl Producer) {
        self.with_client(|chat| chat.push_with_producer(producer)).unwrap();
    }

    /// Expects `message` to arrive at the server.
    #[track_caller]
    fn expect(&mut self, message: &[u8]) {
        let (server, len) = (self.server.try_clone().unwrap(), message.len());
        let got = run_with(&mut self.reactor, move || {
            let mut got = vec![0; len];
            (&server).read_exact(&mut got).unwrap();
            got
        });
        assert_eq!(String::from_utf8_lossy(&got), String::from_utf8_lossy(message));
    }

    /// Sends `data` from the server in pieces, each of which is received before
    /// the next one is sent.
    fn answer(&mut self, data: &[u8], piece: usize) {
        for piece in data.chunks(piece) {
            let expected = self.reactor.stats().received + piece.len() as u64;
            (&self.server).write_all(piece).unwrap();
            turn_until(&mut self.reactor, |reactor| reactor.stats().received >= expected);
            assert_eq!(self.reactor.stats().received, expected, "more than the piece");
        }
    }

    /// Ends the server's output, which closes the client.
    #[track_caller]
    fn end(mut self) -> Transcript {
        self.server.shutdown(Shutdown::Write).unwrap();
        run(&mut self.reactor);
        assert_eq!(*self.transcript.ends.borrow(), ["close: closed by the peer"]);
        self.transcript
    }
}

/// Tests that run over each kind of socket.
mod api {
    use super::*;

    /// Sends lines that end in `terminator` in pieces of several lengths.
    fn check_line_terminator(place: &Place, terminator: &str) {
        let lines = format!("hello world{terminator}I'm not dead yet!{terminator}");
        for piece in 1..=3 {
            let mut conversation = Conversation::start(place, terminator);
            conversation.push(b"hello ");
            conversation.push(format!("world{terminator}").as_bytes());
            conversation.push(format!("I'm not dead yet!{terminator}").as_bytes());
            conversation.expect(lines.as_bytes());
            conversation.answer(lines.as_bytes(), piece);
            conversation.end().assert(&[b"hello world", b"I'm not dead yet!"], b"");
        }
    }

    pub(super) fn test_line_terminator1(place: &Place) {
        check_line_terminator(place, "\n");
    }

    pub(super) fn test_line_terminator2(place: &Place) {
        check_line_terminator(place, "\r\n");
    }

    pub(super) fn test_line_terminator3(place: &Place) {
        check_line_terminator(place, "qqq");
    }

    const DATA: &[u8] = b"hello world, I'm not dead yet!\n";

    /// The first `length` bytes are a message; the rest belongs to none.
    fn check_numeric_terminator(place: &Place, length: usize) {
        for piece in [1, 4, DATA.len()] {
            let mut conversation = Conversation::start(place, Terminator::Length(length));
            conversation.push(DATA);
            conversation.expect(DATA);
            conversation.answer(DATA, piece);
            conversation.end().assert(&[&DATA[..length]], &DATA[length..]);
        }
    }

    pub(super) fn test_numeric_terminator1(place: &Place) {
        check_numeric_terminator(place, 1);
    }

    pub(super) fn test_numeric_terminator2(place: &Place) {
        check_numeric_terminator(place, 6);
    }

    pub(super) fn test_none_terminator(place: &Place) {
        for terminator in [Terminator::Never, b"".into()] {
            let mut conversation = Conversation::start(place, terminator);
            conversation.push(DATA);
            conversation.expect(DATA);
            conversation.answer(DATA, 3);
            conversation.end().assert(&[], DATA);
        }
    }

    const LINES: &[u8] = b"hello world\nI'm not dead yet!\n";

    pub(super) fn test_simple_producer(place: &Place) {
        // Produced in pieces of 8 bytes: by a closure, and from a reader.
        let mut rest = LINES;
        let made: Rc<Cell<u32>> = Rc::default();
        let count = Rc::clone(&made);
        let closure = move |buffer: &mut Vec<u8>| {
            count.set(count.get() + 1);
            let (piece, more) = rest.split_at(rest.len().min(8));
            buffer.extend(piece);
            rest = more;
            Ok(if piece.is_empty() { Produced::End } else { Produced::Data })
        };
        let mut conversation = Conversation::start(place, "\n");
        conversation.push_with_producer(closure);
        conversation.push_with_producer(producer_from_reader(Cursor::new(LINES)));
        conversation.push(b"and done");
        assert_eq!(made.get(), 0, "produced before it can be sent");
        conversation.expect(&[LINES, LINES, b"and done"].concat());
        assert_eq!(made.get(), 4 + 1, "four pieces of up to 8 bytes, then the end");
        conversation.answer(LINES, 7);
        conversation.end().assert(&[b"hello world", b"I'm not dead yet!"], b"");
    }

    pub(super) fn test_string_producer(place: &Place) {
        let mut conversation = Conversation::start(place, "\n");
        conversation.push_with_producer(producer_from_iter([LINES]));
        conversation.expect(LINES);
        conversation.answer(LINES, LINES.len());
        conversation.end().assert(&[b"hello world", b"I'm not dead yet!"], b"");
    }

    pub(super) fn test_empty_line(place: &Place) {
        const LINES: &[u8] = b"hello world\n\nI'm not dead yet!\n";
        for piece in [1, LINES.len()] {
            let mut conversation = Conversation::start(place, "\n");
            conversation.push(LINES);
            conversation.expect(LINES);
            conversation.answer(LINES, piece);
            conversation.end().assert(&[b"hello world", b"", b"I'm not dead yet!"], b"");
        }
    }

    pub(super) fn test_close_when_done(place: &Place) {
        // Pushed as data, and by a producer that has not run yet.
        for produced in [false, true] {
            let mut conversation = Conversation::start(place, "\n");
            if produced {
                conversation.push_with_producer(producer_from_iter([LINES]));
            } else {
                conversation.push(LINES);
            }
            let late = conversation.with_client(|chat| {
                chat.close_when_done();
                chat.push(b"too late").unwrap_err()
            });
            assert_eq!(late.kind(), ErrorKind::NotConnected);
            let (server, transcript) = (conversation.server, conversation.transcript);
            let all = run_with(&mut conversation.reactor, move || {
                let mut all = Vec::new();
                (&server).read_to_end(&mut all).unwrap();
                // This fails if the client has closed already.
                let _ = (&server).write_all(LINES);
                all
            });
            assert_eq!(all, LINES, "not all output was sent before the close");
            turn_until(&mut conversation.reactor, |_| !transcript.ends.borrow().is_empty());
            assert_eq!(*transcript.ends.borrow(), ["close: closed"]);
            transcript.assert(&[], b"");
        }
    }

    pub(super) fn test_push(place: &Place) {
        // `push` takes bytes only: no number and no text that needs encoding.
        let push = |chat: &mut ChatIo<'_>, data: &[u8]| chat.push(data);
        let mut conversation = Conversation::start(place, "\n");
        conversation.with_client(|client| {
            let (array, mut vector) = (*b"bytes\n", b"bytes\n".to_vec());
            push(client, b"bytes\n").unwrap();
            push(client, &array).unwrap();
            push(client, &vector).unwrap();
            vector.fill(0); // it was copied
            push(client, &Box::<[u8]>::from(array)).unwrap();
        });
        let expected = b"bytes\nbytes\nbytes\nbytes\n";
        conversation.expect(expected);
        conversation.answer(expected, expected.len());
        conversation.end().assert(&[b"bytes", b"bytes", b"bytes", b"bytes"], b"");
    }

    pub(super) fn test_blockingioerror(place: &Place) {
        let mut reactor = Reactor::new().unwrap();
        let (listener, at) = place.listening();
        let ours = peer(&at);
        let (_server, _) = listener.accept().unwrap();
        let transcript = Transcript::default();
        let chat = Chat::new("\n", Client { transcript: transcript.clone() });
        let mut stream = Stream::new(OwnedFd::from(ours), chat).unwrap();
        // Reported as readable without any input.
        stream.handle_read(reactor.context()).unwrap();
        assert!(stream.poll_close(reactor.context()).is_none());
        transcript.assert(&[], b"");
        assert!(transcript.ends.borrow().is_empty());
    }
}

over! { Ipv4 in test_asynchat_over_ipv4:
    test_line_terminator1 test_line_terminator2 test_line_terminator3 test_numeric_terminator1
    test_numeric_terminator2 test_none_terminator test_simple_producer test_string_producer
    test_empty_line test_close_when_done test_push test_blockingioerror
}

over! { Ipv6 in test_asynchat_over_ipv6:
    test_line_terminator1 test_line_terminator2 test_line_terminator3 test_numeric_terminator1
    test_numeric_terminator2 test_none_terminator test_simple_producer test_string_producer
    test_empty_line test_close_when_done test_push test_blockingioerror
}

over! { Unix in test_asynchat_over_unix:
    test_line_terminator1 test_line_terminator2 test_line_terminator3 test_numeric_terminator1
    test_numeric_terminator2 test_none_terminator test_simple_producer test_string_producer
    test_empty_line test_close_when_done test_push test_blockingioerror
}

/// Sends `input` to a stream, and runs turns until all of it was received.
fn received(terminator: impl Into<Terminator>, input: &[u8]) -> (Reactor, Transcript, Socket) {
    let mut reactor = Reactor::new().unwrap();
    let transcript = Transcript::default();
    let (ours, theirs) = pair();
    let chat = Chat::new(terminator, Client { transcript: transcript.clone() });
    reactor.add(Stream::new(ours, chat).unwrap()).unwrap();
    receive(&mut reactor, &theirs, input);
    (reactor, transcript, theirs)
}

fn receive(reactor: &mut Reactor, mut theirs: &Socket, input: &[u8]) {
    let expected = reactor.stats().received + input.len() as u64;
    theirs.write_all(input).unwrap();
    turn_until(reactor, |reactor| reactor.stats().received == expected);
}

#[test]
fn test_find_prefix_at_end() {
    // Input that cannot start a terminator is collected at once.
    let (mut reactor, transcript, theirs) = received("\r\n", b"qwertydkjf");
    transcript.assert(&[], b"qwertydkjf");
    // A possible start of a terminator is held back, and nothing else.
    receive(&mut reactor, &theirs, b"qwerty\r");
    transcript.assert(&[], b"qwertydkjfqwerty");
    // It was the start of a terminator.
    receive(&mut reactor, &theirs, b"\n");
    transcript.assert(&[b"qwertydkjfqwerty"], b"");
    // It was not the start of a terminator.
    receive(&mut reactor, &theirs, b"\r");
    transcript.assert(&[b"qwertydkjfqwerty"], b"");
    receive(&mut reactor, &theirs, b"x");
    transcript.assert(&[b"qwertydkjfqwerty"], b"\rx");
    // A terminator that overlaps with itself.
    let (mut reactor, transcript, theirs) = received("aab", b"aa");
    transcript.assert(&[], b"");
    receive(&mut reactor, &theirs, b"a");
    transcript.assert(&[], b"a");
    receive(&mut reactor, &theirs, b"b");
    transcript.assert(&[b"a"], b"");
}

#[test]
fn test_disallow_negative_terminator() {
    // `Terminator::Length(-1)` does not compile. A length of 0 is complete
    // before any input, and found once.
    let (_reactor, transcript, _theirs) = received(Terminator::Length(usize::MIN), b"anything");
    transcript.assert(&[b""], b"anything");
}

// --- faults of asynchat ------------------------------------------------------

/// Closes a conversation within `found_terminator`.
type End = fn(&mut ChatIo<'_>);

/// Calls `end` for its first message.
struct Ends {
    found: Rc<Cell<u32>>,
    collected: Rc<Cell<usize>>,
    unfinished: Rc<Cell<Option<usize>>>,
    end: Option<End>,
}

impl ChatProtocol for Ends {
    fn collect_incoming_data(&mut self, _: &mut ChatIo<'_>, data: &[u8]) -> io::Result<()> {
        self.collected.set(self.collected.get() + data.len());
        Ok(())
    }
    fn found_terminator(&mut self, chat: &mut ChatIo<'_>) -> io::Result<()> {
        self.found.set(self.found.get() + 1);
        if let Some(end) = self.end {
            end(chat);
        }
        Ok(())
    }
    fn handle_eof(&mut self, chat: &mut ChatIo<'_>) -> io::Result<()> {
        self.unfinished.set(Some(chat.partial_len()));
        chat.close_when_done();
        Ok(())
    }
}

#[test]
fn fault_11_close_stops_callbacks_and_partial_line_is_reported() {
    let ends: [Option<End>; 5] = [
        None,
        Some(|chat| chat.io().close()),
        Some(|chat| chat.io().abort()),
        Some(|chat| {
            chat.push(b"bye").unwrap();
            chat.close_when_done();
        }),
        Some(|chat| {
            let token = chat.io().token();
            chat.context().close(token);
        }),
    ];
    for (which, end) in ends.into_iter().enumerate() {
        let mut reactor = Reactor::new().unwrap();
        let found: Rc<Cell<u32>> = Rc::default();
        let (collected, unfinished) = (Rc::<Cell<usize>>::default(), Rc::default());
        let protocol = Ends {
            found: Rc::clone(&found),
            collected: Rc::clone(&collected),
            unfinished: Rc::clone(&unfinished),
            end,
        };
        let (ours, theirs) = pair();
        // All in one read.
        (&theirs).write_all(b"one\ntwo\nthree\nfou").unwrap();
        theirs.shutdown(Shutdown::Write).unwrap();
        reactor.add(Stream::new(ours, Chat::new("\n", protocol)).unwrap()).unwrap();
        run(&mut reactor);
        if end.is_none() {
            assert_eq!((found.get(), collected.get()), (3, 14));
            assert_eq!(unfinished.get(), Some(3), "bytes of the fourth message");
        } else {
            assert_eq!(
                (found.get(), collected.get()),
                (1, 3),
                "end {which}: callbacks after the close"
            );
            assert_eq!(unfinished.get(), None, "end {which}");
        }
    }

    // The default `handle_eof` logs a warning, but only for a partial message.
    for (input, warnings) in [(&b"one\nfou"[..], 1), (b"one\n", 0)] {
        record();
        let (mut reactor, _came, theirs) = received("\n", input);
        drop(theirs);
        run(&mut reactor);
        let logged = recorded(Level::Warn);
        assert_eq!(logged.len(), warnings, "{logged:?}");
        assert!(logged.iter().all(|line| line.contains("3 bytes into a message")), "{logged:?}");
    }
}

/// Where asynchat takes a length of 0 for none, an empty message is complete at once.
#[test]
fn length_of_zero_is_an_empty_message() {
    struct Lengths(Rc<RefCell<Vec<Vec<u8>>>>);
    impl ChatProtocol for Lengths {
        fn found_terminator(&mut self, chat: &mut ChatIo<'_>) -> io::Result<()> {
            let message = chat.take_collected();
            // Alternately a length of one digit, and as many bytes.
            if self.0.borrow().len().is_multiple_of(2) {
                chat.set_terminator(Terminator::Length(usize::from(message[0] - b'0')));
            } else {
                chat.set_terminator(Terminator::Length(1));
            }
            self.0.borrow_mut().push(message);
            Ok(())
        }
    }
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let mut reactor = Reactor::new().unwrap();
    let messages = Rc::default();
    let chat = Chat::new(Terminator::Length(1), Lengths(Rc::clone(&messages)));
    reactor.add(Stream::new(ours, chat).unwrap()).unwrap();
    theirs.write_all(b"2ab00").unwrap();
    drop(theirs);
    run(&mut reactor);
    assert_eq!(*messages.borrow(), [&b"2"[..], b"ab", b"0", b"", b"0", b""]);
}

#[test]
fn fault_12_empty_push_sends_nothing() {
    // SEQPACKET keeps message boundaries, so an empty message is visible: it
    // looks like end of input.
    let (ours, theirs) = Socket::pair(Domain::UNIX, Type::SEQPACKET, None).unwrap();
    theirs.set_nonblocking(true).unwrap();
    let mut reactor = Reactor::new().unwrap();
    let transcript = Transcript::default();
    let stream =
        Stream::new(ours, Chat::new("\n", Client { transcript: transcript.clone() })).unwrap();
    let token = reactor.add(stream).unwrap();
    turn_all(&mut reactor);
    let pushed = reactor.context().with_chat(token, |_: &mut Client, chat| {
        chat.push(b"")?;
        // Also behind queued output.
        chat.push_with_producer(producer_from_iter([b"one"]))?;
        chat.push(b"")?;
        chat.push_with_producer(producer_from_iter(["", "", "two"]))
    });
    pushed.unwrap().unwrap();
    let mut nothing_yet = [0; 8];
    let error = (&theirs).read(&mut nothing_yet).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WouldBlock, "an empty message was sent");
    turn_until(&mut reactor, |reactor| reactor.stats().sent == 6);
    turn_all(&mut reactor);
    let mut messages = Vec::new();
    let mut buffer = [0; 8];
    while let Ok(read) = (&theirs).read(&mut buffer) {
        assert!(read > 0, "an empty message, after {messages:?}");
        messages.push(buffer[..read].to_vec());
    }
    // The output of one callback is one message.
    assert_eq!(messages, [b"onetwo"]);
    assert!(transcript.ends.borrow().is_empty());
}

#[test]
fn fault_13_line_and_output_are_limited() {
    /// Records a close because of a message that is too long.
    #[derive(Clone, Default)]
    struct Capped {
        /// `true` if it collects the input instead of ignoring it.
        keeps: bool,
        found: Rc<Cell<u32>>,
        too_long: Rc<Cell<Option<MessageTooLong>>>,
    }
    impl ChatProtocol for Capped {
        fn collect_incoming_data(&mut self, chat: &mut ChatIo<'_>, data: &[u8]) -> io::Result<()> {
            if self.keeps { chat.collect(data) } else { Ok(()) }
        }
        fn found_terminator(&mut self, chat: &mut ChatIo<'_>) -> io::Result<()> {
            self.found.set(self.found.get() + 1);
            chat.take_collected();
            Ok(())
        }
        fn handle_close(&mut self, _: &mut ChatIo<'_>, reason: &CloseReason) {
            if let Cause::Error(error) = &reason.cause {
                let error = error.get_ref().and_then(|error| error.downcast_ref());
                self.too_long.set(error.copied());
            }
        }
    }

    // A line of exactly the maximum length, and one that is longer.
    for (len, ends, keeps) in
        [(1_000, false, false), (1_000, false, true), (1_001, true, false), (1_001, true, true)]
    {
        let mut reactor = Reactor::new().unwrap();
        let capped = Capped { keeps, ..Capped::default() };
        let (ours, theirs) = pair();
        let chat = Chat::new("\n", capped.clone()).with_max_message(1_000);
        reactor.add(Stream::new(ours, chat).unwrap()).unwrap();
        let mut line = vec![b'x'; len];
        line.push(b'\n');
        (&theirs).write_all(&line).unwrap();
        if ends {
            turn_until(&mut reactor, |_| capped.too_long.get().is_some() || capped.found.get() > 0);
            assert_eq!(capped.too_long.get(), Some(MessageTooLong { limit: 1_000 }));
            assert_eq!(capped.found.get(), 0);
        } else {
            turn_until(&mut reactor, |_| capped.found.get() == 1);
            turn_all(&mut reactor);
            assert_eq!(capped.too_long.get(), None);
        }
    }

    // Output above the limit is rejected; the output accepted before is sent.
    let (ours, theirs) = pair();
    let mut reactor = Reactor::new().unwrap();
    let stream = Stream::new(ours, Chat::new("\n", Capped::default())).unwrap();
    let token = reactor.add(stream).unwrap();
    let mut accepted = 0;
    let pushed = reactor.context().with_chat(token, |_: &mut Capped, chat| {
        let error = loop {
            match chat.push(&[b'x'; 4096]) {
                Ok(()) => accepted += 4096,
                Err(error) => break error,
            }
            assert!(accepted < 100_000_000, "output is not limited");
        };
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        assert!(chat.io().unsent() < Limits::default().high_water + 4096);
        chat.close_when_done();
    });
    pushed.unwrap();
    let got = run_with(&mut reactor, move || {
        let mut got = Vec::new();
        (&theirs).read_to_end(&mut got).unwrap();
        got.len()
    });
    assert_eq!(got, accepted);
}
