//! The faults that a network program should survive, each in a thousand worlds:
//! `cargo run --release -p sim --example fault_rows`. The rows have the numbers and words of
//! `scripts/faults.sh`, which provokes them on the real system.
//!
//! ```text
//! fault_rows [ROW]... [--seeds A..B]           runs the rows in the worlds of these seeds
//! fault_rows ROW --seed N [--trace FILE]       runs one row in one world
//! fault_rows --list                            lists the rows that cannot be simulated, and why
//! ```
#![allow(clippy::expect_used, reason = "a panic in a world is the report of a failure")]
#![allow(clippy::items_after_statements, reason = "a protocol that one row uses is declared in it")]
#![allow(clippy::similar_names, reason = "`server` and `served`")]
#![allow(clippy::unit_arg, reason = "`Ok(io.close())` keeps the reactions short")]

mod accept;
mod certificates;
mod clients;
#[allow(dead_code, clippy::unwrap_used, reason = "the tests of the world use all of it")]
#[path = "../../tests/it/common.rs"]
mod common;
mod datagrams;
mod framing;
mod programs;
mod streams;
mod support;
mod turns;

use std::env;
use std::fs;
use std::ops::Range;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use sim::{Link, ScenarioResult, Sim, run_seed, run_seeds, trace_page};

use crate::common::LATENCY;

type Scenario = fn(&mut Sim) -> anyhow::Result<()>;

/// A fault, and the worlds in which it happens.
struct Row {
    /// As in `scripts/faults.sh`.
    number: u8,
    words: &'static str,
    scenario: Scenario,
    /// `false` where TLS handshakes depend on the system's random numbers, so that two runs of
    /// a seed differ.
    is_repeatable: bool,
}

const fn row(number: u8, words: &'static str, scenario: Scenario) -> Row {
    Row { number, words, scenario, is_repeatable: true }
}

const fn tls_row(number: u8, words: &'static str, scenario: Scenario) -> Row {
    Row { number, words, scenario, is_repeatable: false }
}

const COMMAND: &str = "cargo run --release -p sim --example fault_rows";

const ROWS: &[Row] = &[
    row(1, "EMFILE on accept: a pause, bytes lost by others 0", accept::no_descriptors),
    row(2, "ENFILE, ENOBUFS, ENOMEM on accept: the same", accept::no_resources),
    row(3, "ECONNABORTED, EINTR on accept: again", accept::transient_errors),
    row(4, "reset before accept: nothing left behind", accept::reset_before_accept),
    row(5, "EINTR on I/O: bytes lost 0", streams::interrupted),
    row(6, "reset in mid-transfer: that channel only", streams::resets),
    row(7, "half-close: all is echoed, then the end", streams::half_close),
    row(8, "EPIPE: a close reason", streams::peer_gone),
    row(9, "partial writes: in order", streams::partial_writes),
    row(10, "a peer that never reads: bounded, then closed", streams::never_reads),
    row(11, "slow peers stay, silent ones do not", streams::slow_and_silent),
    row(12, "a flooder: others wait one read", streams::flooder),
    row(13, "accept storm: failed 0, 64 in a turn", accept::accept_storm),
    row(14, "a full backlog: all get in", accept::full_backlog),
    row(15, "a zero-length datagram is no end", datagrams::empty),
    row(16, "ICMP errors on UDP are ignored", datagrams::port_unreachable),
    row(17, "closed inside a callback: no stale dispatch", turns::closed_in_a_callback),
    row(18, "slot and descriptor used again: no mix-up", turns::slot_used_again),
    row(19, "a hang-up that nobody waits for: no spin", streams::hang_up),
    row(20, "a panic costs that channel only", streams::panics),
    row(21, "wake storm: lost 0, coalesced", turns::wake_storm),
    row(22, "timer extremes: no panic, none early or late", turns::timer_extremes),
    row(23, "suspended: nobody is timed out early", turns::suspended),
    row(24, "descriptor limit of a client: named", accept::descriptor_limit_of_a_client),
    row(26, "port in use, address not ours: one line", clients::cannot_listen),
    row(28, "unknown host: its own message", clients::unknown_name),
    row(29, "connect times out at its deadline", clients::connect_timeout),
    row(29, "the same, where requests are lost", clients::lost_requests),
    row(34, "SIGTERM under load: nobody fails", programs::drain_under_load),
    row(35, "second SIGTERM, stuck peer", programs::second_signal),
    row(37, "hostile framing: bounded, clear error", framing::hostile_messages),
    row(38, "soak: 100 connections each, flat", accept::soak),
    row(42, "a name with several addresses: all of them", clients::several_addresses),
    row(43, "options at their limits: work", programs::extreme_options),
    row(45, "connection limit: holds", accept::connection_limit),
    row(53, "half-open TLS handshakes: closed", programs::half_open_tls),
    row(54, "TLS garbage: an error, an alert", programs::no_tls),
    tls_row(55, "TLS byte by byte, also while SIGHUP loads files", programs::tls_byte_by_byte),
    tls_row(57, "TLS connection cut off: its own cause", programs::tls_cut_off),
    row(60, "plain text behind STARTTLS: rejected", framing::plain_text_behind_starttls),
    row(61, "PROXY header wrong or missing: rejected", programs::wrong_proxy_header),
    row(61, "PROXY header slow: closed at its deadline", programs::slow_proxy_header),
    row(62, "PROXY header from anybody: not trusted", programs::untrusted_proxy),
    row(63, "random input to TLS and PROXY: no panic", programs::random_input),
];

/// What cannot be simulated, and why.
const NOT_SIMULATED: &[(&str, &str)] = &[
    ("25, 27, 30, 36", "ports: a world has enough of them, for everybody, and none in TIME_WAIT"),
    ("31", "paths: a Unix socket of a world is no file, and none is stale"),
    ("32, 33, 39, 40, 41", "standard streams, terminals and files are those of the system"),
    ("44", "signal masks: a world delivers each signal"),
    ("46, 47, 48", "echo-bench: it runs its reactors on threads of its own"),
    ("49", "the command line of echo-client"),
    ("50, 51, 52", "sockets that a service manager creates are those of the system"),
    ("56, 58", "texts of the log, and files"),
    ("59", "certificates that differ: only that nobody is disconnected, in row 55"),
];

/// What the command line asks for.
struct Request<'a> {
    rows: Vec<&'static Row>,
    seeds: Range<u64>,
    seed: Option<u64>,
    trace: Option<&'a str>,
}

fn parse(args: &[String]) -> anyhow::Result<Request<'_>> {
    let mut request = Request { rows: Vec::new(), seeds: 0..1000, seed: None, trace: None };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut value = || args.next().with_context(|| format!("{arg} needs a value"));
        match arg.as_str() {
            "--seeds" => {
                let (start, end) = value()?.split_once("..").context("--seeds A..B")?;
                request.seeds = start.parse()?..end.parse()?;
            }
            "--seed" => request.seed = Some(value()?.parse()?),
            "--trace" => request.trace = Some(value()?),
            number => {
                let number: u8 = number.parse().with_context(|| format!("no row {number}"))?;
                let before = request.rows.len();
                request.rows.extend(ROWS.iter().filter(|row| row.number == number));
                if request.rows.len() == before {
                    bail!("row {number} is not simulated; see --list");
                }
            }
        }
    }
    if request.rows.is_empty() {
        request.rows.extend(ROWS);
    }
    Ok(request)
}

/// The scenario of a row, as the library runs it.
fn run(scenario: Scenario) -> impl Fn(&mut Sim) -> ScenarioResult + Copy + Sync {
    move |sim| {
        sim.set_link(Link::default().with_latency(LATENCY, Duration::ZERO));
        Ok(scenario(sim)?)
    }
}

/// Runs a row in the worlds of `seeds`. Returns what is wrong.
fn run_row(row: &Row, seeds: Range<u64>) -> Option<String> {
    let summary = run_seeds(seeds.clone(), run(row.scenario));
    if let Some(first) = summary.failures.first() {
        let (count, seed) = (summary.failures.len(), first.seed);
        let failure = first.failure.as_deref().unwrap_or_default();
        return Some(format!("{count} failed; seed {seed}: {failure}"));
    }
    let missing = summary.missing_faults();
    if !missing.is_empty() && seeds.end - seeds.start >= 100 {
        return Some(format!("never happened: {missing:?}"));
    }
    if !row.is_repeatable {
        return None;
    }
    let some = seeds.start..seeds.end.min(seeds.start + 20);
    let hash = || run_seeds(some.clone(), run(row.scenario)).hash;
    (hash() != hash()).then(|| "two runs of the same seeds differ".to_owned())
}

/// Runs a row in one world. Returns what is wrong.
fn run_one(row: &Row, seed: u64, trace: Option<&str>) -> anyhow::Result<Option<String>> {
    let outcome = run_seed(seed, run(row.scenario));
    if let Some(path) = trace {
        let command = format!("{COMMAND} -- {} --seed {seed}", row.number);
        let page = trace_page(seed, &command, run(row.scenario));
        fs::write(path, page).with_context(|| path.to_owned())?;
    }
    Ok(outcome.failure)
}

fn execute(args: &[String]) -> anyhow::Result<ExitCode> {
    if args == ["--list"] {
        for (rows, reason) in NOT_SIMULATED {
            println!("{rows:>20}  {reason}");
        }
        return Ok(ExitCode::SUCCESS);
    }
    let request = parse(args)?;
    let mut failed = 0;
    for row in &request.rows {
        let problem = match request.seed {
            Some(seed) => run_one(row, seed, request.trace)?,
            None => run_row(row, request.seeds.clone()),
        };
        let verdict = if problem.is_none() { "held" } else { "FAILED" };
        println!("{:>3}  {:<50}  {verdict}", row.number, row.words);
        if let Some(problem) = problem {
            failed += 1;
            println!("     {problem}");
        }
    }
    let count = request.seeds.end.saturating_sub(request.seeds.start);
    println!("{} rows, {count} seeds each, {failed} failed", request.rows.len());
    Ok(ExitCode::from(u8::from(failed > 0)))
}

fn main() -> ExitCode {
    let args: Vec<_> = env::args().skip(1).collect();
    execute(&args).unwrap_or_else(|error| {
        eprintln!("fault_rows: {error:#}");
        ExitCode::from(2)
    })
}
