//! The output of one callback is written once. A SEQPACKET socket shows each write as
//! one message.

use std::io::{self, ErrorKind, Read};
use std::time::Duration;

use reactor::{Chat, ChatIo, ChatProtocol, Io, Limits, Reactor, Stream, Token};
use socket2::{Domain, Socket, Type};

use crate::common::{Call, Log, Probe, run, silence_panics, turn_all, turn_until};

/// Adds a stream over one end of a SEQPACKET pair, and returns the other.
fn add(
    reactor: &mut Reactor,
    react: impl FnMut(Call<'_>, &mut Io<'_>) -> io::Result<()> + 'static,
) -> (Token, Socket) {
    let (ours, theirs) = Socket::pair(Domain::UNIX, Type::SEQPACKET, None).unwrap();
    theirs.set_nonblocking(true).unwrap();
    let probe = Probe::new("a", &Log::default(), react);
    let token = reactor.add(Stream::new(ours, probe).unwrap()).unwrap();
    (token, theirs)
}

/// Runs turns, and returns the messages that `peer` received, without the end.
fn writes(reactor: &mut Reactor, mut peer: &Socket) -> Vec<String> {
    turn_all(reactor);
    let mut messages = Vec::new();
    let mut buffer = vec![0; 200_000];
    loop {
        match peer.read(&mut buffer) {
            Ok(0) => return messages,
            Ok(read) => messages.push(String::from_utf8(buffer[..read].to_vec()).unwrap()),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                return messages;
            }
        }
    }
}

fn send_words(io: &mut Io<'_>) -> io::Result<()> {
    ["a", "b", "", "c"].into_iter().try_for_each(|word| io.send(word.as_bytes()))
}

#[test]
fn sends_of_one_callback_are_one_write() {
    let mut reactor = Reactor::new().unwrap();
    let (token, peer) = add(&mut reactor, |call, io| match call {
        Call::Connect | Call::Read(_) => send_words(io),
        _ => Ok(()),
    });
    assert_eq!(writes(&mut reactor, &peer), ["abc"]);
    peer.send(b"x").unwrap();
    assert_eq!(writes(&mut reactor, &peer), ["abc"], "in the next callback again");
    // From another channel, as if in a callback of the stream.
    let sent = reactor.context().with_stream(token, |_: &mut Probe, io| send_words(io));
    sent.unwrap().unwrap();
    assert_eq!(writes(&mut reactor, &peer), ["abc"]);
    assert_eq!(reactor.stats().sent, 9);
}

#[test]
fn gathered_output_precedes_close_and_shutdown() {
    for shutdown in [false, true] {
        let mut reactor = Reactor::new().unwrap();
        let (_token, peer) = add(&mut reactor, move |call, io| {
            if call == Call::Connect {
                send_words(io)?;
                if shutdown { io.shutdown()? } else { io.close() }
            }
            Ok(())
        });
        assert_eq!(writes(&mut reactor, &peer), ["abc"]);
        drop(peer);
        run(&mut reactor);
    }
}

/// A reply that is sent before an error, or in `handle_error`, still reaches the peer.
#[test]
fn gathered_output_precedes_an_error_and_a_panic() {
    silence_panics();
    for panics in [false, true] {
        let mut reactor = Reactor::new().unwrap();
        let (_token, peer) = add(&mut reactor, move |call, io| {
            if call == Call::Connect {
                send_words(io)?;
                assert!(!panics, "a panic in handle_connect");
                return Err(io::Error::other("no"));
            }
            Ok(())
        });
        assert_eq!(writes(&mut reactor, &peer), ["abc"]);
        assert!(reactor.context().channels().is_empty());
    }
}

#[test]
fn abort_counts_gathered_output_that_is_not_written() {
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let (ours, theirs) = Socket::pair(Domain::UNIX, Type::SEQPACKET, None).unwrap();
    theirs.set_nonblocking(true).unwrap();
    let probe = Probe::new("a", &log, |call, io| {
        if call == Call::Connect {
            send_words(io)?;
            assert_eq!(io.unsent(), 3);
            io.abort();
        }
        Ok(())
    });
    reactor.add(Stream::new(ours, probe).unwrap()).unwrap();
    let written = writes(&mut reactor, &theirs);
    let unsent = 3 - written.concat().len();
    assert_eq!(log.lines(), ["a connect", &close_line(unsent)]);
}

fn close_line(unsent: usize) -> String {
    match unsent {
        0 => "a close: closed".into(),
        unsent => format!("a close: closed, {unsent} bytes unsent"),
    }
}

/// Large output is not copied, but what was gathered before it is written first.
#[test]
fn large_output_follows_gathered_output() {
    let mut reactor = Reactor::new().unwrap();
    let (_token, peer) = add(&mut reactor, |call, io| {
        if call == Call::Connect {
            io.send(b"a")?;
            io.send(&vec![b'b'; 20_000])?;
            io.send(b"c")?;
        }
        Ok(())
    });
    assert_eq!(writes(&mut reactor, &peer), ["a".into(), "b".repeat(20_000), "c".into()]);
}

#[test]
fn gathered_output_is_bounded() {
    let mut reactor = Reactor::new().unwrap();
    let limits = Limits { high_water: 10_000, low_water: 0, ..Limits::default() };
    let (ours, theirs) = Socket::pair(Domain::UNIX, Type::SEQPACKET, None).unwrap();
    theirs.set_nonblocking(true).unwrap();
    let probe = Probe::new("a", &Log::default(), move |call, io| {
        if call == Call::Connect {
            for _ in 0..50 {
                io.send(&[b'x'; 1_000])?;
                assert!(io.unsent() <= 10_000, "{} bytes queued", io.unsent());
            }
        }
        Ok(())
    });
    reactor.add(Stream::new(ours, probe).unwrap().with_limits(limits)).unwrap();
    let lengths: Vec<_> = writes(&mut reactor, &theirs).iter().map(String::len).collect();
    assert_eq!(lengths.iter().sum::<usize>(), 50_000);
    assert!(lengths.iter().all(|&len| len <= 10_000), "{lengths:?}");
}

/// Outside a callback of the stream, output is written at once.
#[test]
fn send_through_the_token_is_written_at_once() {
    let mut reactor = Reactor::new().unwrap();
    let (token, mut peer) = add(&mut reactor, |_, _| Ok(()));
    turn_all(&mut reactor);
    let stream = reactor.get_mut::<Stream<Probe>>(token).unwrap();
    stream.send(b"a").unwrap();
    let mut buffer = [0; 8];
    assert_eq!(peer.read(&mut buffer).unwrap(), 1);
}

#[test]
fn timer_output_is_one_write() {
    let mut reactor = Reactor::new().unwrap();
    let (_token, peer) = add(&mut reactor, |call, io| match call {
        Call::Connect => {
            io.set_timer(Duration::ZERO);
            Ok(())
        }
        Call::Timer => send_words(io),
        _ => Ok(()),
    });
    let mut written = Vec::new();
    turn_until(&mut reactor, |reactor| {
        written.extend(writes(reactor, &peer));
        !written.is_empty()
    });
    assert_eq!(written, ["abc"]);
}

struct Upper;

impl ChatProtocol for Upper {
    fn found_terminator(&mut self, chat: &mut ChatIo<'_>) -> io::Result<()> {
        let mut line = chat.take_collected();
        line.make_ascii_uppercase();
        chat.push(&line)?;
        chat.push(b";")
    }
}

#[test]
fn replies_to_pipelined_messages_are_one_write() {
    let mut reactor = Reactor::new().unwrap();
    let (ours, theirs) = Socket::pair(Domain::UNIX, Type::SEQPACKET, None).unwrap();
    theirs.set_nonblocking(true).unwrap();
    reactor.add(Stream::new(ours, Chat::new("\n", Upper)).unwrap()).unwrap();
    turn_all(&mut reactor);
    theirs.send("line\n".repeat(16).as_bytes()).unwrap();
    assert_eq!(writes(&mut reactor, &theirs), ["LINE;".repeat(16)]);
}
