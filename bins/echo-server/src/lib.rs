//! The classic echo server: it returns to each peer the data that it receives.
//!
//! A library, so that a simulated world (`crates/sim`) can run the server too; the program
//! is `main.rs`. The files in the order in which they depend on each other:
//!
//! - `options`: the command line.
//! - `sys`: what differs between systems.
//! - `cpu`: the processors that a thread can be pinned to.
//! - `thread_config`: each thread's part of the processors.
//! - `service_manager`: sockets from systemd or its like, and messages to it.
//! - `security`: TLS, if the command line names a certificate.
//! - `listen`: the protocol and the listening sockets.
//! - `workers`: further threads, with a reactor each.
//! - `server`: sets up the reactor and runs it. Start reading here.

mod cpu;
mod listen;
mod options;
mod security;
mod server;
mod service_manager;
mod sys;
mod thread_config;
mod workers;

pub use options::Options;
pub use server::{Server, run};
