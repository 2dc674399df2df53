//! [`Processor`]: what a thread can be pinned to.

use std::io;

#[cfg(any(target_os = "linux", target_os = "android"))]
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// One processor, by its number.
#[cfg_attr(
    not(any(target_os = "linux", target_os = "android")),
    allow(dead_code, reason = "no thread is pinned there")
)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Processor(usize);

#[cfg(any(target_os = "linux", target_os = "android"))]
impl Processor {
    /// Those that the calling thread may run on: one at least.
    pub(crate) fn allowed() -> io::Result<Vec<Self>> {
        let set = sched_getaffinity(None)?;
        Ok((0..CpuSet::MAX_CPU).filter(|&number| set.is_set(number)).map(Self).collect())
    }

    /// Lets the calling thread run on this processor only.
    pub(crate) fn pin(self) -> io::Result<()> {
        let mut set = CpuSet::new();
        set.set(self.0);
        Ok(sched_setaffinity(None, &set)?)
    }
}

/// Other systems pin threads in other ways, or not at all.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
impl Processor {
    pub(crate) fn allowed() -> io::Result<Vec<Self>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    #[allow(clippy::unused_self, reason = "as on Linux")]
    pub(crate) fn pin(self) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
