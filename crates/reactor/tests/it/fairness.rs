//! Invariant 7: one event causes a bounded amount of work, so that a flood on
//! one channel does not delay the others.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use reactor::{CloseReason, Context, Io, Limits, Listener, Protocol, Reactor, Stream};
use socket2::SockRef;

use crate::common::{Echo, Log, Probe, local_pair, run, tcp_pair, turn_until};

#[test]
fn invariant_7_one_event_reads_at_most_one_buffer() {
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let mut peers = Vec::new();
    for (name, bytes) in [("flood", 150_000), ("small", 1)] {
        let (ours, mut theirs) = local_pair().unwrap();
        SockRef::from(&theirs).set_send_buffer_size(1_000_000).unwrap();
        theirs.write_all(&vec![0; bytes]).unwrap();
        reactor.add(Stream::new(ours, Probe::passive(name, &log)).unwrap()).unwrap();
        peers.push(theirs);
    }
    reactor.turn(Some(Duration::from_secs(1))).unwrap();
    assert_eq!(log.count("flood read"), 1, "{:?}", log.lines());
    assert_eq!(log.count("flood read 65536"), 1, "{:?}", log.lines());
    assert_eq!(log.count("small read 1"), 1, "{:?}", log.lines());
    turn_until(&mut reactor, |_| log.has("flood read 18928"));
}

/// A peer that reads as fast as the kernel copies always makes room.
#[test]
fn invariant_7_one_event_writes_bounded_part_of_large_message() {
    let (ours, mut theirs) = tcp_pair();
    let mut reactor = Reactor::new().unwrap();
    let limits = Limits { high_water: usize::MAX, ..Limits::default() };
    let mut stream = Stream::new(ours, Echo).unwrap().with_limits(limits);
    // Some output is queued already, so the loop writes the whole message.
    while stream.unsent() == 0 {
        stream.send(&[0; 1_000]).unwrap();
    }
    stream.send(&vec![0; 100_000_000]).unwrap();
    let token = reactor.add(stream).unwrap();
    let reading = thread::spawn(move || {
        let mut buffer = vec![0; 1 << 20];
        while theirs.read(&mut buffer).unwrap() > 0 {}
    });
    let (mut before, mut most) = (usize::MAX, 0);
    turn_until(&mut reactor, |reactor| {
        let unsent = reactor.get_mut::<Stream<Echo>>(token).unwrap().unsent();
        if before != usize::MAX {
            most = most.max(before - unsent);
        }
        before = unsent;
        unsent == 0
    });
    reactor.get_mut::<Stream<Echo>>(token).unwrap().close();
    run(&mut reactor);
    reading.join().unwrap();
    assert!(most <= 2 * 1024 * 1024, "{most} bytes in one turn");
}

#[test]
fn invariant_7_one_event_accepts_at_most_64() {
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let accepted = log.clone();
    let listener = Listener::bind("127.0.0.1:0", move |_| {
        accepted.note("accepted");
        Ok(Echo)
    })
    .unwrap();
    let addr = listener.local_addr().as_inet().unwrap();
    reactor.add(listener).unwrap();
    let _peers: Vec<_> = (0..200).map(|_| TcpStream::connect(addr).unwrap()).collect();
    for expected in [64, 128, 192, 200] {
        reactor.turn(Some(Duration::from_secs(1))).unwrap();
        assert_eq!(log.count("accepted"), expected);
    }
}

#[test]
fn invariant_7_timers_run_during_a_flood() {
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let (ours, theirs) = local_pair().unwrap();
    theirs.set_nonblocking(true).unwrap();
    reactor.add(Stream::new(ours, Probe::passive("flood", &log)).unwrap()).unwrap();
    let timed = log.clone();
    reactor.context().call_later(Duration::from_millis(5), move |_| timed.note("timer"));
    let flood = vec![0; 65536];
    turn_until(&mut reactor, |_| {
        while (&theirs).write(&flood).is_ok() {}
        log.has("timer")
    });
}

/// Each channel closes at once and adds its successor in `handle_close`.
#[test]
fn invariant_7_chain_of_short_lived_channels_lets_timers_run() {
    struct Short;
    impl Protocol for Short {
        fn handle_connect(&mut self, io: &mut Io<'_>) -> io::Result<()> {
            io.close();
            Ok(())
        }
        fn handle_read(&mut self, _: &mut Io<'_>, _: &[u8]) -> io::Result<()> {
            Ok(())
        }
        fn handle_close(&mut self, io: &mut Io<'_>, _: &CloseReason) {
            let (ours, _theirs) = local_pair().unwrap();
            // The last one is refused.
            let _ = io.context().add(Stream::new(ours, Short).unwrap());
        }
    }
    let mut reactor = Reactor::new().unwrap();
    let (ours, _theirs) = local_pair().unwrap();
    reactor.add(Stream::new(ours, Short).unwrap()).unwrap();
    reactor.context().call_later(Duration::from_millis(5), Context::stop);
    run(&mut reactor);
}

#[test]
fn invariant_7_many_expired_timers_take_several_turns() {
    const ALL: u64 = 50_000;
    let mut reactor = Reactor::new().unwrap();
    for _ in 0..ALL {
        reactor.context().call_later(Duration::ZERO, |_| {});
    }
    reactor.turn(None).unwrap();
    let ran = reactor.stats().jobs;
    assert!((1..=1_024).contains(&ran), "{ran} in one turn");
    run(&mut reactor);
    assert_eq!(reactor.stats().jobs, ALL);
}
