//! Integration tests over real sockets, with both sides of TLS in one reactor, or with a
//! plain peer that sends what it should not.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a panic in a test or its helpers is the report of a failure"
)]

mod common;
#[cfg(target_os = "linux")] // the limit of descriptors in /proc
mod crowd;
mod endings;
mod files;
mod fuzz;
mod hostile;
mod sessions;
mod starttls;
