//! The whole program, against servers that are what they should be and others.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a panic in a test or its helpers is the report of a failure"
)]

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Once, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use testing::{command, run};

const BENCH: &str = env!("CARGO_BIN_EXE_echo-bench");

/// A server that lets `answer` change what it sends back. It serves until the
/// test's process ends.
fn server(answer: impl Fn(&mut Vec<u8>) + Clone + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    thread::spawn(move || {
        for peer in listener.incoming() {
            let (peer, answer) = (peer.unwrap(), answer.clone());
            thread::spawn(move || serve(peer, &answer));
        }
    });
    addr
}

fn serve(mut peer: TcpStream, answer: &impl Fn(&mut Vec<u8>)) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match peer.read(&mut buffer) {
            Ok(0) => return,
            Ok(read) => {
                let mut data = buffer[..read].to_vec();
                answer(&mut data);
                // The load may be over.
                if peer.write_all(&data).is_err() {
                    return;
                }
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Measures for as short a time as says something.
fn bench(addr: SocketAddr, options: &[&str]) -> Command {
    let mut command = command(BENCH);
    command.args(["--addr", &addr.to_string(), "--warm-up", "20ms", "--duration", "200ms"]);
    command.args(options);
    command
}

/// The number that follows `"name":` in the JSON of one run.
fn field(json: &str, name: &str) -> f64 {
    let (_, rest) = json.split_once(&format!("\"{name}\":")).unwrap();
    let end = rest.find([',', '}']).unwrap();
    rest[..end].parse().unwrap()
}

#[test]
fn tells_how_many_messages_there_were_and_how_long_they_took() {
    let addr = server(|_| {});
    let (code, stdout, stderr) = run(&mut bench(addr, &["--connections", "4"]));
    assert_eq!((code, stderr), (0, vec![]), "and draws no bar where nobody sees it");
    assert!(stdout[0].starts_with(&format!("{addr}: 4 connections, messages of 64 bytes for 0.")));
    for part in
        ["messages per second", "p50", "p90", "p99", "p99.9", "max", "all replies were correct"]
    {
        assert!(stdout.iter().any(|line| line.contains(part)), "no {part} in {stdout:#?}");
    }
}

#[test]
fn measures_in_each_of_its_ways_and_says_so_to_programs() {
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
        assert!(json.contains("\"schema\":1,"), "{json}");
        assert!(field(json, "messages") >= 1.0, "{json}");
        assert!(field(json, "p50") <= field(json, "max"), "{json}");
        let churn = options.contains(&"--churn");
        assert_eq!(field(json, "connections_per_second") > 0.0, churn, "{json}");
    }
}

#[test]
fn all_threads_count_and_none_is_without_a_connection() {
    let addr = server(|_| {});
    let (code, stdout, _) = run(&mut bench(addr, &["--connections", "2", "--threads", "3"]));
    assert_eq!(code, 0, "{stdout:#?}");
    assert!(stdout[0].starts_with(&format!("{addr}: 2 connections on 2 threads, messages of")));
}

#[test]
fn what_one_of_the_threads_meets_is_found() {
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

/// A message that was sent in time and answered late took as long as it took.
#[test]
fn a_server_that_stops_towards_the_end_is_seen() {
    const STOP: Duration = Duration::from_secs(1);
    let (first, stopped) = (OnceLock::new(), Once::new());
    let state = Arc::new((first, stopped));
    let addr = server(move |_| {
        let (first, stopped) = &*state;
        if first.get_or_init(Instant::now).elapsed() > Duration::from_millis(120) {
            stopped.call_once(|| thread::sleep(STOP));
        }
    });
    let (code, stdout, _) = run(&mut bench(addr, &["--connections", "1", "--json"]));
    assert_eq!(code, 0, "{stdout:?}");
    let most = field(&stdout[0], "max") / 1e9;
    assert!(most >= 0.99 * STOP.as_secs_f64(), "at most {most} s");
}

#[test]
fn no_answer_at_all_is_said_and_has_no_latency() {
    let addr = server(Vec::clear);
    let (code, stdout, stderr) = run(&mut bench(addr, &["--connections", "2"]));
    assert_eq!(code, 1);
    assert!(stdout.iter().any(|line| line.contains("no replies were received")), "{stdout:#?}");
    assert!(!stdout.iter().any(|line| line.contains("p99")), "{stdout:#?}");
    let [line] = &stderr[..] else { panic!("{stderr:#?}") };
    assert!(line.starts_with(&format!("echo-bench: {addr}: replies missing or wrong; ")), "{line}");
}

/// All that is said of a server that answers wrongly.
fn complaint(answer: impl Fn(&mut Vec<u8>) + Clone + Send + 'static) -> String {
    let (code, stdout, stderr) = run(&mut bench(server(answer), &[]));
    assert_eq!(code, 1);
    [stdout, stderr].concat().join("\n")
}

#[test]
fn a_wrong_byte_is_found() {
    let said = complaint(|data| data[0] ^= 1);
    assert!(said.contains("reply differs from the data sent"), "{said}");
}

#[test]
fn a_byte_too_much_is_found() {
    let said = complaint(|data| data.push(0));
    assert!(
        said.contains("received more data than was sent") || said.contains("reply differs"),
        "{said}"
    );
}

#[test]
fn nobody_there_is_one_line() {
    let addr = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for threads in ["1", "3"] {
        let (code, stdout, stderr) = run(&mut bench(addr, &["--threads", threads]));
        assert_eq!((code, stdout), (1, vec![]));
        let [line] = &stderr[..] else { panic!("{stderr:#?}") };
        assert!(line.starts_with(&format!("echo-bench: cannot connect to {addr}: ")), "{line}");
        assert!(line.ends_with("is an echo server running there?"), "{line}");
    }
}

#[test]
fn too_few_descriptors_are_told_before_anything_is_done() {
    let mut command = testing::through_shell(BENCH, "ulimit -n 100;", "");
    let (code, stdout, stderr) = run(command.args(["--connections", "200"]));
    assert_eq!((code, stdout), (1, vec![]));
    let [line] = &stderr[..] else { panic!("{stderr:#?}") };
    assert!(line.contains("264 open files are required, and the limit is 100"), "{line}");
    assert!(line.ends_with("(as root: ulimit -Hn 264)"), "{line}");
}

#[test]
fn a_wrong_command_line() {
    for options in [
        &["--size", "0"] as &[_],
        &["--connections", "0"],
        &["--pipeline", "0"],
        &["--duration", "soon"],
        &["--duration", "0s"],
        &["--churn", "--pipeline", "2"],
    ] {
        let (code, stdout, stderr) = run(command(BENCH).args(options));
        assert_eq!((code, stdout), (2, vec![]), "{options:?}");
        assert!(stderr[0].starts_with("error: "), "{stderr:#?}");
    }
}
