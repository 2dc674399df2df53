//! Whether a source is ready at this moment: one look, which does not wait.

use std::os::fd::BorrowedFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Whether `source` is ready for any of `what`, or has an end or an error to
/// tell of.
pub(crate) fn is_ready(source: BorrowedFd<'_>, what: PollFlags) -> bool {
    poll(&mut [PollFd::new(&source, what)], Some(&Timespec::default())) != Ok(0)
}
