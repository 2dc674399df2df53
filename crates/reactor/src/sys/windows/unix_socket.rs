//! What replaces `unix_socket.rs` on Windows, where this library has no Unix sockets.

use std::io;

use crate::address::Address;
use crate::sys::socket::Socket;
use crate::sys::socket_options::SocketOptions;

/// Nothing creates one. (A type without values would make the code that handles it
/// unreachable, of which the compiler warns.)
#[derive(Clone, Debug)]
pub(crate) struct UnixTarget(());

impl UnixTarget {
    #[expect(clippy::unused_self, reason = "as on Unix")]
    pub(crate) fn address(&self) -> Address {
        Address::Unknown
    }

    #[expect(clippy::unused_self, reason = "as on Unix")]
    pub(crate) fn connect(&self, _options: &SocketOptions) -> io::Result<Socket> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
