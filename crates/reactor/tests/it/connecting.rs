//! Invariant 3: `handle_connect` at most once, first, and only for a
//! connection.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::time::Duration;

use reactor::{Io, Limits, Listener, Reactor, Stream};
use socket2::{Domain, Socket, Type};

use crate::common::{Call, Log, Probe, run, turn_all, turn_until};

/// A port of this machine on which nobody listens.
fn dead_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// An address that answers to no attempt to connect: a listener that accepts
/// nobody, with its queue filled.
fn silent() -> (Socket, SocketAddr, Vec<Socket>) {
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    listener.bind(&any.into()).unwrap();
    listener.listen(0).unwrap();
    let addr = listener.local_addr().unwrap().as_socket().unwrap();
    let fillers = std::iter::repeat_with(|| {
        let filler = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        filler.set_nonblocking(true).unwrap();
        // In progress, for ever; or, for the first, connected.
        let _ = filler.connect(&addr.into());
        filler
    });
    let fillers = fillers.take(4).collect();
    (listener, addr, fillers)
}

#[test]
fn invariant_3_a_refused_connection_is_told_once_and_as_such() {
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let probe = Probe::passive("a", &log).writable();
    reactor.add(Stream::connect(dead_port(), probe).unwrap()).unwrap();
    run(&mut reactor);
    assert_eq!(log.lines(), ["a close: Connection refused (os error 111)"]);
}

#[test]
fn invariant_3_a_connection_that_nobody_answers_times_out() {
    let (_listener, addr, _fillers) = silent();
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let limits = Limits { connect_timeout: Some(Duration::from_millis(50)), ..Limits::default() };
    let mut stream = Stream::connect(addr, Probe::passive("a", &log)).unwrap().limits(limits);
    stream.send(b"never").unwrap();
    reactor.add(stream).unwrap();
    run(&mut reactor);
    assert_eq!(log.lines(), ["a close: timed out: no connection, 5 bytes unsent"]);
}

#[test]
fn of_several_addresses_each_is_tried_in_turn() {
    let (_listener, silent, _fillers) = silent();
    let alive = TcpListener::bind("127.0.0.1:0").unwrap();
    let addrs = [dead_port(), silent, alive.local_addr().unwrap()];
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let limits = Limits { connect_timeout: Some(Duration::from_millis(500)), ..Limits::default() };
    let probe = Probe::new("a", &log, |call, io| {
        if call == Call::Connect {
            io.close();
        }
        Ok(())
    });
    reactor.add(Stream::connect(&addrs[..], probe).unwrap().limits(limits)).unwrap();
    run(&mut reactor);
    assert_eq!(log.lines(), ["a connect", "a close: closed"]);
    alive.accept().unwrap();
}

#[test]
fn invariant_3_connect_comes_first_though_data_is_there_already() {
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
    reactor.add(Stream::connect(addr, probe).unwrap()).unwrap();
    // Before the loop first looks: connected, data there, and the end too.
    let (mut peer, _) = listener.accept().unwrap();
    peer.write_all(b"early").unwrap();
    peer.shutdown(std::net::Shutdown::Write).unwrap();
    run(&mut reactor);
    let expected = ["a connect", "a read 5", "a eof", "a close: closed by the peer"];
    assert_eq!(log.lines(), expected);
    let mut hello = String::new();
    std::io::Read::read_to_string(&mut peer, &mut hello).unwrap();
    assert_eq!(hello, "hello");
}

#[test]
fn invariant_3_a_close_within_connect_is_final() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let probe = Probe::new("a", &log, |_, io: &mut Io<'_>| {
        io.close();
        Ok(())
    });
    let stream = Stream::connect(listener.local_addr().unwrap(), probe.writable()).unwrap();
    reactor.add(stream).unwrap();
    let (mut peer, _) = listener.accept().unwrap();
    let _ = peer.write_all(b"early");
    run(&mut reactor);
    assert_eq!(log.lines(), ["a connect", "a close: closed"]);
}

#[test]
fn what_was_sent_before_the_connection_came_about_follows_it() {
    let listener = TcpListener::bind("[::1]:0").unwrap();
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let addr = listener.local_addr().unwrap();
    let mut stream = Stream::connect(addr, Probe::passive("a", &log)).unwrap();
    stream.send(b"early").unwrap();
    stream.close();
    reactor.add(stream).unwrap();
    let (peer, _) = listener.accept().unwrap();
    run(&mut reactor);
    assert_eq!(std::io::read_to_string(peer).unwrap(), "early");
    // It was closed before it was connected: nobody to tell of a connection.
    assert_eq!(log.lines(), ["a close: closed"]);
}

#[test]
fn unix_sockets_connect_too() {
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
    reactor.add(Stream::connect_unix(&path, probe).unwrap()).unwrap();
    run(&mut reactor);
    assert_eq!(std::io::read_to_string(listener.accept().unwrap().0).unwrap(), "hello");
    assert_eq!(log.lines(), ["a connect", "a close: closed"]);

    let nobody = dir.path().join("nobody");
    let error = Stream::connect_unix(nobody, Probe::passive("b", &log)).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
}

/// A reactor's own listener and a reactor's own client, in one loop.
#[test]
fn both_sides_live_in_one_reactor() {
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
    reactor.add(Stream::connect(addr, client).unwrap()).unwrap();
    turn_until(&mut reactor, |_| log.count("close") == 2);
    turn_all(&mut reactor);
    assert_eq!(log.count("client connect"), 1);
    assert_eq!(log.count("server connect"), 1, "also for the side that was accepted");
    assert!(log.has("client close: closed") && log.has("server close: closed by the peer"));
}
