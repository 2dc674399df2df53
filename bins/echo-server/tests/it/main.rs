//! The whole program, over real sockets.
//!
//! No test sleeps for an outcome: each waits for a line, a byte or a state,
//! with a deadline far beyond what a busy machine needs.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a panic in a test or its helpers is the report of a failure"
)]

mod asyncore;
mod common;
#[cfg(target_os = "linux")]
mod crowd;
mod ending;
mod errors;
#[cfg(target_os = "linux")]
mod faults;
mod serving;
#[cfg(target_os = "linux")]
mod soak;
