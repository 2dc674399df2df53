//! [`Connector`]: where to connect to, and how.

use std::net::SocketAddr;
use std::rc::Rc;

use crate::address::Address;
use crate::stream::connect::Connecting;
use crate::stream::connection::Connection;
use crate::stream::limits::Limits;
use crate::sys::endpoint::Endpoint;
use crate::sys::socket_options::SocketOptions;
use crate::sys::unix_socket::UnixTarget;

/// Where to connect to, and how. It creates any number of streams; each resolves a host
/// name anew.
///
/// [`Stream::connect`](crate::Stream::connect) and its variants are shorter if no socket
/// options are needed.
///
/// # Examples
///
/// ```
/// # use std::io;
/// # use reactor::{Io, Protocol};
/// # struct Hello;
/// # impl Protocol for Hello {
/// #     fn handle_read(&mut self, _: &mut Io<'_>, _: &[u8]) -> io::Result<()> { Ok(()) }
/// # }
/// use std::time::Duration;
/// use reactor::{Connector, Keepalive, Reactor, SocketOptions};
///
/// # fn main() -> io::Result<()> {
/// let keepalive = Keepalive { idle: Some(Duration::from_secs(30)), ..Keepalive::default() };
/// let options = SocketOptions { keepalive: Some(keepalive), ..SocketOptions::default() };
/// let server = Connector::to_host("localhost", 9999).with_socket_options(options);
/// let mut reactor = Reactor::new()?;
/// reactor.add(server.connect(Hello))?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Connector {
    target: Target,
    from: Option<SocketAddr>,
    options: SocketOptions,
    limits: Option<Limits>,
}

#[derive(Clone, Debug)]
pub(super) enum Target {
    Addrs(Vec<SocketAddr>),
    Host(Box<str>, u16),
    #[cfg_attr(windows, expect(dead_code, reason = "there are no Unix sockets"))]
    Unix(UnixTarget),
}

impl Connector {
    pub(super) fn new(target: Target) -> Self {
        Connector { target, from: None, options: SocketOptions::default(), limits: None }
    }

    /// Connects to one of `addrs`, as [`Stream::connect`](crate::Stream::connect) does.
    pub fn to_addrs(addrs: impl IntoIterator<Item = SocketAddr>) -> Self {
        Self::new(Target::Addrs(addrs.into_iter().collect()))
    }

    /// Connects to a host by name, as [`Stream::connect_host`](crate::Stream::connect_host) does.
    pub fn to_host(host: &str, port: u16) -> Self {
        Self::new(Target::Host(host.into(), port))
    }

    /// Connects from the local address `from`, as
    /// [`Stream::connect_from`](crate::Stream::connect_from) does.
    pub(super) fn from(mut self, from: SocketAddr) -> Self {
        self.from = Some(from);
        self
    }

    /// Sets options on the socket of each attempt, before it starts, as the buffer sizes
    /// require (tcp(7)). If one cannot be set, the attempt fails with an error that names
    /// it.
    pub fn with_socket_options(mut self, options: SocketOptions) -> Self {
        self.options = options;
        self
    }

    /// Sets the limits of the streams.
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = Some(limits);
        self
    }

    /// Returns the address of the streams before they are connected.
    fn peer(&self) -> Address {
        match &self.target {
            Target::Addrs(addrs) => {
                addrs.first().map_or(Address::Unknown, |&addr| Address::Inet(addr))
            }
            Target::Host(host, port) => Address::Host(format!("{host}:{port}").into()),
            Target::Unix(target) => target.address(),
        }
    }

    /// Starts to connect.
    pub(super) fn start(&self) -> Connection {
        let options = self.options;
        let (connecting, attempt) = match &self.target {
            Target::Addrs(addrs) => Connecting::to_addrs(addrs.clone(), self.from, options),
            Target::Host(host, port) => (Connecting::to_host(host, *port, options), None),
            Target::Unix(target) => Connecting::to_unix(target.clone(), options),
        };
        let (endpoint, peer) = match attempt {
            Some((socket, peer)) => (Endpoint::Socket(socket), peer),
            None => (Endpoint::Unconnected, self.peer()),
        };
        let mut connection = Connection::new(endpoint, peer, Rc::default());
        connection.start_connecting(connecting);
        if let Some(limits) = self.limits {
            connection.set_limits(limits);
        }
        connection
    }
}
