//! Invariant 7: one event is a bounded piece of work, so that nobody waits for
//! somebody else's flood.

use std::io::Write;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use reactor::{Listener, Reactor, Stream};
use socket2::SockRef;

use crate::common::{Echo, Log, Probe, turn_until};

#[test]
fn invariant_7_one_event_reads_at_most_one_buffer() {
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let mut peers = Vec::new();
    for (name, bytes) in [("flood", 150_000), ("small", 1)] {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
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
fn invariant_7_timers_and_posts_run_under_a_flood() {
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let (ours, theirs) = UnixStream::pair().unwrap();
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
