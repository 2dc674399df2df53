//! [`DatagramSocket`]: a UDP or Unix datagram socket.

use std::ffi::OsStr;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::net::{RecvFlags, SocketAddrAny};
use socket2::{Domain, SockAddr, SockRef, Type};

use crate::address::Address;
use crate::sys::source::Source;

/// A datagram that was received.
pub(crate) struct Received {
    /// Its length in bytes, which may exceed that of the buffer.
    pub(crate) len: usize,
    pub(crate) from: Address,
}

/// A datagram socket in non-blocking mode.
pub(crate) struct DatagramSocket(socket2::Socket);

impl DatagramSocket {
    /// Takes over an open socket: sets it to non-blocking mode, and to be closed by
    /// execve(2), as an inherited one is not.
    pub(crate) fn from_owned(socket: OwnedFd) -> io::Result<Self> {
        let socket = socket2::Socket::from(socket);
        socket.set_cloexec(true)?;
        Self::from_socket(socket)
    }

    fn from_socket(socket: socket2::Socket) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(DatagramSocket(socket))
    }

    pub(crate) fn bind(addr: SocketAddr) -> io::Result<Self> {
        let socket = socket2::Socket::new(Domain::for_address(addr), Type::DGRAM, None)?;
        socket.bind(&addr.into())?;
        Self::from_socket(socket)
    }

    pub(super) fn bind_unix(addr: &SockAddr) -> io::Result<Self> {
        let socket = socket2::Socket::new(Domain::UNIX, Type::DGRAM, None)?;
        socket.bind(addr)?;
        Self::from_socket(socket)
    }

    /// Binds to a free port and connects to `addr`.
    pub(crate) fn connect(addr: SocketAddr) -> io::Result<Self> {
        let any: SocketAddr = match addr {
            SocketAddr::V4(_) => ([0; 4], 0).into(),
            SocketAddr::V6(_) => ([0; 16], 0).into(),
        };
        let socket = Self::bind(any)?;
        socket.0.connect(&addr.into())?;
        Ok(socket)
    }

    /// Receives one datagram into `buffer`.
    pub(crate) fn receive(&self, buffer: &mut [u8]) -> io::Result<Received> {
        // TRUNC reports the whole length of a datagram longer than the buffer.
        let (_, len, from) = rustix::net::recvfrom(&self.0, buffer, RecvFlags::TRUNC)?;
        Ok(Received { len, from: from.map_or(Address::Unix(None), from_rustix_addr) })
    }

    /// Sends `data` to the connected peer.
    pub(crate) fn send(&self, data: &[u8]) -> io::Result<()> {
        self.0.send(data).map(drop)
    }

    /// Sends `data` to `to`.
    pub(crate) fn send_to(&self, data: &[u8], to: &Address) -> io::Result<()> {
        let to = match to {
            Address::Inet(addr) => (*addr).into(),
            Address::Unix(Some(path)) => SockAddr::unix(path)?,
            Address::Unix(None) | Address::Host(_) | Address::Descriptor(_) => {
                let message = format!("cannot send to {to}");
                return Err(io::Error::new(ErrorKind::InvalidInput, message));
            }
        };
        self.0.send_to(data, &to).map(drop)
    }

    pub(crate) fn local_addr(&self) -> io::Result<Address> {
        self.0.local_addr().map(Address::from)
    }

    /// Returns a reference on which socket options can be read and set.
    pub(crate) fn options(&self) -> SockRef<'_> {
        SockRef::from(&self.0)
    }

    pub(crate) fn source(&self) -> Source<'_> {
        Source::from(&self.0)
    }
}

/// Returns `true` if `error` is an ICMP message about an earlier datagram, which
/// the next call on the socket reports: udp(7), "Error handling".
pub(crate) fn is_deferred_icmp_error(error: &io::Error) -> bool {
    use ErrorKind::{ConnectionRefused, HostUnreachable, NetworkDown, NetworkUnreachable};
    matches!(error.kind(), ConnectionRefused | HostUnreachable | NetworkUnreachable | NetworkDown)
}

fn from_rustix_addr(addr: SocketAddrAny) -> Address {
    if let Ok(addr) = SocketAddr::try_from(addr.clone()) {
        return Address::Inet(addr);
    }
    let unix = rustix::net::SocketAddrUnix::try_from(addr).ok();
    let path = unix.as_ref().and_then(|unix| unix.path_bytes());
    Address::Unix(path.map(|path| Path::new(OsStr::from_bytes(path)).to_path_buf()))
}
