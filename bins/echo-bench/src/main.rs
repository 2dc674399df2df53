//! A load generator for TCP echo servers.
//!
//! The files in the order in which they depend on each other:
//!
//! - [`options`]: the command line.
//! - [`pattern`]: the data that is sent.
//! - [`record`]: what is measured.
//! - [`progress`]: the progress bar.
//! - [`share`]: each thread's part of the connections.
//! - [`workload`]: how connections are opened, and what they send.
//! - [`target`]: the address of the server.
//! - [`idle`]: a connection without messages.
//! - [`conversation`]: a connection with messages.
//! - [`generator`]: all connections of one thread, on a reactor.
//! - [`coordinator`]: starts and stops all threads.
//! - [`report`]: the result, for people and as JSON.
//! - [`run`]: runs a generator on each thread. Start reading here.

mod conversation;
mod coordinator;
mod generator;
mod idle;
mod options;
mod pattern;
mod progress;
mod record;
mod report;
mod run;
mod share;
mod target;
mod workload;

use std::process::ExitCode;

use clap::Parser;
use log::LevelFilter;

use crate::options::Options;
use crate::run::Ending;

fn main() -> ExitCode {
    let options = Options::parse();
    cli::logging::init(None, LevelFilter::Error);
    let result = run::run(&options);
    let signal = match result {
        Ok(Ending::Interrupted(signal)) => u8::try_from(signal).ok(),
        _ => None,
    };
    let code = cli::error::exit_code("echo-bench", result.map(drop));
    // As a shell reports a program that a signal ended.
    signal.map_or(code, |signal| ExitCode::from(128 + signal))
}
