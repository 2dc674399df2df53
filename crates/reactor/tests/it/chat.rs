//! Chats: output of their own, producers that wait, timeouts and prefixed messages.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::rc::Rc;
use std::time::{Duration, Instant};

use reactor::{
    Cause, Chat, ChatIo, ChatProtocol, CloseReason, MessageTooLong, Produced, Reactor, Stream,
    Terminator, Token,
};

use crate::common::{
    LocalStream, Log, assert_idle, local_pair, reset, run, tcp_pair, turn_all, turn_until,
};

type React = Box<dyn FnMut(&mut ChatIo<'_>, Vec<u8>) -> io::Result<()>>;

/// Logs its messages, then runs the closure of the test.
struct Messages {
    log: Log,
    react: React,
}

impl Messages {
    fn new(
        log: &Log,
        react: impl FnMut(&mut ChatIo<'_>, Vec<u8>) -> io::Result<()> + 'static,
    ) -> Self {
        Messages { log: log.clone(), react: Box::new(react) }
    }

    fn passive(log: &Log) -> Self {
        Self::new(log, |_, _| Ok(()))
    }
}

impl ChatProtocol for Messages {
    fn found_terminator(&mut self, chat: &mut ChatIo<'_>) -> io::Result<()> {
        let message = chat.take_collected();
        self.log.note(String::from_utf8_lossy(&message));
        (self.react)(chat, message)
    }

    fn handle_error(&mut self, _: &mut ChatIo<'_>, _: &Cause) {}

    fn handle_close(&mut self, _: &mut ChatIo<'_>, reason: &CloseReason) {
        self.log.note(format!("close: {reason}"));
    }
}

/// Adds a chat over one end of a socket pair, and returns the other.
fn add<P: ChatProtocol>(reactor: &mut Reactor, chat: Chat<P>) -> (Token, LocalStream) {
    let (ours, theirs) = local_pair().unwrap();
    theirs.set_nonblocking(true).unwrap();
    let token = reactor.add(Stream::new(ours, chat).unwrap()).unwrap();
    (token, theirs)
}

/// Runs turns, and returns what `peer` received.
fn received(reactor: &mut Reactor, mut peer: &LocalStream) -> String {
    turn_all(reactor);
    let mut buffer = vec![0; 100_000];
    match peer.read(&mut buffer) {
        Ok(read) => String::from_utf8(buffer[..read].to_vec()).unwrap(),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::WouldBlock);
            String::new()
        }
    }
}

// --- output -------------------------------------------------------------------

#[test]
fn chat_writable_is_called_until_it_has_no_output() {
    struct Countdown(u32);
    impl ChatProtocol for Countdown {
        fn found_terminator(&mut self, _: &mut ChatIo<'_>) -> io::Result<()> {
            Ok(())
        }
        fn writable(&self) -> bool {
            self.0 > 0
        }
        fn handle_write(&mut self, chat: &mut ChatIo<'_>) -> io::Result<()> {
            self.0 -= 1;
            chat.push(self.0.to_string().as_bytes())
        }
    }
    let mut reactor = Reactor::new().unwrap();
    let (token, peer) = add(&mut reactor, Chat::new("\n", Countdown(5)));
    assert_eq!(received(&mut reactor, &peer), "43210");
    assert_idle(&mut reactor);
    // Output that another channel gives it.
    reactor.context().with_chat(token, |countdown: &mut Countdown, _| countdown.0 = 2).unwrap();
    assert_eq!(received(&mut reactor, &peer), "10");
}

/// A producer of what is in `pieces`: an empty piece is the end.
fn queue(
    pieces: &Rc<RefCell<VecDeque<&'static str>>>,
) -> impl FnMut(&mut Vec<u8>) -> io::Result<Produced> + 'static {
    let pieces = Rc::clone(pieces);
    move |buffer: &mut Vec<u8>| match pieces.borrow_mut().pop_front() {
        None => Ok(Produced::Later),
        Some("") => Ok(Produced::End),
        Some(piece) => {
            buffer.extend(piece.as_bytes());
            Ok(Produced::Data)
        }
    }
}

#[test]
fn producer_without_data_waits_for_resume_output() {
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let pieces = Rc::new(RefCell::new(VecDeque::from(["a"])));
    let producer = queue(&pieces);
    let mut producer = Some(producer);
    let chat = Messages::new(&log, move |chat, _| {
        chat.push_with_producer(producer.take().unwrap())?;
        chat.push(b"behind")?;
        chat.close_when_done();
        Ok(())
    });
    let (token, mut peer) = add(&mut reactor, Chat::new("\n", chat));
    peer.write_all(b"go\n").unwrap();
    assert_eq!(received(&mut reactor, &peer), "a");
    // It is not called again by itself, and nothing spins.
    pieces.borrow_mut().extend(["b", "c"]);
    assert_idle(&mut reactor);
    assert_eq!(received(&mut reactor, &peer), "");
    let resume = |reactor: &mut Reactor| {
        reactor.context().with_chat(token, |_: &mut Messages, chat| chat.resume_output()).unwrap();
    };
    resume(&mut reactor);
    assert_eq!(received(&mut reactor, &peer), "bc");
    pieces.borrow_mut().extend(["d", ""]);
    resume(&mut reactor);
    assert_eq!(received(&mut reactor, &peer), "dbehind");
    run(&mut reactor);
    assert_eq!(log.lines(), ["go", "close: closed"]);
}

/// What was accepted for sending and waits behind a producer is part of what was lost.
#[test]
fn output_behind_a_producer_counts_as_unsent() {
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let mut producer = Some(queue(&Rc::default()));
    let chat = Messages::new(&log, move |chat, _| {
        chat.push_with_producer(producer.take().unwrap())?;
        chat.push(b"behind")
    });
    let (token, mut peer) = add(&mut reactor, Chat::new("\n", chat));
    peer.write_all(b"go\n").unwrap();
    turn_until(&mut reactor, |_| log.count("go") == 1);
    let open = reactor.context().channels();
    assert_eq!(open.iter().find(|channel| channel.token == token).unwrap().unsent, 6);
    reactor.close_all();
    assert!(log.lines()[1].ends_with(", 6 bytes unsent"), "{:?}", log.lines());
}

/// Replies that wait behind such a producer are bounded: parsing stops, without
/// spinning, and continues once they are sent.
#[test]
fn producer_without_data_stops_parsing_at_the_limit() {
    const LINES: usize = 1_000;
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let pieces = Rc::default();
    let mut producer = Some(queue(&pieces));
    let chat = Messages::new(&log, move |chat, _| match producer.take() {
        Some(producer) => chat.push_with_producer(producer),
        None => chat.push(b"x"),
    });
    let (token, mut peer) = add(&mut reactor, Chat::new("\n", chat));
    peer.write_all("m\n".repeat(1 + LINES).as_bytes()).unwrap();
    assert_eq!(received(&mut reactor, &peer), "");
    let parsed = log.count("m");
    assert!(parsed < LINES / 2, "{parsed} messages parsed");
    assert_idle(&mut reactor);
    assert_eq!(log.count("m"), parsed);
    pieces.borrow_mut().push_back("");
    reactor.context().with_chat(token, |_: &mut Messages, chat| chat.resume_output()).unwrap();
    assert_eq!(received(&mut reactor, &peer), "x".repeat(LINES));
    assert_idle(&mut reactor);
}

/// Unless the queue is full, parsing continues once the stream has room: a later message
/// may be what resumes the producer.
#[test]
fn producer_without_data_does_not_stop_parsing_below_the_limit() {
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let pieces = Rc::default();
    let mut producer = Some(queue(&pieces));
    let source = Rc::clone(&pieces);
    let chat = Messages::new(&log, move |chat, message| {
        if message == b"large" {
            // More than the kernel accepts at once: the stream is congested.
            chat.push(&vec![b'x'; 1_000_000])?;
            return chat.push_with_producer(producer.take().unwrap());
        }
        source.borrow_mut().extend(["end", ""]);
        chat.resume_output();
        Ok(())
    });
    let (_token, mut peer) = add(&mut reactor, Chat::new("\n", chat));
    peer.write_all(b"large\nresume\n").unwrap();
    turn_all(&mut reactor);
    assert_eq!(log.lines(), ["large"]);
    let mut output = String::new();
    turn_until(&mut reactor, |reactor| {
        output.push_str(&received(reactor, &peer));
        output.len() == 1_000_003
    });
    assert!(output.ends_with("xend"));
    assert_eq!(log.lines(), ["large", "resume"]);
}

// --- input --------------------------------------------------------------------

/// As before STARTTLS: plain text that an attacker injected behind the command.
#[test]
fn unparsed_returns_what_is_pipelined_behind_the_message() {
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let unparsed = log.clone();
    let chat = Messages::new(&log, move |chat, _| {
        unparsed.note(format!("behind: {:?}", String::from_utf8_lossy(chat.unparsed())));
        Ok(())
    });
    let (token, mut peer) = add(&mut reactor, Chat::new("\r\n", chat));
    peer.write_all(b"one\r\ntwo\r\nthr").unwrap();
    turn_all(&mut reactor);
    let expected = ["one", "behind: \"two\\r\\nthr\"", "two", "behind: \"thr\""];
    assert_eq!(log.lines(), expected);
    // The start of a terminator is held back, and not parsed yet.
    peer.write_all(b"ee\r").unwrap();
    turn_all(&mut reactor);
    let held_back = |_: &mut Messages, chat: &mut ChatIo<'_>| {
        (chat.collected().to_vec(), chat.unparsed().to_vec())
    };
    let held_back = reactor.context().with_chat(token, held_back);
    assert_eq!(held_back, Some((b"three".to_vec(), b"\r".to_vec())));
}

/// Messages that wait for room for their replies have arrived before the reset.
#[test]
fn invariant_4_messages_received_before_a_reset_are_parsed() {
    const MESSAGES: usize = 2_000;
    let (mut peer, ours) = tcp_pair();
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let chat = Messages::new(&log, |chat, _| chat.push(&[b'x'; 10_000]));
    reactor.add(Stream::new(ours, Chat::new("\n", chat)).unwrap()).unwrap();
    peer.write_all("m\n".repeat(MESSAGES).as_bytes()).unwrap();
    turn_until(&mut reactor, |_| log.has("m"));
    turn_all(&mut reactor);
    assert!(log.count("m") < MESSAGES, "no reply had to wait");
    reset(peer);
    turn_until(&mut reactor, |_| log.has("close"));
    assert_eq!(log.count("m"), MESSAGES);
}

#[test]
fn message_timeout_counts_from_the_first_byte() {
    let timeout = Duration::from_millis(100);
    for terminator in
        [Terminator::from("\n"), Terminator::Length(50), Terminator::prefixed_u16_be()]
    {
        let mut reactor = Reactor::new().unwrap();
        let log = Log::default();
        let chat = Chat::new(terminator.clone(), Messages::passive(&log));
        let (token, mut peer) = add(&mut reactor, chat.with_message_timeout(timeout));
        // No message has started.
        reactor.turn(Some(2 * timeout)).unwrap();
        turn_all(&mut reactor);
        assert!(log.lines().is_empty(), "{terminator:?}");
        let begin = Instant::now();
        let mut sent = 0;
        // One byte after another does not postpone it.
        turn_until(&mut reactor, |_| {
            if begin.elapsed() >= sent * timeout / 4 {
                sent += 1;
                let _ = peer.write_all(&[1]);
            }
            log.has("close")
        });
        assert!(begin.elapsed() >= timeout);
        assert_eq!(log.lines(), ["close: timed out: message timeout"], "{terminator:?}");
        assert!(reactor.get_mut::<Stream<Chat<Messages>>>(token).is_none());
    }
}

#[test]
fn message_timeout_of_a_discarded_message_is_cancelled() {
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let chat = Chat::new("\n", Messages::passive(&log));
    let timeout = Duration::from_millis(50);
    let (token, mut peer) = add(&mut reactor, chat.with_message_timeout(timeout));
    peer.write_all(b"partial").unwrap();
    turn_all(&mut reactor);
    reactor.context().with_chat(token, |_: &mut Messages, chat| chat.discard_buffers()).unwrap();
    let has_passed = Rc::new(std::cell::Cell::new(false));
    let passed = Rc::clone(&has_passed);
    reactor.context().call_later(3 * timeout, move |_| passed.set(true));
    turn_until(&mut reactor, |_| has_passed.get());
    assert_eq!(log.lines(), [""; 0]);
}

#[test]
fn message_timeout_includes_a_length_without_its_message() {
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let chat = Chat::new(Terminator::prefixed_u32_be(100), Messages::passive(&log));
    let chat = chat.with_message_timeout(Duration::from_millis(50));
    let (_token, mut peer) = add(&mut reactor, chat);
    peer.write_all(b"\0\0\0\x05").unwrap();
    turn_until(&mut reactor, |_| log.has("close"));
    assert_eq!(log.lines(), ["close: timed out: message timeout"]);
}

#[test]
fn message_timeout_of_a_complete_message_is_cancelled() {
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let chat = Chat::new("\n", Messages::passive(&log));
    let (_token, mut peer) =
        add(&mut reactor, chat.with_message_timeout(Duration::from_millis(50)));
    for piece in ["a", "b\n", "c\nd\n"] {
        peer.write_all(piece.as_bytes()).unwrap();
        turn_all(&mut reactor);
    }
    // Longer than the timeout.
    assert_idle(&mut reactor);
    assert_eq!(log.lines(), ["ab", "c", "d"]);
}

// --- prefixed messages --------------------------------------------------------

#[test]
fn prefixed_messages_arrive_in_any_split() {
    for size in 1..12 {
        let mut reactor = Reactor::new().unwrap();
        let log = Log::default();
        let chat = Chat::new(Terminator::prefixed_u32_be(5), Messages::passive(&log));
        let (_token, mut peer) = add(&mut reactor, chat);
        for piece in b"\0\0\0\x02ab\0\0\0\0\0\0\0\x05cdefg".chunks(size) {
            peer.write_all(piece).unwrap();
            turn_all(&mut reactor);
        }
        drop(peer);
        run(&mut reactor);
        let expected = ["ab", "", "cdefg", "close: closed by the peer"];
        assert_eq!(log.lines(), expected, "pieces of {size}");
    }
}

#[test]
fn prefixed_message_beyond_the_limit_closes_with_message_too_long() {
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let chat = Chat::new(Terminator::prefixed_u32_be(5), Messages::passive(&log));
    let (token, mut peer) = add(&mut reactor, chat);
    peer.write_all(b"\0\0\0\x06").unwrap();
    let Cause::Error(error) = reactor.run_until_closed(token).unwrap().cause else { panic!() };
    assert_eq!(error.kind(), ErrorKind::InvalidData);
    let inner = error.into_inner().unwrap().downcast::<MessageTooLong>().unwrap();
    assert_eq!(*inner, MessageTooLong { limit: 5 });
}

/// Its own limit holds, not the one for messages that end with a terminator.
#[test]
fn prefixed_message_may_be_longer_than_the_limit_of_the_chat() {
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let chat = Chat::new(Terminator::prefixed_u16_be(), Messages::passive(&log));
    let (_token, mut peer) = add(&mut reactor, chat.with_max_message(10));
    peer.write_all(&[b"\x03\xe8".as_slice(), &[b'x'; 1_000]].concat()).unwrap();
    turn_all(&mut reactor);
    assert_eq!(log.lines(), ["x".repeat(1_000)]);
}

#[test]
fn prefix_without_its_message_is_reported_at_the_end() {
    struct Partial(Log);
    impl ChatProtocol for Partial {
        fn collect_incoming_data(&mut self, _: &mut ChatIo<'_>, data: &[u8]) -> io::Result<()> {
            self.0.note(format!("collected {data:?}"));
            Ok(())
        }
        fn found_terminator(&mut self, _: &mut ChatIo<'_>) -> io::Result<()> {
            Ok(())
        }
        fn handle_eof(&mut self, chat: &mut ChatIo<'_>) -> io::Result<()> {
            self.0.note(format!("{} bytes", chat.partial_len()));
            chat.close_when_done();
            Ok(())
        }
    }
    for (input, expected) in [
        (&b"\0\0"[..], &["2 bytes"][..]),
        (b"\0\0\0\x02", &["4 bytes"]),
        (b"\0\0\0\x02a", &["collected [97]", "5 bytes"]),
        (b"\0\0\0\x01a", &["collected [97]", "0 bytes"]),
    ] {
        let mut reactor = Reactor::new().unwrap();
        let log = Log::default();
        let chat = Chat::new(Terminator::prefixed_u32_be(5), Partial(log.clone()));
        let (_token, mut peer) = add(&mut reactor, chat);
        peer.write_all(input).unwrap();
        turn_all(&mut reactor);
        drop(peer);
        run(&mut reactor);
        assert_eq!(log.lines(), expected, "{input:?}");
    }
}
