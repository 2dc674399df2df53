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
//! - [`idle`]: a connection without messages.
//! - [`conversation`]: a connection with messages.
//! - [`generator`]: all connections of one thread, on a reactor.
//! - [`report`]: the result, for people and as JSON.
//! - [`run`]: runs a generator on each thread. Start reading here.

mod conversation;
mod generator;
mod idle;
mod options;
mod pattern;
mod progress;
mod record;
mod report;
mod run;
mod share;
mod workload;

use std::process::ExitCode;

use clap::Parser;
use log::LevelFilter;

use crate::options::Options;

fn main() -> ExitCode {
    let options = Options::parse();
    cli::logging::init(None, LevelFilter::Error);
    cli::error::exit_code("echo-bench", run::run(&options))
}
