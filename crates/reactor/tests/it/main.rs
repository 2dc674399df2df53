//! Integration tests over real sockets. A test named `invariant_N_…` checks
//! invariant N of the design:
//!
//! 1. no callback after `handle_close`, and none meant for another channel
//! 2. `handle_close` exactly once, last, with the first reason
//! 3. `handle_connect` at most once, first, and only once connected
//! 4. accepted output is sent in order, or the loss is counted in the reason
//! 5. memory is bounded, reading pauses and resumes, a stalled peer is closed
//! 6. an idle reactor never wakes
//! 7. one event causes a bounded amount of work
//! 8. an error or a panic closes only its channel
//! 9. a lack of descriptors only pauses accepting (`../descriptors.rs`)
//! 10. timers are never early, and are removed completely
//! 11. posts are never lost, and starve no channel
//! 12. cost depends on the ready channels only (`../allocations.rs`)
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a panic in a test or its helpers is the report of a failure"
)]
// A test that a system cannot run has a comment beside its `cfg` that names what is missing.
#![cfg_attr(
    not(target_os = "linux"),
    allow(unused_imports, reason = "imports of tests that another system cannot run")
)]

#[cfg(target_os = "linux")] // abstract names
mod abstract_names;
mod accept_errors;
mod addresses;
mod after_close;
mod api;
mod busy_poll;
mod chat;
mod close;
mod common;
mod congestion;
mod connect;
mod datagrams;
mod drain;
mod embedding;
mod extremes;
mod fairness;
#[cfg(unix)] // pipes and files
mod files;
mod filter;
#[cfg(unix)] // SEQPACKET sockets
mod gather;
mod happy_eyeballs;
mod idle;
mod inbox;
#[cfg(unix)] // descriptors that other programs pass on
mod inherited;
mod isolation;
mod listener;
mod lost_peers;
#[cfg(target_os = "linux")]
mod multicast;
mod peer_view;
mod posts;
mod rate_limits;
mod reconnect;
mod send;
#[cfg(unix)] // signals by number
mod signals;
#[cfg(unix)] // socket2 cannot read these options on Windows
mod socket_options;
mod stats;
mod timers;
mod types;
#[cfg(unix)] // Unix sockets
mod unix_sockets;
mod write_failure;
