//! Socket calls in which systems differ, as Linux and Android have them.

use std::io;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketFlags};
use socket2::{SockAddr, Socket};

use crate::address::Address;
use crate::sys::sock_addr::from_rustix_addr;

/// Write without SIGPIPE, even if the program does not ignore that signal.
pub(super) const SEND_FLAGS: SendFlags = SendFlags::NOSIGNAL;

/// What connect(2) returns for a connection that is being established.
pub(super) const CONNECT_IN_PROGRESS: Errno = Errno::INPROGRESS;

/// Errors of accept(2) that concern one connection only, or no connection.
pub(super) const ACCEPT_RETRY_ERRORS: &[Errno] = &[Errno::INTR, Errno::CONNABORTED];

/// Errors that ICMP messages cause here, in addition to those of all systems.
pub(super) const OTHER_ICMP_ERRORS: &[Errno] = &[Errno::PROTO, Errno::PERM, Errno::NONET];

/// Prepares a socket that this library did not create. It is closed by execve(2), as an
/// inherited one is not.
pub(super) fn take_over(socket: &Socket) -> io::Result<()> {
    socket.set_cloexec(true)
}

/// Accepts a connection. Its socket is in non-blocking mode.
pub(super) fn accept(listening: &Socket) -> io::Result<(Socket, SockAddr)> {
    // One system call instead of three.
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    listening.accept4(flags.bits().cast_signed())
}

/// Determines who may listen on the same address. With `reuse_port`, other sockets may,
/// and the kernel distributes the connections among them.
pub(super) fn set_sharing(socket: &Socket, reuse_port: bool) -> io::Result<()> {
    // A restarted server can bind although old connections are in TIME-WAIT.
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(reuse_port)
}

/// Lets an IPv6 socket that is bound to `::` serve IPv4 too: the default, which the
/// administrator may change (`net.ipv6.bindv6only`).
pub(super) fn include_v4(_socket: &Socket) {}

/// Makes `socket` writable only while fewer than `limit` bytes of its output are unsent
/// (tcp(7), `TCP_NOTSENT_LOWAT`). Returns `false` if that fails, as for a Unix socket.
pub(super) fn set_unsent_limit(socket: &Socket, limit: u32) -> bool {
    socket.set_tcp_notsent_lowat(limit).is_ok()
}

/// Receives one datagram. Returns its length, which may exceed that of `buffer`, and the
/// sender.
pub(super) fn receive(socket: &Socket, buffer: &mut [u8]) -> io::Result<(usize, Address)> {
    // TRUNC reports the whole length of a datagram longer than the buffer.
    let (_, len, from) = rustix::net::recvfrom(socket, buffer, RecvFlags::TRUNC)?;
    Ok((len, from_rustix_addr(from)))
}
