//! Membership in multicast groups, on the loopback interface.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use reactor::{Address, Datagram, DatagramIo, DatagramProtocol, Reactor, SockRef, Token};

use crate::common::{Log, turn_all, turn_until};

/// The index of `lo`.
const LOOPBACK: u32 = 1;

struct Receiver(Log);

impl DatagramProtocol for Receiver {
    fn handle_datagram(
        &mut self,
        _: &mut DatagramIo<'_>,
        data: &[u8],
        _: &Address,
    ) -> io::Result<()> {
        self.0.note(String::from_utf8_lossy(data));
        Ok(())
    }
}

/// Groups of these tests only (RFC 2365, RFC 7346), and from where to send to them.
fn groups() -> Vec<(IpAddr, &'static str)> {
    let v4 = (Ipv4Addr::new(239, 255, 77, 1).into(), "127.0.0.1:0");
    let v6 = (Ipv6Addr::new(0xff01, 0, 0, 0, 0, 0, 0, 0x7701).into(), "[::1]:0");
    let can_send = |&(group, local): &(IpAddr, &str)| {
        let is_possible =
            UdpSocket::bind(local).is_ok() && sender(local).send_to(b"probe", (group, 9)).is_ok();
        if !is_possible {
            testing::report_skip(format_args!("no route to {group} on the loopback interface"));
        }
        is_possible
    };
    [v4, v6].into_iter().filter(can_send).collect()
}

/// Returns a socket that sends to groups through the loopback interface.
fn sender(local: &str) -> UdpSocket {
    let socket = UdpSocket::bind(local).unwrap();
    let options = SockRef::from(&socket);
    if local.starts_with('[') {
        options.set_multicast_if_v6(LOOPBACK).unwrap();
    } else {
        options.set_multicast_if_v4(&Ipv4Addr::LOCALHOST).unwrap();
    }
    socket
}

fn port_of(reactor: &mut Reactor, token: Token) -> u16 {
    let channel = reactor.get_mut::<Datagram<Receiver>>(token).unwrap();
    channel.local_addr().as_inet().unwrap().port()
}

#[test]
fn each_socket_bound_to_a_group_receives_what_is_sent_to_it() {
    for (group, local) in groups() {
        let mut reactor = Reactor::new().unwrap();
        let logs = [Log::default(), Log::default()];
        let bind = |port, log: &Log| {
            let group = SocketAddr::new(group, port);
            Datagram::bind_multicast(group, LOOPBACK, Receiver(log.clone())).unwrap()
        };
        let first = reactor.add(bind(0, &logs[0])).unwrap();
        let port = port_of(&mut reactor, first);
        reactor.add(bind(port, &logs[1])).unwrap();
        let sender = sender(local);
        // Not to the group, so for neither; an error of an earlier one is none of this one.
        let _ = sender.send_to(b"unicast", (sender.local_addr().unwrap().ip(), port));
        sender.send_to(b"to the group", (group, port)).unwrap();
        turn_until(&mut reactor, |_| logs.iter().all(|log| log.has("to the group")));
        turn_all(&mut reactor);
        assert!(logs.iter().all(|log| log.lines() == ["to the group"]), "{group}");
    }
}

#[test]
fn membership_can_be_added_and_ended() {
    for (group, local) in groups() {
        let mut reactor = Reactor::new().unwrap();
        let log = Log::default();
        let any = if group.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let token = reactor.add(Datagram::bind(any, Receiver(log.clone())).unwrap()).unwrap();
        let port = port_of(&mut reactor, token);
        let sender = sender(local);
        let channel = reactor.get_mut::<Datagram<Receiver>>(token).unwrap();
        channel.join_multicast(group, LOOPBACK).unwrap();
        let error = channel.join_multicast(group, LOOPBACK).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        assert!(
            error.to_string().starts_with(&format!("cannot join the group {group}: ")),
            "{error}"
        );
        sender.send_to(b"member", (group, port)).unwrap();
        turn_until(&mut reactor, |_| log.has("member"));

        let channel = reactor.get_mut::<Datagram<Receiver>>(token).unwrap();
        channel.leave_multicast(group, LOOPBACK).unwrap();
        let error = channel.leave_multicast(group, LOOPBACK).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrNotAvailable);
        sender.send_to(b"no more", (group, port)).unwrap();
        // Delivered after the one above would have been.
        sender.send_to(b"unicast", (sender.local_addr().unwrap().ip(), port)).unwrap();
        turn_until(&mut reactor, |_| log.has("unicast"));
        assert_eq!(log.lines(), ["member", "unicast"]);
    }
}

/// Also without a route on which something could be sent.
#[test]
fn group_of_either_family_can_be_joined() {
    let groups = ["239.255.77.1:0", "[ff01::7701]:0", "[ff05::7701]:0"];
    for group in groups.map(|group| group.parse::<SocketAddr>().unwrap()) {
        if group.is_ipv6() && UdpSocket::bind("[::1]:0").is_err() {
            testing::report_skip("no IPv6");
            continue;
        }
        let socket = Datagram::bind_multicast(group, LOOPBACK, Receiver(Log::default())).unwrap();
        let error = socket.join_multicast(group.ip(), LOOPBACK).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse, "{group}");
        socket.leave_multicast(group.ip(), LOOPBACK).unwrap();
    }
}

#[test]
fn what_is_no_group_is_reported() {
    let socket = Datagram::bind("127.0.0.1:0", Receiver(Log::default())).unwrap();
    let error = socket.join_multicast(Ipv4Addr::LOCALHOST.into(), 0).unwrap_err();
    assert_eq!(error.to_string(), "127.0.0.1 is no multicast address");
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    let group = SocketAddr::from(([239, 255, 77, 1], 0));
    let no_interface = Datagram::bind_multicast(group, 1_000_000, Receiver(Log::default()));
    let error = no_interface.unwrap_err().to_string();
    let text = "239.255.77.1:0: cannot join the group 239.255.77.1: No such device";
    assert!(error.starts_with(text), "{error}");
}
