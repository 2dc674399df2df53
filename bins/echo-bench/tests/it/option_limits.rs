//! Every option that takes a number or a duration, at its limits.

use std::process::{Command, Stdio};

use clap::CommandFactory;
use testing::{EXTREME_VALUES, Lines, Process, wait_until};

use crate::options::Options;
use crate::{BENCH, server};

/// The other options.
const TEXTS: [&str; 4] = ["addr", "find-rate", "hdr", "unix"];

/// The program either measures the server, until it is interrupted if need be,
/// or exits with one line. New options are covered without a change of this
/// test.
#[cfg(unix)] // a shell
#[test]
fn extreme_values_work_or_are_reported() {
    let program = Options::command();
    let options = program.get_arguments().filter(|option| option.get_action().takes_values());
    let mut tried = 0;
    for name in options.filter_map(clap::Arg::get_long).filter(|name| !TEXTS.contains(name)) {
        for value in EXTREME_VALUES {
            try_option(name, value);
        }
        tried += 1;
    }
    assert!(tried >= 13, "{tried}");
}

#[cfg(unix)] // a shell
#[track_caller]
fn try_option(name: &str, value: &str) {
    let addr = server(|_| {}).to_string();
    // Not more connections than the server has threads for.
    let mut command = testing::through_shell(BENCH, "ulimit -n 600;", "");
    command.arg(format!("--{name}={value}")).stdout(Stdio::piped());
    for (other, usual) in
        [("addr", &addr[..]), ("connections", "2"), ("warm-up", "0s"), ("duration", "20ms")]
    {
        let excludes = matches!((name, other), ("port", "addr") | ("messages", "warm-up"));
        if other != name && !excludes {
            command.args([&format!("--{other}"), usual]);
        }
    }
    let mut process = Process::start(&mut command);
    let mut stdout = Lines::from_reader(process.take_stdout());
    if matches!(name, "warm-up" | "duration") {
        // It may last for ever. Before the program handles the signal, it ends
        // without an exit code; a run without warm-up has a socket by then.
        wait_until(|| process.has_exited() || process.has_threads(2), |ready| *ready);
        let kill = format!("kill -s INT {}", process.id());
        let _ = Command::new("sh").args(["-c", &kill]).stderr(Stdio::null()).status().unwrap();
    }
    let (code, stdout) = (process.exit_code(), stdout.rest());
    let stderr = process.stderr.rest();
    let is_correct = match code {
        0 | 130 => stderr.is_empty(),
        1 => stderr.len() == 1 && stderr[0].starts_with("echo-bench: "),
        2 => stderr[0].starts_with("error: "),
        _ => false,
    };
    assert!(is_correct, "--{name}={value}: {code} {stdout:#?} {stderr:#?}");
}
