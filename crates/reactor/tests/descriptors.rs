//! Invariant 9: a lack of descriptors pauses the listener and does not affect
//! other channels. A separate process, because the limit is per process.
// Windows has no limit of descriptors.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a panic in a test is the report of a failure")]

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use reactor::{Io, Listener, Protocol, Reactor};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

struct Echo;

impl Protocol for Echo {
    fn handle_read(&mut self, io: &mut Io<'_>, data: &[u8]) -> io::Result<()> {
        io.send(data)
    }
}

fn turn_for(reactor: &mut Reactor, time: Duration) -> u32 {
    let begin = Instant::now();
    let mut turns = 0;
    while begin.elapsed() < time {
        reactor.turn(Some(time.saturating_sub(begin.elapsed()))).unwrap();
        turns += 1;
    }
    turns
}

#[test]
fn invariant_9_listener_without_descriptors_pauses_and_resumes() {
    let mut reactor = Reactor::new().unwrap();
    let listener = Listener::bind("127.0.0.1:0", |_| Ok(Echo)).unwrap();
    let addr = listener.local_addr().as_inet().unwrap();
    reactor.add(listener).unwrap();
    let mut first = TcpStream::connect(addr).unwrap();
    let mut second = TcpStream::connect(addr).unwrap();
    turn_for(&mut reactor, Duration::from_millis(20));

    // A third peer uses the last descriptor, so that it cannot be accepted.
    let limits = getrlimit(Resource::Nofile);
    let third = TcpStream::connect(addr).unwrap();
    let used = std::os::fd::AsRawFd::as_raw_fd(&third) + 1;
    let tight = Rlimit { current: Some(used.try_into().unwrap()), ..limits };
    setrlimit(Resource::Nofile, tight).unwrap();

    let turns = turn_for(&mut reactor, Duration::from_millis(450));
    // The listener retries ever more rarely. Without a pause there are 100,000
    // turns.
    assert!(turns <= 12, "{turns} turns in 450 ms");
    for peer in [&mut first, &mut second] {
        peer.write_all(b"x").unwrap();
        turn_for(&mut reactor, Duration::from_millis(5));
        peer.read_exact(&mut [0]).unwrap();
    }
    third.set_nonblocking(true).unwrap();
    (&third).write_all(b"y").unwrap();
    assert_eq!((&third).read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);

    setrlimit(Resource::Nofile, limits).unwrap();
    let begin = Instant::now();
    while (&third).read(&mut [0]).is_err() {
        assert!(begin.elapsed() < Duration::from_secs(20), "never accepted");
        reactor.turn(Some(Duration::from_millis(10))).unwrap();
    }
}
