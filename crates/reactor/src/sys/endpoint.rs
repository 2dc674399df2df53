//! [`Endpoint`]: what the bytes of a stream are read from and written to.

use std::io::{self, ErrorKind};

use socket2::SockRef;

use crate::address::Address;
use crate::sys::descriptor::Descriptor;
use crate::sys::either::Socket;
#[cfg(unix)]
use crate::sys::peer_credentials::PeerCredentials;
use crate::sys::socket::SendQueue;
use crate::sys::socket_options::SocketOptions;
use crate::sys::source::Source;

/// One end of a byte stream, in non-blocking mode.
pub(crate) enum Endpoint {
    /// The socket does not exist yet: no attempt to connect has started.
    Unconnected,
    Socket(Socket),
    #[cfg_attr(windows, expect(dead_code, reason = "only sockets can be polled"))]
    Descriptor(Descriptor),
}

impl Endpoint {
    /// Reads once. Returns the number of bytes, 0 at the end of input.
    #[inline(always)]
    pub(crate) fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        // Not one `match`, which takes six instructions to find the usual case.
        if let Endpoint::Socket(socket) = self {
            return socket.read(buffer);
        }
        self.read_descriptor(buffer)
    }

    #[inline(never)]
    fn read_descriptor(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Endpoint::Descriptor(descriptor) => descriptor.read(buffer),
            Endpoint::Socket(_) | Endpoint::Unconnected => Err(ErrorKind::NotConnected.into()),
        }
    }

    /// Writes once. Returns the number of bytes.
    #[inline(always)]
    pub(crate) fn write(&self, data: &[u8]) -> io::Result<usize> {
        if let Endpoint::Socket(socket) = self {
            return socket.write(data);
        }
        self.write_descriptor(data)
    }

    #[inline(never)]
    fn write_descriptor(&self, data: &[u8]) -> io::Result<usize> {
        match self {
            Endpoint::Descriptor(descriptor) => descriptor.write(data),
            Endpoint::Socket(_) | Endpoint::Unconnected => Err(ErrorKind::NotConnected.into()),
        }
    }

    pub(crate) fn can_read(&self) -> bool {
        match self {
            Endpoint::Descriptor(descriptor) => descriptor.can_read(),
            Endpoint::Socket(_) | Endpoint::Unconnected => true,
        }
    }

    pub(crate) fn can_write(&self) -> bool {
        match self {
            Endpoint::Descriptor(descriptor) => descriptor.can_write(),
            Endpoint::Socket(_) | Endpoint::Unconnected => true,
        }
    }

    /// Returns `true` if the write half can end before the read half.
    pub(crate) fn supports_half_close(&self) -> bool {
        !matches!(self, Endpoint::Descriptor(_))
    }

    /// Ends the write half.
    ///
    /// # Errors
    ///
    /// Where the connection is lost, shutdown(2) says that it does not exist: this returns
    /// why, as a write does.
    pub(crate) fn shutdown_write(&self) -> io::Result<()> {
        match self {
            Endpoint::Socket(socket) => match socket.shutdown_write() {
                Err(error) if error.kind() == ErrorKind::NotConnected => {
                    socket.take_error().and(Err(ErrorKind::BrokenPipe.into()))
                }
                result => result,
            },
            Endpoint::Descriptor(_) | Endpoint::Unconnected => Err(ErrorKind::Unsupported.into()),
        }
    }

    /// See [`Socket::reset_on_drop`].
    pub(crate) fn reset_on_drop(&self) {
        if let Endpoint::Socket(socket) = self {
            socket.reset_on_drop();
        }
    }

    /// Clears the pending error, after a hang-up, and returns it as `Err`.
    pub(crate) fn take_error(&self) -> io::Result<()> {
        match self {
            Endpoint::Socket(socket) => socket.take_error(),
            Endpoint::Descriptor(descriptor) => descriptor.hangup_error(),
            Endpoint::Unconnected => Ok(()),
        }
    }

    /// See [`Socket::watch_send_queue`].
    pub(crate) fn watch_send_queue(&self, is_shut: bool) -> SendQueue {
        match self {
            Endpoint::Socket(socket) => socket.watch_send_queue(is_shut),
            Endpoint::Descriptor(_) | Endpoint::Unconnected => SendQueue::Unknown,
        }
    }

    /// See [`Socket::check_send_queue`].
    pub(crate) fn check_send_queue(&self, is_shut: bool) -> SendQueue {
        match self {
            Endpoint::Socket(socket) => socket.check_send_queue(is_shut),
            Endpoint::Descriptor(_) | Endpoint::Unconnected => SendQueue::Unknown,
        }
    }

    /// See [`Socket::measure_send_queue`].
    pub(crate) fn measure_send_queue(&self) -> Option<u32> {
        match self {
            Endpoint::Socket(socket) => socket.measure_send_queue(),
            Endpoint::Descriptor(_) | Endpoint::Unconnected => None,
        }
    }

    /// See [`Socket::discard_queued_errors`].
    pub(crate) fn discard_queued_errors(&self) {
        if let Endpoint::Socket(socket) = self {
            socket.discard_queued_errors();
        }
    }

    /// See [`Socket::take_urgent_byte`].
    pub(crate) fn take_urgent_byte(&self) -> Option<u8> {
        match self {
            Endpoint::Socket(socket) => socket.take_urgent_byte(),
            Endpoint::Descriptor(_) | Endpoint::Unconnected => None,
        }
    }

    pub(crate) fn local_addr(&self) -> io::Result<Address> {
        match self {
            Endpoint::Socket(socket) => socket.local_addr(),
            Endpoint::Descriptor(descriptor) => Ok(descriptor.address()),
            Endpoint::Unconnected => Err(ErrorKind::NotConnected.into()),
        }
    }

    /// Returns the socket's options, or `None` for a pipe, a terminal or a file.
    pub(crate) fn options(&self) -> Option<SockRef<'_>> {
        match self {
            Endpoint::Socket(socket) => Some(socket.options()),
            Endpoint::Descriptor(_) | Endpoint::Unconnected => None,
        }
    }

    /// See [`SocketOptions`].
    pub(crate) fn set_options(&self, options: &SocketOptions) -> io::Result<()> {
        match self {
            Endpoint::Socket(socket) => socket.set_options(options),
            Endpoint::Descriptor(_) => Err(not_a_socket()),
            Endpoint::Unconnected => Err(ErrorKind::NotConnected.into()),
        }
    }

    /// See [`PeerCredentials`].
    #[cfg(unix)]
    pub(crate) fn peer_credentials(&self) -> io::Result<PeerCredentials> {
        match self {
            Endpoint::Socket(socket) => socket.peer_credentials(),
            Endpoint::Descriptor(_) => Err(not_a_socket()),
            Endpoint::Unconnected => Err(ErrorKind::NotConnected.into()),
        }
    }

    pub(crate) fn source(&self) -> Source<'_> {
        match self {
            Endpoint::Socket(socket) => socket.source(),
            Endpoint::Descriptor(descriptor) => descriptor.source(),
            Endpoint::Unconnected => Source::NONE,
        }
    }
}

fn not_a_socket() -> io::Error {
    io::Error::new(ErrorKind::Unsupported, "the stream is not a socket")
}
