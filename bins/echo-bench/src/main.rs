//! A load generator for TCP echo servers.
//!
//! The files in the order in which they depend on each other:
//!
//! - [`options`]: the command line.
//! - [`pattern`]: the data that is sent.
//! - [`failure`]: an error of a connection, and its kind.
//! - [`latency`]: latencies and rates, as text and as JSON.
//! - [`interval`], [`record`]: what is measured, in a part of the run and in all.
//! - [`progress`]: the live line on a terminal.
//! - [`hdr_log`], [`timeline`]: the intervals of all threads, also in a file.
//! - [`share`]: each thread's part of the connections.
//! - [`schedule`]: when a connection sends its messages in the open loop.
//! - [`workload`]: how connections are opened, and what they send.
//! - [`target`]: the address of the server.
//! - [`idle`]: a connection without messages.
//! - [`conversation`]: a connection with messages.
//! - [`generator`]: all connections of one thread, on a reactor.
//! - [`coordinator`]: starts and stops all threads.
//! - [`search`]: finds the highest rate.
//! - [`report`]: the result, for people and as JSON.
//! - [`run`]: runs a generator on each thread. Start reading here.

mod conversation;
mod coordinator;
mod failure;
mod generator;
mod hdr_log;
mod idle;
mod interval;
mod latency;
mod options;
mod pattern;
mod progress;
mod record;
mod report;
mod run;
mod schedule;
mod search;
mod share;
mod sys;
mod target;
mod timeline;
mod workload;

use std::process::ExitCode;

use log::LevelFilter;

use crate::options::Options;
use crate::run::Ending;

/// As a shell reports a program that SIGINT ended.
const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    let options = Options::parse_args();
    cli::logging::init(options.log_level(), LevelFilter::Error);
    let result = run::run(&options);
    let interrupted = matches!(result, Ok(Ending::Interrupted));
    let code = cli::error::exit_code("echo-bench", result.map(drop));
    if interrupted { ExitCode::from(INTERRUPTED) } else { code }
}
