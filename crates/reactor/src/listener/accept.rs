//! accept(2), and what its errors mean.

use std::io;

use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};
use socket2::{SockAddr, Socket};

/// Accepts one connection, in non-blocking mode.
pub(crate) fn accept(socket: &Socket) -> io::Result<(Socket, SockAddr)> {
    #[cfg(target_os = "linux")]
    {
        use rustix::net::SocketFlags;
        // One system call in place of three.
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        socket.accept4(flags.bits().cast_signed())
    }
    #[cfg(not(target_os = "linux"))]
    {
        let (socket, peer) = socket.accept()?;
        socket.set_nonblocking(true)?;
        Ok((socket, peer))
    }
}

/// The limit that `error` speaks of, to be named with it, if it is known.
pub(crate) fn limit_met(error: &io::Error) -> String {
    let limit = getrlimit(Resource::Nofile).current;
    match (Errno::from_io_error(error), limit) {
        (Some(Errno::MFILE), Some(limit)) => format!("; the limit is {limit}, see ulimit -n"),
        _ => String::new(),
    }
}

/// What an error of accept(2) means for the listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AcceptError {
    /// Nothing waits.
    Empty,
    /// One connection is lost; the next may be well.
    Connection,
    /// Descriptors or memory are used up, for the moment.
    Shortage,
    /// The listening socket itself is at fault.
    Fatal,
}

impl AcceptError {
    pub(crate) fn of(error: &io::Error) -> Self {
        match Errno::from_io_error(error) {
            Some(Errno::AGAIN) => AcceptError::Empty,
            Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                AcceptError::Shortage
            }
            // accept(2), "Error handling": network errors that wait on the
            // new socket are to be treated like EAGAIN by retrying. EPERM is
            // a firewall's.
            Some(
                Errno::INTR
                | Errno::CONNABORTED
                | Errno::PERM
                | Errno::NETDOWN
                | Errno::PROTO
                | Errno::NOPROTOOPT
                | Errno::HOSTDOWN
                | Errno::HOSTUNREACH
                | Errno::OPNOTSUPP
                | Errno::NETUNREACH,
            ) => AcceptError::Connection,
            #[cfg(target_os = "linux")]
            Some(Errno::NONET) => AcceptError::Connection,
            _ => AcceptError::Fatal,
        }
    }
}
