//! Standard streams, limits and errors, as Unix systems have them.
//!
//! A standard stream may be shared with other processes, one of which may have
//! set it to non-blocking mode. Setting it back would disturb them. So these
//! functions leave the mode unchanged: on `EAGAIN` they wait with poll(2).

use std::io::{self, ErrorKind};
use std::path::PathBuf;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::BorrowedFd;
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit, setrlimit};
use rustix::stdio;

/// How many bytes a pipe takes at once or not at all.
#[cfg(not(any(target_os = "illumos", target_os = "solaris")))]
pub(crate) const PIPE_BUF: usize = rustix::pipe::PIPE_BUF;
/// The smallest value that POSIX permits; `rustix` does not define it there.
#[cfg(any(target_os = "illumos", target_os = "solaris"))]
pub(crate) const PIPE_BUF: usize = 512;

/// Advice for a port that may not be bound.
pub(crate) const PORT_DENIED_HINT: &str = "low ports require privileges: \
     choose 1024 or higher with --port (0 selects a free one)";

/// Standard output or standard error.
#[derive(Clone, Copy)]
pub(crate) enum StandardStream {
    Output,
    Error,
}

impl StandardStream {
    fn fd(self) -> BorrowedFd<'static> {
        match self {
            StandardStream::Output => stdio::stdout(),
            StandardStream::Error => stdio::stderr(),
        }
    }

    /// Writes `data`. Returns the number of bytes written, and the error if they
    /// are not all.
    pub(crate) fn write(self, data: &[u8]) -> (usize, io::Result<()>) {
        let fd = self.fd();
        let mut written = 0;
        while written < data.len() {
            let result = match rustix::io::write(fd, &data[written..]).map_err(io::Error::from) {
                Ok(0) => Err(ErrorKind::WriteZero.into()),
                Ok(count) => {
                    written += count;
                    Ok(())
                }
                Err(error) => wait_after(&error, fd, PollFlags::OUT).unwrap_or(Err(error)),
            };
            if let Err(error) = result {
                return (written, Err(error));
            }
        }
        (written, Ok(()))
    }

    /// Returns `true` if a short write does not block.
    pub(crate) fn is_writable(self) -> bool {
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut [PollFd::from_borrowed_fd(self.fd(), PollFlags::OUT)], Some(&now))
            .is_ok_and(|ready| ready > 0)
    }
}

/// Reads standard input once. Returns the number of bytes, 0 at the end.
pub(crate) fn read_stdin(buffer: &mut [u8]) -> io::Result<usize> {
    let fd = stdio::stdin();
    loop {
        match rustix::io::read(fd, &mut *buffer).map_err(io::Error::from) {
            Ok(read) => return Ok(read),
            Err(error) => wait_after(&error, fd, PollFlags::IN).ok_or(error)??,
        }
    }
}

/// Waits for `event` on `fd` if that is what `error` requires. Returns `None`
/// for other errors.
fn wait_after(error: &io::Error, fd: BorrowedFd<'_>, event: PollFlags) -> Option<io::Result<()>> {
    match error.kind() {
        ErrorKind::Interrupted => Some(Ok(())),
        ErrorKind::WouldBlock => match poll(&mut [PollFd::from_borrowed_fd(fd, event)], None) {
            Ok(_) | Err(Errno::INTR) => Some(Ok(())),
            Err(error) => Some(Err(error.into())),
        },
        _ => None,
    }
}

/// Returns `path` as that of a Unix socket.
#[expect(clippy::unnecessary_wraps, reason = "as on Windows")]
pub(crate) fn unix_path(path: PathBuf) -> Result<PathBuf, String> {
    Ok(path)
}

/// Raises the soft open file limit to the hard one, and returns the soft limit
/// then in effect, or `None` if there is no limit.
pub(crate) fn raise_open_files() -> Option<u64> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        log::debug!("cannot raise the open file limit: {error}");
    }
    getrlimit(Resource::Nofile).current
}

/// Returns advice if `error` reports that descriptors are missing.
pub(crate) fn fd_hint(error: &io::Error) -> Option<&'static str> {
    match Errno::from_io_error(error) {
        Some(Errno::MFILE) => Some("raise the open file limit (ulimit -n)"),
        Some(Errno::NFILE) => Some("raise the limit of the whole system (sysctl fs.file-max)"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn soft_limit_reaches_the_hard_limit() {
        let raised = raise_open_files();
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(raised, limit.current);
        // Not every system grants the hard limit, but none lowers the soft one.
        if cfg!(target_os = "linux") {
            assert_eq!(limit.current, limit.maximum);
        }
    }
}
