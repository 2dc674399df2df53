//! [`Owner`]: the process that something belongs to.

use std::io;
use std::process;

/// The process that created a value. A child of fork(2) has a copy of the value, but
/// shares with its parent what the value stands for in the kernel or on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owner(u32);

impl Owner {
    pub(crate) fn this_process() -> Self {
        Owner(process::id())
    }

    /// Returns `false` in a child of fork(2).
    pub(crate) fn is_this_process(self) -> bool {
        self == Self::this_process()
    }

    /// # Errors
    ///
    /// Returns an error in a child of fork(2).
    pub(crate) fn check(self) -> io::Result<()> {
        if self.is_this_process() {
            return Ok(());
        }
        Err(io::Error::other("the reactor belongs to the parent process"))
    }
}
