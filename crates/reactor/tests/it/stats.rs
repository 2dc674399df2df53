//! The reactor's counters, and the detection of slow callbacks and spinning.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use reactor::{Dispatcher, Io, Limits, Listener, Protocol, Reactor, Stream, TimerId};
use socket2::{SockRef, Socket};

use crate::common::{
    Call, Echo, Log, Probe, assert_echo, local_pair, reset, run, silence_panics, tcp_pair,
    turn_all, turn_until,
};

#[test]
fn counters_of_a_small_conversation_are_exact() {
    let mut reactor = Reactor::new().unwrap();
    let listener = Listener::bind("127.0.0.1:0", |_| Ok(Echo)).unwrap();
    let addr = listener.local_addr().as_inet().unwrap();
    let token = reactor.add(listener).unwrap();
    turn_all(&mut reactor);
    let fresh = reactor.stats().clone();
    assert_eq!((fresh.turns, fresh.events, fresh.callbacks), (10, 0, 1));

    let mut peer = TcpStream::connect(addr).unwrap();
    turn_until(&mut reactor, |reactor| reactor.stats().accepted == 1);
    peer.write_all(b"hello").unwrap();
    turn_until(&mut reactor, |reactor| reactor.stats().sent == 5);
    peer.read_exact(&mut [0; 5]).unwrap();
    turn_all(&mut reactor);
    drop(peer);
    turn_until(&mut reactor, |reactor| reactor.stats().events == 3);
    reactor.handle().post(|_| {}).unwrap();
    reactor.context().call_later(Duration::ZERO, |_| {});
    turn_until(&mut reactor, |reactor| reactor.stats().jobs == 2);
    reactor.context().close(token);
    run(&mut reactor);

    let stats = reactor.stats();
    assert_eq!(stats.events, 3, "accept, read, end");
    assert_eq!(stats.callbacks, 5, "including two added channels");
    assert_eq!(stats.jobs, 2, "a post and a timed call");
    assert_eq!((stats.received, stats.sent, stats.accepted), (5, 5, 1));
    let refused = (stats.rejected_over_limit, stats.rejected_by_handler, stats.accept_errors);
    assert_eq!((refused, stats.accept_pauses), ((0, 0, 0), 0));
    assert_eq!((stats.slow_callbacks, stats.max_callback_time, stats.spins), (0, None, 0));
}

/// This includes bytes sent from outside a callback and bytes sent later.
#[test]
fn sent_bytes_are_counted_once() {
    let (ours, mut theirs) = local_pair().unwrap();
    let mut reactor = Reactor::new().unwrap();
    let token = reactor.add(Stream::new(ours, Echo).unwrap()).unwrap();
    turn_all(&mut reactor);
    let stream = reactor.get_mut::<Stream<Echo>>(token).unwrap();
    stream.send(b"from outside").unwrap();
    stream.send(&vec![0; 2_000_000]).unwrap();
    let unsent = stream.unsent();
    stream.close();
    let reading = thread::spawn(move || {
        let mut got = Vec::new();
        theirs.read_to_end(&mut got).unwrap();
        got.len() as u64
    });
    run(&mut reactor);
    assert!(unsent > 0);
    assert_eq!(reading.join().unwrap(), 2_000_012);
    assert_eq!(reactor.stats().sent, 2_000_012);
}

#[test]
fn rejected_connections_are_counted_by_cause() {
    silence_panics();
    let mut reactor = Reactor::new().unwrap();
    let mut count = 0;
    let listener = Listener::bind("127.0.0.1:0", move |_| {
        count += 1;
        match count {
            1 => Err(io::Error::other("no")),
            2 => panic!("a panic in handle_accepted"),
            _ => Ok(Echo),
        }
    })
    .unwrap()
    .with_max_connections(1);
    let addr = listener.local_addr().as_inet().unwrap();
    let token = reactor.add(listener).unwrap();
    let mut peers = Vec::new();
    for accepted in 1..=5 {
        peers.push(TcpStream::connect(addr).unwrap());
        turn_until(&mut reactor, |reactor| reactor.stats().accepted == accepted);
    }
    let stats = reactor.stats();
    assert_eq!((stats.rejected_by_handler, stats.rejected_over_limit), (2, 2));
    assert_eq!((stats.accept_errors, stats.accept_pauses), (0, 0));
    assert_eq!(reactor.get_mut::<Listener>(token).unwrap().rejected(), 4);
}

/// Sleeps when it reads.
struct Slow(Duration);

impl Protocol for Slow {
    fn handle_read(&mut self, _: &mut Io<'_>, _: &[u8]) -> io::Result<()> {
        thread::sleep(self.0);
        Ok(())
    }
}

#[test]
fn slow_callback_is_counted_and_measured() {
    let slow = Duration::from_millis(250);
    for watched in [true, false] {
        let mut reactor = if watched {
            Reactor::builder().slow_callback_threshold(Duration::from_millis(200)).build().unwrap()
        } else {
            Reactor::builder().build().unwrap()
        };
        let (ours, mut theirs) = local_pair().unwrap();
        reactor.add(Stream::new(ours, Slow(slow)).unwrap()).unwrap();
        let (ours, neighbour) = local_pair().unwrap();
        reactor.add(Stream::new(ours, Echo).unwrap()).unwrap();
        for _ in 0..100 {
            assert_echo(&mut reactor, &neighbour);
        }
        assert_eq!(reactor.stats().slow_callbacks, 0);
        theirs.write_all(b"x").unwrap();
        turn_until(&mut reactor, |reactor| reactor.stats().received == 101);
        let stats = reactor.stats();
        if watched {
            assert_eq!(stats.slow_callbacks, 1);
            assert!(stats.max_callback_time >= Some(slow), "{:?}", stats.max_callback_time);
        } else {
            assert_eq!((stats.slow_callbacks, stats.max_callback_time), (0, None));
        }
    }
}

fn watched(limit: u16) -> Reactor {
    Reactor::builder().spin_limit(limit).build().unwrap()
}

/// Always has output of its own, but sends none unless `sends`.
struct Writes {
    sends: bool,
}

impl Protocol for Writes {
    fn writable(&self) -> bool {
        true
    }
    fn handle_write(&mut self, io: &mut Io<'_>) -> io::Result<()> {
        if self.sends { io.send(b"x") } else { Ok(()) }
    }
    fn handle_read(&mut self, _: &mut Io<'_>, _: &[u8]) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn stream_that_is_writable_and_sends_nothing_spins() {
    for (sends, limit, spins) in [(false, 10, 2), (false, 1, 25), (true, 10, 0)] {
        let mut reactor = watched(limit);
        let (ours, _theirs) = local_pair().unwrap();
        reactor.add(Stream::new(ours, Writes { sends }).unwrap()).unwrap();
        for _ in 0..25 {
            reactor.turn(Some(Duration::from_secs(1))).unwrap();
        }
        assert_eq!(reactor.stats().events, 25);
        assert_eq!(reactor.stats().spins, spins, "limit {limit}, sends: {sends}");
    }
}

#[test]
fn writable_protocol_that_sends_nothing_spins() {
    let mut reactor = watched(10);
    let (ours, _theirs) = local_pair().unwrap();
    let probe = Probe::new("a", &Log::default(), |_, _| Ok(())).writable();
    reactor.add(Stream::new(ours, probe).unwrap()).unwrap();
    turn_until(&mut reactor, |reactor| reactor.stats().spins > 0);
}

#[test]
fn busy_server_does_not_spin() {
    let mut reactor = watched(3);
    let listener = Listener::bind("127.0.0.1:0", |_| Ok(Echo)).unwrap();
    let addr = listener.local_addr().as_inet().unwrap();
    reactor.add(listener).unwrap();
    for _ in 0..20 {
        let peer = TcpStream::connect(addr).unwrap();
        for _ in 0..20 {
            assert_echo(&mut reactor, &peer);
        }
        reset(peer);
    }
    // Half of the output is queued for a slow peer.
    let (ours, mut theirs) = local_pair().unwrap();
    SockRef::from(&ours).set_send_buffer_size(4096).unwrap();
    let mut stream = Stream::new(ours, Echo).unwrap();
    stream.send(&vec![0; 100_000]).unwrap();
    reactor.add(stream).unwrap();
    let mut got = 0;
    theirs.set_nonblocking(true).unwrap();
    turn_until(&mut reactor, |_| {
        got += theirs.read(&mut [0; 1_000]).unwrap_or(0);
        got == 100_000
    });
    assert_eq!(reactor.stats().spins, 0, "in {} events", reactor.stats().events);
}

#[test]
fn rate_limited_stream_does_not_spin() {
    let mut reactor = watched(3);
    let (ours, mut theirs) = local_pair().unwrap();
    let limits = Limits {
        read_rate: std::num::NonZeroU64::new(1_000),
        write_rate: std::num::NonZeroU64::new(1_000),
        ..Limits::default()
    };
    reactor.add(Stream::new(ours, Echo).unwrap().with_limits(limits)).unwrap();
    theirs.write_all(&[7; 400]).unwrap();
    turn_until(&mut reactor, |reactor| reactor.stats().sent == 400);
    assert_eq!(reactor.stats().spins, 0, "in {} events", reactor.stats().events);
}

/// A closing stream discards its input, which counts as progress.
#[test]
fn lingering_stream_does_not_spin() {
    let mut reactor = watched(3);
    let log = Log::default();
    let (ours, theirs) = tcp_pair();
    let probe = Probe::new("a", &log, |call, io| {
        if matches!(call, Call::Read(_)) {
            io.close();
        }
        Ok(())
    });
    // More input than one read takes before the close.
    theirs.set_nonblocking(true).unwrap();
    let flood = vec![0; 64 * 1024];
    let mut written = 0;
    while let Ok(more) = (&theirs).write(&flood) {
        written += more;
    }
    reactor.add(Stream::new(ours, probe).unwrap()).unwrap();
    turn_until(&mut reactor, |_| {
        written += (&theirs).write(&flood).unwrap_or(0);
        written > 8_000_000 || log.has("close")
    });
    assert!(!log.has("close"), "{:?}", log.lines());
    assert_eq!(reactor.stats().spins, 0, "in {} events", reactor.stats().events);
}

#[test]
fn urgent_data_does_not_spin() {
    let mut reactor = watched(3);
    let log = Log::default();
    let (ours, theirs) = tcp_pair();
    let theirs = Socket::from(theirs);
    reactor.add(Stream::new(ours, Probe::passive("a", &log)).unwrap()).unwrap();
    for urgent in 1..=10 {
        theirs.send_out_of_band(b"!").unwrap();
        turn_until(&mut reactor, |_| log.count("expt") == urgent);
    }
    assert_eq!(reactor.stats().spins, 0, "in {} events", reactor.stats().events);
}

/// Timers and deadlines are not kernel events.
#[test]
fn timers_count_as_callbacks_not_events() {
    struct Ticks(u32);
    impl Protocol for Ticks {
        fn handle_connect(&mut self, io: &mut Io<'_>) -> io::Result<()> {
            io.set_timer(Duration::ZERO);
            Ok(())
        }
        fn handle_read(&mut self, _: &mut Io<'_>, _: &[u8]) -> io::Result<()> {
            Ok(())
        }
        fn handle_timer(&mut self, io: &mut Io<'_>, _: TimerId) -> io::Result<()> {
            self.0 += 1;
            if self.0 == 20 {
                io.close();
            } else {
                io.set_timer(Duration::ZERO);
            }
            Ok(())
        }
    }
    let mut reactor = watched(3);
    let (ours, _theirs) = local_pair().unwrap();
    reactor.add(Stream::new(ours, Ticks(0)).unwrap()).unwrap();
    run(&mut reactor);
    let stats = reactor.stats();
    assert_eq!((stats.events, stats.callbacks, stats.jobs, stats.spins), (0, 21, 0, 0));
}
