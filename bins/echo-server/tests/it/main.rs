//! The whole program, over real sockets.
//!
//! Tests do not sleep to wait for a result: each waits for a line, a byte or a
//! state, with a deadline that is ample on a busy machine.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a panic in a test or its helpers is the report of a failure"
)]
// A test that Windows cannot run has a comment beside its `cfg` that names what is missing.
#![cfg_attr(
    windows,
    allow(dead_code, unused_imports, reason = "helpers and imports of tests for Unix only")
)]

#[cfg(unix)] // service managers that pass sockets
mod activation;
#[cfg(unix)] // Python
mod asyncore;
#[cfg(unix)] // signals, and pipes that block
mod blocked_output;
mod common;
mod errors;
#[cfg(target_os = "linux")]
mod faults;
#[cfg(target_os = "linux")]
mod load;
mod option_limits;
#[cfg(unix)] // signals
mod proxies;
mod serving;
mod shutdown;
#[cfg(target_os = "linux")]
mod soak;
#[cfg(unix)] // signals
mod tls;

/// The program's own command line, of which the tests read the list of options.
#[path = "../../src/options.rs"]
#[allow(dead_code, unreachable_pub, reason = "the tests use a part of it")]
mod options;
