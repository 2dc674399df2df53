//! Listening on a TCP address, every address of a name, or a socket that is passed in.

use std::cell::RefCell;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, ToSocketAddrs};
use std::rc::Rc;

use crate::address::{Address, try_each_addr};
use crate::listener::Listener;
use crate::listener::accepted::{Accepted, Handler, stream_handler};
use crate::reactor::Context;
use crate::stream::protocol::Protocol;
use crate::sys::descriptor::OwnedDescriptor;
use crate::sys::either::Socket;
use crate::sys::socket::ListenOptions;

/// How often to select another port for port 0, if one of the addresses has no free
/// port of the same number.
const MAX_PORT_ATTEMPTS: usize = 16;

impl Listener {
    /// Listens on a TCP address; port 0 selects a free port. Resolving a name blocks. If
    /// it has several addresses, the first that can be bound is used (see
    /// [`bind_all`](Self::bind_all)).
    ///
    /// `handle_accepted` receives the peer's address and returns the protocol of the new
    /// stream. Its error, or its panic, rejects that connection and is logged.
    ///
    /// # Errors
    ///
    /// Returns an error that names the address if none can be bound: `AddrInUse`,
    /// `AddrNotAvailable` (not an address of this machine), `PermissionDenied` (a
    /// privileged port).
    pub fn bind<P: Protocol>(
        addr: impl ToSocketAddrs,
        handle_accepted: impl FnMut(&Address) -> io::Result<P> + 'static,
    ) -> io::Result<Self> {
        let socket = try_each_addr(addr, |addr| Socket::listen(addr, ListenOptions::default()))?;
        Self::from_socket(socket, handle_accepted)
    }

    /// Like [`bind`](Self::bind), but sets `SO_REUSEPORT`, so that several listeners can
    /// share the address. Use one listener per reactor. On Linux and FreeBSD, the kernel
    /// distributes connections among them; on macOS and the other BSDs, one listener may
    /// receive all connections.
    ///
    /// # Errors
    ///
    /// The same as for [`bind`](Self::bind), and `Unsupported` on illumos and Windows.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::io;
    /// # use reactor::{Io, Listener, Protocol};
    /// # struct Echo;
    /// # impl Protocol for Echo {
    /// #     fn handle_read(&mut self, io: &mut Io<'_>, data: &[u8]) -> io::Result<()> { io.send(data) }
    /// # }
    /// # fn main() -> io::Result<()> {
    /// let first = Listener::bind_reuse_port("127.0.0.1:0", |_| Ok(Echo))?;
    /// let addr = first.local_addr().as_inet().unwrap();
    /// let second = Listener::bind_reuse_port(addr, |_| Ok(Echo))?;
    /// assert_eq!(first.local_addr(), second.local_addr());
    /// # Ok(())
    /// # }
    /// ```
    pub fn bind_reuse_port<P: Protocol>(
        addr: impl ToSocketAddrs,
        handle_accepted: impl FnMut(&Address) -> io::Result<P> + 'static,
    ) -> io::Result<Self> {
        let options = ListenOptions { reuse_port: true, ..ListenOptions::default() };
        let socket = try_each_addr(addr, |addr| Socket::listen(addr, options))?;
        Self::from_socket(socket, handle_accepted)
    }

    /// Listens on every address of `addrs`, for a name such as `localhost` that has
    /// several. Port 0 selects one free port for all of them. A name is resolved, which
    /// blocks.
    ///
    /// An address that this machine does not have, or of a family that it does not
    /// support, is skipped and logged, if there is another one. All listeners share
    /// `handle_accepted`. To limit their connections together, give them one
    /// [`ConnectionLimit`](crate::ConnectionLimit).
    ///
    /// # Errors
    ///
    /// The same as for [`bind`](Self::bind). It also fails if only one of several
    /// addresses is in use, because clients of that address would reach another server.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::io;
    /// # use reactor::{Io, Listener, Protocol, Reactor};
    /// # struct Echo;
    /// # impl Protocol for Echo {
    /// #     fn handle_read(&mut self, io: &mut Io<'_>, data: &[u8]) -> io::Result<()> { io.send(data) }
    /// # }
    /// # fn main() -> io::Result<()> {
    /// let mut reactor = Reactor::new()?;
    /// for listener in Listener::bind_all("localhost:0", |_| Ok(Echo))? {
    ///     println!("listening on {}", listener.local_addr());
    ///     reactor.add(listener)?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn bind_all<P: Protocol>(
        addrs: impl ToSocketAddrs,
        handle_accepted: impl FnMut(&Address) -> io::Result<P> + 'static,
    ) -> io::Result<Vec<Self>> {
        Self::bind_all_with(addrs, false, handle_accepted)
    }

    /// Like [`bind_all`](Self::bind_all), but sets `SO_REUSEPORT`, as
    /// [`bind_reuse_port`](Self::bind_reuse_port) does.
    ///
    /// # Errors
    ///
    /// The same as for [`bind_all`](Self::bind_all).
    pub fn bind_all_reuse_port<P: Protocol>(
        addrs: impl ToSocketAddrs,
        handle_accepted: impl FnMut(&Address) -> io::Result<P> + 'static,
    ) -> io::Result<Vec<Self>> {
        Self::bind_all_with(addrs, true, handle_accepted)
    }

    /// Takes over a listening socket: a `TcpListener`, a `UnixListener`, an inherited
    /// socket, or one created with custom options.
    ///
    /// # Errors
    ///
    /// Returns an error if it is no socket; `InvalidInput` if it does not listen.
    pub fn new<P: Protocol>(
        socket: impl Into<OwnedDescriptor>,
        handle_accepted: impl FnMut(&Address) -> io::Result<P> + 'static,
    ) -> io::Result<Self> {
        Self::from_listening(socket.into(), stream_handler(handle_accepted))
    }

    /// Takes over a listening socket, and passes each accepted socket, in non-blocking
    /// mode, to `handle_accepted` instead of creating a stream, for example to pass it to
    /// another reactor. [`with_limits`](Self::with_limits) and
    /// [`with_max_connections`](Self::with_max_connections) have no effect.
    ///
    /// # Errors
    ///
    /// Returns an error if it is no socket; `InvalidInput` if it does not listen.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::io;
    /// use std::net::{TcpListener, TcpStream};
    /// use reactor::{Context, Io, Listener, Protocol, Reactor, Stream};
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
    /// let (mut acceptor, mut worker) = (Reactor::new()?, Reactor::new()?);
    /// let handle = worker.handle();
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let client = TcpStream::connect(listener.local_addr()?)?;
    /// acceptor.add(Listener::with_handler(listener, move |cx, socket, _peer| {
    ///     cx.stop(); // after the first connection
    ///     let add = move |cx: &mut Context| match Stream::new(socket, Hello) {
    ///         Ok(stream) => drop(cx.add(stream)),
    ///         Err(error) => eprintln!("cannot add the connection: {error}"),
    ///     };
    ///     handle.post(add).map_err(io::Error::other)
    /// })?)?;
    /// acceptor.run()?;
    /// worker.run()?;
    /// assert_eq!(io::read_to_string(client)?, "hello");
    /// # Ok(())
    /// # }
    /// ```
    pub fn with_handler(
        socket: impl Into<OwnedDescriptor>,
        mut handle_accepted: impl FnMut(&mut Context, OwnedDescriptor, &Address) -> io::Result<()>
        + 'static,
    ) -> io::Result<Self> {
        let handler = move |cx: &mut Context, accepted: Accepted<'_>| {
            // The count belongs to streams.
            accepted.config.release();
            handle_accepted(cx, accepted.socket.into_owned()?, &accepted.peer)
        };
        Self::from_listening(socket.into(), Box::new(handler))
    }

    fn from_listening(socket: OwnedDescriptor, handler: Handler) -> io::Result<Self> {
        let mut listener = Self::from_parts(Socket::from_listening(socket)?, None, handler)?;
        listener.sets_nodelay = true;
        Ok(listener)
    }

    fn from_socket<P: Protocol>(
        socket: Socket,
        handle_accepted: impl FnMut(&Address) -> io::Result<P> + 'static,
    ) -> io::Result<Self> {
        Self::from_parts(socket, None, stream_handler(handle_accepted))
    }

    fn bind_all_with<P: Protocol>(
        addrs: impl ToSocketAddrs,
        reuse_port: bool,
        handle_accepted: impl FnMut(&Address) -> io::Result<P> + 'static,
    ) -> io::Result<Vec<Self>> {
        let sockets = listen_all(&distinct(addrs.to_socket_addrs()?), reuse_port)?;
        let shared = Rc::new(RefCell::new(handle_accepted));
        let listener = |socket| {
            let shared = Rc::clone(&shared);
            Self::from_socket(socket, move |peer: &Address| (shared.borrow_mut())(peer))
        };
        sockets.into_iter().map(listener).collect()
    }
}

/// A resolver may return an address twice.
fn distinct(addrs: impl Iterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let mut distinct = Vec::new();
    for addr in addrs {
        if !distinct.contains(&addr) {
            distinct.push(addr);
        }
    }
    distinct
}

fn listen_all(addrs: &[SocketAddr], reuse_port: bool) -> io::Result<Vec<Socket>> {
    // Both families at once: `[::]` must not include IPv4, or else `0.0.0.0` is in use.
    let only_v6 = addrs.iter().any(SocketAddr::is_ipv4);
    let options = ListenOptions { reuse_port, only_v6 };
    let mut attempts = 1;
    loop {
        match try_listen_all(addrs, options) {
            Err(error)
                if error.kind() == ErrorKind::AddrInUse
                    && addrs.iter().any(|addr| addr.port() == 0)
                    && attempts < MAX_PORT_ATTEMPTS =>
            {
                attempts += 1;
            }
            result => return result,
        }
    }
}

fn try_listen_all(addrs: &[SocketAddr], options: ListenOptions) -> io::Result<Vec<Socket>> {
    let mut sockets = Vec::new();
    let mut skipped = Vec::new();
    let mut selected_port = None;
    for &addr in addrs {
        let mut addr = addr;
        if addr.port() == 0 {
            addr.set_port(selected_port.unwrap_or(0));
        }
        match Socket::listen(addr, options) {
            Ok(socket) => {
                let local = socket.local_addr()?.as_inet();
                selected_port = selected_port.or(local.map(|local| local.port()));
                sockets.push(socket);
            }
            Err(error) => {
                let named = io::Error::new(error.kind(), format!("{addr}: {error}"));
                if !is_address_missing(&error) {
                    return Err(named);
                }
                skipped.push(named);
            }
        }
    }
    match skipped.pop() {
        Some(error) if sockets.is_empty() => return Err(error),
        Some(error) => skipped.push(error),
        None if sockets.is_empty() => {
            return Err(io::Error::new(ErrorKind::InvalidInput, "no address given"));
        }
        None => {}
    }
    for error in skipped {
        log::warn!("not listening on {error}");
    }
    Ok(sockets)
}

/// Returns `true` if this machine does not have the address.
fn is_address_missing(error: &io::Error) -> bool {
    // A kernel without IPv6 has no such sockets: EAFNOSUPPORT.
    matches!(error.kind(), ErrorKind::AddrNotAvailable) || Socket::is_family_missing(error)
}
