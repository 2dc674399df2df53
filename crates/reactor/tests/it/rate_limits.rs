//! Rate limits: the average rate is kept, and nothing else is affected.

use std::cell::{Cell, RefCell};
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::num::NonZeroU64;
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

#[cfg(unix)]
use reactor::FileDispatcher;
use reactor::{Io, Limits, Protocol, Reactor, Stream, TimerId};

use crate::common::{
    Call, Echo, Log, Probe, assert_echo, assert_idle, local_pair, pattern, run, tcp_pair, turn_all,
    turn_until,
};

fn rate(per_second: u64) -> Option<NonZeroU64> {
    NonZeroU64::new(per_second)
}

/// Runs turns for a second and calls `peer` between them. Returns the elapsed
/// time, and the part by which the machine was late, which proves nothing.
fn turn_for_a_second(reactor: &mut Reactor, mut peer: impl FnMut()) -> (Duration, Duration) {
    let begin = Instant::now();
    let mut late = Duration::ZERO;
    while begin.elapsed() < Duration::from_secs(1) {
        peer();
        let due = reactor.next_deadline();
        reactor.turn(Some(Duration::from_millis(20))).unwrap();
        late += due.map_or(Duration::ZERO, |due| Instant::now().saturating_duration_since(due));
    }
    (begin.elapsed(), late)
}

/// Asserts that at most the rate was moved, plus an initial burst of 100 ms,
/// and not much less.
#[track_caller]
fn assert_rate(moved: usize, per_second: u64, (took, late): (Duration, Duration)) {
    let at_rate = |time: Duration| time.as_micros() * u128::from(per_second) / 1_000_000;
    let most = at_rate(took + Duration::from_millis(100)) + 1;
    let least = at_rate(took.saturating_sub(late)) * 8 / 10;
    assert!((least..=most).contains(&(moved as u128)), "{moved} bytes in {took:?}, late {late:?}");
}

#[test]
fn read_rate_is_kept() {
    for per_second in [20_000, 1_000_000] {
        let (ours, theirs) = local_pair().unwrap();
        theirs.set_nonblocking(true).unwrap();
        let mut reactor = Reactor::new().unwrap();
        let log = Log::default();
        let limits = Limits { read_rate: rate(per_second), ..Limits::default() };
        let stream = Stream::new(ours, Probe::passive("a", &log)).unwrap().with_limits(limits);
        reactor.add(stream).unwrap();
        let flood = vec![0; 64 * 1024];
        let took = turn_for_a_second(&mut reactor, || while (&theirs).write(&flood).is_ok() {});
        let received: usize = log
            .lines()
            .iter()
            .filter_map(|line| line.strip_prefix("a read ")?.parse::<usize>().ok())
            .sum();
        assert_eq!(received as u64, reactor.stats().received);
        assert_rate(received, per_second, took);
    }
}

#[test]
fn write_rate_is_kept() {
    for per_second in [20_000, 1_000_000] {
        let (ours, theirs) = local_pair().unwrap();
        theirs.set_nonblocking(true).unwrap();
        let mut reactor = Reactor::new().unwrap();
        let limits = Limits { write_rate: rate(per_second), ..Limits::default() };
        let mut stream = Stream::new(ours, Echo).unwrap().with_limits(limits);
        let data = pattern(3_000_000);
        stream.send(&data).unwrap();
        let token = reactor.add(stream).unwrap();
        let mut got = Vec::<u8>::new();
        let mut buffer = vec![0; 1 << 20];
        let took = turn_for_a_second(&mut reactor, || {
            while let Ok(read) = (&theirs).read(&mut buffer) {
                got.extend(&buffer[..read]);
            }
        });
        let sent = data.len() - reactor.get_mut::<Stream<Echo>>(token).unwrap().unsent();
        assert_rate(sent, per_second, took);
        assert!(data.starts_with(&got), "in order");
    }
}

/// Each byte is sent as soon as the rate allows it, and none is lost.
#[test]
fn rate_below_one_byte_per_turn_is_kept() {
    let (ours, mut theirs) = local_pair().unwrap();
    let mut reactor = Reactor::new().unwrap();
    let limits = Limits { read_rate: rate(5), write_rate: rate(20), ..Limits::default() };
    reactor.add(Stream::new(ours, Echo).unwrap().with_limits(limits)).unwrap();
    theirs.write_all(b"abc").unwrap();
    theirs.set_nonblocking(true).unwrap();
    let begin = Instant::now();
    let mut got = Vec::new();
    turn_until(&mut reactor, |_| {
        // Fails with `WouldBlock` after it has stored the available bytes.
        let _ = (&theirs).read_to_end(&mut got);
        got.len() == 3
    });
    assert_eq!(got, b"abc");
    // The first at once, each other one 200 ms later.
    assert!(begin.elapsed() >= Duration::from_millis(400), "after {:?}", begin.elapsed());
    assert!(reactor.stats().turns < 100, "{} turns", reactor.stats().turns);
}

#[test]
fn invariant_4_rate_limit_loses_nothing_at_the_end() {
    let limits =
        Limits { read_rate: rate(800_000), write_rate: rate(600_000), ..Limits::default() };
    let (ours, mut theirs) = tcp_pair();
    let mut reactor = Reactor::new().unwrap();
    reactor.add(Stream::new(ours, Echo).unwrap().with_limits(limits)).unwrap();
    let data = pattern(300_000);
    let expected = data.clone();
    let peer = thread::spawn(move || {
        // The kernel accepts all of it at once.
        theirs.write_all(&data).unwrap();
        theirs.shutdown(Shutdown::Write).unwrap();
        let mut got = Vec::new();
        theirs.read_to_end(&mut got).unwrap();
        got
    });
    run(&mut reactor);
    let got = peer.join().unwrap();
    assert!(got == expected, "{} of {} bytes", got.len(), expected.len());
}

/// epoll does not accept a file, so the rate alone determines the next read.
#[cfg(unix)] // files
#[test]
fn file_is_read_at_its_rate_without_spinning() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let data = pattern(300_000);
    std::fs::write(file.path(), &data).unwrap();
    let log = Log::default();
    let got: Rc<RefCell<Vec<u8>>> = Rc::default();
    let sink = Rc::clone(&got);
    let probe = Probe::new("a", &log, move |call, io| {
        match call {
            Call::Read(data) => sink.borrow_mut().extend(data),
            Call::Eof => io.close(),
            _ => {}
        }
        Ok(())
    });
    let limits = Limits { read_rate: rate(1_000_000), ..Limits::default() };
    let stream =
        FileDispatcher::from_fd(file.reopen().unwrap(), probe).unwrap().with_limits(limits);
    let mut reactor = Reactor::new().unwrap();
    reactor.add(stream).unwrap();
    let begin = Instant::now();
    run(&mut reactor);
    let took = begin.elapsed();
    assert!(took >= Duration::from_millis(200), "300 kB at 1 MB a second in {took:?}");
    assert!(*got.borrow() == data);
    assert!(reactor.stats().turns < 50, "{} turns", reactor.stats().turns);
}

#[test]
fn invariant_6_rate_limited_stream_wakes_rarely() {
    for per_second in [10_000, 1_000_000] {
        let (ours, theirs) = local_pair().unwrap();
        theirs.set_nonblocking(true).unwrap();
        let mut reactor = Reactor::new().unwrap();
        let (read_rate, write_rate) = (rate(per_second), rate(per_second));
        let limits = Limits { read_rate, write_rate, ..Limits::default() };
        reactor.add(Stream::new(ours, Echo).unwrap().with_limits(limits)).unwrap();
        assert_idle(&mut reactor);

        // Both directions always have more data.
        let flood = vec![0; 64 * 1024];
        let mut buffer = vec![0; 64 * 1024];
        let before = reactor.stats().turns;
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_millis(500) {
            while (&theirs).write(&flood).is_ok() {}
            while (&theirs).read(&mut buffer).is_ok() {}
            reactor.turn(None).unwrap();
        }
        // Each direction is checked twenty times a second.
        let turns = reactor.stats().turns - before;
        assert!(turns <= 80, "{per_second} bytes/s: {turns} turns in {:?}", begin.elapsed());
    }
}

#[test]
fn invariant_6_idle_rate_limited_stream_causes_no_wakeup() {
    let (ours, mut theirs) = local_pair().unwrap();
    let mut reactor = Reactor::new().unwrap();
    let limits = Limits { read_rate: rate(1_000), write_rate: rate(1_000), ..Limits::default() };
    reactor.add(Stream::new(ours, Echo).unwrap().with_limits(limits)).unwrap();
    // More than the initial burst, so that both directions wait.
    theirs.write_all(&[7; 150]).unwrap();
    theirs.set_nonblocking(true).unwrap();
    let mut got = 0;
    let mut buffer = [0; 150];
    turn_until(&mut reactor, |_| {
        got += (&theirs).read(&mut buffer).unwrap_or(0);
        got == 150
    });
    turn_until(&mut reactor, |reactor| reactor.next_deadline().is_none());
    assert_idle(&mut reactor);
}

/// A paused stream does not wait for its rate.
#[test]
fn invariant_6_paused_rate_limited_stream_causes_no_wakeup() {
    let (ours, mut theirs) = local_pair().unwrap();
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let limits = Limits { read_rate: rate(1_000), ..Limits::default() };
    let stream = Stream::new(ours, Probe::passive("a", &log)).unwrap().with_limits(limits);
    let token = reactor.add(stream).unwrap();
    theirs.write_all(&vec![7; 10_000]).unwrap();
    turn_until(&mut reactor, |_| log.has("a read 100"));
    turn_all(&mut reactor);
    reactor.get_mut::<Stream<Probe>>(token).unwrap().pause();
    turn_until(&mut reactor, |reactor| reactor.next_deadline().is_none());
    assert_idle(&mut reactor);
    let reads = log.count("read");
    reactor.get_mut::<Stream<Probe>>(token).unwrap().resume();
    turn_until(&mut reactor, |_| log.count("read") > reads);
}

/// Changes its rates when its timer expires.
struct Changes {
    to: Option<NonZeroU64>,
    received: Rc<Cell<usize>>,
}

impl Protocol for Changes {
    fn handle_connect(&mut self, io: &mut Io<'_>) -> io::Result<()> {
        io.set_timer(Duration::from_millis(10));
        Ok(())
    }
    fn handle_read(&mut self, _: &mut Io<'_>, data: &[u8]) -> io::Result<()> {
        self.received.set(self.received.get() + data.len());
        Ok(())
    }
    fn handle_timer(&mut self, io: &mut Io<'_>, _: TimerId) -> io::Result<()> {
        io.set_read_rate(self.to);
        io.set_write_rate(self.to);
        Ok(())
    }
}

/// At the initial rate both directions would take half an hour.
#[test]
fn rate_can_be_raised_or_removed_later() {
    const BYTES: usize = 150_000;
    for to in [None, rate(10_000_000)] {
        let (ours, mut theirs) = local_pair().unwrap();
        let mut reactor = Reactor::new().unwrap();
        let received: Rc<Cell<usize>> = Rc::default();
        let limits = Limits { read_rate: rate(100), write_rate: rate(100), ..Limits::default() };
        let changes = Changes { to, received: Rc::clone(&received) };
        let mut stream = Stream::new(ours, changes).unwrap().with_limits(limits);
        stream.send(&vec![0; BYTES]).unwrap();
        let token = reactor.add(stream).unwrap();
        theirs.write_all(&vec![0; BYTES]).unwrap();
        theirs.set_nonblocking(true).unwrap();
        let mut got = 0;
        let mut buffer = [0; 10_000];
        turn_until(&mut reactor, |_| {
            got += (&theirs).read(&mut buffer).unwrap_or(0);
            got == BYTES && received.get() == BYTES
        });
        assert_eq!(reactor.get_mut::<Stream<Changes>>(token).unwrap().unsent(), 0);
    }
}

#[test]
fn rate_can_be_set_later() {
    let (ours, mut theirs) = local_pair().unwrap();
    let mut reactor = Reactor::new().unwrap();
    let received: Rc<Cell<usize>> = Rc::default();
    let changes = Changes { to: rate(1_000), received: Rc::clone(&received) };
    let token = reactor.add(Stream::new(ours, changes).unwrap()).unwrap();
    let begin = Instant::now();
    turn_until(&mut reactor, |reactor| {
        // There is no limit until the timer has run.
        reactor.stats().callbacks >= 2
    });
    theirs.write_all(&[0; 300]).unwrap();
    reactor.get_mut::<Stream<Changes>>(token).unwrap().send(&[0; 300]).unwrap();
    turn_until(&mut reactor, |reactor| {
        received.get() == 300 && reactor.get_mut::<Stream<Changes>>(token).unwrap().unsent() == 0
    });
    assert!(begin.elapsed() >= Duration::from_millis(200), "after {:?}", begin.elapsed());
}

/// Output delayed by its rate does not count as stalled.
#[test]
fn rate_limited_output_is_no_stall() {
    let limits = Limits {
        stall_timeout: Some(Duration::from_millis(30)),
        write_rate: rate(1_000),
        ..Limits::default()
    };
    let (ours, theirs) = local_pair().unwrap();
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let mut stream = Stream::new(ours, Probe::passive("a", &log)).unwrap().with_limits(limits);
    // Half a second at this rate; the kernel would accept it at once.
    stream.send(&[7; 500]).unwrap();
    stream.close();
    reactor.add(stream).unwrap();
    run(&mut reactor);
    assert_eq!(log.lines(), ["a close: closed"]);
    assert_eq!(io::read_to_string(theirs).unwrap().len(), 500);

    // A peer that reads nothing is still detected.
    let limits = Limits {
        stall_timeout: Some(Duration::from_millis(100)),
        write_rate: rate(100_000_000),
        ..Limits::default()
    };
    let (ours, _theirs) = local_pair().unwrap();
    let mut stream = Stream::new(ours, Probe::passive("b", &log)).unwrap().with_limits(limits);
    stream.send(&vec![7; 4_000_000]).unwrap();
    reactor.add(stream).unwrap();
    run(&mut reactor);
    let last = log.lines().pop().unwrap();
    assert!(last.starts_with("b close: timed out: stall timeout, "), "{last}");
}

#[test]
fn invariant_7_rate_limited_stream_delays_no_other_channel() {
    let (ours, mut theirs) = local_pair().unwrap();
    let mut reactor = Reactor::new().unwrap();
    let limits = Limits { read_rate: rate(10), write_rate: rate(10), ..Limits::default() };
    reactor.add(Stream::new(ours, Echo).unwrap().with_limits(limits)).unwrap();
    theirs.write_all(&vec![0; 10_000]).unwrap();
    turn_all(&mut reactor);
    let (ours, neighbour) = local_pair().unwrap();
    reactor.add(Stream::new(ours, Echo).unwrap()).unwrap();
    let begin = Instant::now();
    let before = reactor.stats().turns;
    for _ in 0..100 {
        assert_echo(&mut reactor, &neighbour);
    }
    assert!(reactor.stats().turns - before < 300, "in {:?}", begin.elapsed());
}
