//! The classic echo client: sends messages, or standard input, to an echo
//! server, verifies every byte of the replies, and prints them.
//!
//! The files in the order in which they depend on each other:
//!
//! - [`options`]: the command line.
//! - [`limits`]: how much is sent at a time, and the limits of the connection.
//! - [`failure`]: every error that ends the program, and its text.
//! - [`target`]: resolves the server's name.
//! - [`input`], [`output`]: standard input, read on a thread, and standard
//!   output.
//! - [`outcome`]: converts the end of a connection to the result of the program.
//! - [`messages`]: the conversation of asyncore's documentation, and the client
//!   side of the reactor in one page. Start reading here.
//! - [`reply_timeout`], [`pipe`]: standard input to standard output through the
//!   server, with a thread, a half-close and a timer.
//! - [`client`]: sets up the reactor and runs it.

mod client;
mod failure;
mod input;
mod limits;
mod messages;
mod options;
mod outcome;
mod output;
mod pipe;
mod reply_timeout;
mod sys;
mod target;

use std::process::ExitCode;

use log::LevelFilter;

use crate::failure::Failure;
use crate::options::Options;

fn main() -> ExitCode {
    let options = Options::parse_args();
    cli::logging::init(options.log_level(), LevelFilter::Warn);
    match client::run(options) {
        // The reader has seen enough, as in `| head -1`. By convention this is
        // not a failure.
        Err(error) if matches!(error.downcast_ref(), Some(Failure::OutputClosed)) => {
            ExitCode::SUCCESS
        }
        result => cli::error::exit_code("echo-client", result),
    }
}
