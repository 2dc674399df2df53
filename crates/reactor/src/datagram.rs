//! [`Datagram`]: a datagram socket and the protocol spoken over it.

use std::ffi::OsStr;
use std::fmt;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::net::{RecvFlags, SocketAddrAny};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::address::{Address, first_of};
use crate::reactor::context::{Context, READ_BUFFER};
use crate::reactor::dispatcher::{Cause, CloseReason, Dispatcher};
use crate::reactor::slots::Token;
use crate::reactor::timers::TimerId;
use crate::sys::socket_path::SocketPath;

/// How many datagrams one event receives, so that a flood of them delays the
/// other channels by no more than that.
const DATAGRAMS_PER_EVENT: usize = 64;

/// What to do with datagrams. Only [`handle_datagram`](Self::handle_datagram)
/// must be written; the rest is as in [`Protocol`](crate::Protocol).
///
/// ```
/// use std::io;
/// use reactor::{Address, DatagramIo, DatagramProtocol};
///
/// /// Sends back what it gets.
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
pub trait DatagramProtocol: 'static {
    /// Whether to receive at the moment. Default: yes.
    fn readable(&self) -> bool {
        true
    }

    /// Whether to call [`handle_write`](Self::handle_write) when the kernel
    /// has room for a datagram. Default: no.
    fn writable(&self) -> bool {
        false
    }

    /// The socket was added to the reactor. Default: nothing.
    fn handle_add(&mut self, _io: &mut DatagramIo<'_>) -> io::Result<()> {
        Ok(())
    }

    /// A datagram arrived, which may be an empty one. An `Err` is no reason to
    /// close, as other peers use the same socket: it comes to
    /// [`handle_datagram_error`](Self::handle_datagram_error).
    fn handle_datagram(
        &mut self,
        io: &mut DatagramIo<'_>,
        data: &[u8],
        from: &Address,
    ) -> io::Result<()>;

    /// [`handle_datagram`](Self::handle_datagram) failed for a datagram of
    /// `from`; an answer could not be sent, say. Default: a line in the log, at
    /// debug level.
    fn handle_datagram_error(
        &mut self,
        _io: &mut DatagramIo<'_>,
        from: &Address,
        error: &io::Error,
    ) {
        log::debug!("a datagram from {from}: {error}");
    }

    /// The kernel has room, and [`writable`](Self::writable) said yes.
    /// Default: nothing.
    fn handle_write(&mut self, _io: &mut DatagramIo<'_>) -> io::Result<()> {
        Ok(())
    }

    /// A timer set by [`Context::set_timer`] fell due. Default: nothing.
    fn handle_timer(&mut self, _io: &mut DatagramIo<'_>, _timer: TimerId) -> io::Result<()> {
        Ok(())
    }

    /// The reactor is to end by a deadline ([`Context::drain`]). Default:
    /// closes, as no conversation tells when it is over.
    fn handle_drain(&mut self, io: &mut DatagramIo<'_>) -> io::Result<()> {
        io.close();
        Ok(())
    }

    /// A callback failed or panicked; the socket is about to close. Default: a
    /// line in the log.
    fn handle_error(&mut self, io: &mut DatagramIo<'_>, cause: &Cause) {
        log::warn!("{}: {cause}", io.local_addr());
    }

    /// The socket is closed. Default: a line in the log, at debug level.
    fn handle_close(&mut self, io: &mut DatagramIo<'_>, reason: &CloseReason) {
        log::debug!("{}: {reason}", io.local_addr());
    }
}

/// A datagram socket (UDP or Unix) that speaks `P`.
///
/// Nothing is queued here: the kernel takes a datagram, or
/// [`DatagramIo::send_to`] says that it did not. What ICMP reports of an
/// earlier datagram (nobody listens there) ends nothing, and is logged at
/// debug level.
pub struct Datagram<P> {
    protocol: P,
    link: Link,
}

/// The socket, without the protocol.
struct Link {
    socket: Socket,
    local: Address,
    closed: bool,
    /// Removed with the socket.
    _path: Option<SocketPath>,
}

impl<P: DatagramProtocol> Datagram<P> {
    /// A UDP socket on `addr`; port 0 takes a free one. A name is looked up
    /// here, and of several addresses the first that can be had is taken.
    ///
    /// Fails where no address can be had; the message names it.
    pub fn bind(addr: impl ToSocketAddrs, protocol: P) -> io::Result<Self> {
        let socket = first_of(addr, |addr| open(&addr.into(), Domain::for_address(addr)))?;
        Self::over(socket, None, protocol)
    }

    /// A UDP socket on a free port, which sends to and receives from `addr`
    /// only: [`DatagramIo::send`] is for it.
    pub fn connect(addr: impl ToSocketAddrs, protocol: P) -> io::Result<Self> {
        let socket = first_of(addr, |addr| {
            let any: SocketAddr = match addr {
                SocketAddr::V4(_) => ([0; 4], 0).into(),
                SocketAddr::V6(_) => ([0; 16], 0).into(),
            };
            let socket = open(&any.into(), Domain::for_address(addr))?;
            socket.connect(&addr.into()).map(|()| socket)
        })?;
        Self::over(socket, None, protocol)
    }

    /// A Unix datagram socket at `path`, which is removed with it. A path left
    /// behind by a program that is gone is taken over; one in use is
    /// `AddrInUse`.
    pub fn bind_unix(path: impl AsRef<Path>, protocol: P) -> io::Result<Self> {
        let (socket, path) =
            SocketPath::bind(path.as_ref(), Type::DGRAM, |addr| open(addr, Domain::UNIX))?;
        Self::over(socket, path, protocol)
    }

    /// Takes over a datagram socket: a `UdpSocket`, a `UnixDatagram`, one end
    /// of a pair.
    pub fn new(socket: impl Into<OwnedFd>, protocol: P) -> io::Result<Self> {
        Self::over(socket.into().into(), None, protocol)
    }

    fn over(socket: Socket, path: Option<SocketPath>, protocol: P) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let local = Address::from(socket.local_addr()?);
        Ok(Datagram { protocol, link: Link { socket, local, closed: false, _path: path } })
    }

    /// Where it is bound: with the port that was taken for port 0.
    pub fn local_addr(&self) -> &Address {
        &self.link.local
    }

    /// See [`DatagramIo::send_to`].
    pub fn send_to(&mut self, data: &[u8], to: &Address) -> io::Result<()> {
        self.link.send_to(data, to)
    }

    /// See [`DatagramIo::send`].
    pub fn send(&mut self, data: &[u8]) -> io::Result<()> {
        self.link.send(data)
    }

    /// See [`DatagramIo::close`].
    pub fn close(&mut self) {
        self.link.closed = true;
    }

    /// The protocol's own state.
    pub fn protocol(&self) -> &P {
        &self.protocol
    }

    /// The protocol's own state, to change.
    pub fn protocol_mut(&mut self) -> &mut P {
        &mut self.protocol
    }

    /// The protocol, and the [`DatagramIo`] that its callbacks are given.
    fn parts<'a>(&'a mut self, cx: &'a mut Context) -> (&'a mut P, DatagramIo<'a>) {
        (&mut self.protocol, DatagramIo { link: &mut self.link, cx })
    }

    fn receive(&mut self, cx: &mut Context, buffer: &mut [u8]) -> io::Result<()> {
        let mut budget = READ_BUFFER;
        for _ in 0..DATAGRAMS_PER_EVENT {
            if self.link.closed || cx.is_doomed() || !self.protocol.readable() {
                break;
            }
            let Some((len, from)) = self.link.receive(buffer)? else { break };
            if len > buffer.len() {
                log::warn!("{}: a datagram of {len} bytes is too long, dropped", self.link.local);
                continue;
            }
            cx.stats.received += len as u64;
            cx.progress();
            let (protocol, mut io) = self.parts(cx);
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

impl Link {
    /// The next datagram: how long it is, which may be more than the buffer
    /// held, and where it is from. `None` where none waits.
    fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<(usize, Address)>> {
        loop {
            // Asks for the whole length, which the kernel otherwise keeps to
            // itself when the buffer is too small.
            match rustix::net::recvfrom(&self.socket, &mut buffer[..], RecvFlags::TRUNC) {
                Ok((_, len, from)) => {
                    return Ok(Some((len, from.map_or(Address::Unix(None), address))));
                }
                Err(error) => {
                    let error = io::Error::from(error);
                    match error.kind() {
                        ErrorKind::Interrupted => {}
                        ErrorKind::WouldBlock => return Ok(None),
                        _ if is_about_an_earlier_one(&error) => {
                            log::debug!("{}: {error}", self.local);
                        }
                        _ => return Err(error),
                    }
                }
            }
        }
    }

    fn send_to(&self, data: &[u8], to: &Address) -> io::Result<()> {
        let to = match to {
            Address::Inet(addr) => (*addr).into(),
            Address::Unix(Some(path)) => SockAddr::unix(path)?,
            Address::Unix(None) | Address::Host(_) | Address::Descriptor(_) => {
                return Err(io::Error::new(
                    ErrorKind::InvalidInput,
                    format!("cannot send to {to}"),
                ));
            }
        };
        self.retry(|| self.socket.send_to(data, &to))
    }

    fn send(&self, data: &[u8]) -> io::Result<()> {
        self.retry(|| self.socket.send(data))
    }

    /// Sends; once more where the first attempt only reported what became of
    /// an earlier datagram.
    fn retry(&self, send: impl Fn() -> io::Result<usize>) -> io::Result<()> {
        let mut reported = false;
        loop {
            match send() {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if is_about_an_earlier_one(&error) && !reported => {
                    log::debug!("{}: {error}", self.local);
                    reported = true;
                }
                Err(error) => return Err(error),
            }
        }
    }
}

fn open(addr: &SockAddr, domain: Domain) -> io::Result<Socket> {
    let socket = Socket::new(domain, Type::DGRAM, None)?;
    socket.bind(addr)?;
    Ok(socket)
}

/// What ICMP told of a datagram that went out before; it is reported by
/// whatever call comes next: udp(7), "Error handling".
fn is_about_an_earlier_one(error: &io::Error) -> bool {
    use ErrorKind::{ConnectionRefused, HostUnreachable, NetworkDown, NetworkUnreachable};
    matches!(error.kind(), ConnectionRefused | HostUnreachable | NetworkUnreachable | NetworkDown)
}

fn address(from: SocketAddrAny) -> Address {
    if let Ok(addr) = SocketAddr::try_from(from.clone()) {
        return Address::Inet(addr);
    }
    let unix = rustix::net::SocketAddrUnix::try_from(from).ok();
    let path = unix.as_ref().and_then(|unix| unix.path_bytes());
    Address::Unix(path.map(|path| Path::new(OsStr::from_bytes(path)).to_path_buf()))
}

impl<P: DatagramProtocol> Dispatcher for Datagram<P> {
    fn source(&self) -> BorrowedFd<'_> {
        self.link.socket.as_fd()
    }

    fn readable(&self) -> bool {
        self.protocol.readable()
    }

    fn writable(&self) -> bool {
        self.protocol.writable()
    }

    fn poll_close(&mut self) -> Option<Cause> {
        self.link.closed.then_some(Cause::Local)
    }

    fn handle_add(&mut self, cx: &mut Context) -> io::Result<()> {
        if self.link.closed {
            return Ok(());
        }
        let (protocol, mut io) = self.parts(cx);
        protocol.handle_add(&mut io)
    }

    fn handle_read(&mut self, cx: &mut Context) -> io::Result<()> {
        let mut buffer = cx.take_read_buffer();
        let outcome = self.receive(cx, &mut buffer);
        cx.put_back_read_buffer(buffer);
        outcome
    }

    fn handle_write(&mut self, cx: &mut Context) -> io::Result<()> {
        if self.link.closed || !self.protocol.writable() {
            return Ok(());
        }
        let (protocol, mut io) = self.parts(cx);
        protocol.handle_write(&mut io)
    }

    fn handle_timer(&mut self, cx: &mut Context, timer: TimerId) -> io::Result<()> {
        if self.link.closed {
            return Ok(());
        }
        let (protocol, mut io) = self.parts(cx);
        protocol.handle_timer(&mut io, timer)
    }

    fn handle_drain(&mut self, cx: &mut Context) -> io::Result<()> {
        if self.link.closed {
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
        let (protocol, mut io) = self.parts(cx);
        protocol.handle_close(&mut io, reason);
    }
}

impl<P> fmt::Debug for Datagram<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Datagram").field("local", &self.link.local).finish_non_exhaustive()
    }
}

/// A [`DatagramProtocol`]'s own socket, and through it the reactor.
pub struct DatagramIo<'a> {
    link: &'a mut Link,
    cx: &'a mut Context,
}

impl DatagramIo<'_> {
    /// Sends a datagram. `Ok` means that the kernel took it, and no more: the
    /// network may lose it.
    ///
    /// Fails with `WouldBlock` where the kernel has no room (it was not sent;
    /// [`DatagramProtocol::handle_write`] tells when there is), and with the
    /// socket's error where it cannot be sent at all: it is too long, there is
    /// no way to that address, nobody is at that path.
    pub fn send_to(&mut self, data: &[u8], to: &Address) -> io::Result<()> {
        self.link.send_to(data, to)
    }

    /// Sends a datagram to the peer that the socket is connected to; else as
    /// [`send_to`](Self::send_to).
    pub fn send(&mut self, data: &[u8]) -> io::Result<()> {
        self.link.send(data)
    }

    /// Closes the socket. There is nothing to flush.
    pub fn close(&mut self) {
        self.link.closed = true;
    }

    /// Where it is bound.
    pub fn local_addr(&self) -> &Address {
        &self.link.local
    }

    /// The socket's name in its reactor.
    pub fn token(&self) -> Token {
        self.cx.token()
    }

    /// The reactor: other channels, timers, the end.
    pub fn context(&mut self) -> &mut Context {
        self.cx
    }
}

impl fmt::Debug for DatagramIo<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DatagramIo").field("local", &self.link.local).finish_non_exhaustive()
    }
}
