//! [`DatagramSocket`]: a UDP or Unix datagram socket.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};

use rustix::io::Errno;
use socket2::{Domain, SockRef, Type};

use crate::address::Address;
use crate::sys::descriptor::OwnedDescriptor;
use crate::sys::destination::Destination;
use crate::sys::error_queue;
use crate::sys::packet_info;
use crate::sys::sock_addr::to_sock_addr;
use crate::sys::socket_calls;
use crate::sys::source::Source;

/// Room for the control messages of a datagram, also for those of options that the
/// program sets.
const CONTROL_SIZE: usize = 256;

/// A datagram that was received.
pub(crate) struct Received {
    /// Its length in bytes, or a number greater than the length of the buffer if it did
    /// not fit.
    pub(crate) len: usize,
    pub(crate) from: Address,
    /// `None` if the socket is not bound to a wildcard, or the system does not report it.
    pub(crate) to: Option<Destination>,
}

/// A datagram socket in non-blocking mode.
pub(crate) struct DatagramSocket {
    inner: socket2::Socket,
    is_v6: bool,
    /// The buffer for control messages; empty if the kernel does not report where a
    /// datagram was sent.
    control: Box<[u8]>,
}

impl DatagramSocket {
    /// Takes over an open socket: sets it to non-blocking mode, and no program that is
    /// started inherits it.
    ///
    /// # Errors
    ///
    /// Returns `InvalidInput` if it is not a socket for datagrams: one that has connections
    /// has an end of input, which a datagram of length 0 is not.
    pub(crate) fn from_owned(socket: OwnedDescriptor) -> io::Result<Self> {
        let socket = socket2::Socket::from(socket);
        if ![Type::DGRAM, Type::RAW].contains(&socket.r#type()?) {
            let message = "the socket is not for datagrams";
            return Err(io::Error::new(ErrorKind::InvalidInput, message));
        }
        socket_calls::take_over(&socket)?;
        Self::from_socket(socket)
    }

    pub(super) fn from_socket(socket: socket2::Socket) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let local = socket.local_addr()?.as_socket();
        let is_v6 = local.is_some_and(|local| local.is_ipv6());
        let is_wildcard = local.is_some_and(|local| local.ip().is_unspecified());
        let reports = is_wildcard && packet_info::enable(&socket, is_v6);
        let control = vec![0; if reports { CONTROL_SIZE } else { 0 }].into_boxed_slice();
        Ok(DatagramSocket { inner: socket, is_v6, control })
    }

    pub(crate) fn bind(addr: SocketAddr) -> io::Result<Self> {
        let socket = socket2::Socket::new(Domain::for_address(addr), Type::DGRAM, None)?;
        if addr.is_ipv6() {
            socket_calls::include_v4(&socket);
        }
        socket.bind(&addr.into())?;
        Self::from_socket(socket)
    }

    /// Connects to `addr`, from a free port.
    pub(crate) fn connect(addr: SocketAddr) -> io::Result<Self> {
        let socket = socket2::Socket::new(Domain::for_address(addr), Type::DGRAM, None)?;
        socket.connect(&addr.into())?;
        Self::from_socket(socket)
    }

    /// Receives one datagram into `buffer`.
    pub(crate) fn receive(&mut self, buffer: &mut [u8]) -> io::Result<Received> {
        if !self.control.is_empty() {
            return self.receive_with_destination(buffer);
        }
        let (len, from) = socket_calls::receive(&self.inner, buffer)?;
        Ok(Received { len, from, to: None })
    }

    fn receive_with_destination(&mut self, buffer: &mut [u8]) -> io::Result<Received> {
        let (len, from, to) = packet_info::receive(&self.inner, buffer, &mut self.control)?;
        Ok(Received { len, from: from.map_or(Address::Unknown, Address::from), to })
    }

    /// Discards the entries of its queue of errors, and returns how many.
    pub(crate) fn discard_queued_errors(&self) -> usize {
        error_queue::discard(&self.inner)
    }

    /// Sends `data` to the connected peer.
    pub(crate) fn send(&self, data: &[u8]) -> io::Result<()> {
        self.inner.send(data).map(drop)
    }

    /// Sends `data` to `to`.
    pub(crate) fn send_to(&self, data: &[u8], to: &Address) -> io::Result<()> {
        let to = match to {
            Address::Inet(addr) => self.to_own_family(*addr).into(),
            to => to_sock_addr(to)?,
        };
        self.inner.send_to(data, &to).map(drop)
    }

    /// Sends `data` to `to`, with the address `from` of this machine as its source.
    pub(crate) fn send_from(&self, data: &[u8], to: SocketAddr, from: IpAddr) -> io::Result<()> {
        packet_info::send(&self.inner, data, self.to_own_family(to), from, self.is_v6)
    }

    /// An IPv6 socket that also serves IPv4 takes such addresses in their mapped form.
    fn to_own_family(&self, addr: SocketAddr) -> SocketAddr {
        match addr {
            SocketAddr::V4(addr) if self.is_v6 => (addr.ip().to_ipv6_mapped(), addr.port()).into(),
            addr => addr,
        }
    }

    pub(crate) fn local_addr(&self) -> io::Result<Address> {
        self.inner.local_addr().map(Address::from)
    }

    pub(super) fn inner(&self) -> &socket2::Socket {
        &self.inner
    }

    /// Returns a reference on which socket options can be read and set.
    pub(crate) fn options(&self) -> SockRef<'_> {
        SockRef::from(&self.inner)
    }

    pub(crate) fn source(&self) -> Source<'_> {
        Source::from(&self.inner)
    }
}

/// The class of an error of a datagram socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DatagramError {
    /// Nothing is pending, or there is no room.
    WouldBlock,
    /// A signal arrived.
    Interrupted,
    /// Perhaps an ICMP message about an earlier datagram, which the next call on the
    /// socket reports: ip(7) and udp(7), "Errors". It may also concern this call.
    Icmp,
    /// It fails at the moment, and may work later.
    Transient,
    /// The socket itself is broken.
    Fatal,
}

impl DatagramError {
    pub(crate) fn classify(error: &io::Error) -> Self {
        match Errno::from_io_error(error) {
            Some(Errno::AGAIN) => DatagramError::WouldBlock,
            Some(Errno::INTR) => DatagramError::Interrupted,
            Some(
                Errno::CONNREFUSED
                | Errno::CONNRESET
                | Errno::HOSTUNREACH
                | Errno::NETUNREACH
                | Errno::HOSTDOWN
                | Errno::NETDOWN
                | Errno::NOPROTOOPT
                | Errno::ACCESS
                | Errno::MSGSIZE
                | Errno::OPNOTSUPP
                | Errno::TIMEDOUT,
            ) => DatagramError::Icmp,
            Some(errno) if socket_calls::OTHER_ICMP_ERRORS.contains(&errno) => DatagramError::Icmp,
            Some(Errno::BADF | Errno::INVAL | Errno::NOTSOCK | Errno::FAULT) => {
                DatagramError::Fatal
            }
            _ => DatagramError::Transient,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// On Windows, that is how the next call reports an unreachable port.
    #[test]
    fn reset_is_about_an_earlier_datagram() {
        let error = io::Error::from(Errno::CONNRESET);
        assert_eq!(DatagramError::classify(&error), DatagramError::Icmp);
    }

    /// All error numbers.
    #[test]
    fn only_errors_of_the_socket_itself_are_fatal() {
        // Those of Winsock start at 10,000.
        let errnos = if cfg!(windows) { 10_000..=11_999 } else { 1..=200 };
        for errno in errnos {
            let error = io::Error::from_raw_os_error(errno);
            let is_fatal = DatagramError::classify(&error) == DatagramError::Fatal;
            let socket_is_broken = matches!(
                Errno::from_raw_os_error(errno),
                Errno::BADF | Errno::INVAL | Errno::NOTSOCK | Errno::FAULT
            );
            assert_eq!(is_fatal, socket_is_broken, "{errno}: {error}");
        }
    }
}
