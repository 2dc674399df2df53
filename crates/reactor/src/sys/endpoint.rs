//! [`Endpoint`]: what bytes are read from and written to. Every system call of
//! a stream stands here.

use std::fs::File;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

#[cfg(any(target_os = "linux", target_os = "android"))]
use rustix::event::PollFlags;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use rustix::net::RecvFlags;
use socket2::Socket;

use crate::address::Address;

/// Write without SIGPIPE, also in a program that does not ignore it. Apple's
/// systems know no such flag; there `socket2` sets `SO_NOSIGPIPE`.
#[cfg(not(target_vendor = "apple"))]
const NOSIGNAL: i32 = rustix::net::SendFlags::NOSIGNAL.bits().cast_signed();
#[cfg(target_vendor = "apple")]
const NOSIGNAL: i32 = 0;

/// One end of a byte stream, in non-blocking mode.
pub(crate) enum Endpoint {
    Socket(Socket),
    Descriptor(Descriptor),
}

impl Endpoint {
    /// One read: how many bytes came, 0 at the end.
    pub(crate) fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Endpoint::Socket(socket) => (&mut &*socket).read(buffer),
            Endpoint::Descriptor(descriptor) => match (&descriptor.file).read(buffer) {
                // A terminal whose other end is closed reports this (Linux).
                Err(e) if e.raw_os_error() == Some(Errno::IO.raw_os_error()) => Ok(0),
                outcome => outcome,
            },
        }
    }

    /// One write of both slices: how many bytes were taken.
    pub(crate) fn write(&self, front: &[u8], back: &[u8]) -> io::Result<usize> {
        let both = [IoSlice::new(front), IoSlice::new(back)];
        match self {
            Endpoint::Socket(socket) if back.is_empty() => socket.send_with_flags(front, NOSIGNAL),
            Endpoint::Socket(socket) => socket.send_vectored_with_flags(&both, NOSIGNAL),
            Endpoint::Descriptor(descriptor) if back.is_empty() => (&descriptor.file).write(front),
            Endpoint::Descriptor(descriptor) => (&descriptor.file).write_vectored(&both),
        }
    }

    /// Whether it can be read from.
    pub(crate) fn is_source(&self) -> bool {
        match self {
            Endpoint::Socket(_) => true,
            Endpoint::Descriptor(descriptor) => descriptor.is_source,
        }
    }

    /// Whether it can be written to.
    pub(crate) fn is_sink(&self) -> bool {
        match self {
            Endpoint::Socket(_) => true,
            Endpoint::Descriptor(descriptor) => descriptor.is_sink,
        }
    }

    /// Whether its sending side can end alone.
    pub(crate) fn has_sides(&self) -> bool {
        matches!(self, Endpoint::Socket(_))
    }

    /// Ends the sending side.
    pub(crate) fn shut_down(&self) -> io::Result<()> {
        match self {
            Endpoint::Socket(socket) => socket.shutdown(Shutdown::Write),
            Endpoint::Descriptor(_) => Err(ErrorKind::Unsupported.into()),
        }
    }

    /// The error that it failed with, and that no call has reported yet.
    pub(crate) fn take_error(&self) -> io::Result<()> {
        match self {
            Endpoint::Socket(socket) => match socket.take_error()? {
                Some(error) => Err(error),
                None => Ok(()),
            },
            // Asked after a hang-up: a pipe that nobody reads any more.
            Endpoint::Descriptor(descriptor) if descriptor.is_source => Ok(()),
            Endpoint::Descriptor(_) => Err(Errno::PIPE.into()),
        }
    }

    /// Whether all that was written has left this machine, as far as anybody
    /// can tell. Until then it may report itself writable only when it has.
    pub(crate) fn has_left(&self, is_shut: bool) -> bool {
        // tcp(7), TCP_NOTSENT_LOWAT: with this mark the socket is writable only
        // while nothing of it is unsent. Other sockets, and other systems, have
        // no such option.
        #[cfg(any(target_os = "linux", target_os = "android"))]
        if let Endpoint::Socket(socket) = self
            && socket.set_tcp_notsent_lowat(1).is_ok()
        {
            // Its sending side shut down, a socket always is.
            return !is_shut && crate::sys::ready::is_ready(socket.as_fd(), PollFlags::OUT);
        }
        true
    }

    /// The urgent byte that waits, if one does. Reading it takes it away,
    /// without which the source would stay ready for ever.
    pub(crate) fn receive_urgent(&self) -> Option<u8> {
        let Endpoint::Socket(socket) = self else { return None };
        let mut byte = [0];
        match rustix::net::recv(socket, &mut byte, RecvFlags::OOB) {
            Ok((1.., _)) => Some(byte[0]),
            // EINVAL: none waits, or it was read before.
            Ok(_) | Err(_) => None,
        }
    }

    /// The address of this end.
    pub(crate) fn local_addr(&self) -> io::Result<Address> {
        match self {
            Endpoint::Socket(socket) => socket.local_addr().map(Address::from),
            Endpoint::Descriptor(descriptor) => Ok(descriptor.address()),
        }
    }
}

impl AsFd for Endpoint {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Endpoint::Socket(socket) => socket.as_fd(),
            Endpoint::Descriptor(descriptor) => descriptor.file.as_fd(),
        }
    }
}

/// A pipe, a terminal, a file: anything that is read and written as one.
///
/// Non-blocking mode belongs to what was opened, and so to every process that
/// has it from the same parent, a shell say. It is set for as long as this
/// lives and taken back then.
pub(crate) struct Descriptor {
    file: File,
    /// The mode to go back to.
    before: OFlags,
    is_source: bool,
    is_sink: bool,
}

impl Descriptor {
    pub(crate) fn new(fd: OwnedFd) -> io::Result<Self> {
        let before = fcntl_getfl(&fd)?;
        fcntl_setfl(&fd, before | OFlags::NONBLOCK)?;
        let mode = before & OFlags::RWMODE;
        Ok(Descriptor {
            file: fd.into(),
            before,
            is_source: mode != OFlags::WRONLY,
            is_sink: mode != OFlags::RDONLY,
        })
    }

    pub(crate) fn address(&self) -> Address {
        Address::Descriptor(self.file.as_raw_fd())
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        if !self.before.contains(OFlags::NONBLOCK) {
            // The descriptor was good when it was opened, and still is.
            let _ = fcntl_setfl(&self.file, self.before);
        }
    }
}
