//! The classic echo server: it sends back whatever it is sent.
//!
//! Five files, to be read in this order: [`server`] is the server itself and
//! shows how the reactor is used; [`workers`] does the same on more threads,
//! which [`processor`] pins; [`options`] is the command line; this one reports
//! what went wrong.

mod options;
mod processor;
mod server;
mod workers;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use log::LevelFilter;

use crate::options::Options;

fn main() -> ExitCode {
    // On a usage error this prints it and exits with 2.
    let options = Options::parse();
    start_log(options.log_level());
    match server::run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Not `eprintln!`, which panics where standard error is gone: then
            // the exit code has to do.
            let _ = writeln!(io::stderr(), "echo-server: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Sends the log to standard error. What the command line says comes before
/// `RUST_LOG`, and that before the default.
fn start_log(level: Option<LevelFilter>) {
    let mut log = env_logger::Builder::new();
    log.filter_level(level.unwrap_or(LevelFilter::Warn));
    if level.is_none() {
        log.parse_default_env();
    }
    log.init();
}
