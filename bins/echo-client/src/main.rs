//! The classic echo client: sends messages, or standard input, to an echo
//! server, checks every byte that comes back, and prints it.
//!
//! Where to read on:
//!
//! - [`messages`]: the conversation of the seed. The client side of the
//!   reactor in one page; begin here.
//! - [`pipe`]: standard input to standard output through the server, with
//!   another thread, a half-close and a timer. [`input`] is that thread.
//! - [`server`]: finding the server. [`ending`]: what the end of a
//!   conversation means. [`failure`]: every sentence that may end the program.
//! - [`options`]: the command line.

mod ending;
mod failure;
mod input;
mod messages;
mod options;
mod output;
mod pipe;
mod server;

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::mpsc;
use std::time::Instant;

use anyhow::Context;
use clap::Parser;
use reactor::{Limits, Protocol, Reactor, Stream};

use crate::ending::Ending;
use crate::failure::Failure;
use crate::messages::Messages;
use crate::options::Options;
use crate::pipe::Pipe;
use crate::server::Server;

/// What goes to [`Io::send`](reactor::Io::send) at once, at the most.
const CHUNK: usize = 64 * 1024;

fn main() -> ExitCode {
    let options = Options::parse();
    log_to_stderr(&options);
    match run(options) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read our output has seen enough, as in `| head -1`. By
        // convention that is no failure, and nothing to talk about.
        Err(error) if matches!(error.downcast_ref(), Some(Failure::OutputClosed)) => {
            ExitCode::SUCCESS
        }
        Err(error) => {
            // Not `eprintln!`, which panics where standard error is closed.
            let _ = writeln!(io::stderr(), "echo-client: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Finds the server, and talks to it in the way that was asked for.
fn run(options: Options) -> anyhow::Result<()> {
    let began = Instant::now();
    let server = Server::find(&options.host, options.port, options.timeout)?;

    let limits = Limits {
        // Looking up the name was part of connecting.
        connect_timeout: Some(options.timeout.saturating_sub(began.elapsed())),
        // One chunk may wait while the next is sent. The stream stops reading
        // at its high-water mark, so keep clear of it: were the server to do
        // as we do, each would wait for the other to read first.
        low_water: CHUNK,
        high_water: 4 * CHUNK,
        // Each protocol has its own measure of a server that does not move.
        stall_timeout: None,
        ..Limits::default()
    };

    let (tell, told) = mpsc::channel();
    let ending = Ending::new(server.to_string(), options.timeout, tell);
    if options.stdin {
        converse(&server, Pipe::new(options.timeout, ending), limits)?;
    } else {
        let limits = Limits { idle_timeout: Some(options.timeout), ..limits };
        converse(&server, Messages::new(options.messages, ending), limits)?;
    }
    told.try_recv().context("the conversation ended without a word; please report this")??;
    Ok(())
}

/// One connection, from its beginning to its end.
fn converse(server: &Server, protocol: impl Protocol, limits: Limits) -> anyhow::Result<()> {
    let mut reactor = Reactor::new().context("cannot start the event loop")?;
    let stream = Stream::connect(server.addresses(), protocol)
        .map_err(|error| Failure::connect(server.to_string(), &error))?;
    reactor.add(stream.with_limits(limits)).context("cannot watch the connection")?;
    reactor.run().context("the event loop failed")
}

/// Flags go before `RUST_LOG`, which goes before the default.
fn log_to_stderr(options: &Options) {
    let mut builder = env_logger::Builder::new();
    builder.filter_level(log::LevelFilter::Warn).parse_default_env();
    if let Some(level) = options.log_level() {
        builder.filter_level(level);
    }
    builder.init();
}
