//! Invariant 10: timers are never early, and cancelling frees their memory.
//! (Unit tests cover order, extreme durations and churn.)

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use reactor::{CloseReason, Context, Io, Limits, Protocol, Reactor, Stream};

use crate::common::{
    Call, Echo, Log, Probe, assert_idle, local_pair, run, run_with, turn_all, turn_until,
    unresponsive_listener,
};

#[test]
fn invariant_10_timer_is_never_early() {
    let mut reactor = Reactor::new().unwrap();
    let early: Rc<Cell<u32>> = Rc::default();
    let ran: Rc<Cell<u32>> = Rc::default();
    for micros in (0..20_000).step_by(97) {
        let (early, ran) = (Rc::clone(&early), Rc::clone(&ran));
        let after = Duration::from_micros(micros);
        let set = Instant::now();
        reactor.context().call_later(after, move |_| {
            ran.set(ran.get() + 1);
            if set.elapsed() < after {
                early.set(early.get() + 1);
            }
        });
    }
    run(&mut reactor);
    assert_eq!((early.get(), ran.get()), (0, 207));
}

#[test]
fn invariant_10_timer_cancelled_in_same_turn_does_not_run() {
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let (first, second) = (log.clone(), log.clone());
    let cancelled: Rc<Cell<Option<reactor::TimerId>>> = Rc::default();
    let target = Rc::clone(&cancelled);
    reactor.context().call_later(Duration::ZERO, move |cx| {
        first.note("first");
        assert!(cx.cancel(target.get().unwrap()));
        assert!(!cx.cancel(target.get().unwrap()), "once");
    });
    let id = reactor.context().call_later(Duration::ZERO, move |_| second.note("second"));
    cancelled.set(Some(id));
    run(&mut reactor);
    assert_eq!(log.lines(), ["first"]);
}

#[test]
fn invariant_10_longest_durations_do_not_panic() {
    let mut reactor = Reactor::new().unwrap();
    reactor.context().call_later(Duration::MAX, |_| unreachable!());
    let forever = Limits {
        idle_timeout: Some(Duration::MAX),
        stall_timeout: Some(Duration::MAX),
        connect_timeout: Some(Duration::MAX),
        ..Limits::default()
    };
    let (ours, theirs) = local_pair().unwrap();
    let mut stream = Stream::new(ours, Echo).unwrap().with_limits(forever);
    stream.send(&vec![0; 4_000_000]).unwrap();
    reactor.add(stream).unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let connecting = Stream::connect([listener.local_addr().unwrap()], Echo);
    reactor.add(connecting.with_limits(forever)).unwrap();
    turn_all(&mut reactor);
    drop((theirs, listener));
    turn_all(&mut reactor);
}

/// A timer without delay that sets itself again runs once a turn, so that I/O
/// is served too.
#[test]
fn timer_that_rearms_itself_runs_once_per_turn() {
    fn again(cx: &mut Context, count: &Rc<Cell<u32>>) {
        count.set(count.get() + 1);
        let count = Rc::clone(count);
        cx.call_later(Duration::ZERO, move |cx| again(cx, &count));
    }
    let mut reactor = Reactor::new().unwrap();
    let count: Rc<Cell<u32>> = Rc::default();
    again(reactor.context(), &count);
    for turns in 2..10 {
        reactor.turn(None).unwrap();
        assert_eq!(count.get(), turns);
    }
}

#[test]
fn timers_are_cancelled_when_the_stream_closes() {
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let (ours, _theirs) = local_pair().unwrap();
    let probe = Probe::new("a", &log, |call, io| {
        match call {
            Call::Connect => {
                io.set_timer(Duration::from_millis(1));
                io.set_timer(Duration::from_millis(2));
                let cancelled = io.set_timer(Duration::from_millis(1));
                assert!(io.context().cancel(cancelled));
            }
            Call::Timer => io.close(),
            _ => {}
        }
        Ok(())
    });
    reactor.add(Stream::new(ours, probe).unwrap()).unwrap();
    run(&mut reactor);
    assert_eq!(log.lines(), ["a connect", "a timer", "a close: closed"]);
}

#[test]
fn idle_timeout_counts_from_the_last_byte() {
    use std::io::{Read, Write};
    const IDLE: Duration = Duration::from_millis(150);
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let (ours, mut theirs) = local_pair().unwrap();
    let probe = Probe::new("a", &log, |call, io| match call {
        Call::Read(data) => io.send(data),
        _ => Ok(()),
    });
    let limits = Limits { idle_timeout: Some(IDLE), ..Limits::default() };
    reactor.add(Stream::new(ours, probe).unwrap().with_limits(limits)).unwrap();
    let begin = Instant::now();
    let mut last = begin;
    // Each byte arrives within the timeout; all together take longer.
    while begin.elapsed() < 2 * IDLE {
        theirs.write_all(b"x").unwrap();
        last = Instant::now();
        turn_all(&mut reactor);
        if log.has("close") {
            // The machine was too slow for the test to prove anything.
            assert!(begin.elapsed() > IDLE);
            return;
        }
        theirs.read_exact(&mut [0]).unwrap();
    }
    turn_until(&mut reactor, |_| log.has("close: timed out: idle timeout"));
    assert!(last.elapsed() >= IDLE, "early");
}

#[test]
fn idle_timeout_can_be_changed_later() {
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let (ours, _theirs) = local_pair().unwrap();
    let probe = Probe::new("a", &log, |call, io| {
        match call {
            Call::Connect => io.set_idle_timeout(Some(Duration::from_secs(3600))),
            Call::Timer => io.set_idle_timeout(Some(Duration::from_millis(1))),
            _ => {}
        }
        if call == Call::Connect {
            io.set_timer(Duration::from_millis(1));
        }
        Ok(())
    });
    reactor.add(Stream::new(ours, probe).unwrap()).unwrap();
    run(&mut reactor);
    assert_eq!(log.lines(), ["a connect", "a timer", "a close: timed out: idle timeout"]);
}

#[test]
fn distant_idle_timeout_causes_no_wakeup() {
    let mut reactor = Reactor::new().unwrap();
    let limits = Limits { idle_timeout: Some(Duration::from_secs(3600)), ..Limits::default() };
    let (ours, _theirs) = local_pair().unwrap();
    reactor.add(Stream::new(ours, Echo).unwrap().with_limits(limits)).unwrap();
    assert_idle(&mut reactor);
}

/// Time between the last turn and the start of a wait does not count.
#[test]
fn invariant_10_timeouts_count_from_the_start_of_the_wait() {
    const TIMEOUT: Duration = Duration::from_millis(50);
    const BEFORE: Duration = Duration::from_millis(80);
    let (_listener, silent, _fillers) = unresponsive_listener();
    for which in ["idle", "stall", "connect", "connect within a callback"] {
        let mut reactor = Reactor::new().unwrap();
        let log = Log::default();
        let probe = Probe::passive("a", &log);
        let limits = Limits {
            idle_timeout: Some(TIMEOUT).filter(|_| which == "idle"),
            stall_timeout: Some(TIMEOUT),
            connect_timeout: Some(TIMEOUT),
            ..Limits::default()
        };
        let (ours, _theirs) = local_pair().unwrap();
        let begin: Rc<Cell<Option<Instant>>> = Rc::default();
        match which {
            "idle" => {
                thread::sleep(BEFORE);
                begin.set(Some(Instant::now()));
                reactor.add(Stream::new(ours, probe).unwrap().with_limits(limits)).unwrap();
            }
            "stall" => {
                let stream = Stream::new(ours, probe).unwrap().with_limits(limits);
                let token = reactor.add(stream).unwrap();
                turn_all(&mut reactor);
                thread::sleep(BEFORE);
                begin.set(Some(Instant::now()));
                let stream = reactor.get_mut::<Stream<Probe>>(token).unwrap();
                stream.send(&vec![0; 4_000_000]).unwrap();
            }
            "connect" => {
                thread::sleep(BEFORE);
                begin.set(Some(Instant::now()));
                reactor.add(Stream::connect([silent], probe).with_limits(limits)).unwrap();
            }
            _ => {
                let begin = Rc::clone(&begin);
                reactor.context().call_later(Duration::ZERO, move |cx| {
                    // Name resolution may take this long.
                    thread::sleep(BEFORE);
                    begin.set(Some(Instant::now()));
                    cx.add(Stream::connect([silent], probe).with_limits(limits)).unwrap();
                });
            }
        }
        run(&mut reactor);
        let took = begin.get().unwrap().elapsed();
        assert!(took >= TIMEOUT, "{which}: {:?} after {took:?}", log.lines());
        assert!(log.has("close: timed out"), "{which}: {:?}", log.lines());
    }
}

#[test]
fn invariant_10_timer_set_in_handle_close_is_dropped() {
    struct Late;
    impl Protocol for Late {
        fn handle_connect(&mut self, io: &mut Io<'_>) -> io::Result<()> {
            io.close();
            Ok(())
        }
        fn handle_read(&mut self, _: &mut Io<'_>, _: &[u8]) -> io::Result<()> {
            Ok(())
        }
        fn handle_close(&mut self, io: &mut Io<'_>, _: &CloseReason) {
            io.set_timer(Duration::from_millis(10));
        }
    }
    let mut reactor = Reactor::new().unwrap();
    let (ours, _theirs) = local_pair().unwrap();
    reactor.add(Stream::new(ours, Late).unwrap()).unwrap();
    turn_all(&mut reactor);
    assert_eq!(reactor.next_deadline(), None);
}

/// Includes durations that exceed the range of the system's clock types.
#[test]
fn invariant_10_distant_timers_neither_fail_nor_spin() {
    let most = i64::MAX.unsigned_abs();
    for secs in [1 << 31, 1 << 33, 1 << 40, most / 1_000_000_000, most / 2, most - (1 << 40)] {
        let mut reactor = Reactor::new().unwrap();
        reactor.context().call_later(Duration::from_secs(secs), |_| unreachable!());
        run_with(&mut reactor, || thread::sleep(Duration::from_millis(20)));
        let turns = reactor.stats().turns;
        assert!(turns <= 2, "{turns} turns while a timer in {secs} seconds is pending");
    }
}
