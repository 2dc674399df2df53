//! Runs programs on [`reactor`] in a simulated world: a network and a clock that a seed
//! decides, so that a test needs no real time, and a failure can be run again.
//!
//! A [`Sim`] contains machines. Each runs a program on a reactor of its own, which is created
//! by the function that the program's `main` calls before
//! [`Reactor::run`](reactor::Reactor::run). Protocols and listeners are those of the real
//! program. [`Faults`] say what goes wrong, [`check`] runs a scenario in many worlds, and
//! [`main`] does it from the command line. The page that `--trace` writes shows what happened.
//!
//! # What is not simulated
//!
//! * pipes, terminals, files, threads, and blocking name resolution (`Listener::bind` with a
//!   host name); [`Stream::connect_host`](reactor::Stream::connect_host) uses the world's names;
//! * sockets that are created outside of the reactor, socket options, urgent data, multicast,
//!   credentials, and binding to IPv4 and IPv6 at once;
//! * acknowledgements that are lost or late, and the limit on a closed connection whose peer
//!   does not read; a full datagram socket drops what arrives, a Unix one too;
//! * the time that a callback takes: the clock stands still within a turn.
//!
//! A program that depends on `Instant::now`, on a `HashMap` with a random seed, or on other
//! threads does not do the same in two runs. [`check`] detects that.

#[cfg(not(unix))]
compile_error!("the simulation replaces system calls of Unix, and is not available here");

mod command_line;
mod conditions;
mod connect;
mod control;
mod datagram;
mod dice;
mod error;
mod events;
mod fault;
mod html;
mod kernel;
mod link;
mod outcome;
mod panics;
mod readiness;
mod rng;
mod seeds;
mod simulation;
mod socket;
mod stream;
mod trace;
mod world;

pub use command_line::main;
pub use error::SimError;
pub use fault::{Fault, FaultCounts, Faults};
pub use link::Link;
pub use outcome::Outcome;
pub use seeds::{ScenarioResult, Summary, check, run_seed, run_seeds, trace_page};
pub use simulation::{MachineId, Sim};
pub use trace::{EventKind, TraceEvent};
