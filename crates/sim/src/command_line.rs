//! [`main`]: a scenario from the command line.

use std::env;
use std::fs;
use std::io::{self, ErrorKind, Write};
use std::ops::Range;
use std::process::ExitCode;

use crate::seeds::{ScenarioResult, run_seed, run_seeds, trace_page};
use crate::simulation::Sim;

/// In fewer worlds than this, a rare fault may well be missing.
const SEEDS_FOR_ALL_FAULTS: u64 = 1000;

/// Runs `scenario` as the arguments of the program say, for the `main` of an example that is
/// run by `command`:
///
/// * `--seed N`: in the world of seed N, twice; prints `seed N: HASH` as the last line;
/// * `--seed N --trace FILE`: the same, and writes what happened to a page of HTML;
/// * `--seeds A..B`: in the worlds of seeds A to B - 1; prints how many failed, and the
///   command for the first of them.
///
/// Returns the exit code: 1 if a world failed, if two runs of one differ, or if there are at
/// least 1,000 and a fault was declared that happened in none of them; 2 for other
/// arguments.
pub fn main(command: &str, scenario: impl Fn(&mut Sim) -> ScenarioResult + Sync) -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match execute(command, &args, scenario, &mut io::stdout()) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(if error.kind() == ErrorKind::InvalidInput { 2 } else { 1 })
        }
    }
}

/// Returns the exit code.
fn execute(
    command: &str,
    args: &[&str],
    scenario: impl Fn(&mut Sim) -> ScenarioResult + Sync,
    out: &mut impl Write,
) -> io::Result<u8> {
    match parse(args) {
        Some(Request::Seed(seed, trace)) => run_one(command, seed, trace, scenario, out),
        Some(Request::Seeds(seeds)) => run_many(command, seeds, scenario, out),
        None => {
            let usage = format!("usage: {command} -- --seed N [--trace FILE] | --seeds A..B");
            Err(io::Error::new(ErrorKind::InvalidInput, usage))
        }
    }
}

fn run_one(
    command: &str,
    seed: u64,
    trace: Option<&str>,
    scenario: impl Fn(&mut Sim) -> ScenarioResult,
    out: &mut impl Write,
) -> io::Result<u8> {
    let (outcome, again) = (run_seed(seed, &scenario), run_seed(seed, &scenario));
    if let Some(path) = trace {
        let command = format!("{command} -- --seed {seed}");
        fs::write(path, trace_page(seed, &command, &scenario))
            .map_err(|error| io::Error::new(error.kind(), format!("{path}: {error}")))?;
    }
    writeln!(out, "faults: {}", outcome.faults)?;
    if outcome.hash != again.hash {
        writeln!(out, "two runs differ: {:016x} and {:016x}", outcome.hash, again.hash)?;
        return Ok(1);
    }
    if let Some(failure) = &outcome.failure {
        writeln!(out, "failed: {failure}")?;
        if trace.is_none() {
            writeln!(out, "to see it: {command} -- --seed {seed} --trace seed-{seed}.html")?;
        }
    }
    writeln!(out, "seed {seed}: {:016x}", outcome.hash)?;
    Ok(u8::from(outcome.failure.is_some()))
}

fn run_many(
    command: &str,
    seeds: Range<u64>,
    scenario: impl Fn(&mut Sim) -> ScenarioResult + Sync,
    out: &mut impl Write,
) -> io::Result<u8> {
    let count = seeds.end.saturating_sub(seeds.start);
    let summary = run_seeds(seeds, scenario);
    writeln!(out, "{summary}")?;
    if let Some(first) = summary.failures.first() {
        let failure = first.failure.as_deref().unwrap_or_default();
        writeln!(out, "first: seed {}: {failure}", first.seed)?;
        writeln!(out, "run it again: {command} -- --seed {}", first.seed)?;
        return Ok(1);
    }
    let is_incomplete = count >= SEEDS_FOR_ALL_FAULTS && !summary.missing_faults().is_empty();
    Ok(u8::from(is_incomplete))
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
    use crate::fault::{Fault, Faults};

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

    fn run(args: &[&str], scenario: fn(&mut Sim) -> ScenarioResult) -> (u8, String) {
        let mut out = Vec::new();
        let code = execute("try", args, scenario, &mut out).unwrap();
        (code, String::from_utf8(out).unwrap())
    }

    /// Fails in a third of the worlds.
    fn fails_at_times(sim: &mut Sim) -> ScenarioResult {
        if sim.choose(3) == 0 { Err("not this time".into()) } else { Ok(()) }
    }

    #[test]
    fn a_seed_prints_its_hash_on_the_last_line() {
        let (code, output) = run(&["--seed", "9"], |_| Ok(()));
        let last = output.lines().last().unwrap();
        let hash = last.strip_prefix("seed 9: ").unwrap();
        assert!(hash.len() == 16 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()), "{last}");
        assert_eq!(code, 0);
        assert_eq!(run(&["--seed", "9"], |_| Ok(())).1, output);
    }

    #[test]
    fn a_range_prints_how_many_failed_and_how_to_run_the_first_again() {
        let (code, output) = run(&["--seeds", "0..60"], fails_at_times);
        assert_eq!(code, 1);
        let failed = (0..60).filter(|&seed| run_seed(seed, fails_at_times).failure.is_some());
        let failed: Vec<_> = failed.collect();
        assert!((5..55).contains(&failed.len()), "{failed:?}");
        let lines: Vec<_> = output.lines().rev().take(3).collect();
        assert_eq!(lines[2], format!("{} failed", failed.len()));
        assert_eq!(lines[1], format!("first: seed {}: not this time", failed[0]));
        assert_eq!(lines[0], format!("run it again: try -- --seed {}", failed[0]));

        let seed = failed[0].to_string();
        let (code, output) = run(&["--seed", &seed], fails_at_times);
        assert_eq!(code, 1);
        assert!(output.contains("failed: not this time\n"), "{output}");
        assert!(output.contains(&format!("to see it: try -- --seed {seed} --trace")), "{output}");
        assert!(output.lines().last().unwrap().starts_with(&format!("seed {seed}: ")));
    }

    #[test]
    fn a_declared_fault_that_never_happens_is_a_failure() {
        let scenario = |sim: &mut Sim| {
            sim.set_faults(Faults::none().with(Fault::Reset, 1_000_000));
            Ok(())
        };
        let (code, output) = run(&["--seeds", "0..1000"], scenario);
        assert_eq!(code, 1);
        assert!(output.ends_with("never happened: reset\n0 failed\n"), "{output}");
        assert_eq!(run(&["--seeds", "0..10"], scenario).0, 0);
    }

    #[test]
    fn a_page_that_cannot_be_written_is_named() {
        let args = ["--seed", "1", "--trace", "/nonexistent/page"];
        let error = execute("try", &args, |_| Ok(()), &mut Vec::new()).unwrap_err();
        assert!(error.to_string().starts_with("/nonexistent/page: "), "{error}");
        let error = execute("try", &["--help"], |_| Ok(()), &mut Vec::new()).unwrap_err();
        assert!(error.to_string().starts_with("usage: try -- "), "{error}");
    }
}
