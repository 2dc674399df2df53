//! What replaces `socket_calls.rs` on other systems. The build that tests the poll(2) backend on
//! Linux uses it too, so that the tests run it.

use std::io::{self, IoSliceMut};

use rustix::net::{RecvAncillaryBuffer, RecvFlags, ReturnFlags, SendFlags, SocketAddrAny, recvmsg};
use socket2::{SockAddr, Socket};

/// Write without SIGPIPE, even if the program does not ignore that signal. Apple's
/// systems have no such flag; `socket2` sets `SO_NOSIGPIPE` there.
#[cfg(not(target_vendor = "apple"))]
pub(super) const SEND_FLAGS: SendFlags = SendFlags::NOSIGNAL;
#[cfg(target_vendor = "apple")]
pub(super) const SEND_FLAGS: SendFlags = SendFlags::empty();

/// Suppresses SIGPIPE where [`SEND_FLAGS`] cannot, for a socket that `socket2` did not
/// create.
#[cfg_attr(not(target_vendor = "apple"), expect(unused_variables, reason = "the flag suffices"))]
pub(super) fn suppress_sigpipe(socket: &Socket) {
    // It fails if the peer has disconnected, and Rust programs ignore the signal anyway.
    #[cfg(target_vendor = "apple")]
    let _ = socket.set_nosigpipe(true);
}

/// Accepts a connection. Its socket is in non-blocking mode.
pub(super) fn accept(listening: &Socket) -> io::Result<(Socket, SockAddr)> {
    let (socket, peer) = listening.accept()?;
    socket.set_nonblocking(true)?;
    Ok((socket, peer))
}

/// Lets other sockets listen on the same address. On most systems, the last one receives
/// all connections; FreeBSD's own option distributes them.
///
/// # Errors
///
/// Returns `Unsupported` on systems without such an option.
pub(super) fn set_reuse_port(socket: &Socket, reuse: bool) -> io::Result<()> {
    #[cfg(target_os = "freebsd")]
    return socket.set_reuse_port_lb(reuse);
    #[cfg(any(target_os = "illumos", target_os = "solaris"))]
    {
        let _ = socket;
        if reuse { Err(io::ErrorKind::Unsupported.into()) } else { Ok(()) }
    }
    #[cfg(not(any(target_os = "freebsd", target_os = "illumos", target_os = "solaris")))]
    socket.set_reuse_port(reuse)
}

/// Returns `false`: a socket cannot be made writable only while less than `limit` of its
/// output is unsent.
pub(super) fn set_unsent_limit(_socket: &Socket, _limit: u32) -> bool {
    false
}

/// Receives one datagram. Returns its length and the sender. If the datagram is longer
/// than `buffer`, the length exceeds that of `buffer` by one: the system reports that the
/// rest is lost, but not how much.
pub(super) fn receive(
    socket: &Socket,
    buffer: &mut [u8],
) -> io::Result<(usize, Option<SocketAddrAny>)> {
    let too_long = buffer.len() + 1;
    let mut control = RecvAncillaryBuffer::default();
    let mut parts = [IoSliceMut::new(buffer)];
    let received = recvmsg(socket, &mut parts, &mut control, RecvFlags::empty())?;
    let is_truncated = received.flags.contains(ReturnFlags::TRUNC);
    Ok((if is_truncated { too_long } else { received.bytes }, received.address))
}
