//! [`Datagram`]: a datagram socket and its protocol.

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::ToSocketAddrs;
use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::time::Duration;

use crate::sys::socket::SockRef;

use crate::address::{Address, try_each_addr};
use crate::reactor::{Cause, CloseReason, Context, Dispatcher, READ_BUFFER_SIZE, TimerId};
use crate::sys::datagram_socket::{DatagramSocket, Received, is_deferred_icmp_error};
use crate::sys::descriptor::OwnedDescriptor;
use crate::sys::socket_path::SocketPath;
use crate::sys::source::Source;
use crate::token::Token;

/// How many datagrams one event receives, so that many of them do not delay the other
/// channels for longer.
const MAX_DATAGRAMS_PER_EVENT: usize = 64;

/// The callbacks of a datagram socket. Only
/// [`handle_datagram`](Self::handle_datagram) is required; the others are as in
/// [`Protocol`](crate::Protocol).
///
/// # Examples
///
/// ```
/// use std::io;
/// use reactor::{Address, DatagramIo, DatagramProtocol};
///
/// /// Sends back what it receives.
/// struct Echo;
///
/// impl DatagramProtocol for Echo {
///     fn handle_datagram(
///         &mut self,
///         io: &mut DatagramIo<'_>,
///         data: &[u8],
///         from: &Address,
///     ) -> io::Result<()> {
///         io.send_to(data, from)
///     }
/// }
/// ```
#[expect(clippy::missing_errors_doc, reason = "the trait documents what an `Err` does")]
pub trait DatagramProtocol: 'static {
    /// Returns `true` if the socket is to receive. Default: `true`.
    fn readable(&self) -> bool {
        true
    }

    /// Returns `true` if [`handle_write`](Self::handle_write) is to be called when the
    /// kernel has room for a datagram. Default: `false`.
    fn writable(&self) -> bool {
        false
    }

    /// Called when the socket was added to the reactor. Default: nothing.
    fn handle_add(&mut self, _io: &mut DatagramIo<'_>) -> io::Result<()> {
        Ok(())
    }

    /// Called with a datagram, which may be empty. An `Err` does not close the socket, as
    /// other peers use it too: it is passed to
    /// [`handle_datagram_error`](Self::handle_datagram_error).
    fn handle_datagram(
        &mut self,
        io: &mut DatagramIo<'_>,
        data: &[u8],
        from: &Address,
    ) -> io::Result<()>;

    /// Called when [`handle_datagram`](Self::handle_datagram) failed for a datagram of
    /// `from`, for example because a reply could not be sent. Default: logs the error at
    /// debug level.
    fn handle_datagram_error(
        &mut self,
        _io: &mut DatagramIo<'_>,
        from: &Address,
        error: &io::Error,
    ) {
        log::debug!("datagram from {from}: {error}");
    }

    /// Called when the kernel has room, if [`writable`](Self::writable) returned `true`.
    /// Default: nothing.
    fn handle_write(&mut self, _io: &mut DatagramIo<'_>) -> io::Result<()> {
        Ok(())
    }

    /// Called when a timer set by [`DatagramIo::set_timer`] expires. Default: nothing.
    fn handle_timer(&mut self, _io: &mut DatagramIo<'_>, _timer: TimerId) -> io::Result<()> {
        Ok(())
    }

    /// Called when the reactor starts to drain ([`Context::drain`]). Default: closes, as
    /// there is no end of a conversation.
    fn handle_drain(&mut self, io: &mut DatagramIo<'_>) -> io::Result<()> {
        io.close();
        Ok(())
    }

    /// Called when a callback failed or panicked; the socket is about to close. Default:
    /// logs a warning.
    fn handle_error(&mut self, io: &mut DatagramIo<'_>, cause: &Cause) {
        log::warn!("{}: {cause}", io.local_addr());
    }

    /// Called when the socket is closed. Default: logs the reason at debug level.
    fn handle_close(&mut self, io: &mut DatagramIo<'_>, reason: &CloseReason) {
        log::debug!("{}: {reason}", io.local_addr());
    }
}

/// A datagram socket (UDP or Unix) driven by protocol `P`.
///
/// Nothing is queued: the kernel accepts a datagram, or [`DatagramChannel::send_to`]
/// returns an error. An ICMP message about an earlier datagram (no program receives it)
/// does not close the socket; it is logged at debug level.
///
/// Through its token it has the methods of its [`DatagramChannel`].
#[must_use]
pub struct Datagram<P> {
    protocol: P,
    channel: DatagramChannel,
}

/// The socket of a [`Datagram`]: what a program does with it, whether in a callback
/// through [`DatagramIo`], or through its token.
#[must_use]
pub struct DatagramChannel {
    socket: DatagramSocket,
    local: Address,
    closed: bool,
    /// Removed with the socket.
    _path: Option<SocketPath>,
}

impl<P: DatagramProtocol> Datagram<P> {
    /// Binds a UDP socket to `addr`; port 0 selects a free port. A name is resolved, which
    /// blocks; of several addresses the first that can be bound is used.
    ///
    /// # Errors
    ///
    /// Returns an error that names the address if none can be bound.
    pub fn bind(addr: impl ToSocketAddrs, protocol: P) -> io::Result<Self> {
        let socket = try_each_addr(addr, DatagramSocket::bind)?;
        Self::from_parts(socket, None, protocol)
    }

    /// Binds a UDP socket to a free port and connects it to `addr`: it sends to and
    /// receives from that address only, with [`DatagramChannel::send`].
    ///
    /// # Errors
    ///
    /// Returns an error that names the address if no socket can be connected to it.
    pub fn connect(addr: impl ToSocketAddrs, protocol: P) -> io::Result<Self> {
        let socket = try_each_addr(addr, DatagramSocket::connect)?;
        Self::from_parts(socket, None, protocol)
    }

    /// Binds a Unix datagram socket to `path`, which is removed with the socket. A path
    /// that a terminated program left behind is replaced.
    ///
    /// # Errors
    ///
    /// Returns an error that names the path if it cannot be bound; `AddrInUse` if another
    /// socket uses it.
    pub fn bind_unix(path: impl AsRef<Path>, protocol: P) -> io::Result<Self> {
        let (socket, path) = SocketPath::bind_datagram(path.as_ref())?;
        Self::from_parts(socket, path, protocol)
    }

    /// Takes over a datagram socket: a `UdpSocket`, a `UnixDatagram`, one end of a pair.
    ///
    /// # Errors
    ///
    /// Returns an error if it is no socket.
    pub fn new(socket: impl Into<OwnedDescriptor>, protocol: P) -> io::Result<Self> {
        Self::from_parts(DatagramSocket::from_owned(socket.into())?, None, protocol)
    }

    fn from_parts(
        socket: DatagramSocket,
        path: Option<SocketPath>,
        protocol: P,
    ) -> io::Result<Self> {
        let local = socket.local_addr()?;
        Ok(Datagram {
            protocol,
            channel: DatagramChannel { socket, local, closed: false, _path: path },
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
        (&mut self.protocol, DatagramIo { channel: &mut self.channel, cx })
    }

    /// Receives the datagrams that are pending, up to the limits for one event.
    fn receive_pending(&mut self, cx: &mut Context, buffer: &mut [u8]) -> io::Result<()> {
        let mut budget = READ_BUFFER_SIZE;
        for _ in 0..MAX_DATAGRAMS_PER_EVENT {
            if self.channel.closed || cx.is_closing() || !self.protocol.readable() {
                break;
            }
            let Some(Received { len, from }) = self.channel.receive(buffer)? else { break };
            if len > buffer.len() {
                let local = &self.channel.local;
                log::warn!("{local}: dropped a datagram of {len} bytes: too long");
                continue;
            }
            cx.count_received(len);
            let (protocol, mut io) = self.parts_mut(cx);
            if let Err(error) = protocol.handle_datagram(&mut io, &buffer[..len], &from) {
                protocol.handle_datagram_error(&mut io, &from, &error);
            }
            budget = budget.saturating_sub(len);
            if budget == 0 {
                break;
            }
        }
        Ok(())
    }
}

impl DatagramChannel {
    /// Sends a datagram. `Ok` means that the kernel accepted it; the network may still
    /// lose it.
    ///
    /// # Errors
    ///
    /// * `WouldBlock` if the kernel has no room; it was not sent, and
    ///   [`DatagramProtocol::handle_write`] is called when there is room;
    /// * the socket's error if it cannot be sent at all: it is too long, there is no route
    ///   to the address, or no socket at the path.
    pub fn send_to(&self, data: &[u8], to: &Address) -> io::Result<()> {
        self.send_with_retry(|| self.socket.send_to(data, to))
    }

    /// Sends a datagram to the peer that the socket is connected to.
    ///
    /// # Errors
    ///
    /// As [`send_to`](Self::send_to).
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

    /// Returns a reference on which socket options can be read and set.
    #[must_use]
    pub fn socket_options(&self) -> SockRef<'_> {
        self.socket.options()
    }

    /// Receives the next datagram, or returns `None` if none is pending.
    fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<Received>> {
        loop {
            match self.socket.receive(buffer) {
                Ok(received) => return Ok(Some(received)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) if is_deferred_icmp_error(&error) => {
                    log::debug!("{}: {error}", self.local);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Sends; a second time if the first call only reported an earlier datagram.
    fn send_with_retry(&self, send: impl Fn() -> io::Result<()>) -> io::Result<()> {
        let mut reported = false;
        loop {
            match send() {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if is_deferred_icmp_error(&error) && !reported => {
                    log::debug!("{}: {error}", self.local);
                    reported = true;
                }
                result => return result,
            }
        }
    }
}

impl<P: DatagramProtocol> Dispatcher for Datagram<P> {
    fn source(&self) -> Source<'_> {
        self.channel.socket.source()
    }

    fn readable(&self) -> bool {
        self.protocol.readable()
    }

    fn writable(&self) -> bool {
        self.protocol.writable()
    }

    fn poll_close(&mut self, _cx: &mut Context) -> Option<Cause> {
        self.channel.closed.then_some(Cause::Local)
    }

    fn handle_add(&mut self, cx: &mut Context) -> io::Result<()> {
        if self.channel.closed {
            return Ok(());
        }
        cx.record_progress();
        let (protocol, mut io) = self.parts_mut(cx);
        protocol.handle_add(&mut io)
    }

    fn handle_read(&mut self, cx: &mut Context) -> io::Result<()> {
        let mut buffer = cx.lend_read_buffer();
        let result = self.receive_pending(cx, &mut buffer);
        cx.return_read_buffer(buffer);
        result
    }

    fn handle_write(&mut self, cx: &mut Context) -> io::Result<()> {
        if self.channel.closed || !self.protocol.writable() {
            return Ok(());
        }
        let (protocol, mut io) = self.parts_mut(cx);
        protocol.handle_write(&mut io)
    }

    fn handle_timer(&mut self, cx: &mut Context, timer: TimerId) -> io::Result<()> {
        if self.channel.closed {
            return Ok(());
        }
        let (protocol, mut io) = self.parts_mut(cx);
        protocol.handle_timer(&mut io, timer)
    }

    fn handle_drain(&mut self, cx: &mut Context) -> io::Result<()> {
        if self.channel.closed {
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

impl fmt::Debug for DatagramChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DatagramChannel").field("local", &self.local).finish_non_exhaustive()
    }
}

/// A [`DatagramProtocol`]'s own socket during a callback: its [`DatagramChannel`], whose
/// methods it has, and through [`context`](Self::context) the reactor.
#[must_use]
pub struct DatagramIo<'a> {
    channel: &'a mut DatagramChannel,
    cx: &'a mut Context,
}

impl DatagramIo<'_> {
    /// Calls [`DatagramProtocol::handle_timer`] once, `after` from now, if the socket is
    /// still open. [`Context::cancel`] cancels it.
    pub fn set_timer(&mut self, after: Duration) -> TimerId {
        self.cx.set_timer_of(self.cx.token(), after)
    }

    /// Returns the token of the socket.
    pub fn token(&self) -> Token {
        self.cx.token()
    }

    /// Returns the reactor: other channels, timers, the end.
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
