//! Runs programs on [`reactor`] in a simulated world: a network and a clock that a seed
//! decides. A test needs no real time and no free port, thousands of worlds take a minute,
//! and one that fails can be run again, exactly.
//!
//! The programs are the real ones: their protocols, listeners and timers, unchanged. Only
//! what the library asks of the system is answered by the world.
//!
//! # Guide
//!
//! ## 1. A first world
//!
//! A [`Sim`] contains machines. Each runs a program on a reactor of its own, which is created
//! by the function that the program's `main` calls before
//! [`Reactor::run`](reactor::Reactor::run): here `server` and `client`. What happens in one
//! world is a scenario, a function that returns an error if the programs did not do what they
//! should.
//!
//! ```
//! use std::io;
//! use std::net::SocketAddr;
//! use std::time::Duration;
//!
//! use reactor::{Io, Listener, Protocol, Reactor, Stream};
//! use sim::{ScenarioResult, Sim};
//!
//! struct Echo;
//!
//! impl Protocol for Echo {
//!     fn handle_read(&mut self, io: &mut Io<'_>, data: &[u8]) -> io::Result<()> {
//!         io.send(data)
//!     }
//! }
//!
//! fn server(reactor: &mut Reactor) -> io::Result<()> {
//!     reactor.add(Listener::bind("10.0.0.1:7", |_| Ok(Echo))?).map(drop)
//! }
//!
//! struct Hello;
//!
//! impl Protocol for Hello {
//!     fn handle_connect(&mut self, io: &mut Io<'_>) -> io::Result<()> {
//!         io.send(b"hello")
//!     }
//!
//!     fn handle_read(&mut self, io: &mut Io<'_>, data: &[u8]) -> io::Result<()> {
//!         assert!(b"hello".starts_with(data));
//!         io.close();
//!         Ok(())
//!     }
//! }
//!
//! fn client(reactor: &mut Reactor) -> io::Result<()> {
//!     let server = SocketAddr::from(([10, 0, 0, 1], 7));
//!     reactor.add(Stream::connect([server], Hello)).map(drop)
//! }
//!
//! fn scenario(sim: &mut Sim) -> ScenarioResult {
//!     sim.machine("server", [10, 0, 0, 1], server)?;
//!     let client = sim.machine("client", [10, 0, 0, 2], client)?;
//!     sim.rest(Duration::from_secs(60))?;
//!     if sim.has_ended(client) { Ok(()) } else { Err("the client waits forever".into()) }
//! }
//!
//! sim::check(0..100, scenario);
//! ```
//!
//! Time stands still while callbacks run, and then jumps to the next event. So the 60 seconds
//! cost nothing, and a timer of an hour expires at once if nothing else happens before it.
//!
//! ## 2. What goes wrong
//!
//! * [`Link`] says how the network behaves when all is well: latency, bandwidth, buffers.
//!   [`Sim::set_link`] is for all machines, [`Sim::set_link_between`] for two.
//! * [`Faults`] say how often each [`Fault`] happens, in a million. [`Faults::of_streams`] is a
//!   good start for a program that uses TCP. Short reads and writes, lost segments and the like
//!   happen whenever they can. Those that break a machine or a path happen by themselves
//!   during [`Sim::chaos`]; a machine loses power only after [`Sim::allow_crashes`].
//! * [`Sim::kill`], [`Sim::crash`], [`Sim::restart`], [`Sim::partition`] and [`Sim::signal`] do
//!   something at a time that the scenario chooses.
//!
//! A fault that was declared and happened in none of the worlds fails the test: it would only
//! seem to be tested.
//!
//! ## 3. What must hold
//!
//! * *At any time*: write it as an `assert!` in a callback of a client, or of the server. A panic
//!   fails the world.
//! * *In the end*: after [`Sim::chaos`] the faults cease, and [`Sim::rest`] runs until nothing is
//!   left to do. It returns an error if that takes longer than its limit, or if there is output
//!   that nothing will ever move. So everything that was begun must come to an end. Then the
//!   scenario looks at what its clients have seen.
//! * [`Sim::note`] counts what happened across all worlds. If "complete" was noted twice in a
//!   thousand, the scenario tests less than it seems.
//!
//! [`Sim::choose`] draws what differs from world to world: numbers, lengths, pauses.
//!
//! ## 4. A complete example
//!
//! `crates/reactor/examples/chat_server.rs` sends each line of a peer to all peers, and tells
//! all who joins and who leaves. It promises: every line reaches everyone, or its sender learns
//! that it may not have. `Guest` is a client, `scenario` one world, and `check_lines` the
//! promise.
//!
//! ```ignore
#![doc = include_str!("../examples/chat.rs")]
//! ```
//!
//! [`main`] runs it in one world or in many. Suppose that the server does not announce who
//! leaves (`crates/sim/defects/7-unannounced-leave.patch`). Then
//! `cargo run --release -p sim --example chat -- --seeds 0..10` ends with
//!
//! ```text
//! 3 failed
//! first: seed 4: 10.0.1.2:51200 misses "10.0.1.1:50176: line 2", and its sender does not know
//! run it again: cargo run --release -p sim --example chat -- --seed 4
//! ```
//!
//! ## 5. In a test
//!
//! [`check`] is for a `#[test]`, and runs each world twice, to be sure that its seed decides
//! everything:
//!
//! ```ignore
#![doc = include_str!("../tests/it/chat.rs")]
//! ```
//!
//! If a world fails, so does the test:
//!
//! ```text
//! 44 of 100 seeds failed; seed 4: 10.0.1.2:51200 misses "10.0.1.1:50176: line 2", and its sender does not know
//! run it again: SIM_SEED=4 cargo test -p sim chat::every_line_arrives_or_its_sender_knows
//! what happened: /tmp/chat-every_line_arrives_or_its_sender_knows-4.html
//! ```
//!
//! ## 6. What happened
//!
//! The page, which `--seed 4 --trace FILE` also writes, needs no network. Machines are columns,
//! time goes down, and an arrow is a message, at the time of its arrival. A dashed line is a
//! fault between two machines; dots are other faults, timers, system calls, starts and ends of
//! programs. The legend hides what you do not want to see, and a click on a machine shows only
//! its part. In the world above, look for "reset": the connection between the server and guest
//! 2 breaks while line 2 is on its way, and nothing tells the sender.
//!
//! In a world that is run again, everything is as before: a log line or an `eprintln!` in a
//! callback changes nothing.
//!
//! ## 7. The smallest world that fails
//!
//! A scenario may have parameters, and [proptest](https://docs.rs/proptest) then reduces them:
//!
//! ```
//! use proptest::prelude::*;
//! use proptest::sample::subsequence;
//! use sim::{Fault, Faults, ScenarioResult, Sim, run_seed};
//!
//! # fn scenario(sim: &mut Sim, faults: &[Fault], clients: u8) -> ScenarioResult { Ok(()) }
//! proptest! {
//! # /*
//!     #[test]
//! # */
//!     fn no_world_fails(
//!         seed in any::<u64>().no_shrink(),
//!         faults in subsequence(&Fault::ALL[..], 0..=Fault::ALL.len()),
//!         clients in 1..=5_u8,
//!     ) {
//!         let outcome = run_seed(seed, |sim| {
//!             let add = |faults: Faults, &fault: &_| faults.with(fault, Faults::all().rate(fault));
//!             sim.set_faults(faults.iter().fold(Faults::none(), add));
//!             scenario(sim, &faults, clients)
//!         });
//!         prop_assert_eq!(outcome.failure, None);
//!     }
//! }
//! # no_world_fails();
//! ```
//!
//! A fault is drawn from random streams of its own, one for each connection, socket and machine.
//! So without it the others happen as before, and it is left out unless it matters. The seed is
//! a name, and no smaller one is simpler. `tests/it/shrinking.rs` does this to a program that
//! counts a repeated datagram twice; what remains is
//! `faults: [DatagramDuplicate], clients: 1, votes: 1`.
//!
//! ## 8. What a program must do for it
//!
//! * It has a function that creates its channels in a given reactor, apart from its `main`.
//! * It takes the time from [`Context::now`](reactor::Context::now), not from `Instant::now`.
//! * It does not depend on what differs from run to run: the order of a `HashMap` with a random
//!   seed, random numbers but those of [`Sim::choose`], addresses in memory, other threads.
//! * Its machines share no state, except what the test uses to look at them.
//! * It does not wait, which no program on a reactor may.
//!
//! [`check`] detects a program that does not do the same in two runs.
//!
//! # How faithful it is
//!
//! A conformance suite, `tests/conformance`, runs 410 scripts both on Linux's loopback network
//! and in worlds, and compares what callbacks see: their order, the bytes, the errors of calls,
//! and the causes of closes. All are equal. These cannot be compared:
//!
//! * a connection to a host that is silent, and a full queue of a listener: loopback has
//!   neither;
//! * a name that is not resolved, which depends on the name servers;
//! * a connection that is given up while it is established, or data that crosses a reset: there
//!   the outcome depends on the time on a real network too;
//! * SIGINT and SIGTERM, and a signal that no program handles: they would end the suite.
//!
//! # What is not simulated
//!
//! * pipes, terminals, files (so that no Unix path is anything but a socket, and no directory is
//!   missing), threads, and blocking name resolution (`Listener::bind` with a
//!   host name); [`Stream::connect_host`](reactor::Stream::connect_host) uses the world's names;
//! * sockets that are created outside of the reactor, socket options, urgent data, multicast,
//!   credentials, and binding to IPv4 and IPv6 separately on one port;
//! * acknowledgements that are lost or late, and the limit on a closed connection whose peer
//!   does not read;
//! * the time that a callback takes: the clock stands still within a turn.

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
mod unix;
mod world;

pub use command_line::main;
pub use error::SimError;
pub use fault::{Fault, FaultCounts, Faults};
pub use link::Link;
pub use outcome::Outcome;
pub use seeds::{ScenarioResult, Summary, check, run_seed, run_seeds, trace_page};
pub use simulation::{MachineId, Sim};
pub use trace::{EventKind, TraceEvent};
