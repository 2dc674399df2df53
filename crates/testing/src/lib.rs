//! What the tests of both programs need: to drive a process, and to be its
//! peer. Nothing here waits for ever; a test that would hang fails instead.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "a panic in a test or its helpers is the report of a failure"
)]

mod peer;
mod process;

use std::fmt::{Debug, Display};
use std::io::{self, Write};
use std::thread;
use std::time::{Duration, Instant};

pub use peer::{expect, expect_end, patient, reset};
pub use process::{
    Lines, Process, command, injected, memory, python_with_asyncore, run, through_shell,
};

/// Longer than anything here takes, on however busy a machine.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// Bytes in which every position can be told from its neighbours.
pub fn pattern(len: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    std::iter::repeat_with(next).take(len).collect()
}

/// Waits until `state` is as `wanted` says.
#[track_caller]
pub fn until<T: Debug>(mut state: impl FnMut() -> T, wanted: impl Fn(&T) -> bool) {
    let begin = Instant::now();
    loop {
        let now = state();
        if wanted(&now) {
            return;
        }
        assert!(begin.elapsed() < DEADLINE, "still {now:?}");
        pause();
    }
}

/// Says that a test tests nothing here, and why. Not `eprintln!`, which is not
/// shown for a test that passes.
pub fn skipped(why: impl Display) {
    let _ = writeln!(io::stderr(), "SKIPPED: {why}");
}

/// Between two looks at a state that nothing reports.
fn pause() {
    thread::sleep(Duration::from_millis(2));
}
