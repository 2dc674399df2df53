//! [`Destination`]: where a datagram was sent.

use std::net::IpAddr;

/// Where a datagram was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Destination {
    /// The address in the datagram: perhaps a broadcast or multicast address.
    pub(crate) addr: IpAddr,
    /// The address of this machine from which to reply; `None` for the system's choice.
    pub(crate) reply_from: Option<IpAddr>,
}
