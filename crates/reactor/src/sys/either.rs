//! Sockets and signals of the system, or of a simulated one (feature `sim`): those of the
//! [`Kernel`] that the thread has entered when they are created.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::OnceLock;

use crate::address::Address;
use crate::sys::datagram_socket::{self, Received};
use crate::sys::descriptor::OwnedDescriptor;
use crate::sys::destination::Destination;
use crate::sys::kernel::{self, Kernel};
use crate::sys::peer_credentials::PeerCredentials;
use crate::sys::signals;
use crate::sys::socket::{self, ListenOptions, SendQueue, SockRef};
use crate::sys::socket_file::SocketFile;
use crate::sys::socket_options::SocketOptions;
use crate::sys::socket_path::SocketPath;
use crate::sys::source::Source;
use crate::sys::unix_address::{named, path_address, unix_sock_addr};

/// A stream socket. Its methods are those of [`socket::Socket`].
#[derive(Debug)]
pub(crate) enum Socket {
    System(socket::Socket),
    Simulated(kernel::OwnedFd),
}

/// Creates a simulated socket if the thread has entered a simulation.
fn open(
    create: impl FnOnce(&dyn Kernel) -> io::Result<kernel::Fd>,
) -> Option<io::Result<kernel::OwnedFd>> {
    kernel::current().map(|kernel| create(&*kernel).map(kernel::OwnedFd))
}

/// Like [`open`], with the address of a Unix socket.
fn open_path(
    path: &Path,
    create: impl FnOnce(&dyn Kernel, &Address) -> io::Result<kernel::Fd>,
) -> Option<io::Result<kernel::OwnedFd>> {
    open(|kernel| unix_sock_addr(path).and_then(|_| create(kernel, &path_address(path))))
}

impl Socket {
    pub(crate) fn from_owned(socket: OwnedDescriptor) -> io::Result<Self> {
        socket::Socket::from_owned(socket).map(Socket::System)
    }

    pub(crate) fn from_listening(socket: OwnedDescriptor) -> io::Result<Self> {
        socket::Socket::from_listening(socket).map(Socket::System)
    }

    pub(crate) fn connect(
        addr: SocketAddr,
        from: Option<SocketAddr>,
        options: &SocketOptions,
    ) -> io::Result<Self> {
        match open(|kernel| kernel.connect(&Address::Inet(addr), from)) {
            Some(opened) => opened.map(Socket::Simulated),
            None => socket::Socket::connect(addr, from, options).map(Socket::System),
        }
    }

    pub(crate) fn connect_unix(path: &Path, options: &SocketOptions) -> io::Result<Self> {
        match open_path(path, |kernel, to| kernel.connect(to, None)) {
            Some(opened) => opened.map(Socket::Simulated),
            None => socket::Socket::connect_unix(path, options).map(Socket::System),
        }
    }

    pub(crate) fn listen(addr: SocketAddr, options: ListenOptions) -> io::Result<Self> {
        match open(|kernel| kernel.listen(&Address::Inet(addr), options.reuse_port)) {
            Some(opened) => opened.map(Socket::Simulated),
            None => socket::Socket::listen(addr, options).map(Socket::System),
        }
    }

    pub(crate) fn listen_path(
        path: &Path,
        file: SocketFile,
    ) -> io::Result<(Self, Option<SocketPath>)> {
        if let Some(bound) = open_path(path, |kernel, at| kernel.listen(at, false)) {
            let fd = bound.map_err(|error| named(path, &error))?;
            return Ok((Socket::Simulated(fd), None));
        }
        let (socket, path) = socket::Socket::listen_path(path, file)?;
        Ok((Socket::System(socket), path))
    }

    pub(crate) fn accept(&self) -> io::Result<(Socket, Address)> {
        match self {
            Socket::System(socket) => {
                let (socket, peer) = socket.accept()?;
                Ok((Socket::System(socket), peer))
            }
            Socket::Simulated(fd) => {
                let (fd, peer) = kernel::with(|kernel| kernel.accept(fd.0))?;
                Ok((Socket::Simulated(kernel::OwnedFd(fd)), peer))
            }
        }
    }

    pub(crate) fn is_listening(&self) -> bool {
        match self {
            Socket::System(socket) => socket.is_listening(),
            // Asked for a listener only.
            Socket::Simulated(_) => true,
        }
    }

    pub(crate) fn set_nodelay(&self) {
        if let Socket::System(socket) = self {
            socket.set_nodelay();
        }
    }

    pub(crate) fn take_connect_result(&self) -> io::Result<()> {
        match self {
            Socket::System(socket) => socket.take_connect_result(),
            Socket::Simulated(fd) => kernel::with(|kernel| kernel.take_connect_result(fd.0)),
        }
    }

    pub(crate) fn is_connecting(&self) -> bool {
        match self {
            Socket::System(socket) => socket.is_connecting(),
            // Sockets that were passed in are those of the system.
            Socket::Simulated(_) => false,
        }
    }

    pub(crate) fn is_family_missing(error: &io::Error) -> bool {
        socket::Socket::is_family_missing(error)
    }

    #[inline(always)]
    pub(crate) fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Socket::System(socket) => socket.read(buffer),
            Socket::Simulated(fd) => kernel::with(|kernel| kernel.read(fd.0, buffer)),
        }
    }

    #[inline(always)]
    pub(crate) fn write(&self, data: &[u8]) -> io::Result<usize> {
        match self {
            Socket::System(socket) => socket.write(data),
            Socket::Simulated(fd) => kernel::with(|kernel| kernel.write(fd.0, data)),
        }
    }

    pub(crate) fn shutdown_write(&self) -> io::Result<()> {
        match self {
            Socket::System(socket) => socket.shutdown_write(),
            Socket::Simulated(fd) => kernel::with(|kernel| kernel.shutdown_write(fd.0)),
        }
    }

    pub(crate) fn reset_on_drop(&self) {
        match self {
            Socket::System(socket) => socket.reset_on_drop(),
            Socket::Simulated(fd) => {
                if let Some(kernel) = kernel::current() {
                    kernel.reset_on_close(fd.0);
                }
            }
        }
    }

    pub(crate) fn take_error(&self) -> io::Result<()> {
        match self {
            Socket::System(socket) => socket.take_error(),
            Socket::Simulated(fd) => kernel::with(|kernel| kernel.take_error(fd.0)),
        }
    }

    pub(crate) fn discard_queued_errors(&self) {
        if let Socket::System(socket) = self {
            socket.discard_queued_errors();
        }
    }

    pub(crate) fn take_urgent_byte(&self) -> Option<u8> {
        match self {
            Socket::System(socket) => socket.take_urgent_byte(),
            Socket::Simulated(_) => None,
        }
    }

    pub(crate) fn watch_send_queue(&self, is_shut: bool) -> SendQueue {
        match self {
            Socket::System(socket) => socket.watch_send_queue(is_shut),
            Socket::Simulated(fd) => {
                if let Some(kernel) = kernel::current() {
                    kernel.watch_unsent(fd.0);
                }
                self.check_send_queue(is_shut)
            }
        }
    }

    pub(crate) fn check_send_queue(&self, is_shut: bool) -> SendQueue {
        match self {
            Socket::System(socket) => socket.check_send_queue(is_shut),
            Socket::Simulated(_) if is_shut => SendQueue::Unknown,
            Socket::Simulated(_) if self.measure_send_queue() == Some(0) => SendQueue::Empty,
            Socket::Simulated(_) => SendQueue::Unsent,
        }
    }

    pub(crate) fn measure_send_queue(&self) -> Option<u32> {
        match self {
            Socket::System(socket) => socket.measure_send_queue(),
            Socket::Simulated(fd) => u32::try_from(kernel::current()?.unsent(fd.0)).ok(),
        }
    }

    pub(crate) fn local_addr(&self) -> io::Result<Address> {
        match self {
            Socket::System(socket) => socket.local_addr(),
            Socket::Simulated(fd) => kernel::with(|kernel| kernel.local_addr(fd.0)),
        }
    }

    pub(crate) fn peer_addr(&self) -> Address {
        match self {
            Socket::System(socket) => socket.peer_addr(),
            Socket::Simulated(fd) => {
                kernel::with(|kernel| kernel.peer_addr(fd.0)).unwrap_or(Address::Unknown)
            }
        }
    }

    pub(crate) fn set_options(&self, options: &SocketOptions) -> io::Result<()> {
        match self {
            Socket::System(socket) => socket.set_options(options),
            Socket::Simulated(_) => Ok(()),
        }
    }

    pub(crate) fn peer_credentials(&self) -> io::Result<PeerCredentials> {
        match self {
            Socket::System(socket) => socket.peer_credentials(),
            Socket::Simulated(_) => Err(not_simulated("the credentials of a peer")),
        }
    }

    pub(crate) fn options(&self) -> SockRef<'_> {
        match self {
            Socket::System(socket) => socket.options(),
            Socket::Simulated(_) => stand_in(),
        }
    }

    pub(crate) fn source(&self) -> Source<'_> {
        match self {
            Socket::System(socket) => socket.source(),
            Socket::Simulated(fd) => Source::simulated(fd.0),
        }
    }

    pub(crate) fn into_owned(self) -> io::Result<OwnedDescriptor> {
        match self {
            Socket::System(socket) => socket.into_owned(),
            Socket::Simulated(_) => Err(not_simulated("a socket without a stream")),
        }
    }
}

fn not_simulated(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, format!("{what} is not simulated"))
}

/// Returns a socket whose options can be read and set, without effect: the simulation has
/// none.
#[expect(clippy::expect_used, reason = "nothing but a test runs in a simulation")]
fn stand_in() -> SockRef<'static> {
    static STAND_IN: OnceLock<socket2::Socket> = OnceLock::new();
    let open = || socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
    SockRef::from(STAND_IN.get_or_init(|| open().expect("a simulation needs one descriptor")))
}

/// A datagram socket. Its methods are those of [`datagram_socket::DatagramSocket`].
pub(crate) enum DatagramSocket {
    System(datagram_socket::DatagramSocket),
    Simulated(kernel::OwnedFd),
}

impl DatagramSocket {
    pub(crate) fn from_owned(socket: OwnedDescriptor) -> io::Result<Self> {
        datagram_socket::DatagramSocket::from_owned(socket).map(DatagramSocket::System)
    }

    pub(crate) fn bind(addr: SocketAddr) -> io::Result<Self> {
        match open(|kernel| kernel.open_datagram(Some(&Address::Inet(addr)), None)) {
            Some(opened) => opened.map(DatagramSocket::Simulated),
            None => datagram_socket::DatagramSocket::bind(addr).map(DatagramSocket::System),
        }
    }

    pub(crate) fn bind_path(
        path: &Path,
        file: SocketFile,
    ) -> io::Result<(Self, Option<SocketPath>)> {
        if let Some(bound) = open_path(path, |kernel, at| kernel.open_datagram(Some(at), None)) {
            let fd = bound.map_err(|error| named(path, &error))?;
            return Ok((DatagramSocket::Simulated(fd), None));
        }
        let (socket, path) = datagram_socket::DatagramSocket::bind_path(path, file)?;
        Ok((DatagramSocket::System(socket), path))
    }

    pub(crate) fn bind_multicast(group: SocketAddr, interface: u32) -> io::Result<Self> {
        if kernel::current().is_some() {
            return Err(not_simulated("multicast"));
        }
        let socket = datagram_socket::DatagramSocket::bind_multicast(group, interface)?;
        Ok(DatagramSocket::System(socket))
    }

    pub(crate) fn join_multicast(&self, group: IpAddr, interface: u32) -> io::Result<()> {
        match self {
            DatagramSocket::System(socket) => socket.join_multicast(group, interface),
            DatagramSocket::Simulated(_) => Err(not_simulated("multicast")),
        }
    }

    pub(crate) fn leave_multicast(&self, group: IpAddr, interface: u32) -> io::Result<()> {
        match self {
            DatagramSocket::System(socket) => socket.leave_multicast(group, interface),
            DatagramSocket::Simulated(_) => Err(not_simulated("multicast")),
        }
    }

    pub(crate) fn connect(addr: SocketAddr) -> io::Result<Self> {
        match open(|kernel| kernel.open_datagram(None, Some(addr))) {
            Some(opened) => opened.map(DatagramSocket::Simulated),
            None => datagram_socket::DatagramSocket::connect(addr).map(DatagramSocket::System),
        }
    }

    pub(crate) fn receive(&mut self, buffer: &mut [u8]) -> io::Result<Received> {
        match self {
            DatagramSocket::System(socket) => socket.receive(buffer),
            DatagramSocket::Simulated(fd) => {
                let packet = kernel::with(|kernel| kernel.receive(fd.0, buffer))?;
                let to = packet.to.map(|addr| Destination { addr, reply_from: Some(addr) });
                Ok(Received { len: packet.len, from: packet.from, to })
            }
        }
    }

    pub(crate) fn discard_queued_errors(&self) -> usize {
        match self {
            DatagramSocket::System(socket) => socket.discard_queued_errors(),
            DatagramSocket::Simulated(_) => 0,
        }
    }

    pub(crate) fn send(&self, data: &[u8]) -> io::Result<()> {
        match self {
            DatagramSocket::System(socket) => socket.send(data),
            DatagramSocket::Simulated(fd) => {
                kernel::with(|kernel| kernel.send(fd.0, data, None, None))
            }
        }
    }

    pub(crate) fn send_to(&self, data: &[u8], to: &Address) -> io::Result<()> {
        match self {
            DatagramSocket::System(socket) => socket.send_to(data, to),
            DatagramSocket::Simulated(fd) => {
                kernel::with(|kernel| kernel.send(fd.0, data, Some(to), None))
            }
        }
    }

    pub(crate) fn send_from(&self, data: &[u8], to: SocketAddr, from: IpAddr) -> io::Result<()> {
        match self {
            DatagramSocket::System(socket) => socket.send_from(data, to, from),
            DatagramSocket::Simulated(fd) => {
                let to = Address::Inet(to);
                kernel::with(|kernel| kernel.send(fd.0, data, Some(&to), Some(from)))
            }
        }
    }

    pub(crate) fn local_addr(&self) -> io::Result<Address> {
        match self {
            DatagramSocket::System(socket) => socket.local_addr(),
            DatagramSocket::Simulated(fd) => kernel::with(|kernel| kernel.local_addr(fd.0)),
        }
    }

    pub(crate) fn options(&self) -> SockRef<'_> {
        match self {
            DatagramSocket::System(socket) => socket.options(),
            DatagramSocket::Simulated(_) => stand_in(),
        }
    }

    pub(crate) fn source(&self) -> Source<'_> {
        match self {
            DatagramSocket::System(socket) => socket.source(),
            DatagramSocket::Simulated(fd) => Source::simulated(fd.0),
        }
    }
}

/// Handlers for a set of signals. Its methods are those of [`signals::SignalSource`].
#[derive(Debug)]
pub(crate) enum SignalSource {
    System(signals::SignalSource),
    Simulated(kernel::OwnedFd),
}

impl SignalSource {
    pub(crate) fn new(numbers: &[i32]) -> io::Result<Self> {
        match open(|kernel| kernel.open_signals(numbers)) {
            Some(opened) => opened.map(SignalSource::Simulated),
            None => signals::SignalSource::new(numbers).map(SignalSource::System),
        }
    }

    pub(crate) fn termination() -> io::Result<Self> {
        match open(|kernel| kernel.open_signals(&[signals::SIGINT, signals::SIGTERM])) {
            Some(opened) => opened.map(SignalSource::Simulated),
            None => signals::SignalSource::termination().map(SignalSource::System),
        }
    }

    pub(crate) fn source(&self) -> Source<'_> {
        match self {
            SignalSource::System(source) => source.source(),
            SignalSource::Simulated(fd) => Source::simulated(fd.0),
        }
    }

    pub(crate) fn take_arrived(&mut self) -> impl Iterator<Item = i32> + use<> {
        let arrived: Vec<_> = match self {
            SignalSource::System(source) => source.take_arrived().collect(),
            SignalSource::Simulated(fd) => {
                kernel::current().map_or_else(Vec::new, |kernel| kernel.take_signals(fd.0))
            }
        };
        arrived.into_iter()
    }
}
