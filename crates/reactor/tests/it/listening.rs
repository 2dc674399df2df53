//! Listeners: who is accepted, who is refused, and the graceful end.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use reactor::{Address, Listener, Reactor, Stream};

use crate::common::{Call, Echo, Log, Probe, run, turn_all, turn_until};

#[test]
fn a_port_that_is_taken_is_an_error_that_names_it() {
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = other.local_addr().unwrap();
    let error = Listener::bind(addr, |_| Ok(Echo)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    assert!(error.to_string().starts_with(&addr.to_string()), "{error}");
}

#[test]
fn a_peer_over_the_most_is_closed_at_once_and_a_place_is_free_again_later() {
    let mut reactor = Reactor::new().unwrap();
    let listener = Listener::bind("[::1]:0", |_| Ok(Echo)).unwrap().max_connections(2);
    let addr = listener.local_addr().as_inet().unwrap();
    let token = reactor.add(listener).unwrap();
    let mut peers: Vec<_> = (0..3).map(|_| TcpStream::connect(addr).unwrap()).collect();
    turn_all(&mut reactor);
    assert_eq!(peers[2].read(&mut [0]).unwrap(), 0, "closed");
    assert_eq!(reactor.get_mut::<Listener>(token).unwrap().refused(), 1);
    peers.truncate(1);
    turn_all(&mut reactor);
    let mut next = TcpStream::connect(addr).unwrap();
    next.write_all(b"x").unwrap();
    turn_all(&mut reactor);
    next.read_exact(&mut [0]).unwrap();
}

#[test]
fn a_burst_of_connections_finds_room() {
    let mut reactor = Reactor::new().unwrap();
    let listener = Listener::bind("127.0.0.1:0", |_| Ok(Echo)).unwrap();
    let addr = listener.local_addr().as_inet().unwrap();
    reactor.add(listener).unwrap();
    // Nobody accepts meanwhile: with std's backlog of 128 this would hang.
    let peers: Vec<_> = (0..1_000).map(|_| TcpStream::connect(addr).unwrap()).collect();
    for mut peer in &peers {
        peer.write_all(b"x").unwrap();
    }
    for _ in 0..64 {
        turn_all(&mut reactor);
    }
    for mut peer in &peers {
        peer.read_exact(&mut [0]).unwrap();
    }
}

#[test]
fn a_unix_path_left_behind_is_taken_over_and_a_live_one_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    // Dropped without being removed, as by a `kill -9`.
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let listener = Listener::bind_unix(&path, |_| Ok(Echo)).unwrap();
    assert_eq!(*listener.local_addr(), Address::Unix(Some(path.clone())));

    let error = Listener::bind_unix(&path, |_| Ok(Echo)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    let file = dir.path().join("file");
    std::fs::write(&file, "precious").unwrap();
    assert!(Listener::bind_unix(&file, |_| Ok(Echo)).is_err());
    assert_eq!(std::fs::read(&file).unwrap(), b"precious", "not a socket: not ours");

    let mut reactor = Reactor::new().unwrap();
    reactor.add(listener).unwrap();
    let mut peer = UnixStream::connect(&path).unwrap();
    peer.write_all(b"x").unwrap();
    turn_all(&mut reactor);
    peer.read_exact(&mut [0]).unwrap();
    drop(reactor);
    assert!(!path.exists(), "removed with the listener");
}

#[test]
fn a_unix_path_that_another_server_took_over_is_left_to_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    let first = Listener::bind_unix(&path, |_| Ok(Echo)).unwrap();
    std::fs::remove_file(&path).unwrap();
    let _second = UnixListener::bind(&path).unwrap();
    drop(first);
    assert!(path.exists());
}

#[test]
fn drain_accepts_the_queue_tells_everybody_and_ends() {
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
    // Connected, as far as they know, and nobody has accepted them yet.
    let mut queued: Vec<_> = (0..100).map(|_| TcpStream::connect(addr).unwrap()).collect();
    reactor.context().drain(Duration::from_secs(60));
    turn_all(&mut reactor);
    assert_eq!(log.count("connect"), 101);
    assert_eq!(log.count("drain"), 101, "those that came late are told too");
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
    run(&mut reactor); // ends as the last peer does, not at the deadline
    assert!(begin.elapsed() < Duration::from_secs(60));
    assert_eq!(log.count("closed by the peer"), 101);
}

#[test]
fn the_drain_ends_at_the_earlier_deadline_and_counts_who_was_cut_off() {
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let (ours, _theirs) = UnixStream::pair().unwrap();
    let mut stream = Stream::new(ours, Probe::passive("a", &log)).unwrap();
    stream.send(&vec![0; 4_000_000]).unwrap();
    reactor.add(stream).unwrap();
    reactor.context().drain(Duration::from_secs(3600));
    turn_all(&mut reactor);
    reactor.handle().drain(Duration::from_millis(10)).unwrap();
    reactor.handle().drain(Duration::MAX).unwrap();
    run(&mut reactor);
    assert_eq!(log.count("a drain"), 1, "told once");
    let last = log.lines().pop().unwrap();
    assert!(last.starts_with("a close: shut down, ") && last.ends_with("bytes unsent"), "{last}");
}

#[test]
fn stop_leaves_channels_open_and_run_goes_on_with_them() {
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let (ours, mut theirs) = UnixStream::pair().unwrap();
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
