//! [`SocketPath`]: the file that a Unix socket is bound to.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use socket2::{Domain, SockAddr, Socket, Type};

/// The path of a Unix socket that is ours: removed with it, unless another
/// program has taken it over by then.
pub(crate) struct SocketPath {
    path: PathBuf,
    identity: (u64, u64),
}

impl SocketPath {
    /// Binds a socket at `path`, by way of `open`. A path left behind by a
    /// program that is gone is taken over. Errors name the path.
    pub(crate) fn bind(
        path: &Path,
        kind: Type,
        open: impl Fn(&SockAddr) -> io::Result<Socket>,
    ) -> io::Result<(Socket, Option<Self>)> {
        let named =
            |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        let addr = SockAddr::unix(path).map_err(named)?;
        let _lock = lock(path);
        let socket = match open(&addr) {
            Err(error) if error.kind() == ErrorKind::AddrInUse && is_stale(path, kind, &addr) => {
                log::info!("{}: nobody is there any more, taking it over", path.display());
                std::fs::remove_file(path).and_then(|()| open(&addr)).map_err(named)?
            }
            outcome => outcome.map_err(named)?,
        };
        let identity = identity(path);
        Ok((socket, identity.map(|identity| SocketPath { path: path.to_path_buf(), identity })))
    }
}

/// Whether `path` is a Unix socket with nobody behind it.
fn is_stale(path: &Path, kind: Type, addr: &SockAddr) -> bool {
    // A regular file refuses connections too, and is not ours to remove.
    if !std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket()) {
        return false;
    }
    let Ok(probe) = Socket::new(Domain::UNIX, kind, None) else { return false };
    // A full queue must not make us wait: it means that somebody is there.
    probe.set_nonblocking(true).is_ok()
        && probe.connect(addr).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

impl Drop for SocketPath {
    fn drop(&mut self) {
        let _lock = lock(&self.path);
        if identity(&self.path) == Some(self.identity) {
            // ReactorClosed already, or not ours to remove: then it is for others.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Holds off other programs of this library that would look at `path`, and
/// find a socket that does not listen yet or not any more, until it is dropped.
/// Where the directory cannot be locked, it is as it would be without.
fn lock(path: &Path) -> Option<File> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let directory = File::open(directory.unwrap_or(Path::new("."))).ok()?;
    flock(&directory, FlockOperation::LockExclusive).ok()?;
    Some(directory)
}

/// Device and inode of what stands at `path`.
fn identity(path: &Path) -> Option<(u64, u64)> {
    let metadata = std::fs::symlink_metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}
