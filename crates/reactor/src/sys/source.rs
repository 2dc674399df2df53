//! [`Source`]: anything that a poller can watch.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// A borrowed handle to what a [`Dispatcher`](crate::Dispatcher) waits for.
///
/// On Unix it is made from anything that has a descriptor, on Windows from any socket:
///
/// ```
/// use std::os::unix::net::UnixStream;
/// use reactor::Source;
///
/// # fn main() -> std::io::Result<()> {
/// let (socket, _peer) = UnixStream::pair()?;
/// let source = Source::from(&socket);
/// # let _ = source;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct Source<'a> {
    fd: Option<BorrowedFd<'a>>,
    #[cfg(feature = "sim")]
    simulated: Option<crate::sys::kernel::Fd>,
}

impl<'a> Source<'a> {
    /// A source that is never ready, of a channel that only has timers, or whose
    /// socket does not exist yet.
    pub const NONE: Source<'static> = Source::new(None);

    const fn new(fd: Option<BorrowedFd<'a>>) -> Self {
        Source {
            fd,
            #[cfg(feature = "sim")]
            simulated: None,
        }
    }

    /// Returns the descriptor, or `None` for [`Source::NONE`].
    #[must_use]
    pub fn fd(self) -> Option<BorrowedFd<'a>> {
        self.fd
    }

    /// Returns what the poller watches.
    pub(crate) fn inner(self) -> Option<BorrowedFd<'a>> {
        self.fd
    }

    /// Checks with poll(2), without waiting, if reading would not block.
    pub(crate) fn check_readable(self) -> bool {
        #[cfg(feature = "sim")]
        if let Some(readiness) = self.simulated_readiness() {
            return readiness.readable || readiness.hung_up;
        }
        self.fd.is_some_and(|fd| !poll_now(fd, PollFlags::IN).is_empty())
    }

    /// Checks with poll(2), without waiting, if writing would not block.
    pub(crate) fn check_writable(self) -> bool {
        #[cfg(feature = "sim")]
        if let Some(readiness) = self.simulated_readiness() {
            return readiness.writable || readiness.hung_up;
        }
        self.fd.is_some_and(|fd| !poll_now(fd, PollFlags::OUT).is_empty())
    }

    /// Checks with poll(2), without waiting, if the source hung up or failed.
    pub(crate) fn check_hung_up(self) -> bool {
        #[cfg(feature = "sim")]
        if let Some(readiness) = self.simulated_readiness() {
            return readiness.hung_up;
        }
        self.fd.is_some_and(|fd| !poll_now(fd, PollFlags::empty()).is_empty())
    }
}

#[cfg(feature = "sim")]
impl Source<'_> {
    pub(crate) fn simulated(fd: crate::sys::kernel::Fd) -> Self {
        Source { simulated: Some(fd), ..Source::NONE }
    }

    pub(crate) fn simulated_fd(self) -> Option<crate::sys::kernel::Fd> {
        self.simulated
    }

    fn simulated_readiness(self) -> Option<crate::sys::kernel::Readiness> {
        Some(crate::sys::kernel::current()?.readiness(self.simulated?))
    }
}

impl<'a, T: AsFd> From<&'a T> for Source<'a> {
    fn from(source: &'a T) -> Self {
        Source::new(Some(source.as_fd()))
    }
}

/// Returns `true` if the poller does not watch a source because it never blocks (EPERM from
/// `epoll_ctl(2)`).
pub(crate) fn is_always_ready(error: &io::Error) -> bool {
    Errno::from_io_error(error) == Some(Errno::PERM)
}

/// Returns which of `flags` poll(2) reports for `fd` without waiting, and `HUP` or `ERR` if
/// it hung up or failed. If poll(2) itself fails, returns `flags`: what follows will fail.
pub(super) fn poll_now(fd: BorrowedFd<'_>, flags: PollFlags) -> PollFlags {
    let mut fds = [PollFd::new(&fd, flags)];
    match poll(&mut fds, Some(&Timespec::default())) {
        Ok(_) => fds[0].revents(),
        Err(_) => flags,
    }
}
