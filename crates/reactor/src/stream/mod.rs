//! [`Stream`]: a connection and its protocol.

mod active;
mod closing;
pub(crate) mod config;
mod connect;
pub(crate) mod connection;
pub(crate) mod connection_limit;
pub(crate) mod connector;
mod deliver;
mod dispatch;
mod ending;
mod establish;
mod filter_output;
mod filtering;
pub(crate) mod limits;
pub(crate) mod protocol;
pub(crate) mod reconnector;
mod sending;
mod throttle;
mod timeouts;
#[cfg(unix)]
pub(crate) mod unix;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use std::rc::Rc;

use crate::filter::Filter;
use crate::output_buffer::SendMode;
use crate::reactor::Context;
use crate::stream::connect::Connecting;
use crate::stream::connection::Connection;
use crate::stream::connector::Connector;
use crate::stream::limits::Limits;
use crate::stream::protocol::{Io, Protocol};
use crate::sys::descriptor::OwnedDescriptor;
use crate::sys::either::Socket;
use crate::sys::endpoint::Endpoint;
use crate::token::Token;

/// A stream socket (TCP or Unix) driven by protocol `P`.
///
/// Add it to a reactor, which then drives it. Through its token ([`Context::get_mut`])
/// it has the methods of its [`Connection`]; [`Context::with_stream`] also gives access
/// to the protocol and the context.
///
/// # Examples
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
/// fn forward(cx: &mut Context, to: Token, data: &[u8]) -> io::Result<()> {
///     match cx.get_mut::<Stream<Chatter>>(to) {
///         Some(stream) => stream.send(data),
///         None => Ok(()), // closed
///     }
/// }
/// ```
#[must_use]
pub struct Stream<P> {
    protocol: P,
    connection: Connection,
}

impl<P: Protocol> Stream<P> {
    /// Connects to one of `addrs`, as RFC 8305 ("Happy Eyeballs") describes. When one
    /// address has failed, or has not answered for 250 ms, the next one is tried as well,
    /// and the first that answers is used. [`Limits::connect_timeout`] applies to all
    /// attempts together.
    ///
    /// Never blocks. All failures are passed to [`Protocol::handle_close`]. To resolve a
    /// name, use [`connect_host`](Self::connect_host), or
    /// [`to_socket_addrs`](std::net::ToSocketAddrs), which blocks.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::io;
    /// use reactor::{Cause, Io, Protocol, Reactor, Stream};
    ///
    /// struct Probe;
    ///
    /// impl Protocol for Probe {
    ///     fn handle_read(&mut self, _: &mut Io<'_>, _: &[u8]) -> io::Result<()> {
    ///         Ok(())
    ///     }
    /// }
    ///
    /// # fn main() -> io::Result<()> {
    /// # let addr = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    /// let mut reactor = Reactor::new()?;
    /// let token = reactor.add(Stream::connect([addr], Probe))?;
    /// let reason = reactor.run_until_closed(token)?;
    /// let Cause::Error(error) = reason.cause else { panic!("a server listens there") };
    /// assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    /// # Ok(())
    /// # }
    /// ```
    pub fn connect(addrs: impl IntoIterator<Item = SocketAddr>, protocol: P) -> Self {
        Connector::to_addrs(addrs).connect(protocol)
    }

    /// Like [`connect`](Self::connect), but to one address, and from the local address
    /// `from`, whose port may be 0 for a free one. Use this to select a network
    /// interface, or to open more connections to one server than a single local address
    /// has ports for.
    pub fn connect_from(from: SocketAddr, addr: SocketAddr, protocol: P) -> Self {
        Connector::to_addrs([addr]).from(from).connect(protocol)
    }

    /// Connects to a host by name. Another thread resolves the name. Its addresses are
    /// then tried as by [`connect`](Self::connect), alternating between IPv6 and IPv4. To
    /// open many connections to one host, resolve it once.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::io;
    /// use reactor::{Io, Protocol, Reactor, Stream};
    ///
    /// struct Hello;
    ///
    /// impl Protocol for Hello {
    ///     fn handle_connect(&mut self, io: &mut Io<'_>) -> io::Result<()> {
    ///         io.send(b"hello")?;
    ///         io.close();
    ///         Ok(())
    ///     }
    ///     fn handle_read(&mut self, _: &mut Io<'_>, _: &[u8]) -> io::Result<()> {
    ///         Ok(())
    ///     }
    /// }
    ///
    /// # fn main() -> io::Result<()> {
    /// let server = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// let mut reactor = Reactor::new()?;
    /// reactor.add(Stream::connect_host("localhost", server.local_addr()?.port(), Hello))?;
    /// reactor.run()?;
    /// assert_eq!(io::read_to_string(server.accept()?.0)?, "hello");
    /// # Ok(())
    /// # }
    /// ```
    pub fn connect_host(host: &str, port: u16, protocol: P) -> Self {
        Connector::to_host(host, port).connect(protocol)
    }

    /// Takes over a connected stream socket: a `TcpStream`, a `UnixStream`, one end of a
    /// pair. [`Protocol::handle_connect`] is called for it too; if the socket is still
    /// connecting, once it is connected.
    ///
    /// # Errors
    ///
    /// Returns an error if the socket cannot be set to non-blocking mode.
    pub fn new(socket: impl Into<OwnedDescriptor>, protocol: P) -> io::Result<Self> {
        let socket = Socket::from_owned(socket.into())?;
        let peer = socket.peer_addr();
        let is_connecting = socket.is_connecting();
        let mut connection = Connection::new(Endpoint::Socket(socket), peer, Rc::default());
        if is_connecting {
            connection.start_connecting(Connecting::in_progress());
        }
        Ok(Self::from_connection(connection, protocol))
    }

    pub(crate) fn from_connection(connection: Connection, protocol: P) -> Self {
        Stream { protocol, connection }
    }

    /// Sets all limits of the stream.
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.connection.set_limits(limits);
        self
    }

    /// Puts `filter` between the socket and the protocol, behind those that were given
    /// before.
    pub fn with_filter(mut self, filter: impl Filter) -> Self {
        self.connection.add_filter(Box::new(filter));
        self
    }

    /// Returns the protocol.
    pub fn protocol(&self) -> &P {
        &self.protocol
    }

    /// Returns the protocol, to change its state.
    pub fn protocol_mut(&mut self) -> &mut P {
        &mut self.protocol
    }

    /// Returns the protocol, and the [`Io`] that its callbacks receive.
    #[inline(always)]
    pub(crate) fn parts_mut<'a>(
        &'a mut self,
        cx: &'a mut Context,
        mode: SendMode,
    ) -> (&'a mut P, Io<'a>) {
        self.connection.gather_in(mode, || cx.lend_output_buffer());
        (&mut self.protocol, Io::new(&mut self.connection, cx))
    }
}

impl Connector {
    /// Creates a stream that connects. Never blocks; all failures are passed to
    /// [`Protocol::handle_close`].
    pub fn connect<P: Protocol>(&self, protocol: P) -> Stream<P> {
        Stream::from_connection(self.start(), protocol)
    }
}

impl Context {
    /// Calls `f` with the protocol of another stream and its [`Io`], as if in a callback
    /// of that stream, except that [`Limits::high_water`] applies. Returns `None` if
    /// `token` names no open stream with protocol `P`, or the stream being called.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::io;
    /// use reactor::{Context, Io, Protocol, Token};
    ///
    /// struct Player {
    ///     points: u32,
    /// }
    /// # impl Protocol for Player {
    /// #     fn handle_read(&mut self, _: &mut Io<'_>, _: &[u8]) -> io::Result<()> { Ok(()) }
    /// # }
    ///
    /// fn add_point(cx: &mut Context, player: Token) -> io::Result<()> {
    ///     let result = cx.with_stream(player, |player: &mut Player, io| {
    ///         player.points += 1;
    ///         io.send(format!("{} points\n", player.points).as_bytes())
    ///     });
    ///     result.unwrap_or(Ok(()))
    /// }
    /// ```
    pub fn with_stream<P: Protocol, R>(
        &mut self,
        token: Token,
        f: impl FnOnce(&mut P, &mut Io<'_>) -> R,
    ) -> Option<R> {
        self.with_channel(token, |stream: &mut Stream<P>, cx| {
            let (protocol, mut io) = stream.parts_mut(cx, SendMode::Strict);
            f(protocol, &mut io)
        })
    }
}

impl<P> Deref for Stream<P> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}

impl<P> DerefMut for Stream<P> {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.connection
    }
}

impl<P> fmt::Debug for Stream<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Stream").field(&self.connection).finish()
    }
}
