//! Random programs with random limits, filters and faults: each seed has some of them only, so
//! that what one hides another shows. Run it with
//! `cargo run --release -p sim --example swarm -- --seeds 0..10000`.
#![allow(clippy::expect_used, reason = "a panic in a world is the report of a failure")]

mod actors;
mod chat;
mod echo;
mod filters;
mod rng;
mod setting;

use std::process::ExitCode;

use sim::{ScenarioResult, Sim};

use crate::rng::Rng;

const COMMAND: &str = "cargo run --release -p sim --example swarm";

fn scenario(sim: &mut Sim) -> ScenarioResult {
    let mut rng = Rng(sim.choose(u64::MAX));
    match rng.below(3) {
        0 => actors::scenario(sim, &mut rng),
        1 => chat::scenario(sim, &mut rng),
        _ => echo::scenario(sim, &mut rng),
    }
}

fn main() -> ExitCode {
    sim::main(COMMAND, scenario)
}
