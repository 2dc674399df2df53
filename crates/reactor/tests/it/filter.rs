//! Filters between socket and protocol, with one that frames and disguises bytes.

use std::cell::RefCell;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::num::NonZeroU64;
use std::rc::Rc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use reactor::{
    Address, Context, Filter, Flow, Io, Limits, Listener, Protocol, Reactor, Stream, Token,
};

use crate::common::{
    Call, DEADLINE, Echo, Log, Probe, assert_echo, assert_idle, pattern, reports_resets, reset,
    run, run_with, tcp_pair, turn_all, turn_until,
};

const HELLO: &[u8] = b"HELLO\n";
const DATA: u8 = 0xD0;
const END: u8 = 0xE0;
const ALERT: u8 = 0xA0;

/// A handshake, then frames: `DATA`, two bytes of length, bytes that are disguised; or
/// `END`. Anything else is answered by `ALERT`.
#[derive(Default)]
struct Frames {
    is_ready: bool,
    has_ended: bool,
    pending: Vec<u8>,
    /// How often `send` was called.
    sends: usize,
}

impl Filter for Frames {
    fn start(&mut self, flow: &mut Flow<'_>) -> io::Result<()> {
        flow.wire.extend(HELLO);
        Ok(())
    }

    fn received(&mut self, raw: &mut [u8], flow: &mut Flow<'_>) -> io::Result<()> {
        self.pending.extend_from_slice(raw);
        if !self.is_ready {
            let len = self.pending.len().min(HELLO.len());
            if self.pending[..len] != HELLO[..len] {
                flow.wire.push(ALERT);
                return Err(io::Error::new(ErrorKind::InvalidData, "no HELLO"));
            }
            if len < HELLO.len() {
                return Ok(());
            }
            self.pending.drain(..len);
            self.is_ready = true;
            flow.ready();
        }
        while let Some(&kind) = self.pending.first() {
            match kind {
                END if !self.has_ended => {
                    self.has_ended = true;
                    flow.end();
                    self.pending.remove(0);
                }
                DATA if !self.has_ended => {
                    let Some(head) = self.pending.get(1..3) else { break };
                    let len = 3 + usize::from(u16::from_be_bytes([head[0], head[1]]));
                    if self.pending.len() < len {
                        break;
                    }
                    flow.plain.extend(self.pending[3..len].iter().map(|byte| byte ^ 0x55));
                    self.pending.drain(..len);
                }
                _ => {
                    flow.wire.push(ALERT);
                    return Err(io::Error::new(ErrorKind::InvalidData, "no frame"));
                }
            }
        }
        Ok(())
    }

    fn ended(&mut self, _: &mut Flow<'_>) -> io::Result<()> {
        Err(io::Error::new(ErrorKind::UnexpectedEof, "no END"))
    }

    fn send(&mut self, plain: &[u8], wire: &mut Vec<u8>) -> io::Result<()> {
        self.sends += 1;
        wire.extend(frame(plain));
        Ok(())
    }

    fn finish(&mut self, wire: &mut Vec<u8>) {
        wire.push(END);
    }
}

fn frame(plain: &[u8]) -> Vec<u8> {
    let len = u16::try_from(plain.len()).expect("a piece of at most 16 KiB").to_be_bytes();
    let mut frame = vec![DATA, len[0], len[1]];
    frame.extend(plain.iter().map(|byte| byte ^ 0x55));
    frame
}

fn frames(plain: &[u8]) -> Vec<u8> {
    plain.chunks(10_000).flat_map(frame).collect()
}

/// Returns what the frames contain, and what follows them.
fn decode(mut wire: &[u8]) -> (Vec<u8>, &[u8]) {
    let mut plain = Vec::new();
    while wire.first() == Some(&DATA) && wire.len() >= 3 {
        let len = usize::from(u16::from_be_bytes([wire[1], wire[2]]));
        let Some(frame) = wire.get(3..3 + len) else { break };
        plain.extend(frame.iter().map(|byte| byte ^ 0x55));
        wire = &wire[3 + len..];
    }
    (plain, wire)
}

/// Removes the handshake, and decodes the rest.
#[track_caller]
fn decode_all(wire: &[u8]) -> (Vec<u8>, &[u8]) {
    decode(wire.strip_prefix(HELLO).expect("HELLO"))
}

/// Adds a stream with a filter, and returns its peer.
fn add(reactor: &mut Reactor, limits: Limits, probe: Probe) -> (Token, TcpStream) {
    let (theirs, ours) = tcp_pair();
    let stream = Stream::new(ours, probe).unwrap().with_limits(limits);
    let token = reactor.add(stream.with_filter(Frames::default())).unwrap();
    (token, theirs)
}

/// Echoes, and closes at the end of input.
fn echo(log: &Log) -> Probe {
    Probe::new("a", log, |call, io| match call {
        Call::Read(data) => io.send(data),
        Call::Eof => {
            io.close();
            Ok(())
        }
        _ => Ok(()),
    })
}

/// Runs `peer` on a separate thread, then the reactor to its end.
#[track_caller]
fn converse<T: Send + 'static>(
    reactor: &mut Reactor,
    peer: impl FnOnce() -> T + Send + 'static,
) -> T {
    let result = run_with(reactor, peer);
    run(reactor);
    result
}

fn read_to_end(mut peer: &TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    peer.read_to_end(&mut all).unwrap();
    all
}

#[test]
fn filtered_stream_works_byte_by_byte() {
    let (mut reactor, log) = (Reactor::new().unwrap(), Log::default());
    let (_, mut peer) = add(&mut reactor, Limits::default(), echo(&log));
    peer.set_nodelay(true).unwrap();
    for byte in [HELLO, &frame(b"hello"), &frame(b"world"), &[END]].concat() {
        peer.write_all(&[byte]).unwrap();
        turn_all(&mut reactor);
    }
    let wire = converse(&mut reactor, move || read_to_end(&peer));
    assert_eq!(decode_all(&wire), (b"helloworld".to_vec(), &[END][..]));
    let expected = ["a connect", "a read 5", "a read 5", "a eof", "a close: closed by the peer"];
    assert_eq!(log.lines(), expected);
}

#[test]
fn invariant_3_handle_connect_follows_the_handshake() {
    let (mut reactor, log) = (Reactor::new().unwrap(), Log::default());
    let probe = Probe::new("a", &log, |call, io| {
        if call == Call::Connect {
            assert!(io.filter::<Frames>().is_some_and(|filter| filter.is_ready));
        }
        Ok(())
    });
    let (_, mut peer) = add(&mut reactor, Limits::default(), probe.writable());
    turn_all(&mut reactor);
    assert_eq!(log.lines(), [""; 0]);
    peer.write_all(HELLO).unwrap();
    turn_until(&mut reactor, |_| log.has("write"));
    assert_eq!(log.lines()[..2], ["a connect", "a write"]);
}

#[test]
fn filtered_stream_is_idle_once_ready() {
    let (mut reactor, log) = (Reactor::new().unwrap(), Log::default());
    let (_, mut peer) = add(&mut reactor, Limits::default(), echo(&log));
    peer.write_all(HELLO).unwrap();
    turn_until(&mut reactor, |_| log.has("connect"));
    assert_idle(&mut reactor);
    assert_eq!(reactor.next_deadline(), None);
}

/// Changes from plain text to frames after `START`.
fn upgrading(log: &Log) -> Probe {
    Probe::new("a", log, |call, io| match call {
        Call::Read(data) if io.filter::<Frames>().is_some() => io.send(data),
        Call::Read(data) => {
            let Some(at) = data.windows(5).position(|word| word == b"START") else {
                return io.send(data);
            };
            io.send(&data[..at])?;
            io.send(b"OK")?;
            io.start_filter(Frames::default(), &data[at + 5..])?;
            io.send(b"kept")
        }
        Call::Upgrade => io.send(b"up"),
        Call::Eof => {
            io.close();
            Ok(())
        }
        _ => Ok(()),
    })
}

#[test]
fn upgrade_loses_no_byte_for_any_split() {
    let input = [b"plainSTART", HELLO, &frame(b"one"), &frame(b"two"), &[END]].concat();
    // The word itself is not split: the protocol would have to keep it.
    for split in (0..=5).chain(10..=input.len()) {
        let (mut reactor, log) = (Reactor::new().unwrap(), Log::default());
        let (theirs, ours) = tcp_pair();
        reactor.add(Stream::new(ours, upgrading(&log)).unwrap()).unwrap();
        (&theirs).write_all(&input[..split]).unwrap();
        turn_all(&mut reactor);
        (&theirs).write_all(&input[split..]).unwrap();
        let wire = converse(&mut reactor, move || read_to_end(&theirs));
        let frames = wire.strip_prefix(b"plainOK").expect("plain output first");
        let (plain, rest) = decode_all(frames);
        assert_eq!((&plain[..], rest), (&b"keptuponetwo"[..], &[END][..]), "split at {split}");
        assert_eq!(log.count("upgrade"), 1);
        assert_eq!(log.count("connect"), 1);
    }
}

#[test]
fn upgrade_is_refused_twice_and_when_half_closed() {
    let (mut reactor, log) = (Reactor::new().unwrap(), Log::default());
    let (theirs, ours) = tcp_pair();
    let probe = Probe::new("a", &log, |call, io| {
        if let Call::Read(_) = call {
            let mut start = || io.start_filter(Frames::default(), &[]).map_err(|e| e.kind());
            let kinds = [start(), start()];
            assert_eq!(kinds, [Ok(()), Err(ErrorKind::AlreadyExists)]);
            io.abort();
            let result = io.start_filter(Frames::default(), &[]);
            assert!(result.is_err());
        }
        Ok(())
    });
    reactor.add(Stream::new(ours, probe).unwrap()).unwrap();
    (&theirs).write_all(b"x").unwrap();
    run(&mut reactor);
    assert_eq!(log.lines(), ["a connect", "a read 1", "a close: closed"]);
}

#[test]
fn upgrade_writes_plain_output_that_was_queued_before() {
    let (mut reactor, log) = (Reactor::new().unwrap(), Log::default());
    let (theirs, ours) = tcp_pair();
    let plain = pattern(30_000_000);
    let sent = plain.clone();
    let probe = Probe::new("a", &log, move |call, io| match call {
        Call::Read(_) if io.filter::<Frames>().is_none() => {
            io.send(&sent)?;
            io.start_filter(Frames::default(), HELLO)?;
            assert!(io.unsent() <= sent.len() && io.unsent() > 0, "{}", io.unsent());
            Ok(())
        }
        Call::Upgrade => {
            io.close();
            Ok(())
        }
        _ => Ok(()),
    });
    reactor.add(Stream::new(ours, probe).unwrap()).unwrap();
    (&theirs).write_all(b"x").unwrap();
    let wire = converse(&mut reactor, move || read_to_end(&theirs));
    assert!(wire[..plain.len()] == plain);
    assert_eq!(wire[plain.len()..], [HELLO, &[END]].concat());
    assert_eq!(log.lines().last().unwrap(), "a close: closed");
}

#[test]
fn invariant_4_half_close_keeps_the_other_direction() {
    // This end first.
    let (mut reactor, log) = (Reactor::new().unwrap(), Log::default());
    let probe = Probe::new("a", &log, |call, io| match call {
        Call::Connect => {
            io.send(b"last words")?;
            io.shutdown()
        }
        _ => Ok(()),
    });
    let (_, peer) = add(&mut reactor, Limits::default(), probe);
    let wire = converse(&mut reactor, move || {
        (&peer).write_all(HELLO).unwrap();
        let wire = read_to_end(&peer);
        for _ in 0..3 {
            (&peer).write_all(&frame(b"more")).unwrap();
        }
        (&peer).write_all(&[END]).unwrap();
        peer.shutdown(Shutdown::Write).unwrap();
        wire
    });
    assert_eq!(decode_all(&wire), (b"last words".to_vec(), &[END][..]));
    assert!(log.has("read"));
    assert_eq!(log.lines()[log.lines().len() - 2..], ["a eof", "a close: closed by the peer"]);

    // The peer first: it still receives everything.
    let (mut reactor, log) = (Reactor::new().unwrap(), Log::default());
    let probe = Probe::new("a", &log, |call, io| match call {
        Call::Eof => {
            io.set_timer(Duration::from_millis(10));
            Ok(())
        }
        Call::Timer => {
            io.send(&pattern(1_000_000))?;
            io.close();
            Ok(())
        }
        _ => Ok(()),
    });
    let (_, peer) = add(&mut reactor, Limits::default(), probe);
    let wire = converse(&mut reactor, move || {
        (&peer).write_all(&[HELLO, &[END]].concat()).unwrap();
        peer.shutdown(Shutdown::Write).unwrap();
        read_to_end(&peer)
    });
    let (plain, rest) = decode_all(&wire);
    assert!(plain == pattern(1_000_000) && rest == [END]);
    assert_eq!(log.lines().last().unwrap(), "a close: closed by the peer");
}

#[test]
fn invariant_4_close_sends_pending_output_and_the_end() {
    let (mut reactor, log) = (Reactor::new().unwrap(), Log::default());
    let data = pattern(8_000_000);
    let sent = data.clone();
    let probe = Probe::new("a", &log, move |call, io| {
        if call == Call::Connect {
            io.send(&sent)?;
            io.close();
        }
        Ok(())
    });
    let (_, peer) = add(&mut reactor, Limits::default(), probe);
    let wire = converse(&mut reactor, move || {
        (&peer).write_all(HELLO).unwrap();
        // Unread input must not reset the connection.
        (&peer).write_all(&frame(b"unread")).unwrap();
        read_to_end(&peer)
    });
    let (plain, rest) = decode_all(&wire);
    assert!(plain == data && rest == [END], "{} bytes, then {rest:?}", plain.len());
    assert_eq!(log.lines(), ["a connect", "a close: closed"]);
}

#[test]
fn close_during_the_handshake_sends_what_was_kept() {
    let (theirs, ours) = tcp_pair();
    let (mut reactor, log) = (Reactor::new().unwrap(), Log::default());
    let stream = Stream::new(ours, Probe::passive("a", &log)).unwrap();
    let mut stream = stream.with_filter(Frames::default());
    stream.send(b"kept").unwrap();
    assert_eq!(stream.unsent(), 4);
    stream.close();
    reactor.add(stream).unwrap();
    turn_all(&mut reactor);
    assert_eq!(log.lines(), [""; 0]);
    (&theirs).write_all(HELLO).unwrap();
    let wire = converse(&mut reactor, move || read_to_end(&theirs));
    assert_eq!(decode_all(&wire), (b"kept".to_vec(), &[END][..]));
    assert_eq!(log.lines(), ["a close: closed"]);
}

#[test]
fn output_sent_before_the_filter_was_given_passes_it() {
    let (theirs, ours) = tcp_pair();
    let (mut reactor, log) = (Reactor::new().unwrap(), Log::default());
    let mut stream = Stream::new(ours, Probe::passive("a", &log)).unwrap();
    // The handshake of a connection that is refused a write does not matter here: the
    // stream is not connected to a reactor yet, so this is written at once.
    stream.send(b"raw").unwrap();
    reactor.add(stream.with_filter(Frames::default())).unwrap();
    (&theirs).write_all(&[HELLO, &[END]].concat()).unwrap();
    let wire = converse(&mut reactor, move || read_to_end(&theirs));
    assert_eq!(wire, [b"raw", HELLO, &[END]].concat());
}

#[test]
fn end_without_the_end_of_the_filter_is_truncation() {
    let (mut reactor, log) = (Reactor::new().unwrap(), Log::default());
    let (_, mut peer) = add(&mut reactor, Limits::default(), echo(&log));
    peer.write_all(&[HELLO, &frame(b"part")].concat()).unwrap();
    turn_until(&mut reactor, |_| log.has("read"));
    peer.shutdown(Shutdown::Write).unwrap();
    run(&mut reactor);
    let expected =
        ["a connect", "a read 4", "a close: truncated: the connection ended unexpectedly"];
    assert_eq!(log.lines(), expected);

    let (mut reactor, log) = (Reactor::new().unwrap(), Log::default());
    let (_, mut peer) = add(&mut reactor, Limits::default(), echo(&log));
    peer.write_all(b"HEL").unwrap();
    peer.shutdown(Shutdown::Write).unwrap();
    run(&mut reactor);
    assert_eq!(log.lines(), ["a error: no END", "a close: no END"], "in the handshake");
}

/// Waits for a byte that does not come.
struct Silent;

impl Filter for Silent {
    fn start(&mut self, _: &mut Flow<'_>) -> io::Result<()> {
        Ok(())
    }

    fn received(&mut self, _: &mut [u8], flow: &mut Flow<'_>) -> io::Result<()> {
        flow.give_way(b"");
        Ok(())
    }

    fn send(&mut self, _: &[u8], _: &mut Vec<u8>) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn end_during_the_handshake_closes_the_stream() {
    for sent in [&b""[..], b"x"] {
        let mut reactor = Reactor::new().unwrap();
        let log = Log::default();
        let (mut peer, ours) = tcp_pair();
        let limits = Limits { handshake_timeout: None, ..Limits::default() };
        let stream = Stream::new(ours, Probe::passive("a", &log)).unwrap().with_limits(limits);
        reactor.add(stream.with_filter(Silent).with_filter(Silent)).unwrap();
        peer.write_all(sent).unwrap();
        peer.shutdown(Shutdown::Write).unwrap();
        run(&mut reactor);
        assert_eq!(log.lines(), ["a close: closed by the peer"]);
        assert_eq!(read_to_end(&peer), b"");
    }
}

#[test]
fn filter_that_ends_the_input_before_it_is_ready_does_not_hang() {
    struct Early;
    impl Filter for Early {
        fn start(&mut self, _: &mut Flow<'_>) -> io::Result<()> {
            Ok(())
        }
        fn received(&mut self, _: &mut [u8], flow: &mut Flow<'_>) -> io::Result<()> {
            flow.end();
            Ok(())
        }
        fn send(&mut self, _: &[u8], _: &mut Vec<u8>) -> io::Result<()> {
            Ok(())
        }
    }
    let (mut reactor, log) = (Reactor::new().unwrap(), Log::default());
    let (mut peer, ours) = tcp_pair();
    let limits = Limits { handshake_timeout: None, ..Limits::default() };
    let stream = Stream::new(ours, Probe::passive("a", &log)).unwrap().with_limits(limits);
    reactor.add(stream.with_filter(Early)).unwrap();
    peer.write_all(b"x").unwrap();
    turn_all(&mut reactor);
    assert_eq!(log.lines(), [""; 0]);
    peer.shutdown(Shutdown::Write).unwrap();
    run(&mut reactor);
    assert_eq!(log.lines(), ["a close: closed by the peer"]);
}

/// Sends nothing for spaces.
struct NoSpaces;

impl Filter for NoSpaces {
    fn received(&mut self, raw: &mut [u8], flow: &mut Flow<'_>) -> io::Result<()> {
        flow.plain.extend_from_slice(raw);
        Ok(())
    }

    fn send(&mut self, plain: &[u8], wire: &mut Vec<u8>) -> io::Result<()> {
        wire.extend(plain.iter().filter(|&&byte| byte != b' '));
        Ok(())
    }
}

#[test]
fn output_that_a_filter_turns_into_nothing_does_not_wait() {
    let (mut reactor, log) = (Reactor::new().unwrap(), Log::default());
    let (mut peer, ours) = tcp_pair();
    let limits = Limits { high_water: 100, low_water: 10, ..Limits::default() };
    let stream = Stream::new(ours, echo(&log)).unwrap().with_limits(limits);
    let token = reactor.add(stream.with_filter(NoSpaces)).unwrap();
    peer.write_all(&[b' '; 200]).unwrap();
    turn_until(&mut reactor, |_| log.has("read"));
    turn_all(&mut reactor);
    assert_eq!(reactor.get_mut::<Stream<Probe>>(token).unwrap().unsent(), 0);
    peer.write_all(b"more").unwrap();
    peer.shutdown(Shutdown::Write).unwrap();
    run(&mut reactor);
    assert_eq!(read_to_end(&peer), b"more");
}

/// Output other than replies does not stop the input, with a filter or without.
#[test]
fn invariant_5_filtered_output_of_handle_connect_does_not_stop_the_input() {
    struct First(bool);
    impl Filter for First {
        fn start(&mut self, _: &mut Flow<'_>) -> io::Result<()> {
            Ok(())
        }
        fn received(&mut self, raw: &mut [u8], flow: &mut Flow<'_>) -> io::Result<()> {
            if !std::mem::replace(&mut self.0, true) {
                flow.ready();
            }
            flow.plain.extend_from_slice(raw);
            Ok(())
        }
        fn send(&mut self, plain: &[u8], wire: &mut Vec<u8>) -> io::Result<()> {
            wire.extend(plain);
            Ok(())
        }
    }
    for is_filtered in [false, true] {
        let (mut reactor, log) = (Reactor::new().unwrap(), Log::default());
        let (mut peer, ours) = tcp_pair();
        let probe = Probe::new("a", &log, |call, io| match call {
            Call::Connect => {
                io.send(&vec![0; 8 << 20])?;
                io.send(b"tail")
            }
            _ => Ok(()),
        });
        let stream = Stream::new(ours, probe).unwrap();
        let stream = if is_filtered { stream.with_filter(First(false)) } else { stream };
        reactor.add(stream).unwrap();
        for input in [&b"1"[..], b"22", b"333"] {
            peer.write_all(input).unwrap();
            let read = format!("read {}", input.len());
            turn_until(&mut reactor, |_| log.has(&read));
        }
    }
}

#[test]
fn abort_discards_filtered_output_too() {
    for is_filtered in [false, true] {
        let (mut reactor, log) = (Reactor::new().unwrap(), Log::default());
        let (mut peer, ours) = tcp_pair();
        let probe = Probe::new("a", &log, |call, io| {
            if call == Call::Connect {
                io.send(b"secret")?;
                io.abort();
            }
            Ok(())
        });
        let stream = Stream::new(ours, probe).unwrap();
        let stream = if is_filtered { stream.with_filter(NoSpaces) } else { stream };
        reactor.add(stream).unwrap();
        run(&mut reactor);
        assert_eq!(log.lines(), ["a connect", "a close: closed, 6 bytes unsent"], "{is_filtered}");
        assert!(!matches!(peer.read(&mut [0; 10]), Ok(1..)), "{is_filtered}");
    }
}

#[test]
fn abort_and_errors_send_no_end() {
    for is_error in [false, true] {
        let (mut reactor, log) = (Reactor::new().unwrap(), Log::default());
        let probe = Probe::new("a", &log, move |call, io| match call {
            Call::Read(_) if is_error => Err(io::Error::other("an error in a callback")),
            Call::Read(_) => {
                io.abort();
                Ok(())
            }
            _ => Ok(()),
        });
        let (_, peer) = add(&mut reactor, Limits::default(), probe);
        let (wire, result) = converse(&mut reactor, move || {
            (&peer).write_all(&[HELLO, &frame(b"x")].concat()).unwrap();
            let mut wire = Vec::new();
            let result = (&peer).read_to_end(&mut wire);
            (wire, result)
        });
        assert_eq!(wire, HELLO);
        assert_eq!(result.unwrap_err().kind(), ErrorKind::ConnectionReset);
    }
}

#[test]
fn failure_of_the_filter_sends_its_alert_after_delivering_input() {
    let (mut reactor, log) = (Reactor::new().unwrap(), Log::default());
    let (_, peer) = add(&mut reactor, Limits::default(), echo(&log));
    let wire = converse(&mut reactor, move || {
        (&peer).write_all(&[HELLO, &frame(b"good"), b"bad"].concat()).unwrap();
        // More input, which must not destroy the alert.
        let _ = (&peer).write_all(b"more");
        read_to_end(&peer)
    });
    // The reply was sent before, so it is in order; the filter's alert ends the output.
    let (plain, rest) = decode(&wire[HELLO.len()..]);
    assert!(plain.is_empty() || plain == b"good");
    assert!(rest.contains(&ALERT), "{wire:?}");
    let expected = ["a connect", "a read 4", "a error: no frame"];
    assert_eq!(log.lines()[..3], expected);
    assert!(log.lines()[3].starts_with("a close: no frame"), "{:?}", log.lines());
    assert_eq!(log.lines().len(), 4);
}

#[test]
fn failed_handshake_sends_its_alert() {
    let (mut reactor, log) = (Reactor::new().unwrap(), Log::default());
    let (_, peer) = add(&mut reactor, Limits::default(), echo(&log));
    let wire = converse(&mut reactor, move || {
        (&peer).write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        read_to_end(&peer)
    });
    assert_eq!(wire, [HELLO, &[ALERT]].concat());
    assert_eq!(log.lines(), ["a error: no HELLO", "a close: no HELLO"]);
}

#[test]
fn handshake_timeout_closes_the_stream() {
    for sent in [&b""[..], b"HEL"] {
        let (mut reactor, log) = (Reactor::new().unwrap(), Log::default());
        let timeout = Some(Duration::from_millis(100));
        let limits = Limits { handshake_timeout: timeout, ..Limits::default() };
        let begin = Instant::now();
        let (_, mut peer) = add(&mut reactor, limits, echo(&log));
        peer.write_all(sent).unwrap();
        run(&mut reactor);
        assert!(begin.elapsed() >= Duration::from_millis(100));
        assert_eq!(log.lines(), ["a close: timed out: handshake timeout"]);
    }
}

#[test]
fn handshake_timeout_ends_with_the_handshake() {
    let (mut reactor, log) = (Reactor::new().unwrap(), Log::default());
    let timeout = Some(Duration::from_millis(300));
    let limits = Limits { handshake_timeout: timeout, ..Limits::default() };
    let (_, mut peer) = add(&mut reactor, limits, echo(&log));
    peer.write_all(HELLO).unwrap();
    turn_until(&mut reactor, |_| log.has("connect"));
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_millis(600) {
        reactor.turn(Some(Duration::from_millis(100))).unwrap();
    }
    assert_eq!(log.lines(), ["a connect"]);
}

#[test]
fn drain_is_reported_after_the_handshake_and_sends_the_end() {
    let (mut reactor, log) = (Reactor::new().unwrap(), Log::default());
    let probe = Probe::new("a", &log, |call, io| {
        if call == Call::Drain {
            io.send(b"bye")?;
            io.close();
        }
        Ok(())
    });
    let (_, mut peer) = add(&mut reactor, Limits::default(), probe);
    turn_all(&mut reactor);
    reactor.handle().post(|cx: &mut Context| cx.drain(Duration::from_secs(20))).unwrap();
    turn_all(&mut reactor);
    assert_eq!(log.lines(), [""; 0], "not during the handshake");
    peer.write_all(HELLO).unwrap();
    let wire = converse(&mut reactor, move || read_to_end(&peer));
    assert_eq!(decode_all(&wire), (b"bye".to_vec(), &[END][..]));
    assert_eq!(log.lines(), ["a connect", "a drain", "a close: closed"]);
}

#[test]
fn close_by_another_channel_sends_the_end() {
    let (mut reactor, log) = (Reactor::new().unwrap(), Log::default());
    let (token, peer) = add(&mut reactor, Limits::default(), echo(&log));
    (&peer).write_all(HELLO).unwrap();
    turn_until(&mut reactor, |_| log.has("connect"));
    reactor.handle().post(move |cx: &mut Context| cx.close(token)).unwrap();
    let wire = converse(&mut reactor, move || read_to_end(&peer));
    assert_eq!(wire, [HELLO, &[END]].concat());
    assert_eq!(log.lines(), ["a connect", "a close: closed"]);
}

#[test]
fn invariant_5_peer_that_does_not_read_stops_the_input() {
    let (mut reactor, log) = (Reactor::new().unwrap(), Log::default());
    let limits = Limits { stall_timeout: Some(Duration::from_millis(500)), ..Limits::default() };
    let (token, peer) = add(&mut reactor, limits, echo(&log));
    peer.set_nonblocking(true).unwrap();
    (&peer).write_all(HELLO).unwrap();
    let flood = frames(&pattern(100_000));
    let mut at = 0;
    let mut most = 0;
    let begin = Instant::now();
    while !log.has("close") {
        assert!(begin.elapsed() < Duration::from_secs(20));
        if let Ok(written) = (&peer).write(&flood[at..]) {
            at = (at + written) % flood.len();
        }
        reactor.turn(Some(Duration::from_millis(5))).unwrap();
        if let Some(stream) = reactor.get_mut::<Stream<Probe>>(token) {
            most = most.max(stream.unsent());
        }
    }
    // A reply that reaches the high mark stops the input even if a part of it is written at
    // once, until the low mark.
    assert!(most > 16 * 1024, "{most} bytes queued");
    assert!(most < 256 * 1024, "{most} bytes queued");
    let end = log.lines().pop().unwrap();
    assert!(end.starts_with("a close: timed out: stall timeout, "), "{end}");
}

/// Also where the output waits for its rate, or for the rest of a record that counts until
/// all of it is written.
#[test]
fn invariant_5_replies_that_wait_for_their_rate_stop_the_input() {
    let write_rate = NonZeroU64::new(200_000);
    for limits in [
        Limits { write_rate, ..Limits::default() },
        Limits { write_rate, high_water: 900, low_water: 500, ..Limits::default() },
    ] {
        // One reply above the mark is accepted, and no more.
        let limits = Limits { max_excess: 0, ..limits };
        let (mut reactor, log) = (Reactor::new().unwrap(), Log::default());
        let (_, peer) = add(&mut reactor, limits, echo(&log));
        let data = pattern(150_000);
        let wire = converse(&mut reactor, move || {
            (&peer).write_all(&[HELLO, &frames(&data), &[END]].concat()).unwrap();
            read_to_end(&peer)
        });
        assert!(!log.has("error"), "{:?}", log.lines());
        assert_eq!(decode_all(&wire).0, pattern(150_000));
    }
}

#[test]
fn unsent_counts_bytes_of_the_user() {
    let (mut reactor, log) = (Reactor::new().unwrap(), Log::default());
    let data = pattern(10_000_000);
    let sent = data.len();
    let (abort_tx, abort_rx) = mpsc::channel();
    let probe = Probe::new("a", &log, move |call, io| match call {
        Call::Connect => {
            io.send(&data)?;
            let error = io.send(&data).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::WouldBlock);
            io.set_timer(Duration::from_millis(100));
            Ok(())
        }
        Call::Timer => {
            io.abort();
            abort_tx.send(()).map_err(io::Error::other)
        }
        _ => Ok(()),
    });
    let limits = Limits { max_excess: 0, ..Limits::default() };
    let (_, peer) = add(&mut reactor, limits, probe);
    let wire = converse(&mut reactor, move || {
        (&peer).write_all(HELLO).unwrap();
        let mut wire = Vec::new();
        // It reads only after the abort.
        abort_rx.recv_timeout(DEADLINE).unwrap();
        let _ = (&peer).read_to_end(&mut wire);
        wire
    });
    let end = log.lines().pop().unwrap();
    let unsent = end.strip_prefix("a close: closed, ").and_then(|end| end.split(' ').next());
    let unsent: usize = unsent.unwrap().parse().unwrap();
    let received = decode_all(&wire).0.len();
    // What was written may still be lost in the reset.
    assert!(unsent > 0 && unsent <= sent - received, "{unsent} unsent, {received} received");
}

/// Output that `send` rejects, because the connection is lost, was not accepted.
#[test]
fn rejected_output_does_not_count_as_unsent() {
    if !reports_resets() {
        return;
    }
    for (small, large) in [(0, 20_000), (1_000, 20_000), (0, 100_000)] {
        let (mut reactor, log) = (Reactor::new().unwrap(), Log::default());
        let probe = Probe::new("a", &log, move |call, io| {
            match call {
                Call::Connect => drop(io.set_timer(Duration::from_millis(100))),
                Call::Timer => {
                    io.send(&pattern(small))?;
                    let error = io.send(&pattern(large)).unwrap_err();
                    assert!(error.kind() != ErrorKind::WouldBlock, "{error}");
                }
                _ => {}
            }
            Ok(())
        });
        let (token, mut peer) = add(&mut reactor, Limits::default(), probe);
        peer.write_all(HELLO).unwrap();
        turn_until(&mut reactor, |_| log.has("connect"));
        let stream = reactor.get_mut::<Stream<Probe>>(token).unwrap();
        stream.socket_options().unwrap().set_recv_buffer_size(1 << 20).unwrap();
        // So much input that the timer expires before the reset behind it is read.
        peer.write_all(&frames(&pattern(150_000))).unwrap();
        reset(peer);
        std::thread::sleep(Duration::from_millis(150));
        run(&mut reactor);
        let end = log.lines().pop().unwrap();
        let unsent = end.split_once(", ").map_or("0", |(_, rest)| rest);
        let unsent: usize = unsent.split(' ').next().unwrap().parse().unwrap();
        assert_eq!(unsent, small, "{end}");
    }
}

#[test]
fn paused_stream_keeps_input_that_has_passed_the_filter() {
    let (mut reactor, log) = (Reactor::new().unwrap(), Log::default());
    let probe = Probe::new("a", &log, |call, io| {
        match call {
            Call::Connect => io.pause(),
            Call::Eof => io.close(),
            _ => {}
        }
        Ok(())
    });
    let (token, mut peer) = add(&mut reactor, Limits::default(), probe);
    // All in one segment: the handshake, input and its end.
    peer.write_all(&[HELLO, &frame(b"hello"), &[END]].concat()).unwrap();
    turn_until(&mut reactor, |_| log.has("connect"));
    assert_idle(&mut reactor);
    assert_eq!(log.lines(), ["a connect"]);
    reactor.get_mut::<Stream<Probe>>(token).unwrap().resume();
    let wire = converse(&mut reactor, move || read_to_end(&peer));
    assert_eq!(wire, [HELLO, &[END]].concat());
    assert_eq!(log.lines(), ["a connect", "a read 5", "a eof", "a close: closed by the peer"]);
}

#[test]
fn pause_in_the_middle_of_a_read_is_exact() {
    let (mut reactor, log) = (Reactor::new().unwrap(), Log::default());
    let probe = Probe::new("a", &log, |call, io| {
        match call {
            Call::Read(_) => {
                io.pause();
                io.set_timer(Duration::from_millis(1));
            }
            Call::Timer => io.resume(),
            Call::Eof => io.close(),
            _ => {}
        }
        Ok(())
    });
    let (_, peer) = add(&mut reactor, Limits::default(), probe);
    let data = pattern(1_000_000);
    let wire = converse(&mut reactor, move || {
        (&peer).write_all(&[HELLO, &frames(&data), &[END]].concat()).unwrap();
        read_to_end(&peer)
    });
    assert_eq!(wire, [HELLO, &[END]].concat());
    let lines = log.lines();
    let sizes = lines.iter().filter_map(|line| line.strip_prefix("a read "));
    let total: usize = sizes.map(|size| size.parse::<usize>().unwrap()).sum();
    assert_eq!(total, 1_000_000);
    assert_eq!(log.count("eof"), 1);
}

#[test]
fn rates_apply_to_filtered_streams() {
    let rate = NonZeroU64::new(400_000);
    for limits in [
        Limits { write_rate: rate, ..Limits::default() },
        Limits { read_rate: rate, ..Limits::default() },
    ] {
        let (mut reactor, log) = (Reactor::new().unwrap(), Log::default());
        let (_, peer) = add(&mut reactor, limits, echo(&log));
        let data = pattern(200_000);
        let begin = Instant::now();
        let wire = converse(&mut reactor, {
            let data = data.clone();
            move || {
                (&peer).write_all(&[HELLO, &frames(&data), &[END]].concat()).unwrap();
                read_to_end(&peer)
            }
        });
        let (plain, rest) = decode_all(&wire);
        assert!(plain == data && rest == [END]);
        assert!(begin.elapsed() >= Duration::from_millis(350), "{:?}", begin.elapsed());
    }
}

#[test]
fn output_of_one_callback_passes_the_filter_at_once() {
    let (mut reactor, log) = (Reactor::new().unwrap(), Log::default());
    let probe = Probe::new("a", &log, |call, io| match call {
        Call::Connect => {
            for digit in 0..100_u8 {
                io.send(&[digit])?;
            }
            Ok(())
        }
        Call::Read(_) => {
            let sends = io.filter::<Frames>().map(|filter| filter.sends);
            assert_eq!(sends, Some(1));
            io.close();
            Ok(())
        }
        _ => Ok(()),
    });
    let (_, peer) = add(&mut reactor, Limits::default(), probe);
    let wire = converse(&mut reactor, move || {
        (&peer).write_all(HELLO).unwrap();
        let mut wire = vec![0; HELLO.len() + 103];
        (&peer).read_exact(&mut wire).unwrap();
        (&peer).write_all(&frame(b"x")).unwrap();
        wire.extend(read_to_end(&peer));
        wire
    });
    assert_eq!(decode_all(&wire), ((0..100).collect(), &[END][..]));
}

/// Reads a line that names the peer, and gives way.
#[derive(Default)]
struct NameLine(Vec<u8>);

impl Filter for NameLine {
    fn start(&mut self, _: &mut Flow<'_>) -> io::Result<()> {
        Ok(())
    }

    fn received(&mut self, raw: &mut [u8], flow: &mut Flow<'_>) -> io::Result<()> {
        self.0.extend_from_slice(raw);
        let Some(end) = self.0.iter().position(|&byte| byte == b'\n') else { return Ok(()) };
        flow.set_peer(Address::Host(String::from_utf8_lossy(&self.0[..end]).into()));
        flow.give_way(&self.0[end + 1..]);
        Ok(())
    }

    fn send(&mut self, _: &[u8], _: &mut Vec<u8>) -> io::Result<()> {
        Err(ErrorKind::NotConnected.into())
    }
}

#[test]
fn filter_gives_way_to_the_protocol_for_any_split() {
    let input = b"client\nhello";
    for split in 0..=input.len() {
        let (mut reactor, log) = (Reactor::new().unwrap(), Log::default());
        let peers = Rc::new(RefCell::new(Vec::new()));
        let seen = Rc::clone(&peers);
        let probe = Probe::new("a", &log, move |call, io| {
            seen.borrow_mut().push(io.peer_addr().to_string());
            if let Call::Read(data) = call { io.send(data) } else { Ok(()) }
        });
        let (theirs, ours) = tcp_pair();
        let stream = Stream::new(ours, probe).unwrap().with_filter(NameLine::default());
        reactor.add(stream).unwrap();
        (&theirs).write_all(&input[..split]).unwrap();
        turn_all(&mut reactor);
        (&theirs).write_all(&input[split..]).unwrap();
        let mut reply = [0; 5];
        turn_until(&mut reactor, |_| {
            theirs.set_nonblocking(true).unwrap();
            theirs.peek(&mut reply).is_ok_and(|read| read == 5)
        });
        assert_eq!(&reply, b"hello");
        (&theirs).read_exact(&mut reply).unwrap();
        assert!(peers.borrow().iter().all(|peer| peer == "client"), "{peers:?}");
        assert_eq!(log.lines()[0], "a connect");
        // From here on it is a plain stream.
        assert_echo(&mut reactor, &theirs);
        assert_idle(&mut reactor);
    }
}

#[test]
fn filters_follow_each_other_in_order() {
    let (mut reactor, log) = (Reactor::new().unwrap(), Log::default());
    let (to, rejected) = (log.clone(), log.clone());
    let listener = Listener::bind("127.0.0.1:0", move |_| Ok(echo(&to)))
        .unwrap()
        .with_filter(move |peer| {
            rejected.note(format!("filter for {peer}"));
            Ok(NameLine::default())
        })
        .with_filter(|_| Ok(Frames::default()));
    let addr = listener.local_addr().as_inet().unwrap();
    reactor.add(listener).unwrap();
    let wire = run_with(&mut reactor, move || {
        let peer = TcpStream::connect(addr).unwrap();
        (&peer).write_all(&[b"client\n", HELLO, &frame(b"hello"), &[END]].concat()).unwrap();
        read_to_end(&peer)
    });
    assert_eq!(decode_all(&wire), (b"hello".to_vec(), &[END][..]));
    assert!(log.lines()[0].starts_with("filter for 127.0.0.1:"));
    assert_eq!(log.lines()[1..4], ["a connect", "a read 5", "a eof"]);
}

#[test]
fn filter_factory_can_reject_a_connection() {
    let mut reactor = Reactor::new().unwrap();
    let listener = Listener::bind("127.0.0.1:0", |_| Ok(Echo))
        .unwrap()
        .with_max_connections(1)
        .with_filter(|_| -> io::Result<Frames> { Err(ErrorKind::PermissionDenied.into()) });
    let addr = listener.local_addr().as_inet().unwrap();
    let token = reactor.add(listener).unwrap();
    run_with(&mut reactor, move || {
        for _ in 0..3 {
            // Closed without a byte; the count of connections is released.
            assert_eq!(read_to_end(&TcpStream::connect(addr).unwrap()), b"");
        }
    });
    assert_eq!(reactor.get_mut::<Listener>(token).unwrap().rejected(), 3);
    assert_eq!(reactor.stats().rejected_over_limit, 0);
}

#[test]
fn filtered_client_and_server_exchange_megabytes() {
    struct Upload {
        data: Vec<u8>,
        at: usize,
        received: Vec<u8>,
    }
    impl Protocol for Upload {
        fn writable(&self) -> bool {
            self.at < self.data.len()
        }
        fn handle_write(&mut self, io: &mut Io<'_>) -> io::Result<()> {
            let end = (self.at + 50_000).min(self.data.len());
            io.send(&self.data[self.at..end])?;
            self.at = end;
            if end == self.data.len() { io.shutdown() } else { Ok(()) }
        }
        fn handle_read(&mut self, _: &mut Io<'_>, data: &[u8]) -> io::Result<()> {
            self.received.extend(data);
            Ok(())
        }
        fn handle_eof(&mut self, io: &mut Io<'_>) -> io::Result<()> {
            assert!(self.received == self.data);
            io.context().stop();
            Ok(())
        }
    }
    let mut reactor = Reactor::new().unwrap();
    let listener = Listener::bind("127.0.0.1:0", |_| Ok(Echo)).unwrap();
    let listener = listener.with_filter(|_| Ok(Frames::default()));
    let addr = listener.local_addr().as_inet().unwrap();
    reactor.add(listener).unwrap();
    let upload = Upload { data: pattern(4_000_000), at: 0, received: Vec::new() };
    let client = Stream::connect([addr], upload).with_filter(Frames::default());
    reactor.add(client).unwrap();
    run(&mut reactor);
}
