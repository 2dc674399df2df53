//! Invariants 1 and 2: no callback after the close, and exactly one close.

use std::cell::Cell;
use std::env;
use std::io::{self, Write};
use std::rc::Rc;
use std::time::Duration;

use reactor::{
    Cause, CloseReason, Context, Dispatcher, Io, Limits, Protocol, Reactor, Source, Stream,
    TimeoutKind, Token,
};
use rustix::io::Errno;

use crate::common::{
    Call, Echo, LocalStream, Log, Probe, local_pair, reports_resets, reset, run, shown, tcp_pair,
    turn_all, turn_until, unresponsive_listener,
};

#[test]
fn invariant_1_channel_closed_by_another_gets_no_event_of_same_batch() {
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let tokens: Rc<Cell<Option<(Token, Token)>>> = Rc::default();
    let mut peers = Vec::new();
    let mut add = |name| {
        let (ours, mut theirs) = local_pair().unwrap();
        theirs.write_all(b"x").unwrap();
        peers.push(theirs);
        let tokens = Rc::clone(&tokens);
        let probe = Probe::new(name, &log, move |call, io| {
            if let (Call::Read(_), Some((a, b))) = (call, tokens.get()) {
                let other = if io.token() == a { b } else { a };
                io.context().close(other);
            }
            Ok(())
        });
        reactor.add(Stream::new(ours, probe).unwrap()).unwrap()
    };
    tokens.set(Some((add("a"), add("b"))));

    turn_all(&mut reactor);
    assert_eq!(log.count("read"), 1, "both were ready: {:?}", log.lines());
    assert_eq!(log.count("close: closed"), 1, "{:?}", log.lines());
}

/// The first channel of a batch closes the second; a third one reuses its slot
/// and its descriptor before the batch ends.
#[test]
fn invariant_1_reused_slot_and_descriptor_get_no_stale_event() {
    /// Closes its sibling when it reads. The sibling adds its successor when it
    /// closes, as slot and descriptor are free by then.
    struct Sibling {
        other: Rc<Cell<Option<Token>>>,
        successors: Rc<Cell<u32>>,
        misdelivered: Rc<Cell<u32>>,
    }
    struct Successor(Rc<Cell<u32>>);

    impl Protocol for Successor {
        fn handle_read(&mut self, _: &mut Io<'_>, _: &[u8]) -> io::Result<()> {
            self.0.set(self.0.get() + 1);
            Ok(())
        }
        fn handle_eof(&mut self, io: &mut Io<'_>) -> io::Result<()> {
            io.close();
            Ok(())
        }
    }
    impl Protocol for Sibling {
        fn handle_read(&mut self, io: &mut Io<'_>, _: &[u8]) -> io::Result<()> {
            if let Some(other) = self.other.take() {
                io.context().close(other);
            }
            io.close();
            Ok(())
        }
        fn handle_close(&mut self, io: &mut Io<'_>, _: &CloseReason) {
            let (ours, theirs) = local_pair().unwrap();
            let successor = Stream::new(ours, Successor(Rc::clone(&self.misdelivered))).unwrap();
            let token = io.context().add(successor).unwrap();
            self.successors.set(self.successors.get() + 1);
            // The peer closes without sending: the successor must read nothing.
            drop(theirs);
            assert_ne!(token, io.token());
        }
    }

    let mut reactor = Reactor::new().unwrap();
    let successors: Rc<Cell<u32>> = Rc::default();
    let misdelivered: Rc<Cell<u32>> = Rc::default();
    // A million successors take a minute: only `scripts/faults.sh` runs them.
    let rounds = if env::var_os("REACTOR_FULL").is_some() { 500_000 } else { 2_000 };
    for _ in 0..rounds {
        let shared: Rc<Cell<Option<Token>>> = Rc::default();
        for _ in 0..2 {
            let (ours, mut theirs) = local_pair().unwrap();
            theirs.write_all(b"x").unwrap();
            let sibling = Sibling {
                other: Rc::clone(&shared),
                successors: Rc::clone(&successors),
                misdelivered: Rc::clone(&misdelivered),
            };
            let token = reactor.add(Stream::new(ours, sibling).unwrap()).unwrap();
            shared.set(Some(token));
        }
        run(&mut reactor);
    }
    assert_eq!(successors.get(), 2 * rounds);
    assert_eq!(misdelivered.get(), 0);
    eprintln!("misdeliveries 0 in {}", successors.get());
}

/// Returns the number that the system has given to a socket.
fn raw(socket: &LocalStream) -> u64 {
    #[cfg(unix)]
    return std::os::fd::AsRawFd::as_raw_fd(socket).try_into().unwrap();
    #[cfg(windows)]
    return std::os::windows::io::AsRawSocket::as_raw_socket(socket);
}

/// A dispatcher that closes its own descriptor within a callback, so that the
/// next descriptor opened has the same number.
#[test]
fn invariant_1_source_replaced_in_callback_is_registered_again() {
    struct Exchange {
        source: LocalStream,
        log: Log,
    }
    impl Dispatcher for Exchange {
        fn source(&self) -> Source<'_> {
            Source::from(&self.source)
        }
        fn handle_read(&mut self, cx: &mut Context) -> io::Result<()> {
            let mut byte = [0];
            io::Read::read_exact(&mut self.source, &mut byte)?;
            self.log.note(format!("read {}", byte[0]));
            let number = raw(&self.source);
            cx.deregister(Source::from(&self.source));
            let (ours, mut theirs) = local_pair()?;
            ours.set_nonblocking(true)?;
            self.source = ours;
            if byte[0] < 3 {
                theirs.write_all(&[byte[0] + 1])?;
                // Keep the peer open: its close would be an event too.
                std::mem::forget(theirs);
            } else {
                cx.close(cx.token());
            }
            assert_ne!(number, raw(&self.source), "the old source is still open");
            Ok(())
        }
    }
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let (source, mut theirs) = local_pair().unwrap();
    source.set_nonblocking(true).unwrap();
    reactor.add(Exchange { source, log: log.clone() }).unwrap();
    theirs.write_all(&[1]).unwrap();
    run(&mut reactor);
    assert_eq!(log.lines(), ["read 1", "read 2", "read 3"]);
}

/// The event reported the old source as writable too.
#[test]
fn invariant_1_source_replaced_in_read_gets_no_stale_write() {
    struct Exchange {
        source: LocalStream,
        peers: Vec<LocalStream>,
        log: Log,
    }
    impl Dispatcher for Exchange {
        fn source(&self) -> Source<'_> {
            Source::from(&self.source)
        }
        fn writable(&self) -> bool {
            self.peers.is_empty()
        }
        fn handle_read(&mut self, cx: &mut Context) -> io::Result<()> {
            self.log.note("read");
            cx.deregister(Source::from(&self.source));
            let (ours, theirs) = local_pair()?;
            ours.set_nonblocking(true)?;
            self.source = ours;
            self.peers.push(theirs);
            Ok(())
        }
        fn handle_write(&mut self, _: &mut Context) -> io::Result<()> {
            self.log.note("write");
            Ok(())
        }
    }
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let (source, mut theirs) = local_pair().unwrap();
    source.set_nonblocking(true).unwrap();
    theirs.write_all(b"x").unwrap();
    let exchange = Exchange { source, peers: Vec::new(), log: log.clone() };
    let token = reactor.add(exchange).unwrap();
    turn_all(&mut reactor);
    assert_eq!(log.lines(), ["read"]);
    // The new source is registered.
    let exchange = reactor.get_mut::<Exchange>(token).unwrap();
    exchange.peers[0].write_all(b"x").unwrap();
    turn_until(&mut reactor, |_| log.count("read") == 2);
}

#[test]
fn invariant_1_close_in_callback_stops_callbacks() {
    for within in ["connect", "read", "write", "timer"] {
        let mut reactor = Reactor::new().unwrap();
        let log = Log::default();
        let (ours, mut theirs) = local_pair().unwrap();
        theirs.write_all(b"x").unwrap();
        let probe = Probe::new("a", &log, move |call, io| {
            let name = match call {
                Call::Connect => {
                    io.set_timer(Duration::ZERO);
                    "connect"
                }
                Call::Read(_) => "read",
                Call::Write => "write",
                Call::Timer => "timer",
                Call::Upgrade | Call::Expt(_) | Call::Eof | Call::Drain => "",
            };
            if name == within {
                io.close();
            }
            Ok(())
        });
        reactor.add(Stream::new(ours, probe.writable()).unwrap()).unwrap();
        turn_until(&mut reactor, |_| log.has("close"));
        turn_all(&mut reactor);
        let lines = log.lines();
        let last = format!("a {within}");
        let closed_in = lines.iter().position(|line| line.starts_with(&last)).unwrap();
        assert_eq!(closed_in + 2, lines.len(), "{lines:?}");
        assert!(lines[closed_in + 1].starts_with("a close"), "{lines:?}");
    }
}

#[test]
fn invariant_2_repeated_local_close_is_reported_once() {
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let (ours, _theirs) = local_pair().unwrap();
    let probe = Probe::new("a", &log, |call, io| {
        if call == Call::Connect {
            io.close();
            io.close();
            let token = io.token();
            io.context().close(token);
            io.context().close(token);
            io.abort();
        }
        Ok(())
    });
    let token = reactor.add(Stream::new(ours, probe).unwrap()).unwrap();
    run(&mut reactor);
    reactor.context().close(token);
    turn_all(&mut reactor);
    assert_eq!(log.lines(), ["a connect", "a close: closed"]);
}

#[test]
fn invariant_2_peer_close_is_reported_once() {
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let (ours, theirs) = local_pair().unwrap();
    reactor.add(Stream::new(ours, Probe::passive("a", &log)).unwrap()).unwrap();
    drop(theirs);
    run(&mut reactor);
    assert_eq!(log.lines(), ["a connect", "a eof", "a close: closed by the peer"]);
}

#[test]
fn invariant_2_reset_is_reported_once_as_error() {
    if !reports_resets() {
        return;
    }
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let (ours, theirs) = tcp_pair();
    // With both interests asyncore made four callbacks, two of them a close.
    let probe = Probe::passive("a", &log).writable();
    reactor.add(Stream::new(ours, probe).unwrap()).unwrap();
    reset(theirs);
    run(&mut reactor);
    let lines = log.lines();
    assert_eq!(log.count("close"), 1, "{lines:?}");
    assert!(lines.last().unwrap().contains(&shown(Errno::CONNRESET)), "{lines:?}");
    // A reset is an ordinary end: `handle_error` is not called.
    assert!(!log.has("error:"), "{lines:?}");
}

#[test]
fn invariant_2_timeouts_are_reported_by_kind() {
    const SHORT: Duration = Duration::from_millis(20);
    let idle = Limits { idle_timeout: Some(SHORT), ..Limits::default() };
    let stall = Limits { stall_timeout: Some(SHORT), ..Limits::default() };
    for (limits, expected) in
        [(idle, "timed out: idle timeout"), (stall, "timed out: stall timeout")]
    {
        let mut reactor = Reactor::new().unwrap();
        let log = Log::default();
        let (ours, _theirs) = local_pair().unwrap();
        let sends = limits.idle_timeout.is_none();
        let probe = Probe::new("a", &log, move |call, io| match call {
            // More than the kernel accepts, so that some of it is queued.
            Call::Connect if sends => io.send(&vec![0; 4_000_000]),
            _ => Ok(()),
        });
        reactor.add(Stream::new(ours, probe).unwrap().with_limits(limits)).unwrap();
        run(&mut reactor);
        let lines = log.lines();
        assert_eq!(log.count("close"), 1, "{lines:?}");
        assert!(lines[1].contains(expected), "{lines:?}");
        assert_eq!(lines[1].contains("bytes unsent"), sends, "{lines:?}");
    }
}

#[test]
fn invariant_2_custom_dispatcher_times_out_at_its_deadline() {
    struct Deadline(LocalStream, Log);
    impl Dispatcher for Deadline {
        fn source(&self) -> Source<'_> {
            Source::from(&self.0)
        }
        fn update_deadline(&mut self, cx: &Context) -> Option<std::time::Instant> {
            Some(cx.clock())
        }
        fn handle_close(&mut self, _: &mut Context, reason: &CloseReason) {
            assert!(matches!(reason.cause, Cause::TimedOut(TimeoutKind::Deadline)));
            self.1.note("close");
        }
    }
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let (ours, _theirs) = local_pair().unwrap();
    reactor.add(Deadline(ours, log.clone())).unwrap();
    run(&mut reactor);
    assert_eq!(log.lines(), ["close"]);
}

#[test]
fn invariant_2_shutdown_closes_every_channel_and_counts_unsent() {
    for drop_it in [false, true] {
        let mut reactor = Reactor::new().unwrap();
        let log = Log::default();
        let mut peers = Vec::new();
        for name in ["a", "b", "c"] {
            let (ours, theirs) = local_pair().unwrap();
            peers.push(theirs);
            let mut stream = Stream::new(ours, Probe::passive(name, &log)).unwrap();
            if name == "b" {
                stream.send(&vec![0; 4_000_000]).unwrap();
                assert!(stream.unsent() > 0);
            }
            reactor.add(stream).unwrap();
        }
        turn_all(&mut reactor);
        if drop_it {
            drop(reactor);
        } else {
            reactor.close_all();
            reactor.close_all();
        }
        assert_eq!(log.count("a close: shut down"), 1);
        assert_eq!(log.count("b close: shut down, "), 1, "{:?}", log.lines());
        assert_eq!(log.count("bytes unsent"), 1, "{:?}", log.lines());
        assert_eq!(log.count("c close: shut down"), 1);
        assert_eq!(log.count("close"), 3);
    }
}

/// A channel added while the reactor closes everything is closed too, or
/// refused, so that the loop ends.
#[test]
fn invariant_2_channel_added_during_shutdown_is_closed() {
    struct Phoenix(Log);
    impl Protocol for Phoenix {
        fn handle_read(&mut self, _: &mut Io<'_>, _: &[u8]) -> io::Result<()> {
            Ok(())
        }
        fn handle_close(&mut self, io: &mut Io<'_>, _: &CloseReason) {
            let (ours, _theirs) = local_pair().unwrap();
            let again = Stream::new(ours, Phoenix(self.0.clone())).unwrap();
            let outcome = io.context().add(again).map(drop);
            self.0.note(format!("{outcome:?}"));
        }
    }
    let log = Log::default();
    let mut reactor = Reactor::new().unwrap();
    let (ours, _theirs) = local_pair().unwrap();
    reactor.add(Stream::new(ours, Phoenix(log.clone())).unwrap()).unwrap();
    drop(reactor);
    assert_eq!(log.lines().len(), 1);
    assert!(log.lines()[0].contains("shutting down"), "{:?}", log.lines());
}

#[test]
fn token_resolves_until_its_channel_closes() {
    let mut reactor = Reactor::new().unwrap();
    let (ours, theirs) = local_pair().unwrap();
    let token = reactor.add(Stream::new(ours, Echo).unwrap()).unwrap();
    assert!(reactor.get_mut::<Stream<Echo>>(token).is_some());
    assert!(reactor.get_mut::<Stream<Probe>>(token).is_none(), "another type");
    drop(theirs);
    run(&mut reactor);
    assert!(reactor.get_mut::<Stream<Echo>>(token).is_none());
}

#[test]
fn close_by_token_works_for_any_dispatcher() {
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let (ours, _theirs) = local_pair().unwrap();
    let token = reactor.add(Stream::new(ours, Probe::passive("a", &log)).unwrap()).unwrap();
    turn_all(&mut reactor);
    reactor.context().close(token);
    assert!(reactor.get_mut::<Stream<Probe>>(token).is_none(), "closing");
    run(&mut reactor);
    assert_eq!(log.lines(), ["a connect", "a close: closed"]);
}

/// Unread input makes the stream linger; the peer's close during that time does
/// not change the reason.
#[test]
fn invariant_2_lingering_close_keeps_its_local_reason() {
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let (ours, mut theirs) = tcp_pair();
    let probe = Probe::new("a", &log, |call, io| {
        if matches!(call, Call::Read(_)) {
            io.close();
        }
        Ok(())
    });
    theirs.write_all(&vec![0; 100_000]).unwrap();
    reactor.add(Stream::new(ours, probe).unwrap()).unwrap();
    turn_until(&mut reactor, |_| log.has("read"));
    drop(theirs);
    run(&mut reactor);
    assert_eq!(log.lines(), ["a connect", "a read 65536", "a close: closed"]);
}

#[test]
fn invariant_2_close_while_connecting_without_output_is_immediate() {
    let (_listener, addr, _fillers) = unresponsive_listener();
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let stream = Stream::connect([addr], Probe::passive("a", &log));
    let token = reactor.add(stream).unwrap();
    turn_all(&mut reactor);
    reactor.get_mut::<Stream<Probe>>(token).unwrap().close();
    turn_all(&mut reactor);
    assert_eq!(log.lines(), ["a close: closed"]);
}

/// The peer no longer answers, and the kernel gives up on the queued output.
/// `handle_error` is not called, as the protocol has closed.
#[cfg(target_os = "linux")]
#[test]
fn invariant_1_error_after_close_is_reported_in_reason_only() {
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let (ours, _theirs) = tcp_pair();
    let soon = Some(Duration::from_millis(100));
    socket2::SockRef::from(&ours).set_tcp_user_timeout(soon).unwrap();
    let probe = Probe::new("a", &log, |call, io| {
        if call == Call::Connect {
            io.send(&vec![0; 20_000_000])?;
            io.close();
        }
        Ok(())
    });
    reactor.add(Stream::new(ours, probe).unwrap()).unwrap();
    run(&mut reactor);
    let lines = log.lines();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[1].contains("timed out") && lines[1].ends_with("bytes unsent"), "{lines:?}");
}

#[test]
fn pause_and_resume_by_token_take_effect() {
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let (ours, mut theirs) = local_pair().unwrap();
    let token = reactor.add(Stream::new(ours, Probe::passive("a", &log)).unwrap()).unwrap();
    turn_all(&mut reactor);
    for round in 1..=3 {
        reactor.get_mut::<Stream<Probe>>(token).unwrap().pause();
        theirs.write_all(b"x").unwrap();
        turn_all(&mut reactor);
        assert_eq!(log.count("read"), round - 1, "paused");
        reactor.get_mut::<Stream<Probe>>(token).unwrap().resume();
        turn_until(&mut reactor, |_| log.count("read") == round);
    }
}
