//! Command-line support shared by the programs of this workspace.
//!
//! - [`error`]: error texts for people, and the exit code of a program.
//! - [`limits`]: the open file limit.
//! - [`logging`]: log set-up and verbosity flags.
//! - [`output`]: lines for standard output and the log that never block.
//! - [`stdio`]: blocking reads and writes on the standard streams.
//! - [`value`]: parsers for option values.
//!
//! The library does not depend on this crate, and this crate does not depend on
//! the library.

pub mod error;
pub mod limits;
mod line_queue;
pub mod logging;
pub mod output;
pub mod stdio;
mod sys;
pub mod value;
