//! The same scripts on the loopback network of Linux and in worlds: callbacks see the same.
//! Where the two differ, the real system is right.
//!
//! What is compared: for each stream or socket, its callbacks in their order, the bytes that
//! it received, the results of its calls, and the reason of its close; for each program, if
//! it ended, how many channels it has open, and what its loop counted. Nothing else is
//! tolerated than this:
//!
//! - reads in a row count as one, since TCP may split and merge them anywhere;
//! - the order between two streams is not compared, since a poller reports what is ready at
//!   one time in any order;
//! - how many bytes are unsent when the buffers of the kernels are full, since those differ
//!   in size ([`peer::Peer::filling_buffers`]).
//!
//! Scripts order their steps by events, so that it does not matter how fast the machine is.
//!
//! `cargo test -p sim --test conformance -- PART` runs the scripts whose names contain PART.
//! `--repeat COUNT` runs each this often on loopback; worlds do not change.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a panic in a test is the report of a failure"
)]
#![allow(clippy::unit_arg, reason = "`Ok(io.close())` keeps the scripts short")]
#![allow(clippy::too_many_lines, reason = "a list of scripts has no parts")]
#![allow(clippy::unnecessary_wraps, reason = "scripts have one type")]

mod chat;
mod connect;
mod datagrams;
mod endings;
mod filters;
mod listeners;
mod log;
mod loops;
mod peer;
mod pressure;
mod run;
mod script;
mod streams;
mod unix;

use std::panic;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::script::{Script, WORLDS};

/// Options of the usual test harness that take a value, and have no effect here.
const OPTIONS_WITH_VALUE: [&str; 5] =
    ["--test-threads", "--skip", "--color", "--format", "--logfile"];

/// The message of each panic that a script wants.
pub(crate) const PANIC: &str = "as the script says";

fn main() -> ExitCode {
    if !cfg!(target_os = "linux") {
        println!("conformance: not run: worlds are like Linux, and this is another system");
        return ExitCode::SUCCESS;
    }
    let scripts: Vec<Script> = [
        endings::scripts(),
        streams::scripts(),
        connect::scripts(),
        listeners::scripts(),
        loops::scripts(),
        pressure::scripts(),
        chat::scripts(),
        filters::scripts(),
        unix::scripts(),
        datagrams::scripts(),
    ]
    .into_iter()
    .flatten()
    .flat_map(Script::with_twin)
    .collect();
    let mut args = std::env::args().skip(1);
    let (mut parts, mut repeat) = (Vec::new(), 1);
    while let Some(arg) = args.next() {
        if arg == "--repeat" {
            repeat = args.next().and_then(|count| count.parse().ok()).expect("--repeat COUNT");
        } else if OPTIONS_WITH_VALUE.contains(&&*arg) {
            args.next();
        } else if !arg.starts_with('-') {
            parts.push(arg);
        }
    }
    hide_panics_of_scripts();
    let started_at = Instant::now();
    let (mut count, mut failed) = (0, 0);
    let mut slowest = (Duration::ZERO, "");
    for (number, script) in (0..).zip(&scripts) {
        if !parts.is_empty() && !parts.iter().any(|part| script.name.contains(&**part)) {
            continue;
        }
        count += 1;
        let script_started_at = Instant::now();
        let result = script.compare(number, repeat);
        slowest = slowest.max((script_started_at.elapsed(), &script.name));
        if let Err(page) = result {
            failed += 1;
            println!("script \"{}\": {page}", script.name);
        }
    }
    let (took, name) = slowest;
    println!(
        "conformance: {count} scripts, each {repeat} times on loopback and in {WORLDS} worlds, in \
         {:.1?} (slowest: {name}, {took:.1?}): {}",
        started_at.elapsed(),
        if failed == 0 { "all equal".to_owned() } else { format!("{failed} DIFFER") }
    );
    let documented = format!("runs {} scripts", scripts.len());
    if !include_str!("../../src/lib.rs").contains(&documented) {
        println!("conformance: src/lib.rs does not say that the suite {documented}");
        failed += 1;
    }
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Reactors catch the panics of callbacks. Those that scripts want are no news.
fn hide_panics_of_scripts() {
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if info.payload().downcast_ref::<&str>() != Some(&PANIC) {
            usual(info);
        }
    }));
}
