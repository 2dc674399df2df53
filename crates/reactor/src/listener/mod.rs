//! [`Listener`]: accepts connections, whatever happens.

mod accept;
mod rate_limited_log;

use std::cell::Cell;
use std::fmt;
use std::io;
use std::net::ToSocketAddrs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr, Socket, Type};

use crate::address::{Address, first_of};
use crate::listener::accept::{AcceptError, accept, limit_met};
use crate::listener::rate_limited_log::Complaint;
use crate::reactor::context::Context;
use crate::reactor::dispatcher::{Cause, CloseReason, Dispatcher, panicked};
use crate::stream::Stream;
use crate::stream::connection::Connection;
use crate::stream::limits::Limits;
use crate::stream::permit::Permit;
use crate::stream::protocol::Protocol;
use crate::sys::endpoint::Endpoint;
use crate::sys::socket_path::SocketPath;

/// How many connections may wait in the kernel's queue. The system may hold it
/// to less (`net.core.somaxconn`). With std's 128 a burst of 1,000 loses most.
const BACKLOG: i32 = 4096;

/// How many connections one event accepts, so that a storm of them delays
/// those that are open by no more than that.
const ACCEPTS_PER_EVENT: usize = 64;

/// How long to wait where the system has nothing left to accept with.
const RETRY: Duration = Duration::from_millis(100);

/// What becomes of an accepted connection.
type Handler = Box<dyn FnMut(&mut Context, Accepted) -> io::Result<()>>;

/// A connection that was accepted.
struct Accepted {
    socket: Socket,
    peer: Address,
    limits: Rc<Limits>,
    permit: Permit,
}

/// A listening socket that makes a [`Stream`] of each connection.
///
/// A shortage of descriptors or memory pauses it for a moment; a connection
/// that fails between the kernel's queue and its [`Protocol`] is dropped. Only
/// a broken listening socket closes it.
///
/// ```no_run
/// # use std::io;
/// # use reactor::{Io, Protocol};
/// # struct Echo;
/// # impl Protocol for Echo {
/// #     fn handle_read(&mut self, io: &mut Io<'_>, data: &[u8]) -> io::Result<()> { io.send(data) }
/// # }
/// use reactor::{Listener, Reactor};
///
/// # fn main() -> io::Result<()> {
/// let mut reactor = Reactor::new()?;
/// reactor.add(Listener::bind("127.0.0.1:9999", |peer| {
///     println!("Incoming connection from {peer}");
///     Ok(Echo)
/// })?)?;
/// reactor.run()
/// # }
/// ```
pub struct Listener {
    /// Removed with the listener, and before its socket is closed: nobody is
    /// to find the path stale.
    _path: Option<SocketPath>,
    socket: Socket,
    local: Address,
    handler: Handler,
    limits: Rc<Limits>,
    /// The connections that were accepted here and are open.
    open: Rc<Cell<usize>>,
    most: usize,
    refused: Complaint,
    shortage: Complaint,
    /// Accepting waits for this instant.
    paused_until: Option<Instant>,
    /// How many more connections to accept before closing.
    last: Option<usize>,
}

impl Listener {
    /// Listens on a TCP address; port 0 takes a free port. A name is looked up
    /// here, and of several addresses the first that can be had is taken.
    ///
    /// `handle_accepted` is given the peer's address and makes the protocol
    /// for the new stream. Its error, or its panic, refuses that connection
    /// and is logged.
    ///
    /// Fails where no address can be had: `AddrInUse`, `AddrNotAvailable`
    /// (not an address of this machine), `PermissionDenied` (a port that only
    /// the superuser may take). The message names the address.
    pub fn bind<P: Protocol>(
        addr: impl ToSocketAddrs,
        handle_accepted: impl FnMut(&Address) -> io::Result<P> + 'static,
    ) -> io::Result<Self> {
        let socket = first_of(addr, |addr| open(&addr.into(), Domain::for_address(addr), false))?;
        Self::over(socket, None, making_streams(handle_accepted))
    }

    /// As [`bind`](Self::bind), on an address that others may share who bind it
    /// in the same way (`SO_REUSEPORT`): a listener for each of several
    /// reactors, among which the kernel distributes the connections.
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
        let socket = first_of(addr, |addr| open(&addr.into(), Domain::for_address(addr), true))?;
        Self::over(socket, None, making_streams(handle_accepted))
    }

    /// Listens on a Unix socket. A path left behind by a server that is gone
    /// is taken over; one on which somebody listens is `AddrInUse`. The path
    /// is removed with the listener.
    pub fn bind_unix<P: Protocol>(
        path: impl AsRef<Path>,
        handle_accepted: impl FnMut(&Address) -> io::Result<P> + 'static,
    ) -> io::Result<Self> {
        let open = |addr: &SockAddr| open(addr, Domain::UNIX, false);
        let (socket, path) = SocketPath::bind(path.as_ref(), Type::STREAM, open)?;
        Self::over(socket, path, making_streams(handle_accepted))
    }

    /// Takes over a socket that listens already: a `TcpListener`, a
    /// `UnixListener`, one that was inherited or made with options of one's
    /// own.
    pub fn new<P: Protocol>(
        socket: impl Into<OwnedFd>,
        handle_accepted: impl FnMut(&Address) -> io::Result<P> + 'static,
    ) -> io::Result<Self> {
        Self::over(socket.into().into(), None, making_streams(handle_accepted))
    }

    /// Takes over a socket that listens already, and makes no streams: hands
    /// each connection that it accepts to `handle_accepted` as it is, in
    /// non-blocking mode. To give it to another reactor, say.
    /// [`limits`](Self::limits) and [`max_connections`](Self::max_connections)
    /// are of no effect then.
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
    ///     cx.stop(); // one is enough
    ///     let add = move |cx: &mut Context| match Stream::new(socket, Hello) {
    ///         Ok(stream) => drop(cx.add(stream)),
    ///         Err(error) => eprintln!("lost a connection: {error}"),
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
        socket: impl Into<OwnedFd>,
        mut handle_accepted: impl FnMut(&mut Context, OwnedFd, &Address) -> io::Result<()> + 'static,
    ) -> io::Result<Self> {
        let hand_over = move |cx: &mut Context, accepted: Accepted| {
            handle_accepted(cx, accepted.socket.into(), &accepted.peer)
        };
        Self::over(socket.into().into(), None, Box::new(hand_over))
    }

    fn over(socket: Socket, path: Option<SocketPath>, handler: Handler) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Listener {
            _path: path,
            local: Address::from(socket.local_addr()?),
            socket,
            handler,
            limits: Rc::default(),
            open: Rc::default(),
            most: usize::MAX,
            refused: Complaint::default(),
            shortage: Complaint::default(),
            paused_until: None,
            last: None,
        })
    }

    /// Sets the limits of the streams that it makes.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = Rc::new(limits);
        self
    }

    /// Closes a new connection at once while `most` accepted here are open.
    /// (Accepted, not left in the queue: the client learns of it.)
    #[must_use]
    pub fn with_max_connections(mut self, most: usize) -> Self {
        self.most = most;
        self
    }

    /// Where it listens: with the port that was taken for port 0.
    pub fn local_addr(&self) -> &Address {
        &self.local
    }

    /// How many connections were refused: over
    /// [`max_connections`](Self::max_connections), or by `handle_accepted`.
    pub fn refused(&self) -> u64 {
        self.refused.count
    }

    /// Accepts what waits, up to the limit for one event.
    fn accept_waiting(&mut self, cx: &mut Context) -> io::Result<()> {
        for _ in 0..ACCEPTS_PER_EVENT {
            if cx.is_doomed() {
                return Ok(());
            }
            if self.last == Some(0) {
                cx.close(cx.token());
                return Ok(());
            }
            match accept(&self.socket) {
                Ok((socket, peer)) => {
                    cx.stats.accepted += 1;
                    cx.progress();
                    self.last = self.last.map(|last| last - 1);
                    self.handle_accepted(cx, socket, Address::from(peer));
                }
                Err(error) => match AcceptError::of(&error) {
                    AcceptError::Connection => {
                        cx.stats.accept_errors += 1;
                        log::debug!("{}: accept: {error}", self.local);
                    }
                    AcceptError::Empty => {
                        if self.last.is_some() {
                            cx.close(cx.token());
                        }
                        return Ok(());
                    }
                    AcceptError::Shortage => {
                        cx.stats.accept_pauses += 1;
                        self.paused_until = cx.now().checked_add(RETRY);
                        let (local, open) = (&self.local, self.open.get());
                        self.shortage.note(cx.now(), |count| {
                            log::error!(
                                "{local}: cannot accept with {open} connections open, \
                                 trying again: {error}{} ({count} times so far)",
                                limit_met(&error)
                            );
                        });
                        return Ok(());
                    }
                    AcceptError::Fatal => return Err(error),
                },
            }
        }
        Ok(())
    }

    fn handle_accepted(&mut self, cx: &mut Context, socket: Socket, peer: Address) {
        let refusal = if self.open.get() >= self.most {
            cx.stats.rejected_over_limit += 1;
            format!("{} connections are open, the most allowed", self.most)
        } else {
            let name = peer.clone();
            let permit = Permit::new(&self.open);
            let accepted = Accepted { socket, peer, limits: Rc::clone(&self.limits), permit };
            let handler = AssertUnwindSafe(|| (self.handler)(cx, accepted));
            let outcome = match catch_unwind(handler) {
                Ok(Ok(())) => return,
                Ok(Err(error)) => format!("{name}: {error}"),
                Err(payload) => format!("{name}: {}", panicked(&*payload)),
            };
            cx.stats.rejected_by_handler += 1;
            outcome
        };
        let local = &self.local;
        self.refused.note(cx.now(), |count| {
            log::warn!("{local}: refused a connection ({count} so far): {refusal}");
        });
    }
}

impl Dispatcher for Listener {
    fn source(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    fn readable(&self) -> bool {
        self.paused_until.is_none()
    }

    fn update_deadline(&mut self, _now: Instant) -> Option<Instant> {
        self.paused_until
    }

    fn handle_read(&mut self, cx: &mut Context) -> io::Result<()> {
        self.accept_waiting(cx)
    }

    fn handle_deadline(&mut self, cx: &mut Context) -> io::Result<()> {
        self.paused_until = None;
        self.accept_waiting(cx)
    }

    /// Closing would reset what waits in the queue: it is accepted first.
    fn handle_drain(&mut self, cx: &mut Context) -> io::Result<()> {
        self.last.get_or_insert(BACKLOG as usize);
        self.accept_waiting(cx)
    }

    fn handle_error(&mut self, _cx: &mut Context, cause: &Cause) {
        log::error!("{}: the listener closes: {cause}", self.local);
    }

    fn handle_close(&mut self, _cx: &mut Context, reason: &CloseReason) {
        log::debug!("{}: listener: {reason}", self.local);
        if self.refused.count > 0 {
            log::warn!("{}: refused {} connections in all", self.local, self.refused.count);
        }
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener")
            .field("local", &self.local)
            .field("open", &self.open.get())
            .field("refused", &self.refused.count)
            .finish_non_exhaustive()
    }
}

/// Makes a stream of each connection, that speaks what `handle_accepted` makes.
fn making_streams<P: Protocol>(
    mut handle_accepted: impl FnMut(&Address) -> io::Result<P> + 'static,
) -> Handler {
    Box::new(move |cx, accepted| {
        let protocol = handle_accepted(&accepted.peer)?;
        let Accepted { socket, peer, limits, permit } = accepted;
        let connection =
            Connection::new(Endpoint::Socket(socket), peer, None, limits, Some(permit));
        cx.add(Stream::over(connection, protocol)).map(drop)
    })
}

fn open(addr: &SockAddr, domain: Domain, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(domain, Type::STREAM, None)?;
    if domain != Domain::UNIX {
        // A restart takes the port although old connections are in TIME-WAIT.
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(shared)?;
        // Accepted sockets inherit it; so small answers go out at once.
        socket.set_tcp_nodelay(true)?;
    }
    socket.bind(addr)?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}
