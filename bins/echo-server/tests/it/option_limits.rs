//! Every option that takes a number or a duration, at its limits.

use std::process::Stdio;

use clap::CommandFactory;
use testing::{EXTREME_VALUES, Lines, Process};

use crate::common::{command, connect, echo, send_signal};
use crate::options::Options;

/// The other options.
const TEXTS: [&str; 3] = ["host", "listen", "unix"];

/// The server either serves a peer and ends in good order, or exits with one
/// line. New options are covered without a change of this test.
#[cfg(unix)] // signals
#[test]
fn extreme_values_work_or_are_reported() {
    let program = Options::command();
    let options = program.get_arguments().filter(|option| option.get_action().takes_values());
    let mut tried = 0;
    for name in options.filter_map(clap::Arg::get_long).filter(|name| !TEXTS.contains(name)) {
        for value in EXTREME_VALUES {
            try_option(&format!("--{name}={value}"), name == "port");
        }
        tried += 1;
    }
    assert!(tried >= 7, "{tried}");
}

#[cfg(unix)] // signals
#[track_caller]
fn try_option(option: &str, is_port: bool) {
    let mut command = command();
    command.arg(option).stdout(Stdio::piped());
    if !is_port {
        command.args(["--port", "0"]);
    }
    let mut process = Process::start(&mut command);
    let mut stdout = Lines::from_reader(process.take_stdout());
    let serves = stdout.next().is_some_and(|line| {
        let addr = line.strip_prefix("Listening on ").unwrap().parse().unwrap();
        // The shortest timeouts close a connection at once.
        if !option.ends_with("=1ns") {
            echo(&connect(addr), b"hello");
        }
        send_signal(process.id(), "TERM");
        true
    });
    let (code, stderr) = (process.exit_code(), process.stderr.rest());
    let is_reported = match code {
        1 => stderr.len() == 1 && stderr[0].starts_with("echo-server: "),
        2 => stderr[0].starts_with("error: "),
        _ => false,
    };
    assert!(if serves { code == 0 } else { is_reported }, "{option}: {code} {stderr:#?}");
    assert!(!stderr.iter().any(|line| line.contains("panicked")), "{option}: {stderr:#?}");
}
