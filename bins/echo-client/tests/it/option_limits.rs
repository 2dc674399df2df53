//! Every option that takes a number or a duration, at its limits.

use clap::{Arg, CommandFactory};
use testing::{EXTREME_VALUES, run};

use crate::common::{CLIENT, Server, echo, ten_lines};
use crate::options::Options;

/// The other options and arguments.
const TEXTS: [&str; 5] = ["server", "host", "unix", "message", "messages"];

/// The client either receives its replies, or exits with one line. New options
/// are covered without a change of this test.
#[test]
fn extreme_values_work_or_are_reported() {
    let program = Options::command();
    let mut tried = 0;
    for option in program.get_arguments().filter(|option| is_tried(option)) {
        for value in EXTREME_VALUES {
            try_option(option, value);
        }
        tried += 1;
    }
    assert!(tried >= 3, "{tried}");
}

fn is_tried(option: &Arg) -> bool {
    option.get_action().takes_values() && !TEXTS.contains(&option.get_id().as_str())
}

#[track_caller]
fn try_option(option: &Arg, value: &str) {
    let server = Server::start(|peer| echo(&peer, |_| {}));
    let mut command = testing::command(CLIENT);
    let is_port = option.get_id().as_str().contains("port");
    match option.get_long() {
        Some(name) => {
            command.arg(format!("--{name}={value}"));
        }
        // The argument that follows HOST.
        None => {
            command.args(["127.0.0.1", value]);
        }
    }
    if !is_port {
        command.args(["--port", &server.addr.port().to_string()]);
    }
    let (code, stdout, stderr) = run(&mut command);
    let is_correct = match code {
        0 => stdout == ten_lines() && stderr.is_empty(),
        1 => stderr.len() == 1 && stderr[0].starts_with("echo-client: "),
        2 => stderr[0].starts_with("error: "),
        _ => false,
    };
    assert!(is_correct, "{} {value}: {code} {stderr:#?}", option.get_id());
}
