//! [`Source`] on Windows: any socket.

use std::io;
use std::os::windows::io::{AsSocket, BorrowedSocket};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// A borrowed handle to what a [`Dispatcher`](crate::Dispatcher) waits for.
///
/// On Windows it is made from any socket, on Unix from anything that has a descriptor:
///
/// ```
/// use std::net::TcpListener;
/// use reactor::Source;
///
/// # fn main() -> std::io::Result<()> {
/// let socket = TcpListener::bind("127.0.0.1:0")?;
/// let source = Source::from(&socket);
/// # let _ = source;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct Source<'a>(Option<BorrowedSocket<'a>>);

impl<'a> Source<'a> {
    /// A source that is never ready, of a channel that only has timers, or whose
    /// socket does not exist yet.
    pub const NONE: Source<'static> = Source(None);

    /// Returns the socket, or `None` for [`Source::NONE`].
    #[must_use]
    pub fn socket(self) -> Option<BorrowedSocket<'a>> {
        self.0
    }

    /// Returns what the poller watches.
    pub(crate) fn inner(self) -> Option<BorrowedSocket<'a>> {
        self.0
    }

    /// Checks with `WSAPoll`, without waiting, if reading would not block.
    pub(crate) fn check_readable(self) -> bool {
        self.0.is_some_and(|socket| !poll_now(socket, PollFlags::IN).is_empty())
    }

    /// Checks with `WSAPoll`, without waiting, if writing would not block.
    pub(crate) fn check_writable(self) -> bool {
        self.0.is_some_and(|socket| !poll_now(socket, PollFlags::OUT).is_empty())
    }

    /// Checks with `WSAPoll`, without waiting, if the source hung up or failed.
    pub(crate) fn check_hung_up(self) -> bool {
        self.0.is_some_and(|socket| !poll_now(socket, PollFlags::empty()).is_empty())
    }
}

impl<'a, T: AsSocket> From<&'a T> for Source<'a> {
    fn from(source: &'a T) -> Self {
        Source(Some(source.as_socket()))
    }
}

/// Returns `false`: the poller watches every socket.
pub(crate) fn is_always_ready(_error: &io::Error) -> bool {
    false
}

/// Returns which of `flags` `WSAPoll` reports for `socket` without waiting, and `HUP` or
/// `ERR` if it hung up or failed. If `WSAPoll` itself fails, returns `flags`: what follows
/// will fail.
pub(super) fn poll_now(socket: BorrowedSocket<'_>, flags: PollFlags) -> PollFlags {
    let mut sockets = [PollFd::new(&socket, flags)];
    match poll(&mut sockets, Some(&Timespec::default())) {
        Ok(_) => sockets[0].revents(),
        Err(_) => flags,
    }
}
