//! Invariant 3: `handle_connect` at most once, first, and only once connected.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
#[cfg(unix)]
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use reactor::{Address, Cause, Io, Limits, Listener, Reactor, Stream};
use rustix::io::Errno;
use socket2::{Domain, SockAddr, Socket, Type};

use crate::common::{
    Call, Log, Probe, closed_port, run, shown, turn_all, turn_until, unresponsive_listener,
};

#[test]
fn invariant_3_refused_connect_is_reported_once() {
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let probe = Probe::passive("a", &log).writable();
    reactor.add(Stream::connect([closed_port()], probe)).unwrap();
    run(&mut reactor);
    assert_eq!(log.lines(), [format!("a close: {}", shown(Errno::CONNREFUSED))]);
}

#[test]
fn invariant_3_unanswered_connect_times_out() {
    let (_listener, addr, _fillers) = unresponsive_listener();
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let limits = Limits { connect_timeout: Some(Duration::from_millis(50)), ..Limits::default() };
    let mut stream = Stream::connect([addr], Probe::passive("a", &log)).with_limits(limits);
    stream.send(b"never").unwrap();
    reactor.add(stream).unwrap();
    run(&mut reactor);
    assert_eq!(log.lines(), ["a close: timed out: connect timeout, 5 bytes unsent"]);
}

#[test]
fn several_addresses_are_tried_in_order() {
    let (_listener, silent, _fillers) = unresponsive_listener();
    let alive = TcpListener::bind("127.0.0.1:0").unwrap();
    let addrs = [closed_port(), silent, alive.local_addr().unwrap()];
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let limits = Limits { connect_timeout: Some(Duration::from_millis(500)), ..Limits::default() };
    let probe = Probe::new("a", &log, |call, io| {
        if call == Call::Connect {
            io.close();
        }
        Ok(())
    });
    reactor.add(Stream::connect(addrs, probe).with_limits(limits)).unwrap();
    run(&mut reactor);
    assert_eq!(log.lines(), ["a connect", "a close: closed"]);
    alive.accept().unwrap();
}

#[test]
fn invariant_3_handle_connect_precedes_available_data() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let probe = Probe::new("a", &log, |call, io| match call {
        Call::Connect => io.send(b"hello"),
        Call::Eof => {
            io.close();
            Ok(())
        }
        _ => Ok(()),
    });
    reactor.add(Stream::connect([addr], probe)).unwrap();
    // Before the first turn: connected, with data and end of input pending.
    let (mut peer, _) = listener.accept().unwrap();
    peer.write_all(b"early").unwrap();
    peer.shutdown(std::net::Shutdown::Write).unwrap();
    run(&mut reactor);
    let expected = ["a connect", "a read 5", "a eof", "a close: closed by the peer"];
    assert_eq!(log.lines(), expected);
    let mut hello = String::new();
    io::Read::read_to_string(&mut peer, &mut hello).unwrap();
    assert_eq!(hello, "hello");
}

#[test]
fn invariant_3_close_in_handle_connect_is_final() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let probe = Probe::new("a", &log, |_, io: &mut Io<'_>| {
        io.close();
        Ok(())
    });
    let stream = Stream::connect([listener.local_addr().unwrap()], probe.writable());
    reactor.add(stream).unwrap();
    let (mut peer, _) = listener.accept().unwrap();
    let _ = peer.write_all(b"early");
    run(&mut reactor);
    assert_eq!(log.lines(), ["a connect", "a close: closed"]);
}

#[test]
fn output_queued_before_connect_is_sent() {
    let listener = TcpListener::bind("[::1]:0").unwrap();
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let addr = listener.local_addr().unwrap();
    let mut stream = Stream::connect([addr], Probe::passive("a", &log));
    stream.send(b"early").unwrap();
    stream.close();
    reactor.add(stream).unwrap();
    let (peer, _) = listener.accept().unwrap();
    run(&mut reactor);
    assert_eq!(io::read_to_string(peer).unwrap(), "early");
    // It was closed before it was connected, so `handle_connect` is not called.
    assert_eq!(log.lines(), ["a close: closed"]);
}

#[cfg(unix)] // Unix sockets
#[test]
fn unix_socket_connects() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let probe = Probe::new("a", &log, |call, io| {
        if call == Call::Connect {
            io.send(b"hello")?;
            io.close();
        }
        Ok(())
    });
    reactor.add(Stream::connect_unix(&path, probe)).unwrap();
    run(&mut reactor);
    assert_eq!(io::read_to_string(listener.accept().unwrap().0).unwrap(), "hello");
    assert_eq!(log.lines(), ["a connect", "a close: closed"]);

    let unbound = dir.path().join("unbound");
    let token = reactor.add(Stream::connect_unix(unbound, Probe::passive("b", &log))).unwrap();
    let Cause::Error(error) = reactor.run_until_closed(token).unwrap().cause else { panic!() };
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
}

/// Returns a Unix listener whose queue is full, and the connections in it.
#[cfg(unix)] // Unix sockets
fn full_unix_listener(path: &Path) -> (Socket, Vec<Socket>) {
    let addr = SockAddr::unix(path).unwrap();
    let listener = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    listener.bind(&addr).unwrap();
    listener.listen(0).unwrap();
    let connect = || {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        socket.set_nonblocking(true).unwrap();
        socket.connect(&addr).ok().map(|()| socket)
    };
    let queued = std::iter::from_fn(connect).take(100).collect();
    (listener, queued)
}

#[cfg(unix)] // Unix sockets
#[test]
fn unix_socket_with_a_full_queue_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    let (listener, queued) = full_unix_listener(&path);
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    reactor.add(Stream::connect_unix(&path, hello(&log))).unwrap();
    turn_all(&mut reactor);
    assert_eq!(log.lines(), [""; 0], "still waiting");
    let peer = thread::spawn(move || {
        for _ in 0..queued.len() {
            listener.accept().unwrap();
        }
        io::read_to_string(listener.accept().unwrap().0).unwrap()
    });
    run(&mut reactor);
    assert_eq!(peer.join().unwrap(), "hello");
    let peer = format!("unix:{}", path.display());
    assert_eq!(log.lines(), ["a connect", &peer, "a close: closed"]);
}

#[cfg(unix)] // Unix sockets
#[test]
fn unix_socket_with_a_full_queue_times_out() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    let _full = full_unix_listener(&path);
    let limits = Limits { connect_timeout: Some(Duration::from_millis(50)), ..Limits::default() };
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let stream = Stream::connect_unix(&path, Probe::passive("a", &log)).with_limits(limits);
    reactor.add(stream).unwrap();
    run(&mut reactor);
    assert_eq!(log.lines(), ["a close: timed out: connect timeout"]);
}

/// A listener and a client in the same loop.
#[test]
fn client_and_server_share_one_reactor() {
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let served = log.clone();
    let listener = Listener::bind("127.0.0.1:0", move |_| {
        Ok(Probe::new("server", &served, |call, io| match call {
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
    let client = Probe::new("client", &log, |call, io| {
        match call {
            Call::Connect => io.send(b"hello")?,
            Call::Read(b"hello") => io.close(),
            _ => {}
        }
        Ok(())
    });
    reactor.add(Stream::connect([addr], client)).unwrap();
    turn_until(&mut reactor, |_| log.count("close") == 2);
    turn_all(&mut reactor);
    assert_eq!(log.count("client connect"), 1);
    assert_eq!(log.count("server connect"), 1, "called for accepted streams too");
    assert!(log.has("client close: closed") && log.has("server close: closed by the peer"));
}

#[test]
fn abort_in_handle_connect_counts_unsent() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let probe = Probe::new("a", &log, |call, io| {
        if call == Call::Connect {
            io.abort();
        }
        Ok(())
    });
    let mut stream = Stream::connect([listener.local_addr().unwrap()], probe);
    stream.send(b"12345").unwrap();
    reactor.add(stream).unwrap();
    run(&mut reactor);
    assert_eq!(log.lines(), ["a connect", "a close: closed, 5 bytes unsent"]);
}

/// Connects to a host by name, sends "hello" and closes.
fn hello(log: &Log) -> Probe {
    let seen = log.clone();
    Probe::new("a", log, move |call, io| {
        if call == Call::Connect {
            seen.note(io.peer_addr().to_string());
            io.send(b"hello")?;
            io.close();
        }
        Ok(())
    })
}

#[test]
fn connect_host_resolves_name() {
    for host in ["localhost", "127.0.0.1"] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let mut reactor = Reactor::new().unwrap();
        let log = Log::default();
        let stream = Stream::connect_host(host, addr.port(), hello(&log));
        let named = format!("{host}:{}", addr.port()).into();
        assert_eq!(stream.peer_addr(), Address::Host(named));
        reactor.add(stream).unwrap();
        run(&mut reactor);
        assert_eq!(io::read_to_string(listener.accept().unwrap().0).unwrap(), "hello");
        assert_eq!(log.lines(), ["a connect", &addr.to_string(), "a close: closed"]);
    }
}

#[test]
fn invariant_3_unknown_host_closes_once() {
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    reactor.add(Stream::connect_host("nope.invalid", 1, hello(&log))).unwrap();
    run(&mut reactor);
    let lines = log.lines();
    assert_eq!(lines.len(), 1, "{lines:?}");
    // Windows has a text of its own for each error.
    let expected = if cfg!(windows) { "a close: " } else { "a close: failed to lookup address" };
    assert!(lines[0].starts_with(expected), "{lines:?}");
}

#[test]
fn invariant_3_refusing_or_silent_host_closes_once() {
    let (_listener, silent, _fillers) = unresponsive_listener();
    let limits = Limits { connect_timeout: Some(Duration::from_millis(50)), ..Limits::default() };
    let unlimited = Limits { connect_timeout: None, ..Limits::default() };
    let refused = &format!("a close: {}", shown(Errno::CONNREFUSED));
    for (addr, limits, expected) in [
        (silent, limits, "a close: timed out: connect timeout"),
        (closed_port(), unlimited, refused),
        (closed_port(), Limits::default(), refused),
    ] {
        let mut reactor = Reactor::new().unwrap();
        let log = Log::default();
        let stream = Stream::connect_host("127.0.0.1", addr.port(), hello(&log));
        reactor.add(stream.with_limits(limits)).unwrap();
        run(&mut reactor);
        assert_eq!(log.lines(), [expected]);
    }
}

/// While the name is resolved there is no connection: no callback is made, and
/// nothing is written.
#[test]
fn invariant_3_resolve_is_not_a_connection() {
    for (early, writable) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut reactor = Reactor::new().unwrap();
        let log = Log::default();
        let mut probe = Probe::passive("a", &log);
        probe.writable = writable;
        let mut stream = Stream::connect_host("127.0.0.1", closed_port().port(), probe);
        if early {
            stream.send(b"early").unwrap();
        }
        reactor.add(stream).unwrap();
        run(&mut reactor);
        let lost = if early { ", 5 bytes unsent" } else { "" };
        let expected = format!("a close: {}{lost}", shown(Errno::CONNREFUSED));
        assert_eq!(log.lines(), [expected], "sent before: {early}, writable: {writable}");
    }
}

/// The resolver thread continues, but the reactor does not wait for it.
#[test]
fn resolve_can_be_aborted() {
    let (_listener, silent, _fillers) = unresponsive_listener();
    for (sent, abort) in [(false, false), (true, true)] {
        let mut reactor = Reactor::new().unwrap();
        let log = Log::default();
        let stream = Stream::connect_host("localhost", silent.port(), hello(&log));
        let token = reactor.add(stream).unwrap();
        turn_all(&mut reactor);
        let stream = reactor.get_mut::<Stream<Probe>>(token).unwrap();
        if sent {
            stream.send(b"never").unwrap();
        }
        if abort {
            stream.abort();
        } else {
            stream.close();
        }
        turn_all(&mut reactor);
        let lost = if sent { ", 5 bytes unsent" } else { "" };
        assert_eq!(log.lines(), [format!("a close: closed{lost}")]);
    }
}

#[test]
fn output_queued_before_resolve_is_sent() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let mut stream = Stream::connect_host("localhost", port, hello(&log));
    stream.send(b"early").unwrap();
    stream.close();
    reactor.add(stream).unwrap();
    run(&mut reactor);
    assert_eq!(log.lines(), ["a close: closed"]);
    assert_eq!(io::read_to_string(listener.accept().unwrap().0).unwrap(), "early");
}

#[test]
fn dropped_reactor_aborts_resolve() {
    let (_listener, silent, _fillers) = unresponsive_listener();
    for turns in [0, 1, 10] {
        let mut reactor = Reactor::new().unwrap();
        let log = Log::default();
        let stream = Stream::connect_host("localhost", silent.port(), hello(&log));
        reactor.add(stream).unwrap();
        for _ in 0..turns {
            reactor.turn(Some(Duration::ZERO)).unwrap();
        }
        drop(reactor);
        assert_eq!(log.lines(), ["a close: shut down"]);
    }
}

#[test]
fn resolving_stream_is_notified_of_drain_after_connect() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let probe = Probe::new("a", &log, |call, io| {
        if call == Call::Drain {
            io.close();
        }
        Ok(())
    });
    reactor.add(Stream::connect_host("localhost", port, probe)).unwrap();
    reactor.context().drain(Duration::from_secs(60));
    run(&mut reactor);
    assert_eq!(log.lines(), ["a connect", "a drain", "a close: closed"]);
}

/// Returns a probe that logs the option of its socket when it is connected.
fn nodelay_probe(log: &Log) -> Probe {
    let seen = log.clone();
    Probe::new("a", log, move |call, io| {
        if call == Call::Connect {
            let nodelay = io.socket_options().map(|options| options.tcp_nodelay().unwrap());
            seen.note(format!("nodelay {nodelay:?}"));
            io.context().stop();
        }
        Ok(())
    })
}

#[test]
fn every_tcp_stream_has_nodelay() {
    for origin in ["connect", "connect_from", "new", "bind", "Listener::new"] {
        let mut reactor = Reactor::new().unwrap();
        let log = Log::default();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut peer = None;
        match origin {
            "connect" => drop(reactor.add(Stream::connect([addr], nodelay_probe(&log)))),
            "connect_from" => {
                drop(reactor.add(Stream::connect_from(any, addr, nodelay_probe(&log))));
            }
            "new" => {
                let socket = TcpStream::connect(addr).unwrap();
                drop(reactor.add(Stream::new(socket, nodelay_probe(&log)).unwrap()));
            }
            "bind" => {
                let seen = log.clone();
                let ours = Listener::bind(any, move |_| Ok(nodelay_probe(&seen))).unwrap();
                peer = Some(TcpStream::connect(ours.local_addr().as_inet().unwrap()).unwrap());
                reactor.add(ours).unwrap();
            }
            _ => {
                let seen = log.clone();
                peer = Some(TcpStream::connect(addr).unwrap());
                let listener = listener.try_clone().unwrap();
                let ours = Listener::new(listener, move |_| Ok(nodelay_probe(&seen))).unwrap();
                reactor.add(ours).unwrap();
            }
        }
        run(&mut reactor);
        assert!(log.has("nodelay Some(true)"), "{origin}: {:?}", log.lines());
        drop(peer);
    }
}

/// The earlier connections from the same port are in TIME-WAIT.
#[test]
fn connecting_from_a_fixed_port_again_works_at_once() {
    let from = closed_port();
    for round in 0..3 {
        // Another server each time: TCP does not allow the same two ends at once.
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut reactor = Reactor::new().unwrap();
        let log = Log::default();
        let probe = Probe::new("a", &log, |call, io| {
            if call == Call::Connect {
                io.close();
            }
            Ok(())
        });
        reactor.add(Stream::connect_from(from, server.local_addr().unwrap(), probe)).unwrap();
        run(&mut reactor);
        assert_eq!(log.lines(), ["a connect", "a close: closed"], "round {round}");
        // Our end closes first, and so has the TIME-WAIT state.
        drop(server.accept().unwrap());
    }
}

/// A socket that is passed in while its connection is not established yet.
#[test]
fn invariant_3_socket_that_is_still_connecting_waits() {
    let (listener, addr, fillers) = unresponsive_listener();
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket.connect(&addr.into()).unwrap_err();
    let seen = log.clone();
    let probe = Probe::new("a", &log, move |call, io| {
        if call == Call::Connect {
            seen.note(format!("peer {}", io.peer_addr()));
            io.close();
        }
        Ok(())
    });
    reactor.add(Stream::new(socket, probe).unwrap()).unwrap();
    turn_all(&mut reactor);
    assert_eq!(log.lines(), [""; 0], "not connected yet");
    // There is room in the queue; the kernel repeats its request after a second.
    listener.set_nonblocking(true).unwrap();
    let accepting = thread::spawn(move || {
        let end = Instant::now() + Duration::from_secs(8);
        let mut accepted = Vec::new();
        while Instant::now() < end && accepted.len() < 5 {
            accepted.extend(listener.accept());
            thread::sleep(Duration::from_millis(10));
        }
        drop(fillers);
    });
    run(&mut reactor);
    assert_eq!(log.lines(), ["a connect", &format!("peer {addr}"), "a close: closed"]);
    accepting.join().unwrap();
}

#[test]
fn invariant_3_socket_whose_connection_failed_is_not_connected() {
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket.connect(&closed_port().into()).unwrap_err();
    reactor.add(Stream::new(socket, Probe::passive("a", &log)).unwrap()).unwrap();
    run(&mut reactor);
    assert_eq!(log.lines(), [format!("a close: {}", shown(Errno::CONNREFUSED))]);
}
