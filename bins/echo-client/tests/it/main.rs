//! The whole program, with servers that follow a script.
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

mod addresses;
#[cfg(unix)] // Python
mod asyncore;
mod common;
mod errors;
mod messages;
#[cfg(target_os = "linux")]
mod multiple_addresses;
mod option_limits;
mod pipe;
#[cfg(unix)] // a shell and descriptors
mod streams;
#[cfg(unix)] // `openssl` and Python
mod tls;

/// The program's own command line, of which the tests read the list of options.
#[path = "../../src/options.rs"]
#[allow(dead_code, unreachable_pub, reason = "the tests use a part of it")]
mod options;
