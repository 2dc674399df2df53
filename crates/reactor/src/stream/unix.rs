//! Streams that only Unix systems have: Unix sockets, and pipes, terminals and files.

use std::io;
use std::path::Path;
use std::rc::Rc;

use crate::stream::Stream;
use crate::stream::connection::Connection;
use crate::stream::connector::{Connector, Target};
use crate::stream::protocol::Protocol;
use crate::sys::descriptor::{Descriptor, OwnedDescriptor};
use crate::sys::endpoint::Endpoint;
use crate::sys::peer_credentials::PeerCredentials;
use crate::sys::unix_socket::UnixTarget;

/// A [`Stream`] over a pipe, a terminal or a file, created by [`Stream::from_fd`].
pub type FileDispatcher<P> = Stream<P>;

impl<P: Protocol> Stream<P> {
    /// Connects to a Unix socket at `path`, or on Linux, if that is a zero byte and a name, in
    /// the abstract namespace. If the listener's queue is full, waits for room until
    /// [`Limits::connect_timeout`](crate::Limits::connect_timeout). All failures are passed to
    /// [`Protocol::handle_close`].
    pub fn connect_unix(path: impl AsRef<Path>, protocol: P) -> Self {
        Connector::to_unix(path).connect(protocol)
    }

    /// Takes over a descriptor of another kind: a pipe, a terminal, a file. The result is
    /// also called [`FileDispatcher`]. A write-only descriptor is never read, and a
    /// read-only descriptor is never written.
    ///
    /// The descriptor is set to non-blocking mode, and back when the stream is closed.
    /// The mode belongs to the open file description. A terminal that is both standard
    /// input and standard output therefore becomes non-blocking for both, and `println!`
    /// may fail. Open `/dev/tty` separately instead, as the example `follow_pipe` does. A
    /// process killed by a signal does not restore the mode, so handle the signal
    /// ([`Signals`](crate::signal::Signals)).
    ///
    /// Regular files and `/dev/null` are always ready. The reactor reads at most one
    /// buffer per turn from each, so other channels are not delayed.
    ///
    /// # Errors
    ///
    /// Returns an error if the descriptor's mode cannot be read or set.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::io::{self, Write};
    /// use reactor::{FileDispatcher, Io, Protocol, Reactor};
    ///
    /// struct Count(usize);
    ///
    /// impl Protocol for Count {
    ///     fn handle_read(&mut self, _: &mut Io<'_>, data: &[u8]) -> io::Result<()> {
    ///         self.0 += data.len();
    ///         Ok(())
    ///     }
    ///     fn handle_eof(&mut self, io: &mut Io<'_>) -> io::Result<()> {
    ///         assert_eq!(self.0, 5);
    ///         io.close();
    ///         Ok(())
    ///     }
    /// }
    ///
    /// # fn main() -> io::Result<()> {
    /// let (reader, mut writer) = io::pipe()?;
    /// let mut reactor = Reactor::new()?;
    /// reactor.add(FileDispatcher::from_fd(reader, Count(0))?)?;
    /// writer.write_all(b"hello")?;
    /// drop(writer);
    /// reactor.run()
    /// # }
    /// ```
    pub fn from_fd(fd: impl Into<OwnedDescriptor>, protocol: P) -> io::Result<Self> {
        let descriptor = Descriptor::new(fd.into())?;
        let peer = descriptor.address();
        let connection = Connection::new(Endpoint::Descriptor(descriptor), peer, Rc::default());
        Ok(Self::from_connection(connection, protocol))
    }
}

impl Connector {
    /// Connects to a Unix socket, as [`Stream::connect_unix`](crate::Stream::connect_unix) does.
    pub fn to_unix(path: impl AsRef<Path>) -> Self {
        Self::new(Target::Unix(UnixTarget::new(path.as_ref())))
    }
}

impl Connection {
    /// Returns who connected: the user, the group and, where the system reports it, the
    /// process at the other end of a Unix socket, as they were when it called connect(2)
    /// or socketpair(2) (unix(7), `SO_PEERCRED`; getpeereid(3)).
    ///
    /// # Errors
    ///
    /// Returns `Unsupported` if this is no Unix socket, and on illumos; `NotConnected` before
    /// the connection is established.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::io::{self, ErrorKind};
    /// use reactor::{Io, Protocol};
    ///
    /// /// Serves the users with this number only.
    /// struct Private {
    ///     uid: u32,
    /// }
    ///
    /// impl Protocol for Private {
    ///     fn handle_connect(&mut self, io: &mut Io<'_>) -> io::Result<()> {
    ///         let peer = io.peer_credentials()?;
    ///         if peer.uid != self.uid {
    ///             let message = format!("user {} may not connect", peer.uid);
    ///             return Err(io::Error::new(ErrorKind::PermissionDenied, message));
    ///         }
    ///         Ok(())
    ///     }
    ///     fn handle_read(&mut self, _: &mut Io<'_>, _: &[u8]) -> io::Result<()> {
    ///         Ok(())
    ///     }
    /// }
    /// ```
    pub fn peer_credentials(&self) -> io::Result<PeerCredentials> {
        self.endpoint.peer_credentials()
    }
}
