//! accept(2), and the classes of its errors.

use std::io;

use rustix::io::Errno;

use crate::address::Address;
use crate::sys::descriptor::{OwnedDescriptor, open_file_limit};
use crate::sys::socket::Socket;
use crate::sys::socket_calls;

impl Socket {
    /// Takes over a listening socket: sets it to non-blocking mode, and no program that is
    /// started inherits it.
    ///
    /// # Errors
    ///
    /// Returns `InvalidInput` if it does not listen for connections.
    pub(crate) fn from_listening(socket: OwnedDescriptor) -> io::Result<Self> {
        let socket = Socket::from_owned(socket)?;
        if !socket.is_listening() {
            let message = "the socket does not listen for connections";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        Ok(socket)
    }

    /// Returns `true` if it listens for connections, or the system does not report that.
    pub(crate) fn is_listening(&self) -> bool {
        #[cfg(not(target_vendor = "apple"))]
        return rustix::net::sockopt::socket_acceptconn(self.inner()).unwrap_or(false);
        #[cfg(target_vendor = "apple")]
        return self.inner().peer_addr().is_err();
    }

    /// Accepts one connection. Returns its socket, in non-blocking mode, and the
    /// peer's address.
    pub(crate) fn accept(&self) -> io::Result<(Socket, Address)> {
        let (socket, peer) = socket_calls::accept(self.inner())?;
        Ok((Socket::from_nonblocking(socket), Address::from(peer)))
    }
}

/// The class of an error of accept(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AcceptError {
    /// No connection is pending.
    WouldBlock,
    /// This connection failed, or a signal arrived: accept the next one.
    Retry,
    /// Accepting fails at the moment, and may work later.
    Pause,
    /// The listening socket itself is broken.
    Fatal,
}

impl AcceptError {
    /// Classifies an error of [`Socket::accept`]; `is_listening` returns `true` if the
    /// socket listens.
    ///
    /// Only what accept(2) documents as a fault of the listening socket is fatal. All
    /// the rest may pass: exhausted descriptors and memory, a firewall or a security
    /// module (EPERM), and errors of the network that is new to this list.
    pub(crate) fn classify(error: &io::Error, is_listening: impl FnOnce() -> bool) -> Self {
        match Errno::from_io_error(error) {
            Some(Errno::AGAIN) => AcceptError::WouldBlock,
            Some(errno) if socket_calls::ACCEPT_RETRY_ERRORS.contains(&errno) => AcceptError::Retry,
            Some(Errno::BADF | Errno::INVAL | Errno::NOTSOCK | Errno::FAULT) => AcceptError::Fatal,
            // Also one of the pending errors of a connection that Linux returns here.
            Some(Errno::OPNOTSUPP) if !is_listening() => AcceptError::Fatal,
            _ => AcceptError::Pause,
        }
    }
}

/// Returns what to add to the message of `error` if a descriptor limit caused it.
pub(crate) fn fd_limit_hint(error: &io::Error) -> String {
    match (Errno::from_io_error(error), open_file_limit()) {
        (Some(Errno::MFILE), Some(limit)) => format!("; the limit is {limit}, see ulimit -n"),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn expected(errno: i32) -> AcceptError {
        match Errno::from_raw_os_error(errno) {
            Errno::AGAIN => AcceptError::WouldBlock,
            errno if socket_calls::ACCEPT_RETRY_ERRORS.contains(&errno) => AcceptError::Retry,
            Errno::BADF | Errno::INVAL | Errno::NOTSOCK | Errno::FAULT => AcceptError::Fatal,
            _ => AcceptError::Pause,
        }
    }

    /// All error numbers, those of accept(2) and others.
    #[test]
    fn only_errors_of_the_listening_socket_are_fatal() {
        let listening =
            Socket::from_owned(TcpListener::bind("127.0.0.1:0").unwrap().into()).unwrap();
        // Those of Winsock start at 10,000.
        let errnos = if cfg!(windows) { 10_000..=11_999 } else { 1..=200 };
        for errno in errnos {
            let error = io::Error::from_raw_os_error(errno);
            let class = AcceptError::classify(&error, || listening.is_listening());
            assert_eq!(class, expected(errno), "{errno}: {error}");
        }
        let other = io::Error::other("not of the system");
        assert_eq!(AcceptError::classify(&other, || listening.is_listening()), AcceptError::Pause);
    }

    #[test]
    fn unsupported_operation_is_fatal_only_if_the_socket_does_not_listen() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let error = io::Error::from(Errno::OPNOTSUPP);
        let classify = |socket: OwnedDescriptor| {
            let socket = Socket::from_owned(socket).unwrap();
            AcceptError::classify(&error, || socket.is_listening())
        };
        assert_eq!(classify(listener.into()), AcceptError::Pause);
        assert_eq!(classify(stream.into()), AcceptError::Fatal);
    }
}
