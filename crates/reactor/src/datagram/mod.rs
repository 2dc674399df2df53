//! [`Datagram`]: a datagram socket and its protocol.

mod channel;
mod protocol;
#[cfg(unix)]
mod unix;

use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::ops::{Deref, DerefMut};
use std::time::Instant;

use crate::address::try_each_addr;
use crate::backoff::Backoff;
use crate::datagram::channel::Receipt;
use crate::reactor::{Cause, CloseReason, Context, Dispatcher, READ_BUFFER_SIZE, TimerId};
use crate::sys::descriptor::OwnedDescriptor;
use crate::sys::either::DatagramSocket;
use crate::sys::socket_path::SocketPath;
use crate::sys::source::Source;

pub use channel::{DatagramChannel, DatagramIo};
pub use protocol::DatagramProtocol;

/// How many datagrams one event receives, so that many of them do not delay the other
/// channels for longer.
const MAX_DATAGRAMS_PER_EVENT: usize = 64;

/// A datagram socket (UDP or Unix) driven by protocol `P`.
///
/// Nothing is queued. The kernel accepts a datagram, or [`DatagramChannel::send_to`]
/// returns an error. An ICMP message about an earlier datagram (for example that no
/// program receives it) neither closes the socket nor makes a later call fail. It is
/// counted ([`Stats::icmp_errors`](crate::Stats::icmp_errors)) and logged at debug level.
///
/// Through its token it has the methods of its [`DatagramChannel`].
#[must_use]
pub struct Datagram<P> {
    protocol: P,
    channel: DatagramChannel,
    /// After receiving failed again and again.
    backoff: Backoff,
}

impl<P: DatagramProtocol> Datagram<P> {
    /// Binds a UDP socket to `addr`; port 0 selects a free port. Resolving a name blocks.
    /// If it has several addresses, the first that can be bound is used.
    ///
    /// # Errors
    ///
    /// Returns an error that names the address if none can be bound.
    pub fn bind(addr: impl ToSocketAddrs, protocol: P) -> io::Result<Self> {
        let socket = try_each_addr(addr, DatagramSocket::bind)?;
        Self::from_parts(socket, None, protocol)
    }

    /// Binds a UDP socket to a free port and connects it to `addr`. It sends to and
    /// receives from that address only, with [`DatagramChannel::send`].
    ///
    /// # Errors
    ///
    /// Returns an error that names the address if no socket can be connected to it.
    pub fn connect(addr: impl ToSocketAddrs, protocol: P) -> io::Result<Self> {
        let socket = try_each_addr(addr, DatagramSocket::connect)?;
        Self::from_parts(socket, None, protocol)
    }

    /// Receives what is sent to the multicast `group`: binds a UDP socket to it, and joins it
    /// on the network interface with index `interface`; 0 is for one that the system selects
    /// by its routes. Other programs on this machine can do the same.
    ///
    /// Because it is bound to the group, it receives nothing else (on Windows, all that is
    /// sent to the port). See [`DatagramChannel::join_multicast`] to add a membership to
    /// another socket.
    ///
    /// # Errors
    ///
    /// Returns an error that names the group if the socket cannot be bound or cannot join, and
    /// `InvalidInput` if it is no multicast address.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use std::io;
    /// use reactor::{Address, Datagram, DatagramIo, DatagramProtocol, Reactor};
    ///
    /// /// Prints who announces a service on the local network (RFC 6762).
    /// struct Announcements;
    ///
    /// impl DatagramProtocol for Announcements {
    ///     fn handle_datagram(
    ///         &mut self,
    ///         _: &mut DatagramIo<'_>,
    ///         data: &[u8],
    ///         from: &Address,
    ///     ) -> io::Result<()> {
    ///         println!("{from}: {} bytes", data.len());
    ///         Ok(())
    ///     }
    /// }
    ///
    /// # fn main() -> io::Result<()> {
    /// let mut reactor = Reactor::new()?;
    /// let group = ([224, 0, 0, 251], 5353).into();
    /// reactor.add(Datagram::bind_multicast(group, 0, Announcements)?)?;
    /// reactor.run()
    /// # }
    /// ```
    pub fn bind_multicast(group: SocketAddr, interface: u32, protocol: P) -> io::Result<Self> {
        let socket = DatagramSocket::bind_multicast(group, interface)
            .map_err(|error| io::Error::new(error.kind(), format!("{group}: {error}")))?;
        Self::from_parts(socket, None, protocol)
    }

    /// Takes over a datagram socket: a `UdpSocket`, a `UnixDatagram`, one end of a pair.
    ///
    /// # Errors
    ///
    /// Returns an error if it is no socket; `InvalidInput` if it is one for streams.
    pub fn new(socket: impl Into<OwnedDescriptor>, protocol: P) -> io::Result<Self> {
        Self::from_parts(DatagramSocket::from_owned(socket.into())?, None, protocol)
    }

    fn from_parts(
        socket: DatagramSocket,
        path: Option<SocketPath>,
        protocol: P,
    ) -> io::Result<Self> {
        Ok(Datagram {
            protocol,
            channel: DatagramChannel::new(socket, path)?,
            backoff: Backoff::default(),
        })
    }

    /// Returns the protocol.
    pub fn protocol(&self) -> &P {
        &self.protocol
    }

    /// Returns the protocol, to change its state.
    pub fn protocol_mut(&mut self) -> &mut P {
        &mut self.protocol
    }

    fn parts_mut<'a>(&'a mut self, cx: &'a mut Context) -> (&'a mut P, DatagramIo<'a>) {
        (&mut self.protocol, DatagramIo::new(&mut self.channel, cx))
    }

    /// Receives the datagrams that are pending, up to the limits for one event.
    fn receive_pending(&mut self, cx: &mut Context, buffer: &mut [u8]) -> io::Result<()> {
        let mut budget = READ_BUFFER_SIZE;
        let mut is_fruitless = true;
        for _ in 0..MAX_DATAGRAMS_PER_EVENT {
            if self.channel.is_closed() || cx.is_closing() || !self.protocol.readable() {
                return Ok(());
            }
            let (len, from, to) = match self.channel.receive(buffer)? {
                Receipt::Datagram { len, from, to } => (len, from, to),
                Receipt::Nothing => continue,
                Receipt::WouldBlock => {
                    if is_fruitless {
                        self.channel.discard_queued_errors();
                    }
                    return Ok(());
                }
            };
            is_fruitless = false;
            self.backoff.reset();
            if len > buffer.len() {
                let local = self.channel.local_addr();
                log::warn!("{local}: dropped a datagram of {len} bytes: too long");
                continue;
            }
            cx.count_received(len);
            self.channel.start_arrival(&from, to);
            let (protocol, mut io) = self.parts_mut(cx);
            if let Err(error) = protocol.handle_datagram(&mut io, &buffer[..len], &from) {
                protocol.handle_datagram_error(&mut io, &from, &error);
            }
            self.channel.end_arrival();
            budget = budget.saturating_sub(len);
            if budget == 0 {
                return Ok(());
            }
        }
        if is_fruitless {
            // Nothing but errors, which may persist: they must not spin.
            self.backoff.start(cx.now());
        }
        Ok(())
    }
}

impl<P: DatagramProtocol> Dispatcher for Datagram<P> {
    fn source(&self) -> Source<'_> {
        self.channel.source()
    }

    fn readable(&self) -> bool {
        self.protocol.readable() && self.backoff.until().is_none()
    }

    fn writable(&self) -> bool {
        self.protocol.writable()
    }

    fn poll_close(&mut self, cx: &mut Context) -> Option<Cause> {
        cx.count_icmp_errors(self.channel.take_icmp_errors());
        self.channel.is_closed().then_some(Cause::Local)
    }

    fn update_deadline(&mut self, _cx: &Context) -> Option<Instant> {
        self.backoff.until()
    }

    fn handle_deadline(&mut self, _cx: &mut Context) -> io::Result<()> {
        self.backoff.end();
        Ok(())
    }

    fn handle_add(&mut self, cx: &mut Context) -> io::Result<()> {
        if self.channel.is_closed() {
            return Ok(());
        }
        cx.record_progress();
        let (protocol, mut io) = self.parts_mut(cx);
        protocol.handle_add(&mut io)
    }

    fn handle_read(&mut self, cx: &mut Context) -> io::Result<()> {
        let mut buffer = cx.lend_read_buffer();
        let result = self.receive_pending(cx, &mut buffer[..READ_BUFFER_SIZE]);
        cx.return_read_buffer(buffer);
        result
    }

    fn handle_write(&mut self, cx: &mut Context) -> io::Result<()> {
        if self.channel.is_closed() || !self.protocol.writable() {
            return Ok(());
        }
        if !self.readable() {
            // Otherwise `handle_read` has done so.
            self.channel.discard_queued_errors();
        }
        let (protocol, mut io) = self.parts_mut(cx);
        protocol.handle_write(&mut io)
    }

    fn handle_timer(&mut self, cx: &mut Context, timer: TimerId) -> io::Result<()> {
        if self.channel.is_closed() {
            return Ok(());
        }
        let (protocol, mut io) = self.parts_mut(cx);
        protocol.handle_timer(&mut io, timer)
    }

    fn handle_drain(&mut self, cx: &mut Context) -> io::Result<()> {
        if self.channel.is_closed() {
            return Ok(());
        }
        let (protocol, mut io) = self.parts_mut(cx);
        protocol.handle_drain(&mut io)
    }

    fn handle_error(&mut self, cx: &mut Context, cause: &Cause) {
        let (protocol, mut io) = self.parts_mut(cx);
        protocol.handle_error(&mut io, cause);
    }

    fn handle_close(&mut self, cx: &mut Context, reason: &CloseReason) {
        let (protocol, mut io) = self.parts_mut(cx);
        protocol.handle_close(&mut io, reason);
    }
}

impl<P> Deref for Datagram<P> {
    type Target = DatagramChannel;

    fn deref(&self) -> &DatagramChannel {
        &self.channel
    }
}

impl<P> DerefMut for Datagram<P> {
    fn deref_mut(&mut self) -> &mut DatagramChannel {
        &mut self.channel
    }
}

impl<P> fmt::Debug for Datagram<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Datagram").field(&self.channel).finish()
    }
}
