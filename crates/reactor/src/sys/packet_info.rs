//! To which address of this machine a datagram was sent, and from which to send one: the
//! control messages of Linux and Android (ip(7), `IP_PKTINFO`; ipv6(7), `IPV6_PKTINFO`).

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsRawFd;

use nix::libc::{in_addr, in_pktinfo, in6_addr, in6_pktinfo};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg, setsockopt,
    sockopt,
};
use socket2::Socket;

use crate::sys::destination::Destination;

/// Makes the system report where each datagram was sent. Returns `false` if it does not.
pub(super) fn enable(socket: &Socket, is_v6: bool) -> bool {
    if is_v6 {
        setsockopt(socket, sockopt::Ipv6RecvPacketInfo, &true).is_ok()
    } else {
        setsockopt(socket, sockopt::Ipv4PacketInfo, &true).is_ok()
    }
}

/// Receives one datagram, with a buffer for control messages. Returns its length, which
/// may exceed that of `buffer`, its sender, and where it was sent.
pub(super) fn receive(
    socket: &Socket,
    buffer: &mut [u8],
    control: &mut [u8],
) -> io::Result<(usize, Option<SocketAddr>, Option<Destination>)> {
    let mut buffers = [IoSliceMut::new(buffer)];
    let (fd, control) = (socket.as_raw_fd(), Some(control));
    let message = recvmsg::<SockaddrStorage>(fd, &mut buffers, control, MsgFlags::MSG_TRUNC)?;
    let from = message.address.and_then(|from| to_inet(&from));
    // Without room for all control messages, the system selects the address of replies.
    let to = message
        .cmsgs()
        .ok()
        .and_then(|mut messages| messages.find_map(|message| to_destination(&message)));
    Ok((message.bytes, from, to))
}

/// Sends `data` to `to`, with the address `from` of this machine as its source.
pub(super) fn send(
    socket: &Socket,
    data: &[u8],
    to: SocketAddr,
    from: IpAddr,
    is_v6: bool,
) -> io::Result<()> {
    let to = SockaddrStorage::from(to);
    let data = [IoSlice::new(data)];
    let send = |control: ControlMessage<'_>| {
        sendmsg(socket.as_raw_fd(), &data, &[control], MsgFlags::empty(), Some(&to))
    };
    match from {
        IpAddr::V4(from) if !is_v6 => send(ControlMessage::Ipv4PacketInfo(&in_pktinfo {
            ipi_ifindex: 0,
            ipi_spec_dst: in_addr { s_addr: u32::from(from).to_be() },
            ipi_addr: in_addr { s_addr: 0 },
        })),
        from => {
            let from = match from {
                IpAddr::V4(from) => from.to_ipv6_mapped(),
                IpAddr::V6(from) => from,
            };
            send(ControlMessage::Ipv6PacketInfo(&in6_pktinfo {
                ipi6_addr: in6_addr { s6_addr: from.octets() },
                ipi6_ifindex: 0,
            }))
        }
    }?;
    Ok(())
}

fn to_inet(addr: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = addr.as_sockaddr_in().map(|addr| SocketAddr::V4((*addr).into()));
    v4.or_else(|| addr.as_sockaddr_in6().map(|addr| SocketAddr::V6((*addr).into())))
}

fn to_destination(message: &ControlMessageOwned) -> Option<Destination> {
    match message {
        ControlMessageOwned::Ipv4PacketInfo(info) => {
            let ip = |addr: in_addr| IpAddr::V4(Ipv4Addr::from(u32::from_be(addr.s_addr)));
            let reply_from = Some(ip(info.ipi_spec_dst)).filter(|ip| !ip.is_unspecified());
            Some(Destination { addr: ip(info.ipi_addr), reply_from })
        }
        ControlMessageOwned::Ipv6PacketInfo(info) => {
            let addr = IpAddr::from(info.ipi6_addr.s6_addr).to_canonical();
            let is_unicast = !addr.is_multicast() && addr != IpAddr::V4(Ipv4Addr::BROADCAST);
            Some(Destination { addr, reply_from: is_unicast.then_some(addr) })
        }
        _ => None,
    }
}
