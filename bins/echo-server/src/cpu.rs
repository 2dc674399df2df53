//! [`Cpu`]: a processor that a thread can be pinned to.

use std::fmt;
use std::io;

use crate::sys::affinity;

/// One processor, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cpu(usize);

impl Cpu {
    /// Returns the processors that the calling thread may run on, at least one.
    pub(crate) fn available() -> io::Result<Vec<Self>> {
        Ok(affinity::available()?.into_iter().map(Self).collect())
    }

    /// Restricts the calling thread to this processor.
    pub(crate) fn pin_thread(self) -> io::Result<()> {
        affinity::pin_thread(self.0)
    }
}

/// `CPU 3`.
impl fmt::Display for Cpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CPU {}", self.0)
    }
}
