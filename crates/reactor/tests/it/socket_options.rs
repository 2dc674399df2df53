//! Options that are set on sockets before a connection starts, and later.

use std::cell::RefCell;
use std::io::{self, ErrorKind};
use std::net::{TcpListener, TcpStream};
use std::rc::Rc;
use std::time::Duration;

use reactor::{Connector, Keepalive, Listener, Reactor, SockRef, SocketOptions, Stream};

use crate::common::{Call, Echo, Log, Probe, turn_until, unresponsive_listener};

/// An IPv4 and an IPv6 address, or just the former if this machine lacks the latter.
fn addresses() -> Vec<&'static str> {
    let addresses = ["127.0.0.1:0", "[::1]:0"];
    addresses.into_iter().filter(|addr| TcpListener::bind(addr).is_ok()).collect()
}

/// Options none of which is a default.
fn options() -> SocketOptions {
    let keepalive = Keepalive {
        idle: Some(Duration::from_millis(39_500)),
        interval: Some(Duration::from_secs(7)),
        probes: Some(3),
    };
    SocketOptions {
        keepalive: Some(if cfg!(target_os = "openbsd") { Keepalive::default() } else { keepalive }),
        nodelay: Some(false),
        send_buffer_size: Some(20_000),
        receive_buffer_size: Some(30_000),
        traffic_class: Some(0x28),
        user_timeout: cfg!(target_os = "linux").then_some(Duration::from_secs(5)),
    }
}

/// Reads what `options` sets.
fn read(socket: &SockRef<'_>) -> io::Result<SocketOptions> {
    let is_v6 = socket.local_addr()?.is_ipv6();
    let class = if is_v6 { socket.tclass_v6()? } else { socket.tos_v4()? };
    #[cfg(target_os = "linux")]
    let user_timeout = socket.tcp_user_timeout()?;
    #[cfg(not(target_os = "linux"))]
    let user_timeout = None;
    #[cfg(not(target_os = "openbsd"))]
    let keepalive = Keepalive {
        idle: Some(socket.tcp_keepalive_time()?),
        interval: Some(socket.tcp_keepalive_interval()?),
        probes: Some(socket.tcp_keepalive_retries()?),
    };
    #[cfg(target_os = "openbsd")]
    let keepalive = Keepalive::default();
    Ok(SocketOptions {
        keepalive: socket.keepalive()?.then_some(keepalive),
        nodelay: Some(socket.tcp_nodelay()?),
        send_buffer_size: Some(socket.send_buffer_size()?),
        receive_buffer_size: Some(socket.recv_buffer_size()?),
        traffic_class: u8::try_from(class).ok(),
        user_timeout,
    })
}

/// Asserts that `found` is what [`options`] requests, as the system rounds it.
#[track_caller]
fn assert_set(found: &SocketOptions) {
    // Linux reserves twice as much: socket(7).
    let factor = if cfg!(target_os = "linux") { 2 } else { 1 };
    let mut expected = options();
    expected.send_buffer_size = expected.send_buffer_size.map(|size| factor * size);
    expected.receive_buffer_size = expected.receive_buffer_size.map(|size| factor * size);
    if let Some(Keepalive { idle: Some(idle), .. }) = &mut expected.keepalive {
        *idle = Duration::from_secs(40);
    }
    assert_eq!(*found, expected);
}

type Found = Rc<RefCell<Vec<SocketOptions>>>;

/// Returns a probe that reads its options when it is connected.
fn reader(found: &Found) -> Probe {
    let found = Rc::clone(found);
    Probe::new("a", &Log::default(), move |call, io| {
        if call == Call::Connect {
            found.borrow_mut().push(read(&io.socket_options().expect("a socket"))?);
        }
        Ok(())
    })
}

#[test]
fn accepted_streams_have_the_options_of_their_listener() {
    for addr in addresses() {
        let found = Found::default();
        let accepted = Rc::clone(&found);
        let mut reactor = Reactor::new().unwrap();
        let socket = TcpListener::bind(addr).unwrap();
        let addr = socket.local_addr().unwrap();
        // This connection is established before the options are set.
        let early = TcpStream::connect(addr).unwrap();
        let listener = Listener::new(socket, move |_| Ok(reader(&accepted))).unwrap();
        let listener = listener.with_socket_options(options()).unwrap();
        assert_set(&read(&listener.socket_options()).unwrap());
        reactor.add(listener).unwrap();
        let late = TcpStream::connect(addr).unwrap();
        turn_until(&mut reactor, |_| found.borrow().len() == 2);
        found.borrow().iter().for_each(assert_set);
        drop((early, late));
    }
}

#[test]
fn connecting_streams_have_their_options_before_they_are_connected() {
    let (_listener, addr, _fillers) = unresponsive_listener();
    let mut reactor = Reactor::new().unwrap();
    let stream = Connector::to_addrs([addr]).with_socket_options(options()).connect(Echo);
    let token = reactor.add(stream).unwrap();
    turn_until(&mut reactor, |reactor| {
        let stream = reactor.get_mut::<Stream<Echo>>(token).unwrap();
        let socket = stream.socket_options().unwrap();
        assert_eq!(socket.peer_addr().unwrap_err().kind(), ErrorKind::NotConnected);
        assert_set(&read(&socket).unwrap());
        true
    });
}

#[test]
fn each_attempt_to_connect_has_the_options() {
    for addr in addresses() {
        let server = TcpListener::bind(addr).unwrap();
        let addr = server.local_addr().unwrap();
        // Unused: the listener that had it is closed.
        let refused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let found = Found::default();
        let mut reactor = Reactor::new().unwrap();
        let servers = [
            Connector::to_addrs([refused, addr]),
            Connector::to_host(&addr.ip().to_string(), addr.port()),
        ];
        for server in servers {
            reactor.add(server.with_socket_options(options()).connect(reader(&found))).unwrap();
        }
        turn_until(&mut reactor, |_| found.borrow().len() == 2);
        found.borrow().iter().for_each(assert_set);
    }
}

#[test]
fn options_can_be_set_later() {
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let found = Found::default();
    let result = Rc::clone(&found);
    let probe = Probe::new("a", &log, move |call, io| {
        if let Call::Read(_) = call {
            io.set_socket_options(&options())?;
            result.borrow_mut().push(read(&io.socket_options().expect("a socket"))?);
        }
        Ok(())
    });
    let (ours, theirs) = crate::common::tcp_pair();
    // Before the stream is added, too.
    let nodelay = SocketOptions { nodelay: Some(false), ..SocketOptions::default() };
    let stream = Stream::new(ours, probe).unwrap();
    stream.set_socket_options(&nodelay).unwrap();
    assert!(!stream.socket_options().unwrap().tcp_nodelay().unwrap());
    reactor.add(stream).unwrap();
    io::Write::write_all(&mut &theirs, b"x").unwrap();
    turn_until(&mut reactor, |_| !found.borrow().is_empty());
    assert_set(&found.borrow()[0]);
}

/// Longer than Linux accepts: 32,767 seconds.
#[cfg(target_os = "linux")]
fn excessive_keepalive() -> SocketOptions {
    let idle = Some(Duration::MAX);
    let keepalive = Some(Keepalive { idle, ..Keepalive::default() });
    SocketOptions { keepalive, ..SocketOptions::default() }
}

#[test]
#[cfg(target_os = "linux")]
fn option_that_cannot_be_set_is_named() {
    const TEXT: &str = "cannot set TCP_KEEPIDLE: Invalid argument (os error 22)";
    let listener = Listener::bind("127.0.0.1:0", |_| Ok(Echo)).unwrap();
    let addr = listener.local_addr().as_inet().unwrap();
    let error = listener.with_socket_options(excessive_keepalive()).unwrap_err();
    assert_eq!(error.to_string(), format!("{addr}: {TEXT}"));

    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let server = Connector::to_addrs([server.local_addr().unwrap()]);
    let stream = server.with_socket_options(excessive_keepalive());
    let stream = stream.connect(Probe::passive("a", &log));
    let token = reactor.add(stream).unwrap();
    let reason = reactor.run_until_closed(token).unwrap();
    assert!(reason.to_string().contains(TEXT), "{reason}");
    assert_eq!(log.count("connect"), 0);

    let (ours, _theirs) = crate::common::tcp_pair();
    let stream = Stream::new(ours, Echo).unwrap();
    assert_eq!(stream.set_socket_options(&excessive_keepalive()).unwrap_err().to_string(), TEXT);
    let zero = Some(Keepalive { probes: Some(0), ..Keepalive::default() });
    let options = SocketOptions { keepalive: zero, ..SocketOptions::default() };
    let error = stream.set_socket_options(&options).unwrap_err();
    assert!(error.to_string().starts_with("cannot set TCP_KEEPCNT: "), "{error}");
}

/// The connection is rejected and counted, and the next one is served.
#[test]
#[cfg(target_os = "linux")]
fn accepted_stream_whose_options_cannot_be_set_is_rejected() {
    // Calls 1 to 3 are those of std, of `Listener::new` and of `with_socket_options`; then two
    // for each connection.
    let name = "socket_options::accepted_stream_whose_options_cannot_be_set_is_rejected";
    let fault = "error=ENOBUFS:when=5";
    if !crate::common::in_process_with_fault(name, "setsockopt", fault) {
        return;
    }
    let mut reactor = Reactor::new().unwrap();
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = socket.local_addr().unwrap();
    let listener = Listener::new(socket, |_| Ok(Echo)).unwrap();
    let options = SocketOptions { traffic_class: Some(8), ..SocketOptions::default() };
    let listener = listener.with_socket_options(options).unwrap();
    let token = reactor.add(listener).unwrap();
    let rejected = TcpStream::connect(addr).unwrap();
    turn_until(&mut reactor, |reactor| {
        reactor.get_mut::<Listener>(token).is_some_and(|listener| listener.rejected() == 1)
    });
    crate::common::assert_echo(&mut reactor, &TcpStream::connect(addr).unwrap());
    drop(rejected);
}

#[test]
fn descriptors_and_absent_sockets_have_no_options() {
    let (reader, _writer) = io::pipe().unwrap();
    let pipe = Stream::from_fd(reader, Echo).unwrap();
    let error = pipe.set_socket_options(&SocketOptions::default()).unwrap_err();
    assert_eq!(error.to_string(), "the stream is not a socket");
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    let resolving = Stream::connect_host("localhost", 1, Echo);
    let error = resolving.set_socket_options(&options()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotConnected);
}
