//! Conversions between [`Address`] and the system's addresses.

use std::ffi::OsString;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use rustix::net::{SocketAddrAny, SocketAddrUnix};
use socket2::SockAddr;

use crate::address::Address;
use crate::sys::unix_address::{unix_address, unix_sock_addr};

/// Converts an address for the system.
///
/// # Errors
///
/// Returns `InvalidInput` for one that nothing can be sent to.
pub(super) fn to_sock_addr(addr: &Address) -> io::Result<SockAddr> {
    match addr {
        Address::Inet(addr) => Ok((*addr).into()),
        Address::Unix(Some(path)) => unix_sock_addr(path),
        Address::Abstract(name) => {
            let path = OsString::from_vec([&[0], &**name].concat());
            unix_sock_addr(path.as_ref())
        }
        Address::Unix(None) | Address::Host(_) | Address::Descriptor(_) | Address::Unknown => {
            Err(io::Error::new(ErrorKind::InvalidInput, format!("cannot send to {addr}")))
        }
    }
}

/// Converts the sender of a datagram; `None` if the socket has no name.
pub(super) fn from_rustix_addr(addr: Option<SocketAddrAny>) -> Address {
    let Some(addr) = addr else { return Address::Unix(None) };
    if let Ok(addr) = SocketAddr::try_from(addr.clone()) {
        return Address::from(addr);
    }
    let Ok(unix) = SocketAddrUnix::try_from(addr) else { return Address::Unknown };
    #[cfg(target_os = "linux")]
    if let Some(name) = unix.abstract_name() {
        return Address::Abstract(name.into());
    }
    unix.path_bytes().map_or(Address::Unix(None), unix_address)
}

impl From<SockAddr> for Address {
    fn from(addr: SockAddr) -> Self {
        if let Some(addr) = addr.as_socket() {
            return Address::from(addr);
        }
        #[cfg(any(target_os = "linux", target_os = "android"))]
        if let Some(name) = addr.as_abstract_namespace() {
            return Address::Abstract(name.into());
        }
        Address::Unix(addr.as_pathname().map(Path::to_path_buf))
    }
}
