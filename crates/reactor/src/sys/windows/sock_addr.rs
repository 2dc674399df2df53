//! Conversions between [`Address`] and the system's addresses, on Windows.

use std::io::{self, ErrorKind};

use socket2::SockAddr;

use crate::address::Address;

/// Converts an address for the system.
///
/// # Errors
///
/// Returns `InvalidInput` for one that nothing can be sent to.
pub(super) fn to_sock_addr(addr: &Address) -> io::Result<SockAddr> {
    match addr.as_inet() {
        Some(addr) => Ok(addr.into()),
        None => Err(io::Error::new(ErrorKind::InvalidInput, format!("cannot send to {addr}"))),
    }
}

impl From<SockAddr> for Address {
    fn from(addr: SockAddr) -> Self {
        addr.as_socket().map_or(Address::Unknown, Address::from)
    }
}
