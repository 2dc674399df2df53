//! Command-line support shared by the programs of this workspace.
//!
//! - [`error`]: error texts for people, and the exit code of a program.
//! - [`limits`]: the open file limit.
//! - [`logging`]: log set-up and verbosity flags.
//! - [`stdout`]: standard output that may be closed.
//! - [`value`]: parsers for option values.
//!
//! The library does not depend on this crate, and this crate does not depend on
//! the library.

pub mod error;
pub mod limits;
pub mod logging;
pub mod stdout;
pub mod value;
