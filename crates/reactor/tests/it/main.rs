//! What the library does, over real sockets. A test named `invariant_N_…`
//! holds invariant N of the design to its word:
//!
//! 1. no callback after `handle_close`, none that is meant for another channel
//! 2. `handle_close` exactly once, last, with the first reason
//! 3. `handle_connect` at most once and first, and only for a connection
//! 4. what `send` accepted goes out in order, or its loss is in the reason
//! 5. memory is bounded, reading stops and resumes, a stalled peer is closed
//! 6. an idle reactor never wakes
//! 7. one event is a bounded piece of work
//! 8. an error or a panic costs one channel
//! 9. a shortage of descriptors passes (`../descriptors.rs`)
//! 10. timers are never early, and leave nothing behind
//! 11. posts are never lost, and starve nobody
//! 12. cost follows the ready channels (`../allocations.rs`)
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a panic in a test or its helpers is the report of a failure"
)]

mod busy_poll;
mod close;
mod common;
mod connect;
mod datagrams;
mod drain;
mod embedding;
mod fairness;
mod files;
mod idle;
mod isolation;
mod listener;
mod posts;
mod rate_limits;
mod send;
mod stats;
mod timers;
