//! Blocking reads and writes on the standard streams, in any mode.
//!
//! A standard stream may be shared with other processes, one of which may have
//! set it to non-blocking mode. Setting it back would disturb them. So these
//! functions leave the mode unchanged: on `EAGAIN` they wait with poll(2).

use std::io::{self, ErrorKind};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::BorrowedFd;
use rustix::stdio;

/// Reads standard input into `buffer`. Returns the number of bytes, 0 at the
/// end.
///
/// # Errors
///
/// Returns the error of read(2).
pub fn read(buffer: &mut [u8]) -> io::Result<usize> {
    let fd = stdio::stdin();
    loop {
        match rustix::io::read(fd, &mut *buffer).map_err(io::Error::from) {
            Ok(read) => return Ok(read),
            Err(error) => wait_after(&error, fd, PollFlags::IN).ok_or(error)??,
        }
    }
}

/// Writes `data` to standard output. Blocks while its reader is slow.
///
/// # Errors
///
/// Returns an error if standard output cannot be written;
/// [`BrokenPipe`](ErrorKind::BrokenPipe) if its reader has closed it.
pub fn write(data: &[u8]) -> io::Result<()> {
    write_to(stdio::stdout(), data).1
}

/// Writes `data` to `fd`. Returns the number of bytes written, and the error if
/// they are not all.
pub(crate) fn write_to(fd: BorrowedFd<'_>, data: &[u8]) -> (usize, io::Result<()>) {
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

/// Returns `true` if a short write to `fd` does not block.
pub(crate) fn is_writable(fd: BorrowedFd<'_>) -> bool {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut [PollFd::from_borrowed_fd(fd, PollFlags::OUT)], Some(&now))
        .is_ok_and(|ready| ready > 0)
}

/// Waits for `event` on `fd` if that is what `error` requires. Returns `None`
/// for other errors.
fn wait_after(error: &io::Error, fd: BorrowedFd<'_>, event: PollFlags) -> Option<io::Result<()>> {
    match error.kind() {
        ErrorKind::Interrupted => Some(Ok(())),
        ErrorKind::WouldBlock => match poll(&mut [PollFd::from_borrowed_fd(fd, event)], None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Some(Ok(())),
            Err(error) => Some(Err(error.into())),
        },
        _ => None,
    }
}
