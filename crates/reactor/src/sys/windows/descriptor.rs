//! What replaces `descriptor.rs` on Windows, where only sockets can be polled.

use std::io;
use std::os::windows::io::OwnedSocket;

use crate::address::Address;
use crate::sys::source::Source;

/// An open socket that is handed to the library: what a `TcpStream` or a `UdpSocket`
/// converts into.
pub type OwnedDescriptor = OwnedSocket;

/// Returns `None`: only memory limits the number of sockets.
pub(crate) fn open_file_limit() -> Option<u64> {
    None
}

/// Has no values.
pub(crate) enum Descriptor {}

impl Descriptor {
    pub(crate) fn can_read(&self) -> bool {
        match *self {}
    }

    pub(crate) fn can_write(&self) -> bool {
        match *self {}
    }

    pub(crate) fn read(&self, _buffer: &mut [u8]) -> io::Result<usize> {
        match *self {}
    }

    pub(crate) fn write(&self, _data: &[u8]) -> io::Result<usize> {
        match *self {}
    }

    pub(crate) fn hangup_error(&self) -> io::Result<()> {
        match *self {}
    }

    pub(crate) fn address(&self) -> Address {
        match *self {}
    }

    pub(crate) fn source(&self) -> Source<'_> {
        match *self {}
    }
}
