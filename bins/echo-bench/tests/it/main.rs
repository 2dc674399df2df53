//! The whole program, with correct and faulty servers.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a panic in a test or its helpers is the report of a failure"
)]
// A test that Windows cannot run has a comment beside its `cfg` that names what is missing.
#![cfg_attr(
    windows,
    allow(dead_code, unused_imports, reason = "helpers and imports of tests for Unix only")
)]

mod endings;
mod intervals;
mod open_loop;
mod option_limits;
mod target;
mod tls;

/// The program's own command line, of which the tests read the list of options.
#[path = "../../src/options.rs"]
#[allow(dead_code, unreachable_pub, reason = "the tests use a part of it")]
mod options;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Once, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use testing::{command, run};

const BENCH: &str = env!("CARGO_BIN_EXE_echo-bench");

/// Starts a server whose replies `alter` may change. It runs until the test
/// process exits.
fn server(alter: impl Fn(&mut Vec<u8>) + Clone + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    thread::spawn(move || {
        for peer in listener.incoming() {
            // It may have gone before it was accepted.
            let Ok(peer) = peer else { continue };
            let alter = alter.clone();
            thread::spawn(move || serve(peer, &alter));
        }
    });
    addr
}

fn serve(mut peer: impl Read + Write, alter: &impl Fn(&mut Vec<u8>)) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match peer.read(&mut buffer) {
            Ok(0) => return,
            Ok(read) => {
                let mut data = buffer[..read].to_vec();
                alter(&mut data);
                // The client may have closed the connection.
                if peer.write_all(&data).is_err() {
                    return;
                }
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Creates the command for a short measurement.
fn bench(addr: SocketAddr, options: &[&str]) -> Command {
    let mut command = command(BENCH);
    command.args(["--addr", &addr.to_string(), "--warm-up", "20ms", "--duration", "200ms"]);
    command.args(options);
    command
}

/// Returns the number at `pointer` in the JSON of one run, such as
/// `/latency_ns/max`.
fn field(json: &str, pointer: &str) -> f64 {
    let json: Value = serde_json::from_str(json).unwrap();
    json.pointer(pointer).and_then(Value::as_f64).unwrap()
}

#[test]
fn report_shows_throughput_and_latency() {
    let addr = server(|_| {});
    let (code, stdout, stderr) = run(&mut bench(addr, &["--connections", "4"]));
    assert_eq!((code, stderr), (0, vec![]), "no progress bar without a terminal");
    assert!(stdout[0].starts_with(&format!("{addr}: 4 connections, messages of 64 bytes for 0.")));
    for part in [
        "messages per second",
        "min",
        "p50",
        "p90",
        "p99",
        "p99.9",
        "p99.99",
        "max",
        "  below ",
        "all replies were correct",
    ] {
        assert!(stdout.iter().any(|line| line.contains(part)), "no {part} in {stdout:#?}");
    }
}

#[test]
fn each_mode_prints_json() {
    let addr = server(|_| {});
    for options in [
        &["--connections", "1"] as &[_],
        &["--connections", "8", "--pipeline", "16"],
        &["--connections", "2", "--size", "300000"],
        &["--connections", "4", "--idle", "20"],
        &["--connections", "4", "--churn"],
        &["--connections", "5", "--idle", "4", "--threads", "3"],
        &["--connections", "4", "--churn", "--threads", "2"],
    ] {
        let (code, stdout, stderr) = run(bench(addr, options).arg("--json"));
        assert_eq!((code, stderr), (0, vec![]), "{options:?}: {stdout:?}");
        let [json] = &stdout[..] else { panic!("{stdout:#?}") };
        assert!(json.contains("\"schema\":3,"), "{json}");
        assert!(field(json, "/messages") >= 1.0, "{json}");
        assert!(field(json, "/latency_ns/p50") <= field(json, "/latency_ns/max"), "{json}");
        let churn = options.contains(&"--churn");
        assert_eq!(field(json, "/connections_per_second") > 0.0, churn, "{json}");
    }
}

#[test]
fn short_options_set_the_load() {
    let addr = server(|_| {}).to_string();
    let mut command = command(BENCH);
    command.args([&addr[..], "--json", "-c", "2", "-d", "300", "-P", "3", "-n", "50"]);
    let (code, stdout, stderr) = run(&mut command);
    assert_eq!((code, stderr), (0, vec![]), "{stdout:?}");
    let json: Value = serde_json::from_str(&stdout[0]).unwrap();
    for (name, value) in [("connections", 2), ("size", 300), ("pipeline", 3), ("messages", 50)] {
        assert_eq!(json[name], value, "{name} in {json}");
    }
}

#[test]
fn threads_are_limited_to_connections() {
    let addr = server(|_| {});
    let (code, stdout, _) = run(&mut bench(addr, &["--connections", "2", "--threads", "3"]));
    assert_eq!(code, 0, "{stdout:#?}");
    assert!(stdout[0].starts_with(&format!("{addr}: 2 connections on 2 threads, messages of")));
}

#[test]
fn error_on_one_thread_is_reported() {
    let seen = Arc::new(AtomicUsize::new(0));
    let one_wrong = move |data: &mut Vec<u8>| {
        if seen.fetch_add(1, Ordering::Relaxed) == 100 {
            data[0] ^= 1;
        }
    };
    let (code, stdout, _) =
        run(&mut bench(server(one_wrong), &["--connections", "3", "--threads", "3"]));
    assert_eq!(code, 1);
    let wrong = stdout.iter().find(|line| line.contains("reply differs from the data sent"));
    assert!(wrong.is_some_and(|line| line.trim_start().starts_with("1 times")), "{stdout:#?}");
}

/// The latency includes a pause of the server at the end of the measurement.
#[test]
fn late_reply_counts_in_latency() {
    const PAUSE: Duration = Duration::from_secs(1);
    let (started_at, paused) = (OnceLock::new(), Once::new());
    let state = Arc::new((started_at, paused));
    let addr = server(move |_| {
        let (started_at, paused) = &*state;
        if started_at.get_or_init(Instant::now).elapsed() > Duration::from_millis(120) {
            paused.call_once(|| thread::sleep(PAUSE));
        }
    });
    let (code, stdout, _) = run(&mut bench(addr, &["--connections", "1", "--json"]));
    assert_eq!(code, 0, "{stdout:?}");
    let max = field(&stdout[0], "/latency_ns/max") / 1e9;
    assert!(max >= 0.99 * PAUSE.as_secs_f64(), "{max} s");
}

#[test]
fn missing_replies_are_reported_without_latency() {
    let addr = server(Vec::clear);
    let (code, stdout, stderr) = run(&mut bench(addr, &["--connections", "2"]));
    assert_eq!(code, 1);
    assert!(stdout.iter().any(|line| line.contains("no replies were received")), "{stdout:#?}");
    assert!(!stdout.iter().any(|line| line.contains("p99")), "{stdout:#?}");
    let [line] = &stderr[..] else { panic!("{stderr:#?}") };
    let expected = format!("echo-bench: {addr}: no replies; is it an echo server?; see the report");
    assert_eq!(*line, expected);
}

/// Measures a faulty server, and returns all lines that are printed.
fn failure_report(alter: impl Fn(&mut Vec<u8>) + Clone + Send + 'static) -> String {
    let (code, stdout, stderr) = run(&mut bench(server(alter), &[]));
    assert_eq!(code, 1);
    [stdout, stderr].concat().join("\n")
}

#[test]
fn wrong_byte_is_reported() {
    let report = failure_report(|data| data[0] ^= 1);
    assert!(report.contains("wrong_reply: reply differs from the data sent"), "{report}");
    assert!(report.contains("not an echo server: it sent other data than it received"), "{report}");
}

#[test]
fn surplus_byte_is_reported() {
    let report = failure_report(|data| data.push(0));
    assert!(
        report.contains("received more data than was sent") || report.contains("reply differs"),
        "{report}"
    );
}

#[test]
fn refused_connect_prints_one_line() {
    let addr = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for threads in ["1", "3"] {
        let (code, stdout, stderr) = run(&mut bench(addr, &["--threads", threads]));
        assert_eq!((code, stdout), (1, vec![]));
        let [line] = &stderr[..] else { panic!("{stderr:#?}") };
        assert!(line.starts_with(&format!("echo-bench: cannot connect to {addr}: ")), "{line}");
        assert!(line.ends_with("is an echo server running there?"), "{line}");
    }
}

#[cfg(unix)] // a shell
#[test]
fn too_few_descriptors_are_reported_before_connecting() {
    let mut command = testing::through_shell(BENCH, "ulimit -n 100;", "");
    let (code, stdout, stderr) = run(command.args(["--connections", "200"]));
    assert_eq!((code, stdout), (1, vec![]));
    let [line] = &stderr[..] else { panic!("{stderr:#?}") };
    assert!(line.contains("264 open files are required, and the limit is 100"), "{line}");
    assert!(line.ends_with("(as root: ulimit -Hn 264)"), "{line}");
}

#[test]
fn invalid_command_line_exits_with_2() {
    for options in [
        &["--size", "0"] as &[_],
        &["--connections", "0"],
        &["--pipeline", "0"],
        &["localhost:7", "--addr", "localhost:7"],
        &["9999"],
        &["localhost:7", "-p", "8"],
        &["--rate", "5", "--churn"],
        &["--find-rate", "fast"],
        &["--interval", "1ms"],
        &["-n", "5", "--warm-up", "1"],
        &["-q", "-v"],
        &["--addr", "localhost:0"],
        &["--duration", "soon"],
        &["--duration", "0s"],
        &["--churn", "--pipeline", "2"],
    ] {
        let (code, stdout, stderr) = run(command(BENCH).args(options));
        assert_eq!((code, stdout), (2, vec![]), "{options:?}");
        assert!(stderr[0].starts_with("error: "), "{stderr:#?}");
    }
}

#[test]
fn each_verbose_flag_logs_more() {
    let addr = server(|_| {}).to_string();
    let mut lengths = Vec::new();
    for flag in ["--quiet", "--verbose", "-vv", "-vvv"] {
        let mut command = command(BENCH);
        command.args([&addr, "-c", "2", "-n", "10", flag]).env("RUST_LOG", "trace");
        let (code, stdout, stderr) = run(&mut command);
        assert_eq!(code, 0, "{stdout:#?} {stderr:#?}");
        lengths.push(stderr.len());
    }
    assert_eq!(lengths[0], 0, "quiet whatever RUST_LOG says");
    assert!(lengths.is_sorted_by(|a, b| a < b), "{lengths:?}");
}
