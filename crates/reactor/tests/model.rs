//! Random schedules, checked against a simple model. Peers write, read late,
//! shut down, close and reset; sends, closes, timers, posts and drains happen
//! outside of the loop, in callbacks, and in posts. After each step the model
//! checks the behaviour of the reactor.
//!
//! A run takes some seconds; `REACTOR_MODEL_STEPS=1000000` changes the number of
//! steps. A failure prints the shortest failing schedule and the seed of its
//! batch: `PROPTEST_RNG_SEED=<seed>` runs the same schedules again. It also adds
//! a line to `tests/model.regressions`, whose schedules run first from then on.
//! The kernel's timing is not part of a schedule, so a failure that depends on
//! it may need several runs.
// The model includes Unix sockets, and resets, which wine reads as the end of input.
#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a panic in a test or its helpers is the report of a failure"
)]

#[path = "model/actions.rs"]
mod actions;
#[path = "model/case.rs"]
mod case;
#[path = "model/schedule.rs"]
mod schedule;
#[path = "model/subject.rs"]
mod subject;
#[path = "model/world.rs"]
mod world;

use std::cell::Cell;
use std::env;
use std::hash::{BuildHasher, RandomState};
use std::io::Write;
use std::panic;

use proptest::test_runner::{
    Config, FileFailurePersistence, RngSeed, TestCaseError, TestError, TestRunner,
};

use crate::case::Case;
use crate::world::{INTENDED, tally};

/// Takes some seconds in a debug build.
const STEPS: usize = 40_000;

/// The number of schedules with the same seed.
const BATCH: u32 = 64;

const REGRESSIONS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/model.regressions");

#[test]
fn random_schedules_match_the_model() {
    silence_intended_panics();
    let steps = env::var("REACTOR_MODEL_STEPS").map_or(STEPS, |steps| steps.parse().unwrap());
    let (mut done, mut cases) = (0, 0);
    let mut seed = match Config::default().rng_seed {
        RngSeed::Fixed(seed) => seed,
        RngSeed::Random => RandomState::new().hash_one(0),
    };
    while done < steps {
        let (batch, schedules) = run_batch(seed);
        done += batch;
        cases += schedules;
        seed = seed.wrapping_add(1);
    }
    report(&format!("{done} steps, {cases} cases, no divergence"));
    if env::var_os("REACTOR_MODEL_TALLY").is_some() {
        report(&tally());
    }
}

/// Runs one batch; returns the number of steps and of cases.
fn run_batch(seed: u64) -> (usize, usize) {
    let config = Config {
        cases: BATCH,
        rng_seed: RngSeed::Fixed(seed),
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(REGRESSIONS))),
        max_shrink_iters: 20_000,
        ..Config::default()
    };
    let (steps, cases) = (Cell::new(0), Cell::new(0));
    let outcome = TestRunner::new(config).run(&schedule::schedule(), |schedule| {
        steps.set(steps.get() + schedule.ops.len());
        cases.set(cases.get() + 1);
        Case::run(&schedule).map_err(TestCaseError::fail)
    });
    match outcome {
        Ok(()) => (steps.get(), cases.get()),
        Err(TestError::Fail(why, schedule)) => {
            panic!("PROPTEST_RNG_SEED={seed}: {why}\nshortest schedule: {schedule:#?}")
        }
        Err(error) => panic!("PROPTEST_RNG_SEED={seed}: {error}"),
    }
}

/// Prints to the terminal even if the test harness captures output.
fn report(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Hides the messages of the panics that a schedule contains.
fn silence_intended_panics() {
    let others = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        let message = info.payload().downcast_ref::<String>();
        if message.is_none_or(|message| message != INTENDED) {
            others(info);
        }
    }));
}
