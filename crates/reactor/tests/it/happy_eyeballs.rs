//! Connecting to one of several addresses (RFC 8305): what follows a refusal or a
//! silence, and which attempt is used.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use reactor::{Cause, Io, Limits, Reactor, Stream};
use socket2::{Domain, Socket, Type};

use crate::common::{Call, Log, Probe, closed_port, run, turn_until, unresponsive_listener};

/// RFC 8305, "Connection Attempt Delay".
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// Notes the peer's address once connected, and closes.
fn probe(log: &Log) -> Probe {
    let seen = log.clone();
    Probe::new("a", log, move |call, io: &mut Io<'_>| {
        if call == Call::Connect {
            seen.note(io.peer_addr().to_string());
            io.close();
        }
        Ok(())
    })
}

/// Connects to one of `addrs`. Returns the log, and how long it took.
fn connect(addrs: impl IntoIterator<Item = SocketAddr>) -> (Vec<String>, Duration) {
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let begin = Instant::now();
    reactor.add(Stream::connect(addrs, probe(&log))).unwrap();
    run(&mut reactor);
    (log.lines(), begin.elapsed())
}

fn connected_to(addr: SocketAddr) -> [String; 3] {
    ["a connect".into(), addr.to_string(), "a close: closed".into()]
}

#[test]
fn silent_address_is_overtaken_after_the_attempt_delay() {
    let (_listener, silent, _fillers) = unresponsive_listener();
    let alive = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = alive.local_addr().unwrap();
    let (lines, took) = connect([silent, addr]);
    assert_eq!(lines, connected_to(addr));
    assert!(took >= ATTEMPT_DELAY, "the first one had {took:?}");
}

#[test]
fn refused_address_is_followed_at_once() {
    let alive = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = alive.local_addr().unwrap();
    let refused = [closed_port(); 12];
    let (lines, took) = connect(refused.into_iter().chain([addr]));
    assert_eq!(lines, connected_to(addr));
    assert!(took < 4 * ATTEMPT_DELAY, "it took {took:?}");
    alive.accept().unwrap();
}

#[test]
fn refusal_while_an_earlier_attempt_continues_is_followed_at_once() {
    let (_listener, silent, _fillers) = unresponsive_listener();
    let alive = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = alive.local_addr().unwrap();
    let refused = [closed_port(); 12];
    let (lines, took) = connect([silent].into_iter().chain(refused).chain([addr]));
    assert_eq!(lines, connected_to(addr));
    assert!((ATTEMPT_DELAY..5 * ATTEMPT_DELAY).contains(&took), "it took {took:?}");
}

/// The second address does not answer either, while the first one does in the end.
#[test]
fn earlier_attempt_that_completes_later_is_used() {
    let slow = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    slow.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    let addr = slow.local_addr().unwrap().as_socket().unwrap();
    slow.listen(0).unwrap();
    let filler = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    filler.connect(&addr.into()).unwrap();
    let (_listener, silent, _fillers) = unresponsive_listener();

    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let mut stream = Stream::connect([addr, silent], probe(&log));
    stream.send(b"early").unwrap();
    let token = reactor.add(stream).unwrap();
    turn_until(&mut reactor, |reactor| {
        reactor.get_mut::<Stream<Probe>>(token).unwrap().peer_addr().as_inet() == Some(silent)
    });
    // Accepting makes room in the queue, for the next SYN of the first attempt.
    slow.accept().unwrap();
    run(&mut reactor);
    assert_eq!(log.lines(), connected_to(addr));
    assert_eq!(
        io::read_to_string(std::net::TcpStream::from(slow.accept().unwrap().0)).unwrap(),
        "early"
    );
}

#[test]
fn earlier_attempt_alone_keeps_the_stream_connecting() {
    let (_listener, silent, _fillers) = unresponsive_listener();
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let limits = Limits { connect_timeout: Some(2 * ATTEMPT_DELAY), ..Limits::default() };
    let stream = Stream::connect([silent, closed_port()], probe(&log)).with_limits(limits);
    let begin = Instant::now();
    reactor.add(stream).unwrap();
    run(&mut reactor);
    assert_eq!(log.lines(), ["a close: timed out: connect timeout"]);
    assert!(begin.elapsed() >= 2 * ATTEMPT_DELAY, "until the timeout");
}

#[test]
fn refusal_by_all_addresses_reports_the_last_error() {
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let addrs = [closed_port(), closed_port()];
    let token = reactor.add(Stream::connect(addrs, probe(&log))).unwrap();
    let reason = reactor.run_until_closed(token).unwrap();
    let Cause::Error(error) = reason.cause else { panic!("{reason}") };
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    let token = reactor.add(Stream::connect([], probe(&log))).unwrap();
    let reason = reactor.run_until_closed(token).unwrap();
    assert_eq!(reason.to_string(), "there is no address to connect to");
}

/// The attempts are channels of their own: none outlives the stream.
#[test]
fn closed_stream_leaves_no_attempt() {
    let (_listener, silent, _fillers) = unresponsive_listener();
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let token = reactor.add(Stream::connect([silent; 3], probe(&log))).unwrap();
    turn_until(&mut reactor, |reactor| reactor.context().channels().len() == 3);
    reactor.get_mut::<Stream<Probe>>(token).unwrap().abort();
    run(&mut reactor);
    assert_eq!(log.lines(), ["a close: closed"]);
    assert!(reactor.context().channels().is_empty());
}
