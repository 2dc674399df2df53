//! [`Address`]: where a socket is, on the network or in the file system.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use socket2::SockAddr;

/// The address of a socket.
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
pub enum Address {
    /// IPv4 or IPv6, with the port.
    Inet(SocketAddr),
    /// A Unix socket: its path, where it has one.
    Unix(Option<PathBuf>),
}

impl Address {
    /// The IP address and port, unless it is a Unix socket.
    pub fn as_inet(&self) -> Option<SocketAddr> {
        match self {
            Address::Inet(addr) => Some(*addr),
            Address::Unix(_) => None,
        }
    }
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
        }
    }
}
