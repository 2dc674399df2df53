//! What the server does on a good day.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener};
use std::thread;
use std::time::{Duration, Instant};

use testing::{Process, expect_end, pattern, run, skipped};

use crate::common::{Server, command, connect, echo, through_shell};

#[test]
fn prints_where_it_listens_and_who_comes_and_echoes() {
    let mut server = Server::start(&[]);
    assert_eq!(server.addr.ip().to_string(), "127.0.0.1", "the default");
    for round in 0..3 {
        let peer = server.connect();
        echo(&peer, format!("round {round}\n").as_bytes());
        let line = format!("Incoming connection from {}", peer.local_addr().unwrap());
        assert_eq!(server.stdout.next(), Some(line));
    }
    server.signal("TERM");
    assert_eq!(server.exit_code(), 0);
    assert_eq!(server.stdout.rest(), [""; 0]);
    assert_eq!(server.stderr.rest(), [""; 0], "nothing to warn of");
}

#[test]
fn listens_on_a_name() {
    let server = Server::start(&["--host", "localhost"]);
    assert!(server.addr.ip().is_loopback());
    echo(&server.connect(), b"by name");
}

#[test]
fn listens_on_ipv6_with_and_without_brackets() {
    if let Err(error) = TcpListener::bind("[::1]:0") {
        skipped(format_args!("no IPv6 here: {error}"));
        return;
    }
    for host in ["::1", "[::1]"] {
        let mut server = Server::start(&["--host", host]);
        assert_eq!(server.addr.ip().to_string(), "::1");
        let peer = server.connect();
        echo(&peer, b"six");
        let line = format!("Incoming connection from {}", peer.local_addr().unwrap());
        assert_eq!(server.stdout.next(), Some(line));
    }
}

#[test]
fn quiet_leaves_the_listening_line_alone() {
    let mut server = Server::start(&["-q", "--max-connections", "1"]);
    let peer = server.connect();
    echo(&peer, b"psst");
    // One too many: a warning, if warnings were logged.
    expect_end(&server.connect());
    drop(peer);
    server.signal("TERM");
    assert_eq!(server.exit_code(), 0);
    assert_eq!(server.stdout.rest(), [""; 0]);
    assert_eq!(server.stderr.rest(), [""; 0]);
}

#[test]
fn log_level_comes_from_the_option_or_else_from_the_environment() {
    for (options, rust_log, debug) in [
        (&["-vv"][..], None, true),
        (&[], Some("debug"), true),
        (&["-v"], Some("debug"), false),
        (&[], None, false),
    ] {
        let mut command = command();
        command.args(options).args(["--port", "0"]);
        if let Some(rust_log) = rust_log {
            command.env("RUST_LOG", rust_log);
        }
        let mut server = Server::spawn(&mut command);
        echo(&server.connect(), b"hello");
        server.signal("TERM");
        assert_eq!(server.exit_code(), 0);
        let log = server.stderr.rest();
        assert_eq!(log.iter().any(|line| line.contains(" DEBUG ")), debug, "{options:?} {log:#?}");
    }
}

#[test]
fn refuses_connections_over_the_most_and_counts_them() {
    let mut server = Server::start(&["--max-connections", "2"]);
    let first = server.connect();
    let second = server.connect();
    echo(&first, b"first");
    echo(&second, b"second");
    for _ in 0..3 {
        expect_end(&server.connect());
    }
    let refusal = server.stderr.next_with("refused a connection");
    assert!(refusal.contains("2 connections are open, the most allowed"), "{refusal}");
    echo(&first, b"still there");

    // One goes, another may come: as soon as the server has seen the first go.
    first.shutdown(Shutdown::Write).unwrap();
    expect_end(&first);
    echo(&server.connect(), b"third");
    echo(&second, b"not disturbed");

    drop(second);
    server.signal("TERM");
    assert_eq!(server.exit_code(), 0);
    server.stderr.next_with("refused 3 connections in all");
}

#[test]
fn closes_an_idle_peer_and_keeps_a_busy_one() {
    const TIMEOUT: Duration = Duration::from_secs(2);
    let server = Server::start(&["--idle-timeout", "2s"]);
    let begin = Instant::now();
    let idle = server.connect();
    let busy = server.connect();
    let watch = thread::spawn(move || {
        expect_end(&idle);
        begin.elapsed()
    });
    while !watch.is_finished() {
        echo(&busy, b"busy");
    }
    let lasted = watch.join().unwrap();
    assert!(lasted >= TIMEOUT, "closed after {lasted:?}");
    echo(&busy, b"still here");
}

#[test]
fn half_close_loses_nothing() {
    let server = Server::start(&[]);
    let sent = pattern(3_000_000);
    let peer = server.connect();
    let mut received = Vec::new();
    thread::scope(|scope| {
        scope.spawn(|| {
            (&peer).write_all(&sent).unwrap();
            peer.shutdown(Shutdown::Write).unwrap();
        });
        (&peer).read_to_end(&mut received).unwrap();
    });
    assert_eq!(received.len(), sent.len());
    assert!(received == sent, "in another order");
}

#[test]
fn serves_with_standard_output_closed() {
    let mut server = Process::start(through_shell("", ">&-").args(["--port", "0", "-vv"]));
    let line = server.stderr.next_with("listening on ");
    let addr = line.rsplit(' ').next().unwrap().parse().unwrap();
    for _ in 0..3 {
        echo(&connect(addr), b"unseen");
    }
    server.kill();
    assert!(server.stderr.rest().iter().all(|line| !line.contains("panicked")));
}

#[test]
fn serves_when_nobody_reads_standard_output() {
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    let mut server = Process::start(command().args(["--port", "0", "-vv"]).stdout(writer));
    server.stderr.next_with("cannot write standard output");
    let line = server.stderr.next_with("listening on ");
    let addr = line.rsplit(' ').next().unwrap().parse().unwrap();
    for _ in 0..3 {
        echo(&connect(addr), b"unseen");
    }
    server.kill();
    for line in server.stderr.rest() {
        assert!(!line.contains("standard output") && !line.contains("panicked"), "{line}");
    }
}

#[test]
fn serves_with_standard_input_closed() {
    let server = Server::spawn(through_shell("", "<&-").args(["--port", "0"]));
    echo(&server.connect(), b"no input");
}

#[test]
fn tells_what_it_is() {
    let (code, version, _) = run(command().arg("--version"));
    assert_eq!((code, version), (0, vec![format!("echo-server {}", env!("CARGO_PKG_VERSION"))]));

    let (code, help, stderr) = run(command().arg("--help"));
    let help = help.join("\n");
    assert_eq!((code, stderr.len()), (0, 0));
    for part in ["127.0.0.1]", "9999]", "60s]", "5s]", "Examples:", "Exit codes:", "RUST_LOG"] {
        assert!(help.contains(part), "{part} is missing in {help}");
    }
}

/// The kernel chooses the thread by the peer's address, so of many peers none
/// is left without.
#[test]
fn serves_on_several_threads() {
    let mut server = Server::start(&["--threads", "3"]);
    let peers: Vec<_> = (0..60).map(|_| server.connect()).collect();
    for peer in &peers {
        echo(peer, b"whoever serves me");
    }
    for _ in &peers {
        server.stdout.next_with("Incoming connection from ");
    }
    // Those that work still let their peers finish, as one alone does.
    server.signal("TERM");
    for peer in &peers {
        echo(peer, b"goodbye");
        peer.shutdown(Shutdown::Write).unwrap();
        expect_end(peer);
    }
    assert_eq!(server.exit_code(), 0);
}

/// As the kernel says. With more threads than processors some share one.
#[test]
#[cfg(target_os = "linux")]
fn each_thread_is_pinned_to_a_processor_of_its_own() {
    let allowed = |path: &str| {
        let status = std::fs::read_to_string(path).unwrap();
        let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        list.unwrap().trim().to_owned()
    };
    let server = Server::start(&["--threads", "2", "--pin"]);
    let tasks = std::fs::read_dir(format!("/proc/{}/task", server.id())).unwrap();
    let mut pinned: Vec<usize> = tasks
        .map(|task| allowed(task.unwrap().path().join("status").to_str().unwrap()).parse().unwrap())
        .collect();
    pinned.sort_unstable();
    pinned.dedup();
    let alone = allowed("/proc/self/status").parse::<usize>().is_ok();
    assert_eq!(pinned.len(), if alone { 1 } else { 2 }, "{pinned:?}");
    echo(&server.connect(), b"from wherever it is");
}

#[test]
fn a_second_signal_ends_every_thread() {
    let mut server = Server::start(&["--threads", "3", "--drain-timeout", "1h"]);
    let peers: Vec<_> = (0..60).map(|_| server.connect()).collect();
    for peer in &peers {
        echo(peer, b"here to stay");
    }
    server.signal("TERM");
    server.signal("INT");
    assert_eq!(server.exit_code(), 1);
}

#[test]
fn the_most_connections_are_shared_out_among_threads() {
    let server = Server::start(&["--threads", "3", "--max-connections", "2"]);
    let mut answered = 0;
    // Held open, so that each takes its place for good.
    let mut peers = Vec::new();
    for _ in 0..60 {
        let mut peer = server.connect();
        // It may be closed at once, which the write may or may not notice.
        let _ = peer.write_all(b"x");
        answered += usize::from(matches!(peer.read(&mut [0]), Ok(1)));
        peers.push(peer);
    }
    assert_eq!(answered, 2);
}

#[test]
fn takes_the_descriptors_that_the_system_grants() {
    let mut server = Server::spawn(
        through_shell("ulimit -Hn 200; ulimit -Sn 20;", "").args(["--port", "0", "-v"]),
    );
    server.stderr.next_with("open file limit is 200");
    let peers: Vec<_> = (0..100).map(|_| server.connect()).collect();
    for peer in &peers {
        echo(peer, b"one of many");
    }
}

#[test]
fn warns_where_it_cannot_serve_as_many_as_it_should() {
    let mut server = Server::spawn(through_shell("ulimit -n 100;", "").args([
        "--port",
        "0",
        "--max-connections",
        "100",
    ]));
    server.stderr.next_with("--max-connections 100 is not below the open file limit (100)");
}

#[test]
fn looks_for_messages_before_it_sleeps() {
    for threads in ["1", "2"] {
        let server = Server::start(&["--busy-poll", "100us", "--threads", threads]);
        let peers: Vec<_> = (0..10).map(|_| server.connect()).collect();
        for round in 0..20_u8 {
            for peer in &peers {
                echo(peer, &[round; 100]);
            }
        }
    }
}
