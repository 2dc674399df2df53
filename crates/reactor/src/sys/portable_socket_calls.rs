//! What replaces `socket_calls.rs` on other Unix systems. The build that tests the poll(2) backend on
//! Linux uses it too, so that the tests run it.

use std::io::{self, IoSliceMut};

use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvFlags, ReturnFlags, SendFlags, recvmsg};
use socket2::{SockAddr, Socket};

use crate::address::Address;
use crate::sys::sock_addr::from_rustix_addr;

/// Write without SIGPIPE, even if the program does not ignore that signal. Apple's
/// systems have no such flag; `socket2` sets `SO_NOSIGPIPE` there.
#[cfg(not(target_vendor = "apple"))]
pub(super) const SEND_FLAGS: SendFlags = SendFlags::NOSIGNAL;
#[cfg(target_vendor = "apple")]
pub(super) const SEND_FLAGS: SendFlags = SendFlags::empty();

/// What connect(2) returns for a connection that is being established.
pub(super) const CONNECT_IN_PROGRESS: Errno = Errno::INPROGRESS;

/// Errors of accept(2) that concern one connection only, or no connection.
pub(super) const ACCEPT_RETRY_ERRORS: &[Errno] = &[Errno::INTR, Errno::CONNABORTED];

/// Errors that ICMP messages cause here, in addition to those of all systems.
#[cfg(target_os = "linux")]
pub(super) const OTHER_ICMP_ERRORS: &[Errno] = &[Errno::PROTO, Errno::PERM, Errno::NONET];
#[cfg(not(target_os = "linux"))]
pub(super) const OTHER_ICMP_ERRORS: &[Errno] = &[Errno::PROTO, Errno::PERM];

/// Prepares a socket that this library did not create. It is closed by execve(2), as an
/// inherited one is not, and causes no SIGPIPE where [`SEND_FLAGS`] cannot suppress it.
pub(super) fn take_over(socket: &Socket) -> io::Result<()> {
    socket.set_cloexec(true)?;
    // It fails if the peer has disconnected, and Rust programs ignore the signal anyway.
    #[cfg(target_vendor = "apple")]
    let _ = socket.set_nosigpipe(true);
    Ok(())
}

/// Accepts a connection. Its socket is in non-blocking mode.
pub(super) fn accept(listening: &Socket) -> io::Result<(Socket, SockAddr)> {
    let (socket, peer) = listening.accept()?;
    socket.set_nonblocking(true)?;
    Ok((socket, peer))
}

/// Determines who may listen on the same address. With `reuse_port`, other sockets may. On
/// most systems, the last one receives all connections; FreeBSD's own option distributes
/// them.
///
/// # Errors
///
/// Returns `Unsupported` on systems without such an option.
pub(super) fn set_sharing(socket: &Socket, reuse_port: bool) -> io::Result<()> {
    // A restarted server can bind although old connections are in TIME-WAIT.
    socket.set_reuse_address(true)?;
    #[cfg(target_os = "freebsd")]
    return socket.set_reuse_port_lb(reuse_port);
    #[cfg(any(target_os = "illumos", target_os = "solaris"))]
    {
        if reuse_port { Err(io::ErrorKind::Unsupported.into()) } else { Ok(()) }
    }
    #[cfg(not(any(target_os = "freebsd", target_os = "illumos", target_os = "solaris")))]
    socket.set_reuse_port(reuse_port)
}

/// Lets an IPv6 socket that is bound to `::` serve IPv4 too.
pub(super) fn include_v4(socket: &Socket) {
    // It fails on OpenBSD, where none can.
    let _ = socket.set_only_v6(false);
}

/// Returns `false`: a socket cannot be made writable only while less than `limit` of its
/// output is unsent.
pub(super) fn set_unsent_limit(_socket: &Socket, _limit: u32) -> bool {
    false
}

/// Receives one datagram. Returns its length and the sender. If the datagram is longer
/// than `buffer`, the length exceeds that of `buffer` by one: the system reports that the
/// rest is lost, but not how much.
pub(super) fn receive(socket: &Socket, buffer: &mut [u8]) -> io::Result<(usize, Address)> {
    let too_long = buffer.len() + 1;
    let mut control = RecvAncillaryBuffer::default();
    let mut parts = [IoSliceMut::new(buffer)];
    let received = recvmsg(socket, &mut parts, &mut control, RecvFlags::empty())?;
    let is_truncated = received.flags.contains(ReturnFlags::TRUNC);
    let len = if is_truncated { too_long } else { received.bytes };
    Ok((len, from_rustix_addr(received.address)))
}
