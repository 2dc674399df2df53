//! The program `echo-server`.

use std::process::ExitCode;

use clap::Parser;
use echo_server::Options;
use log::LevelFilter;

fn main() -> ExitCode {
    let options = Options::parse();
    cli::logging::init(options.log_level(), LevelFilter::Warn);
    cli::error::exit_code("echo-server", echo_server::run(&options))
}
