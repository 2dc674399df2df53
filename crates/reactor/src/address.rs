//! [`Address`]: where a socket is, on the network or in the file system.

use std::fmt;
use std::io;
use std::net::{SocketAddr, SocketAddrV4, ToSocketAddrs};
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};

use socket2::SockAddr;

/// The address of a channel's end.
///
/// ```
/// use std::path::PathBuf;
/// use reactor::Address;
///
/// let tcp = Address::Inet("127.0.0.1:9999".parse().unwrap());
/// assert_eq!(tcp.to_string(), "127.0.0.1:9999");
/// let unix = Address::Unix(Some(PathBuf::from("/run/echo")));
/// assert_eq!(unix.to_string(), "unix:/run/echo");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Address {
    /// IPv4 or IPv6, with the port.
    Inet(SocketAddr),
    /// A Unix socket: its path, where it has one.
    Unix(Option<PathBuf>),
    /// A host and port whose address is not known yet.
    Host(Box<str>),
    /// A pipe, a terminal or a file, which has no address: its descriptor.
    Descriptor(RawFd),
}

impl Address {
    /// The IP address and port, if it has one.
    pub fn as_inet(&self) -> Option<SocketAddr> {
        match self {
            Address::Inet(addr) => Some(*addr),
            Address::Unix(_) | Address::Host(_) | Address::Descriptor(_) => None,
        }
    }
}

/// An [`Address`] in less room, where it is an IPv4 one, as most are: a server
/// holds one for each of its peers.
pub(crate) enum CompactAddress {
    V4(SocketAddrV4),
    Other(Box<Address>),
}

impl CompactAddress {
    pub(crate) fn expand(&self) -> Address {
        match self {
            CompactAddress::V4(addr) => Address::Inet((*addr).into()),
            CompactAddress::Other(addr) => (**addr).clone(),
        }
    }
}

impl From<Address> for CompactAddress {
    fn from(addr: Address) -> Self {
        match addr {
            Address::Inet(SocketAddr::V4(addr)) => CompactAddress::V4(addr),
            addr => CompactAddress::Other(Box::new(addr)),
        }
    }
}

/// What `open` makes of the first of `addrs` that it makes something of. Fails
/// with the error for the last one, which names it.
pub(crate) fn first_of<T>(
    addrs: impl ToSocketAddrs,
    open: impl Fn(SocketAddr) -> io::Result<T>,
) -> io::Result<T> {
    let mut last = io::Error::new(io::ErrorKind::InvalidInput, "no address is given");
    for addr in addrs.to_socket_addrs()? {
        match open(addr) {
            Ok(opened) => return Ok(opened),
            Err(error) => last = io::Error::new(error.kind(), format!("{addr}: {error}")),
        }
    }
    Err(last)
}

impl From<SockAddr> for Address {
    fn from(addr: SockAddr) -> Self {
        match addr.as_socket() {
            Some(addr) => Address::Inet(addr),
            None => Address::Unix(addr.as_pathname().map(Path::to_path_buf)),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Inet(addr) => write!(f, "{addr}"),
            Address::Unix(Some(path)) => write!(f, "unix:{}", path.display()),
            Address::Unix(None) => f.write_str("unix:unnamed"),
            Address::Host(name) => f.write_str(name),
            Address::Descriptor(fd) => write!(f, "descriptor {fd}"),
        }
    }
}
