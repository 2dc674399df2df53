//! Extreme values: each duration and number from zero to the maximum of its type. The
//! expected result is what the value means, never a panic or a poller error.

use std::cell::Cell;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::num::NonZeroU64;
use std::rc::Rc;
use std::time::{Duration, Instant};

use reactor::{
    Cause, Chat, ChatIo, ChatProtocol, Context, Limits, Listener, Reactor, SendError, Stream,
    TimeoutKind, TimerId, inbox,
};

use crate::common::{
    DEADLINE, Echo, assert_echo, in_process_with_fault, local_pair, run, run_with, turn_all,
    turn_until,
};

const DAY: Duration = Duration::from_secs(86_400);

/// From the limit of `int` milliseconds, 24.8 days, to the end of the type.
fn long_durations() -> Vec<Duration> {
    let mut all: Vec<_> = [24, 25, 30, 400, 40_000, 300_000, 100_000_000].map(|n| n * DAY).into();
    all.extend([
        Duration::from_millis(i32::MAX.try_into().unwrap()),
        Duration::from_millis(u32::MAX.into()),
        Duration::from_secs(i32::MAX.try_into().unwrap()),
        Duration::from_secs(u32::MAX.into()),
        Duration::from_nanos(i64::MAX.try_into().unwrap()),
        Duration::from_nanos(u64::MAX),
        Duration::from_secs(i64::MAX.try_into().unwrap()),
        Duration::from_secs(u64::MAX),
        Duration::MAX,
    ]);
    all
}

/// Waits for each duration in each way, until something else ends the wait.
fn wait_for_long_durations() {
    for long in long_durations() {
        let mut reactor = Reactor::new().unwrap();
        reactor.context().call_later(long, |_| panic!("early"));
        let (ours, mut peer) = local_pair().unwrap();
        let limits = Limits {
            idle_timeout: Some(long),
            stall_timeout: Some(long),
            connect_timeout: Some(long),
            ..Limits::default()
        };
        reactor.add(Stream::new(ours, Echo).unwrap().with_limits(limits)).unwrap();
        reactor.context().drain(long);
        run_with(&mut reactor, move || {
            peer.write_all(b"x").unwrap();
            peer.read_exact(&mut [0]).unwrap();
        });
        // Nothing but the limit of the turn, which a post ends.
        let handle = reactor.handle();
        let posting = std::thread::spawn(move || handle.post(|_| {}).unwrap());
        let mut turns = 0;
        while reactor.stats().jobs < 2 && turns < 1_000 {
            reactor.turn(Some(long)).unwrap();
            turns += 1;
        }
        posting.join().unwrap();
    }
}

#[test]
fn long_waits_work() {
    wait_for_long_durations();
}

/// Linux before 5.11, and containers whose filter of system calls does not know it.
#[test]
fn long_waits_work_without_epoll_pwait2() {
    for errno in ["ENOSYS", "EPERM"] {
        let fault = format!("error={errno}");
        let name = "extremes::long_waits_work_without_epoll_pwait2";
        if in_process_with_fault(name, "epoll_pwait2", &fault) {
            wait_for_long_durations();
        }
    }
}

#[test]
fn zero_timeouts_expire_at_once() {
    for (limits, kind) in [
        (Limits { idle_timeout: Some(Duration::ZERO), ..Limits::default() }, TimeoutKind::Idle),
        (Limits { stall_timeout: Some(Duration::ZERO), ..Limits::default() }, TimeoutKind::Stall),
    ] {
        let (ours, _peer) = local_pair().unwrap();
        let mut reactor = Reactor::new().unwrap();
        let token = reactor.add(Stream::new(ours, Echo).unwrap().with_limits(limits)).unwrap();
        if kind == TimeoutKind::Stall {
            let stream = reactor.get_mut::<Stream<Echo>>(token).unwrap();
            stream.send(&vec![0; 4_000_000]).unwrap();
        }
        let reason = reactor.run_until_closed(token).unwrap();
        assert!(matches!(reason.cause, Cause::TimedOut(found) if found == kind));
    }
}

#[test]
fn extreme_marks_and_rates_keep_a_stream_working() {
    for high_water in [0, 1, usize::MAX - 1, usize::MAX] {
        for low_water in [0, 1, usize::MAX] {
            for rate in [None, NonZeroU64::new(u64::MAX), NonZeroU64::new(u64::MAX - 1)] {
                let limits = Limits {
                    high_water,
                    low_water,
                    read_rate: rate,
                    write_rate: rate,
                    ..Limits::default()
                };
                let (ours, peer) = local_pair().unwrap();
                let mut reactor = Reactor::new().unwrap();
                let stream = Stream::new(ours, Echo).unwrap().with_limits(limits);
                let token = reactor.add(stream).unwrap();
                turn_all(&mut reactor);
                {
                    assert_echo(&mut reactor, &peer);
                }
                let stream = reactor.get_mut::<Stream<Echo>>(token).unwrap();
                stream.set_read_rate(NonZeroU64::new(1));
                stream.set_write_rate(NonZeroU64::new(1));
                turn_all(&mut reactor);
            }
        }
    }
}

#[test]
fn extreme_settings_of_the_builder_work() {
    for spin_limit in [0, 1, u16::MAX] {
        for threshold in [Duration::ZERO, Duration::MAX] {
            for busy_poll in [Duration::ZERO, Duration::from_nanos(1), Duration::MAX] {
                let mut reactor = Reactor::builder()
                    .spin_limit(spin_limit)
                    .slow_callback_threshold(threshold)
                    .busy_poll(busy_poll)
                    .build()
                    .unwrap();
                let (ours, peer) = local_pair().unwrap();
                reactor.add(Stream::new(ours, Echo).unwrap()).unwrap();
                assert_echo(&mut reactor, &peer);
                // A timer, a limit of the turn, and a post end a busy poll too.
                let ran = Rc::new(Cell::new(false));
                let timer = Rc::clone(&ran);
                reactor.context().call_later(Duration::from_millis(1), move |_| timer.set(true));
                let begin = Instant::now();
                while !ran.get() {
                    assert!(begin.elapsed() < Duration::from_secs(10));
                    reactor.turn(None).unwrap();
                }
                let handle = reactor.handle();
                let stopping = std::thread::spawn(move || handle.stop().unwrap());
                run(&mut reactor);
                stopping.join().unwrap();
            }
        }
    }
}

/// Sets timers of each duration in a callback, and a timeout of each for a message.
#[test]
fn extreme_timers_and_message_timeouts_work() {
    struct Lines(Rc<Cell<usize>>);
    impl ChatProtocol for Lines {
        fn found_terminator(&mut self, chat: &mut ChatIo<'_>) -> io::Result<()> {
            for duration in long_durations() {
                chat.io().set_timer(duration);
            }
            self.0.set(self.0.get() + chat.take_collected().len());
            Ok(())
        }
        fn handle_timer(&mut self, _: &mut ChatIo<'_>, _: TimerId) -> io::Result<()> {
            panic!("early")
        }
    }
    for timeout in long_durations() {
        for max in [5, usize::MAX] {
            let received = Rc::default();
            let (ours, mut peer) = local_pair().unwrap();
            let lines = Lines(Rc::clone(&received));
            let chat = Chat::new(b"\n", lines).with_message_timeout(timeout).with_max_message(max);
            let mut reactor = Reactor::new().unwrap();
            reactor.add(Stream::new(ours, chat).unwrap()).unwrap();
            for part in [&b"he"[..], b"llo\n"] {
                peer.write_all(part).unwrap();
                turn_all(&mut reactor);
            }
            assert_eq!(received.get(), 5);
        }
    }
    // No time at all for a message that is not complete at once.
    let (ours, mut peer) = local_pair().unwrap();
    let chat = Chat::new(b"\n", Lines(Rc::default())).with_message_timeout(Duration::ZERO);
    let mut reactor = Reactor::new().unwrap();
    let token = reactor.add(Stream::new(ours, chat).unwrap()).unwrap();
    peer.write_all(b"he").unwrap();
    let reason = reactor.run_until_closed(token).unwrap();
    assert!(matches!(reason.cause, Cause::TimedOut(TimeoutKind::Message)), "{reason}");
}

#[test]
fn extreme_connection_limits_work() {
    for max in [0, 1, usize::MAX] {
        let mut reactor = Reactor::new().unwrap();
        let listener = Listener::bind("127.0.0.1:0", |_| Ok(Echo)).unwrap();
        let addr = listener.local_addr().as_inet().unwrap();
        reactor.add(listener.with_max_connections(max)).unwrap();
        let mut peer = TcpStream::connect(addr).unwrap();
        if max > 0 {
            assert_echo(&mut reactor, &peer);
        } else {
            turn_until(&mut reactor, |reactor| reactor.stats().rejected_over_limit == 1);
            peer.set_read_timeout(Some(DEADLINE)).unwrap();
            assert_eq!(peer.read_to_end(&mut Vec::new()).unwrap(), 0);
        }
        reactor.run_turns(0).unwrap();
    }
}

#[test]
fn inbox_without_capacity_rejects_every_message() {
    let (sender, receiver) = inbox(0, |_: &mut Context, ()| Ok(()));
    let mut reactor = Reactor::new().unwrap();
    reactor.add(receiver).unwrap();
    turn_all(&mut reactor);
    assert_eq!(sender.send(()), Err(SendError::Full(())));
    drop(sender);
    run(&mut reactor);
}

#[test]
fn drain_of_any_timeout_ends() {
    for timeout in [Duration::ZERO, Duration::from_nanos(1), Duration::MAX] {
        let (ours, peer) = local_pair().unwrap();
        let mut reactor = Reactor::new().unwrap();
        reactor.add(Stream::new(ours, Echo).unwrap()).unwrap();
        turn_all(&mut reactor);
        reactor.context().drain(timeout);
        if timeout == Duration::MAX {
            drop(peer);
        }
        run(&mut reactor);
    }
}
