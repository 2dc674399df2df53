//! [`run_seeds`]: a scenario in many worlds.

use std::collections::BTreeMap;
use std::env;
use std::error::Error;
use std::fmt;
use std::fs;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::fault::{Fault, FaultCounts, Faults};
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
    let result = panics::collect(|| catch_unwind(AssertUnwindSafe(|| scenario(sim))));
    let failure = match result {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(_) => Some(panics::first().unwrap_or_else(|| "panicked".to_owned())),
    };
    Outcome {
        seed,
        hash: sim.hash(),
        elapsed: sim.elapsed(),
        declared: sim.declared_faults(),
        faults: sim.fault_counts(),
        notes: sim.notes.clone(),
        failure,
    }
}

/// Runs `scenario` in the world of `seed` once more, and returns the trace as a page of
/// HTML. The page names the `command` that runs this seed again.
pub fn trace_page(
    seed: u64,
    command: &str,
    scenario: impl Fn(&mut Sim) -> ScenarioResult,
) -> String {
    let mut sim = Sim::new(seed);
    sim.record_events();
    let outcome = run_in(&mut sim, seed, scenario);
    let world = sim.world.borrow();
    let machines = world.machines.iter().map(|machine| (machine.name.clone(), machine.ip));
    html::page(&outcome, command, &machines.collect::<Vec<_>>(), world.trace.events())
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
    /// The highest rate of each fault.
    pub declared: Faults,
    /// How often each fault happened.
    pub faults: FaultCounts,
    /// How often each note was made.
    pub notes: BTreeMap<String, u64>,
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
        declared: Faults::none(),
        faults: FaultCounts::default(),
        notes: BTreeMap::new(),
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
            summary.declared = summary.declared.clone().or(&outcome.declared);
            summary.faults.add(&outcome.faults);
            for note in &outcome.notes {
                *summary.notes.entry(note.clone()).or_default() += 1;
            }
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
    /// Returns the faults that were declared and happened in no world, so that nothing is
    /// known about them.
    pub fn missing_faults(&self) -> Vec<Fault> {
        self.declared.declared().filter(|&fault| self.faults.get(fault) == 0).collect()
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
        let missing: Vec<_> = self.missing_faults().into_iter().map(Fault::name).collect();
        if !missing.is_empty() {
            writeln!(f, "never happened: {}", missing.join(", "))?;
        }
        for (note, count) in &self.notes {
            writeln!(f, "{count:>8} {note}")?;
        }
        write!(f, "{} failed", self.failures.len())
    }
}

/// Checks `scenario` in the worlds of `seeds`, for a test; if the environment variable
/// `SIM_SEED` is set, only in the world of that seed.
///
/// # Panics
///
/// Panics if the scenario fails in one of the worlds; if two runs of one seed differ; or if a
/// fault was declared (its rate was not 0) and happened in no world. The message of a failure
/// contains its seed, the command that runs it again, and the path of a page of HTML with what
/// happened, in the directory for temporary files.
#[expect(clippy::panic, reason = "so does a test fail")]
pub fn check(seeds: Range<u64>, scenario: impl Fn(&mut Sim) -> ScenarioResult + Sync) {
    let only = env::var("SIM_SEED").ok().and_then(|seed| seed.parse().ok());
    let seeds = only.map_or(seeds, |seed| seed..seed + 1);
    let summary = run_seeds(seeds.clone(), &scenario);
    if let Some(first) = summary.failures.first() {
        let seed = first.seed;
        let failure = first.failure.as_deref().unwrap_or_default();
        let again = run_seed(seed, &scenario);
        assert_eq!(again.hash, first.hash, "seed {seed}: two runs differ");
        let test = thread::current().name().unwrap_or("the test").to_owned();
        // Set by `cargo test`.
        let package = env::var("CARGO_PKG_NAME").map(|name| format!("-p {name} "));
        let package = package.unwrap_or_default();
        let command = format!("SIM_SEED={seed} cargo test {package}{test}");
        let path = env::temp_dir().join(format!("{}-{seed}.html", test.replace("::", "-")));
        let page = match fs::write(&path, trace_page(seed, &command, &scenario)) {
            Ok(()) => path.display().to_string(),
            Err(error) => format!("{}: {error}", path.display()),
        };
        panic!(
            "{} of {} seeds failed; seed {seed}: {failure}\n\
             run it again: {command}\n\
             what happened: {page}",
            summary.failures.len(),
            seeds.end - seeds.start,
        );
    }
    let missing = summary.missing_faults();
    let is_complete = only.is_some() || missing.is_empty();
    assert!(is_complete, "these faults were declared and never happened: {missing:?}");
    let again = run_seeds(seeds, &scenario);
    assert_eq!(again.hash, summary.hash, "two runs of the same seeds differ");
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn notes_are_counted() {
        let summary = run_seeds(0..5, |sim| {
            sim.note("as always");
            Ok(())
        });
        assert!(summary.to_string().contains("\n       5 as always\n"), "{summary}");
    }

    #[test]
    fn faults_that_never_happened_are_named() {
        let summary = run_seeds(0..3, |sim| {
            sim.set_faults(Faults::none().with(Fault::Crash, 1));
            sim.set_faults(Faults::none());
            Ok(())
        });
        assert_eq!(summary.missing_faults(), [Fault::Crash]);
        assert!(summary.to_string().contains("never happened: crash"), "{summary}");
    }
}
