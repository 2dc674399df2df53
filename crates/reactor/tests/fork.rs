//! A child of fork(2) that drops the reactor, or tries to use it, does not affect the
//! parent. A separate program, since a child has only one of the test's threads.
#![allow(clippy::unwrap_used, reason = "a panic in a test is the report of a failure")]
// Windows has no fork(2); the crate `fork` 0.11 does not compile for illumos.
#![cfg(not(any(target_os = "illumos", windows)))]

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process;
use std::time::{Duration, Instant};

use fork::{Fork, fork, waitpid};
use reactor::{
    Datagram, DatagramIo, DatagramProtocol, FileDispatcher, Io, Listener, Protocol, Reactor,
    ReactorClosed, Stream,
};
use rustix::fs::{OFlags, fcntl_getfl};

struct Echo;

impl Protocol for Echo {
    fn handle_read(&mut self, io: &mut Io<'_>, data: &[u8]) -> io::Result<()> {
        io.send(data)
    }
}

impl DatagramProtocol for Echo {
    fn handle_datagram(
        &mut self,
        io: &mut DatagramIo<'_>,
        data: &[u8],
        from: &reactor::Address,
    ) -> io::Result<()> {
        io.send_to(data, from)
    }
}

/// Runs `child` in a child process and waits for it. The reactor is dropped there.
#[track_caller]
fn in_child(mut reactor: Reactor, child: impl FnOnce(&mut Reactor)) -> Reactor {
    match fork().unwrap() {
        Fork::Child => {
            let result = catch_unwind(AssertUnwindSafe(move || {
                child(&mut reactor);
                drop(reactor);
            }));
            process::exit(i32::from(result.is_err()));
        }
        Fork::Parent(id) => assert_eq!(waitpid(id).unwrap(), 0, "the child failed"),
    }
    reactor
}

/// Asserts that one byte is echoed to `peer`.
#[track_caller]
fn assert_echo(reactor: &mut Reactor, peer: &UnixStream) {
    peer.set_nonblocking(true).unwrap();
    (&mut &*peer).write_all(b"e").unwrap();
    let begin = Instant::now();
    while (&mut &*peer).read_exact(&mut [0]).is_err() {
        assert!(begin.elapsed() < Duration::from_secs(5), "no echo");
        reactor.turn(Some(Duration::from_millis(20))).unwrap();
    }
}

fn turn_all(reactor: &mut Reactor) {
    for _ in 0..5 {
        reactor.turn(Some(Duration::ZERO)).unwrap();
    }
}

#[test]
fn parent_keeps_its_channels_and_its_wakeups() {
    let mut reactor = Reactor::new().unwrap();
    let (ours, peer) = UnixStream::pair().unwrap();
    reactor.add(Stream::new(ours, Echo).unwrap()).unwrap();
    turn_all(&mut reactor);
    let mut reactor = in_child(reactor, Reactor::close_all);

    assert_echo(&mut reactor, &peer);
    let begin = Instant::now();
    reactor.turn(Some(Duration::from_millis(100))).unwrap();
    assert!(begin.elapsed() >= Duration::from_millis(100), "woken by the child");
    // Wake-ups from threads, and precise timers, which are sources of the poller.
    let handle = reactor.handle();
    let waking = std::thread::spawn(move || handle.stop().unwrap());
    reactor.run().unwrap();
    waking.join().unwrap();
    let at = Instant::now() + Duration::from_micros(6_300);
    reactor.context().call_at(at, reactor::Context::stop);
    reactor.context().call_later(Duration::from_secs(5), |_| panic!("the timer is lost"));
    reactor.run().unwrap();
    assert!(Instant::now() < at + Duration::from_secs(4));
}

#[test]
fn parent_keeps_its_paths() {
    let dir = tempfile::tempdir().unwrap();
    let (stream, datagram) = (dir.path().join("stream"), dir.path().join("datagram"));
    let mut reactor = Reactor::new().unwrap();
    reactor.add(Listener::bind_unix(&stream, |_| Ok(Echo)).unwrap()).unwrap();
    reactor.add(Datagram::bind_unix(&datagram, Echo).unwrap()).unwrap();
    turn_all(&mut reactor);
    let mut reactor = in_child(reactor, |_| {});
    let peer = UnixStream::connect(&stream).unwrap();
    assert_echo(&mut reactor, &peer);
    assert!(datagram.exists());
    drop(reactor);
    assert!(!stream.exists() && !datagram.exists());
}

#[test]
fn parent_keeps_the_mode_of_its_descriptors() {
    let (reader, _writer) = io::pipe().unwrap();
    let observed = reader.try_clone().unwrap();
    let mut reactor = Reactor::new().unwrap();
    reactor.add(FileDispatcher::from_fd(reader, Echo).unwrap()).unwrap();
    turn_all(&mut reactor);
    let reactor = in_child(reactor, |_| {});
    assert!(fcntl_getfl(&observed).unwrap().contains(OFlags::NONBLOCK));
    drop(reactor);
    assert!(!fcntl_getfl(&observed).unwrap().contains(OFlags::NONBLOCK));
}

#[test]
fn use_in_the_child_is_an_error() {
    let mut reactor = Reactor::new().unwrap();
    let (ours, peer) = UnixStream::pair().unwrap();
    let token = reactor.add(Stream::new(ours, Echo).unwrap()).unwrap();
    turn_all(&mut reactor);
    let (other, _other_peer) = UnixStream::pair().unwrap();
    let mut reactor = in_child(reactor, move |reactor| {
        for error in [
            reactor.run().unwrap_err(),
            reactor.run_turns(1).unwrap_err(),
            reactor.turn(Some(Duration::ZERO)).unwrap_err(),
            reactor.run_until_closed(token).unwrap_err(),
            reactor.add(Stream::new(other, Echo).unwrap()).unwrap_err(),
        ] {
            assert!(error.to_string().contains("parent process"), "{error}");
        }
        assert_eq!(reactor.handle().post(|_| {}), Err(ReactorClosed));
        assert_eq!(reactor.handle().stop(), Err(ReactorClosed));
        // A reactor of the child's own works.
        Reactor::new().unwrap().run().unwrap();
    });
    assert_echo(&mut reactor, &peer);
}
