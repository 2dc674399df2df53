//! [`DatagramChannel`]: what a program does with a datagram socket; [`DatagramIo`]: the
//! same during a callback.

use std::fmt;
use std::io::{self, ErrorKind};
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use crate::address::Address;
use crate::reactor::{Context, TimerId};
use crate::sys::datagram_socket::{DatagramSocket, Received, is_deferred_icmp_error};
use crate::sys::socket::SockRef;
use crate::sys::socket_path::SocketPath;
use crate::sys::source::Source;
use crate::token::Token;

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

impl DatagramChannel {
    pub(super) fn new(socket: DatagramSocket, path: Option<SocketPath>) -> io::Result<Self> {
        let local = socket.local_addr()?;
        Ok(DatagramChannel { socket, local, closed: false, _path: path })
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    pub(super) fn source(&self) -> Source<'_> {
        self.socket.source()
    }

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
    pub(super) fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<Received>> {
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

impl<'a> DatagramIo<'a> {
    pub(super) fn new(channel: &'a mut DatagramChannel, cx: &'a mut Context) -> Self {
        DatagramIo { channel, cx }
    }

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
