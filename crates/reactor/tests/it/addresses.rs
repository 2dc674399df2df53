//! Addresses: which are shown, which are used, and which are rejected.

use std::ffi::OsString;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
#[cfg(unix)]
use std::os::unix::ffi::OsStringExt;
#[cfg(unix)]
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};

use reactor::{Address, Cause, Datagram, DatagramIo, DatagramProtocol, Listener, Reactor, Stream};
use socket2::{Domain, Socket, Type};

use crate::common::{DEADLINE, Echo, Log, Probe, assert_echo, turn_until};

#[test]
fn ipv4_peers_of_an_ipv6_listener_are_shown_as_ipv4() {
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let seen = log.clone();
    let listener = Listener::bind("[::]:0", move |peer| {
        seen.note(peer.to_string());
        let log = seen.clone();
        Ok(Probe::new("server", &seen, move |_, io| {
            log.note(format!("local {}, peer {}", io.local_addr()?, io.peer_addr()));
            Ok(())
        }))
    })
    .unwrap();
    let port = listener.local_addr().as_inet().unwrap().port();
    reactor.add(listener).unwrap();
    let peer = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let addr = peer.local_addr().unwrap();
    turn_until(&mut reactor, |_| log.has("local "));
    assert_eq!(log.lines()[0], addr.to_string());
    assert!(log.has(&format!("local 127.0.0.1:{port}, peer {addr}")), "{:?}", log.lines());
}

/// Echoes, and logs where each datagram was sent.
struct UdpEcho {
    log: Log,
    later: bool,
}

impl DatagramProtocol for UdpEcho {
    fn handle_datagram(
        &mut self,
        io: &mut DatagramIo<'_>,
        data: &[u8],
        from: &Address,
    ) -> io::Result<()> {
        let destination = io.destination().unwrap();
        self.log.note(format!("{from} to {destination}"));
        if self.later {
            return io.send_from(data, from.as_inet().unwrap(), destination.ip());
        }
        io.send_to(data, from)
    }
    fn handle_datagram_error(&mut self, _: &mut DatagramIo<'_>, _: &Address, e: &io::Error) {
        self.log.note(format!("error: {e}"));
    }
}

/// A client that is connected to one address receives from that one only.
#[cfg(any(target_os = "linux", target_os = "android"))] // IP_PKTINFO
#[test]
fn udp_reply_comes_from_the_address_that_was_addressed() {
    for later in [false, true] {
        for (bound, ips) in [
            ("0.0.0.0:0", &["127.0.0.1", "127.0.0.2", "127.1.2.3"][..]),
            ("[::]:0", &["::1", "127.0.0.2", "127.1.2.3"]),
            ("127.0.0.2:0", &["127.0.0.2"]),
        ] {
            let mut reactor = Reactor::new().unwrap();
            let log = Log::default();
            let echo = UdpEcho { log: log.clone(), later };
            let datagram = Datagram::bind(bound, echo).unwrap();
            let port = datagram.local_addr().as_inet().unwrap().port();
            reactor.add(datagram).unwrap();
            for ip in ips {
                let ip: IpAddr = ip.parse().unwrap();
                let any: IpAddr = if ip.is_ipv4() {
                    Ipv4Addr::LOCALHOST.into()
                } else {
                    Ipv6Addr::LOCALHOST.into()
                };
                let client = UdpSocket::bind((any, 0)).unwrap();
                client.connect((ip, port)).unwrap();
                client.set_nonblocking(true).unwrap();
                client.send(b"hello").unwrap();
                let mut buffer = [0; 16];
                turn_until(&mut reactor, |_| client.recv(&mut buffer).is_ok());
                let from = client.local_addr().unwrap();
                let to = SocketAddr::new(ip, port);
                assert!(log.has(&format!("{from} to {to}")), "{:?}", log.lines());
            }
            let socket: &Datagram<_> = reactor
                .context()
                .channels()
                .first()
                .map(|channel| channel.token)
                .and_then(|token| reactor.get_mut::<Datagram<UdpEcho>>(token))
                .unwrap();
            assert_eq!(socket.destination(), None, "outside of a callback");
        }
    }
}

/// Also a socket that is passed in.
#[cfg(any(target_os = "linux", target_os = "android"))] // IP_PKTINFO
#[test]
fn udp_socket_that_is_passed_in_replies_from_the_address_that_was_addressed() {
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    let echo = UdpEcho { log: log.clone(), later: false };
    reactor.add(Datagram::new(socket, echo).unwrap()).unwrap();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.connect(("127.9.9.9", port)).unwrap();
    client.set_nonblocking(true).unwrap();
    client.send(b"hello").unwrap();
    turn_until(&mut reactor, |_| client.recv(&mut [0; 16]).is_ok());
}

#[cfg(unix)] // Unix sockets
fn path(bytes: &[u8]) -> PathBuf {
    OsString::from_vec(bytes.to_vec()).into()
}

/// Paths that no Unix socket can have.
#[cfg(unix)] // Unix sockets
fn impossible_paths() -> Vec<PathBuf> {
    let long = |len: usize| [&b"/tmp/"[..], &vec![b'x'; len - 5]].concat();
    vec![
        path(b""),
        path(b"\0"),
        path(b"/tmp/a\0b"),
        path(b"/tmp/a\0"),
        path(&long(108)),
        path(&long(109)),
        path(&long(5_000)),
        path(&[&b"\0"[..], &[b'x'; 108]].concat()),
        path(&[&b"\0"[..], &[b'x'; 107]].concat()),
    ]
}

#[cfg(unix)] // Unix sockets
#[track_caller]
fn assert_invalid(error: &io::Error, path: &Path) {
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{}: {error}", path.display());
    assert!(!error.to_string().contains(['\n', '\0']), "{}: {error}", path.display());
}

#[cfg(unix)] // Unix sockets
#[test]
fn impossible_unix_path_is_an_error() {
    for path in impossible_paths() {
        let log = Log::default();
        assert_invalid(&Listener::bind_unix(&path, |_| Ok(Echo)).unwrap_err(), &path);
        let echo = || UdpEcho { log: log.clone(), later: false };
        assert_invalid(&Datagram::bind_unix(&path, echo()).unwrap_err(), &path);

        let mut reactor = Reactor::new().unwrap();
        let token = reactor.add(Stream::connect_unix(&path, Echo)).unwrap();
        let reason = reactor.run_until_closed(token).unwrap();
        let Cause::Error(error) = reason.cause else { panic!("{reason:?}") };
        assert_invalid(&error, &path);

        let (ours, _theirs) = UnixDatagram::pair().unwrap();
        let datagram = Datagram::new(ours, echo()).unwrap();
        let error = datagram.send_to(b"x", &Address::Unix(Some(path.clone()))).unwrap_err();
        assert_invalid(&error, &path);
    }
}

#[cfg(unix)] // Unix sockets
#[test]
fn longest_unix_path_works() {
    let dir = tempfile::tempdir().unwrap();
    let len = 107 - dir.path().as_os_str().len() - 1;
    let path = dir.path().join("x".repeat(len));
    let mut reactor = Reactor::new().unwrap();
    reactor.add(Listener::bind_unix(&path, |_| Ok(Echo)).unwrap()).unwrap();
    assert_echo(&mut reactor, &UnixStream::connect(&path).unwrap());
    drop(reactor);
    assert!(!path.exists());
}

#[test]
fn impossible_host_name_is_an_error() {
    for host in [
        String::new(),
        "a\0b".into(),
        "\0".into(),
        "x".repeat(64),
        "x.".repeat(127) + "x",
        "x".repeat(70_000),
        ".".into(),
        "a..b".into(),
    ] {
        let mut reactor = Reactor::new().unwrap();
        let token = reactor.add(Stream::connect_host(&host, 1, Echo)).unwrap();
        let begin = std::time::Instant::now();
        let reason = reactor.run_until_closed(token).unwrap();
        let Cause::Error(error) = reason.cause else { panic!("{host:?}: {reason:?}") };
        let text = error.to_string();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{host:?}: {text}");
        assert!(!text.contains(['\n', '\0']) && text.len() < 300, "{host:?}: {text}");
        assert!(begin.elapsed() < DEADLINE);
    }
}

#[test]
fn stream_socket_is_not_a_datagram_socket() {
    let stream = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let log = Log::default();
    let error = Datagram::new(stream, UdpEcho { log, later: false }).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}
