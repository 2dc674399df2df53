//! Membership of a datagram socket in multicast groups.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};

use socket2::{Domain, Type};

use crate::sys::datagram_socket::DatagramSocket;

impl DatagramSocket {
    /// Binds a socket to `group`, so that it receives nothing else, and joins it.
    pub(crate) fn bind_multicast(group: SocketAddr, interface: u32) -> io::Result<Self> {
        check_group(group.ip())?;
        let socket = socket2::Socket::new(Domain::for_address(group), Type::DGRAM, None)?;
        // Each program of this machine that joined the group receives its datagrams. Linux
        // and illumos need this option for that, the BSDs and macOS the other one.
        socket.set_reuse_address(true)?;
        #[cfg(all(
            unix,
            not(any(target_os = "linux", target_os = "android", target_os = "illumos"))
        ))]
        socket.set_reuse_port(true)?;
        socket.bind(&bind_addr(with_scope(group, interface)).into())?;
        let socket = Self::from_socket(socket)?;
        socket.join_multicast(group.ip(), interface)?;
        Ok(socket)
    }

    pub(crate) fn join_multicast(&self, group: IpAddr, interface: u32) -> io::Result<()> {
        check_group(group)?;
        let result = match group {
            IpAddr::V4(group) if interface == 0 => {
                self.inner().join_multicast_v4(&group, &std::net::Ipv4Addr::UNSPECIFIED)
            }
            IpAddr::V4(group) => self.join_v4(group, interface),
            IpAddr::V6(group) => self.inner().join_multicast_v6(&group, interface),
        };
        result.map_err(|error| named("join", group, &error))
    }

    pub(crate) fn leave_multicast(&self, group: IpAddr, interface: u32) -> io::Result<()> {
        check_group(group)?;
        let result = match group {
            IpAddr::V4(group) if interface == 0 => {
                self.inner().leave_multicast_v4(&group, &std::net::Ipv4Addr::UNSPECIFIED)
            }
            IpAddr::V4(group) => self.leave_v4(group, interface),
            IpAddr::V6(group) => self.inner().leave_multicast_v6(&group, interface),
        };
        result.map_err(|error| named("leave", group, &error))
    }
}

/// Returns the address to which a socket for `group` is bound.
fn bind_addr(group: SocketAddr) -> SocketAddr {
    // Windows refuses to bind a group.
    #[cfg(windows)]
    return match group {
        SocketAddr::V4(_) => (std::net::Ipv4Addr::UNSPECIFIED, group.port()).into(),
        SocketAddr::V6(_) => (std::net::Ipv6Addr::UNSPECIFIED, group.port()).into(),
    };
    #[cfg(unix)]
    group
}

#[cfg(not(any(target_os = "netbsd", target_os = "openbsd", target_os = "illumos")))]
mod by_index {
    use std::io;
    use std::net::Ipv4Addr;

    use socket2::InterfaceIndexOrAddress;

    use super::DatagramSocket;

    impl DatagramSocket {
        pub(super) fn join_v4(&self, group: Ipv4Addr, interface: u32) -> io::Result<()> {
            let interface = InterfaceIndexOrAddress::Index(interface);
            self.inner().join_multicast_v4_n(&group, &interface)
        }

        pub(super) fn leave_v4(&self, group: Ipv4Addr, interface: u32) -> io::Result<()> {
            let interface = InterfaceIndexOrAddress::Index(interface);
            self.inner().leave_multicast_v4_n(&group, &interface)
        }
    }
}

#[cfg(any(target_os = "netbsd", target_os = "openbsd", target_os = "illumos"))]
mod by_index {
    use std::io::{self, ErrorKind};
    use std::net::Ipv4Addr;

    use super::DatagramSocket;

    impl DatagramSocket {
        #[expect(clippy::unused_self, reason = "other systems need it")]
        pub(super) fn join_v4(&self, _group: Ipv4Addr, _interface: u32) -> io::Result<()> {
            let message = "this system selects the interface by its address";
            Err(io::Error::new(ErrorKind::Unsupported, message))
        }

        pub(super) fn leave_v4(&self, group: Ipv4Addr, interface: u32) -> io::Result<()> {
            self.join_v4(group, interface)
        }
    }
}

/// An IPv6 group may exist on several interfaces (RFC 4007): the address names one.
fn with_scope(group: SocketAddr, interface: u32) -> SocketAddr {
    match group {
        SocketAddr::V6(mut group) if group.scope_id() == 0 => {
            group.set_scope_id(interface);
            group.into()
        }
        group => group,
    }
}

fn check_group(group: IpAddr) -> io::Result<()> {
    if group.is_multicast() {
        return Ok(());
    }
    let message = format!("{group} is no multicast address");
    Err(io::Error::new(ErrorKind::InvalidInput, message))
}

fn named(what: &str, group: IpAddr, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot {what} the group {group}: {error}"))
}
