//! Socket calls in which systems differ, as Linux and Android have them.

use std::io;

use rustix::net::{RecvFlags, SendFlags, SocketAddrAny, SocketFlags};
use socket2::{SockAddr, Socket};

/// Write without SIGPIPE, even if the program does not ignore that signal.
pub(super) const SEND_FLAGS: SendFlags = SendFlags::NOSIGNAL;

/// Suppresses SIGPIPE where [`SEND_FLAGS`] cannot.
pub(super) fn suppress_sigpipe(_socket: &Socket) {}

/// Accepts a connection. Its socket is in non-blocking mode.
pub(super) fn accept(listening: &Socket) -> io::Result<(Socket, SockAddr)> {
    // One system call instead of three.
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    listening.accept4(flags.bits().cast_signed())
}

/// Lets other sockets listen on the same address. The kernel distributes the connections
/// among them.
pub(super) fn set_reuse_port(socket: &Socket, reuse: bool) -> io::Result<()> {
    socket.set_reuse_port(reuse)
}

/// Makes `socket` writable only while fewer than `limit` bytes of its output are unsent
/// (tcp(7), `TCP_NOTSENT_LOWAT`). Returns `false` if that fails, as for a Unix socket.
pub(super) fn set_unsent_limit(socket: &Socket, limit: u32) -> bool {
    socket.set_tcp_notsent_lowat(limit).is_ok()
}

/// Receives one datagram. Returns its length, which may exceed that of `buffer`, and the
/// sender.
pub(super) fn receive(
    socket: &Socket,
    buffer: &mut [u8],
) -> io::Result<(usize, Option<SocketAddrAny>)> {
    // TRUNC reports the whole length of a datagram longer than the buffer.
    let (_, len, from) = rustix::net::recvfrom(socket, buffer, RecvFlags::TRUNC)?;
    Ok((len, from))
}
