//! Listeners: binding, accepting and rejecting.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
#[cfg(unix)]
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::mpsc;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use reactor::{Address, Context, Handle, Io, Listener, OwnedDescriptor, Protocol, Reactor, Stream};

use crate::common::{
    DEADLINE, Echo, Log, assert_echo, local_pair, run, run_with, silence_panics, turn_all,
    turn_until,
};

#[test]
fn port_in_use_error_names_the_address() {
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = other.local_addr().unwrap();
    let error = Listener::bind(addr, |_| Ok(Echo)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    assert!(error.to_string().starts_with(&addr.to_string()), "{error}");
}

#[test]
fn peer_over_connection_limit_is_closed_and_later_one_is_served() {
    let mut reactor = Reactor::new().unwrap();
    let listener = Listener::bind("[::1]:0", |_| Ok(Echo)).unwrap().with_max_connections(2);
    let addr = listener.local_addr().as_inet().unwrap();
    let token = reactor.add(listener).unwrap();
    let mut peers: Vec<_> = (0..3).map(|_| TcpStream::connect(addr).unwrap()).collect();
    turn_all(&mut reactor);
    assert_eq!(peers[2].read_to_end(&mut Vec::new()).unwrap(), 0, "closed");
    assert_eq!(reactor.get_mut::<Listener>(token).unwrap().rejected(), 1);
    peers.truncate(1);
    turn_all(&mut reactor);
    let mut next = TcpStream::connect(addr).unwrap();
    next.write_all(b"x").unwrap();
    turn_all(&mut reactor);
    next.read_exact(&mut [0]).unwrap();
}

/// A client over the limit must see an orderly end whatever it sent: a reset may
/// hide the last message from it.
#[test]
fn peer_over_connection_limit_sees_an_orderly_end() {
    const LAST: &[u8] = b"503 try again later\n";
    for sent in [0, 10, 1_000_000] {
        for late in [false, true] {
            let mut reactor = Reactor::new().unwrap();
            let listener = Listener::bind("127.0.0.1:0", |_| Ok(Echo))
                .unwrap()
                .with_max_connections(0)
                .with_rejection(|_| LAST.to_vec());
            let addr = listener.local_addr().as_inet().unwrap();
            reactor.add(listener).unwrap();
            let outcome = run_with(&mut reactor, move || {
                let mut peer = TcpStream::connect(addr)?;
                if late {
                    thread::sleep(Duration::from_millis(50));
                }
                peer.set_nonblocking(true)?;
                let mut rest = vec![0; sent];
                while let Ok(1..) = peer.write(&rest) {
                    rest.truncate(rest.len() / 2);
                }
                peer.set_nonblocking(false)?;
                thread::sleep(Duration::from_millis(50));
                let mut message = Vec::new();
                peer.read_to_end(&mut message)?;
                Ok::<_, io::Error>(message)
            });
            assert_eq!(outcome.unwrap(), LAST, "sent {sent}, late: {late}");
        }
    }
}

/// Many rejected clients that do not end cost no more than some descriptors.
#[test]
fn rejected_peers_are_bounded_and_closed_in_time() {
    let mut reactor = Reactor::new().unwrap();
    let listener = Listener::bind("127.0.0.1:0", |_| Ok(Echo)).unwrap().with_max_connections(0);
    let addr = listener.local_addr().as_inet().unwrap();
    let token = reactor.add(listener).unwrap();
    let peers: Vec<_> = (0..300).map(|_| TcpStream::connect(addr).unwrap()).collect();
    turn_until(&mut reactor, |reactor| {
        reactor.get_mut::<Listener>(token).unwrap().rejected() == 300
    });
    assert!(reactor.context().channels().len() < 200, "lingering");
    turn_until(&mut reactor, |reactor| reactor.context().channels().len() == 1);
    drop(peers);
}

#[test]
fn burst_of_connections_fits_the_backlog() {
    let mut reactor = Reactor::new().unwrap();
    let listener = Listener::bind("127.0.0.1:0", |_| Ok(Echo)).unwrap();
    let addr = listener.local_addr().as_inet().unwrap();
    reactor.add(listener).unwrap();
    // Nothing is accepted meanwhile: with std's backlog of 128 this would hang.
    let begin = Instant::now();
    let peers: Vec<_> = (0..1_000).map(|_| TcpStream::connect(addr).unwrap()).collect();
    eprintln!("{} connected in {:?}", peers.len(), begin.elapsed());
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

/// Returns the addresses of `listeners`.
fn inet_addrs(listeners: &[Listener]) -> Vec<SocketAddr> {
    listeners.iter().map(|listener| listener.local_addr().as_inet().unwrap()).collect()
}

#[test]
fn every_address_of_a_name_is_bound_to_one_port() {
    let both: [SocketAddr; 3] =
        ["[::1]:0", "127.0.0.1:0", "[::1]:0"].map(|addr| addr.parse().unwrap());
    let wildcards: [SocketAddr; 2] = ["[::]:0", "0.0.0.0:0"].map(|addr| addr.parse().unwrap());
    for addrs in [&both[..], &wildcards[..]] {
        let log = Log::default();
        let seen = log.clone();
        let accepted = move |peer: &Address| {
            seen.note(peer.to_string());
            Ok(Echo)
        };
        let listeners = Listener::bind_all(addrs, accepted).unwrap();
        let bound = inet_addrs(&listeners);
        assert_eq!(bound.len(), 2, "without the duplicate");
        assert_eq!(bound[0].port(), bound[1].port());
        let mut reactor = Reactor::new().unwrap();
        for listener in listeners {
            reactor.add(listener).unwrap();
        }
        for ip in ["127.0.0.1", "::1"] {
            let peer = TcpStream::connect((ip, bound[0].port())).unwrap();
            assert_echo(&mut reactor, &peer);
            assert!(log.has(&peer.local_addr().unwrap().to_string()), "{:?}", log.lines());
        }
    }
}

#[test]
fn address_of_another_machine_is_skipped_unless_it_is_the_only_one() {
    let remote: SocketAddr = "192.0.2.1:0".parse().unwrap();
    let local: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let listeners = Listener::bind_all(&[remote, local][..], |_| Ok(Echo)).unwrap();
    assert_eq!(inet_addrs(&listeners)[0].ip(), local.ip());
    let error = Listener::bind_all(remote, |_| Ok(Echo)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrNotAvailable);
    assert!(error.to_string().starts_with("192.0.2.1:0: "), "{error}");
    let error = Listener::bind_all(&[][..], |_| Ok(Echo)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

#[test]
fn one_of_several_addresses_in_use_is_an_error() {
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = other.local_addr().unwrap();
    let addrs = [SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, addr.port())), addr];
    for result in [
        Listener::bind_all(&addrs[..], |_| Ok(Echo)),
        #[cfg(not(any(windows, target_os = "illumos")))] // SO_REUSEPORT
        Listener::bind_all_reuse_port(&addrs[..], |_| Ok(Echo)),
    ] {
        let error = result.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        assert!(error.to_string().starts_with(&addr.to_string()), "{error}");
    }
}

#[cfg(not(any(windows, target_os = "illumos")))] // SO_REUSEPORT
#[test]
fn several_addresses_can_be_shared() {
    let addrs: Vec<_> = ["[::1]:0", "127.0.0.1:0"].map(|addr| addr.parse().unwrap()).into();
    let first = Listener::bind_all_reuse_port(&addrs[..], |_| Ok(Echo)).unwrap();
    let addrs = inet_addrs(&first);
    let second = Listener::bind_all_reuse_port(&addrs[..], |_| Ok(Echo)).unwrap();
    assert_eq!(inet_addrs(&second), addrs);
}

#[cfg(unix)] // Unix sockets
#[test]
fn stale_unix_path_is_replaced_and_live_one_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    // Closed without removing the path, as after `kill -9`.
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let listener = Listener::bind_unix(&path, |_| Ok(Echo)).unwrap();
    assert_eq!(*listener.local_addr(), Address::Unix(Some(path.clone())));

    let error = Listener::bind_unix(&path, |_| Ok(Echo)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    let file = dir.path().join("file");
    std::fs::write(&file, "precious").unwrap();
    assert!(Listener::bind_unix(&file, |_| Ok(Echo)).is_err());
    assert_eq!(std::fs::read(&file).unwrap(), b"precious", "a file other than a socket is kept");

    let mut reactor = Reactor::new().unwrap();
    reactor.add(listener).unwrap();
    let mut peer = UnixStream::connect(&path).unwrap();
    peer.write_all(b"x").unwrap();
    turn_all(&mut reactor);
    peer.read_exact(&mut [0]).unwrap();
    drop(reactor);
    assert!(!path.exists(), "removed with the listener");
}

#[cfg(unix)] // Unix sockets
#[test]
fn unix_path_of_another_server_is_not_removed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    let first = Listener::bind_unix(&path, |_| Ok(Echo)).unwrap();
    std::fs::remove_file(&path).unwrap();
    let _second = UnixListener::bind(&path).unwrap();
    drop(first);
    assert!(path.exists());
}

#[test]
fn fault_while_accepting_frees_the_connection_slot() {
    silence_panics();
    let mut reactor = Reactor::new().unwrap();
    let mut count = 0;
    let listener = Listener::bind("127.0.0.1:0", move |_| {
        count += 1;
        match count {
            1 => panic!("a panic in handle_accepted"),
            2 => Err(io::Error::other("no")),
            _ => Ok(Echo),
        }
    })
    .unwrap()
    .with_max_connections(1);
    let addr = listener.local_addr().as_inet().unwrap();
    let token = reactor.add(listener).unwrap();
    let mut peers = Vec::new();
    for refused in [1, 2] {
        peers.push(TcpStream::connect(addr).unwrap());
        turn_until(&mut reactor, |reactor| {
            reactor.get_mut::<Listener>(token).unwrap().rejected() == refused
        });
    }
    assert_echo(&mut reactor, &TcpStream::connect(addr).unwrap());
}

/// If several programs start at once, each must detect a listener that bound
/// the path first.
#[cfg(unix)] // Unix sockets
#[test]
fn exactly_one_of_concurrent_servers_binds_the_unix_path() {
    let dir = tempfile::tempdir().unwrap();
    let begin = Instant::now();
    for round in 0..300 {
        let path = dir.path().join(round.to_string());
        if round % 2 == 0 {
            // A stale socket of an earlier server.
            drop(UnixListener::bind(&path).unwrap());
        }
        let barrier = Arc::new(Barrier::new(4));
        let start = |_| {
            let (path, barrier) = (path.clone(), Arc::clone(&barrier));
            thread::spawn(move || {
                barrier.wait();
                let listener = Listener::bind_unix(&path, |_| Ok(Echo));
                barrier.wait();
                listener.is_ok()
            })
        };
        let servers: Vec<_> = (0..4).map(start).collect();
        let listening = servers.into_iter().map(|server| server.join().unwrap());
        assert_eq!(listening.filter(|&listens| listens).count(), 1, "in round {round}");
        if begin.elapsed() > Duration::from_secs(1) {
            break;
        }
    }
}

/// One server ends while the next one starts. The server that bound the path
/// must be reachable through it.
#[cfg(unix)] // Unix sockets
#[test]
fn succeeding_server_keeps_its_unix_path() {
    fn successor(path: &PathBuf, barrier: &Barrier) -> io::Result<()> {
        barrier.wait();
        let begin = Instant::now();
        loop {
            match Listener::bind_unix(path, |_| Ok(Echo)) {
                Ok(_listening) => return UnixStream::connect(path).map(drop),
                Err(error) => assert!(begin.elapsed() < DEADLINE, "{error}"),
            }
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    let begin = Instant::now();
    for round in 0..3_000 {
        let first = Listener::bind_unix(&path, |_| Ok(Echo)).unwrap();
        let barrier = Arc::new(Barrier::new(2));
        let second = {
            let (path, barrier) = (path.clone(), Arc::clone(&barrier));
            thread::spawn(move || successor(&path, &barrier))
        };
        barrier.wait();
        drop(first);
        let reached = second.join().unwrap();
        assert!(reached.is_ok(), "in round {round}: {reached:?}");
        if begin.elapsed() > Duration::from_secs(1) {
            break;
        }
    }
}

/// Any program that can read the directory can lock it.
#[cfg(unix)] // Unix sockets
#[test]
fn lock_of_another_program_blocks_neither_bind_nor_close() {
    let dir = tempfile::tempdir().unwrap();
    let early = dir.path().join("early");
    let late = dir.path().join("late");
    let (ready_tx, ready_rx) = mpsc::channel();
    let (locked_tx, locked_rx) = mpsc::channel::<()>();
    let (done_tx, done_rx) = mpsc::channel();
    let (early_path, late_path) = (early.clone(), late.clone());
    thread::spawn(move || {
        let listener = Listener::bind_unix(early_path, |_| Ok(Echo)).unwrap();
        ready_tx.send(()).unwrap();
        locked_rx.recv().unwrap();
        drop(listener);
        done_tx.send("closed").unwrap();
        drop(Listener::bind_unix(late_path, |_| Ok(Echo)).unwrap());
        done_tx.send("bound and closed").unwrap();
    });
    ready_rx.recv_timeout(DEADLINE).unwrap();
    let lock = std::fs::File::open(dir.path()).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    locked_tx.send(()).unwrap();
    for step in ["closed", "bound and closed"] {
        assert_eq!(done_rx.recv_timeout(DEADLINE), Ok(step));
    }
    assert!(!early.exists() && !late.exists());
}

/// To open a named pipe would wait for its writer.
#[cfg(unix)] // Unix sockets
#[test]
fn path_below_a_named_pipe_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let (done_tx, done_rx) = mpsc::channel();
    thread::spawn(move || {
        let result = Listener::bind_unix(pipe.join("socket"), |_| Ok(Echo));
        done_tx.send(result.unwrap_err().kind()).unwrap();
    });
    assert_eq!(done_rx.recv_timeout(DEADLINE), Ok(ErrorKind::NotADirectory));
}

#[test]
fn listening_socket_can_be_passed_in() {
    let inet = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = inet.local_addr().unwrap();
    let mut reactor = Reactor::new().unwrap();
    let inet = Listener::new(inet, |_| Ok(Echo)).unwrap();
    assert_eq!(*inet.local_addr(), Address::Inet(addr));
    reactor.add(inet).unwrap();
    assert_echo(&mut reactor, &TcpStream::connect(addr).unwrap());
}

#[cfg(unix)] // Unix sockets
#[test]
fn listening_unix_socket_can_be_passed_in() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    let unix = UnixListener::bind(&path).unwrap();
    let mut reactor = Reactor::new().unwrap();
    let unix = Listener::new(unix, |_| Ok(Echo)).unwrap();
    assert_eq!(*unix.local_addr(), Address::Unix(Some(path.clone())));
    reactor.add(unix).unwrap();
    assert_echo(&mut reactor, &UnixStream::connect(&path).unwrap());
    drop(reactor);
    assert!(path.exists(), "the program that bound the path removes it");
}

/// Sends one byte when connected, then echoes.
#[cfg(not(any(windows, target_os = "illumos")))] // SO_REUSEPORT
struct GreetsAndEchoes;

#[cfg(not(any(windows, target_os = "illumos")))] // SO_REUSEPORT
impl Protocol for GreetsAndEchoes {
    fn handle_connect(&mut self, io: &mut Io<'_>) -> io::Result<()> {
        io.send(b"h")
    }
    fn handle_read(&mut self, io: &mut Io<'_>, data: &[u8]) -> io::Result<()> {
        io.send(data)
    }
}

#[cfg(not(any(windows, target_os = "illumos")))] // SO_REUSEPORT
#[test]
fn reactors_on_two_threads_share_an_address() {
    /// Serves until stopped; returns the number of accepted connections.
    fn server(addr: SocketAddr, ready_tx: &mpsc::Sender<(SocketAddr, Handle)>) -> u64 {
        let mut reactor = Reactor::new().unwrap();
        let listener = Listener::bind_reuse_port(addr, |_| Ok(GreetsAndEchoes)).unwrap();
        let addr = listener.local_addr().as_inet().unwrap();
        reactor.add(listener).unwrap();
        ready_tx.send((addr, reactor.handle())).unwrap();
        run(&mut reactor);
        reactor.stats().accepted
    }
    let (ready_tx, ready_rx) = mpsc::channel();
    let mut addr: SocketAddr = ([127, 0, 0, 1], 0).into();
    let mut servers = Vec::new();
    for _ in 0..2 {
        let ready_tx = ready_tx.clone();
        let thread = thread::spawn(move || server(addr, &ready_tx));
        let (bound, handle) = ready_rx.recv_timeout(DEADLINE).unwrap();
        addr = bound;
        servers.push((thread, handle));
    }
    let peers: Vec<_> = (0..100).map(|_| TcpStream::connect(addr).unwrap()).collect();
    for mut peer in peers {
        peer.set_read_timeout(Some(DEADLINE)).unwrap();
        peer.read_exact(&mut [0]).unwrap();
    }
    let accepted: Vec<_> = servers
        .into_iter()
        .map(|(thread, handle)| {
            handle.stop().unwrap();
            thread.join().unwrap()
        })
        .collect();
    assert_eq!(accepted.iter().sum::<u64>(), 100);
    assert!(accepted.iter().all(|&accepted| accepted > 0), "{accepted:?}");

    let alone = Listener::bind("127.0.0.1:0", |_| Ok(GreetsAndEchoes)).unwrap();
    let addr = alone.local_addr().as_inet().unwrap();
    let error = Listener::bind_reuse_port(addr, |_| Ok(GreetsAndEchoes)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrInUse, "the other listener does not share its address");
}

#[test]
fn accepted_sockets_can_move_to_another_thread() {
    let (ready_tx, ready_rx) = mpsc::channel();
    let worker = thread::spawn(move || {
        let mut reactor = Reactor::new().unwrap();
        // Keeps the reactor running while it has no other stream.
        let (ours, _theirs) = local_pair().unwrap();
        reactor.add(Stream::new(ours, Echo).unwrap()).unwrap();
        ready_tx.send(reactor.handle()).unwrap();
        run(&mut reactor);
        reactor.stats().received
    });
    let worker_handle: Handle = ready_rx.recv_timeout(DEADLINE).unwrap();

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let (seen, handle) = (log.clone(), worker_handle.clone());
    let hand_over = move |_: &mut Context, socket: OwnedDescriptor, peer: &Address| {
        if seen.lines().len() == 4 {
            return Err(io::Error::other("enough"));
        }
        seen.note(peer.to_string());
        let add = |cx: &mut Context| {
            cx.add(Stream::new(socket, Echo).unwrap()).unwrap();
        };
        handle.post(add).map_err(io::Error::other)
    };
    let token = reactor.add(Listener::with_handler(listener, hand_over).unwrap()).unwrap();
    for number in 1..=4 {
        let peer = TcpStream::connect(addr).unwrap();
        turn_until(&mut reactor, |_| log.lines().len() == number);
        assert!(log.has(&peer.local_addr().unwrap().to_string()));
        assert_echo(&mut reactor, &peer);
    }
    let mut refused = TcpStream::connect(addr).unwrap();
    turn_until(&mut reactor, |reactor| reactor.get_mut::<Listener>(token).unwrap().rejected() == 1);
    assert_eq!(refused.read_to_end(&mut Vec::new()).unwrap(), 0);
    worker_handle.stop().unwrap();
    assert_eq!(worker.join().unwrap(), 4);
}
