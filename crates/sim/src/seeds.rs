//! [`run_seeds`]: a scenario in many worlds; and the command line for it.

use std::env;
use std::error::Error;
use std::fmt;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::fault::{FaultCounts, Faults};
use crate::html;
use crate::outcome::Outcome;
use crate::panics;
use crate::simulation::Sim;

/// What a scenario returns: an error if the program did not do what it should.
pub type ScenarioResult = Result<(), Box<dyn Error>>;

/// Runs `scenario` in the world of `seed`. A panic is a failure, of a callback too.
pub fn run_seed(seed: u64, scenario: impl Fn(&mut Sim) -> ScenarioResult) -> Outcome {
    run_in(&mut Sim::new(seed), seed, scenario)
}

fn run_in(sim: &mut Sim, seed: u64, scenario: impl Fn(&mut Sim) -> ScenarioResult) -> Outcome {
    let result = catch_unwind(AssertUnwindSafe(|| scenario(sim)));
    let failure = match result {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(_) => Some(panics::first().unwrap_or_else(|| "panicked".to_owned())),
    };
    Outcome { seed, hash: sim.hash(), elapsed: sim.elapsed(), faults: sim.fault_counts(), failure }
}

/// Runs `scenario` in the world of `seed` once more, and returns the trace as a page of
/// HTML.
pub fn trace_page(seed: u64, scenario: impl Fn(&mut Sim) -> ScenarioResult) -> String {
    let mut sim = Sim::new(seed);
    sim.record_events();
    let outcome = run_in(&mut sim, seed, scenario);
    html::page(&outcome, &sim.machine_names(), &sim.events())
}

/// What happened in many worlds.
#[derive(Clone, Debug)]
pub struct Summary {
    /// The seeds of the worlds.
    pub seeds: Range<u64>,
    /// Those that failed, in the order of their seeds.
    pub failures: Vec<Outcome>,
    /// The hashes of all traces, in one.
    pub hash: u64,
    /// How much time passed in the worlds together.
    pub simulated: Duration,
    /// How long that took.
    pub took: Duration,
    /// How often each fault happened.
    pub faults: FaultCounts,
}

/// Runs `scenario` in the world of each seed, on all processors.
pub fn run_seeds(
    seeds: Range<u64>,
    scenario: impl Fn(&mut Sim) -> ScenarioResult + Sync,
) -> Summary {
    let started_at = Instant::now();
    let next = AtomicU64::new(seeds.start);
    let summary = Mutex::new(Summary {
        seeds: seeds.clone(),
        failures: Vec::new(),
        hash: 0,
        simulated: Duration::ZERO,
        took: Duration::ZERO,
        faults: FaultCounts::default(),
    });
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                break;
            }
            let outcome = run_seed(seed, &scenario);
            let mut summary = summary.lock().unwrap_or_else(PoisonError::into_inner);
            // A sum, as the seeds end in any order.
            summary.hash = summary.hash.wrapping_add(outcome.hash);
            summary.simulated += outcome.elapsed;
            summary.faults.add(&outcome.faults);
            if outcome.failure.is_some() {
                summary.failures.push(outcome);
            }
        }
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    let mut summary = summary.into_inner().unwrap_or_else(PoisonError::into_inner);
    summary.failures.sort_by_key(|outcome| outcome.seed);
    summary.took = started_at.elapsed();
    summary
}

impl Summary {
    /// Returns the faults that were declared and never happened.
    pub fn missing_faults<'a>(&'a self, declared: &'a Faults) -> Vec<crate::Fault> {
        declared.declared().filter(|&fault| self.faults.get(fault) == 0).collect()
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.seeds.end.saturating_sub(self.seeds.start);
        let hours = self.simulated.as_secs_f64() / 3600.0;
        let seconds = self.took.as_secs_f64();
        writeln!(
            f,
            "{count} seeds in {seconds:.1} s: {hours:.1} simulated hours, {:.2} per second; \
             hash {:016x}",
            hours / seconds.max(1e-9),
            self.hash
        )?;
        writeln!(f, "faults: {}", self.faults)?;
        write!(f, "{} failed", self.failures.len())
    }
}

/// Checks `scenario` in the worlds of `seeds`, for a test. If the environment variable
/// `SIM_SEED` is set, only the world of that seed, which it also describes in
/// `target/sim-SEED.html`.
///
/// # Panics
///
/// Panics if the scenario fails in one of the worlds, with the seed and the command that runs
/// it again; if two runs of one seed differ; or if one of the faults `declared` happened in
/// no world, so that nothing is known about it.
#[expect(clippy::panic, reason = "so does a test fail")]
pub fn check(
    seeds: Range<u64>,
    declared: &Faults,
    scenario: impl Fn(&mut Sim) -> ScenarioResult + Sync,
) {
    let command = |seed: u64| {
        let test = thread::current().name().unwrap_or("the test").to_owned();
        format!("SIM_SEED={seed} cargo test {test}")
    };
    if let Some(seed) = env::var("SIM_SEED").ok().and_then(|seed| seed.parse().ok()) {
        let path = format!("target/sim-{seed}.html");
        let outcome = run_seed(seed, &scenario);
        if std::fs::write(&path, trace_page(seed, &scenario)).is_ok() {
            println!("what happened: {path}");
        }
        if let Some(failure) = outcome.failure {
            panic!("seed {seed}: {failure}");
        }
        return;
    }
    let summary = run_seeds(seeds.clone(), &scenario);
    if let Some(first) = summary.failures.first() {
        let seed = first.seed;
        let failure = first.failure.as_deref().unwrap_or_default();
        let again = run_seed(seed, &scenario);
        assert_eq!(again.hash, first.hash, "seed {seed}: two runs differ");
        panic!(
            "{} of {} seeds failed; seed {seed}: {failure}\nrun it again: {}",
            summary.failures.len(),
            seeds.end - seeds.start,
            command(seed)
        );
    }
    let missing = summary.missing_faults(declared);
    assert!(missing.is_empty(), "these faults were declared and never happened: {missing:?}");
    let again = run_seeds(seeds, &scenario);
    assert_eq!(again.hash, summary.hash, "two runs of the same seeds differ");
}

/// Runs `scenario` as the arguments of the program say, for the `main` of an example that is
/// run by `command`:
///
/// * `--seed N`: in the world of seed N, twice; prints `seed N: HASH` as the last line;
/// * `--seeds A..B`: in the worlds of seeds A to B - 1; prints a summary, and the command for
///   the first that failed;
/// * `--trace FILE`, with `--seed`: writes what happened to a page of HTML.
///
/// Returns the exit code: 1 if a world failed, 2 for other arguments.
pub fn main(command: &str, scenario: impl Fn(&mut Sim) -> ScenarioResult + Sync) -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match parse(&args) {
        Some(Request::Seed(seed, trace)) => run_one(command, seed, trace, scenario),
        Some(Request::Seeds(seeds)) => {
            let summary = run_seeds(seeds, scenario);
            println!("{summary}");
            if let Some(first) = summary.failures.first() {
                println!("first: seed {}: {}", first.seed, failure(first));
                println!("run it again: {command} -- --seed {}", first.seed);
                return ExitCode::FAILURE;
            }
            ExitCode::SUCCESS
        }
        None => {
            eprintln!("usage: {command} -- --seed N [--trace FILE] | --seeds A..B");
            ExitCode::from(2)
        }
    }
}

fn run_one(
    command: &str,
    seed: u64,
    trace: Option<&str>,
    scenario: impl Fn(&mut Sim) -> ScenarioResult,
) -> ExitCode {
    let (outcome, again) = (run_seed(seed, &scenario), run_seed(seed, &scenario));
    if let Some(path) = trace
        && let Err(error) = std::fs::write(Path::new(path), trace_page(seed, &scenario))
    {
        eprintln!("cannot write {path}: {error}");
        return ExitCode::FAILURE;
    }
    println!("faults: {}", outcome.faults);
    if outcome.hash != again.hash {
        println!("two runs differ: {:016x} and {:016x}", outcome.hash, again.hash);
        return ExitCode::FAILURE;
    }
    let is_failed = outcome.failure.is_some();
    if is_failed {
        println!("failed: {}", failure(&outcome));
        if trace.is_none() {
            println!("to see it: {command} -- --seed {seed} --trace seed-{seed}.html");
        }
    }
    println!("seed {seed}: {:016x}", outcome.hash);
    if is_failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn failure(outcome: &Outcome) -> &str {
    outcome.failure.as_deref().unwrap_or_default()
}

/// What the arguments of [`main`] ask for.
#[derive(Debug, PartialEq, Eq)]
enum Request<'a> {
    Seed(u64, Option<&'a str>),
    Seeds(Range<u64>),
}

fn parse<'a>(args: &[&'a str]) -> Option<Request<'a>> {
    match args {
        ["--seed", seed] => Some(Request::Seed(seed.parse().ok()?, None)),
        ["--seed", seed, "--trace", path] => Some(Request::Seed(seed.parse().ok()?, Some(path))),
        ["--seeds", range] => {
            let (start, end) = range.split_once("..")?;
            Some(Request::Seeds(start.parse().ok()?..end.parse().ok()?))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_a_seed_or_a_range() {
        assert_eq!(parse(&["--seed", "7"]), Some(Request::Seed(7, None)));
        assert_eq!(
            parse(&["--seed", "7", "--trace", "a.html"]),
            Some(Request::Seed(7, Some("a.html")))
        );
        assert_eq!(parse(&["--seeds", "3..9"]), Some(Request::Seeds(3..9)));
        for wrong in [&["--seed"][..], &["--seed", "x"], &["--seeds", "3"], &[]] {
            assert_eq!(parse(wrong), None);
        }
    }

    #[test]
    fn a_panic_of_the_scenario_is_a_failure() {
        let outcome = run_seed(1, |_| panic!("as it should"));
        assert!(outcome.failure.unwrap().contains("as it should"));
        let summary = run_seeds(0..10, |sim| match sim.elapsed().as_nanos() {
            0 => Err("at the start".into()),
            _ => Ok(()),
        });
        assert_eq!(summary.failures.len(), 10);
        assert_eq!(summary.failures[0].seed, 0);
        assert!(summary.to_string().ends_with("10 failed"));
    }
}
