//! [`Stream`]: a connection and the protocol spoken over it.

use std::fmt;
use std::io;
use std::net::ToSocketAddrs;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;
use std::time::Instant;

use socket2::Socket;

use crate::address::Address;
use crate::connect::Connecting;
use crate::connection::{Connection, Received};
use crate::context::Context;
use crate::dispatcher::{Cause, CloseReason, Dispatcher, Timeout};
use crate::limits::Limits;
use crate::protocol::{Io, Protocol};
use crate::timer::TimerId;

/// A stream socket (TCP or Unix) that speaks `P`.
///
/// Add it to a reactor, which then drives it. Reached from elsewhere through
/// its token ([`Context::get_mut`]), it can be sent to and closed:
///
/// ```
/// use std::io;
/// use reactor::{Context, Io, Protocol, Stream, Token};
///
/// struct Chatter;
/// # impl Protocol for Chatter {
/// #     fn handle_read(&mut self, _: &mut Io<'_>, _: &[u8]) -> io::Result<()> { Ok(()) }
/// # }
///
/// fn tell(cx: &mut Context, who: Token, what: &[u8]) -> io::Result<()> {
///     match cx.get_mut::<Stream<Chatter>>(who) {
///         Some(stream) => stream.send(what),
///         None => Ok(()), // gone
///     }
/// }
/// ```
pub struct Stream<P> {
    protocol: P,
    connection: Connection,
}

impl<P: Protocol> Stream<P> {
    /// Connects to `addr`. A name is looked up here, which may block; of
    /// several addresses each is tried in turn, within
    /// [`Limits::connect_timeout`].
    ///
    /// Fails where the name has no address, or no connection can even be
    /// begun. Every other failure comes to [`Protocol::handle_close`].
    ///
    /// ```
    /// use std::io;
    /// use reactor::{Cause, CloseReason, Io, Protocol, Reactor, Stream};
    ///
    /// struct Probe;
    ///
    /// impl Protocol for Probe {
    ///     fn handle_read(&mut self, _: &mut Io<'_>, _: &[u8]) -> io::Result<()> {
    ///         Ok(())
    ///     }
    ///     fn handle_close(&mut self, _: &mut Io<'_>, reason: &CloseReason) {
    ///         let Cause::Error(error) = &reason.cause else { panic!() };
    ///         assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    ///     }
    /// }
    ///
    /// # fn main() -> io::Result<()> {
    /// # let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    /// let mut reactor = Reactor::new()?;
    /// reactor.add(Stream::connect(("127.0.0.1", port), Probe)?)?;
    /// reactor.run()
    /// # }
    /// ```
    pub fn connect(addr: impl ToSocketAddrs, protocol: P) -> io::Result<Self> {
        let (socket, peer, connecting) = Connecting::start(addr.to_socket_addrs()?.collect())?;
        Ok(Self::from_parts(socket, peer, Some(connecting), protocol))
    }

    /// Connects to a Unix socket. Fails where no connection can be begun:
    /// nobody listens (`ConnectionRefused`), the path does not exist
    /// (`NotFound`), the listener's queue is full (`WouldBlock`).
    pub fn connect_unix(path: impl AsRef<Path>, protocol: P) -> io::Result<Self> {
        let (socket, peer, connecting) = Connecting::start_unix(path.as_ref())?;
        Ok(Self::from_parts(socket, peer, Some(connecting), protocol))
    }

    /// Takes over a connected stream socket: a `TcpStream`, a `UnixStream`,
    /// one end of a pair. [`Protocol::handle_connect`] is called for it too.
    pub fn new(socket: impl Into<OwnedFd>, protocol: P) -> io::Result<Self> {
        let socket = Socket::from(socket.into());
        socket.set_nonblocking(true)?;
        // A peer that is gone already is met by the first read.
        let peer = socket.peer_addr().map_or(Address::Unix(None), Address::from);
        Ok(Self::from_parts(socket, peer, None, protocol))
    }

    fn from_parts(
        socket: Socket,
        peer: Address,
        connecting: Option<Connecting>,
        protocol: P,
    ) -> Self {
        let limits = Rc::new(Limits::default());
        Self::over(Connection::new(socket, peer, connecting, limits, None), protocol)
    }

    pub(crate) fn over(connection: Connection, protocol: P) -> Self {
        Stream { protocol, connection }
    }

    /// Sets the stream's limits, all at once.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.connection.set_limits(limits);
        self
    }

    /// See [`Io::send`].
    pub fn send(&mut self, data: &[u8]) -> io::Result<()> {
        self.connection.send(data)
    }

    /// See [`Io::close`].
    pub fn close(&mut self) {
        self.connection.close();
    }

    /// See [`Io::abort`].
    pub fn abort(&mut self) {
        self.connection.abort();
    }

    /// See [`Io::shutdown`].
    pub fn shutdown(&mut self) -> io::Result<()> {
        self.connection.shutdown()
    }

    /// See [`Io::pause`].
    pub fn pause(&mut self) {
        self.connection.set_paused(true);
    }

    /// See [`Io::resume`].
    pub fn resume(&mut self) {
        self.connection.set_paused(false);
    }

    /// See [`Io::unsent`].
    pub fn unsent(&self) -> usize {
        self.connection.unsent()
    }

    /// See [`Io::peer_addr`].
    pub fn peer_addr(&self) -> &Address {
        self.connection.peer_addr()
    }

    /// The protocol's own state.
    pub fn protocol(&self) -> &P {
        &self.protocol
    }

    /// The protocol's own state, to change.
    pub fn protocol_mut(&mut self) -> &mut P {
        &mut self.protocol
    }

    /// The protocol, and the [`Io`] that its callbacks are given.
    fn parts<'a>(&'a mut self, cx: &'a mut Context) -> (&'a mut P, Io<'a>) {
        (&mut self.protocol, Io { connection: &mut self.connection, cx })
    }

    /// Input that nobody waits for any more.
    fn discard(&mut self, cx: &mut Context) {
        let mut buffer = cx.take_read_buffer();
        if !matches!(
            self.connection.receive(&mut buffer),
            Ok(Received::Data(_) | Received::Nothing)
        ) {
            self.connection.linger_over();
        }
        cx.put_back_read_buffer(buffer);
    }

    /// No address answered.
    fn not_connected(cx: &mut Context, error: io::Error) {
        let timed_out = error.raw_os_error().is_none() && error.kind() == io::ErrorKind::TimedOut;
        cx.close_with(if timed_out {
            Cause::TimedOut(Timeout::Connect)
        } else {
            Cause::Error(error)
        });
    }
}

impl<P: Protocol> Dispatcher for Stream<P> {
    fn source(&self) -> BorrowedFd<'_> {
        self.connection.source()
    }

    fn readable(&self) -> bool {
        (self.connection.wants_read() && self.protocol.readable()) || self.connection.is_lingering()
    }

    fn writable(&self) -> bool {
        self.connection.wants_write() || (self.connection.has_room() && self.protocol.writable())
    }

    fn deadline(&mut self, now: Instant) -> Option<Instant> {
        self.connection.deadline(now)
    }

    fn closed(&mut self) -> Option<Cause> {
        self.connection.closed()
    }

    fn unsent(&self) -> usize {
        self.connection.unsent()
    }

    fn handle_add(&mut self, cx: &mut Context) -> io::Result<()> {
        if self.connection.is_connecting() || !self.connection.is_open() {
            return Ok(());
        }
        let (protocol, mut io) = self.parts(cx);
        protocol.handle_connect(&mut io)
    }

    fn handle_read(&mut self, cx: &mut Context) -> io::Result<()> {
        if self.connection.is_lingering() {
            self.discard(cx);
            return Ok(());
        }
        // An earlier callback of this batch may have paused or closed us.
        if !self.readable() {
            return Ok(());
        }
        let mut buffer = cx.take_read_buffer();
        let received = self.connection.receive(&mut buffer);
        let (protocol, mut io) = self.parts(cx);
        let outcome = match received {
            Ok(Received::Data(read)) => protocol.handle_read(&mut io, &buffer[..read]),
            Ok(Received::End) => protocol.handle_eof(&mut io),
            Ok(Received::Nothing) => Ok(()),
            Err(error) => Err(error),
        };
        cx.put_back_read_buffer(buffer);
        outcome
    }

    fn handle_write(&mut self, cx: &mut Context) -> io::Result<()> {
        if self.connection.is_connecting() {
            match self.connection.finish_connect(|source| cx.detach(source)) {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                Err(error) => {
                    Self::not_connected(cx, error);
                    return Ok(());
                }
            }
            if self.connection.is_open() {
                let (protocol, mut io) = self.parts(cx);
                protocol.handle_connect(&mut io)?;
            }
        }
        self.connection.flush()?;
        if self.connection.has_room() && self.protocol.writable() {
            let (protocol, mut io) = self.parts(cx);
            protocol.handle_write(&mut io)?;
        }
        Ok(())
    }

    fn handle_expt(&mut self, cx: &mut Context) -> io::Result<()> {
        match self.connection.receive_urgent() {
            Some(byte) if self.connection.is_open() => {
                let (protocol, mut io) = self.parts(cx);
                protocol.handle_expt(&mut io, byte)
            }
            _ => Ok(()),
        }
    }

    fn handle_hangup(&mut self, _cx: &mut Context) -> io::Result<()> {
        self.connection.hung_up()
    }

    fn handle_deadline(&mut self, cx: &mut Context) -> io::Result<()> {
        if self.connection.is_connecting() {
            let error = io::Error::from(io::ErrorKind::TimedOut);
            if let Err(error) = self.connection.connect_next(error, |source| cx.detach(source)) {
                Self::not_connected(cx, error);
            }
        } else if let Some(timeout) = self.connection.timed_out(cx.now()) {
            cx.close_with(Cause::TimedOut(timeout));
        }
        Ok(())
    }

    fn handle_timer(&mut self, cx: &mut Context, timer: TimerId) -> io::Result<()> {
        if !self.connection.is_open() {
            return Ok(());
        }
        let (protocol, mut io) = self.parts(cx);
        protocol.handle_timer(&mut io, timer)
    }

    fn handle_drain(&mut self, cx: &mut Context) -> io::Result<()> {
        if !self.connection.is_open() {
            return Ok(());
        }
        let (protocol, mut io) = self.parts(cx);
        protocol.handle_drain(&mut io)
    }

    fn handle_error(&mut self, cx: &mut Context, cause: &Cause) {
        let (protocol, mut io) = self.parts(cx);
        protocol.handle_error(&mut io, cause);
    }

    fn handle_close(&mut self, cx: &mut Context, reason: &CloseReason) {
        // Whatever the cause was, nothing can be sent any more.
        self.connection.abort();
        let (protocol, mut io) = self.parts(cx);
        protocol.handle_close(&mut io, reason);
    }
}

impl<P> fmt::Debug for Stream<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Stream").field(&self.connection).finish()
    }
}
