//! Datagrams over a Unix socket.

use std::io;
use std::path::Path;

use crate::datagram::{Datagram, DatagramProtocol};
use crate::sys::either::DatagramSocket;
use crate::sys::socket_file::SocketFile;

impl<P: DatagramProtocol> Datagram<P> {
    /// Binds a Unix datagram socket to `path`, which is removed with the socket. A path
    /// that a terminated program left behind is replaced. On Linux, it may also be a zero
    /// byte and a name in the abstract namespace.
    ///
    /// # Errors
    ///
    /// The same as for [`Listener::bind_unix`](crate::Listener::bind_unix).
    pub fn bind_unix(path: impl AsRef<Path>, protocol: P) -> io::Result<Self> {
        Self::bind_unix_with(path, SocketFile::default(), protocol)
    }

    /// Like [`bind_unix`](Self::bind_unix), and then sets the mode and the owner of the file.
    /// A datagram may arrive before; umask(2) applies until then.
    ///
    /// # Errors
    ///
    /// The same as for [`Listener::bind_unix_with`](crate::Listener::bind_unix_with).
    pub fn bind_unix_with(
        path: impl AsRef<Path>,
        file: SocketFile,
        protocol: P,
    ) -> io::Result<Self> {
        let (socket, path) = DatagramSocket::bind_path(path.as_ref(), file)?;
        Self::from_parts(socket, path, protocol)
    }
}
