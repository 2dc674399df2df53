//! [`Cpu`]: a processor that a thread can be pinned to.

use std::fmt;
use std::io;

#[cfg(any(target_os = "linux", target_os = "android"))]
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// One processor, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cpu(usize);

#[cfg(any(target_os = "linux", target_os = "android"))]
impl Cpu {
    /// Returns the processors that the calling thread may run on, at least one.
    pub(crate) fn available() -> io::Result<Vec<Self>> {
        let set = sched_getaffinity(None)?;
        Ok((0..CpuSet::MAX_CPU).filter(|&number| set.is_set(number)).map(Self).collect())
    }

    /// Restricts the calling thread to this processor.
    pub(crate) fn pin_thread(self) -> io::Result<()> {
        let mut set = CpuSet::new();
        set.set(self.0);
        Ok(sched_setaffinity(None, &set)?)
    }
}

/// Not implemented for other systems.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
impl Cpu {
    pub(crate) fn available() -> io::Result<Vec<Self>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    #[allow(clippy::unused_self, reason = "same signature as on Linux")]
    pub(crate) fn pin_thread(self) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// `CPU 3`.
impl fmt::Display for Cpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CPU {}", self.0)
    }
}
