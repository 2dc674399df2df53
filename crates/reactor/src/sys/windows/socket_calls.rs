//! Socket calls in which systems differ, as Windows has them.

use std::io;
use std::net::SocketAddr;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recvfrom};
use socket2::{SockAddr, Socket};

use crate::address::Address;
use crate::sys::ffi;

/// There is no SIGPIPE.
pub(super) const SEND_FLAGS: SendFlags = SendFlags::empty();

/// What `connect` returns for a connection that is being established.
pub(super) const CONNECT_IN_PROGRESS: Errno = Errno::WOULDBLOCK;

/// Errors of `accept` that concern one connection only, or no connection: also that the
/// peer has reset it before it was accepted.
pub(super) const ACCEPT_RETRY_ERRORS: &[Errno] =
    &[Errno::INTR, Errno::CONNABORTED, Errno::CONNRESET];

/// Errors that ICMP messages cause here, in addition to those of all systems: that the time
/// to live of a datagram has expired. (That its port is unreachable is `WSAECONNRESET`.)
pub(super) const OTHER_ICMP_ERRORS: &[Errno] = &[Errno::NETRESET];

/// Prepares a socket that this library did not create: no process that is started
/// inherits it.
pub(super) fn take_over(socket: &Socket) -> io::Result<()> {
    socket.set_no_inherit(true)
}

/// Accepts a connection. Its socket is in non-blocking mode.
pub(super) fn accept(listening: &Socket) -> io::Result<(Socket, SockAddr)> {
    let (socket, peer) = listening.accept()?;
    socket.set_nonblocking(true)?;
    // Not documented to be inherited.
    socket.set_tcp_nodelay(true)?;
    Ok((socket, peer))
}

/// Determines who may listen on the same address: no other socket. (`SO_REUSEADDR` would
/// let any program take the port over. A port whose connections are in TIME-WAIT is free
/// without it.)
///
/// # Errors
///
/// Returns `Unsupported` for `reuse_port`: no option distributes connections.
pub(super) fn set_sharing(socket: &Socket, reuse_port: bool) -> io::Result<()> {
    if reuse_port {
        return Err(io::ErrorKind::Unsupported.into());
    }
    ffi::set_exclusive_address(socket)
}

/// Lets an IPv6 socket that is bound to `::` serve IPv4 too.
pub(super) fn include_v4(socket: &Socket) {
    // It fails where there is no IPv4.
    let _ = socket.set_only_v6(false);
}

/// Returns `false`: a socket cannot be made writable only while less than `limit` of its
/// output is unsent.
pub(super) fn set_unsent_limit(_socket: &Socket, _limit: u32) -> bool {
    false
}

/// Receives one datagram. Returns its length and the sender. If the datagram is longer
/// than `buffer`, the length exceeds that of `buffer` by one, and the sender is unknown.
pub(super) fn receive(socket: &Socket, buffer: &mut [u8]) -> io::Result<(usize, Address)> {
    let too_long = buffer.len() + 1;
    match recvfrom(socket, buffer, RecvFlags::empty()) {
        Ok((_, len, from)) => {
            let from = from.and_then(|from| SocketAddr::try_from(from).ok());
            Ok((len, from.map_or(Address::Unknown, Address::from)))
        }
        Err(Errno::MSGSIZE) => Ok((too_long, Address::Unknown)),
        Err(error) => Err(error.into()),
    }
}
