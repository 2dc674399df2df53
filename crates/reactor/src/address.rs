//! [`Address`]: a network address, or a path in the file system.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV4, ToSocketAddrs};
use std::path::PathBuf;

/// The address of one end of a channel.
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
    /// A Unix socket: its path, or `None` for an unnamed socket. Not on Windows.
    Unix(Option<PathBuf>),
    /// A Unix socket in Linux's abstract namespace: its name, without the leading zero
    /// byte. It is shown as `unix:@name`.
    Abstract(Box<[u8]>),
    /// A host name and port that are not resolved yet.
    Host(Box<str>),
    /// A pipe, a terminal or a file, identified by its descriptor. Not on Windows.
    Descriptor(i32),
    /// The system does not tell, for example because the peer has disconnected.
    Unknown,
}

impl Address {
    /// Returns the IP address and port, or `None` for other kinds of address.
    pub fn as_inet(&self) -> Option<SocketAddr> {
        match self {
            Address::Inet(addr) => Some(*addr),
            Address::Unix(_)
            | Address::Abstract(_)
            | Address::Host(_)
            | Address::Descriptor(_)
            | Address::Unknown => None,
        }
    }
}

/// IPv4 peers of an IPv6 socket are shown as IPv4: `192.0.2.1:80`, not
/// `[::ffff:192.0.2.1]:80`.
impl From<SocketAddr> for Address {
    fn from(mut addr: SocketAddr) -> Self {
        if let IpAddr::V4(ip) = addr.ip().to_canonical() {
            addr = (ip, addr.port()).into();
        }
        Address::Inet(addr)
    }
}

/// An [`Address`] in 16 bytes: a server holds one for each peer, and most are
/// IPv4.
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

/// Calls `open` with one of `addrs` after another and returns its first success.
///
/// # Errors
///
/// Returns the error for the last address, which names it.
pub(crate) fn try_each_addr<T>(
    addrs: impl ToSocketAddrs,
    open: impl Fn(SocketAddr) -> io::Result<T>,
) -> io::Result<T> {
    let mut last = io::Error::new(io::ErrorKind::InvalidInput, "no address given");
    for addr in addrs.to_socket_addrs()? {
        match open(addr) {
            Ok(opened) => return Ok(opened),
            Err(error) => last = io::Error::new(error.kind(), format!("{addr}: {error}")),
        }
    }
    Err(last)
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Inet(addr) => write!(f, "{addr}"),
            Address::Unix(Some(path)) => write!(f, "unix:{}", path.display()),
            Address::Abstract(name) => {
                write!(f, "unix:@{}", String::from_utf8_lossy(name).escape_debug())
            }
            Address::Unix(None) => f.write_str("unix:unnamed"),
            Address::Host(name) => f.write_str(name),
            Address::Descriptor(fd) => write!(f, "descriptor {fd}"),
            Address::Unknown => f.write_str("unknown address"),
        }
    }
}
