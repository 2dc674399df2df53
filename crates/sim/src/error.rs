//! [`SimError`]: why a world did not end as it should.

use std::error::Error;
use std::fmt;
use std::io;

/// Why a simulation ended before everything came to rest, or cannot start.
#[derive(Debug)]
#[non_exhaustive]
pub enum SimError {
    /// There is still something to do when the time is over.
    NotAtRest {
        /// What the machines wait for.
        waiting: String,
    },
    /// A program makes turn after turn in one instant.
    Spin {
        /// The machine's name.
        machine: String,
    },
    /// The program of a machine does not start.
    Setup {
        /// The machine's name.
        machine: String,
        /// The error of its set-up.
        error: io::Error,
    },
    /// The event loop of a machine failed.
    Turn {
        /// The machine's name.
        machine: String,
        /// The error of its reactor.
        error: io::Error,
    },
    /// A callback panicked.
    Panicked(String),
    /// Output is queued, or input unread, and nothing will ever move it.
    Stuck(String),
}

impl fmt::Display for SimError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SimError::NotAtRest { waiting } => write!(f, "the world does not rest: {waiting}"),
            SimError::Spin { machine } => write!(f, "{machine} spins"),
            SimError::Setup { machine, error } => write!(f, "{machine} does not start: {error}"),
            SimError::Turn { machine, error } => write!(f, "the loop of {machine} failed: {error}"),
            SimError::Panicked(message) => write!(f, "a callback panicked: {message}"),
            SimError::Stuck(what) => write!(f, "{what}"),
        }
    }
}

impl Error for SimError {}
