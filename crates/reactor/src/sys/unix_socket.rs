//! Unix sockets: connecting to a path, and what a [`SocketPath`](super::socket_path) binds.

use std::io;
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Type};

use crate::address::Address;
use crate::sys::datagram_socket::DatagramSocket;
use crate::sys::either::Socket as AnySocket;
use crate::sys::socket::Socket;
use crate::sys::socket_options::SocketOptions;
use crate::sys::unix_address::{path_address, unix_sock_addr};

/// A Unix socket to connect to.
#[derive(Clone, Debug)]
pub(crate) struct UnixTarget(PathBuf);

impl UnixTarget {
    pub(crate) fn new(path: &Path) -> Self {
        UnixTarget(path.to_path_buf())
    }

    pub(crate) fn address(&self) -> Address {
        path_address(&self.0)
    }

    /// Starts to connect.
    pub(crate) fn connect(&self, options: &SocketOptions) -> io::Result<AnySocket> {
        AnySocket::connect_unix(&self.0, options)
    }
}

impl Socket {
    /// Starts to connect to the Unix socket at `path`.
    pub(crate) fn connect_unix(path: &Path, options: &SocketOptions) -> io::Result<Self> {
        let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM, None)?;
        options.set_on(&socket, Domain::UNIX)?;
        Self::start_connect(socket, &unix_sock_addr(path)?)
    }

    /// Binds a Unix socket to `addr`. It does not listen yet.
    pub(super) fn bind_unix(addr: &SockAddr) -> io::Result<Self> {
        let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.bind(addr)?;
        Ok(Self::from_nonblocking(socket))
    }
}

impl DatagramSocket {
    /// Binds a Unix datagram socket to `addr`.
    pub(super) fn bind_unix(addr: &SockAddr) -> io::Result<Self> {
        let socket = socket2::Socket::new(Domain::UNIX, Type::DGRAM, None)?;
        socket.bind(addr)?;
        Self::from_socket(socket)
    }
}
