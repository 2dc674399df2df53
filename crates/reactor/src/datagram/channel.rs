//! [`DatagramChannel`]: what a program does with a datagram socket; [`DatagramIo`]: the
//! same during a callback.

use std::cell::Cell;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use crate::address::Address;
use crate::reactor::{Context, TimerId};
use crate::sys::datagram_socket::{DatagramError, Received};
use crate::sys::destination::Destination;
use crate::sys::either::DatagramSocket;
use crate::sys::socket::SockRef;
use crate::sys::socket_path::SocketPath;
use crate::sys::source::Source;
use crate::token::Token;

/// How many errors in a row may concern earlier datagrams, for one that is sent.
const MAX_EARLIER_ERRORS: u32 = 4;

/// The socket of a [`Datagram`](crate::Datagram). Its own callbacks reach it through
/// [`DatagramIo`], other code through the [`Datagram`](crate::Datagram) and its token.
#[must_use]
pub struct DatagramChannel {
    socket: DatagramSocket,
    local: Address,
    closed: bool,
    /// The datagram being handled.
    arrival: Option<Arrival>,
    /// How many ICMP errors were not added to the statistics yet.
    icmp_errors: Cell<u64>,
    /// Removed with the socket.
    _path: Option<SocketPath>,
}

/// Where the datagram being handled came from, and was sent.
struct Arrival {
    from: Address,
    destination: Option<SocketAddr>,
    reply_from: Option<IpAddr>,
}

/// The result of one attempt to receive.
pub(super) enum Receipt {
    Datagram {
        len: usize,
        from: Address,
        to: Option<Destination>,
    },
    /// There may be more: an error was read, or a signal arrived.
    Nothing,
    WouldBlock,
}

impl DatagramChannel {
    pub(super) fn new(socket: DatagramSocket, path: Option<SocketPath>) -> io::Result<Self> {
        let local = socket.local_addr()?;
        let (arrival, icmp_errors) = (None, Cell::new(0));
        Ok(DatagramChannel { socket, local, closed: false, arrival, icmp_errors, _path: path })
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    pub(super) fn source(&self) -> Source<'_> {
        self.socket.source()
    }

    /// Sends a datagram. `Ok` means that the kernel accepted it; the network may still
    /// lose it.
    ///
    /// A reply to the datagram being handled is sent from the address that it was sent
    /// to. If the socket is bound to a wildcard address, this requires Linux or Android.
    ///
    /// # Errors
    ///
    /// * `WouldBlock` if the kernel has no room; it was not sent, and
    ///   [`DatagramProtocol::handle_write`](crate::DatagramProtocol::handle_write) is called
    ///   when there is room;
    /// * the socket's error if it cannot be sent at all, because it is too long, or there
    ///   is no route to the address or no socket at the path.
    pub fn send_to(&self, data: &[u8], to: &Address) -> io::Result<()> {
        match (&self.arrival, to) {
            (Some(Arrival { from, reply_from: Some(source), .. }), Address::Inet(addr))
                if from == to =>
            {
                self.send_with_retry(|| self.socket.send_from(data, *addr, *source))
            }
            _ => self.send_with_retry(|| self.socket.send_to(data, to)),
        }
    }

    /// Like [`send_to`](Self::send_to), but from `source`, an address of this machine.
    /// Use it for a reply that is sent later. See [`destination`](Self::destination).
    ///
    /// # Errors
    ///
    /// The same as for [`send_to`](Self::send_to), and:
    ///
    /// * the socket's error if this machine does not have the address `source`;
    /// * `Unsupported` on systems other than Linux and Android.
    pub fn send_from(&self, data: &[u8], to: SocketAddr, source: IpAddr) -> io::Result<()> {
        self.send_with_retry(|| self.socket.send_from(data, to, source))
    }

    /// Returns the destination address of the datagram being handled. On a socket bound
    /// to a wildcard address, this is the local, broadcast or multicast address that the
    /// sender used. Returns `None` outside of
    /// [`handle_datagram`](crate::DatagramProtocol::handle_datagram) and
    /// [`handle_datagram_error`](crate::DatagramProtocol::handle_datagram_error), for a
    /// Unix socket, and if the system does not report it.
    pub fn destination(&self) -> Option<SocketAddr> {
        self.arrival.as_ref().and_then(|arrival| arrival.destination)
    }

    /// Sends a datagram to the peer that the socket is connected to.
    ///
    /// # Errors
    ///
    /// The same as for [`send_to`](Self::send_to).
    pub fn send(&self, data: &[u8]) -> io::Result<()> {
        self.send_with_retry(|| self.socket.send(data))
    }

    /// Closes the socket. There is no output to write first.
    pub fn close(&mut self) {
        self.closed = true;
    }

    /// Returns the address it is bound to, with the port that was selected for port 0.
    pub fn local_addr(&self) -> &Address {
        &self.local
    }

    /// Receives what is sent to the multicast `group` too, at the port of this socket, on the
    /// network interface with index `interface` (`if_nametoindex(3)`); 0 is for one that the
    /// system selects by its routes (ip(7), `IP_ADD_MEMBERSHIP`; ipv6(7),
    /// `IPV6_ADD_MEMBERSHIP`). The membership ends with the socket. To send to a group
    /// requires none.
    ///
    /// # Errors
    ///
    /// * `InvalidInput` if `group` is no multicast address;
    /// * `Unsupported` for IPv4 with an `interface` on systems that select it by its address;
    ///   use [`socket_options`](Self::socket_options) there;
    /// * the socket's error: it is of the other family, there is no such interface or no
    ///   route, or it has joined already (`AddrInUse`).
    pub fn join_multicast(&self, group: IpAddr, interface: u32) -> io::Result<()> {
        self.socket.join_multicast(group, interface)
    }

    /// Ends a membership that [`join_multicast`](Self::join_multicast) started with the same
    /// arguments.
    ///
    /// # Errors
    ///
    /// The same as for [`join_multicast`](Self::join_multicast); `AddrNotAvailable` if there
    /// is no such membership.
    pub fn leave_multicast(&self, group: IpAddr, interface: u32) -> io::Result<()> {
        self.socket.leave_multicast(group, interface)
    }

    /// Returns a reference on which any socket option can be read and set.
    #[must_use]
    pub fn socket_options(&self) -> SockRef<'_> {
        self.socket.options()
    }

    /// Receives the next datagram.
    pub(super) fn receive(&mut self, buffer: &mut [u8]) -> io::Result<Receipt> {
        let error = match self.socket.receive(buffer) {
            Ok(Received { len, from, to }) => return Ok(Receipt::Datagram { len, from, to }),
            Err(error) => error,
        };
        match DatagramError::classify(&error) {
            DatagramError::WouldBlock => Ok(Receipt::WouldBlock),
            DatagramError::Interrupted => Ok(Receipt::Nothing),
            DatagramError::Icmp => {
                self.record_icmp_error(&error);
                Ok(Receipt::Nothing)
            }
            DatagramError::Transient => {
                log::debug!("{}: receive: {error}", self.local);
                Ok(Receipt::Nothing)
            }
            DatagramError::Fatal => Err(error),
        }
    }

    /// Records the arrival of the datagram that is handled from now on.
    pub(super) fn start_arrival(&mut self, from: &Address, to: Option<Destination>) {
        let local = self.local.as_inet();
        let destination = local.map(|local| match to {
            Some(to) => SocketAddr::new(to.addr, local.port()),
            None => local,
        });
        let destination = destination.filter(|addr| !addr.ip().is_unspecified());
        let reply_from = to.and_then(|to| to.reply_from);
        self.arrival = Some(Arrival { from: from.clone(), destination, reply_from });
    }

    pub(super) fn end_arrival(&mut self) {
        self.arrival = None;
    }

    /// Empties the queue of errors of a socket for which the program has requested one
    /// (`IP_RECVERR`): the socket stays ready until it is empty.
    #[cold]
    pub(super) fn discard_queued_errors(&self) {
        let discarded = self.socket.discard_queued_errors();
        self.icmp_errors.set(self.icmp_errors.get() + discarded as u64);
    }

    /// Returns the number of ICMP errors since the last call, and resets it.
    pub(super) fn take_icmp_errors(&self) -> u64 {
        self.icmp_errors.take()
    }

    fn record_icmp_error(&self, error: &io::Error) {
        self.icmp_errors.set(self.icmp_errors.get() + 1);
        log::debug!("{}: about an earlier datagram: {error}", self.local);
    }

    /// Sends, and again if the error may concern an earlier datagram. If it concerns this
    /// one, the next attempt fails in the same way.
    fn send_with_retry(&self, send: impl Fn() -> io::Result<()>) -> io::Result<()> {
        let mut earlier: Option<io::Error> = None;
        let mut earlier_count = 0;
        loop {
            let result = send();
            let class = result.as_ref().err().map(DatagramError::classify);
            if class == Some(DatagramError::Interrupted) {
                continue;
            }
            let is_repeated = match (&result, &earlier) {
                (Err(error), Some(earlier)) => error.raw_os_error() == earlier.raw_os_error(),
                _ => false,
            };
            if !is_repeated && let Some(earlier) = &earlier {
                self.record_icmp_error(earlier);
            }
            match result {
                Err(error)
                    if class == Some(DatagramError::Icmp)
                        && !is_repeated
                        && earlier_count < MAX_EARLIER_ERRORS =>
                {
                    earlier = Some(error);
                    earlier_count += 1;
                }
                result => return result,
            }
        }
    }
}

impl fmt::Debug for DatagramChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DatagramChannel").field("local", &self.local).finish_non_exhaustive()
    }
}

/// The own socket of a [`DatagramProtocol`](crate::DatagramProtocol) during a callback. It
/// has the methods of the [`DatagramChannel`], and gives access to the reactor
/// ([`context`](Self::context)).
#[must_use]
pub struct DatagramIo<'a> {
    channel: &'a mut DatagramChannel,
    cx: &'a mut Context,
}

impl<'a> DatagramIo<'a> {
    pub(super) fn new(channel: &'a mut DatagramChannel, cx: &'a mut Context) -> Self {
        DatagramIo { channel, cx }
    }

    /// Calls [`handle_timer`](crate::DatagramProtocol::handle_timer) once, `after` from now,
    /// if the socket is still open. [`Context::cancel`] cancels it.
    pub fn set_timer(&mut self, after: Duration) -> TimerId {
        self.cx.set_timer_of(self.cx.token(), after)
    }

    /// Returns the token of the socket.
    pub fn token(&self) -> Token {
        self.cx.token()
    }

    /// Returns the reactor's context: other channels, timers, stopping.
    pub fn context(&mut self) -> &mut Context {
        self.cx
    }
}

impl Deref for DatagramIo<'_> {
    type Target = DatagramChannel;

    fn deref(&self) -> &DatagramChannel {
        self.channel
    }
}

impl DerefMut for DatagramIo<'_> {
    fn deref_mut(&mut self) -> &mut DatagramChannel {
        self.channel
    }
}

impl fmt::Debug for DatagramIo<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DatagramIo").field(&self.channel).finish()
    }
}
