//! What replaces `packet_info.rs` on other systems, whose options differ: there, the
//! system selects the address from which a datagram is sent.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};

use socket2::Socket;

use crate::sys::destination::Destination;

/// Returns `false`: where a datagram was sent is not reported.
pub(super) fn enable(_socket: &Socket, _is_v6: bool) -> bool {
    false
}

/// Not called, since [`enable`] returns `false`.
pub(super) fn receive(
    _socket: &Socket,
    _buffer: &mut [u8],
    _control: &mut [u8],
) -> io::Result<(usize, Option<SocketAddr>, Option<Destination>)> {
    Err(ErrorKind::Unsupported.into())
}

/// Returns `Unsupported`.
pub(super) fn send(
    _socket: &Socket,
    _data: &[u8],
    _to: SocketAddr,
    _from: IpAddr,
    _is_v6: bool,
) -> io::Result<()> {
    Err(ErrorKind::Unsupported.into())
}
