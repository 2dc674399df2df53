//! Datagram sockets: UDP and Unix.

use std::cell::Cell;
use std::io::{self, ErrorKind, Read, Write};
use std::net::UdpSocket;
#[cfg(unix)]
use std::os::unix::net::UnixDatagram;
use std::rc::Rc;
use std::time::Duration;

use reactor::{
    Address, Cause, CloseReason, Datagram, DatagramIo, DatagramProtocol, OwnedDescriptor, Reactor,
    Stream, TimerId, Token,
};
use socket2::SockRef;

use crate::common::{
    Echo, Log, assert_echo, assert_idle, local_pair, run, silence_panics, tcp_pair, turn_all,
    turn_until,
};

type React = Box<dyn FnMut(&mut DatagramIo<'_>, &[u8], &Address) -> io::Result<()>>;

/// Logs each callback, and passes datagrams to the closure of the test.
struct Probe {
    log: Log,
    react: React,
    readable: Rc<Cell<bool>>,
    writable: Rc<Cell<bool>>,
    /// Sets a timer when it is added.
    timer: bool,
}

impl Probe {
    fn new(
        log: &Log,
        react: impl FnMut(&mut DatagramIo<'_>, &[u8], &Address) -> io::Result<()> + 'static,
    ) -> Self {
        Probe {
            log: log.clone(),
            react: Box::new(react),
            readable: Rc::new(Cell::new(true)),
            writable: Rc::default(),
            timer: false,
        }
    }

    /// Sends each datagram back.
    fn echo(log: &Log) -> Self {
        Self::new(log, |io, data, from| match from {
            Address::Unix(None) => io.send(data),
            from => io.send_to(data, from),
        })
    }

    /// Does nothing.
    fn passive(log: &Log) -> Self {
        Self::new(log, |_, _, _| Ok(()))
    }
}

impl DatagramProtocol for Probe {
    fn readable(&self) -> bool {
        self.readable.get()
    }
    fn writable(&self) -> bool {
        self.writable.get()
    }
    fn handle_add(&mut self, io: &mut DatagramIo<'_>) -> io::Result<()> {
        self.log.note("add");
        if self.timer {
            io.set_timer(Duration::ZERO);
        }
        Ok(())
    }
    fn handle_datagram(
        &mut self,
        io: &mut DatagramIo<'_>,
        data: &[u8],
        from: &Address,
    ) -> io::Result<()> {
        self.log.note(format!("got {}", data.len()));
        (self.react)(io, data, from)
    }
    fn handle_datagram_error(&mut self, _: &mut DatagramIo<'_>, from: &Address, e: &io::Error) {
        self.log.note(format!("error {from}: {e}"));
    }
    fn handle_write(&mut self, io: &mut DatagramIo<'_>) -> io::Result<()> {
        self.log.note("write");
        self.writable.set(false);
        io.send(b"room")
    }
    fn handle_timer(&mut self, _: &mut DatagramIo<'_>, _: TimerId) -> io::Result<()> {
        self.log.note("timer");
        Ok(())
    }
    fn handle_drain(&mut self, io: &mut DatagramIo<'_>) -> io::Result<()> {
        self.log.note("drain");
        io.close();
        Ok(())
    }
    fn handle_error(&mut self, _: &mut DatagramIo<'_>, cause: &Cause) {
        self.log.note(format!("error: {cause}"));
    }
    fn handle_close(&mut self, io: &mut DatagramIo<'_>, reason: &CloseReason) {
        self.log.note(format!("close: {reason}"));
        // Has no effect so late.
        io.close();
    }
}

/// Runs turns until `receive` returns a datagram.
#[track_caller]
fn receive(reactor: &mut Reactor, receive: impl Fn(&mut [u8]) -> io::Result<usize>) -> Vec<u8> {
    let mut buffer = vec![0; 100_000];
    let mut len = None;
    turn_until(reactor, |_| {
        len = receive(&mut buffer).ok();
        len.is_some()
    });
    buffer.truncate(len.unwrap());
    buffer
}

fn udp_peer(to: &Address) -> UdpSocket {
    let to = to.as_inet().unwrap();
    let peer = UdpSocket::bind((to.ip(), 0)).unwrap();
    peer.connect(to).unwrap();
    peer.set_nonblocking(true).unwrap();
    peer
}

#[test]
fn udp_datagrams_are_echoed_also_empty_ones() {
    for addr in ["127.0.0.1:0", "[::1]:0", "localhost:0"] {
        let mut reactor = Reactor::new().unwrap();
        let log = Log::default();
        let datagram = Datagram::bind(addr, Probe::echo(&log)).unwrap();
        let peer = udp_peer(datagram.local_addr());
        reactor.add(datagram).unwrap();
        for message in [&b"hello"[..], b"", &vec![7; 60_000], b"", b"bye"] {
            assert_eq!(peer.send(message).unwrap(), message.len());
            assert_eq!(receive(&mut reactor, |buffer| peer.recv(buffer)), message);
        }
        assert_idle(&mut reactor);
        let expected = ["add", "got 5", "got 0", "got 60000", "got 0", "got 3"];
        assert_eq!(log.lines(), expected);
        assert_eq!(reactor.stats().received, 60_008);
    }
}

#[cfg(unix)] // Unix sockets
#[test]
fn unix_datagrams_are_echoed_also_empty_ones() {
    let dir = tempfile::tempdir().unwrap();
    let (path, other) = (dir.path().join("socket"), dir.path().join("other"));
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let named = Datagram::bind_unix(&path, Probe::echo(&log)).unwrap();
    assert_eq!(*named.local_addr(), Address::Unix(Some(path.clone())));
    reactor.add(named).unwrap();
    let named = UnixDatagram::bind(&other).unwrap();
    named.connect(&path).unwrap();
    let (ours, pair) = UnixDatagram::pair().unwrap();
    reactor.add(Datagram::new(ours, Probe::echo(&log)).unwrap()).unwrap();
    for peer in [&named, &pair] {
        peer.set_nonblocking(true).unwrap();
        for message in [&b"hello"[..], b"", &vec![7; 60_000], b""] {
            peer.send(message).unwrap();
            assert_eq!(receive(&mut reactor, |buffer| peer.recv(buffer)), message);
        }
    }
    // A closed peer does not close the socket: there may be other peers.
    drop(pair);
    assert_idle(&mut reactor);
    assert_eq!(log.count("got 0"), 4);
    assert!(!log.has("close"), "{:?}", log.lines());
}

#[test]
fn connected_socket_receives_from_its_peer_only() {
    for addr in ["127.0.0.1:0", "[::1]:0"] {
        let peer = UdpSocket::bind(addr).unwrap();
        peer.set_nonblocking(true).unwrap();
        let mut reactor = Reactor::new().unwrap();
        let log = Log::default();
        let datagram = Datagram::connect(peer.local_addr().unwrap(), Probe::passive(&log)).unwrap();
        let to = datagram.local_addr().as_inet().unwrap();
        datagram.send(b"first").unwrap();
        reactor.add(datagram).unwrap();
        let mut buffer = [0; 10];
        let (len, from) = peer.recv_from(&mut buffer).unwrap();
        assert_eq!((&buffer[..len], from.port()), (&b"first"[..], to.port()));
        let stranger = UdpSocket::bind(addr).unwrap();
        stranger.send_to(b"no", from).unwrap();
        peer.send_to(b"yes", from).unwrap();
        turn_until(&mut reactor, |_| log.has("got 3"));
        assert!(!log.has("got 2"));
    }
}

/// ICMP reports a closed port, and the kernel returns that error from the next
/// call of any kind.
#[test]
fn refused_datagram_does_not_close_the_socket() {
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let dead = UdpSocket::bind("127.0.0.1:0").unwrap();
    let addr = dead.local_addr().unwrap();
    let datagram = Datagram::connect(addr, Probe::passive(&log)).unwrap();
    let token = reactor.add(datagram).unwrap();
    turn_all(&mut reactor);
    drop(dead);
    let send =
        |reactor: &mut Reactor| reactor.get_mut::<Datagram<Probe>>(token).unwrap().send(b"hello");
    // The error is returned once to the loop's read and once to the next send.
    let events = reactor.stats().events;
    send(&mut reactor).unwrap();
    turn_until(&mut reactor, |reactor| reactor.stats().events > events);
    for _ in 0..10 {
        send(&mut reactor).unwrap();
    }
    assert_idle(&mut reactor);
    assert_eq!(log.lines(), ["add"]);

    let alive = UdpSocket::bind(addr).unwrap();
    alive.set_nonblocking(true).unwrap();
    send(&mut reactor).unwrap();
    assert_eq!(receive(&mut reactor, |buffer| alive.recv(buffer)), b"hello");
}

/// While the socket does not read, the refusal would be reported repeatedly.
#[test]
fn invariant_6_refusal_without_interest_does_not_spin() {
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let addr = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let probe = Probe::passive(&log);
    let readable = Rc::clone(&probe.readable);
    readable.set(false);
    let datagram = Datagram::connect(addr, probe).unwrap();
    let us = datagram.local_addr().as_inet().unwrap();
    datagram.send(b"hello").unwrap();
    let token = reactor.add(datagram).unwrap();
    assert_idle(&mut reactor);

    // Later datagrams are received when it reads again.
    let alive = UdpSocket::bind(addr).unwrap();
    alive.send_to(b"hello", ("127.0.0.1", us.port())).unwrap();
    assert_idle(&mut reactor);
    readable.set(true);
    reactor.get_mut::<Datagram<Probe>>(token).unwrap();
    turn_until(&mut reactor, |_| log.has("got 5"));
    assert_eq!(log.lines(), ["add", "got 5"]);
}

#[cfg(unix)] // Unix sockets
#[test]
fn oversized_datagram_is_dropped_not_truncated() {
    let (ours, theirs) = UnixDatagram::pair().unwrap();
    SockRef::from(&theirs).set_send_buffer_size(1_000_000).unwrap();
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    reactor.add(Datagram::new(ours, Probe::passive(&log)).unwrap()).unwrap();
    for len in [65_537, 1, 100_000, 65_536, 2] {
        theirs.send(&vec![0; len]).unwrap();
    }
    turn_until(&mut reactor, |_| log.has("got 2"));
    assert_eq!(log.lines(), ["add", "got 1", "got 65536", "got 2"]);
}

#[cfg(unix)] // Unix sockets
#[test]
fn error_with_one_datagram_does_not_close_the_socket() {
    let dir = tempfile::tempdir().unwrap();
    let unbound = Address::Unix(Some(dir.path().join("unbound")));
    let stale = dir.path().join("stale");
    drop(UnixDatagram::bind(&stale).unwrap());
    let stale = Address::Unix(Some(stale));
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let probe = Probe::new(&log, move |io, data, from| match data {
        b"fail" => Err(io::Error::other("no such luck")),
        b"unnamed" => io.send_to(data, &Address::Unix(None)),
        b"too long" => io.send_to(&vec![0; 70_000], from),
        b"other family" => io.send_to(data, &Address::Unix(Some("/".into()))),
        _ => io.send_to(data, from),
    });
    let datagram = Datagram::bind("127.0.0.1:0", probe).unwrap();
    let peer = udp_peer(datagram.local_addr());
    let from = peer.local_addr().unwrap();
    reactor.add(datagram).unwrap();
    for bad in ["fail", "unnamed", "too long", "other family"] {
        peer.send(bad.as_bytes()).unwrap();
        peer.send(b"good").unwrap();
        assert_eq!(receive(&mut reactor, |buffer| peer.recv(buffer)), b"good", "{bad}");
    }
    assert_eq!(log.count(&format!("error {from}: ")), 4, "{:?}", log.lines());
    assert!(log.has(&format!("error {from}: no such luck")));
    assert!(!log.has("close"));

    // The same for a Unix socket whose path is not bound, or no longer.
    let (ours, theirs) = UnixDatagram::pair().unwrap();
    let paths = [unbound, stale];
    let probe = Probe::new(&log, move |io, data, _| io.send_to(data, &paths[data.len() - 1]));
    reactor.add(Datagram::new(ours, probe).unwrap()).unwrap();
    theirs.send(b"1").unwrap();
    theirs.send(b"12").unwrap();
    turn_until(&mut reactor, |_| log.count("error unix:unnamed: ") == 2);
    assert!(log.has("Connection refused") && log.has("No such file"), "{:?}", log.lines());
    assert!(!log.has("close"));
}

#[cfg(unix)] // Unix sockets
#[test]
fn invariant_8_panic_in_handle_datagram_closes_only_that_socket() {
    silence_panics();
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let (ours, neighbour) = local_pair().unwrap();
    reactor.add(Stream::new(ours, Echo).unwrap()).unwrap();
    let (ours, theirs) = UnixDatagram::pair().unwrap();
    let probe = Probe::new(&log, |_, _, _| panic!("a panic in handle_datagram"));
    reactor.add(Datagram::new(ours, probe).unwrap()).unwrap();
    theirs.send(b"first").unwrap();
    theirs.send(b"second").unwrap();
    turn_until(&mut reactor, |_| log.has("close"));
    assert_echo(&mut reactor, &neighbour);
    let text = "a callback panicked: a panic in handle_datagram";
    assert_eq!(log.lines()[..2], ["add", "got 5"]);
    assert_eq!(log.lines()[2..], [format!("error: {text}"), format!("close: {text}")]);
}

#[cfg(unix)] // Unix sockets
#[test]
fn invariant_1_close_in_handle_datagram_stops_callbacks() {
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let (ours, theirs) = UnixDatagram::pair().unwrap();
    // All in one turn: three datagrams, room to write, a timer, and a drain.
    let mut probe = Probe::new(&log, |io, _, _| {
        io.close();
        io.context().drain(Duration::from_secs(60));
        Ok(())
    });
    probe.writable.set(true);
    probe.timer = true;
    for _ in 0..3 {
        theirs.send(b"x").unwrap();
    }
    let token = reactor.add(Datagram::new(ours, probe).unwrap()).unwrap();
    run(&mut reactor);
    assert_eq!(log.lines(), ["add", "got 1", "close: closed"]);
    assert!(reactor.get_mut::<Datagram<Probe>>(token).is_none());
}

#[test]
fn invariant_1_socket_closed_before_add_gets_only_handle_close() {
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let mut datagram = Datagram::bind("127.0.0.1:0", Probe::passive(&log)).unwrap();
    datagram.close();
    reactor.add(datagram).unwrap();
    run(&mut reactor);
    assert_eq!(log.lines(), ["close: closed"]);
}

#[test]
fn datagram_socket_timers_reach_it() {
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let mut probe = Probe::passive(&log);
    probe.timer = true;
    reactor.add(Datagram::bind("127.0.0.1:0", probe).unwrap()).unwrap();
    turn_until(&mut reactor, |_| log.has("timer"));
    assert_idle(&mut reactor);
    assert_eq!(log.lines(), ["add", "timer"]);
}

#[cfg(unix)] // Unix sockets
#[test]
fn stale_unix_path_is_replaced_and_live_one_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    drop(UnixDatagram::bind(&path).unwrap());
    let log = Log::default();
    let first = Datagram::bind_unix(&path, Probe::echo(&log)).unwrap();
    let error = Datagram::bind_unix(&path, Probe::echo(&log)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    assert!(error.to_string().starts_with(path.to_str().unwrap()), "{error}");
    let file = dir.path().join("file");
    std::fs::write(&file, "precious").unwrap();
    assert!(Datagram::bind_unix(&file, Probe::echo(&log)).is_err());
    assert_eq!(std::fs::read(&file).unwrap(), b"precious");

    let mut reactor = Reactor::new().unwrap();
    reactor.add(first).unwrap();
    let peer = UnixDatagram::unbound().unwrap();
    peer.send_to(b"hello", &path).unwrap();
    turn_until(&mut reactor, |_| log.has("got 5"));
    drop(reactor);
    assert!(!path.exists(), "removed with the socket");
}

#[test]
fn port_in_use_error_names_the_address() {
    let other = UdpSocket::bind("127.0.0.1:0").unwrap();
    let addr = other.local_addr().unwrap();
    let error = Datagram::bind(addr, Probe::passive(&Log::default())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    assert!(error.to_string().starts_with(&addr.to_string()), "{error}");
}

/// The default methods of `DatagramProtocol` suffice.
#[test]
fn drain_closes_datagram_sockets() {
    struct Quiet(Log);
    impl DatagramProtocol for Quiet {
        fn handle_datagram(
            &mut self,
            _: &mut DatagramIo<'_>,
            _: &[u8],
            _: &Address,
        ) -> io::Result<()> {
            Ok(())
        }
    }
    impl Drop for Quiet {
        fn drop(&mut self) {
            self.0.note("dropped");
        }
    }
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    reactor.add(Datagram::bind("127.0.0.1:0", Quiet(log.clone())).unwrap()).unwrap();
    turn_all(&mut reactor);
    reactor.context().drain(Duration::from_secs(60));
    run(&mut reactor); // ends before the deadline
    assert_eq!(log.lines(), ["dropped"]);
}

#[cfg(unix)] // Unix sockets
#[test]
fn handle_write_runs_when_there_is_room() {
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let (ours, theirs) = UnixDatagram::pair().unwrap();
    let probe = Probe::passive(&log);
    let writable = Rc::clone(&probe.writable);
    let token = reactor.add(Datagram::new(ours, probe).unwrap()).unwrap();
    let mut sent = 0;
    let error = loop {
        match reactor.get_mut::<Datagram<Probe>>(token).unwrap().send(b"more") {
            Ok(()) => sent += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    writable.set(true);
    assert_idle(&mut reactor);
    assert!(!log.has("write"), "there is no room");
    theirs.set_nonblocking(true).unwrap();
    let mut got = 0;
    let mut last = [0; 4];
    turn_until(&mut reactor, |_| {
        while theirs.recv(&mut last).is_ok() {
            got += 1;
        }
        last == *b"room"
    });
    assert_eq!((got, log.count("write")), (sent + 1, 1));
    assert_idle(&mut reactor);
}

/// Creates a UDP socket with a large receive buffer that logs to `log`.
fn receiver(reactor: &mut Reactor, log: &Log) -> (Token, UdpSocket) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    SockRef::from(&socket).set_recv_buffer_size(1_000_000).unwrap();
    let datagram = Datagram::new(socket, Probe::passive(log)).unwrap();
    let peer = udp_peer(datagram.local_addr());
    (reactor.add(datagram).unwrap(), peer)
}

#[test]
fn invariant_7_one_event_receives_at_most_64_datagrams_and_one_buffer() {
    for (size, all, each) in [(1, 150, 64), (0, 150, 64), (8_192, 20, 8), (10_000, 20, 7)] {
        let mut reactor = Reactor::new().unwrap();
        let log = Log::default();
        let (_, peer) = receiver(&mut reactor, &log);
        turn_all(&mut reactor);
        let message = vec![0; size];
        for _ in 0..all {
            peer.send(&message).unwrap();
        }
        let mut expected = 0;
        while expected < all {
            expected = (expected + each).min(all);
            reactor.turn(Some(Duration::from_secs(1))).unwrap();
            assert_eq!(log.count("got"), expected, "of {size} bytes");
        }
    }
}

#[test]
fn invariant_7_datagram_flood_starves_no_channel() {
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let (token, flood) = receiver(&mut reactor, &log);
    let (ours, neighbour) = local_pair().unwrap();
    reactor.add(Stream::new(ours, Echo).unwrap()).unwrap();
    turn_all(&mut reactor);
    neighbour.set_nonblocking(true).unwrap();
    for turns in 1..=50 {
        // Each time more than one event reads.
        for _ in 0..100 {
            flood.send(b"flood").unwrap();
        }
        (&neighbour).write_all(b"x").unwrap();
        reactor.turn(Some(Duration::from_secs(1))).unwrap();
        (&neighbour).read_exact(&mut [0]).expect("served in each turn");
        assert_eq!(log.count("got"), turns * 64);
    }
    // After the close no datagram is received.
    reactor.get_mut::<Datagram<Probe>>(token).unwrap().close();
    let before = log.count("got");
    assert_echo(&mut reactor, &neighbour);
    assert_eq!(log.count("got"), before);
    assert!(log.has("close: closed"));
}

/// Such a socket has an end of input, which would look like datagrams without end.
#[test]
fn socket_with_connections_is_not_a_datagram_socket() {
    #[cfg(unix)]
    fn unix_socket(kind: socket2::Type) -> OwnedDescriptor {
        socket2::Socket::pair(socket2::Domain::UNIX, kind, None).unwrap().0.into()
    }
    let sockets: Vec<OwnedDescriptor> = vec![
        tcp_pair().0.into(),
        #[cfg(unix)] // Unix sockets
        unix_socket(socket2::Type::STREAM),
        #[cfg(unix)] // Unix sockets
        unix_socket(socket2::Type::SEQPACKET),
    ];
    for socket in sockets {
        let probe = Probe::new(&Log::default(), |_, _, _| Ok(()));
        let error = Datagram::new(socket, probe).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
}
