//! [`SocketPath`]: the path that a Unix socket is bound to.

use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rustix::fs::{FlockOperation, Mode, OFlags, flock, open};
use rustix::io::Errno;
use socket2::{Domain, SockAddr, Type};

use crate::sys::datagram_socket::DatagramSocket;
use crate::sys::process::Owner;
use crate::sys::socket::Socket;
use crate::sys::socket_file::SocketFile;
use crate::sys::unix_address::{is_abstract, named, unix_sock_addr};

/// How often to try to lock a directory that another program has locked.
const MAX_LOCK_ATTEMPTS: u32 = 100;

/// The delay between two attempts.
const LOCK_ATTEMPT_INTERVAL: Duration = Duration::from_millis(1);

/// The path of a bound Unix socket. It is removed when this value is dropped,
/// unless another program has replaced it by then, or by a child of fork(2).
pub(crate) struct SocketPath {
    path: PathBuf,
    file_id: FileId,
    owner: Owner,
}

/// Device and inode numbers.
type FileId = (u64, u64);

impl SocketPath {
    /// Binds a socket to `path` by calling `bind`, and then `start` once the file has its
    /// mode and owner. A path that a terminated program left behind is replaced. Errors name
    /// the path.
    fn bind<T>(
        path: &Path,
        file: SocketFile,
        kind: Type,
        bind: impl Fn(&SockAddr) -> io::Result<T>,
        start: impl Fn(&T) -> io::Result<()>,
    ) -> io::Result<(T, Option<Self>)> {
        let named = |error| named(path, &error);
        let addr = unix_sock_addr(path).map_err(named)?;
        if is_abstract(path) {
            file.check_none().map_err(named)?;
            // There is no file: the name is free once the socket is closed.
            let started = bind(&addr).and_then(|socket| start(&socket).map(|()| (socket, None)));
            return started.map_err(named);
        }
        let lock = lock_parent_dir(path);
        let socket = match bind(&addr) {
            Err(error)
                if error.kind() == ErrorKind::AddrInUse && probe_stale(path, kind, &addr) =>
            {
                log::info!("{}: removing stale socket", path.display());
                std::fs::remove_file(path).and_then(|()| bind(&addr)).map_err(named)?
            }
            result => result.map_err(named)?,
        };
        let socket_path = file_id(path).map(|file_id| SocketPath {
            path: path.to_path_buf(),
            file_id,
            owner: Owner::this_process(),
        });
        let started = file.set_on(path).and_then(|()| start(&socket));
        // If that failed, the path is removed, for which it is locked again.
        drop(lock);
        started.map_err(named)?;
        Ok((socket, socket_path))
    }
}

impl Socket {
    /// Listens on a Unix stream socket at `path`.
    pub(crate) fn listen_path(
        path: &Path,
        file: SocketFile,
    ) -> io::Result<(Self, Option<SocketPath>)> {
        SocketPath::bind(path, file, Type::STREAM, Socket::bind_unix, Socket::start_listening)
    }
}

impl DatagramSocket {
    /// Binds a Unix datagram socket to `path`.
    pub(crate) fn bind_path(
        path: &Path,
        file: SocketFile,
    ) -> io::Result<(Self, Option<SocketPath>)> {
        SocketPath::bind(path, file, Type::DGRAM, DatagramSocket::bind_unix, |_| Ok(()))
    }
}

/// Checks by connect(2) if `path` is a Unix socket that no program uses any more.
fn probe_stale(path: &Path, kind: Type, addr: &SockAddr) -> bool {
    // A regular file refuses connections too, and must not be removed.
    if !std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket()) {
        return false;
    }
    let Ok(probe) = socket2::Socket::new(Domain::UNIX, kind, None) else { return false };
    // A full queue is a sign of a live server and must not block.
    probe.set_nonblocking(true).is_ok()
        && probe.connect(addr).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

impl Drop for SocketPath {
    fn drop(&mut self) {
        if !self.owner.is_this_process() {
            return;
        }
        let _lock = lock_parent_dir(&self.path);
        if file_id(&self.path) == Some(self.file_id) {
            // Removed already, or not ours to remove: then it is for others.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Locks the directory of `path` until the result is dropped, so that no other
/// program with this library probes a socket that does not listen yet or any more.
/// Returns `None` if the directory cannot be locked.
///
/// Any program that can read the directory may hold such a lock for as long as it
/// likes, so this waits for a limited time: others with this library hold it for the
/// duration of a few system calls.
fn lock_parent_dir(path: &Path) -> Option<OwnedFd> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    // DIRECTORY: to open a named pipe would wait for its writer.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = open(directory.unwrap_or(Path::new(".")), flags, Mode::empty()).ok()?;
    for _ in 0..MAX_LOCK_ATTEMPTS {
        match flock(&directory, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Some(directory),
            Err(Errno::AGAIN | Errno::INTR) => thread::sleep(LOCK_ATTEMPT_INTERVAL),
            Err(_) => return None,
        }
    }
    log::debug!("{}: its directory is locked by another program", path.display());
    None
}

fn file_id(path: &Path) -> Option<FileId> {
    let metadata = std::fs::symlink_metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}
