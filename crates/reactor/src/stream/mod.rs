//! [`Stream`]: a connection and the protocol spoken over it.

mod connect;
pub(crate) mod connection;
pub(crate) mod limits;
mod output;
pub(crate) mod permit;
pub(crate) mod protocol;
mod resolve;
mod throttle;

use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use socket2::Socket;

use crate::address::Address;
use crate::reactor::context::Context;
use crate::reactor::dispatcher::{Cause, CloseReason, Dispatcher, TimeoutKind};
use crate::reactor::timers::TimerId;
use crate::stream::connect::Connecting;
use crate::stream::connection::{Connection, Received};
use crate::stream::limits::Limits;
use crate::stream::protocol::{Io, Protocol};
use crate::sys::endpoint::{Descriptor, Endpoint};

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

    /// Connects to `addr` from the address `from`, of which the port may be 0
    /// for a free one: to go out by a certain interface, or to open more
    /// connections to one server than one address has ports.
    ///
    /// Fails where that address cannot be had, or no connection can be begun.
    pub fn connect_from(from: SocketAddr, addr: SocketAddr, protocol: P) -> io::Result<Self> {
        let (socket, peer, connecting) = Connecting::start_from(from, addr)?;
        Ok(Self::from_parts(socket, peer, Some(connecting), protocol))
    }

    /// Connects to a host by its name, without blocking: a thread looks the
    /// name up. Its addresses are tried as RFC 8305 ("Happy Eyeballs") says:
    /// IPv6 and IPv4 in turn, and whenever one has failed, or not answered for
    /// 250 ms, the next one as well; the first that answers is taken.
    /// [`Limits::connect_timeout`] bounds it all. To open many connections to
    /// one host, look it up once and use [`Stream::connect`].
    ///
    /// Fails where no more descriptors are to be had. Every other failure comes
    /// to [`Protocol::handle_close`], an unknown name included.
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
    /// reactor.add(Stream::connect_host("localhost", server.local_addr()?.port(), Hello)?)?;
    /// reactor.run()?;
    /// assert_eq!(io::read_to_string(server.accept()?.0)?, "hello");
    /// # Ok(())
    /// # }
    /// ```
    pub fn connect_host(host: &str, port: u16, protocol: P) -> io::Result<Self> {
        let (socket, peer, connecting) = Connecting::search(host, port)?;
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

    /// Takes over a descriptor of another kind: a pipe, a terminal, a file.
    /// Also called [`FileDispatcher`]. What it was not opened for is not done:
    /// one that is open for writing only is never read.
    ///
    /// It is set to non-blocking mode, and back when the stream is closed. That
    /// mode belongs to what was opened, not to the descriptor: a terminal that
    /// is both standard input and standard output becomes non-blocking for
    /// both, so that a plain `println!` may fail. Open `/dev/tty` anew for this
    /// instead, as the example `follow_pipe` does. A process killed by a signal
    /// sets nothing back: catch it ([`Signals`](crate::signal::Signals)).
    ///
    /// A regular file, and `/dev/null`, is always ready: it is read one buffer a
    /// turn, and others are served in between.
    ///
    /// Fails where the descriptor's mode can be neither read nor set.
    ///
    /// ```
    /// use std::io::{self, Write};
    /// use reactor::{FileDispatcher, Io, Protocol, Reactor};
    ///
    /// struct Count(usize);
    ///
    /// impl Protocol for Count {
    ///     fn handle_read(&mut self, _: &mut Io<'_>, data: &[u8]) -> io::Result<()> {
    ///         self.0 += data.len();
    ///         Ok(())
    ///     }
    ///     fn handle_eof(&mut self, io: &mut Io<'_>) -> io::Result<()> {
    ///         assert_eq!(self.0, 5);
    ///         io.close();
    ///         Ok(())
    ///     }
    /// }
    ///
    /// # fn main() -> io::Result<()> {
    /// let (reader, mut writer) = io::pipe()?;
    /// let mut reactor = Reactor::new()?;
    /// reactor.add(FileDispatcher::from_fd(reader, Count(0))?)?;
    /// writer.write_all(b"hello")?;
    /// drop(writer);
    /// reactor.run()
    /// # }
    /// ```
    pub fn from_fd(fd: impl Into<OwnedFd>, protocol: P) -> io::Result<Self> {
        let descriptor = Descriptor::new(fd.into())?;
        let peer = descriptor.address();
        let endpoint = Endpoint::Descriptor(descriptor);
        Ok(Self::over(Connection::new(endpoint, peer, None, Rc::default(), None), protocol))
    }

    fn from_parts(
        socket: Socket,
        peer: Address,
        connecting: Option<Connecting>,
        protocol: P,
    ) -> Self {
        let endpoint = Endpoint::Socket(socket);
        Self::over(Connection::new(endpoint, peer, connecting, Rc::default(), None), protocol)
    }

    pub(crate) fn over(connection: Connection, protocol: P) -> Self {
        Stream { protocol, connection }
    }

    /// Sets the stream's limits, all at once.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.connection.set_limits(Rc::new(limits));
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

    /// See [`Io::set_idle_timeout`].
    pub fn set_idle_timeout(&mut self, timeout: Option<Duration>) {
        self.connection.set_idle_timeout(timeout);
    }

    /// See [`Io::local_addr`].
    pub fn local_addr(&self) -> io::Result<Address> {
        self.connection.local_addr()
    }

    /// See [`Io::unsent`].
    pub fn unsent(&self) -> usize {
        self.connection.unsent()
    }

    /// See [`Io::peer_addr`].
    pub fn peer_addr(&self) -> Address {
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

    /// Both halves at once, for what is said of a protocol and its stream.
    pub(crate) fn halves(&mut self) -> (&mut P, &mut Connection) {
        (&mut self.protocol, &mut self.connection)
    }

    fn connected(&mut self, cx: &mut Context) -> io::Result<()> {
        cx.progress();
        if !self.connection.is_open() {
            return Ok(());
        }
        let (protocol, mut io) = self.parts(cx);
        protocol.handle_connect(&mut io)
    }

    /// The connection that was under way has come about.
    fn came_about(&mut self, cx: &mut Context) -> io::Result<()> {
        self.connected(cx)?;
        if cx.has_told_of_drain() && !cx.is_doomed() { self.handle_drain(cx) } else { Ok(()) }
    }

    fn count_sent(&mut self, cx: &mut Context) {
        let sent = self.connection.take_sent();
        if sent > 0 {
            cx.stats.sent += sent;
            cx.progress();
        }
    }

    /// No address answered.
    fn not_connected(cx: &mut Context, error: io::Error) {
        let timed_out = error.raw_os_error().is_none() && error.kind() == io::ErrorKind::TimedOut;
        cx.close_with(if timed_out {
            Cause::TimedOut(TimeoutKind::Connect)
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
        (self.connection.wants_read() && self.protocol.readable())
            || self.connection.is_lingering()
            || self.connection.is_searching()
    }

    fn writable(&self) -> bool {
        // What is watched during a search is not the connection.
        !self.connection.is_searching()
            && (self.connection.wants_write()
                || (self.connection.has_room() && self.protocol.writable()))
    }

    fn update_deadline(&mut self, now: Instant) -> Option<Instant> {
        self.connection.update_deadline(now)
    }

    fn poll_close(&mut self) -> Option<Cause> {
        self.connection.poll_close()
    }

    fn unsent(&self) -> usize {
        self.connection.unsent()
    }

    fn handle_add(&mut self, cx: &mut Context) -> io::Result<()> {
        self.connection.start_search()?;
        if self.connection.is_connecting() {
            return Ok(());
        }
        self.connected(cx)
    }

    fn handle_read(&mut self, cx: &mut Context) -> io::Result<()> {
        if self.connection.is_lingering() {
            let mut buffer = cx.take_read_buffer();
            self.connection.discard(&mut buffer);
            cx.progress();
            cx.put_back_read_buffer(buffer);
            return Ok(());
        }
        if self.connection.is_searching() {
            return match self.connection.finish_search(|source| cx.deregister(source)) {
                Ok(()) => self.came_about(cx),
                Err(error) => {
                    Self::not_connected(cx, error);
                    Ok(())
                }
            };
        }
        // An earlier callback of this batch may have paused or closed us.
        if !self.readable() {
            return Ok(());
        }
        let mut buffer = cx.take_read_buffer();
        let received = self.connection.receive(&mut buffer, cx.now());
        match received {
            Ok(Received::Data(read)) => {
                cx.stats.received += read as u64;
                cx.progress();
            }
            Ok(Received::End) | Err(_) => cx.progress(),
            Ok(Received::Nothing) => {}
        }
        let (protocol, mut io) = self.parts(cx);
        let outcome = match received {
            Ok(Received::Data(read)) => protocol.handle_read(&mut io, &buffer[..read]),
            Ok(Received::End) => protocol.handle_eof(&mut io),
            Ok(Received::Nothing) => Ok(()),
            Err(error) => Err(error),
        };
        cx.put_back_read_buffer(buffer);
        self.count_sent(cx);
        outcome
    }

    fn handle_write(&mut self, cx: &mut Context) -> io::Result<()> {
        if self.connection.is_connecting() {
            match self.connection.finish_connect(|source| cx.deregister(source)) {
                Ok(true) => self.came_about(cx)?,
                Ok(false) => return Ok(()),
                Err(error) => {
                    Self::not_connected(cx, error);
                    return Ok(());
                }
            }
        }
        if let Err(error) = self.connection.flush(cx.now()) {
            // After a close the protocol hears of it in `handle_close` only.
            return self.connection.failed(error);
        }
        let mut outcome = Ok(());
        if !cx.is_doomed() && self.connection.has_room() && self.protocol.writable() {
            let (protocol, mut io) = self.parts(cx);
            outcome = protocol.handle_write(&mut io);
        }
        self.count_sent(cx);
        outcome
    }

    fn handle_expt(&mut self, cx: &mut Context) -> io::Result<()> {
        let Some(byte) = self.connection.receive_urgent() else { return Ok(()) };
        cx.progress();
        if !self.connection.is_open() {
            return Ok(());
        }
        let (protocol, mut io) = self.parts(cx);
        protocol.handle_expt(&mut io, byte)
    }

    fn handle_hangup(&mut self, _cx: &mut Context) -> io::Result<()> {
        self.connection.hung_up()
    }

    fn handle_deadline(&mut self, cx: &mut Context) -> io::Result<()> {
        if self.connection.is_connecting() {
            let error = io::Error::from(io::ErrorKind::TimedOut);
            if let Err(error) = self.connection.connect_next(error, |source| cx.deregister(source))
            {
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
        // One that is still connecting is told afterwards.
        if !self.connection.is_open() || self.connection.is_connecting() {
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
        self.count_sent(cx);
        // Whatever the cause was, nothing can be sent any more.
        self.connection.abort();
        let (protocol, mut io) = self.parts(cx);
        protocol.handle_close(&mut io, reason);
    }
}

/// A [`Stream`] over a pipe, a terminal or a file, made by [`Stream::from_fd`].
pub type FileDispatcher<P> = Stream<P>;

impl<P> fmt::Debug for Stream<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Stream").field(&self.connection).finish()
    }
}
