//! Messages on schedule, and what they reveal that the closed loop does not.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use testing::run;

use crate::{BENCH, field, server};

/// Creates the command for a measurement.
fn bench(addr: SocketAddr, options: &[&str]) -> Command {
    let mut command = testing::command(BENCH);
    command.arg(addr.to_string()).args(options);
    command
}

/// Starts a server that stops for 100 ms every second.
fn pausing_server() -> SocketAddr {
    const PERIOD: u64 = 1000;
    const PAUSE: u64 = 100;
    let started_at = Instant::now();
    server(move |_| {
        let position = u64::try_from(started_at.elapsed().as_millis()).unwrap() % PERIOD;
        if let Some(left @ 1..) = PAUSE.checked_sub(position) {
            thread::sleep(Duration::from_millis(left));
        }
    })
}

/// Measures for three seconds, and returns the JSON.
fn measure(addr: SocketAddr, options: &[&str]) -> String {
    let mut command = bench(addr, &["--connections", "4", "--json", "--duration", "3s"]);
    let (code, stdout, stderr) = run(command.args(options));
    assert_eq!((code, stderr), (0, vec![]), "{stdout:?}");
    stdout.concat()
}

/// Of the messages on schedule, a tenth is due during a pause, and a hundredth in
/// its first 10 ms. In the closed loop, a pause delays one message for each
/// connection, among thousands.
#[test]
fn pauses_of_the_server_appear_only_in_the_open_loop() {
    let addr = pausing_server();
    let nanos = |json: &str, name| Duration::from_nanos(field_nanos(json, name));
    for spacing in ["even", "poisson"] {
        let open = measure(addr, &["--rate", "1k", "--spacing", spacing]);
        assert!(nanos(&open, "p99") >= Duration::from_millis(75), "{open}");
        assert!(nanos(&open, "max") >= Duration::from_millis(90), "{open}");
        assert!(field(&open, "/send_delay_ns/p50") > 0.0, "{open}");
    }
    let closed = measure(addr, &[]);
    assert!(nanos(&closed, "p99") < Duration::from_millis(50), "{closed}");
    assert!(field(&closed, "/messages") > 1000.0, "{closed}");
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is an integer")]
fn field_nanos(json: &str, name: &str) -> u64 {
    field(json, &format!("/latency_ns/{name}")) as u64
}

/// The messages of one second take a second: not less, and not much more even if a
/// busy machine delays some of them.
#[cfg(unix)] // a rate that wine does not reach
#[test]
fn rate_is_kept_whatever_the_number_of_connections() {
    let addr = server(|_| {});
    for (connections, threads) in [("1", "1"), ("7", "1"), ("64", "3")] {
        let mut command = bench(addr, &["--rate", "2k", "--messages", "2k", "--json"]);
        command.args(["-c", connections, "--threads", threads]);
        let (code, stdout, _) = run(&mut command);
        assert_eq!(code, 0, "{stdout:?}");
        let seconds = field(&stdout[0], "/seconds");
        assert!((0.99..3.0).contains(&seconds), "{connections}: {seconds}");
    }
}

/// Every tenth reply takes 300 ms, and the others 30 ms.
#[test]
fn known_delays_appear_in_the_table_and_in_the_bars() {
    let addr = {
        let counter = Arc::new(AtomicU64::new(0));
        server(move |_| {
            let number = counter.fetch_add(1, Ordering::Relaxed);
            thread::sleep(Duration::from_millis(if number % 10 == 5 { 300 } else { 30 }));
        })
    };
    let options = ["--connections", "4", "--messages", "200"];
    let (code, stdout, _) = run(&mut bench(addr, &options));
    assert_eq!(code, 0, "{stdout:#?}");
    let row = |name: &str| {
        let row = stdout.iter().find(|line| line.ends_with(&format!("  {name}"))).unwrap();
        let millis = row.split_whitespace().next().unwrap().strip_suffix("ms").unwrap();
        millis.parse::<f64>().unwrap()
    };
    for name in ["min", "p50"] {
        assert!((30.0..50.0).contains(&row(name)), "{name}: {stdout:#?}");
    }
    for name in ["p99", "max"] {
        assert!((300.0..500.0).contains(&row(name)), "{name}: {stdout:#?}");
    }
    let counts: Vec<u64> = ["below   50ms", "below  500ms"]
        .map(|range| {
            let row = stdout.iter().find_map(|line| line.trim().strip_prefix(range)).unwrap();
            row.split_whitespace().next().unwrap().parse().unwrap()
        })
        .into();
    assert!(counts[0] > 150 && (15..=25).contains(&counts[1]), "{stdout:#?}");
}

/// The server takes 2 ms for a message, so it can do 500 per second.
#[test]
fn search_finds_what_the_server_can_do() {
    let addr = server(|data| {
        let messages = u32::try_from(data.len().div_ceil(64)).unwrap();
        thread::sleep(Duration::from_millis(2) * messages);
    });
    let options =
        ["-c", "1", "--find-rate", "p90=100ms", "--duration", "300ms", "--warm-up", "20ms"];
    let (code, stdout, stderr) = run(&mut bench(addr, &options));
    assert_eq!((code, stderr), (0, vec![]), "{stdout:#?}");
    let probes: Vec<_> = stdout.iter().filter(|line| line.starts_with("rate ")).collect();
    assert!(probes[0].starts_with("rate      1000: "), "{probes:#?}");
    assert!(probes[0].ends_with("failed"), "{probes:#?}");
    assert!(probes.iter().any(|line| line.ends_with("  within the goal")), "{probes:#?}");
    assert!(stdout.iter().any(|line| line.contains("highest rate with p90 of at most 100ms")));

    let (code, stdout, _) = run(bench(addr, &options).arg("--json"));
    assert_eq!(code, 0, "{stdout:?}");
    let json = &stdout[0];
    let rate = field(json, "/rate_per_second");
    // More than it can do is queued for a short time only.
    assert!((50.0..700.0).contains(&rate), "{json}");
    assert!(json.contains("\"goal_ns\":100000000,"), "{json}");
    assert!(json.contains("\"rate_per_second\":1000}"), "{json}");
}

#[test]
fn goal_that_cannot_be_met_is_reported() {
    let addr = server(|_| thread::sleep(Duration::from_millis(20)));
    let options = ["-c", "1", "--find-rate", "p50=10ms", "--duration", "30ms", "--warm-up", "0"];
    let (code, _, stderr) = run(&mut bench(addr, &options));
    let expected =
        format!("echo-bench: {addr}: p50 is not within 10ms even at 1 message per second");
    assert_eq!((code, stderr), (1, vec![expected]));
}
