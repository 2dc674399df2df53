//! What a program calls on a reactor, a context, a handle and a listener.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::rc::Rc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use reactor::{
    Cause, Chat, ChatIo, ChatProtocol, ConnectionLimit, Context, Io, Limits, Listener, Protocol,
    Reactor, ReactorClosed, Stream, TimeoutKind, Token,
};

use crate::common::{
    Call, Echo, LocalStream, Log, Probe, assert_idle, local_pair, run, run_with, silence_panics,
    tcp_pair, turn_all, turn_until,
};

/// Adds one end of a Unix socket pair, and returns the other.
fn add(reactor: &mut Reactor, protocol: impl Protocol) -> (Token, LocalStream) {
    let (ours, theirs) = local_pair().unwrap();
    let token = reactor.add(Stream::new(ours, protocol).unwrap()).unwrap();
    (token, theirs)
}

// --- run_until_closed ---------------------------------------------------------

#[test]
fn run_until_closed_returns_the_reason_and_leaves_other_channels_open() {
    let mut reactor = Reactor::new().unwrap();
    let (other, mut other_peer) = add(&mut reactor, Echo);
    let (token, peer) = add(&mut reactor, Echo);
    drop(peer);
    let reason = reactor.run_until_closed(token).unwrap();
    assert!(matches!(reason.cause, Cause::PeerClosed), "{reason}");
    assert_eq!(reason.unsent, 0);
    assert!(reactor.get_mut::<Stream<Echo>>(other).is_some());
    // It can be used again, and another channel is served meanwhile.
    let (token, _peer) = add(&mut reactor, Probe::passive("a", &Log::default()));
    let limits = Limits { idle_timeout: Some(Duration::from_millis(50)), ..Limits::default() };
    let (ours, _theirs) = local_pair().unwrap();
    let idle = reactor.add(Stream::new(ours, Echo).unwrap().with_limits(limits)).unwrap();
    other_peer.write_all(b"x").unwrap();
    let reason = reactor.run_until_closed(idle).unwrap();
    assert!(matches!(reason.cause, Cause::TimedOut(TimeoutKind::Idle)), "{reason}");
    other_peer.read_exact(&mut [0]).unwrap();
    reactor.get_mut::<Stream<Probe>>(token).unwrap().abort();
    let reason = reactor.run_until_closed(token).unwrap();
    assert!(matches!(reason.cause, Cause::Local), "{reason}");
}

#[test]
fn run_until_closed_reports_unsent_bytes() {
    let mut reactor = Reactor::new().unwrap();
    let (token, _peer) = add(&mut reactor, Echo);
    let stream = reactor.get_mut::<Stream<Echo>>(token).unwrap();
    stream.send(&vec![0; 4_000_000]).unwrap();
    let unsent = stream.unsent();
    assert!(unsent > 0);
    stream.abort();
    assert_eq!(reactor.run_until_closed(token).unwrap().unsent, unsent);
}

#[test]
fn run_until_closed_without_channel_is_not_found() {
    let mut reactor = Reactor::new().unwrap();
    let (token, peer) = add(&mut reactor, Echo);
    drop(peer);
    run(&mut reactor);
    assert_eq!(reactor.run_until_closed(token).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn run_until_closed_is_interrupted_by_stop() {
    let mut reactor = Reactor::new().unwrap();
    let (token, peer) = add(&mut reactor, Echo);
    let handle = reactor.handle();
    let other = thread::spawn(move || handle.stop());
    let error = reactor.run_until_closed(token).unwrap_err();
    other.join().unwrap().unwrap();
    assert_eq!(error.kind(), ErrorKind::Interrupted);
    assert_eq!(error.to_string(), "the reactor stopped before the channel closed");
    // The channel is still open, and can be awaited again.
    drop(peer);
    assert!(matches!(reactor.run_until_closed(token).unwrap().cause, Cause::PeerClosed));
}

#[test]
fn run_until_closed_of_a_channel_that_closes_at_once_returns() {
    let mut reactor = Reactor::new().unwrap();
    let (token, _peer) = add(&mut reactor, Echo);
    reactor.context().close(token);
    assert!(matches!(reactor.run_until_closed(token).unwrap().cause, Cause::Local));
}

// --- Handle::call -------------------------------------------------------------

#[test]
fn call_returns_the_result() {
    let mut reactor = Reactor::new().unwrap();
    let (token, mut peer) = add(&mut reactor, Echo);
    let handle = reactor.handle();
    let sent = run_with(&mut reactor, move || {
        let send = move |cx: &mut Context| {
            let stream = cx.get_mut::<Stream<Echo>>(token);
            stream.map(|stream| stream.send(b"hello").is_ok())
        };
        handle.call(send)
    });
    assert_eq!(sent, Ok(Some(true)));
    let mut received = [0; 5];
    peer.read_exact(&mut received).unwrap();
    assert_eq!(&received, b"hello");
}

#[test]
fn call_that_panics_is_an_error_and_the_loop_continues() {
    silence_panics();
    let mut reactor = Reactor::new().unwrap();
    let (_token, _peer) = add(&mut reactor, Echo);
    let handle = reactor.handle();
    let results = run_with(&mut reactor, move || {
        (handle.call(|_| panic!("a panic in a call")), handle.call(|_| 7))
    });
    let failed: Result<(), ReactorClosed> = Err(ReactorClosed);
    assert_eq!(results, (failed, Ok(7)));
}

#[test]
fn call_of_dropped_reactor_is_an_error() {
    let reactor = Reactor::new().unwrap();
    let handle = reactor.handle();
    let waiting = thread::spawn({
        let handle = handle.clone();
        move || handle.call(|_| ())
    });
    // Dropped before it runs the call.
    drop(reactor);
    assert_eq!(waiting.join().unwrap(), Err(ReactorClosed));
    assert_eq!(handle.call(|_| ()), Err(ReactorClosed));
}

// --- limits and pauses of listeners -------------------------------------------

#[test]
fn connection_limit_is_shared_by_listeners() {
    let mut reactor = Reactor::new().unwrap();
    let limit = ConnectionLimit::new(2);
    let mut listen = || {
        let listener = Listener::bind("127.0.0.1:0", |_| Ok(Echo)).unwrap();
        // Limits that are set later do not remove it.
        let listener = listener.with_connection_limit(limit.clone()).with_limits(Limits::default());
        let addr = listener.local_addr().as_inet().unwrap();
        (reactor.add(listener).unwrap(), addr)
    };
    let ((first, first_addr), (second, second_addr)) = (listen(), listen());
    let peer = TcpStream::connect(first_addr).unwrap();
    let _other = TcpStream::connect(second_addr).unwrap();
    turn_until(&mut reactor, |_| limit.open_count() == 2);
    for (token, addr) in [(first, first_addr), (second, second_addr)] {
        let mut rejected = TcpStream::connect(addr).unwrap();
        turn_until(&mut reactor, |reactor| {
            reactor.get_mut::<Listener>(token).unwrap().rejected() == 1
        });
        assert_eq!(rejected.read_to_end(&mut Vec::new()).unwrap(), 0);
    }
    assert_eq!((reactor.stats().rejected_over_limit, limit.open_count()), (2, 2));
    // The place of the first peer, for a peer of the second listener.
    drop(peer);
    turn_until(&mut reactor, |_| limit.open_count() == 1);
    let _next = TcpStream::connect(second_addr).unwrap();
    turn_until(&mut reactor, |_| limit.open_count() == 2);
    drop(reactor);
    assert_eq!(limit.open_count(), 0, "a dropped stream is not counted");
}

#[test]
fn connection_limit_does_not_count_rejected_connections() {
    silence_panics();
    let mut reactor = Reactor::new().unwrap();
    let limit = ConnectionLimit::new(1);
    let mut count = 0;
    let listener = Listener::bind("127.0.0.1:0", move |_| {
        count += 1;
        assert!(count != 2, "a panic in handle_accepted");
        if count == 1 { Err(io::Error::other("no")) } else { Ok(Echo) }
    });
    let listener = listener.unwrap().with_connection_limit(limit.clone());
    let addr = listener.local_addr().as_inet().unwrap();
    reactor.add(listener).unwrap();
    let _peers: Vec<_> = (0..3).map(|_| TcpStream::connect(addr).unwrap()).collect();
    turn_until(&mut reactor, |reactor| reactor.stats().accepted == 3);
    assert_eq!(reactor.stats().rejected_by_handler, 2);
    assert_eq!(limit.open_count(), 1, "the third one");
}

#[test]
fn paused_listener_keeps_the_queue_and_resume_accepts_it() {
    let mut reactor = Reactor::new().unwrap();
    let mut listener = Listener::bind("127.0.0.1:0", |_| Ok(Echo)).unwrap();
    let addr = listener.local_addr().as_inet().unwrap();
    listener.pause();
    let token = reactor.add(listener).unwrap();
    let mut early = TcpStream::connect(addr).unwrap();
    early.write_all(b"x").unwrap();
    assert_idle(&mut reactor);
    assert_eq!(reactor.stats().accepted, 0);
    reactor.get_mut::<Listener>(token).unwrap().resume();
    turn_until(&mut reactor, |reactor| reactor.stats().accepted == 1);
    turn_all(&mut reactor);
    early.read_exact(&mut [0]).unwrap();
    // Paused by a connection's callback.
    reactor.get_mut::<Listener>(token).unwrap().pause();
    let mut late = TcpStream::connect(addr).unwrap();
    late.write_all(b"y").unwrap();
    assert_idle(&mut reactor);
    assert_eq!(reactor.stats().accepted, 1);
    // A drain accepts what is in the queue.
    reactor.context().drain(Duration::from_secs(60));
    turn_until(&mut reactor, |reactor| reactor.stats().accepted == 2);
    turn_all(&mut reactor);
    late.read_exact(&mut [0]).unwrap();
}

// --- reaching other channels --------------------------------------------------

struct Guest(u32);

impl Protocol for Guest {
    fn handle_read(&mut self, _: &mut Io<'_>, _: &[u8]) -> io::Result<()> {
        Ok(())
    }
}

impl ChatProtocol for Guest {
    fn found_terminator(&mut self, _: &mut ChatIo<'_>) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(unix)] // Unix sockets: a close that need not wait
#[test]
fn with_stream_reaches_another_stream() {
    let mut reactor = Reactor::new().unwrap();
    let (token, mut peer) = add(&mut reactor, Guest(1));
    let points = reactor.context().with_stream(token, |guest: &mut Guest, io| {
        guest.0 += 1;
        assert_eq!(io.token(), token);
        io.send(b"hello").unwrap();
        io.close();
        io.context().call_later(Duration::ZERO, Context::stop);
        guest.0
    });
    assert_eq!(points, Some(2));
    assert!(matches!(reactor.run_until_closed(token).unwrap().cause, Cause::Local));
    assert_eq!(io::read_to_string(&mut peer).unwrap(), "hello");
}

#[test]
fn with_stream_is_none_for_itself_for_another_type_and_for_a_closed_stream() {
    let mut reactor = Reactor::new().unwrap();
    let (guest, guest_peer) = add(&mut reactor, Guest(1));
    let log = Log::default();
    let seen = log.clone();
    let probe = Probe::new("a", &log, move |call, io| {
        if matches!(call, Call::Read(_)) {
            let own = io.token();
            let itself = io.context().with_stream(own, |_: &mut Probe, _| ()).is_none();
            let other_type = io.context().with_stream(guest, |_: &mut Echo, _| ()).is_none();
            let chat = io.context().with_chat(guest, |_: &mut Guest, _| ()).is_none();
            let other = io.context().with_stream(guest, |guest: &mut Guest, _| guest.0);
            seen.note(format!("{itself} {other_type} {chat} {other:?}"));
        }
        Ok(())
    });
    let (_probe, mut probe_peer) = add(&mut reactor, probe);
    probe_peer.write_all(b"x").unwrap();
    turn_until(&mut reactor, |_| log.has("read"));
    assert!(log.has("true true true Some(1)"), "{:?}", log.lines());
    drop(guest_peer);
    turn_all(&mut reactor);
    assert!(reactor.context().with_stream(guest, |_: &mut Guest, _| ()).is_none(), "closed");
}

#[test]
fn with_stream_is_none_for_a_closing_stream() {
    let mut reactor = Reactor::new().unwrap();
    let (token, _peer) = add(&mut reactor, Guest(1));
    reactor.context().close(token);
    assert!(reactor.context().with_stream(token, |_: &mut Guest, _| ()).is_none());
}

/// The stream is not at fault: it stays open.
#[test]
fn with_stream_panic_belongs_to_the_caller() {
    silence_panics();
    let mut reactor = Reactor::new().unwrap();
    let (guest, _guest_peer) = add(&mut reactor, Guest(1));
    let log = Log::default();
    let probe = Probe::new("a", &log, move |call, io| {
        if matches!(call, Call::Read(_)) {
            io.context().with_stream(guest, |_: &mut Guest, _| panic!("a panic in with_stream"));
        }
        Ok(())
    });
    let (_probe, mut probe_peer) = add(&mut reactor, probe);
    probe_peer.write_all(b"x").unwrap();
    turn_until(&mut reactor, |_| log.has("a close: a callback panicked"));
    assert_eq!(reactor.context().with_stream(guest, |guest: &mut Guest, _| guest.0), Some(1));
}

#[test]
fn with_chat_pushes_to_another_chat() {
    let mut reactor = Reactor::new().unwrap();
    let (token, mut peer) = add(&mut reactor, Chat::new("\n", Guest(1)));
    let log = Log::default();
    let probe = Probe::new("a", &log, move |call, io| {
        if let Call::Read(data) = call {
            let pushed = io.context().with_chat(token, |guest: &mut Guest, chat| {
                guest.0 += 1;
                chat.push(data)
            });
            pushed.unwrap()?;
        }
        Ok(())
    });
    let (_probe, mut probe_peer) = add(&mut reactor, probe);
    probe_peer.write_all(b"hello").unwrap();
    turn_until(&mut reactor, |_| log.has("read"));
    let mut received = [0; 5];
    peer.read_exact(&mut received).unwrap();
    assert_eq!(&received, b"hello");
    let points = reactor.context().with_chat(token, |guest: &mut Guest, _| guest.0);
    assert_eq!(points, Some(2));
    drop(peer);
    turn_all(&mut reactor);
    assert!(reactor.context().with_chat(token, |_: &mut Guest, _| ()).is_none(), "closed");
}

#[test]
fn channels_lists_open_channels() {
    let mut reactor = Reactor::new().unwrap();
    assert!(reactor.context().channels().is_empty());
    let (token, peer) = add(&mut reactor, Echo);
    let stream = reactor.get_mut::<Stream<Echo>>(token).unwrap();
    stream.send(&vec![0; 4_000_000]).unwrap();
    let unsent = stream.unsent();
    let listener = reactor.add(Listener::bind("127.0.0.1:0", |_| Ok(Echo)).unwrap()).unwrap();
    let mut listed = reactor.context().channels();
    listed.sort_by_key(|info| info.token != token);
    let tokens: Vec<_> = listed.iter().map(|info| info.token).collect();
    assert_eq!(tokens, [token, listener]);
    assert!(unsent > 0);
    assert_eq!((listed[0].unsent, listed[1].unsent), (unsent, 0));
    assert!(listed[0].type_name.contains("Stream"), "{}", listed[0].type_name);
    assert!(listed[1].type_name.contains("Listener"), "{}", listed[1].type_name);
    drop(peer);
    turn_until(&mut reactor, |reactor| reactor.context().channels().len() == 1);
}

// --- socket options and timers ------------------------------------------------

#[test]
fn socket_options_can_be_read_and_set() {
    let mut reactor = Reactor::new().unwrap();
    let listener = Listener::bind("127.0.0.1:0", |_| Ok(Echo)).unwrap();
    assert!(listener.socket_options().tcp_nodelay().unwrap());
    drop(listener);

    let log = Log::default();
    let probe = Probe::new("a", &log, |call, io: &mut Io<'_>| {
        if call == Call::Connect {
            let options = io.socket_options().expect("a socket");
            options.set_keepalive(true)?;
            assert!(options.keepalive()?);
        }
        Ok(())
    });
    let (ours, _theirs) = tcp_pair();
    let token = reactor.add(Stream::new(ours, probe).unwrap()).unwrap();
    turn_until(&mut reactor, |_| log.has("connect"));
    let stream = reactor.get_mut::<Stream<Probe>>(token).unwrap();
    assert!(stream.socket_options().unwrap().keepalive().unwrap());

    #[cfg(unix)] // pipes
    {
        let (reader, _writer) = io::pipe().unwrap();
        assert!(Stream::from_fd(reader, Echo).unwrap().socket_options().is_none(), "a pipe");
    }
    let resolving = Stream::connect_host("localhost", 1, Echo);
    assert!(resolving.socket_options().is_none(), "no socket yet");
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let connecting = Stream::connect([server.local_addr().unwrap()], Echo);
    assert!(connecting.socket_options().unwrap().tcp_nodelay().unwrap());
}

#[test]
fn set_timer_outside_a_channel_is_an_error() {
    let mut reactor = Reactor::new().unwrap();
    let cx = reactor.context();
    let error = cx.set_timer(Duration::ZERO).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert_eq!(error.to_string(), "cannot set a channel's timer: no channel is being called");
    let now = cx.clock();
    assert_eq!(cx.set_timer_at(now).unwrap_err().kind(), ErrorKind::InvalidInput);

    // Also in a job, even one that a channel's callback has set.
    let (result_tx, result_rx) = mpsc::channel();
    let result_tx = Rc::new(result_tx);
    cx.call_later(Duration::ZERO, move |cx| {
        result_tx.send(cx.set_timer(Duration::ZERO).map_err(|error| error.kind())).unwrap();
    });
    run(&mut reactor);
    assert_eq!(result_rx.recv().unwrap(), Err(ErrorKind::InvalidInput));
}
