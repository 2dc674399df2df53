//! Listening on a Unix socket.

use std::io;
use std::path::Path;

use crate::address::Address;
use crate::listener::Listener;
use crate::listener::accepted::stream_handler;
use crate::stream::protocol::Protocol;
use crate::sys::either::Socket;
use crate::sys::socket_file::SocketFile;

impl Listener {
    /// Listens on a Unix socket. A path that a terminated server left behind is replaced.
    /// The path is removed when the listener is dropped. On Linux, a path that consists of a
    /// zero byte and a name is in the abstract namespace: there is no file.
    ///
    /// # Errors
    ///
    /// Returns an error that names the path if it cannot be bound: `AddrInUse` if a server
    /// listens on it, `InvalidInput` if it is empty, longer than the system allows (107
    /// bytes on Linux), or contains a zero byte elsewhere.
    pub fn bind_unix<P: Protocol>(
        path: impl AsRef<Path>,
        handle_accepted: impl FnMut(&Address) -> io::Result<P> + 'static,
    ) -> io::Result<Self> {
        Self::bind_unix_with(path, SocketFile::default(), handle_accepted)
    }

    /// Like [`bind_unix`](Self::bind_unix), but sets the mode and the owner of the file
    /// before any peer can connect.
    ///
    /// # Errors
    ///
    /// The same as for [`bind_unix`](Self::bind_unix), and an error if mode or owner cannot be
    /// set; the path is removed then.
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
    /// use reactor::SocketFile;
    ///
    /// # fn main() -> io::Result<()> {
    /// # let path = std::env::temp_dir().join(format!("reactor-doc-{}", std::process::id()));
    /// let file = SocketFile { mode: Some(0o660), ..SocketFile::default() };
    /// let listener = Listener::bind_unix_with(path, file, |_| Ok(Echo))?;
    /// # drop(listener);
    /// # Ok(())
    /// # }
    /// ```
    pub fn bind_unix_with<P: Protocol>(
        path: impl AsRef<Path>,
        file: SocketFile,
        handle_accepted: impl FnMut(&Address) -> io::Result<P> + 'static,
    ) -> io::Result<Self> {
        let (socket, path) = Socket::listen_path(path.as_ref(), file)?;
        Self::from_parts(socket, path, stream_handler(handle_accepted))
    }
}
