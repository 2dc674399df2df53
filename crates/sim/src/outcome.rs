//! [`Outcome`]: what happened in one world.

use std::time::Duration;

use crate::fault::{FaultCounts, Faults};

/// What happened in one world.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The seed of the world.
    pub seed: u64,
    /// The hash of its trace.
    pub hash: u64,
    /// How much time passed in it.
    pub elapsed: Duration,
    /// The highest rate of each fault.
    pub declared: Faults,
    /// How often each fault happened.
    pub faults: FaultCounts,
    /// What the scenario noted.
    pub notes: Vec<String>,
    /// Why the scenario failed, or `None` if it did not.
    pub failure: Option<String>,
}
