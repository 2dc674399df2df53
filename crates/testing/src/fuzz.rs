//! Tests with random input.

use std::env;
use std::fmt::Debug;
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngSeed, TestCaseResult, TestRunner};

/// Calls `test` with random values of `strategy` for a second, or for as many as
/// `REACTOR_FUZZ_SECONDS` says. If it fails, shrinks the value and panics with it.
/// `PROPTEST_RNG_SEED` starts with the values of an earlier failure.
pub fn fuzz<S: Strategy<Value: Debug>>(strategy: S, test: impl Fn(S::Value) -> TestCaseResult) {
    let seconds = env::var("REACTOR_FUZZ_SECONDS").map_or(1, |seconds| seconds.parse().unwrap());
    let (started_at, duration) = (Instant::now(), Duration::from_secs(seconds));
    let mut cases = 0_u64;
    let mut seed = match Config::default().rng_seed {
        RngSeed::Fixed(seed) => seed,
        RngSeed::Random => RandomState::new().hash_one(0),
    };
    loop {
        let config = Config {
            cases: 64,
            rng_seed: RngSeed::Fixed(seed),
            failure_persistence: None,
            ..Config::default()
        };
        cases += u64::from(config.cases);
        if let Err(error) = TestRunner::new(config).run(&strategy, &test) {
            panic!("PROPTEST_RNG_SEED={seed}: {error}");
        }
        if started_at.elapsed() >= duration {
            break;
        }
        seed = seed.wrapping_add(1);
    }
    println!("{cases} cases in {:?}", started_at.elapsed());
}
