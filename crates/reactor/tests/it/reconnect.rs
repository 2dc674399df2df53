//! A client that stays connected.

use std::cell::RefCell;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use reactor::{
    Cause, Connector, Context, Filter, Flow, Io, Limits, Protocol, Reactor, Reconnector, Stream,
    Token, inbox,
};
use rustix::io::Errno;

use crate::common::{
    Call, DEADLINE, Log, Probe, assert_idle, closed_port, in_process_with_fault, reports_resets,
    reset, run, shown, silence_panics, turn_all, turn_until, unresponsive_listener,
};

const SHORT: Duration = Duration::from_millis(1);

/// Longer than a test takes.
const LONG: Duration = Duration::from_secs(3600);

/// Creates a client with short pauses. Its log contains `lost` or `ended` with the reason
/// for each stream, besides the callbacks of the stream.
fn client<P: Protocol>(
    log: &Log,
    connect: impl FnMut() -> io::Result<Stream<P>> + 'static,
) -> Reconnector {
    let log = log.clone();
    Reconnector::new(connect).with_pauses(SHORT, SHORT).with_handler(move |_, reason, pause| {
        let what = if pause.is_some() { "lost" } else { "ended" };
        log.note(format!("{what}: {reason}"));
    })
}

/// Creates a client of `server` that only closes at end of input.
fn passive(log: &Log, server: Connector) -> Reconnector {
    let streams = log.clone();
    client(log, move || Ok(server.connect(Probe::passive("a", &streams))))
}

fn to(addr: SocketAddr) -> Connector {
    Connector::to_addrs([addr])
}

fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    (listener, addr)
}

/// Listens on an address that no other test uses, so that it can be used again.
fn own_listener() -> (TcpListener, SocketAddr) {
    let is_other_address_local = cfg!(any(target_os = "linux", windows));
    let ip = if is_other_address_local { "127.0.0.79" } else { "127.0.0.1" };
    let listener = TcpListener::bind((ip, 0)).unwrap();
    let addr = listener.local_addr().unwrap();
    (listener, addr)
}

/// Accepts the next connection once the client has established it.
#[track_caller]
fn accept(reactor: &mut Reactor, listener: &TcpListener) -> TcpStream {
    listener.set_nonblocking(true).unwrap();
    let mut accepted = None;
    turn_until(reactor, |_| {
        accepted = listener.accept().ok();
        accepted.is_some()
    });
    let (peer, _) = accepted.unwrap();
    peer.set_nonblocking(false).unwrap();
    peer.set_read_timeout(Some(DEADLINE)).unwrap();
    peer
}

/// Returns the token of the client's stream, if there is one.
fn stream(cx: &mut Context, client: Token) -> Option<Token> {
    cx.get_mut::<Reconnector>(client)?.stream()
}

fn refused() -> String {
    shown(Errno::CONNREFUSED)
}

#[test]
fn client_returns_to_a_server_that_was_restarted() {
    let (listener, addr) = own_listener();
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let token = reactor.add(passive(&log, to(addr))).unwrap();
    let peer = accept(&mut reactor, &listener);
    turn_until(&mut reactor, |_| log.has("a connect"));
    drop((listener, peer));
    turn_until(&mut reactor, |_| log.count(&format!("lost: {}", refused())) >= 2);
    assert_eq!(log.lines()[..3], ["a connect", "a eof", "lost: closed by the peer"]);

    let listener = TcpListener::bind(addr).unwrap();
    let mut peer = accept(&mut reactor, &listener);
    turn_until(&mut reactor, |_| log.count("a connect") == 2);
    peer.write_all(b"hello").unwrap();
    turn_until(&mut reactor, |_| log.has("a read 5"));
    // The stream remains when the client ends.
    reactor.context().close(token);
    peer.write_all(b"bye").unwrap();
    turn_until(&mut reactor, |_| log.has("a read 3"));
    drop(peer);
    run(&mut reactor);
    assert!(!log.has("ended"), "{:?}", log.lines());
}

#[test]
fn each_failure_to_connect_is_reported_and_counted() {
    let (_listener, silent, _fillers) = unresponsive_listener();
    let limits = Limits { connect_timeout: Some(SHORT), ..Limits::default() };
    let failing = [
        (to(closed_port()), refused(), ErrorKind::ConnectionRefused),
        (to(silent).with_limits(limits), "timed out: connect timeout".into(), ErrorKind::TimedOut),
        (
            Connector::to_addrs([]),
            "there is no address to connect to".into(),
            ErrorKind::InvalidInput,
        ),
        (Connector::to_host("", 1), "the host name is empty".into(), ErrorKind::InvalidInput),
        #[cfg(unix)] // Unix sockets
        (Connector::to_unix("/nowhere/socket"), shown(Errno::NOENT), ErrorKind::NotFound),
    ];
    for (connector, reason, kind) in failing {
        let mut reactor = Reactor::new().unwrap();
        let log = Log::default();
        let token = reactor.add(passive(&log, connector).with_max_failures(3)).unwrap();
        let end = reactor.run_until_closed(token).unwrap();
        let (lost, ended) = (format!("lost: {reason}"), format!("ended: {reason}"));
        let closed = format!("a close: {reason}");
        assert_eq!(log.lines(), [&*lost, &closed, &lost, &closed, &ended, &closed]);
        assert_eq!(end.to_string(), format!("gave up after 3 failed attempts: {reason}"));
        assert!(matches!(end.cause, Cause::Error(error) if error.kind() == kind));
        assert!(reactor.context().channels().is_empty());
    }
}

#[test]
fn stream_that_cannot_be_created_counts_as_a_failure() {
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let connect = || -> io::Result<Stream<Probe>> { Err(io::Error::other("no socket")) };
    let token = reactor.add(client(&log, connect).with_max_failures(2)).unwrap();
    let end = reactor.run_until_closed(token).unwrap();
    assert_eq!(log.lines(), ["lost: no socket", "ended: no socket"]);
    assert_eq!(end.to_string(), "gave up after 2 failed attempts: no socket");
}

/// How a connection ends, and the reason of that.
type End = (fn(TcpStream), String);

#[test]
fn each_end_of_a_connection_by_others_is_followed_by_an_attempt() {
    silence_panics();
    let closed = "closed by the peer";
    let ends: [End; 4] = [
        (drop, closed.into()),
        (reset, if reports_resets() { shown(Errno::CONNRESET) } else { closed.into() }),
        (|mut peer| peer.write_all(b"error").unwrap(), "not understood".into()),
        (
            |mut peer| peer.write_all(b"panic").unwrap(),
            "a callback panicked: a panic in a test".into(),
        ),
    ];
    let (listener, addr) = listen();
    let log = Log::default();
    let (server, streams) = (to(addr), log.clone());
    let client = client(&log, move || {
        Ok(server.connect(Probe::new("a", &streams, |call, io| {
            match call {
                Call::Read(b"error") => return Err(io::Error::other("not understood")),
                Call::Read(_) => panic!("a panic in a test"),
                Call::Eof => io.close(),
                _ => {}
            }
            Ok(())
        })))
    });
    let mut reactor = Reactor::new().unwrap();
    reactor.add(client).unwrap();
    for (index, (end, reason)) in ends.into_iter().enumerate() {
        end(accept(&mut reactor, &listener));
        turn_until(&mut reactor, |_| log.count("lost") > index);
        assert!(log.has(&format!("lost: {reason}")), "{:?}", log.lines());
    }
    accept(&mut reactor, &listener);
    assert_eq!(reactor.context().channels().len(), 2, "the client and its stream");
}

/// How a callback closes its stream.
type Close = fn(&mut Io<'_>);

#[test]
fn stream_that_this_end_closes_is_the_last() {
    let closes: [(Close, &str); 4] = [
        (|io| io.close(), "closed"),
        (|io| io.abort(), "closed"),
        (
            |io| {
                let token = io.token();
                io.context().close(token);
            },
            "closed",
        ),
        // Whatever happens before the stream has closed.
        (
            |io| {
                io.close();
                let error = io::Error::other("a callback failed");
                io.context().close_with(Cause::Error(error));
            },
            "a callback failed",
        ),
    ];
    let (_listener, addr) = listen();
    for (close, reason) in closes {
        let mut reactor = Reactor::new().unwrap();
        let log = Log::default();
        let (server, streams) = (to(addr), log.clone());
        let client = client(&log, move || {
            Ok(server.connect(Probe::new("a", &streams, move |call, io| {
                if call == Call::Connect {
                    close(io);
                }
                Ok(())
            })))
        });
        let token = reactor.add(client).unwrap();
        let end = reactor.run_until_closed(token).unwrap();
        assert!(matches!(end.cause, Cause::Local));
        turn_all(&mut reactor);
        let [first, then] = ["ended", "a close"].map(|what| format!("{what}: {reason}"));
        assert_eq!(log.lines(), ["a connect", &first, &then]);
    }
}

/// Runs a client of a server that closes each connection at once, until it has reported
/// eight pauses.
fn pauses_with_closing_server(
    first: Duration,
    longest: Duration,
    stable_after: Duration,
) -> Vec<Duration> {
    let (listener, addr) = listen();
    listener.set_nonblocking(true).unwrap();
    let (log, server) = (Log::default(), to(addr));
    let (streams, pauses) = (log.clone(), Rc::new(RefCell::new(Vec::new())));
    let reported = Rc::clone(&pauses);
    let client = Reconnector::new(move || Ok(server.connect(Probe::passive("a", &streams))))
        .with_pauses(first, longest)
        .with_stable_after(stable_after)
        .with_handler(move |_, _, pause| reported.borrow_mut().extend(pause));
    let mut reactor = Reactor::new().unwrap();
    reactor.add(client).unwrap();
    turn_until(&mut reactor, |_| {
        while listener.accept().is_ok() {}
        pauses.borrow().len() >= 8
    });
    assert!(log.count("a connect") >= 8, "each attempt succeeds at first");
    pauses.take()
}

#[test]
fn pauses_grow_although_a_server_accepts_and_closes() {
    let pauses = pauses_with_closing_server(SHORT, 64 * SHORT, LONG);
    let mut longest = SHORT;
    for pause in pauses {
        assert!(longest / 2 <= pause && pause <= longest, "{pause:?}, at most {longest:?}");
        longest = (2 * longest).min(64 * SHORT);
    }
}

#[test]
fn pauses_are_short_after_stable_connections() {
    let pauses = pauses_with_closing_server(SHORT, LONG, Duration::ZERO);
    assert!(pauses.iter().all(|pause| *pause <= SHORT), "{pauses:?}");
}

#[test]
fn failures_are_counted_until_a_connection_is_stable() {
    let (listener, addr) = own_listener();
    listener.set_nonblocking(true).unwrap();
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let client = passive(&log, to(addr)).with_stable_after(Duration::ZERO).with_max_failures(2);
    let token = reactor.add(client).unwrap();
    turn_until(&mut reactor, |_| {
        while listener.accept().is_ok() {}
        log.count("a connect") > 5
    });
    drop(listener);
    let end = reactor.run_until_closed(token).unwrap();
    assert!(end.to_string().starts_with("gave up after 2 failed attempts: "), "{end}");

    let (listener, addr) = listen();
    listener.set_nonblocking(true).unwrap();
    let log = Log::default();
    let client = passive(&log, to(addr)).with_stable_after(LONG).with_max_failures(2);
    let token = reactor.add(client).unwrap();
    turn_until(&mut reactor, |reactor| {
        while listener.accept().is_ok() {}
        reactor.get_mut::<Reconnector>(token).is_none()
    });
    assert_eq!((log.count("a connect"), log.count("lost"), log.count("ended")), (2, 1, 1));
}

/// A filter whose handshake succeeds with `y`. It answers other input before it fails.
struct Handshake;

impl Filter for Handshake {
    fn start(&mut self, _: &mut Flow<'_>) -> io::Result<()> {
        Ok(())
    }

    fn received(&mut self, raw: &mut [u8], flow: &mut Flow<'_>) -> io::Result<()> {
        for byte in raw {
            if *byte != b'y' {
                flow.wire.extend(b"alert");
                return Err(io::Error::new(ErrorKind::InvalidData, "not understood"));
            }
            flow.ready();
        }
        Ok(())
    }

    fn ended(&mut self, flow: &mut Flow<'_>) -> io::Result<()> {
        flow.end();
        Ok(())
    }

    fn send(&mut self, plain: &[u8], wire: &mut Vec<u8>) -> io::Result<()> {
        wire.extend(plain);
        Ok(())
    }

    fn finish(&mut self, _: &mut Vec<u8>) {}
}

#[test]
fn failed_handshake_is_a_failure() {
    let (listener, addr) = listen();
    let log = Log::default();
    let (server, streams) = (to(addr), log.clone());
    let connect = move || Ok(server.connect(Probe::passive("a", &streams)).with_filter(Handshake));
    let client = client(&log, connect).with_stable_after(Duration::ZERO).with_max_failures(2);
    // Two connections are established; then two are not, one after the other.
    let thread = thread::spawn(move || {
        for answer in ["n", "yn", "yn", "n", "n"] {
            let mut peer = listener.accept().unwrap().0;
            peer.set_read_timeout(Some(DEADLINE)).unwrap();
            peer.write_all(answer.as_bytes()).unwrap();
            let mut alert = [0; 5];
            peer.read_exact(&mut alert).unwrap();
            assert_eq!(&alert, b"alert");
        }
    });
    let mut reactor = Reactor::new().unwrap();
    let token = reactor.add(client).unwrap();
    let end = reactor.run_until_closed(token).unwrap();
    assert_eq!(end.to_string(), "gave up after 2 failed attempts: not understood");
    thread.join().unwrap();
    let counts = ["a connect", "lost: not understood", "ended: not understood"];
    assert_eq!(counts.map(|part| log.count(part)), [2, 4, 1]);
}

#[test]
fn downtime_is_limited() {
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let client = passive(&log, to(closed_port()));
    let token = reactor.add(client.with_max_downtime(Duration::ZERO)).unwrap();
    let end = reactor.run_until_closed(token).unwrap();
    assert_eq!(end.to_string(), format!("gave up after 1 failed attempt: {}", refused()));

    let begin = Instant::now();
    let client = passive(&log, to(closed_port()));
    let token = reactor.add(client.with_max_downtime(50 * SHORT)).unwrap();
    reactor.run_until_closed(token).unwrap();
    assert!(begin.elapsed() >= 49 * SHORT, "after {:?}", begin.elapsed());

    // A stable connection is no downtime, however long.
    let (listener, addr) = listen();
    let log = Log::default();
    let client = passive(&log, to(addr)).with_stable_after(Duration::ZERO);
    reactor.add(client.with_max_downtime(50 * SHORT)).unwrap();
    let peer = accept(&mut reactor, &listener);
    let begin = Instant::now();
    turn_until(&mut reactor, |_| begin.elapsed() > 100 * SHORT);
    drop(peer);
    turn_until(&mut reactor, |_| log.has("lost"));
}

#[test]
fn client_can_be_closed_at_any_time() {
    let (_listener, silent, _fillers) = unresponsive_listener();
    let resolving = Connector::to_host("localhost", closed_port().port());
    for (server, expected) in [
        // Without a turn there is no stream yet.
        (resolving.clone(), vec![]),
        (resolving, vec!["a close: closed"]),
        (to(silent), vec!["a close: closed"]),
    ] {
        let mut reactor = Reactor::new().unwrap();
        let log = Log::default();
        let token = reactor.add(passive(&log, server)).unwrap();
        if !expected.is_empty() {
            reactor.turn(Some(Duration::ZERO)).unwrap();
            assert!(stream(reactor.context(), token).is_some());
        }
        reactor.context().close(token);
        run(&mut reactor);
        assert_eq!(log.lines(), expected);
    }
}

#[test]
fn paused_client_sleeps_until_it_is_closed() {
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let client = passive(&log, to(closed_port())).with_pauses(LONG, LONG);
    let token = reactor.add(client).unwrap();
    turn_until(&mut reactor, |_| log.has("a close"));
    assert_eq!(stream(reactor.context(), token), None);
    assert_idle(&mut reactor);
    reactor.context().close(token);
    run(&mut reactor);
    assert_eq!(log.lines(), [format!("lost: {}", refused()), format!("a close: {}", refused())]);
}

/// A pause beyond the range of the clock.
#[test]
fn longest_pause_does_not_panic() {
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let client = passive(&log, to(closed_port())).with_pauses(Duration::MAX, Duration::MAX);
    let token = reactor.add(client.with_max_downtime(Duration::MAX)).unwrap();
    turn_until(&mut reactor, |_| log.has("lost"));
    turn_all(&mut reactor);
    reactor.context().close(token);
    run(&mut reactor);
}

#[test]
fn output_of_an_attempt_is_written_or_reported() {
    let send = |reactor: &mut Reactor, client| {
        reactor.turn(Some(Duration::ZERO)).unwrap();
        let stream = stream(reactor.context(), client).unwrap();
        let stream = reactor.get_mut::<Stream<Probe>>(stream).unwrap();
        stream.send(b"early").unwrap();
        stream.close();
    };
    // The name is being resolved.
    let (listener, addr) = listen();
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let client = passive(&log, Connector::to_host("localhost", addr.port()));
    let token = reactor.add(client).unwrap();
    send(&mut reactor, token);
    reactor.context().close(token);
    run(&mut reactor);
    assert_eq!(log.lines(), ["a close: closed"]);
    assert_eq!(io::read_to_string(listener.accept().unwrap().0).unwrap(), "early");

    // The stream is closed already when the attempt fails, so that it is the last one.
    let log = Log::default();
    let client = passive(&log, Connector::to_host("localhost", closed_port().port()));
    let token = reactor.add(client).unwrap();
    send(&mut reactor, token);
    run(&mut reactor);
    let reason = format!("{}, 5 bytes unsent", refused());
    assert_eq!(log.lines(), [format!("ended: {reason}"), format!("a close: {reason}")]);
}

#[test]
fn drain_ends_a_client_that_is_not_connected() {
    let (_listener, silent, _fillers) = unresponsive_listener();
    let lost = [format!("lost: {}", refused()), format!("a close: {}", refused())];
    let given_up = ["ended: closed".to_owned(), "a close: closed".to_owned()];
    for (server, expected) in [(closed_port(), &lost), (silent, &given_up)] {
        let mut reactor = Reactor::new().unwrap();
        let log = Log::default();
        let client = passive(&log, to(server)).with_pauses(LONG, LONG);
        let token = reactor.add(client).unwrap();
        turn_until(&mut reactor, |_| log.has("a close") || server == silent);
        turn_all(&mut reactor);
        reactor.context().drain(LONG);
        assert!(matches!(reactor.run_until_closed(token).unwrap().cause, Cause::Local));
        run(&mut reactor);
        assert_eq!(log.lines(), *expected);
    }
    // One that is added later makes no attempt.
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    reactor.add(passive(&log, to(silent))).unwrap();
    reactor.context().drain(LONG);
    run(&mut reactor);
    assert_eq!(log.lines(), [""; 0]);
}

#[test]
fn drained_client_does_not_return() {
    for peer_ends in [true, false] {
        let (listener, addr) = listen();
        let mut reactor = Reactor::new().unwrap();
        let log = Log::default();
        reactor.add(passive(&log, to(addr))).unwrap();
        let peer = accept(&mut reactor, &listener);
        turn_until(&mut reactor, |_| log.has("a connect"));
        reactor.context().drain(if peer_ends { LONG } else { SHORT });
        turn_until(&mut reactor, |_| log.has("a drain"));
        if peer_ends {
            drop(peer);
        }
        run(&mut reactor);
        let expected: &[_] = if peer_ends {
            &["a eof", "ended: closed by the peer", "a close: closed by the peer"]
        } else {
            &["a close: shut down"]
        };
        assert_eq!(log.lines()[2..], *expected);
    }
}

#[test]
fn shutdown_closes_client_and_stream() {
    let (_listener, silent, _fillers) = unresponsive_listener();
    let (_listener, connected) = listen();
    for addr in [silent, connected, closed_port()] {
        let mut reactor = Reactor::new().unwrap();
        let log = Log::default();
        let client = passive(&log, to(addr)).with_pauses(LONG, LONG);
        let token = reactor.add(client).unwrap();
        turn_until(&mut reactor, |_| addr == silent || !log.lines().is_empty());
        turn_all(&mut reactor);
        let had_stream = stream(reactor.context(), token).is_some();
        let before = log.lines().len();
        drop(reactor);
        let after: &[_] = if had_stream { &["a close: shut down"] } else { &[] };
        assert_eq!(log.lines()[before..], *after);
    }
}

#[test]
fn all_addresses_are_tried_in_one_attempt() {
    let (listener, addr) = listen();
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    reactor.add(passive(&log, Connector::to_addrs([closed_port(), addr]))).unwrap();
    for _ in 0..2 {
        drop(accept(&mut reactor, &listener));
    }
    turn_until(&mut reactor, |_| log.count("a close") == 2);
    assert!(!log.has(&refused()));
}

/// What another thread requests.
enum Command {
    /// Sends this, and reports if it was accepted, or `None` without a stream.
    Send(&'static [u8], mpsc::Sender<Option<bool>>),
    Quit,
}

#[test]
fn another_thread_sends_through_an_inbox() {
    let (listener, addr) = listen();
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let client = passive(&log, to(addr)).with_pauses(LONG, LONG);
    let client = reactor.add(client).unwrap();
    let (commands, inbox) = inbox(10, move |cx, command| {
        let stream = stream(cx, client);
        match command {
            Command::Send(data, result) => {
                let accepts = |_: &mut Probe, io: &mut Io<'_>| io.send(data).is_ok();
                let accepted = stream.map(|stream| cx.with_stream(stream, accepts) == Some(true));
                result.send(accepted).unwrap();
            }
            Command::Quit => cx.close(client),
        }
        Ok(())
    });
    reactor.add(inbox).unwrap();
    let thread = thread::spawn(move || {
        let send = |data| {
            let (result, sent) = mpsc::channel();
            assert!(commands.send(Command::Send(data, result)).is_ok());
            sent.recv_timeout(DEADLINE).unwrap()
        };
        let mut peer = listener.accept().unwrap().0;
        peer.set_read_timeout(Some(DEADLINE)).unwrap();
        assert_eq!(send(b"hello"), Some(true));
        let mut received = [0; 5];
        peer.read_exact(&mut received).unwrap();
        assert_eq!(&received, b"hello");
        drop(peer);
        let begin = Instant::now();
        while send(b"x").is_some() {
            assert!(begin.elapsed() < DEADLINE);
        }
        assert!(commands.send(Command::Quit).is_ok());
    });
    run(&mut reactor);
    thread.join().unwrap();
    assert_eq!(log.count("lost"), 1);
}

/// A write fails within a callback, which passes the error on.
#[test]
fn connection_on_which_a_write_failed_is_followed_by_an_attempt() {
    for errno in ["ETIMEDOUT", "EHOSTUNREACH"] {
        let name = "reconnect::connection_on_which_a_write_failed_is_followed_by_an_attempt";
        let fault = format!("error={errno}:when=1..2");
        if in_process_with_fault(name, "sendto,sendmsg", &fault) {
            let (listener, addr) = listen();
            let mut reactor = Reactor::new().unwrap();
            let log = Log::default();
            let (server, streams) = (to(addr), log.clone());
            let client = client(&log, move || {
                Ok(server.connect(Probe::new("a", &streams, |call, io| match call {
                    // Too much to be gathered.
                    Call::Connect => io.send(&vec![0; 20_000]),
                    _ => Ok(()),
                })))
            });
            reactor.add(client).unwrap();
            let mut peers = Vec::new();
            for _ in 0..3 {
                peers.push(accept(&mut reactor, &listener));
            }
            turn_until(&mut reactor, |_| log.count("a connect") == 3);
            assert_eq!((log.count("lost"), log.count("ended")), (2, 0), "{:?}", log.lines());
        }
    }
}

#[test]
fn panic_in_the_closure_ends_the_client() {
    silence_panics();
    let mut reactor = Reactor::new().unwrap();
    let connect = || -> io::Result<Stream<Probe>> { panic!("a panic in a test") };
    let token = reactor.add(Reconnector::new(connect)).unwrap();
    let end = reactor.run_until_closed(token).unwrap();
    assert_eq!(end.to_string(), "a callback panicked: a panic in a test");
}
