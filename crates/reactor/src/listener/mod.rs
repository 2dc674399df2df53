//! [`Listener`]: accepts connections, and survives what may go wrong with them.

mod accepted;
mod bind;
mod rate_limited_log;
mod rejection;
#[cfg(unix)]
mod unix;

use std::fmt;
use std::io;
use std::rc::Rc;
use std::time::Instant;

use crate::address::Address;
use crate::backoff::Backoff;
use crate::filter::Filter;
use crate::listener::accepted::{Accepted, FilterFactory, Handler};
use crate::listener::rate_limited_log::RateLimitedLog;
use crate::listener::rejection::Lingering;
use crate::reactor::{Cause, CloseReason, Context, Dispatcher, catch_panic};
use crate::stream::config::StreamConfig;
use crate::stream::connection_limit::ConnectionLimit;
use crate::stream::limits::Limits;
use crate::sys::accept::{AcceptError, fd_limit_hint};
use crate::sys::either::Socket;
use crate::sys::socket::SockRef;
use crate::sys::socket_options::SocketOptions;
use crate::sys::socket_path::SocketPath;
use crate::sys::source::Source;

/// How many connections one event accepts, so that many connections do not delay the
/// open ones for longer.
const MAX_ACCEPTS_PER_EVENT: usize = 64;

/// How many queued connections a draining listener accepts.
const MAX_ACCEPTS_WHILE_DRAINING: usize = 4096;

/// Returns the last message to a peer over the limit.
type Rejection = Box<dyn FnMut(&Address) -> Vec<u8>>;

/// A listening socket that creates a [`Stream`](crate::Stream) for each connection.
///
/// If accept(2) fails, for example because no file descriptors are available, the
/// listener stops accepting for 10 ms. The delay doubles with each failure, up to one
/// second. A connection that fails before its [`Protocol`](crate::Protocol) exists is dropped. Only an
/// error of the listening socket itself closes the listener.
///
/// # Examples
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
#[must_use]
pub struct Listener {
    /// Removed before the socket is closed: no program must find a stale path.
    _path: Option<SocketPath>,
    socket: Socket,
    local: Address,
    handler: Handler,
    filters: Vec<FilterFactory>,
    /// What the streams share; its limit counts them.
    config: Rc<StreamConfig>,
    limit: ConnectionLimit,
    /// Accepted sockets may not have inherited `TCP_NODELAY`: connections that were queued
    /// before this library set it.
    sets_nodelay: bool,
    /// Set on each accepted socket.
    options: Option<SocketOptions>,
    rejection: Option<Rejection>,
    lingering: Lingering,
    rejected: RateLimitedLog,
    /// The user has paused it.
    paused: bool,
    /// After accept(2) failed.
    backoff: Backoff,
    failures: RateLimitedLog,
    /// How many more connections are accepted before a drain closes the listener.
    drain_remaining: Option<usize>,
}

impl Listener {
    fn from_parts(socket: Socket, path: Option<SocketPath>, handler: Handler) -> io::Result<Self> {
        let limit = ConnectionLimit::default();
        Ok(Listener {
            _path: path,
            local: socket.local_addr()?,
            socket,
            handler,
            filters: Vec::new(),
            config: Rc::new(StreamConfig::counted(Limits::default(), limit.clone())),
            limit,
            sets_nodelay: false,
            options: None,
            rejection: None,
            lingering: Lingering::default(),
            rejected: RateLimitedLog::default(),
            paused: false,
            backoff: Backoff::default(),
            failures: RateLimitedLog::default(),
            drain_remaining: None,
        })
    }

    /// Sets the limits of the streams it creates.
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.config = Rc::new(StreamConfig::counted(limits, self.limit.clone()));
        self
    }

    /// Sets options of the listening socket, which apply from the first packet of a
    /// connection on, and of each accepted one, since systems differ in what is inherited.
    ///
    /// # Errors
    ///
    /// Returns an error that names the address and the first option that cannot be set. If
    /// that happens to an accepted connection, it is rejected and logged.
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
    /// use reactor::{Keepalive, SocketOptions};
    ///
    /// # fn main() -> io::Result<()> {
    /// let keepalive = Some(Keepalive::default());
    /// let listener = Listener::bind("127.0.0.1:0", |_| Ok(Echo))?
    ///     .with_socket_options(SocketOptions { keepalive, ..SocketOptions::default() })?;
    /// # drop(listener);
    /// # Ok(())
    /// # }
    /// ```
    pub fn with_socket_options(mut self, options: SocketOptions) -> io::Result<Self> {
        self.socket
            .set_options(&options)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", self.local)))?;
        self.options = Some(options);
        Ok(self)
    }

    /// Closes each new connection while `max` connections accepted by this listener are
    /// open. Such a connection is accepted and then closed, rather than left in the
    /// queue. The client reads the message set by
    /// [`with_rejection`](Self::with_rejection), if any, then end of file.
    pub fn with_max_connections(self, max: usize) -> Self {
        self.with_connection_limit(ConnectionLimit::new(max))
    }

    /// Like [`with_max_connections`](Self::with_max_connections), but with a limit that
    /// several listeners can share, including those of other threads.
    pub fn with_connection_limit(mut self, limit: ConnectionLimit) -> Self {
        self.config = Rc::new(StreamConfig::counted(*self.config.limits(), limit.clone()));
        self.limit = limit;
        self
    }

    /// Gives each stream the filter that `create` returns for its peer, behind those that
    /// were given before. If it returns an error, the connection is rejected.
    ///
    /// The closure that creates the protocol, and `create`, receive the address of the
    /// socket's peer, which a filter may replace until
    /// [`Protocol::handle_connect`](crate::Protocol::handle_connect) is called.
    pub fn with_filter<F: Filter>(
        mut self,
        mut create: impl FnMut(&Address) -> io::Result<F> + 'static,
    ) -> Self {
        self.filters.push(Box::new(move |peer| Ok(Box::new(create(peer)?))));
        self
    }

    /// Sends what `message` returns to each peer over the connection limit, before the end
    /// of input. Not if the listener has a [filter](Self::with_filter), through which the
    /// message would have to pass. Default: nothing.
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
    /// let listener = Listener::bind("127.0.0.1:0", |_| Ok(Echo))?
    ///     .with_max_connections(1_000)
    ///     .with_rejection(|_peer| b"too many connections, try again later\n".to_vec());
    /// # drop(listener);
    /// # Ok(())
    /// # }
    /// ```
    pub fn with_rejection(mut self, message: impl FnMut(&Address) -> Vec<u8> + 'static) -> Self {
        self.rejection = Some(Box::new(message));
        self
    }

    /// Returns the address it is bound to, with the port that was selected for port 0.
    pub fn local_addr(&self) -> &Address {
        &self.local
    }

    /// Returns a reference on which any socket option can be read and set. Accepted sockets
    /// inherit some of them (socket(7), tcp(7)).
    #[must_use]
    pub fn socket_options(&self) -> SockRef<'_> {
        self.socket.options()
    }

    /// Stops accepting. New connections wait in the kernel's queue.
    pub fn pause(&mut self) {
        self.paused = true;
    }

    /// Continues accepting after [`pause`](Self::pause).
    pub fn resume(&mut self) {
        self.paused = false;
    }

    /// Returns how many connections were rejected, by the limit or by `handle_accepted`.
    pub fn rejected(&self) -> u64 {
        self.rejected.count()
    }

    /// Accepts the connections that are pending, up to the limit for one event.
    fn accept_pending(&mut self, cx: &mut Context) -> io::Result<()> {
        let mut last_error = None;
        for _ in 0..MAX_ACCEPTS_PER_EVENT {
            if cx.is_closing() || (self.paused && self.drain_remaining.is_none()) {
                return Ok(());
            }
            if self.drain_remaining == Some(0) {
                break;
            }
            let error = match self.socket.accept() {
                Ok((socket, peer)) => {
                    cx.count_accepted();
                    last_error = None;
                    self.backoff.reset();
                    self.drain_remaining = self.drain_remaining.map(|remaining| remaining - 1);
                    self.handle_accepted(cx, socket, peer);
                    continue;
                }
                Err(error) => error,
            };
            match AcceptError::classify(&error, || self.socket.is_listening()) {
                AcceptError::Retry => {
                    cx.count_accept_error();
                    log::debug!("{}: accept: {error}", self.local);
                    last_error = Some(error);
                }
                AcceptError::WouldBlock => {
                    last_error = None;
                    break;
                }
                AcceptError::Pause => {
                    self.pause_after(cx, &error);
                    return Ok(());
                }
                AcceptError::Fatal => return Err(error),
            }
        }
        let is_drained = |remaining| remaining == 0 || !self.source().check_readable();
        if self.drain_remaining.is_some_and(is_drained) {
            cx.close(cx.token());
            return Ok(());
        }
        // Nothing else was left to try: a persistent error must not spin either.
        if let Some(error) = last_error {
            self.pause_after(cx, &error);
        }
        Ok(())
    }

    /// Pauses accepting because of `error`, and logs it.
    fn pause_after(&mut self, cx: &mut Context, error: &io::Error) {
        cx.count_accept_pause();
        let (local, open) = (&self.local, self.limit.open_count());
        self.backoff.start(cx.now());
        self.failures.record(cx.now(), |count| {
            log::error!(
                "{local}: cannot accept with {open} connections open, trying again: \
                 {error}{} ({count} times so far)",
                fd_limit_hint(error)
            );
        });
    }

    fn handle_accepted(&mut self, cx: &mut Context, socket: Socket, peer: Address) {
        let message = if self.limit.try_acquire() {
            let name = peer.clone();
            let config = Rc::clone(&self.config);
            let accepted = Accepted { socket, peer, config, filters: &mut self.filters };
            let result = catch_panic(|| {
                if self.sets_nodelay {
                    accepted.socket.set_nodelay();
                }
                if let Some(options) = &self.options {
                    accepted.socket.set_options(options)?;
                }
                (self.handler)(cx, accepted)
            });
            let message = match result {
                Ok(Ok(())) => return,
                Ok(Err(error)) => format!("{name}: {error}"),
                Err(panic) => format!("{name}: {panic}"),
            };
            cx.count_rejected_by_handler();
            message
        } else {
            cx.count_rejected_over_limit();
            self.reject(cx, socket, &peer);
            format!("connection limit ({}) reached", self.limit.max())
        };
        let local = &self.local;
        self.rejected.record(cx.now(), |count| {
            log::warn!("{local}: rejected a connection ({count} so far): {message}");
        });
    }
}

impl Listener {
    /// Closes a connection over the limit gracefully.
    fn reject(&mut self, cx: &mut Context, socket: Socket, peer: &Address) {
        let mut message = Vec::new();
        if let Some(rejection) = &mut self.rejection
            && self.filters.is_empty()
        {
            match catch_panic(|| rejection(peer)) {
                Ok(last) => message = last,
                Err(panic) => log::error!("{peer}: {panic}"),
            }
        }
        self.lingering.reject(cx, socket, message);
    }
}

impl Dispatcher for Listener {
    fn source(&self) -> Source<'_> {
        self.socket.source()
    }

    fn readable(&self) -> bool {
        self.backoff.until().is_none() && (!self.paused || self.drain_remaining.is_some())
    }

    fn update_deadline(&mut self, _cx: &Context) -> Option<Instant> {
        self.backoff.until()
    }

    fn handle_read(&mut self, cx: &mut Context) -> io::Result<()> {
        self.accept_pending(cx)
    }

    fn handle_deadline(&mut self, cx: &mut Context) -> io::Result<()> {
        self.backoff.end();
        self.accept_pending(cx)
    }

    /// Accepts the connections in the queue first, because closing would reset them.
    fn handle_drain(&mut self, cx: &mut Context) -> io::Result<()> {
        self.drain_remaining.get_or_insert(MAX_ACCEPTS_WHILE_DRAINING);
        self.accept_pending(cx)
    }

    fn handle_error(&mut self, _cx: &mut Context, cause: &Cause) {
        log::error!("{}: listener closed: {cause}", self.local);
    }

    fn handle_close(&mut self, _cx: &mut Context, reason: &CloseReason) {
        log::debug!("{}: listener: {reason}", self.local);
        if self.rejected.count() > 0 {
            log::warn!("{}: rejected {} connections in total", self.local, self.rejected.count());
        }
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener")
            .field("local", &self.local)
            .field("open", &self.limit.open_count())
            .field("rejected", &self.rejected.count())
            .finish_non_exhaustive()
    }
}
