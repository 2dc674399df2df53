//! [`Kernel`]: what replaces the operating system in a simulation, as `crates/sim` does.
//!
//! A thread that has [`enter`]ed a kernel creates its sockets, pollers and signal handlers
//! there, resolves names there, and reads its clock. Pipes, terminals and files remain
//! those of the system.
#![allow(clippy::missing_errors_doc, reason = "each method has the errors of the system call")]

use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use crate::address::Address;

/// A descriptor of the simulated system: of a socket, a set of signals, or a queue of
/// events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fd(pub u32);

/// What a descriptor is ready for, or what is wanted from it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Readiness {
    /// Reading does not block.
    pub readable: bool,
    /// Writing does not block.
    pub writable: bool,
    /// It hung up or failed, which is reported whatever is wanted.
    pub hung_up: bool,
}

/// A datagram that was received.
#[derive(Clone, Debug)]
pub struct Packet {
    /// Its length, which may exceed that of the buffer.
    pub len: usize,
    /// The sender.
    pub from: Address,
    /// The address that it was sent to.
    pub to: Option<IpAddr>,
}

/// Receives the result of a lookup.
pub type Completion = Box<dyn FnOnce(io::Result<Vec<SocketAddr>>) + Send>;

/// The system calls of one simulated machine. Each has the error numbers of the call that
/// it replaces, and none blocks.
pub trait Kernel {
    /// Returns the simulated time.
    fn now(&self) -> Instant;
    /// Returns a random number: getrandom(2).
    fn random(&self) -> u64;

    /// connect(2), from a local address if there is one.
    fn connect(&self, to: &Address, from: Option<SocketAddr>) -> io::Result<Fd>;
    /// Returns how an attempt to connect ended: `SO_ERROR`, or `ENOTCONN` if it continues.
    fn take_connect_result(&self, fd: Fd) -> io::Result<()>;
    /// bind(2) and listen(2). With `reuse_port`, others may listen there too.
    fn listen(&self, at: &Address, reuse_port: bool) -> io::Result<Fd>;
    /// accept(2).
    fn accept(&self, fd: Fd) -> io::Result<(Fd, Address)>;
    /// recv(2) on a stream.
    fn read(&self, fd: Fd, buffer: &mut [u8]) -> io::Result<usize>;
    /// send(2) on a stream.
    fn write(&self, fd: Fd, data: &[u8]) -> io::Result<usize>;
    /// shutdown(2) of the write half.
    fn shutdown_write(&self, fd: Fd) -> io::Result<()>;
    /// Makes close(2) reset the connection: `SO_LINGER` of zero.
    fn reset_on_close(&self, fd: Fd);
    /// `SO_ERROR`.
    fn take_error(&self, fd: Fd) -> io::Result<()>;
    /// Makes a stream writable only while none of its output is unsent:
    /// `TCP_NOTSENT_LOWAT` of one.
    fn watch_unsent(&self, fd: Fd);
    /// Returns how many bytes of output are not sent yet.
    fn unsent(&self, fd: Fd) -> usize;

    /// bind(2) of a datagram socket, to a free port for `None`, and connect(2) if there is
    /// a peer.
    fn open_datagram(&self, at: Option<&Address>, peer: Option<SocketAddr>) -> io::Result<Fd>;
    /// sendto(2), to the connected peer for `None`, and from the local address `from`.
    fn send(
        &self,
        fd: Fd,
        data: &[u8],
        to: Option<&Address>,
        from: Option<IpAddr>,
    ) -> io::Result<()>;
    /// recvfrom(2).
    fn receive(&self, fd: Fd, buffer: &mut [u8]) -> io::Result<Packet>;

    /// getsockname(2).
    fn local_addr(&self, fd: Fd) -> io::Result<Address>;
    /// getpeername(2).
    fn peer_addr(&self, fd: Fd) -> io::Result<Address>;
    /// close(2).
    fn close(&self, fd: Fd);

    /// Handles `signals` by a descriptor that is readable when one arrived.
    fn open_signals(&self, signals: &[i32]) -> io::Result<Fd>;
    /// Removes the signals that arrived and returns their numbers.
    fn take_signals(&self, fd: Fd) -> Vec<i32>;

    /// Resolves a host name, and calls `completion` later.
    fn resolve(&self, host: &str, port: u16, completion: Completion);

    /// Creates a queue of events, and the flag by which other threads wake its owner.
    fn open_queue(&self) -> io::Result<(Fd, Arc<AtomicBool>)>;
    /// Watches `fd`, or changes what is wanted from it.
    fn watch(&self, queue: Fd, fd: Fd, key: usize, wanted: Readiness) -> io::Result<()>;
    /// Stops watching `fd`.
    fn forget(&self, queue: Fd, fd: Fd) -> io::Result<()>;
    /// Appends the keys of the descriptors that are ready. It does not wait: the simulation
    /// runs a turn when there is something to do.
    fn take_events(&self, queue: Fd, events: &mut Vec<(usize, Readiness)>);
    /// poll(2) of one descriptor.
    fn readiness(&self, fd: Fd) -> Readiness;
}

thread_local! {
    static CURRENT: RefCell<Option<Rc<dyn Kernel>>> = const { RefCell::new(None) };
}

/// Calls `body` with `kernel` in place of the system, on this thread.
pub fn enter<R>(kernel: Rc<dyn Kernel>, body: impl FnOnce() -> R) -> R {
    struct Leave(Option<Rc<dyn Kernel>>);
    impl Drop for Leave {
        fn drop(&mut self) {
            CURRENT.set(self.0.take());
        }
    }
    let _leave = Leave(CURRENT.replace(Some(kernel)));
    body()
}

/// Returns the kernel that this thread has entered.
pub(crate) fn current() -> Option<Rc<dyn Kernel>> {
    CURRENT.with_borrow(Clone::clone)
}

/// Calls `body` with the kernel that this thread has entered.
///
/// # Errors
///
/// Returns `NotConnected` if it has left the simulation to which its sockets belong.
pub(crate) fn with<R>(body: impl FnOnce(&dyn Kernel) -> io::Result<R>) -> io::Result<R> {
    match current() {
        Some(kernel) => body(&*kernel),
        None => Err(io::Error::new(io::ErrorKind::NotConnected, "outside of the simulation")),
    }
}

/// An open descriptor, which is closed when this value is dropped.
#[derive(Debug)]
pub(crate) struct OwnedFd(pub(crate) Fd);

impl Drop for OwnedFd {
    fn drop(&mut self) {
        if let Some(kernel) = current() {
            kernel.close(self.0);
        }
    }
}
