//! Helpers for the tests of the programs: running a process, and acting as its
//! peer. No helper waits without a deadline: a test that would hang fails.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "a panic in a test or its helpers is the report of a failure"
)]

mod counting;
mod fuzz;
mod hosts_file;
mod log;
mod option_limits;
mod peer;
mod process;

use std::fmt::{Debug, Display};
use std::io::{self, Write};
use std::thread;
use std::time::{Duration, Instant};

pub use counting::CountingAllocator;
pub use fuzz::fuzz;
pub use hosts_file::HostsFile;
pub use log::Log;
pub use option_limits::EXTREME_VALUES;
pub use peer::{
    LocalStream, expect, expect_end, expect_reset, local_pair, reports_resets, reset, with_timeouts,
};
pub use process::{
    Lines, Process, command, is_installed, python_with_asyncore, run, status_kib, through_shell,
    with_fault,
};

/// Longer than any step of a test takes, even on a busy machine.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// Returns `len` bytes without a regular pattern, so that misplaced data is
/// detected.
pub fn pattern(len: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    std::iter::repeat_with(next).take(len).collect()
}

/// Polls `state` until `condition` holds for it.
#[track_caller]
pub fn wait_until<T: Debug>(mut state: impl FnMut() -> T, condition: impl Fn(&T) -> bool) {
    const POLL_INTERVAL: Duration = Duration::from_millis(2);
    let started_at = Instant::now();
    loop {
        let current = state();
        if condition(&current) {
            return;
        }
        assert!(started_at.elapsed() < DEADLINE, "still {current:?}");
        thread::sleep(POLL_INTERVAL);
    }
}

/// Reports that a test was skipped, and why. `eprintln!` would not be shown for
/// a test that passes.
pub fn report_skip(reason: impl Display) {
    let _ = writeln!(io::stderr(), "SKIPPED: {reason}");
}
