//! accept(2), and the classes of its errors.

use std::io;

use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

use crate::address::Address;
use crate::sys::socket::Socket;

impl Socket {
    /// Accepts one connection. Returns its socket, in non-blocking mode, and the
    /// peer's address.
    pub(crate) fn accept(&self) -> io::Result<(Socket, Address)> {
        #[cfg(target_os = "linux")]
        let (socket, peer) = {
            use rustix::net::SocketFlags;
            // One system call instead of three.
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            self.inner().accept4(flags.bits().cast_signed())?
        };
        #[cfg(not(target_os = "linux"))]
        let (socket, peer) = {
            let (socket, peer) = self.inner().accept()?;
            socket.set_nonblocking(true)?;
            (socket, peer)
        };
        Ok((Socket::from_nonblocking(socket), Address::from(peer)))
    }
}

/// The class of an error of accept(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AcceptError {
    /// No connection is pending.
    WouldBlock,
    /// This connection failed; accepting can continue.
    Connection,
    /// Descriptors or memory are exhausted at the moment.
    ResourceExhausted,
    /// The listening socket itself is broken.
    Fatal,
}

impl AcceptError {
    pub(crate) fn classify(error: &io::Error) -> Self {
        match Errno::from_io_error(error) {
            Some(Errno::AGAIN) => AcceptError::WouldBlock,
            Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                AcceptError::ResourceExhausted
            }
            // accept(2), "Error handling": pending network errors of the new
            // socket are to be treated like EAGAIN. A firewall causes EPERM.
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

/// Returns what to add to the message of `error` if a descriptor limit caused it.
pub(crate) fn fd_limit_hint(error: &io::Error) -> String {
    let limit = getrlimit(Resource::Nofile).current;
    match (Errno::from_io_error(error), limit) {
        (Some(Errno::MFILE), Some(limit)) => format!("; the limit is {limit}, see ulimit -n"),
        _ => String::new(),
    }
}
