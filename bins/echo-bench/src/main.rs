//! A load generator for TCP echo servers.
//!
//! [`options`] is the command line; [`run`] has a [`generator`] on each thread
//! make a load of the conversations of [`conversation`]; [`record`] holds what
//! they measured, and [`report`] says it ([`progress`] meanwhile).

mod conversation;
mod generator;
mod options;
mod pattern;
mod progress;
mod record;
mod report;
mod run;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;

use crate::options::Options;

fn main() -> ExitCode {
    let options = Options::parse();
    env_logger::Builder::new().filter_level(log::LevelFilter::Error).parse_default_env().init();
    match run::run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "echo-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}
