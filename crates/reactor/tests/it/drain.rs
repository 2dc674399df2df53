//! How the loop ends: without work, by `stop`, by `drain`, after `count` turns.

use std::cell::Cell;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

#[cfg(unix)]
use reactor::signal::{self, Signals};
use reactor::{
    Chat, ChatIo, ChatProtocol, CloseReason, Context, Io, Listener, Produced, Protocol, Reactor,
    Stream,
};

use crate::common::{
    Call, Echo, LocalStream, Log, Probe, assert_idle, local_pair, run, tcp_pair, turn_all,
    turn_until, unresponsive_listener,
};

/// Adds a stream that only its peer or the reactor closes; returns the peer.
fn add_passive(reactor: &mut Reactor, name: &'static str, log: &Log) -> LocalStream {
    let (ours, theirs) = local_pair().unwrap();
    reactor.add(Stream::new(ours, Probe::passive(name, log)).unwrap()).unwrap();
    theirs
}

#[test]
fn drain_accepts_the_queue_and_notifies_every_channel() {
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let served = log.clone();
    let listener = Listener::bind("127.0.0.1:0", move |_| {
        Ok(Probe::new("a", &served, |call, io| match call {
            Call::Read(data) => io.send(data),
            Call::Eof => {
                io.close();
                Ok(())
            }
            _ => Ok(()),
        }))
    })
    .unwrap();
    let addr = listener.local_addr().as_inet().unwrap();
    reactor.add(listener).unwrap();
    let mut open = TcpStream::connect(addr).unwrap();
    turn_until(&mut reactor, |_| log.has("connect"));
    // Connected for the kernel, but not accepted yet.
    let mut queued: Vec<_> = (0..100).map(|_| TcpStream::connect(addr).unwrap()).collect();
    reactor.context().drain(Duration::from_secs(60));
    turn_all(&mut reactor);
    assert_eq!(log.count("connect"), 101);
    assert_eq!(log.count("drain"), 101, "streams accepted late are notified too");
    let refused = TcpStream::connect(addr).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    for peer in std::iter::once(&mut open).chain(&mut queued) {
        peer.write_all(b"x").unwrap();
    }
    turn_all(&mut reactor);
    for peer in std::iter::once(&mut open).chain(&mut queued) {
        peer.read_exact(&mut [0]).unwrap();
    }
    drop((open, queued));
    let begin = Instant::now();
    run(&mut reactor); // ends with the last peer, not at the deadline
    assert!(begin.elapsed() < Duration::from_secs(60));
    assert_eq!(log.count("closed by the peer"), 101);
}

/// Accepting stops after 64 connections, and without a further one nothing is reported.
#[test]
fn drain_closes_the_listener_whatever_the_queue_length() {
    for count in [63, 64, 65, 128] {
        let mut reactor = Reactor::new().unwrap();
        let listener = Listener::bind("127.0.0.1:0", |_| Ok(Echo)).unwrap();
        let addr = listener.local_addr().as_inet().unwrap();
        let token = reactor.add(listener).unwrap();
        let queued: Vec<_> = (0..count).map(|_| TcpStream::connect(addr).unwrap()).collect();
        reactor.context().drain(Duration::from_secs(60));
        turn_until(&mut reactor, |reactor| {
            !reactor.context().channels().iter().any(|channel| channel.token == token)
        });
        drop(queued);
        run(&mut reactor);
    }
}

#[test]
fn drain_ends_at_earlier_deadline_and_counts_unsent() {
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let (ours, _theirs) = local_pair().unwrap();
    let mut stream = Stream::new(ours, Probe::passive("a", &log)).unwrap();
    stream.send(&vec![0; 4_000_000]).unwrap();
    reactor.add(stream).unwrap();
    reactor.context().drain(Duration::from_secs(3600));
    turn_all(&mut reactor);
    reactor.handle().drain(Duration::from_millis(10)).unwrap();
    reactor.handle().drain(Duration::MAX).unwrap();
    run(&mut reactor);
    assert_eq!(log.count("a drain"), 1, "notified once");
    let last = log.lines().pop().unwrap();
    assert!(last.starts_with("a close: shut down, ") && last.ends_with("bytes unsent"), "{last}");
}

#[test]
fn stop_leaves_channels_open_for_the_next_run() {
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let (ours, mut theirs) = local_pair().unwrap();
    let probe = Probe::new("a", &log, |call, io| {
        match call {
            Call::Read(data) => {
                io.send(data)?;
                io.context().stop();
            }
            Call::Eof => io.close(),
            _ => {}
        }
        Ok::<(), io::Error>(())
    });
    reactor.add(Stream::new(ours, probe).unwrap()).unwrap();
    for _ in 0..3 {
        theirs.write_all(b"x").unwrap();
        run(&mut reactor);
        theirs.read_exact(&mut [0]).unwrap();
    }
    drop(theirs);
    run(&mut reactor);
    assert_eq!(log.count("read"), 3);
    assert!(log.has("closed by the peer"));
}

#[test]
fn earlier_of_two_drains_applies_also_if_other_has_no_end() {
    const SHORT: Duration = Duration::from_millis(20);
    for (first, second) in [(Duration::MAX, SHORT), (SHORT, Duration::MAX)] {
        let mut reactor = Reactor::new().unwrap();
        let log = Log::default();
        let _peer = add_passive(&mut reactor, "a", &log);
        reactor.context().drain(first);
        reactor.turn(Some(Duration::ZERO)).unwrap();
        reactor.context().drain(second);
        run(&mut reactor);
        assert_eq!(log.lines(), ["a connect", "a drain", "a close: shut down"]);
    }
}

/// Each closed channel adds another one, until adding fails.
#[test]
fn drain_ends_although_last_callbacks_add_channels() {
    struct Reconnects(Log);
    impl Protocol for Reconnects {
        fn handle_read(&mut self, _: &mut Io<'_>, _: &[u8]) -> io::Result<()> {
            Ok(())
        }
        fn handle_drain(&mut self, io: &mut Io<'_>) -> io::Result<()> {
            // Two generations close during the drain; the third stays open.
            if self.0.lines().len() < 2 {
                io.close();
            }
            Ok(())
        }
        fn handle_close(&mut self, io: &mut Io<'_>, _: &CloseReason) {
            let (ours, theirs) = local_pair().unwrap();
            std::mem::forget(theirs);
            let again = Stream::new(ours, Reconnects(self.0.clone())).unwrap();
            self.0.note(if io.context().add(again).is_ok() { "added" } else { "refused" });
        }
    }
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let (ours, _theirs) = local_pair().unwrap();
    reactor.add(Stream::new(ours, Reconnects(log.clone())).unwrap()).unwrap();
    reactor.context().drain(Duration::from_millis(20));
    run(&mut reactor);
    assert_eq!(log.lines(), ["added", "added", "refused"]);
    // After the drain the reactor can be used again.
    let _peer = add_passive(&mut reactor, "a", &log);
    assert!(!reactor.context().is_draining());
}

#[test]
fn drain_can_be_repeated_turn_by_turn() {
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    for name in ["a", "b"] {
        let _peer = add_passive(&mut reactor, name, &log);
        reactor.context().drain(Duration::from_millis(5));
        assert!(reactor.context().is_draining());
        turn_until(&mut reactor, |_| log.has(&format!("{name} close: shut down")));
        assert!(!reactor.context().is_draining());
    }
    assert_eq!(log.count("drain"), 2);
}

#[test]
fn connecting_stream_is_notified_of_drain_after_connect() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let probe = Probe::new("a", &log, |call, io| {
        if call == Call::Drain {
            io.close();
        }
        Ok(())
    });
    reactor.add(Stream::connect([listener.local_addr().unwrap()], probe)).unwrap();
    reactor.context().drain(Duration::from_secs(60));
    run(&mut reactor);
    assert_eq!(log.lines(), ["a connect", "a drain", "a close: closed"]);
}

#[test]
fn drain_interrupted_by_stop_is_reset() {
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let _peer = add_passive(&mut reactor, "a", &log);
    reactor.context().drain(Duration::from_millis(100));
    reactor.context().call_later(Duration::ZERO, Context::stop);
    run(&mut reactor);
    assert_eq!(log.lines(), ["a connect", "a drain"]);
    // The deadline of the drain is reset too.
    assert!(!reactor.context().is_draining());
    assert_eq!(reactor.next_deadline(), None);
    reactor.context().drain(Duration::from_millis(5));
    run(&mut reactor);
    assert_eq!(log.lines()[2..], ["a drain", "a close: shut down"]);
}

#[test]
fn drain_waits_for_timed_call_until_its_deadline() {
    for (timeout, lines) in [(Duration::from_secs(60), vec!["called"]), (Duration::ZERO, vec![])] {
        let mut reactor = Reactor::new().unwrap();
        let log = Log::default();
        let called = log.clone();
        reactor.context().call_later(Duration::from_millis(20), move |_| called.note("called"));
        reactor.context().drain(timeout);
        run(&mut reactor);
        assert_eq!(log.lines(), lines, "{timeout:?}");
    }
}

/// A call that sets itself again would keep the loop running forever.
#[test]
fn drain_ends_despite_a_call_that_repeats() {
    fn again(cx: &mut Context) {
        cx.call_later(Duration::from_millis(1), again);
    }
    let mut reactor = Reactor::new().unwrap();
    again(reactor.context());
    reactor.context().drain(Duration::from_millis(20));
    run(&mut reactor);
}

#[test]
fn invariant_6_stop_between_turns_does_not_spin() {
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let _peer = add_passive(&mut reactor, "a", &log);
    reactor.context().stop();
    assert!(!reactor.turn(None).unwrap(), "stop prevents the wait");
    assert_idle(&mut reactor);
}

#[test]
fn turn_returns_false_when_no_work_remains() {
    let mut reactor = Reactor::new().unwrap();
    let turn = |reactor: &mut Reactor| reactor.turn(Some(Duration::ZERO)).unwrap();
    assert!(!turn(&mut reactor), "nothing was ever added");

    let log = Log::default();
    let peer = add_passive(&mut reactor, "a", &log);
    assert!(turn(&mut reactor), "a channel");
    reactor.context().stop();
    assert!(!turn(&mut reactor), "a stop");
    assert!(turn(&mut reactor), "stop applies to one turn");
    drop(peer);
    turn_until(&mut reactor, |_| log.has("close"));
    assert!(!turn(&mut reactor), "no channel");

    let id = reactor.context().call_later(Duration::from_secs(3600), |_| {});
    assert!(turn(&mut reactor), "a timed call");
    assert!(reactor.context().cancel(id));
    assert!(!turn(&mut reactor), "cancelled");

    reactor.handle().post(|cx| cx.handle().post(|_| {}).unwrap()).unwrap();
    assert!(turn(&mut reactor), "a post made by a post");
    assert!(!turn(&mut reactor));

    #[cfg(unix)] // signals by number
    {
        let quiet = Signals::new(&[signal::SIGUSR2], |_, _| {}).unwrap();
        reactor.add(quiet).unwrap();
        assert!(!turn(&mut reactor), "a background channel only");
    }
}

#[test]
fn run_turns_makes_at_most_count_turns() {
    fn again(cx: &mut Context, count: &Rc<Cell<u32>>) {
        count.set(count.get() + 1);
        let count = Rc::clone(count);
        cx.call_later(Duration::ZERO, move |cx| again(cx, &count));
    }
    let mut reactor = Reactor::new().unwrap();
    assert!(!reactor.run_turns(5).unwrap());
    assert_eq!(reactor.stats().turns, 0, "no work, so no turn");

    let count: Rc<Cell<u32>> = Rc::default();
    again(reactor.context(), &count);
    assert!(reactor.run_turns(0).unwrap());
    assert_eq!(count.get(), 1);
    assert!(reactor.run_turns(5).unwrap());
    assert_eq!((count.get(), reactor.stats().turns), (6, 5));
    // `stop` ends the turns early.
    reactor.context().call_later(Duration::ZERO, Context::stop);
    assert!(!reactor.run_turns(1_000).unwrap());
    assert!(reactor.stats().turns < 10);
}

/// A pending close is completed even if no turn is allowed.
#[test]
fn close_between_runs_needs_no_turn() {
    let mut reactor = Reactor::new().unwrap();
    let (ours, _theirs) = local_pair().unwrap();
    let token = reactor.add(Stream::new(ours, Echo).unwrap()).unwrap();
    turn_all(&mut reactor);
    reactor.get_mut::<Stream<Echo>>(token).unwrap().close();
    assert!(!reactor.run_turns(0).unwrap());
    assert!(reactor.get_mut::<Stream<Echo>>(token).is_none());
}

/// The deadline holds whatever is pending.
#[test]
fn drain_deadline_holds_whatever_is_pending() {
    /// Produces output for ever, or never.
    struct Endless(Produced);
    impl ChatProtocol for Endless {
        fn handle_connect(&mut self, chat: &mut ChatIo<'_>) -> io::Result<()> {
            let produced = self.0;
            chat.push_with_producer(move |buffer: &mut Vec<u8>| {
                buffer.extend([0; 1000]);
                Ok(produced)
            })?;
            chat.close_when_done();
            Ok(())
        }
        fn found_terminator(&mut self, _: &mut ChatIo<'_>) -> io::Result<()> {
            Ok(())
        }
    }
    let (_listener, unanswered, _fillers) = unresponsive_listener();
    let pending = [
        "timer",
        "repeated timer",
        "endless producer",
        "waiting producer",
        "connect",
        "lookup",
        "linger",
    ];
    for what in pending {
        let mut reactor = Reactor::new().unwrap();
        let log = Log::default();
        let (ours, mut theirs) = tcp_pair();
        match what {
            "timer" | "repeated timer" => {
                let probe = Probe::new("a", &log, move |call, io| {
                    match call {
                        Call::Connect if what == "timer" => drop(io.set_timer(Duration::MAX)),
                        Call::Connect | Call::Timer => drop(io.set_timer(Duration::ZERO)),
                        _ => {}
                    }
                    Ok(())
                });
                reactor.add(Stream::new(ours, probe).unwrap()).unwrap();
            }
            "endless producer" | "waiting producer" => {
                let is_endless = what == "endless producer";
                let produced = if is_endless { Produced::Data } else { Produced::Later };
                let chat = Chat::new("\n", Endless(produced));
                reactor.add(Stream::new(ours, chat).unwrap()).unwrap();
            }
            "connect" => {
                drop(ours);
                let stream = Stream::connect([unanswered], Probe::passive("a", &log));
                reactor.add(stream).unwrap();
            }
            "lookup" => {
                drop(ours);
                let stream = Stream::connect_host("drain.invalid", 1, Probe::passive("a", &log));
                reactor.add(stream).unwrap();
            }
            _ => {
                // More than one read: the rest is discarded until the peer ends.
                theirs.write_all(&vec![0; 100_000]).unwrap();
                let probe = Probe::new("a", &log, |call, io| {
                    if matches!(call, Call::Read(_)) {
                        io.close();
                    }
                    Ok(())
                });
                reactor.add(Stream::new(ours, probe).unwrap()).unwrap();
            }
        }
        let reader = theirs.try_clone().unwrap();
        let peer = thread::spawn(move || io::copy(&mut &reader, &mut io::sink()));
        let begin = Instant::now();
        reactor.context().drain(Duration::from_millis(200));
        run(&mut reactor);
        let lasted = begin.elapsed();
        assert!(lasted < Duration::from_millis(1_500), "{what}: {lasted:?}");
        let _ = peer.join().unwrap();
    }
}
