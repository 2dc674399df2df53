//! [`Socket`]: a stream socket, TCP or Unix, connected or listening.

use std::io;
use std::net::{Shutdown, SocketAddr};
use std::time::Duration;

use rustix::event::PollFlags;
use rustix::fd::AsFd;
use rustix::io::Errno;
use rustix::net::RecvFlags;
use socket2::{Domain, SockAddr, Type};

use crate::address::Address;
use crate::sys::descriptor::OwnedDescriptor;
use crate::sys::error_queue;
use crate::sys::socket_calls;
use crate::sys::socket_options::SocketOptions;
use crate::sys::source::{Source, poll_now};

pub use socket2::SockRef;

/// The queue of connections not yet accepted. The system may limit it further
/// (`net.core.somaxconn`). With std's 128, most of a burst of 1,000 is lost.
const BACKLOG: i32 = 4096;

/// The largest send queue that is measured, above any limit of a system
/// (`net.ipv4.tcp_wmem`).
const MAX_MEASURED_QUEUE: u32 = 1 << 30;

/// A change of a send queue by less is not seen.
const MEASURE_PRECISION: u32 = 64;

/// How many ports are tried that may be in use with the same peer already.
const MAX_SHARED_PORT_ATTEMPTS: usize = 16;

/// How much of what was written the kernel still holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SendQueue {
    /// All of it has left this machine.
    Empty,
    /// Some of it is unsent; the socket is writable once all is sent.
    Unsent,
    /// The system cannot tell.
    Unknown,
}

/// How to listen on an address.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ListenOptions {
    /// Other sockets may listen on it too.
    pub(crate) reuse_port: bool,
    /// `[::]` does not include IPv4.
    pub(crate) only_v6: bool,
}

/// A stream socket in non-blocking mode.
#[derive(Debug)]
pub(crate) struct Socket(socket2::Socket);

impl Socket {
    /// Takes over an open socket: sets it to non-blocking mode, and no program that is
    /// started inherits it.
    pub(crate) fn from_owned(socket: OwnedDescriptor) -> io::Result<Self> {
        let socket = socket2::Socket::from(socket);
        socket_calls::take_over(&socket)?;
        socket.set_nonblocking(true)?;
        let socket = Socket(socket);
        socket.set_nodelay();
        Ok(socket)
    }

    /// Makes small messages be sent at once.
    pub(crate) fn set_nodelay(&self) {
        // It fails for Unix sockets, which always do that.
        let _ = self.0.set_tcp_nodelay(true);
    }

    pub(super) fn from_nonblocking(socket: socket2::Socket) -> Self {
        Socket(socket)
    }

    /// Starts to connect to `addr`, from the local address `from` if there is one.
    pub(crate) fn connect(
        addr: SocketAddr,
        from: Option<SocketAddr>,
        options: &SocketOptions,
    ) -> io::Result<Self> {
        let Some(from) = from else { return Self::connect_bound(addr, None, options) };
        if from.port() != 0 {
            return Self::connect_bound(addr, Some((from, true)), options);
        }
        // The kernel selects a port that is free for any peer. Once there is none, it
        // selects one that may be in use with another peer; with this peer, it fails.
        // (There is no safe wrapper for `IP_BIND_ADDRESS_NO_PORT`.)
        let mut result = Self::connect_bound(addr, Some((from, false)), options);
        for _ in 0..MAX_SHARED_PORT_ATTEMPTS {
            match &result {
                Err(error) if is_port_in_use(error) => {}
                _ => break,
            }
            result = Self::connect_bound(addr, Some((from, true)), options);
        }
        result
    }

    /// Starts to connect, from a local address if there is one; with `true`, earlier
    /// connections from the same port do not matter, unless they are to `addr` too.
    fn connect_bound(
        addr: SocketAddr,
        from: Option<(SocketAddr, bool)>,
        options: &SocketOptions,
    ) -> io::Result<Self> {
        let socket = socket2::Socket::new(Domain::for_address(addr), Type::STREAM, None)?;
        // Small messages are sent at once, as by accepted sockets.
        socket.set_tcp_nodelay(true)?;
        options.set_on(&socket, Domain::for_address(addr))?;
        if let Some((from, reuse)) = from {
            socket.set_reuse_address(reuse)?;
            socket.bind(&from.into())?;
        }
        Self::start_connect(socket, &addr.into())
    }

    /// Returns `true` if the connection is not established yet, or was never. A connection
    /// that was reset counts as established while there is input to be read.
    pub(crate) fn is_connecting(&self) -> bool {
        let is_unconnected = |error| Errno::from_io_error(&error) == Some(Errno::NOTCONN);
        self.0.peer_addr().is_err_and(is_unconnected)
            && rustix::io::ioctl_fionread(&self.0).is_ok_and(|pending| pending == 0)
    }

    pub(super) fn start_connect(socket: socket2::Socket, addr: &SockAddr) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        match socket.connect(addr) {
            Ok(()) => Ok(Socket(socket)),
            // The connection completes when the socket is writable.
            Err(error)
                if Errno::from_io_error(&error) == Some(socket_calls::CONNECT_IN_PROGRESS) =>
            {
                Ok(Socket(socket))
            }
            Err(error) => Err(error),
        }
    }

    /// Returns how an attempt to connect ended, once the socket is writable, and
    /// clears its error. A connection to itself counts as refused.
    ///
    /// # Errors
    ///
    /// Returns the socket's error, or `NotConnected` if the attempt continues.
    pub(crate) fn take_connect_result(&self) -> io::Result<()> {
        self.take_error()?;
        let peer = self.0.peer_addr()?.as_socket();
        // A dead port in the ephemeral range: the kernel chose it for our own end
        // and connected the socket to itself (simultaneous open, RFC 9293, 3.5).
        if peer.is_some() && peer == self.0.local_addr()?.as_socket() {
            return Err(Errno::CONNREFUSED.into());
        }
        Ok(())
    }

    /// Returns `true` if `error` reports a family of addresses that this system does not
    /// support.
    pub(crate) fn is_family_missing(error: &io::Error) -> bool {
        Errno::from_io_error(error) == Some(Errno::AFNOSUPPORT)
    }

    /// Listens on `addr`.
    ///
    /// # Errors
    ///
    /// Returns the socket's error, or `Unsupported` if the system lacks `reuse_port`.
    pub(crate) fn listen(addr: SocketAddr, options: ListenOptions) -> io::Result<Self> {
        let socket = socket2::Socket::new(Domain::for_address(addr), Type::STREAM, None)?;
        socket_calls::set_sharing(&socket, options.reuse_port)?;
        if addr.is_ipv6() {
            if options.only_v6 {
                socket.set_only_v6(true)?;
            } else {
                socket_calls::include_v4(&socket);
            }
        }
        // Accepted sockets inherit it: small replies are sent at once.
        socket.set_tcp_nodelay(true)?;
        socket.bind(&addr.into())?;
        let socket = Socket(socket);
        socket.start_listening()?;
        Ok(socket)
    }

    /// Listens on a socket that is bound.
    pub(super) fn start_listening(&self) -> io::Result<()> {
        self.0.listen(BACKLOG)?;
        self.0.set_nonblocking(true)
    }

    pub(super) fn inner(&self) -> &socket2::Socket {
        &self.0
    }

    /// Reads once. Returns the number of bytes, 0 at the end of input.
    #[inline(always)]
    pub(crate) fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match rustix::net::recv(&self.0, buffer, RecvFlags::empty()) {
            Ok((read, _)) => Ok(read),
            Err(errno) => Err(to_io_error(errno)),
        }
    }

    /// Writes once. Returns the number of bytes.
    #[inline(always)]
    pub(crate) fn write(&self, data: &[u8]) -> io::Result<usize> {
        match rustix::net::send(&self.0, data, socket_calls::SEND_FLAGS) {
            Ok(written) => Ok(written),
            Err(errno) => Err(to_io_error(errno)),
        }
    }

    /// Ends the write half: the peer reads all output, then the end.
    pub(crate) fn shutdown_write(&self) -> io::Result<()> {
        self.0.shutdown(Shutdown::Write)
    }

    /// Makes the socket end with a reset when it is dropped (socket(7), `SO_LINGER`), so
    /// that the peer cannot mistake truncated data for a complete message. Unix sockets
    /// have no reset.
    pub(crate) fn reset_on_drop(&self) {
        // A socket that does not accept it ends as it can.
        let _ = self.0.set_linger(Some(Duration::ZERO));
    }

    /// Clears the pending error and returns it as `Err`.
    pub(crate) fn take_error(&self) -> io::Result<()> {
        self.0.take_error()?.map_or(Ok(()), Err)
    }

    /// Discards the entries of its queue of errors.
    pub(crate) fn discard_queued_errors(&self) {
        error_queue::discard(&self.0);
    }

    /// Reads the urgent byte, or returns `None` if there is none. An urgent byte
    /// that is not read keeps the socket ready.
    pub(crate) fn take_urgent_byte(&self) -> Option<u8> {
        let mut byte = [0];
        match rustix::net::recv(&self.0, &mut byte, RecvFlags::OOB) {
            Ok((1.., _)) => Some(byte[0]),
            // EINVAL: none is pending, or it was already read.
            Ok(_) | Err(_) => None,
        }
    }

    /// Makes the socket writable only while none of its output is unsent, where the
    /// system can do that, and returns what the kernel holds now. Output on a Unix socket
    /// is with the peer once it is written.
    pub(crate) fn watch_send_queue(&self, is_shut: bool) -> SendQueue {
        if socket_calls::set_unsent_limit(&self.0, 1) {
            return self.check_send_queue(is_shut);
        }
        match self.0.local_addr() {
            Ok(addr) if addr.as_socket().is_none() => SendQueue::Empty,
            _ => SendQueue::Unknown,
        }
    }

    /// Measures how much output the kernel has not sent yet, in a unit of its own, after
    /// [`watch_send_queue`](Self::watch_send_queue). Returns `None` while the send buffer
    /// is too full to tell (the socket is not writable whatever the threshold), and where
    /// this cannot be measured.
    pub(crate) fn measure_send_queue(&self) -> Option<u32> {
        // The socket is writable while less is unsent than the limit. There is no safe
        // wrapper for `SIOCOUTQ`.
        let is_below =
            |limit| socket_calls::set_unsent_limit(&self.0, limit) && self.check_writable();
        let (mut low, mut high) = (0, MAX_MEASURED_QUEUE);
        let is_measurable = is_below(high);
        while is_measurable && high - low > MEASURE_PRECISION {
            let middle = low + (high - low) / 2;
            if is_below(middle) { high = middle } else { low = middle }
        }
        is_below(1);
        is_measurable.then_some(high)
    }

    /// Checks what the kernel holds, after [`watch_send_queue`](Self::watch_send_queue).
    /// A socket whose write half is shut down is always writable, so that nothing is
    /// known.
    pub(crate) fn check_send_queue(&self, is_shut: bool) -> SendQueue {
        if is_shut {
            SendQueue::Unknown
        } else if self.check_writable() {
            SendQueue::Empty
        } else {
            SendQueue::Unsent
        }
    }

    /// Returns `false` if only an error is reported, because an entry in the error queue does
    /// not show that output can be written.
    fn check_writable(&self) -> bool {
        poll_now(self.0.as_fd(), PollFlags::OUT).intersects(PollFlags::OUT | PollFlags::HUP)
    }

    pub(crate) fn local_addr(&self) -> io::Result<Address> {
        self.0.local_addr().map(Address::from)
    }

    /// Returns the peer's address; an unknown one if the peer has disconnected.
    pub(crate) fn peer_addr(&self) -> Address {
        self.0.peer_addr().map_or(Address::Unknown, Address::from)
    }

    /// Sets `options`.
    ///
    /// # Errors
    ///
    /// Returns an error that names the first option that cannot be set.
    pub(crate) fn set_options(&self, options: &SocketOptions) -> io::Result<()> {
        options.set_on(&self.0, self.0.local_addr()?.domain())
    }

    /// Returns a reference on which socket options can be read and set.
    pub(crate) fn options(&self) -> SockRef<'_> {
        SockRef::from(&self.0)
    }

    pub(crate) fn source(&self) -> Source<'_> {
        Source::from(&self.0)
    }

    #[expect(clippy::unnecessary_wraps, reason = "as in `either.rs`")]
    pub(crate) fn into_owned(self) -> io::Result<OwnedDescriptor> {
        Ok(self.0.into())
    }
}

#[cold]
fn to_io_error(errno: Errno) -> io::Error {
    errno.into()
}

fn is_port_in_use(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::ADDRINUSE | Errno::ADDRNOTAVAIL))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invariant_3_connection_to_itself_counts_as_refused() {
        let socket = socket2::Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        socket.bind(&any.into()).unwrap();
        let own = socket.local_addr().unwrap();
        socket.connect(&own).expect("the kernel reports no error");
        let error = Socket(socket).take_connect_result().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }
}
