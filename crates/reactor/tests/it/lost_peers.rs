//! Errors that do not belong to the channel: ICMP messages about earlier datagrams, and
//! peers that are out of reach. Each error is injected into a process of its own.

use std::io;
use std::io::Write;
use std::net::UdpSocket;
use std::rc::Rc;
use std::time::Duration;

#[cfg(target_os = "linux")]
use nix::sys::socket::{setsockopt, sockopt};
use reactor::{Address, Datagram, DatagramIo, DatagramProtocol, Reactor, Stream};

use crate::common::{
    Call, Log, Probe, in_process_with_fault, local_pair, run, tcp_pair, turn_all, turn_until,
};
#[cfg(target_os = "linux")]
use crate::common::{assert_echo, assert_idle};

/// Logs what it receives.
struct Receiver(Log, Rc<std::cell::Cell<bool>>);

impl Receiver {
    fn new(log: &Log) -> Self {
        Receiver(log.clone(), Rc::default())
    }
}

impl DatagramProtocol for Receiver {
    fn writable(&self) -> bool {
        self.1.get()
    }
    fn handle_datagram(
        &mut self,
        _: &mut DatagramIo<'_>,
        data: &[u8],
        _: &Address,
    ) -> io::Result<()> {
        self.0.note(format!("got {}", data.len()));
        Ok(())
    }
    fn handle_error(&mut self, _: &mut DatagramIo<'_>, cause: &reactor::Cause) {
        self.0.note(format!("error: {cause}"));
    }
    fn handle_close(&mut self, _: &mut DatagramIo<'_>, reason: &reactor::CloseReason) {
        self.0.note(format!("close: {reason}"));
    }
}

/// ip(7), udp(7), and `icmp_err_convert` of the BSDs and Linux.
const FROM_ICMP: [&str; 12] = [
    "ECONNREFUSED",
    "EHOSTUNREACH",
    "ENETUNREACH",
    "EHOSTDOWN",
    "ENETDOWN",
    "ENONET",
    "ENOPROTOOPT",
    "EPROTO",
    "EACCES",
    "EPERM",
    "EMSGSIZE",
    "EOPNOTSUPP",
];

#[test]
fn icmp_error_on_receive_is_counted_and_ignored() {
    for errno in FROM_ICMP {
        let fault = format!("error={errno}:when=1..3");
        let name = "lost_peers::icmp_error_on_receive_is_counted_and_ignored";
        if in_process_with_fault(name, "recvfrom,recvmsg", &fault) {
            let mut reactor = Reactor::new().unwrap();
            let log = Log::default();
            let datagram = Datagram::bind("127.0.0.1:0", Receiver::new(&log)).unwrap();
            let to = datagram.local_addr().as_inet().unwrap();
            reactor.add(datagram).unwrap();
            UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"hello", to).unwrap();
            turn_until(&mut reactor, |_| log.has("got 5"));
            assert_eq!(reactor.stats().icmp_errors, 3);
            assert_eq!(log.lines(), ["got 5"]);
        }
    }
}

#[test]
fn icmp_error_on_send_is_counted_and_sent_again() {
    for errno in FROM_ICMP {
        let fault = format!("error={errno}:when=1");
        let name = "lost_peers::icmp_error_on_send_is_counted_and_sent_again";
        if in_process_with_fault(name, "sendto,sendmsg", &fault) {
            let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
            let mut reactor = Reactor::new().unwrap();
            let log = Log::default();
            let to = peer.local_addr().unwrap();
            let token = reactor.add(Datagram::connect(to, Receiver::new(&log)).unwrap()).unwrap();
            reactor.get_mut::<Datagram<Receiver>>(token).unwrap().send(b"hello").unwrap();
            turn_all(&mut reactor);
            assert_eq!(peer.recv(&mut [0; 10]).unwrap(), 5);
            assert_eq!(reactor.stats().icmp_errors, 1);
        }
    }
}

/// An error of the datagram itself is returned, and not counted.
#[test]
fn error_of_the_datagram_itself_is_returned() {
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let addr = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let token = reactor.add(Datagram::bind("127.0.0.1:0", Receiver::new(&log)).unwrap()).unwrap();
    let datagram = reactor.get_mut::<Datagram<Receiver>>(token).unwrap();
    let error = datagram.send_to(&vec![0; 70_000], &Address::Inet(addr)).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::MSGSIZE.raw_os_error()));
    turn_all(&mut reactor);
    assert_eq!(reactor.stats().icmp_errors, 0);
}

#[test]
fn persistent_receive_error_does_not_spin() {
    for errno in ["EPERM", "ENOMEM", "ENOSYS"] {
        let fault = format!("error={errno}");
        let name = "lost_peers::persistent_receive_error_does_not_spin";
        if in_process_with_fault(name, "recvfrom,recvmsg", &fault) {
            let mut reactor = Reactor::new().unwrap();
            let log = Log::default();
            let datagram = Datagram::bind("127.0.0.1:0", Receiver::new(&log)).unwrap();
            let to = datagram.local_addr().as_inet().unwrap();
            reactor.add(datagram).unwrap();
            UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"hello", to).unwrap();
            let end = std::time::Instant::now() + Duration::from_millis(300);
            while std::time::Instant::now() < end {
                reactor.turn(Some(Duration::from_millis(300))).unwrap();
            }
            assert!(reactor.stats().turns < 30, "{:?}", reactor.stats());
            assert_eq!(log.lines(), [""; 0]);
        }
    }
}

/// With `IP_RECVERR` the kernel also queues each ICMP message, and the socket stays in
/// error until that queue is read.
#[cfg(target_os = "linux")]
#[test]
fn invariant_6_error_queue_does_not_spin() {
    for (connected, writable) in [(false, false), (true, false), (false, true), (true, true)] {
        let mut reactor = Reactor::new().unwrap();
        let log = Log::default();
        let dead = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        setsockopt(&socket, sockopt::Ipv4RecvErr, &true).unwrap();
        if connected {
            socket.connect(dead).unwrap();
        }
        let receiver = Receiver::new(&log);
        let wants_write = Rc::clone(&receiver.1);
        let datagram = Datagram::new(socket, receiver).unwrap();
        let token = reactor.add(datagram).unwrap();
        let mut sent = 0;
        for _ in 0..3 {
            let datagram = reactor.get_mut::<Datagram<Receiver>>(token).unwrap();
            sent += usize::from(datagram.send_to(b"hello", &Address::Inet(dead)).is_ok());
            turn_all(&mut reactor);
        }
        assert_eq!(sent, 3);
        wants_write.set(writable);
        reactor.get_mut::<Datagram<Receiver>>(token).unwrap();
        turn_all(&mut reactor);
        wants_write.set(false);
        reactor.get_mut::<Datagram<Receiver>>(token).unwrap();
        assert_idle(&mut reactor);
        assert!(reactor.stats().icmp_errors >= 3, "{:?}", reactor.stats());
        assert_eq!(log.lines(), [""; 0]);
    }
}

/// Timestamps of what was sent are queued as errors too.
#[cfg(target_os = "linux")]
#[test]
fn invariant_6_queue_of_timestamps_does_not_spin() {
    use nix::sys::socket::TimestampingFlag;
    for reads in [true, false] {
        let (peer, ours) = tcp_pair();
        let flags = TimestampingFlag::SOF_TIMESTAMPING_TX_SOFTWARE
            | TimestampingFlag::SOF_TIMESTAMPING_SOFTWARE;
        setsockopt(&ours, sockopt::Timestamping, &flags).unwrap();
        let mut reactor = Reactor::new().unwrap();
        let token = reactor.add(Stream::new(ours, crate::common::Echo).unwrap()).unwrap();
        assert_echo(&mut reactor, &peer);
        if !reads {
            // More than the kernel takes: the stream waits to write, and does not read.
            let stream = reactor.get_mut::<Stream<crate::common::Echo>>(token).unwrap();
            stream.send(&vec![0; 8_000_000]).unwrap();
        }
        assert_idle(&mut reactor);
    }
}

/// Nor does it while the stream closes and discards input.
#[cfg(target_os = "linux")]
#[test]
fn invariant_6_queue_of_timestamps_does_not_spin_while_closing() {
    use nix::sys::socket::TimestampingFlag;
    let (mut peer, mut ours) = tcp_pair();
    let flags = TimestampingFlag::SOF_TIMESTAMPING_TX_SOFTWARE
        | TimestampingFlag::SOF_TIMESTAMPING_SOFTWARE;
    setsockopt(&ours, sockopt::Timestamping, &flags).unwrap();
    // The entry is there before the stream closes.
    ours.write_all(b"x").unwrap();
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let stream = Stream::new(
        ours,
        Probe::new("a", &log, |call, io| {
            if let Call::Read(_) = call {
                io.send(b"bye")?;
                io.close();
            }
            Ok(())
        }),
    );
    reactor.add(stream.unwrap()).unwrap();
    peer.write_all(&vec![0; 200_000]).unwrap();
    turn_until(&mut reactor, |_| log.has("read"));
    assert_idle(&mut reactor);
}

/// A Unix socket ignores `MSG_ERRQUEUE`: to empty its queue of errors would read data.
#[cfg(unix)] // Unix sockets
#[test]
fn unix_sockets_lose_no_input_to_the_error_queue() {
    let (ours, theirs) = std::os::unix::net::UnixDatagram::pair().unwrap();
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let receiver = Receiver::new(&log);
    receiver.1.set(true);
    let datagram = Datagram::new(ours, Unreadable(receiver)).unwrap();
    reactor.add(datagram).unwrap();
    theirs.send(b"hello").unwrap();
    turn_all(&mut reactor);
    turn_until(&mut reactor, |_| log.has("got 5"));
}

/// Reads only after it had room to write.
#[cfg(unix)] // Unix sockets
struct Unreadable(Receiver);

#[cfg(unix)] // Unix sockets
impl DatagramProtocol for Unreadable {
    fn readable(&self) -> bool {
        !self.0.1.get()
    }
    fn writable(&self) -> bool {
        self.0.1.get()
    }
    fn handle_write(&mut self, _: &mut DatagramIo<'_>) -> io::Result<()> {
        self.0.1.set(false);
        Ok(())
    }
    fn handle_datagram(
        &mut self,
        io: &mut DatagramIo<'_>,
        data: &[u8],
        from: &Address,
    ) -> io::Result<()> {
        self.0.handle_datagram(io, data, from)
    }
}

#[test]
fn lost_peer_is_an_end_and_not_an_error_of_the_program() {
    for errno in ["ETIMEDOUT", "EHOSTUNREACH", "ENETUNREACH", "ENETDOWN"] {
        let fault = format!("error={errno}:when=1");
        let name = "lost_peers::lost_peer_is_an_end_and_not_an_error_of_the_program";
        if in_process_with_fault(name, "recvfrom", &fault) {
            let (mut peer, ours) = tcp_pair();
            peer.write_all(b"hello").unwrap();
            let mut reactor = Reactor::new().unwrap();
            let log = Log::default();
            reactor.add(Stream::new(ours, Probe::passive("a", &log)).unwrap()).unwrap();
            run(&mut reactor);
            let lines = log.lines();
            assert_eq!(lines.len(), 2, "{lines:?}");
            assert!(
                lines[1].starts_with("a close: ") && lines[1].contains("os error"),
                "{lines:?}"
            );
        }
    }
}

/// An error of the same kind that the program itself made is reported to it.
#[test]
fn timeout_of_the_program_is_its_error() {
    let (ours, mut peer) = local_pair().unwrap();
    peer.write_all(b"x").unwrap();
    let mut reactor = Reactor::new().unwrap();
    let log = Log::default();
    let probe = Probe::new("a", &log, |call, _| match call {
        Call::Read(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the database is slow")),
        _ => Ok(()),
    });
    reactor.add(Stream::new(ours, probe).unwrap()).unwrap();
    run(&mut reactor);
    assert!(log.has("a error: the database is slow"), "{:?}", log.lines());
}
